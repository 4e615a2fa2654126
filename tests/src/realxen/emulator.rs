//! What the emulator does to guests that is no fault of theirs.

use super::dom0::Dom0;

/// Where Xen's own code lies in every address space.
const XEN_TEXT: &str = "[<ffff82d";
/// How Xen's dump of a hardware container's state begins to be one.
const IN_GUEST: &str = "CONTEXT: hvm guest";
/// What Xen finds wrong with a state that it has not made.
const NO_STATE: [&str; 2] = ["invalid VMCB state", "unexpected VMEXIT"];

/// Whether the emulator has ended a guest since this was last asked: now and then, QEMU's own
/// emulation of SVM leaves a hardware container twice, and so with a state of Xen's for the guest's.
/// No guest survives that. A guest that ends with a program counter of its own has ended by itself.
///
/// # Errors
///
/// dom0 has gone.
pub(super) fn has_lost_a_guest(dom0: &mut Dom0) -> anyhow::Result<bool> {
    let said = dom0.sh("xl dmesg -c | tee -a /run/xl-dmesg")?;
    Ok(is_astray(&said))
}

fn is_astray(said: &str) -> bool {
    let lines: Vec<&str> = said.lines().collect();
    let of_xen = |pair: &[&str]| {
        pair[0].contains("RIP:") && pair[0].contains(XEN_TEXT) && pair[1].contains(IN_GUEST)
    };
    let no_state = |line: &&str| NO_STATE.iter().any(|words| line.contains(words));
    lines.windows(2).any(of_xen) || lines.iter().any(no_state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_state_of_xens_is_the_emulators_fault() {
        let astray = "(XEN) d3v0 Triple fault - invoking HVM shutdown action 1\n\
                      (XEN) CPU:    0\n\
                      (XEN) RIP:    e008:[<ffff82d040204505>]\n\
                      (XEN) RFLAGS: 0000000000000246   CONTEXT: hvm guest (d3v0)\n";
        let own = astray.replace("ffff82d040204505", "ffffffff81000110");
        let of_the_hypervisor = astray.replace("hvm guest (d3v0)", "hypervisor");
        assert!(is_astray(astray));
        assert!(is_astray("(XEN) d4v0 invalid VMCB state:\n"));
        assert!(!is_astray(&own));
        assert!(!is_astray(&of_the_hypervisor));
        assert!(!is_astray(""));
    }
}
