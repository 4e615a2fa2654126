//! What the xenstore client promises, on the simulated xenstored.

use pv_tests::contracts::store;
use pv_tests::sim::xenstored::{Server, socket};
use xenbus::Endpoint;

mod xenbus_support;

#[test]
fn the_store_keeps_its_promises() {
    let dir = xenbus_support::TempDir::new();
    let server = Server::start(dir.path()).unwrap();
    let mut report = Vec::new();
    let tally = store::run(&Endpoint::Socket(socket(dir.path())), &mut report).unwrap();
    let report = String::from_utf8(report).unwrap();
    assert_eq!(
        (tally.passed, tally.failed),
        (store::cases().len(), 0),
        "{report}"
    );
    assert_eq!(
        server.control().unwrap().violations().unwrap(),
        Vec::<String>::new()
    );
}
