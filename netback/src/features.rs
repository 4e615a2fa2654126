//! What a network backend tells a frontend, key by key.
//!
//! Keys and their meaning: `public/io/netif.h`.

use xenbus::Key;

/// The most queues of one interface that a configuration may allow.
pub const QUEUES_MAX: u16 = 16;

/// Written together with InitWait: a network frontend looks once, and then sets up its rings.
///
/// What is 0 is written too: a device that was connected before may have had it, and an old key
/// would be an old promise.
#[must_use]
pub fn before_rings(queues: u16) -> Vec<Key<'static>> {
    let offered = [
        ("feature-sg", true),
        ("feature-gso-tcpv4", true),
        ("feature-gso-tcpv6", true),
        ("feature-ipv6-csum-offload", true),
        ("feature-rx-copy", true),
        // Pages are copied, never flipped.
        ("feature-rx-flip", false),
        ("feature-multicast-control", true),
        ("feature-dynamic-multicast-control", true),
        ("feature-split-event-channels", true),
        // A frontend that wants another one goes to Reconfiguring.
        ("feature-xdp-headroom", true),
        ("feature-ctrl-ring", true),
    ];
    let mut keys: Vec<Key<'static>> = offered
        .into_iter()
        .map(|(key, on)| (key, u8::from(on).to_string()))
        .collect();
    keys.push(("multi-queue-max-queues", queues.to_string()));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_told_what_works_and_what_does_not() {
        let keys = before_rings(4);
        let value = |key: &str| {
            let found = keys.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(
            value("feature-rx-copy"),
            Some("1"),
            "without it nothing works"
        );
        assert_eq!(value("feature-rx-flip"), Some("0"));
        assert_eq!(value("feature-xdp-headroom"), Some("1"));
        assert_eq!(value("multi-queue-max-queues"), Some("4"));
        assert_eq!(value("feature-ctrl-ring"), Some("1"));
    }
}
