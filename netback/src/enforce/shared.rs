//! The tables that interfaces share whose rules follow flows, or who may not talk to all of the host.
//!
//! Each hook has one chain, which finds an interface's own chains by its name, so that many interfaces
//! cost a frame no more than one. What comes out of one interface and goes into another is judged by
//! both: the hook chains for *in* come after those for *out*.
//!
//! A flow that a rule has allowed carries the number of the policy in its conntrack mark: in the low
//! half that of the interface that it began at, in the high half that of the other end's, since one
//! flow may concern both. Established packets pass if their half is the policy's number. So a new
//! policy judges the flows that there are by its own rules, and nothing has to be flushed.
//!
//! Conntrack on bridges sees all of them. Only what concerns an interface whose rules follow flows is
//! let near it, and frames for the host itself, which it needs for its own rules and translations.
//! For the same reason the tables go with the last interface that needs them.

use std::fmt::Write as _;

use super::host::{self, HOST};
use super::listing::Listing;
use super::rules::{self, OPEN, Part};
use super::table::{Family, Table, generation};
use crate::policy::{Direction, Mac, VifPolicy};
use crate::tap::TapName;

/// The name of both tables.
pub(super) const TABLE: &str = "xen_backends";

/// What the host has besides interfaces of guests.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Bridges, each with a number of its own that is not 0.
    pub(super) bridges: Vec<(TapName, u16)>,
    /// Addresses of the host.
    pub(super) macs: Vec<Mac>,
}

/// A hook's chain, its hook and place, and what it does.
type Hook = (&'static str, &'static str, &'static str);

const STATEFUL: [Hook; 4] = [
    ("forward-out", "forward priority 0", "iifname vmap @out"),
    ("forward-in", "forward priority 1", "oifname vmap @in"),
    ("input-out", "input priority 0", "iifname vmap @out"),
    ("output-in", "output priority 1", "oifname vmap @in"),
];
const FOR_HOST: Hook = ("input-host", "input priority 1", "iifname vmap @host");
const TRACKED: Hook = ("prerouting", "prerouting priority -300", "");
/// What frames go through that conntrack sees.
const PREROUTING: [&str; 4] = [
    "iifname @stateful goto zone",
    "ether daddr @stateful-macs goto zone",
    "ether daddr @host-macs accept",
    "notrack",
];

/// In front of the names of an interface's chains. No interface's name contains a slash.
pub(super) fn prefix(name: &TapName) -> String {
    format!("xb-{}/", name.as_str())
}

/// Does the policy need these tables?
pub(super) fn needed(policy: &VifPolicy) -> bool {
    policy.is_stateful() || policy.host.is_some()
}

/// What the interface has in the table of `family`.
pub(super) fn table(family: Family, name: &TapName, policy: &VifPolicy) -> Table {
    let mut table = Table::new(family, prefix(name));
    if policy.is_stateful() {
        for direction in [Direction::Out, Direction::In] {
            follow(&mut table, policy, direction);
        }
        let drop = table.drop("out-flows");
        // Kernels differ in whether flows are counted that there are already: here they are not, so
        // after a change of policy those that it inherits come on top.
        let flows = format!("ct state new ct count over {} {drop}", policy.flows);
        table.chain("flows", vec![flows]);
    }
    host::chain(&mut table, policy);
    table
}

/// The chains of one direction.
fn follow(table: &mut Table, policy: &VifPolicy, direction: Direction) {
    let way = direction.word();
    let number = generation(policy);
    let (low, high) = (
        ("0x0000ffff", format!("0x0000{number:04x}")),
        ("0xffff0000", format!("0x{number:04x}0000")),
    );
    // Going out, the interface is where the flow began, or else it is the other end.
    let (original, reply) = match direction {
        Direction::Out => (&low, &high),
        Direction::In => (&high, &low),
    };
    let counted = table.count(&format!("{way}-flow"));
    let flow = |which, (mask, value): &(&str, String)| {
        format!(
            "ct state established,related ct direction {which} ct mark & {mask} == {value} {counted} accept"
        )
    };
    let mut lines = vec![
        flow("original", original),
        flow("reply", reply),
        // Nobody has tracked what is no IP packet, and of the host's own, as its answers to ARP, conntrack
        // does not even say so.
        format!(
            "meta protocol {{ ip, ip6 }} ct state invalid {}",
            table.drop(&format!("{way}-invalid"))
        ),
        // Rules that open flows are about the first packet's direction.
        format!(
            "ct direction reply goto {}",
            table.name(&format!("{way}-reply"))
        ),
    ];
    lines.extend(rules::lines(table, policy, direction, Part::All));
    table.chain(way, lines);
    let lines = rules::lines(table, policy, direction, Part::Stateless);
    table.chain(&format!("{way}-reply"), lines);
    let (mask, value) = original;
    let others = if *mask == low.0 { high.0 } else { low.0 };
    let open = vec![
        "ct state untracked accept".to_owned(),
        format!("jump {}", table.name("flows")),
        format!("ct mark set ct mark & {others} | {value}"),
        "accept".to_owned(),
    ];
    table.chain(&format!("{way}-{OPEN}"), open);
}

/// Replaces what `name` has in the table of `family` by what `wanted` needs: `None` is nothing.
/// Nothing needs to be done if the text is empty.
pub(super) fn script(
    family: Family,
    name: &TapName,
    wanted: Option<&VifPolicy>,
    there: Option<&Listing>,
    around: &Surroundings,
) -> String {
    let wanted = wanted.filter(|policy| needed(policy));
    let nothing = Listing::default();
    let present = there.unwrap_or(&nothing);
    let stateful = wanted.is_some_and(VifPolicy::is_stateful) || others(present, "out", name);
    let for_host =
        wanted.is_some_and(|policy| policy.host.is_some()) || others(present, HOST, name);
    if !stateful && !for_host {
        let gone = format!("delete table {} {TABLE}\n", family.word());
        return there.map_or_else(String::new, |_| gone);
    }
    let mut script = frame(family, stateful, for_host, present);
    script += &clear(family, name, present);
    if let Some(policy) = wanted {
        script += &fill(family, name, policy, present);
    }
    if family == Family::Bridge && stateful {
        script += &surroundings(around);
    }
    script
}

/// Does another interface have chains that `map` finds?
fn others(present: &Listing, map: &str, name: &TapName) -> bool {
    let mut keys = present.set(map).iter();
    keys.any(|element| element.key.as_deref() != Some(name.as_str()))
}

/// The table with its hooks.
fn frame(family: Family, stateful: bool, for_host: bool, present: &Listing) -> String {
    let mut hooks: Vec<(Hook, Vec<&str>)> = Vec::new();
    if stateful {
        hooks.extend(STATEFUL.map(|hook| (hook, vec![hook.2])));
        if family == Family::Bridge {
            hooks.push((TRACKED, PREROUTING.to_vec()));
        }
    }
    if for_host {
        hooks.push((FOR_HOST, vec![FOR_HOST.2]));
    }
    let word = family.word();
    let mut text = format!("table {word} {TABLE} {{\n");
    for map in ["out", "in", HOST, "zones"] {
        text += &format!("\tmap {map} {{\n\t\ttype ifname : verdict;\n\t}}\n");
    }
    for (set, kind) in [
        ("stateful", "ifname"),
        ("stateful-macs", "ether_addr"),
        ("host-macs", "ether_addr"),
    ] {
        text += &format!("\tset {set} {{\n\t\ttype {kind};\n\t}}\n");
    }
    text += "\tchain zone {\n\t}\n";
    for ((chain, place, _), _) in &hooks {
        text +=
            &format!("\tchain {chain} {{\n\t\ttype filter hook {place}; policy accept;\n\t}}\n");
    }
    text += "}\n";
    for ((chain, ..), lines) in &hooks {
        text += &format!("flush chain {word} {TABLE} {chain}\n");
        for line in lines {
            text += &format!("add rule {word} {TABLE} {chain} {line}\n");
        }
    }
    let all = STATEFUL.into_iter().chain([FOR_HOST, TRACKED]);
    for (chain, ..) in all {
        let unused = !hooks.iter().any(|((used, ..), _)| *used == chain);
        if unused && present.chains.iter().any(|name| name == chain) {
            text += &format!("delete chain {word} {TABLE} {chain}\n");
        }
    }
    text
}

/// Takes away all that the interface has in the table.
fn clear(family: Family, name: &TapName, present: &Listing) -> String {
    let (word, interface) = (family.word(), name.as_str());
    let prefix = prefix(name);
    let mut text = String::new();
    let mut line = |line: String| text += &format!("{line}\n");
    for set in ["out", "in", HOST, "stateful"] {
        if present.has_key(set, interface) {
            line(format!(
                "delete element {word} {TABLE} {set} {{ \"{interface}\" }}"
            ));
        }
    }
    for mac in present.set("stateful-macs") {
        let ours = mac.comment.as_deref() == Some(interface);
        let mac = mac.key.as_deref().and_then(parse_mac).filter(|_| ours);
        if let Some(mac) = mac {
            line(format!(
                "delete element {word} {TABLE} stateful-macs {{ {mac} }}"
            ));
        }
    }
    let chains = || {
        present
            .chains
            .iter()
            .filter(|chain| chain.starts_with(&prefix))
    };
    for chain in chains() {
        line(format!("flush chain {word} {TABLE} {chain}"));
    }
    for chain in chains() {
        line(format!("delete chain {word} {TABLE} {chain}"));
    }
    let sets = present
        .sets
        .iter()
        .filter(|set| set.name.starts_with(&prefix));
    for set in sets {
        line(format!("delete set {word} {TABLE} {}", set.name));
    }
    let counters = present
        .counters
        .iter()
        .filter(|(name, ..)| name.starts_with(&prefix));
    for (counter, ..) in counters {
        line(format!("delete counter {word} {TABLE} {counter}"));
    }
    text
}

/// Adds what the interface has.
fn fill(family: Family, name: &TapName, policy: &VifPolicy, present: &Listing) -> String {
    let (word, interface) = (family.word(), name.as_str());
    let table = table(family, name, policy);
    let mut text = format!("table {word} {TABLE} {{\n{table}}}\n");
    let mut maps = Vec::new();
    if policy.is_stateful() {
        maps.extend(["out", "in"]);
    }
    maps.extend(policy.host.is_some().then_some(HOST));
    for map in maps {
        let chain = table.name(map);
        text += &format!("add element {word} {TABLE} {map} {{ \"{interface}\" : jump {chain} }}\n");
    }
    if policy.is_stateful() && family == Family::Bridge {
        let mac = policy.mac;
        // Of two interfaces with this address, the one that came last has it.
        let taken = present.set("stateful-macs").iter().any(|element| {
            let other = element.comment.as_deref() != Some(interface);
            other && element.key.as_deref().and_then(parse_mac) == Some(mac)
        });
        if taken {
            text += &format!("delete element {word} {TABLE} stateful-macs {{ {mac} }}\n");
        }
        text += &format!("add element {word} {TABLE} stateful {{ \"{interface}\" }}\n");
        text += &format!(
            "add element {word} {TABLE} stateful-macs {{ {mac} comment \"{interface}\" }}\n"
        );
    }
    text
}

/// What tells bridges apart, and the host's own addresses.
fn surroundings(around: &Surroundings) -> String {
    let mut text = format!("flush set bridge {TABLE} host-macs\n");
    if !around.macs.is_empty() {
        let macs = super::table::braces(&around.macs);
        text += &format!("add element bridge {TABLE} host-macs {macs}\n");
    }
    text += &format!("flush chain bridge {TABLE} zone\n");
    if around.bridges.is_empty() {
        return text;
    }
    text += &format!("add rule bridge {TABLE} zone meta ibrname vmap @zones\n");
    for (bridge, zone) in &around.bridges {
        let bridge = bridge.as_str();
        // Only of the packet that opens a flow: answers may come from where the host routes to.
        let _infallible = write!(
            text,
            "add chain bridge {TABLE} zone/{bridge}\n\
             flush chain bridge {TABLE} zone/{bridge}\n\
             add rule bridge {TABLE} zone/{bridge} ct original zone set {zone}\n\
             add element bridge {TABLE} zones {{ \"{bridge}\" : goto zone/{bridge} }}\n"
        );
    }
    text
}

fn parse_mac(text: &str) -> Option<Mac> {
    text.parse().ok()
}
