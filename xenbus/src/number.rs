//! Numbers out of xenstore, read strictly: decimal digits, nothing else, within a stated limit.
//!
//! C's `sscanf("%u")` takes `" 7"`, `"-1"`, `"7junk"` and wraps `"4294967296"` to 0. A guest writes
//! these texts.

/// Why a text is not the number asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANumber {
    /// Empty, signed, spaced, hexadecimal, NUL-terminated: anything but ASCII digits.
    #[error("is not a decimal number")]
    NotDecimal,
    /// A number, but over the limit.
    #[error("is over the limit of {limit}")]
    TooLarge {
        /// The greatest number that is taken.
        limit: u32,
    },
}

/// Reads a decimal number of at most `limit`. Leading zeros are taken, up to ten digits in all.
///
/// # Errors
/// See [`NotANumber`].
pub fn decimal(text: &[u8], limit: u32) -> Result<u32, NotANumber> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(NotANumber::NotDecimal);
    }
    let too_large = NotANumber::TooLarge { limit };
    if text.len() > 10 {
        return Err(too_large);
    }
    let value = text
        .iter()
        .fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    u32::try_from(value)
        .ok()
        .filter(|value| *value <= limit)
        .ok_or(too_large)
}

/// Reads a flag: `0` or `1`.
///
/// # Errors
/// Any other text.
pub fn flag(text: &[u8]) -> Result<bool, NotANumber> {
    decimal(text, 1).map(|value| value == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn con_04_takes_digits_only() {
        assert_eq!(decimal(b"0", 9), Ok(0));
        assert_eq!(decimal(b"007", 9), Ok(7));
        assert_eq!(decimal(b"4294967295", u32::MAX), Ok(u32::MAX));
        let long = [b'9'; 4096];
        for bad in [
            &b""[..],
            b"-1",
            b" 7",
            b"7 ",
            b"+7",
            b"0x7",
            b"7\0",
            b"\xff",
            b"7\n",
            "\u{0667}".as_bytes(),
        ] {
            assert_eq!(
                decimal(bad, u32::MAX),
                Err(NotANumber::NotDecimal),
                "{bad:?}"
            );
        }
        for big in [&b"4294967296"[..], b"9999999999", b"00000000001", &long] {
            assert_eq!(
                decimal(big, u32::MAX),
                Err(NotANumber::TooLarge { limit: u32::MAX })
            );
        }
        assert_eq!(decimal(b"5", 4), Err(NotANumber::TooLarge { limit: 4 }));
        assert_eq!(flag(b"1"), Ok(true));
        assert_eq!(flag(b"0"), Ok(false));
        assert!(flag(b"2").is_err());
    }
}
