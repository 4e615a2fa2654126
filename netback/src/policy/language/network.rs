//! How a policy says that an interface is connected to its networks.

use std::fmt;
use std::net::IpAddr;

use broker::config::{ConfigError, name};

use super::print::{list, quoted};
use super::section::{Item, Section};
use crate::policy::network::{BadNetwork, Mode, Network};

/// The keys of the table.
const KEYS: [&str; 4] = ["mode", "gateway", "uplink", "forwards"];

const MODES: &[(&str, Mode)] = &[
    ("bridge", Mode::Bridge),
    ("route", Mode::Route),
    ("nat", Mode::Nat),
];

const FORM: &str = "write a table like { mode = \"nat\", uplink = \"eth0\" }";
const ADDRESS_FORM: &str = "write an address in quotes, like \"10.0.0.1\"";

pub(super) fn read(item: Item<'_>) -> Result<Network, ConfigError> {
    let section = item.table(&KEYS, FORM)?;
    let mode = section.need("mode", "write mode = \"bridge\", \"route\" or \"nat\"")?;
    let mode = mode.word(MODES)?;
    let uplink = section.optional("uplink", |item| {
        let text = item.text().map(str::to_owned);
        text.ok_or_else(|| item.wrong("write an interface's name in quotes"))
    })?;
    let gateways = each(section, "gateway", |item| {
        let address = item.text().and_then(|text| text.parse::<IpAddr>().ok());
        address.ok_or_else(|| item.wrong(ADDRESS_FORM))
    })?;
    let forwards = each(section, "forwards", |item| {
        item.parsed("write a text like \"tcp 8080 -> 80\"")
    })?;
    Network::new(mode, gateways, uplink, forwards).map_err(|why| {
        let item = section.get(key(&why)).unwrap_or(item);
        item.error(&why.to_string())
    })
}

/// What each of the values of `key` stands for.
fn each<'a, T>(
    section: Section<'a>,
    key: &'static str,
    read: impl Fn(Item<'a>) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    let item = section.get(key);
    item.into_iter().flat_map(Item::each).map(read).collect()
}

/// The key that is to blame.
const fn key(why: &BadNetwork) -> &'static str {
    match why {
        BadNetwork::Useless { key, .. } => key,
        BadNetwork::Uplink { .. } => "uplink",
        BadNetwork::Gateway { .. } | BadNetwork::Gateways { .. } => "gateway",
        BadNetwork::Twice { .. } => "forwards",
    }
}

/// The table, as it is read.
pub(super) fn print(f: &mut fmt::Formatter<'_>, network: &Network) -> fmt::Result {
    write!(
        f,
        "network = {{ mode = {}",
        quoted(name(MODES, network.mode()))
    )?;
    if !network.gateways().is_empty() {
        write!(f, ", gateway = {}", list(network.gateways()))?;
    }
    if let Some(uplink) = network.uplink() {
        write!(f, ", uplink = {}", quoted(uplink))?;
    }
    if !network.forwards().is_empty() {
        write!(f, ", forwards = {}", list(network.forwards()))?;
    }
    writeln!(f, " }}")
}
