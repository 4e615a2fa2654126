//! What the hypervisor and dom0 still hold of guests' memory and devices.

use anyhow::ensure;

use super::dom0::Dom0;

/// Checks that no trace of a destroyed guest is left: no half-dead domain, no page of a guest
/// mapped by anybody, no device node in xenstore, no network interface. No guest may exist.
///
/// # Errors
///
/// dom0 has gone, or something is left; the error lists it.
pub fn none_left(dom0: &mut Dom0) -> anyhow::Result<()> {
    let left = dom0.sh(SCRIPT)?;
    ensure!(left.is_empty(), "left behind by the guest:\n{left}");
    Ok(())
}

/// A destroyed domain with a page still mapped stays in Xen's list as `(null)`. The pages' last
/// unmapping may take a moment, so the list is looked at for up to ten seconds.
const SCRIPT: &str = r#"
domains() { xl list | awk 'NR > 1 && $1 != "Domain-0" { print "domain:", $0 }'; }
for _ in $(seq 50); do [ -z "$(domains)" ] && break; sleep 0.2; done
domains
# Xen's own list: the sections of all domains but 0, each with its entries in use.
xl dmesg -c > /dev/null
xl debug-keys g
xl dmesg | sed 's/^(XEN) *//' | awk '
	/grant-table for remote/ { at = $0 }
	/^\[0x/ && at !~ /remote d0 / { print "grant:", at, $0 }'
for maps in /proc/[0-9]*/maps; do
	process=${maps%/maps}
	case $(cat $process/comm 2>/dev/null) in xen-blkback | xen-netback) ;; *) continue ;; esac
	grep -H /dev/xen/gntdev $maps 2>/dev/null | sed 's/^/mapping: /'
done
xenstore-ls -f /local/domain/0/backend 2>/dev/null | grep -E '/(vbd|vif)/[0-9]+/[0-9]+ ' | sed 's/^/node: /'
ls /sys/class/net | grep '^vif' | sed 's/^/interface: /'
true
"#;
