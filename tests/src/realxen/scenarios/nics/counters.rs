//! What administrators read about a guest's traffic.

use anyhow::{Context, ensure};

use super::guests::{dom0_station, first};
use crate::realxen::counters::Counters;
use crate::realxen::dom0::Dom0;
use crate::realxen::lan;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::{Host, NOISE_MIB, Step};

/// The noise in bytes, and what headers and acknowledgements may add to it or need in the other
/// direction.
const NOISE: u64 = NOISE_MIB << 20;
const MARGIN: u64 = NOISE / 8;

/// `/proc/net/dev` and xentop, against what the guest has counted.
pub(super) const RIGHT: Scenario = Scenario {
    name: "net-counters",
    about: "/proc/net/dev and xentop count what a guest sends and receives, each in its place",
    holds_for_kernel: true,
    run,
};

/// Bytes that a guest has sent and received.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sent: u64,
    received: u64,
}

impl Seen {
    fn since(self, earlier: Self) -> Self {
        Self {
            sent: self.sent.wrapping_sub(earlier.sent),
            received: self.received.wrapping_sub(earlier.received),
        }
    }
}

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let guest = Host::Guest(there.guest.clone());
    let outside = |dom0: &mut Dom0| Counters::read(dom0, &Host::Dom0, &there.link.outside);
    let inside = |dom0: &mut Dom0| Counters::read(dom0, &guest, &there.link.inside);

    let before = (outside(dom0)?, inside(dom0)?, xentop(dom0)?);
    let ip = lan::BRIDGE_IPS[0];
    there.station.talk(dom0, &here, &[Step::Send(ip, 1)])?;
    let between = (outside(dom0)?, inside(dom0)?, xentop(dom0)?);
    there.station.talk(dom0, &here, &[Step::Fetch(ip, 1)])?;
    let after = (outside(dom0)?, inside(dom0)?, xentop(dom0)?);

    let sent = between.0.since(before.0);
    one_way("/proc/net/dev, sent", sent.rx_bytes, sent.tx_bytes)?;
    let fetched = after.0.since(between.0);
    one_way("/proc/net/dev, fetched", fetched.tx_bytes, fetched.rx_bytes)?;
    let sent = between.2.since(before.2);
    one_way("xentop, sent", sent.sent, sent.received)?;
    let fetched = after.2.since(between.2);
    one_way("xentop, fetched", fetched.received, fetched.sent)?;

    // Nothing is lost or counted twice between the two ends, up to a stray frame in between.
    let (outside, inside) = (after.0.since(before.0), after.1.since(before.1));
    for (ours, guests) in [
        (outside.rx_packets, inside.tx_packets),
        (outside.tx_packets, inside.rx_packets),
    ] {
        ensure!(
            ours.abs_diff(guests) <= 4,
            "dom0 counted {outside:?}, the guest {inside:?}"
        );
    }
    Ok(())
}

/// Checks that the noise went one way, and only acknowledgements the other.
fn one_way(what: &str, with: u64, against: u64) -> anyhow::Result<()> {
    ensure!(
        (NOISE - MARGIN..NOISE + MARGIN).contains(&with) && against < MARGIN,
        "{what}: {with} bytes in the direction of {NOISE} bytes, {against} in the other"
    );
    Ok(())
}

/// What xentop shows of the guest. Its columns count KiB, from dom0's point of view: NETRX is what
/// dom0 received.
fn xentop(dom0: &mut Dom0) -> anyhow::Result<Seen> {
    let table = dom0.sh("xentop -b -f -i 1")?;
    let column = |title: &str| {
        let index = table
            .lines()
            .next()?
            .split_whitespace()
            .position(|word| word == title)?;
        // "no limit" is the only entry of two words.
        let line = table
            .lines()
            .find(|line| line.trim().starts_with("first "))?;
        let line = line.replace("no limit", "no-limit");
        let kib: u64 = line.split_whitespace().nth(index)?.parse().ok()?;
        Some(kib << 10)
    };
    let seen = column("NETRX(k)").zip(column("NETTX(k)"));
    let (sent, received) = seen.with_context(|| format!("xentop shows no network:\n{table}"))?;
    Ok(Seen { sent, received })
}
