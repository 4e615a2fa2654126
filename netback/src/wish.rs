//! What a toolstack wants of an interface: the backend directory's keys, parsed.
//!
//! `bridge`, `ip` and `script` are the hotplug script's.

use xenbus::{BackendPath, Store, StoreError, decimal};

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
}

/// A key of the backend directory that makes no sense. The toolstack wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?} {fault}")]
pub struct BadWish {
    key: &'static str,
    value: String,
    fault: String,
}

const KEYS: [&str; 5] = ["mac", "rate", "mtu", "vifname", "handle"];

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
        if let Some(handle) = handle {
            check_handle(&handle, devid)?;
        }
        Ok(Self {
            mac: parse_mac(&mac.unwrap_or_default())?,
            rate: rate.as_deref().map(parse_rate).transpose()?.flatten(),
            mtu: mtu.as_deref().map_or(Ok(1500), parse_mtu)?,
            name: name.as_deref().map(parse_name).transpose()?,
        })
    }
}

/// `00:16:3e:01:02:03`.
fn parse_mac(value: &[u8]) -> Result<[u8; 6], BadWish> {
    let fault = || bad("mac", value, "is not an address like 00:16:3e:01:02:03");
    let text = std::str::from_utf8(value).map_err(|_binary| fault())?;
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()));
        let hex = part.filter(|part| part.bytes().all(|c| c.is_ascii_hexdigit()));
        *byte = hex
            .and_then(|part| u8::from_str_radix(part, 16).ok())
            .ok_or_else(fault)?;
    }
    let station = mac[0] & 1 == 0 && mac != [0; 6];
    match parts.next() {
        None if station => Ok(mac),
        None => Err(bad("mac", value, "is the address of a group, or of nobody")),
        Some(_) => Err(fault()),
    }
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
        let full = wish(&[
            MAC,
            ("rate", "62500,50000"),
            ("mtu", "9000"),
            ("vifname", "web0"),
            ("handle", "3"),
        ]);
        let full = full.unwrap();
        let rate = RateSpec {
            bytes: 62_500,
            interval_us: 50_000,
        };
        assert_eq!((full.mtu, full.rate), (9000, Some(rate)));
        assert_eq!(full.name.unwrap().as_str(), "web0");
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
