//! Numbers, and ranges of them: ports and VLANs.

use std::fmt;
use std::ops::RangeInclusive;

use broker::config::ConfigError;

use super::section::Item;

/// Sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<RangeInclusive<u16>>);

impl Ranges {
    /// A number, a text like `"80,443,8000-8010"`, or a list of both; each within `bounds`.
    pub(super) fn read(item: Item<'_>, bounds: &RangeInclusive<u16>) -> Result<Self, ConfigError> {
        let mut ranges = Vec::new();
        for item in item.some()? {
            let number = item.integer().map(|number| number.to_string());
            let Some(text) = number.as_deref().or(item.text()) else {
                return Err(item.wrong("write a number, a text like \"80,8000-8010\", or a list"));
            };
            for part in text.split(',') {
                let range = range(part.trim(), bounds).map_err(|remedy| item.wrong(&remedy))?;
                ranges.push(range);
            }
        }
        Ok(Self::of(ranges))
    }

    /// Sorts them, and joins what overlaps or touches.
    pub(super) fn of(mut ranges: Vec<RangeInclusive<u16>>) -> Self {
        ranges.sort_by_key(|range| *range.start());
        let mut joined: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => joined.push(range),
            }
        }
        Self(joined)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RangeInclusive<u16>> {
        self.0.iter()
    }
}

fn range(text: &str, bounds: &RangeInclusive<u16>) -> Result<RangeInclusive<u16>, String> {
    let (least, most) = (bounds.start(), bounds.end());
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| {
                let text: String = text.chars().take(32).collect();
                format!("{text:?} is no number from {least} to {most}")
            })
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    if first > last {
        return Err(format!(
            "{first} is more than {last}: write {last}-{first}, the lower one first"
        ));
    }
    Ok(first..=last)
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}", range.start())?;
            if range.start() < range.end() {
                write!(f, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}
