//! Two guests on one bridge.

use super::guests::{SECOND_IPS, first, second};
use crate::realxen::dom0::Dom0;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::Step;

/// What one guest sends with its checksum left open reaches the other just so.
pub(super) const TO_EACH_OTHER: Scenario = Scenario {
    name: "net-guest-to-guest",
    about: "a guest with two queues and one with one: ping, TCP both ways, UDP, bytes compared",
    holds_for_kernel: true,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let (one, other) = (first(dom0)?, second(dom0)?);
    let steps = SECOND_IPS.map(Step::all).concat();
    one.station.talk(dom0, &other.station, &steps)
}
