//! What goes into the machine's images, and the key under which they are cached.

/// Debian's release, its hypervisor and its toolstack.
pub(super) const SUITE: &str = "bookworm";

/// The hypervisor's file in dom0's `/boot`.
pub(super) const HYPERVISOR: &str = "xen-4.17-amd64.gz";

/// What dom0 has beyond a minimal Debian.
const PACKAGES: [&str; 24] = [
    "xen-hypervisor-4.17-amd64",
    "linux-image-amd64",
    "xen-utils-4.17",
    "xen-utils-common",
    "xenstore-utils",
    "bridge-utils",
    "busybox-static",
    "dmsetup",
    "dnsmasq-base",
    "e2fsprogs",
    "ethtool",
    "fio",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "kmod",
    "net-tools",
    "nftables",
    "openvswitch-switch",
    "procps",
    "socat",
    "strace",
    "tcpdump",
    "util-linux",
];

/// The modules that find dom0's root disk and the host's share.
pub(super) const DOM0_MODULES: [&str; 6] = [
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "crc32c_generic",
    "9pnet_virtio",
    "9p",
];

/// The modules of a guest's initial RAM disk.
pub(super) const GUEST_MODULES: [&str; 4] =
    ["xen-blkfront", "xen-netfront", "ext4", "crc32c_generic"];

/// The modules of a guest without disks.
pub(super) const RAM_GUEST_MODULES: [&str; 1] = ["xen-netfront"];

/// What a guest's disk has beyond busybox.
pub(super) const GUEST_TOOLS: [&str; 7] = [
    "fio",
    "dd",
    "blockdev",
    "blkdiscard",
    "xenstore-read",
    "xenstore-write",
    "xenstore-watch",
];

/// What a guest without disks has beyond busybox, whose own shell would pass over the real tools.
pub(super) const RAM_GUEST_TOOLS: [&str; 11] = [
    "dd",
    "ethtool",
    "ip",
    "iperf3",
    "ping",
    "sh",
    "socat",
    "tcpdump",
    "xenstore-read",
    "xenstore-write",
    "xenstore-watch",
];

/// A script that belongs to the machine: its file name and its text.
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

macro_rules! script {
    ($name:literal) => {
        Script {
            name: $name,
            text: include_str!(concat!("../../guest/", $name)),
        }
    };
}

pub(super) const BUILD_DEBIAN: Script = script!("build-debian.sh");
pub(super) const BUILD_INITRD: Script = script!("build-initrd.sh");
pub(super) const BUILD_GUEST: Script = script!("build-guest.sh");
pub(super) const DOM0_INITRD: Script = script!("dom0-initrd.sh");
pub(super) const GUEST_INITRD: Script = script!("guest-initrd.sh");
pub(super) const GUEST_INIT: Script = script!("guest-init.sh");

/// The scripts that dom0 runs from the share, so that they are no part of any image.
pub(super) const SHARED: [Script; 3] = [
    script!("dom0-init.sh"),
    script!("dom0-agent.sh"),
    script!("guest-run.sh"),
];

/// debootstrap's list of packages.
pub(super) fn packages() -> String {
    PACKAGES.join(",")
}

/// The key of the Debian tree: changes with everything that the tree is made of.
pub(super) fn debian_key() -> String {
    key(&[SUITE, &packages(), BUILD_DEBIAN.text])
}

/// The key of the images made from that tree.
pub(super) fn images_key() -> String {
    let scripts = [
        BUILD_INITRD,
        BUILD_GUEST,
        DOM0_INITRD,
        GUEST_INITRD,
        GUEST_INIT,
    ];
    let mut parts = vec![debian_key()];
    parts.extend(scripts.map(|script| script.text.to_owned()));
    parts.extend(DOM0_MODULES.map(str::to_owned));
    parts.extend(GUEST_MODULES.map(str::to_owned));
    parts.extend(RAM_GUEST_MODULES.map(str::to_owned));
    parts.extend(GUEST_TOOLS.map(str::to_owned));
    parts.extend(RAM_GUEST_TOOLS.map(str::to_owned));
    parts.push(include_str!("image.rs").to_owned());
    key(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// FNV-1a, 64 bits: names cache entries and defends against nobody.
fn key(parts: &[&str]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_tells_recipes_apart() {
        assert_eq!(key(&[]), "cbf29ce484222325");
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(debian_key(), images_key());
    }
}
