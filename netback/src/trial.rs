//! Frames that are only thought of: what a policy would make of them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::cli::Test;
use crate::filter::{Filter, HEAD, Reason, Verdict};
use crate::policy::{Action, Direction, Rule, VifPolicy};

/// Source and destination of a packet.
///
/// Having one tells you that both addresses are of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    source: SocketAddr,
    destination: SocketAddr,
}

/// A text that does not name two ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no source and destination: write 10.0.0.5:40000,192.0.2.1:443, or \
     [fd00::5]:40000,[2001:db8::1]:443"
)]
pub struct BadEnds {
    text: String,
}

impl FromStr for Ends {
    type Err = BadEnds;

    fn from_str(text: &str) -> Result<Self, BadEnds> {
        let parse = || {
            let (source, destination) = text.split_once(',')?;
            let source: SocketAddr = source.trim().parse().ok()?;
            let destination: SocketAddr = destination.trim().parse().ok()?;
            let fit = source.is_ipv4() == destination.is_ipv4();
            fit.then_some(Self {
                source,
                destination,
            })
        };
        parse().ok_or_else(|| BadEnds {
            text: text.to_owned(),
        })
    }
}

/// What a policy makes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    verdict: Verdict,
    /// Who has sent it is told, where the kernel can tell him.
    rejects: bool,
    /// The rule that decides follows the flow.
    follows: bool,
}

/// The frame that is asked about.
///
/// # Errors
/// The file cannot be read.
pub fn frame(test: &Test, policy: &VifPolicy) -> anyhow::Result<(Direction, Vec<u8>)> {
    let direction = if test.incoming {
        Direction::In
    } else {
        Direction::Out
    };
    let stations = match direction {
        Direction::Out => (ELSEWHERE, policy.mac.0),
        Direction::In => (policy.mac.0, ELSEWHERE),
    };
    let frame = match (&test.what.frame, test.what.tcp, test.what.udp) {
        (Some(file), _, _) => fs::read(file).with_context(|| file.display().to_string())?,
        (None, Some(ends), _) => first_of(TCP, ends, stations),
        (None, None, Some(ends)) => first_of(UDP, ends, stations),
        (None, None, None) => bail!("name a frame: --frame, --tcp or --udp"),
    };
    Ok((direction, frame))
}

/// Any other station.
const ELSEWHERE: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet with nothing but headers.
fn first_of(protocol: u8, ends: Ends, (to, from): ([u8; 6], [u8; 6])) -> Vec<u8> {
    let ports = [ends.source.port(), ends.destination.port()].map(u16::to_be_bytes);
    let mut transport = ports.concat();
    if protocol == TCP {
        // Sequence numbers, five words of header, SYN.
        transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        transport.extend([0, 8, 0, 0]);
    }
    let mut frame = [to, from].concat();
    let length = u16::try_from(transport.len()).unwrap_or(u16::MAX);
    match (ends.source.ip(), ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (20 + length).to_be_bytes();
            frame.extend([8, 0, 0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            let [high, low] = length.to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 64]);
            for address in [source, destination] {
                if let IpAddr::V6(address) = address {
                    frame.extend(address.octets());
                }
            }
        }
    }
    frame.extend(transport);
    frame
}

/// What `policy` makes of a frame that nothing came before: limits have not begun to count, and it
/// belongs to no flow.
#[must_use]
pub fn judge(policy: &VifPolicy, direction: Direction, frame: &[u8]) -> Told {
    let now = Instant::now();
    // The kernel judges what follows flows, by the same rules.
    let stateless = |rule: &Rule| Rule {
        stateful: false,
        ..rule.clone()
    };
    let rules = policy.rules.iter().map(stateless).collect();
    let filter = Filter::new(
        &VifPolicy {
            rules,
            ..policy.clone()
        },
        now,
    );
    let head = frame.get(..HEAD).unwrap_or(frame);
    let verdict = match direction {
        Direction::Out => filter.out(head, || now),
        Direction::In => filter.incoming(head, || now),
    };
    let default = match direction {
        Direction::Out => policy.default_out,
        Direction::In => policy.default_in,
    };
    let rejects = match verdict {
        Verdict::Drop(Reason::Default, _) => default == Action::Reject,
        Verdict::Drop(_, Some(rule)) => {
            let rule = policy.rules.get(rule);
            rule.is_some_and(|rule| rule.action == Action::Reject)
        }
        _ => false,
    };
    let rule = verdict.rule().and_then(|rule| policy.rules.get(rule));
    Told {
        verdict,
        rejects,
        follows: rule.is_some_and(|rule| rule.stateful),
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = if self.rejects { "rejected" } else { "dropped" };
        match self.verdict {
            Verdict::Drop(reason, Some(rule)) => write!(f, "{dropped}: {reason} {}", rule + 1),
            Verdict::Drop(reason, None) => write!(f, "{dropped}: {reason}"),
            Verdict::Pass(Some(rule)) => {
                let flow = if self.follows {
                    ", and what belongs to the same flow"
                } else {
                    ""
                };
                write!(f, "passes: rule {}{flow}", rule + 1)
            }
            Verdict::Pass(None) => write!(f, "passes: no rule is against it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Mac, PortRange, Protocol};

    fn policy() -> VifPolicy {
        let mac = Mac([0, 0x16, 0x3e, 1, 2, 3]);
        let own = ["10.0.0.5", "fd00::5"].map(|text| text.parse().unwrap());
        let web = Rule {
            direction: Direction::In,
            protocol: Protocol::Tcp,
            remote: Vec::new(),
            ports: vec![PortRange {
                first: 443,
                last: 443,
            }],
            source_ports: Vec::new(),
            action: Action::Accept,
            stateful: true,
            limit: None,
            log: false,
        };
        let mail = Rule {
            direction: Direction::Out,
            ports: vec![PortRange {
                first: 25,
                last: 25,
            }],
            action: Action::Drop,
            stateful: false,
            ..web.clone()
        };
        VifPolicy {
            rules: vec![web, mail],
            default_in: Action::Drop,
            ..VifPolicy::locked(mac, own.to_vec())
        }
    }

    #[test]
    fn it_is_told_which_rule_decides_and_which_guard() {
        for (protocol, direction, ends, told) in [
            (
                TCP,
                Direction::In,
                "192.0.2.1:5000,10.0.0.5:443",
                "passes: rule 1, and what belongs to the same flow",
            ),
            (
                TCP,
                Direction::In,
                "[2001:db8::1]:5000,[fd00::5]:80",
                "dropped: default",
            ),
            (
                UDP,
                Direction::In,
                "192.0.2.1:5000,10.0.0.5:443",
                "dropped: default",
            ),
            (
                TCP,
                Direction::Out,
                "10.0.0.5:5000,192.0.2.1:25",
                "dropped: rule 2",
            ),
            (
                TCP,
                Direction::Out,
                "[fd00::5]:5000,[2001:db8::1]:26",
                "passes: no rule is against it",
            ),
            (
                UDP,
                Direction::Out,
                "10.0.0.6:5000,192.0.2.1:53",
                "dropped: ip",
            ),
        ] {
            let policy = policy();
            let stations = match direction {
                Direction::Out => (ELSEWHERE, policy.mac.0),
                Direction::In => (policy.mac.0, ELSEWHERE),
            };
            let frame = first_of(protocol, ends.parse().unwrap(), stations);
            let judged = judge(&policy, direction, &frame);
            assert_eq!(judged.to_string(), told, "{ends}");
        }
    }

    #[test]
    fn what_is_rejected_is_not_said_to_pass() {
        let mut policy = policy();
        policy.rules[1].action = Action::Reject;
        policy.default_out = Action::Reject;
        for (port, told) in [(25, "rejected: rule 2"), (26, "rejected: default")] {
            let ends = format!("10.0.0.5:5000,192.0.2.1:{port}");
            let frame = first_of(TCP, ends.parse().unwrap(), (ELSEWHERE, policy.mac.0));
            let judged = judge(&policy, Direction::Out, &frame);
            assert_eq!(judged.to_string(), told);
        }
    }

    #[test]
    fn what_names_no_two_ends_is_told_with_an_example() {
        for text in [
            "",
            "10.0.0.5:1",
            "10.0.0.5,10.0.0.6",
            "10.0.0.5:1,[::1]:2",
            "x:1,y:2",
        ] {
            let error = text.parse::<Ends>().unwrap_err().to_string();
            assert!(error.contains("write 10.0.0.5:40000,"), "{error}");
        }
    }
}
