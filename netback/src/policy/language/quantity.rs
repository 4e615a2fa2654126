//! Rates and sizes, as texts with units.

/// Bytes a second of a text like `100Mbit/s` or `12MB/s`, with xl's abbreviations (`Mb/s` are bits).
///
/// `None` if it is none, or under a thousand bytes or over [`RATE_MAX`] a second.
pub(super) fn parse_rate(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit = unit.strip_suffix("/s")?;
    let (scale, unit) = scale(unit, 1000);
    let bits = number.checked_mul(scale)?;
    let bytes = match unit {
        "bit" | "b" => bits / 8,
        "B" => bits,
        _ => return None,
    };
    (RATE_MIN..=RATE_MAX).contains(&bytes).then_some(bytes)
}

/// As [`parse_rate`] reads it.
pub(super) fn show_rate(bytes: u64) -> String {
    let bits = u128::from(bytes) * 8;
    for (unit, scale) in [("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000)] {
        if bits.is_multiple_of(scale) {
            return format!("{}{unit}bit/s", bits / scale);
        }
    }
    format!("{bytes}B/s")
}

/// Bytes of a text like `256KiB`, `1MB` or `65536B`; `None` if it is none.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit = unit.strip_suffix('B')?;
    let (scale, rest) = match unit.strip_suffix('i') {
        Some(unit) => scale(unit, 1024),
        None => scale(unit, 1000),
    };
    let lone_i = unit == "i";
    (rest.is_empty() && !lone_i)
        .then(|| number.checked_mul(scale))
        .flatten()
}

/// What a rate may be: bytes a second.
const RATE_MIN: u64 = 1000;
/// A terabit.
const RATE_MAX: u64 = 125_000_000_000;

/// What to write instead of what is no rate.
pub(super) const RATE_FORM: &str =
    "write a rate like \"100Mbit/s\" or \"12MB/s\", from 8kbit/s to 1000Gbit/s";

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

fn scale(unit: &str, step: u64) -> (u64, &str) {
    for (prefixes, power) in [(['k', 'K'], 1), (['M', 'M'], 2), (['G', 'G'], 3)] {
        if let Some(rest) = unit.strip_prefix(prefixes) {
            return (step.pow(power), rest);
        }
    }
    (1, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_written_and_as_xl_abbreviates_them() {
        for (text, bytes) in [
            ("100Mbit/s", 12_500_000),
            ("10Mb/s", 1_250_000),
            ("10MB/s", 10_000_000),
            ("250KB/s", 250_000),
            ("250kB/s", 250_000),
            ("8kbit/s", 1000),
            ("1 Gbit/s", 125_000_000),
            ("1000Gbit/s", RATE_MAX),
            ("1001B/s", 1001),
        ] {
            assert_eq!(parse_rate(text), Some(bytes), "{text}");
            assert_eq!(parse_rate(&show_rate(bytes)), Some(bytes), "{text}");
        }
        for text in [
            "",
            "100",
            "100Mbit",
            "Mbit/s",
            "-1Mbit/s",
            "1.5Gbit/s",
            "7kbit/s",
            "1001Gbit/s",
            "1Tbit/s",
            "1mbit/s",
            "1kk/s",
            "99999999999999999999B/s",
            "18446744073709551615GB/s",
        ] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("65536B", 65_536),
            ("128KiB", 131_072),
            ("1MB", 1_000_000),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "1", "1iB", "KiB", "1kib", "1Mbit"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
