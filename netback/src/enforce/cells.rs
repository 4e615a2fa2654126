//! What rules match, as boxes that either meet or do not.

use crate::policy::{PortRange, Prefix, Protocol, Rule, outermost};

/// Which of IPv4 and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
    Both,
}

/// One box of packets; what is `None` can be anything. Rules are lists of these that do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) ip: Ip,
    pub(super) protocol: Option<u8>,
    pub(super) remote: Option<Prefix>,
    pub(super) to: Option<PortRange>,
    pub(super) from: Option<PortRange>,
}

/// What a cell looks at: those that look at the same can be elements of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) ip: Ip,
    pub(super) protocol: bool,
    pub(super) remote: bool,
    pub(super) to: bool,
    pub(super) from: bool,
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

impl Cell {
    pub(super) const fn shape(&self) -> Shape {
        Shape {
            ip: self.ip,
            protocol: self.protocol.is_some(),
            remote: self.remote.is_some(),
            to: self.to.is_some(),
            from: self.from.is_some(),
        }
    }

    /// Is there a packet that is in both?
    pub(super) fn meets(&self, other: &Self) -> bool {
        let alike = |a: &Prefix, b: &Prefix| a.covers(b) || b.covers(a);
        self.ip.meets(other.ip)
            && both(&self.protocol, &other.protocol, PartialEq::eq)
            && both(&self.remote, &other.remote, alike)
            && both(&self.to, &other.to, ports_meet)
            && both(&self.from, &other.from, ports_meet)
    }
}

impl Ip {
    fn meets(self, other: Self) -> bool {
        self == other || self == Self::Both || other == Self::Both
    }

    const fn of(prefix: &Prefix) -> Self {
        if prefix.is_v4() { Self::V4 } else { Self::V6 }
    }
}

/// The packets that `rule` matches, its limit left aside.
pub(super) fn of(rule: &Rule) -> Vec<Cell> {
    let protocols = protocols(rule);
    let remotes = remotes(rule);
    let (to, from) = (ports(&rule.ports), ports(&rule.source_ports));
    let mut cells = Vec::new();
    for &(ip, remote) in &remotes {
        for &protocol in &protocols {
            for &to in &to {
                for &from in &from {
                    cells.push(Cell {
                        ip,
                        protocol,
                        remote,
                        to,
                        from,
                    });
                }
            }
        }
    }
    cells
}

fn protocols(rule: &Rule) -> Vec<Option<u8>> {
    let has_ports = !rule.ports.is_empty() || !rule.source_ports.is_empty();
    let number = match rule.protocol {
        Protocol::Any if has_ports => return vec![Some(TCP), Some(UDP)],
        Protocol::Any => return vec![None],
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Icmp => ICMP,
        Protocol::Icmp6 => ICMP6,
        Protocol::Number(number) => number,
    };
    // Others have no ports, so the rule matches nothing.
    let can = !has_ports || number == TCP || number == UDP;
    can.then_some(Some(number)).into_iter().collect()
}

fn remotes(rule: &Rule) -> Vec<(Ip, Option<Prefix>)> {
    let only = match rule.protocol {
        Protocol::Icmp => Ip::V4,
        Protocol::Icmp6 => Ip::V6,
        _ => Ip::Both,
    };
    if rule.remote.is_empty() {
        return vec![(only, None)];
    }
    let outermost = outermost(rule.remote.clone());
    let found = outermost.into_iter().map(|prefix| {
        let all = prefix.bits() == 0;
        (Ip::of(&prefix), (!all).then_some(prefix))
    });
    found.filter(|(ip, _)| ip.meets(only)).collect()
}

/// The same ports as ranges that do not meet; one `None` for any.
fn ports(ranges: &[PortRange]) -> Vec<Option<PortRange>> {
    if ranges.is_empty() {
        return vec![None];
    }
    let mut sorted = ranges.to_vec();
    sorted.retain(|range| range.first <= range.last);
    sorted.sort_by_key(|range| range.first);
    let mut joined: Vec<PortRange> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => joined.push(range),
        }
    }
    joined.into_iter().map(Some).collect()
}

const fn ports_meet(a: &PortRange, b: &PortRange) -> bool {
    a.first <= b.last && b.first <= a.last
}

fn both<T>(a: &Option<T>, b: &Option<T>, meet: impl Fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => meet(a, b),
        _ => true,
    }
}
