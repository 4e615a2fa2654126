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
#[error("{text:?} is no address or prefix: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
pub struct BadPrefix {
    text: String,
}

impl Prefix {
    /// `len` leading bits of `address`; `None` if there are not so many, or others are set.
    #[must_use]
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let (bits, number) = number(address);
        let fits = len <= bits && number & !mask(bits, len) == 0;
        fits.then_some(Self { address, len })
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
        let bad = || BadPrefix {
            text: text.chars().take(64).collect(),
        };
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_none| bad())?;
        match len {
            None => Ok(Self::host(address)),
            Some(len) => {
                let len = len.parse().map_err(|_none| bad())?;
                Self::new(address, len).ok_or_else(bad)
            }
        }
    }
}

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
    }
}
