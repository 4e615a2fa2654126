//! CON-04: what a hostile guest writes where numbers and names are expected.

/// Values that are no numbers of ours.
pub(super) fn no_numbers() -> Vec<Vec<u8>> {
    let digits = vec![b'9'; 2000];
    [
        &b""[..],
        b"-1",
        b" 7",
        b"7 ",
        b"+7",
        b"0x7",
        b"7\0",
        b"\0",
        b"4294967296",
        b"18446744073709551616",
        b"1e3",
        b"\xff\xfe",
        b"seven",
        &digits,
    ]
    .iter()
    .map(|value| value.to_vec())
    .collect()
}

/// A key, and values that nobody can make sense of. Each of them alone must be refused.
#[must_use]
pub fn nonsense() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let numbers = no_numbers();
    let with = |more: &[&str]| {
        let more = more.iter().map(|value| value.as_bytes().to_vec());
        numbers.iter().cloned().chain(more).collect::<Vec<_>>()
    };
    vec![
        // Numbers that are none, and one that was never granted.
        ("ring-ref", with(&["0", "9999", "4294967295"])),
        (
            "event-channel",
            with(&["0", "9999", "131072", "2147483648"]),
        ),
        ("ring-page-order", with(&["5", "31", "32", "99"])),
        ("multi-queue-num-queues", with(&["0", "5", "65536"])),
        (
            "protocol",
            [
                &b""[..],
                b"x86_3",
                b"x86_64-abi ",
                b"x86_64-abi\0",
                b"X86_64-ABI",
                b"\xff",
                &[b'9'; 2000],
            ]
            .iter()
            .map(|value| value.to_vec())
            .collect(),
        ),
    ]
}
