//! The Toeplitz hash, as network cards and Windows compute it ("Receive Side Scaling", Microsoft).

/// The hash of `input`: for each bit of it that is set, counted from the highest of the first byte,
/// the 32 bits of the key that start at that bit's number are added without carry. Behind its end, a
/// key is 0.
pub(super) fn toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
    let mut hash = 0;
    // The key's next 32 bits in the high half, and those that follow behind.
    let (first, rest) = key.split_at(8);
    let mut window = first
        .iter()
        .fold(0_u64, |window, &byte| window << 8 | u64::from(byte));
    let mut rest = rest.iter().copied();
    for &byte in input {
        let mut bits = byte;
        for shift in 0..8_u32 {
            // All ones if the bit is set: no branch that a guest's bytes decide.
            let mask = 0_u64.wrapping_sub(u64::from(bits >> 7));
            hash ^= (window << shift) & mask;
            bits <<= 1;
        }
        window = window << 8 | u64::from(rest.next().unwrap_or(0));
    }
    high(hash)
}

/// The high half.
const fn high(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    /// The key, the inputs and the results of the "Verifying the RSS hash calculation" page:
    /// destination, source, hash of the addresses, hash of addresses and ports.
    const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
        (
            "161.142.100.80",
            1766,
            "66.9.149.187",
            2794,
            0x323e_8fc2,
            0x51cc_c178,
        ),
        (
            "65.69.140.83",
            4739,
            "199.92.111.2",
            14230,
            0xd718_262a,
            0xc626_b0ea,
        ),
        (
            "12.22.207.184",
            38024,
            "24.19.198.95",
            12898,
            0xd2d0_a5de,
            0x5c2b_394a,
        ),
        (
            "209.142.163.6",
            2217,
            "38.27.205.30",
            48228,
            0x8298_9176,
            0xafc7_327f,
        ),
        (
            "202.188.127.2",
            1303,
            "153.39.163.191",
            44251,
            0x5d18_09c5,
            0x10e8_28a2,
        ),
        (
            "3ffe:2501:200:3::1",
            1766,
            "3ffe:2501:200:1fff::7",
            2794,
            0x2cc1_8cd5,
            0x4020_7d3d,
        ),
        (
            "ff02::1",
            4739,
            "3ffe:501:8::260:97ff:fe40:efab",
            14230,
            0x0f0c_461c,
            0xdde5_1bbf,
        ),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn bytes(address: &str) -> Vec<u8> {
        match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        }
    }

    #[test]
    fn known_answers() {
        let key = super::super::tests::KEY;
        for (to, to_port, from, from_port, plain, tcp) in VECTORS {
            let mut input = [bytes(from), bytes(to)].concat();
            assert_eq!(toeplitz(&key, &input), plain, "{from} to {to}");
            input.extend(from_port.to_be_bytes());
            input.extend(to_port.to_be_bytes());
            assert_eq!(toeplitz(&key, &input), tcp, "{from} to {to}, ports");
        }
    }

    proptest! {
        /// One bit at a time, as the definition has it.
        #[test]
        fn it_is_what_the_definition_says(key in any::<[u8; 32]>(), input in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut padded = [0; 40];
            padded[..32].copy_from_slice(&key);
            let bit = |bytes: &[u8], at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 != 0);
            let mut expected = 0_u32;
            for at in (0..8 * input.len()).filter(|&at| bit(&input, at)) {
                expected ^= (0..32).fold(0, |word, place| word << 1 | u32::from(bit(&padded, at + place)));
            }
            prop_assert_eq!(toeplitz(&padded, &input), expected);
        }
    }
}
