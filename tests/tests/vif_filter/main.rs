//! What the worker's filter makes of an attacker's frames (NET-15 to NET-19, NET-21, NET-24).
#![expect(
    clippy::panic,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod claims;

use std::time::Instant;

use netback::filter::{Filter, HEAD, Reason, Verdict};
use netback::policy::{Mac, Prefix, VifPolicy};
use proptest::prelude::*;
use pv_tests::spoof::{Expect, Site, Spoof, matrix};

fn locked(site: &Site) -> VifPolicy {
    let own = [site.own.v4.into(), site.own.v6.into()].map(Prefix::host);
    VifPolicy::locked(Mac(site.own.mac), own.to_vec())
}

/// What a worker sees of a frame.
fn head(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(HEAD)]
}

fn expected(expect: Expect) -> Verdict {
    match expect {
        Expect::Pass => Verdict::Pass(None),
        Expect::Drop(name) => {
            let reason = Reason::ALL.into_iter().find(|reason| reason.name() == name);
            reason.unwrap_or_else(|| panic!("no reason {name}")).into()
        }
    }
}

/// Each by a filter of its own: as if it were the first frame after the guest has connected (NET-24),
/// and so that no limit is met.
#[test]
fn net_15_net_16_net_17_net_18_net_19_net_24_every_attack_is_dropped_for_what_it_is() {
    let site = Site::example();
    let policy = locked(&site);
    let start = Instant::now();
    let mut wrong = Vec::new();
    for Spoof {
        name,
        frame,
        expect,
    } in matrix(&site)
    {
        let verdict = Filter::new(&policy, start).out(head(&frame), || start);
        if verdict != expected(expect) {
            wrong.push(format!("{name}: {verdict:?}, not {expect:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_reason_that_is_no_rate_is_met() {
    let all = matrix(&Site::example());
    let met = |reason: Reason| {
        all.iter()
            .any(|one| one.expect == Expect::Drop(reason.name()))
    };
    let unmet = Reason::ALL.into_iter().filter(|&reason| !met(reason));
    let unmet: Vec<_> = unmet.map(Reason::name).collect();
    assert_eq!(
        unmet,
        [
            "arp-rate",
            "dhcp-rate",
            "nd-rate",
            "storm",
            "rule",
            "default"
        ]
    );
}

#[test]
fn an_open_interface_keeps_nothing_back() {
    let site = Site::example();
    let policy = VifPolicy::open(Mac(site.own.mac));
    let start = Instant::now();
    let filter = Filter::new(&policy, start);
    for Spoof { name, frame, .. } in matrix(&site) {
        let now = || panic!("the time does not matter");
        assert_eq!(filter.out(head(&frame), now), Verdict::Pass(None), "{name}");
        assert_eq!(
            filter.incoming(head(&frame), now),
            Verdict::Pass(None),
            "{name}"
        );
    }
}

/// A neighbour with the attacker's policy would be dropped, frame by frame: nothing hangs on the
/// addresses that the matrix was made with.
#[test]
fn net_15_what_passes_for_one_passes_for_no_other() {
    let site = Site::example();
    let other = Site {
        own: site.neighbour,
        neighbour: site.own,
        ..site
    };
    let policy = locked(&other);
    let start = Instant::now();
    for Spoof { name, frame, .. } in matrix(&site) {
        let verdict = Filter::new(&policy, start).out(head(&frame), || start);
        let own = frame.get(6..12) == Some(&other.own.mac);
        assert!(own || !verdict.passes(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is changed in a frame, it is judged without harm, and what passes has the guest's own
    /// addresses.
    #[test]
    fn net_15_net_17_what_passes_after_any_change_is_still_the_guests(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    ) {
        let site = Site::example();
        let all = matrix(&site);
        let mut frame = which.get(&all).frame.clone();
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        let start = Instant::now();
        let filter = Filter::new(&locked(&site), start);
        let _ = filter.incoming(head(&frame), || start);
        if filter.out(head(&frame), || start).passes() {
            prop_assert_eq!(frame.get(6..12), Some(&site.own.mac[..]));
            prop_assert!(claims::is_own(&site, &frame), "{:x?}", frame);
        }
    }
}
