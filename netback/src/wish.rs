//! What a toolstack wants of an interface: the backend directory's keys, parsed.
//!
//! All of it is the toolstack's: no guest can write to a backend directory. `script` is for whoever
//! runs the hotplug script, which reads `bridge`, `ip` and `vlan` as well.

use std::net::IpAddr;

use broker::owner::Owner;
use xenbus::{BackendPath, Store, StoreError, decimal};

use crate::policy::language::Vif;
use crate::policy::{Mac, Prefix, Vlan};
use crate::spec::RateSpec;
use crate::tap::TapName;

/// A toolstack's wish. Having one tells you that its keys have sensible values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// `mac`: the guest's address, of one station.
    pub mac: [u8; 6],
    /// `rate`: how much the guest may transmit.
    pub rate: Option<RateSpec>,
    /// `mtu`, 1500 if there is none.
    pub mtu: u16,
    /// `vifname`: the name that the hotplug script gives to the tap.
    pub name: Option<TapName>,
    /// `ip`: the guest's own addresses, with spaces between them. A policy may add others.
    pub ip: Vec<Prefix>,
    /// `bridge`: which one the hotplug script takes.
    pub bridge: Option<String>,
    /// `vlan`: what the bridge port is a member of.
    pub vlan: Option<Vlan>,
}

/// A key of the backend directory that makes no sense. The toolstack wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?} {fault}")]
pub struct BadWish {
    key: &'static str,
    value: String,
    fault: String,
}

const KEYS: [&str; 8] = [
    "mac", "rate", "mtu", "vifname", "handle", "ip", "bridge", "vlan",
];

/// Addresses in `ip`, at the most.
const ADDRESSES: usize = 256;

/// The shortest MTU that IPv4 knows, and the longest packet.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_521;

impl Wish {
    /// Reads the keys in one round trip; the inner error is the toolstack's.
    ///
    /// # Errors
    /// The store's.
    pub fn read(
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<Result<Self, BadWish>, StoreError> {
        let paths = KEYS.map(|key| device.key(key));
        Ok(Self::parse(store.read_many(&paths)?, device.devid))
    }

    fn parse(values: Vec<Option<Vec<u8>>>, devid: u32) -> Result<Self, BadWish> {
        let mut values = values.into_iter();
        let mut next = || values.next().flatten();
        let (mac, rate, mtu, name, handle) = (next(), next(), next(), next(), next());
        let (ip, bridge, vlan) = (next(), next(), next());
        if let Some(handle) = handle {
            check_handle(&handle, devid)?;
        }
        Ok(Self {
            mac: parse_mac(&mac.unwrap_or_default())?,
            rate: rate.as_deref().map(parse_rate).transpose()?.flatten(),
            mtu: mtu.as_deref().map_or(Ok(1500), parse_mtu)?,
            name: name.as_deref().map(parse_name).transpose()?,
            ip: parse_ip(&ip.unwrap_or_default())?,
            bridge: bridge
                .and_then(|name| String::from_utf8(name).ok())
                .filter(|name| !name.is_empty()),
            vlan: vlan.as_deref().map(parse_vlan).transpose()?.flatten(),
        })
    }

    /// What policies may ask for: this, and whose it is.
    #[must_use]
    pub fn vif(&self, device: &BackendPath, owner: Owner) -> Vif {
        Vif {
            owner,
            handle: device.devid,
            mac: Mac(self.mac),
            bridge: self.bridge.clone(),
            ip: self.ip.clone(),
            vlan: self.vlan.clone(),
            rate: self.rate,
        }
    }
}

/// `00:16:3e:01:02:03`.
fn parse_mac(value: &[u8]) -> Result<[u8; 6], BadWish> {
    let text = String::from_utf8_lossy(value);
    let mac = text.parse::<Mac>();
    mac.map(|mac| mac.0)
        .map_err(|fault| bad("mac", value, &fault.to_string()))
}

/// `BYTES,MICROSECONDS`; 0 bytes or microseconds mean no limit, as for Linux.
fn parse_rate(value: &[u8]) -> Result<Option<RateSpec>, BadWish> {
    let number = |text: &str| decimal(text.as_bytes(), u32::MAX).ok().map(u64::from);
    let pair = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.split_once(','))
        .and_then(|(bytes, micros)| Some((number(bytes)?, number(micros)?)));
    let (bytes, interval_us) = pair.ok_or_else(|| {
        let fault = "is not BYTES,MICROSECONDS: write rate=10Mb/s in the guest's configuration";
        bad("rate", value, fault)
    })?;
    Ok((bytes > 0 && interval_us > 0).then_some(RateSpec { bytes, interval_us }))
}

fn parse_mtu(value: &[u8]) -> Result<u16, BadWish> {
    decimal(value, *MTU.end())
        .ok()
        .filter(|mtu| MTU.contains(mtu))
        .and_then(|mtu| u16::try_from(mtu).ok())
        .ok_or_else(|| bad("mtu", value, "is not a number from 68 to 65521"))
}

/// The kernel's backend names the interface by it, we by the directory: hotplug scripts, which go by
/// the directory, would look for another one. libxl writes the same number in both places.
fn check_handle(value: &[u8], devid: u32) -> Result<(), BadWish> {
    if decimal(value, u32::MAX) == Ok(devid) {
        return Ok(());
    }
    let fault = format!("is not the number of its directory: write {devid}, or leave it out");
    Err(bad("handle", value, &fault))
}

fn parse_name(value: &[u8]) -> Result<TapName, BadWish> {
    let text = String::from_utf8_lossy(value);
    TapName::parse(&text).map_err(|why| bad("vifname", value, &why.to_string()))
}

/// `192.0.2.7 2001:db8::/64`. An address with a length, whose other bits are not all zero, is that
/// address alone: `vif-nat` is told so what network it is in.
fn parse_ip(value: &[u8]) -> Result<Vec<Prefix>, BadWish> {
    let text = std::str::from_utf8(value);
    let text = text.map_err(|_binary| bad("ip", value, "is no text"))?;
    let addresses = text.split_ascii_whitespace().map(|word| {
        let in_network = || {
            let (address, len) = word.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            Prefix::around(address, len.parse().ok()?).map(|_network| Prefix::host(address))
        };
        word.parse().or_else(|fault: crate::policy::BadPrefix| {
            in_network().ok_or_else(|| bad("ip", value, &format!("has a word {fault}")))
        })
    });
    let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
    if addresses.len() > ADDRESSES {
        return Err(bad(
            "ip",
            value,
            "has more than 256 addresses: write prefixes",
        ));
    }
    Ok(addresses)
}

fn parse_vlan(value: &[u8]) -> Result<Option<Vlan>, BadWish> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(value);
    let vlan = Vlan::parse_xl(&text);
    vlan.map(Some).map_err(|fault| bad("vlan", value, &fault))
}

fn bad(key: &'static str, value: &[u8], fault: &str) -> BadWish {
    let value = String::from_utf8_lossy(value.get(..64).unwrap_or(value)).into_owned();
    BadWish {
        key,
        value,
        fault: fault.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: (&str, &str) = ("mac", "00:16:3e:0a:0B:0c");

    fn wish(keys: &[(&str, &str)]) -> Result<Wish, BadWish> {
        let values = KEYS.map(|key| {
            let found = keys.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.as_bytes().to_vec())
        });
        Wish::parse(values.to_vec(), 3)
    }

    #[test]
    fn what_xl_writes_is_understood() {
        let plain = wish(&[MAC]).unwrap();
        assert_eq!(plain.mac, [0, 0x16, 0x3e, 10, 11, 12]);
        assert_eq!((plain.mtu, plain.rate, plain.name), (1500, None, None));
        assert_eq!((plain.ip, plain.bridge, plain.vlan), (vec![], None, None));
        let full = wish(&[
            MAC,
            ("rate", "62500,50000"),
            ("mtu", "9000"),
            ("vifname", "web0"),
            ("handle", "3"),
            ("ip", "192.0.2.7  2001:db8::/64 10.0.0.1/16"),
            ("bridge", "xenbr0"),
            ("vlan", "5"),
        ]);
        let full = full.unwrap();
        let rate = RateSpec {
            bytes: 62_500,
            interval_us: 50_000,
        };
        assert_eq!((full.mtu, full.rate), (9000, Some(rate)));
        assert_eq!(full.name.unwrap().as_str(), "web0");
        let ip: Vec<_> = full.ip.iter().map(Prefix::to_string).collect();
        assert_eq!(ip, ["192.0.2.7", "2001:db8::/64", "10.0.0.1"]);
        assert_eq!(full.bridge.as_deref(), Some("xenbr0"));
        assert_eq!(full.vlan, Some(Vlan::Access(5)));
        assert_eq!(wish(&[MAC, ("ip", "")]).unwrap().ip, []);
        assert_eq!(wish(&[MAC, ("rate", "0,50000")]).unwrap().rate, None);
    }

    #[test]
    fn nonsense_is_named_with_its_key_and_what_to_write() {
        for (key, value) in [
            ("mac", ""),
            ("mac", "00:16:3e:0a:0b"),
            ("mac", "00:16:3e:0a:0b:0c:0d"),
            ("mac", "00:16:3e:0a:0b:+c"),
            ("mac", "01:00:5e:00:00:01"),
            ("mac", "00:00:00:00:00:00"),
            ("rate", "10Mb/s"),
            ("rate", "1,"),
            ("rate", "4294967296,1"),
            ("mtu", "67"),
            ("mtu", "65522"),
            ("mtu", "x"),
            ("handle", ""),
            ("handle", "2"),
            ("handle", "3x"),
            ("vifname", "a b"),
            ("vifname", "0123456789abcdef"),
            ("ip", "192.0.2"),
            ("ip", "192.0.2.7,192.0.2.8"),
            ("ip", "192.0.2.7 10.0.0.0/33"),
            ("vlan", "0"),
            ("vlan", "10/20"),
        ] {
            let keys = if key == "mac" {
                vec![(key, value)]
            } else {
                vec![MAC, (key, value)]
            };
            let error = wish(&keys).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key} = {value:?} ")), "{error}");
        }
    }
}
