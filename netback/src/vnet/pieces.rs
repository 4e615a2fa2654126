//! A long TCP packet, cut up here.
//!
//! The kernel does that for guests that take no long packets. Those with a VLAN tag it leaves whole
//! for guests that take others, and frontends cannot have them: netif's words are about the packet
//! behind the Ethernet header, and Linux's netfront throws away what it finds no IP in
//! (`skb_checksum_setup`).

use ring_proto::netif::{Gso, Ip};

use crate::headers::{TCP, Transport, fold, sum, u16_at};

/// A packet that a guest gets in pieces, each a frame of its own with a complete checksum, in order.
///
/// Having one tells you that it is one TCP packet with at least one byte of payload, all there.
#[derive(Debug)]
pub struct Pieces {
    frame: Vec<u8>,
    found: Transport,
    /// Bytes in front of the payload, which each piece has.
    headers: usize,
    /// Most payload of a piece.
    size: usize,
    /// Payload that is in earlier pieces.
    done: usize,
}

impl Pieces {
    /// Those of `frame`; `None` if it is not the TCP that it is said to be.
    #[must_use]
    pub fn of(mut frame: Vec<u8>, gso: Gso) -> Option<Self> {
        let found = Transport::parse(&frame)?;
        let headers = found.l4 + found.tcp_header(&frame)?;
        let tcp = found.protocol == TCP && found.ip == gso.ip && !found.fragment;
        let whole = headers < found.end && found.end <= frame.len();
        frame.truncate(found.end);
        (tcp && whole).then_some(Self {
            frame,
            found,
            headers,
            size: gso.size.get().into(),
            done: 0,
        })
    }

    /// Was all of it in a piece so far? If not, and there is no next one, the rest cannot be had.
    #[must_use]
    pub const fn are_complete(&self) -> bool {
        self.headers + self.done >= self.frame.len()
    }

    /// The headers of a piece, which are those of the whole so far.
    fn rewrite(&self, piece: &mut [u8], last: bool) -> Option<()> {
        self.rewrite_ip(piece)?;
        self.rewrite_tcp(piece, last)
    }

    /// Length; for IPv4 also what identifies a packet, and the checksum.
    fn rewrite_ip(&self, piece: &mut [u8]) -> Option<()> {
        let Transport { ip, l3, l4, .. } = self.found;
        let len = u16::try_from(piece.len() - l3).ok()?;
        match ip {
            Ip::V4 => {
                put(piece, l3 + 2, len)?;
                let number = u16::try_from(self.done / self.size).ok()?;
                let id = u16_at(piece, l3 + 4)?.wrapping_add(number);
                put(piece, l3 + 4, id)?;
                put(piece, l3 + 10, 0)?;
                let checksum = !fold(sum(0, piece.get(l3..l4)?));
                put(piece, l3 + 10, checksum)
            }
            Ip::V6 => put(piece, l3 + 4, len.checked_sub(40)?),
        }
    }

    /// Place in the stream, flags and checksum (RFC 9293; for `CWR`, RFC 3168).
    fn rewrite_tcp(&self, piece: &mut [u8], last: bool) -> Option<()> {
        let l4 = self.found.l4;
        let seq: &mut [u8; 4] = piece.get_mut(l4 + 4..)?.first_chunk_mut()?;
        let done = u32::try_from(self.done).ok()?;
        *seq = u32::from_be_bytes(*seq).wrapping_add(done).to_be_bytes();
        let flags = piece.get_mut(l4 + 13)?;
        if !last {
            *flags &= !(FIN | PSH);
        }
        if self.done > 0 {
            *flags &= !CWR;
        }
        put(piece, l4 + 16, 0)?;
        let len = u32::try_from(piece.len() - l4).ok()?;
        let pseudo = self.found.pseudo_sum(piece, len)?;
        let checksum = !fold(sum(pseudo.into(), piece.get(l4..)?));
        put(piece, l4 + 16, checksum)
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let from = self.headers + self.done;
        let rest = self.frame.get(from..)?;
        let payload = rest.get(..rest.len().min(self.size))?;
        if payload.is_empty() {
            return None;
        }
        let last = payload.len() == rest.len();
        let mut piece = [self.frame.get(..self.headers)?, payload].concat();
        self.rewrite(&mut piece, last)?;
        self.done += payload.len();
        Some(piece)
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    let place = bytes.get_mut(at..)?.first_chunk_mut()?;
    *place = value.to_be_bytes();
    Some(())
}

const FIN: u8 = 1;
const PSH: u8 = 8;
const CWR: u8 = 128;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    /// TCP with two tags, `payload` bytes and all flags that a stream has.
    fn tagged(ip: Ip, payload: usize) -> Vec<u8> {
        let mut frame = vec![7; 12];
        frame.extend([0x88, 0xa8, 0, 1, 0x81, 0, 0, 2]);
        let tcp = u16::try_from(20 + payload).unwrap();
        match ip {
            Ip::V4 => {
                let total = (20 + tcp).to_be_bytes();
                frame.extend([8, 0, 0x45, 0, total[0], total[1], 0xff, 0xff]);
                frame.extend([0x40, 0, 64, TCP, 0xaa, 0xaa]);
                frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
            }
            Ip::V6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(tcp.to_be_bytes());
                frame.extend([TCP, 64]);
                frame.extend([5; 32]);
            }
        }
        frame.extend([0, 80, 4, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 9]);
        frame.extend([0x50, FIN | PSH | CWR | 16, 1, 0, 0xbb, 0xbb, 0, 0]);
        frame.extend((0..payload).map(|at| u8::try_from(at % 251).unwrap()));
        frame
    }

    fn gso(ip: Ip, size: u16) -> Gso {
        let size = NonZeroU16::new(size).unwrap();
        Gso { ip, size }
    }

    #[test]
    fn pieces_are_whole_packets_that_continue_each_other() {
        for ip in [Ip::V4, Ip::V6] {
            for (payload, size) in [
                (1, 1400),
                (1400, 1400),
                (2801, 1400),
                (60_000, 1),
                (5000, 999),
            ] {
                let frame = tagged(ip, payload);
                let pieces: Vec<_> = Pieces::of(frame.clone(), gso(ip, size)).unwrap().collect();
                assert_eq!(pieces.len(), payload.div_ceil(size.into()));
                let mut stream = Vec::new();
                for (number, piece) in pieces.iter().enumerate() {
                    let found = Transport::parse(piece).unwrap();
                    assert_eq!(found.end, piece.len());
                    let (l3, l4) = (found.l3, found.l4);
                    if ip == Ip::V4 {
                        assert_eq!(fold(sum(0, &piece[l3..l4])), 0xffff, "{number}");
                        let id = 0xffff_u16.wrapping_add(u16::try_from(number).unwrap());
                        assert_eq!(u16_at(piece, l3 + 4), Some(id));
                    }
                    let len = u32::try_from(piece.len() - l4).unwrap();
                    let pseudo = found.pseudo_sum(piece, len).unwrap();
                    assert_eq!(fold(sum(pseudo.into(), &piece[l4..])), 0xffff, "{number}");
                    let seq = u32::from_be_bytes(piece[l4 + 4..l4 + 8].try_into().unwrap());
                    let expected = u32::try_from(stream.len()).unwrap();
                    assert_eq!(seq, 0xffff_ff00_u32.wrapping_add(expected));
                    let (first, last) = (number == 0, number + 1 == pieces.len());
                    let flags = 16 | if first { CWR } else { 0 } | if last { FIN | PSH } else { 0 };
                    assert_eq!(piece[l4 + 13], flags);
                    stream.extend_from_slice(&piece[l4 + 20..]);
                }
                assert_eq!(stream, frame[frame.len() - payload..]);
            }
        }
    }

    #[test]
    fn pieces_that_cannot_be_had_are_missed() {
        // Longer than a tap's frames can be.
        let long = || tagged(Ip::V6, 65_515);
        let mut pieces = Pieces::of(long(), gso(Ip::V6, 65_535)).unwrap();
        assert!(pieces.next().is_none() && !pieces.are_complete());
        let mut pieces = Pieces::of(long(), gso(Ip::V6, 40_000)).unwrap();
        assert!(pieces.next().is_some() && !pieces.are_complete());
        assert!(pieces.next().is_some() && pieces.are_complete());
        assert!(pieces.next().is_none() && pieces.are_complete());
    }

    #[test]
    fn what_is_behind_the_packet_is_in_no_piece() {
        let mut frame = tagged(Ip::V4, 2000);
        frame.extend([0x99; 10]);
        let pieces = Pieces::of(frame, gso(Ip::V4, 1400)).unwrap();
        let payload: usize = pieces.map(|piece| piece.len() - 62).sum();
        assert_eq!(payload, 2000);
    }

    #[test]
    fn what_is_not_that_tcp_is_not_cut_up() {
        for ip in [Ip::V4, Ip::V6] {
            let good = tagged(ip, 2000);
            let other = if ip == Ip::V4 { Ip::V6 } else { Ip::V4 };
            assert!(Pieces::of(good.clone(), gso(other, 1400)).is_none());
            for len in 0..good.len() {
                assert!(Pieces::of(good[..len].to_vec(), gso(ip, 1400)).is_none());
            }
            assert!(Pieces::of(tagged(ip, 0), gso(ip, 1400)).is_none());
            let mut udp = good.clone();
            udp[if ip == Ip::V4 { 31 } else { 28 }] = crate::headers::UDP;
            assert!(Pieces::of(udp, gso(ip, 1400)).is_none());
        }
    }
}
