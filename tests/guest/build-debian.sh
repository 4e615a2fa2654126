#!/bin/sh
# build-debian.sh ROOT SUITE MIRROR PACKAGES: a Debian tree for dom0, trimmed to
# what the harness uses. PACKAGES is separated by commas.
set -eu
root=$1 suite=$2 mirror=$3 packages=$4

# No initramfs: dom0 boots from one of our own.
INITRD=No DEBIAN_FRONTEND=noninteractive \
	debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror"

rm -rf "$root/var/cache/apt" "$root/var/lib/apt" "$root/usr/lib/udev"
for dir in doc man locale info zoneinfo lintian; do
	rm -rf "$root/usr/share/$dir"
done

# Of the modules: everything but the drivers of hardware that QEMU does not have.
version=$(ls "$root/lib/modules")
kernel=$root/lib/modules/$version/kernel
rm -rf "$kernel/sound"
for path in "$kernel"/drivers/*; do
	case ${path##*/} in
	block | md | xen | virtio | char | net | vhost | target | scsi) ;;
	*) rm -rf "$path" ;;
	esac
done
for path in "$kernel"/drivers/net/*; do
	case ${path##*/} in
	tun.ko* | tap.ko* | veth.ko* | dummy.ko* | ifb.ko* | xen-* | virtio_net.ko* | net_failover.ko*) ;;
	*) rm -rf "$path" ;;
	esac
done
chroot "$root" depmod "$version"

# The kernel's backends are here for comparison runs only: nothing may load them
# on its own, while `modprobe` by their file name still does.
printf 'blacklist xen-blkback\nblacklist xen-netback\n' > "$root/etc/modprobe.d/realxen.conf"
mkdir -p "$root/share" "$root/realxen"
