//! The kernel alone, with a worker that sends what it likes.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, ensure};
use netback::enforce::{Count, Counters, Kernel};
use netback::tap::{Tap, TapName};
use pv_tests::network::Network;
use pv_tests::spoof::{Expect, UNSEEN_BY_THE_KERNEL};

use super::{frames, locked};

/// So many frames are sent between two installations, which fill the buckets again.
const AT_ONCE: usize = 5;

/// What has become of the frame that was counted between `before` and `after`.
fn verdict(before: &Counters, after: &Counters) -> Vec<String> {
    let risen = |name: &str, count: &Count, before: Option<&Count>| {
        let rose = count.packets > before.map_or(0, |count| count.packets);
        rose.then(|| name.to_owned())
    };
    let out = after.out.iter();
    let out = out.filter_map(|(name, count)| risen(name, count, before.out.get(name)));
    out.collect()
}

/// NET-15 to NET-19: the worker's filter is held to the same list (`netback::filter`, `vif_filter`),
/// so where this passes the two agree frame by frame.
#[test]
fn net_15_to_19_a_worker_in_bad_hands_gets_no_spoofed_frame_past_the_kernel() -> anyhow::Result<()>
{
    let network = Network::new()?;
    let name = TapName::parse("vif7.0")?;
    let (site, frames) = frames();
    let policy = locked(&site);
    let wrong = network.inside(|| -> anyhow::Result<Vec<String>> {
        let tap = Tap::create(&name, 1500, 500)?;
        let queue = File::from(tap.queue()?);
        tap.set_carrier(true)?;
        network.ip("link set vif7.0 up")?;
        let mut wrong = Vec::new();
        for some in frames.chunks(AT_ONCE) {
            Kernel.install(&name, &policy)?;
            let mut before = Kernel.counters(&name)?;
            for spoof in some {
                let sent = (&queue).write(&[&[0; 12], spoof.frame.as_slice()].concat());
                let after = Kernel.counters(&name)?;
                let seen = verdict(&before, &after);
                before = after;
                let passed = seen == ["default"] || seen == ["pass"];
                let fits = match (spoof.expect, sent) {
                    // The driver of taps takes none that is shorter than its header says.
                    (Expect::Drop("malformed"), Err(_)) => true,
                    (_, Err(error)) => anyhow::bail!("{}: {error}", spoof.name),
                    (Expect::Pass, Ok(_)) => passed,
                    (Expect::Drop(_), Ok(_)) => {
                        !passed
                            || UNSEEN_BY_THE_KERNEL
                                .iter()
                                .any(|name| spoof.name.contains(name))
                    }
                };
                if !fits {
                    let expected = spoof.expect;
                    wrong.push(format!("{}: {expected:?}, and is {seen:?}", spoof.name));
                }
            }
        }
        Kernel.remove(&name)?;
        ensure!(Kernel.installed()?.is_empty(), "rules are left");
        Ok(wrong)
    })?;
    let wrong = wrong.context("in a network of its own")?;
    ensure!(
        wrong.is_empty(),
        "{} frames:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}
