//! What judging a frame costs, beside one who tries one rule after the other.
//!
//! `cargo run --release --package netback --example filter`. Figures are of the best of some rounds:
//! what the code costs, and not what else the machine does.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use netback::filter::Filter;
use netback::policy::{Action, Direction, Mac, PortRange, Prefix, Protocol, Rule, VifPolicy};

const MAC: Mac = Mac([0x00, 0x16, 0x3e, 1, 2, 3]);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const PACKETS: u32 = 1000;
const ROUNDS: u32 = 300;

/// To whom, and to which port.
type To = (Ipv4Addr, u16);

fn frame((to, port): To) -> Vec<u8> {
    let mut frame = [&[2, 0, 0, 0, 0, 1][..], &MAC.0, &[8, 0]].concat();
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(OWN.octets());
    frame.extend(to.octets());
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0; 16]);
    frame
}

/// Each names a host of its own and a few ports.
fn rules(count: u32) -> Vec<Rule> {
    let rule = |number: u32| Rule {
        direction: Direction::Out,
        protocol: Protocol::Tcp,
        remote: vec![Prefix::host(host(number).into())],
        ports: vec![PortRange {
            first: 80,
            last: 89,
        }],
        source_ports: Vec::new(),
        action: Action::Accept,
        stateful: false,
        limit: None,
        log: false,
    };
    (0..count).map(rule).collect()
}

fn host(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + 7 * number)
}

/// Some rule's, all over the place; or nobody's.
fn packets(rules: u32, hit: bool) -> Vec<To> {
    let some = |packet: u32| (packet.wrapping_mul(2_654_435_761) >> 8) % rules.max(1);
    let port = if hit { 85 } else { 90 };
    (0..PACKETS)
        .map(|packet| (host(some(packet)), port))
        .collect()
}

/// The peer: told where everything is, it only has to find the rule.
fn plainly(rules: &[Rule], (to, port): To) -> bool {
    let to = IpAddr::from(to);
    let matches = |rule: &&Rule| {
        rule.direction == Direction::Out
            && matches!(rule.protocol, Protocol::Any | Protocol::Tcp)
            && (rule.remote.is_empty() || rule.remote.iter().any(|prefix| prefix.has(to)))
            && rule
                .ports
                .iter()
                .any(|ports| (ports.first..=ports.last).contains(&port))
    };
    let found = rules.iter().find(matches);
    found.is_some_and(|rule| rule.action == Action::Accept)
}

/// The best of some rounds, a packet.
fn best(mut round: impl FnMut()) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    times.min().unwrap_or_default() / PACKETS
}

fn main() {
    let start = Instant::now();
    println!("rules  packets  filter  one by one   (ns a packet)");
    for count in [0, 10, 100, 1000] {
        let policy = VifPolicy {
            rules: rules(count),
            default_out: if count == 0 {
                Action::Accept
            } else {
                Action::Drop
            },
            ..VifPolicy::locked(MAC, vec![Prefix::host(OWN.into())])
        };
        let filter = Filter::new(&policy, start);
        for (name, hit) in [("hit", true), ("miss", false)] {
            let packets = packets(count, hit);
            let frames: Vec<_> = packets.iter().copied().map(frame).collect();
            let passes = hit || count == 0;
            let ours = best(|| {
                for frame in &frames {
                    let verdict = filter.out(black_box(frame), || start);
                    assert_eq!(verdict.passes(), passes);
                }
            });
            let theirs = best(|| {
                for &to in &packets {
                    assert_eq!(plainly(black_box(&policy.rules), to), hit && count > 0);
                }
            });
            let (ours, theirs) = (ours.as_nanos(), theirs.as_nanos());
            println!("{count:5}  {name:>7}  {ours:6}  {theirs:10}");
        }
    }
}
