//! VLANs: as a policy says them, and as xl does.

use std::ops::RangeInclusive;

use broker::config::ConfigError;

use super::ranges::Ranges;
use super::section::Item;
use crate::policy::Vlan;

/// Numbers of VLANs; 0 and 4095 are reserved (IEEE 802.1Q).
const VIDS: RangeInclusive<u16> = 1..=4094;

const FORM: &str =
    "write \"off\", \"any\", { access = 5 } or { trunk = [10, \"20-29\"], native = 5 }";

/// The value of `vlan`.
pub(super) fn read(item: Item<'_>) -> Result<Vlan, ConfigError> {
    match item.text() {
        Some("off") => return Ok(Vlan::Off),
        Some("any") => return Ok(Vlan::Any),
        _ => {}
    }
    let section = item.table(&["access", "trunk", "native"], FORM)?;
    let vid = |item: Item<'_>| item.number((*VIDS.start()).into(), (*VIDS.end()).into());
    let access = section.optional("access", vid)?;
    let trunk = section.optional("trunk", |item| Ranges::read(item, &VIDS))?;
    let native = section.optional("native", vid)?;
    match (access, trunk, native) {
        (Some(vid), None, None) => Ok(Vlan::Access(vid)),
        (None, Some(trunk), native) => {
            let tags: Vec<u16> = trunk.iter().cloned().flatten().collect();
            match native.filter(|native| tags.contains(native)) {
                Some(native) => Err(item.wrong(&format!(
                    "VLAN {native} is in trunk and native: it is sent with a tag, or without"
                ))),
                None => Ok(Vlan::Trunk { tags, native }),
            }
        }
        _ => Err(item.wrong(FORM)),
    }
}

/// As [`read`] reads it.
pub(super) fn show(vlan: &Vlan) -> String {
    match vlan {
        Vlan::Any => "\"any\"".to_owned(),
        Vlan::Off => "\"off\"".to_owned(),
        Vlan::Access(vid) => format!("{{ access = {vid} }}"),
        Vlan::Trunk { tags, native } => {
            let tags = Ranges::of(tags.iter().map(|&tag| tag..=tag).collect());
            match native {
                Some(native) => format!("{{ trunk = \"{tags}\", native = {native} }}"),
                None => format!("{{ trunk = \"{tags}\" }}"),
            }
        }
    }
}

impl Vlan {
    /// What xl's `vlan=` means: terms with slashes between them, each a number (`10`), a range
    /// (`20-29`), or a start, a step and how many in all (`100+10x9` goes to 180). One of more than
    /// one has a `p`: it is that of frames without a tag. A `u` lets the VLAN leave without a tag,
    /// which concerns only frames to the guest. (xl-network-configuration(5), and Xen's
    /// `xen-network-common.sh`, whose count goes where the two differ.)
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_xl(text: &str) -> Result<Self, String> {
        let mut native = None;
        let mut tags = Vec::new();
        for term in text.trim_end().split('/') {
            let (vids, suffix) = match term.strip_suffix(['p', 'u']) {
                Some(vids) => (vids, term.get(vids.len()..)),
                None => (term, None),
            };
            let vids = term_vids(vids).ok_or_else(|| bad_term(term))?;
            match (suffix, vids.as_slice()) {
                (Some("p"), &[vid]) if native.is_none() => native = Some(vid),
                (Some("p"), _) => return Err("has more than one VLAN with a p".to_owned()),
                _ => tags.extend(vids),
            }
        }
        tags.sort_unstable();
        tags.dedup();
        match (native, tags.as_slice()) {
            (Some(vid), []) => Ok(Self::Access(vid)),
            (None, &[vid]) => Ok(Self::Access(vid)),
            (Some(vid), _) if !tags.contains(&vid) => Ok(Self::Trunk { tags, native }),
            (Some(vid), _) => Err(format!("has VLAN {vid} twice, with a tag and without")),
            (None, _) => {
                Err("has several VLANs: write a p behind that of untagged frames".to_owned())
            }
        }
    }
}

fn bad_term(term: &str) -> String {
    let term: String = term.chars().take(32).collect();
    format!("has {term:?}, which is no VLAN from 1 to 4094: write 10, 10p/20 or 10p/20-29")
}

fn term_vids(term: &str) -> Option<Vec<u16>> {
    let vid = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let number = digits.then(|| text.parse::<u16>().ok()).flatten();
        number.filter(|vid| VIDS.contains(vid))
    };
    if let Some((first, last)) = term.split_once('-') {
        let (first, last) = (vid(first)?, vid(last)?);
        return (first <= last).then(|| (first..=last).collect());
    }
    if let Some((first, rest)) = term.split_once('+') {
        let (step, count) = rest.split_once('x')?;
        let (first, step, count) = (vid(first)?, vid(step)?, vid(count)?);
        let last = u32::from(first) + u32::from(step) * u32::from(count - 1);
        let last = u16::try_from(last)
            .ok()
            .filter(|last| VIDS.contains(last))?;
        return Some((first..=last).step_by(step.into()).collect());
    }
    Some(vec![vid(term)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(native: u16, tags: &[u16]) -> Vlan {
        Vlan::Trunk {
            tags: tags.to_vec(),
            native: Some(native),
        }
    }

    #[test]
    fn what_xl_writes_is_understood() {
        for (text, expected) in [
            ("5", Vlan::Access(5)),
            ("5p", Vlan::Access(5)),
            ("4094", Vlan::Access(4094)),
            ("10p/20", trunk(10, &[20])),
            ("20-22/10p", trunk(10, &[20, 21, 22])),
            ("1p/10+10x3", trunk(1, &[10, 20, 30])),
            ("1p/10-11/30u", trunk(1, &[10, 11, 30])),
            ("10p/20\n", trunk(10, &[20])),
        ] {
            assert_eq!(Vlan::parse_xl(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn net_19_nonsense_is_no_vlan() {
        for text in [
            "",
            "0",
            "4095",
            "x",
            "5x",
            "p",
            "10/20",
            "10p/20p",
            "10-12p",
            "20-10",
            "10p/10",
            "1p/4000+50x3",
            "1p/10+10x0",
            "1p/+x",
            "+5",
            "-5",
            "5/",
            "65541",
            "1p/1+1x65535",
        ] {
            let error = Vlan::parse_xl(text);
            assert!(error.is_err(), "{text}: {error:?}");
        }
    }
}
