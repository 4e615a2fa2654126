//! What the xenstore client promises, on the simulated xenstored.

use pv_tests::contracts::store;

use crate::support::Machine;

#[test]
fn the_store_keeps_its_promises() {
    let mut machine = Machine::new();
    let endpoint = machine.dom0().endpoint().clone();
    let mut report = Vec::new();
    let tally = store::run(&endpoint, &mut report).unwrap();
    let report = String::from_utf8(report).unwrap();
    assert_eq!(
        (tally.passed, tally.failed),
        (store::cases().len(), 0),
        "{report}"
    );
    machine.assert_no_violations();
}
