//! Addresses, as policies name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

/// Addresses that start alike.
///
/// Having one tells you that the length fits the family, and that no bit behind it is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

/// The other end of a rule: any of these; empty: anyone.
pub type Remotes = Vec<Prefix>;

/// A text that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {fault}")]
pub struct BadPrefix {
    text: String,
    fault: String,
}

/// A text that is no address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMac {
    /// It has another form.
    #[error("is not an address like 00:16:3e:01:02:03")]
    Form,
    /// The group bit is set, or no bit at all.
    #[error("is the address of a group, or of nobody")]
    NoStation,
}

impl Prefix {
    /// `len` leading bits of `address`; `None` if there are not so many, or others are set.
    #[must_use]
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let (bits, number) = number(address);
        let fits = len <= bits && number & !mask(bits, len) == 0;
        fits.then_some(Self { address, len })
    }

    /// What starts with the first `len` bits of `address`; `None` if there are not so many.
    #[must_use]
    pub fn around(address: IpAddr, len: u8) -> Option<Self> {
        let (bits, number) = number(address);
        let first = number & mask(bits, len);
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(first).ok()?.into()),
            IpAddr::V6(_) => IpAddr::V6(first.into()),
        };
        (len <= bits).then_some(Self { address, len })
    }

    /// One address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let (len, _) = number(address);
        Self { address, len }
    }

    /// The first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Leading bits.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.len
    }

    /// Is it of IPv4?
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Does it hold `address`?
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let ((bits, own), (other_bits, other)) = (number(self.address), number(address));
        bits == other_bits && other & mask(bits, self.len) == own
    }

    /// Does it hold all of `other`?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.has(other.address)
    }
}

/// Sorted, without those that are inside another.
pub(crate) fn outermost(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    // One that covers others begins where the first of them does, or before, and is shorter.
    prefixes.sort();
    prefixes.dedup_by(|next, kept| kept.covers(next));
    prefixes
}

fn number(address: IpAddr) -> (u8, u128) {
    match address {
        IpAddr::V4(v4) => (32, u32::from(v4).into()),
        IpAddr::V6(v6) => (128, v6.into()),
    }
}

/// `len` leading ones of `bits`.
fn mask(bits: u8, len: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(bits));
    let rest = u32::from(bits) - u32::from(len.min(bits));
    // A shift by all bits there are is none that the language knows.
    all & u128::MAX.checked_shl(rest).unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let bad = |fault: String| BadPrefix {
            text: text.chars().take(64).collect(),
            fault,
        };
        let no_prefix = || bad(NO_PREFIX.to_owned());
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_none| no_prefix())?;
        let Some(len) = len else {
            return Ok(Self::host(address));
        };
        let len: u8 = len.parse().map_err(|_none| no_prefix())?;
        Self::new(address, len).ok_or_else(|| match Self::around(address, len) {
            None => no_prefix(),
            Some(prefix) => bad(format!(
                "has bits behind its length: write {prefix} for all of it, or {address} for one"
            )),
        })
    }
}

const NO_PREFIX: &str = "is no address or prefix: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32";

impl TryFrom<String> for Prefix {
    type Error = BadPrefix;

    fn try_from(text: String) -> Result<Self, BadPrefix> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bits, _) = number(self.address);
        write!(f, "{}", self.address)?;
        if self.len < bits {
            write!(f, "/{}", self.len)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Of one station: neither a group's nor all zero.
impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len()));
            let hex = part.filter(|part| part.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = hex
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or(BadMac::Form)?;
        }
        let station = mac[0] & 1 == 0 && mac != [0; 6];
        match parts.next() {
            None if station => Ok(Self(mac)),
            None => Err(BadMac::NoStation),
            Some(_) => Err(BadMac::Form),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_what_was_written_and_holds_what_starts_like_it() {
        for (text, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.0/25", "192.0.2.127", "192.0.2.128"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::/0", "fe80::1", "0.0.0.0"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), text);
            assert!(prefix.has(inside.parse().unwrap()), "{text} {inside}");
            assert!(!prefix.has(outside.parse().unwrap()), "{text} {outside}");
            assert!(prefix.covers(&Prefix::host(inside.parse().unwrap())));
        }
    }

    #[test]
    fn what_is_inside_another_goes() {
        let texts = [
            "192.0.2.7",
            "192.0.2.0/24",
            "::1",
            "192.0.2.0",
            "192.0.3.0",
            "192.0.2.0/24",
        ];
        let prefixes = texts.iter().map(|text| text.parse().unwrap()).collect();
        let kept: Vec<_> = outermost(prefixes).iter().map(Prefix::to_string).collect();
        assert_eq!(kept, ["192.0.2.0/24", "192.0.3.0", "::1"]);
    }

    #[test]
    fn what_is_no_prefix_is_named() {
        for text in [
            "",
            "192.0.2",
            "192.0.2.1/24",
            "192.0.2.0/33",
            "::/129",
            "x/8",
            "1.2.3.4/",
        ] {
            let error = text.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        let error = "192.0.2.1/24".parse::<Prefix>().unwrap_err().to_string();
        assert!(
            error.ends_with("write 192.0.2.0/24 for all of it, or 192.0.2.1 for one"),
            "{error}"
        );
    }
}
