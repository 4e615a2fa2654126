//! Frames that are hashed, and go to the queues that the guest's table names.

use std::cell::Cell;
use std::net::IpAddr;
use std::num::NonZeroU16;

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::{Cut, Segment, Sum, tcp_flag};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Packet, Received, Traffic, Wire};
use pv_tests::network::Undone;
use ring_proto::netif::{Gso, Hash, HashKind, Ip, control_type};

use super::{SOME, Stage, nic};

/// As a Windows guest with four processors.
const SHAPE: NetShape = NetShape {
    queues: 4,
    control: true,
    ..NetShape::LINUX
};

/// The key of Microsoft's "Verifying the RSS Hash Calculation".
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// A flow of that page: to, from, and its hashes without and with ports.
pub(super) struct Flow {
    to: (&'static str, u16),
    from: (&'static str, u16),
    plain: u32,
    ports: u32,
}

const fn flow(to: (&'static str, u16), from: (&'static str, u16), plain: u32, ports: u32) -> Flow {
    Flow {
        to,
        from,
        plain,
        ports,
    }
}

pub(super) const FLOWS: [Flow; 8] = [
    flow(
        ("161.142.100.80", 1766),
        ("66.9.149.187", 2794),
        0x323e_8fc2,
        0x51cc_c178,
    ),
    flow(
        ("65.69.140.83", 4739),
        ("199.92.111.2", 14230),
        0xd718_262a,
        0xc626_b0ea,
    ),
    flow(
        ("12.22.207.184", 38024),
        ("24.19.198.95", 12898),
        0xd2d0_a5de,
        0x5c2b_394a,
    ),
    flow(
        ("209.142.163.6", 2217),
        ("38.27.205.30", 48228),
        0x8298_9176,
        0xafc7_327f,
    ),
    flow(
        ("202.188.127.2", 1303),
        ("153.39.163.191", 44251),
        0x5d18_09c5,
        0x10e8_28a2,
    ),
    flow(
        ("3ffe:2501:200:3::1", 1766),
        ("3ffe:2501:200:1fff::7", 2794),
        0x2cc1_8cd5,
        0x4020_7d3d,
    ),
    flow(
        ("ff02::1", 4739),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230),
        0x0f0c_461c,
        0xdde5_1bbf,
    ),
    flow(
        ("fe80::200:f8ff:fe21:67cf", 38024),
        ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
        0x4b61_e985,
        0x02d1_feef,
    ),
];

/// All kinds, and those without ports.
pub(super) const ALL: u32 = 0b1111;
const PLAIN: u32 = 0b0101;

impl Flow {
    fn segment<'a>(&self, mac: [u8; 6], seq: u32, payload: &'a [u8]) -> Segment<'a> {
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        Segment {
            stations: (mac, HOST),
            addresses: (address(self.from.0), address(self.to.0)),
            ports: (self.from.1, self.to.1),
            seq,
            ack: 1,
            flags: tcp_flag::ACK,
            options: &[],
            payload,
        }
    }

    pub(super) fn frame(&self, mac: [u8; 6], seq: u32) -> Vec<u8> {
        self.segment(mac, seq, b"hashed").frame(Sum::Whole)
    }

    fn hash(&self, kinds: u32) -> Hash {
        let v4 = self.to.0.contains('.');
        let (kind, value) = match (v4, kinds == ALL) {
            (true, true) => (HashKind::Ipv4Tcp, self.ports),
            (true, false) => (HashKind::Ipv4, self.plain),
            (false, true) => (HashKind::Ipv6Tcp, self.ports),
            (false, false) => (HashKind::Ipv6, self.plain),
        };
        Hash { kind, value }
    }

    /// The guest answers on `queue`, so that the kernel brings it what comes on this flow there.
    pub(super) fn answered_on(&self, wire: &mut Wire, queue: usize) -> anyhow::Result<()> {
        let there = self.segment(wire.mac, 1, &[]);
        let frame = Segment {
            stations: (HOST, wire.mac),
            addresses: (there.addresses.1, there.addresses.0),
            ports: (there.ports.1, there.ports.0),
            ..there
        }
        .frame(Sum::Whole);
        let packet = Packet {
            bytes: &frame,
            cuts: &Cut::pages(frame.len()),
            flags: 0,
            extras: &[],
        };
        ensure!(wire.answer(queue, &packet)? == 0, "not sent");
        Ok(())
    }
}

/// Toeplitz with Microsoft's key, these kinds, and this table.
pub(super) fn hash_by(wire: &mut Wire, kinds: u32, table: &[u32]) -> anyhow::Result<()> {
    wire.front.expect_hashes(true);
    let control = wire.front.control()?;
    control.algorithm(1)?;
    control.kinds(kinds)?;
    control.key(&KEY)?;
    control.table(table)
}

/// Sends a frame, which must come on this queue.
fn comes_on(wire: &mut Wire, queue: u32, bytes: &[u8]) -> anyhow::Result<Received> {
    wire.peer.send(bytes)?;
    let queue = usize::try_from(queue)?;
    wire.next(queue, |frame| frame.bytes == bytes)
}

/// One frame of each flow comes on the queue that the table says, and with its hash, wherever the
/// kernel brings it to.
fn follow_table(wire: &mut Wire, kinds: u32, table: &[u32]) -> anyhow::Result<()> {
    hash_by(wire, kinds, table)?;
    for (number, flow) in FLOWS.iter().enumerate() {
        let hash = flow.hash(kinds);
        let place = hash.value as usize % table.len().max(1);
        let queue = table.get(place).copied().unwrap_or(hash.value % 4);
        for answered in 0..4 {
            flow.answered_on(wire, answered)?;
            let frame = flow.frame(wire.mac, u32::try_from(answered)?);
            let got = comes_on(wire, queue, &frame);
            let got = got.with_context(|| format!("flow {number} of table {table:?}"))?;
            ensure!(got.hash == Some(hash), "{:?} is not {hash:?}", got.hash);
        }
    }
    Ok(())
}

/// Traffic one way and then the other. A guest that sends on all queues what the kernel takes for one
/// flow has it come by all of them, and so in no order.
fn both_ways(wire: &mut Wire) -> anyhow::Result<()> {
    wire.run(&Traffic { into: 0, ..SOME })?;
    wire.run(&Traffic { out: 0, ..SOME })?;
    Ok(())
}

#[test]
fn frames_come_with_their_hash_on_the_queue_that_the_table_names() -> anyhow::Result<()> {
    let mut stage = Stage::plain(SHAPE)?;
    let wire = &mut stage.wire;
    ensure!(wire.front.offered().control, "it is not offered");
    let long: Vec<u32> = (0..128).map(|entry| entry * 7 % 4).collect();
    for kinds in [ALL, PLAIN] {
        for table in [&[3, 1, 2, 0][..], &[2], &[0, 1, 2, 3, 3, 2, 1], &long, &[]] {
            follow_table(wire, kinds, table)?;
        }
    }
    // One entry alone is changed.
    hash_by(wire, ALL, &[0; 8])?;
    let place = FLOWS[0].ports % 8;
    wire.front.control()?.entries(place, &[3])?;
    comes_on(wire, 3, &FLOWS[0].frame(wire.mac, 77))?;
    both_ways(wire)?;
    stage.clear()
}

#[test]
fn what_a_backend_can_hash_is_told_once_it_was_chosen() -> anyhow::Result<()> {
    let mut stage = Stage::plain(SHAPE)?;
    let control = stage.wire.front.control()?;
    let early = control.ask(control_type::GET_HASH_FLAGS, [0; 3])?;
    ensure!(early.status == 1, "{early:?}");
    control.algorithm(1)?;
    let kinds = control.order(control_type::GET_HASH_FLAGS, [0; 3])?;
    let entries = control.order(control_type::GET_HASH_MAPPING_SIZE, [0; 3])?;
    ensure!((kinds, entries) == (ALL, 128), "{kinds:#x}, {entries}");
    stage.clear()
}

/// What no kind fits has no hash, and goes where a hash of 0 does.
#[test]
fn frames_without_a_hash_have_a_queue_too() -> anyhow::Result<()> {
    let mut stage = Stage::plain(SHAPE)?;
    let wire = &mut stage.wire;
    hash_by(wire, ALL, &[2, 1, 1, 1])?;
    let arp = [&wire.mac[..], &HOST, &[8, 6, 0, 1], &[7; 46]].concat();
    for queue in 0..4 {
        FLOWS[0].answered_on(wire, queue)?;
        ensure!(comes_on(wire, 2, &arp)?.hash.is_none(), "of ARP");
    }
    // IPv4 only, so IPv6 has none.
    wire.front.control()?.kinds(0b0011)?;
    let ipv6 = FLOWS[5].frame(wire.mac, 1);
    ensure!(comes_on(wire, 2, &ipv6)?.hash.is_none(), "of IPv6");
    let ipv4 = FLOWS[0].frame(wire.mac, 2);
    ensure!(comes_on(wire, 2, &ipv4)?.hash == Some(FLOWS[0].hash(ALL)));
    stage.clear()
}

/// Traffic goes on while hashing comes and goes; a guest that has ended it gets no hash any more, and
/// frames where the kernel brings them.
#[test]
fn hashing_comes_and_goes_under_traffic() -> anyhow::Result<()> {
    let mut stage = Stage::plain(SHAPE)?;
    let wire = &mut stage.wire;
    for round in 0..4_u32 {
        follow_table(wire, ALL, &[round % 4, (round + 1) % 4])?;
        both_ways(wire)?;
        let control = wire.front.control()?;
        match round {
            0 | 1 => control.algorithm(0)?,
            _ => control.kinds(0)?,
        }
        wire.front.expect_hashes(false);
        for queue in 0..4 {
            let flow = &FLOWS[usize::try_from(round)?];
            flow.answered_on(wire, usize::try_from(queue)?)?;
            let frame = flow.frame(wire.mac, 100 + queue);
            comes_on(wire, queue, &frame)?;
        }
        both_ways(wire)?;
    }
    stage.clear()
}

/// Whatever else is said about a frame is said as well.
#[test]
fn long_packets_and_headroom_go_with_a_hash() -> anyhow::Result<()> {
    let shape = NetShape {
        headroom: 256,
        ..SHAPE
    };
    let mut stage = Stage::set(nic().mtu(9000), shape)?;
    let wire = &mut stage.wire;
    hash_by(wire, ALL, &[1])?;
    let payload: Vec<u8> = (0..40_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    for (number, flow) in FLOWS.iter().enumerate().take(6) {
        let segment = flow.segment(wire.mac, 1, &payload);
        let frame = segment.frame(Sum::Blank);
        let (kind, ip) = match segment.ip() {
            Ip::V4 => (Undone::TCPV4, Ip::V4),
            Ip::V6 => (Undone::TCPV6, Ip::V6),
        };
        let undone = Undone {
            checksum: Some((u16::try_from(segment.start())?, 16)),
            valid: false,
            cut: Some((kind, 1400)),
            headers: u16::try_from(segment.headers())?,
        };
        for queue in 0..4 {
            flow.answered_on(wire, queue)?;
            wire.peer.send_undone(&frame, undone)?;
            let got = wire.next(1, |got| got.bytes == frame);
            let got = got.with_context(|| format!("flow {number}, queue {queue}"))?;
            let size = NonZeroU16::new(1400).context("0")?;
            ensure!(got.gso == Some(Gso { ip, size }), "{:?}", got.gso);
            ensure!(got.headroom == Some(256), "{:?}", got.headroom);
            ensure!(got.hash == Some(flow.hash(ALL)), "{:?}", got.hash);
        }
    }
    stage.clear()
}

/// Behind a VLAN tag, a guest gets a long packet in pieces: each has the packet's hash, and its queue.
#[test]
fn pieces_of_a_packet_have_its_hash() -> anyhow::Result<()> {
    let mut stage = Stage::plain(SHAPE)?;
    let wire = &mut stage.wire;
    hash_by(wire, ALL, &[2])?;
    let payload: Vec<u8> = (0..20_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for flow in [&FLOWS[0], &FLOWS[5]] {
        let segment = flow.segment(wire.mac, 1, &payload);
        let frame = segment.frame(Sum::Blank);
        let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        let kind = match segment.ip() {
            Ip::V4 => Undone::TCPV4,
            Ip::V6 => Undone::TCPV6,
        };
        let undone = Undone {
            checksum: Some((u16::try_from(segment.start() + 4)?, 16)),
            valid: false,
            cut: Some((kind, 1400)),
            headers: u16::try_from(segment.headers() + 4)?,
        };
        for queue in 0..4 {
            flow.answered_on(wire, queue)?;
            wire.peer.send_undone(&tagged, undone)?;
            for _ in 0..payload.len().div_ceil(1400) {
                let got = wire.next(2, |got| got.bytes.get(12..14) == Some(&[0x81, 0]))?;
                ensure!(got.hash == Some(flow.hash(ALL)), "{:?}", got.hash);
            }
        }
    }
    stage.clear()
}

#[test]
fn a_guest_with_one_queue_is_told_hashes() -> anyhow::Result<()> {
    let mut stage = Stage::plain(NetShape { queues: 1, ..SHAPE })?;
    let wire = &mut stage.wire;
    hash_by(wire, ALL, &[0; 128])?;
    for flow in &FLOWS {
        let got = comes_on(wire, 0, &flow.frame(wire.mac, 1))?;
        ensure!(got.hash == Some(flow.hash(ALL)), "{:?}", got.hash);
    }
    both_ways(wire)?;
    stage.clear()
}

/// Frames that a queue will not take wait in no memory without bound, and hold up no other queue.
#[test]
fn net_12_a_queue_without_buffers_keeps_only_so_much() -> anyhow::Result<()> {
    const SENT: u32 = 2000;
    const KEPT: u32 = 512;
    let mut stage = Stage::plain(SHAPE)?;
    let wire = &mut stage.wire;
    // Even hashes belong to queue 1, odd ones to queue 0.
    hash_by(wire, ALL, &[1, 0])?;
    let (stuck, other) = (&FLOWS[0], &FLOWS[3]);
    stuck.answered_on(wire, 0)?;
    other.answered_on(wire, 0)?;
    // What is posted by now is all that queue 1 has.
    wire.front.queues()[1].rx.keep_posted(0);
    for seq in 0..SENT {
        wire.peer.send(&stuck.frame(wire.mac, seq))?;
        if seq % 50 == 49 {
            // The kernel brings it behind the others, so they have been handed over when it comes.
            comes_on(wire, 0, &other.frame(wire.mac, seq))?;
        }
    }
    let queue = &mut wire.front.queues()[1];
    queue.rx.keep_posted(256);
    queue.rx.fill()?;
    queue.publish()?;
    for seq in 0..=KEPT {
        let frame = stuck.frame(wire.mac, seq);
        wire.next(1, |got| got.bytes == frame)?;
    }
    let rest = Cell::new(0);
    let last = stuck.frame(wire.mac, u32::MAX);
    wire.peer.send(&last)?;
    wire.next(1, |got| {
        rest.set(rest.get() + 1);
        got.bytes == last
    })?;
    // Each frame takes a buffer, and one more for its hash.
    ensure!(rest.get() <= 256 / 2, "{} more were kept", rest.get());
    stage.clear()
}
