//! What the emulator does to guests that is no fault of theirs.

use super::dom0::Dom0;

/// Where Xen's own code lies in every address space.
const XEN_TEXT: &str = "[<ffff82d";

/// Whether the emulator has ended a guest since this was last asked: now and then, QEMU's own
/// emulation of SVM goes on in a hardware container with a program counter of Xen's, which no
/// guest survives. A triple fault anywhere else is the guest's own.
///
/// # Errors
///
/// dom0 has gone.
pub(super) fn has_lost_a_guest(dom0: &mut Dom0) -> anyhow::Result<bool> {
    let faults = dom0.sh("xl dmesg -c | grep -A 8 'Triple fault' || true")?;
    Ok(is_astray(&faults))
}

fn is_astray(faults: &str) -> bool {
    faults
        .lines()
        .any(|line| line.contains("RIP:") && line.contains(XEN_TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_counter_of_xens_is_the_emulators_fault() {
        let astray = "(XEN) d3v0 Triple fault - invoking HVM shutdown action 1\n\
                      (XEN) RIP:    0008:[<ffff82d0402f3c11>]\n";
        let own = astray.replace("ffff82d0402f3c11", "ffffffff81000110");
        assert!(is_astray(astray));
        assert!(!is_astray(&own));
        assert!(!is_astray(""));
    }
}
