//! What nft lists, as far as it is asked for.

use serde_json::Value;

use super::shared::TABLE;
use super::table::Family;
use crate::tap::TapName;

/// What there is in a table.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Names of chains.
    pub(super) chains: Vec<String>,
    /// How many of them hang at a hook.
    pub(super) hooks: usize,
    /// Names of counters, with packets and bytes.
    pub(super) counters: Vec<(String, u64, u64)>,
    /// Sets and maps.
    pub(super) sets: Vec<Set>,
}

/// A set, or a map.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) elements: Vec<Element>,
}

/// An element of a set, or a key of a map.
#[derive(Debug)]
pub(super) struct Element {
    /// As text, if it is one value.
    pub(super) key: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Listing {
    pub(super) fn parse(objects: &[Value]) -> Self {
        let mut listing = Self::default();
        for object in objects {
            let named = |kind: &str| {
                let of = object.get(kind)?;
                Some((of, text(of, "name")?))
            };
            if let Some((chain, name)) = named("chain") {
                listing.hooks += usize::from(chain.get("hook").is_some());
                listing.chains.push(name);
            }
            if let Some((counter, name)) = named("counter") {
                let (packets, bytes) = counted(counter);
                listing.counters.push((name, packets, bytes));
            }
            if let Some((set, name)) = named("set").or_else(|| named("map")) {
                let elements = set.get("elem").and_then(Value::as_array);
                let elements = elements.into_iter().flatten().map(Element::parse).collect();
                listing.sets.push(Set { name, elements });
            }
        }
        listing
    }

    pub(super) fn set(&self, name: &str) -> &[Element] {
        let found = self.sets.iter().find(|set| set.name == name);
        found.map_or(&[], |set| &set.elements)
    }

    pub(super) fn has_key(&self, set: &str, key: &str) -> bool {
        let mut elements = self.set(set).iter();
        elements.any(|element| element.key.as_deref() == Some(key))
    }
}

impl Element {
    fn parse(value: &Value) -> Self {
        // Of a map it is a pair, and with a comment or a counter the value is inside an object.
        let value = value
            .as_array()
            .and_then(|pair| pair.first())
            .unwrap_or(value);
        let of = value.get("elem");
        let key = of.and_then(|of| of.get("val")).unwrap_or(value);
        let counter = of.and_then(|of| of.get("counter"));
        let (packets, bytes) = counter.map_or((0, 0), counted);
        Self {
            key: key.as_str().map(str::to_owned),
            comment: of.and_then(|of| text(of, "comment")),
            packets,
            bytes,
        }
    }
}

/// Which interfaces have tables of their own, and which shared tables there are.
pub(super) fn tables(objects: &[Value]) -> (Vec<TapName>, Vec<Family>) {
    let (mut own, mut shared) = (Vec::new(), Vec::new());
    for table in objects.iter().filter_map(|object| object.get("table")) {
        let (family, name) = (text(table, "family"), text(table, "name"));
        let (Some(family), Some(name)) = (family, name) else {
            continue;
        };
        match family.as_str() {
            "netdev" => {
                let tap = name.strip_prefix("xb-").map(TapName::parse);
                own.extend(tap.into_iter().flatten());
            }
            "bridge" if name == TABLE => shared.push(Family::Bridge),
            "inet" if name == TABLE => shared.push(Family::Inet),
            _ => {}
        }
    }
    (own, shared)
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(str::to_owned)
}

fn counted(counter: &Value) -> (u64, u64) {
    let number = |key| counter.get(key).and_then(Value::as_u64).unwrap_or(0);
    (number("packets"), number("bytes"))
}
