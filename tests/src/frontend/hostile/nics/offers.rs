//! CON-04: what a hostile guest writes where numbers are expected.

use crate::frontend::hostile::offers::no_numbers;

/// A key, and values that nobody can make sense of. Each of them alone must be refused.
#[must_use]
pub fn nonsense() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let numbers = no_numbers();
    let with = |more: &[&str]| {
        let more = more.iter().map(|value| value.as_bytes().to_vec());
        numbers.iter().cloned().chain(more).collect::<Vec<_>>()
    };
    vec![
        ("tx-ring-ref", with(&["0", "9999", "4294967295"])),
        ("rx-ring-ref", with(&["0", "9999", "4294967295"])),
        (
            "event-channel",
            with(&["0", "9999", "131072", "2147483648"]),
        ),
        ("multi-queue-num-queues", with(&["0", "5", "65536"])),
        ("request-rx-copy", with(&["0"])),
        ("ctrl-ring-ref", with(&["0", "9999", "4294967295"])),
        (
            "event-channel-ctrl",
            with(&["0", "9999", "131072", "2147483648"]),
        ),
        ("xdp-headroom", with(&["2049", "65536"])),
    ]
}
