//! What an administrator withholds: guests are told so, do without, and do not get it by asking.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::{
    Cut, Parts, Segment, Sum, number_of, numbered, tcp_flag,
};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Netfront, Packet, Received, Traffic, Wire};
use pv_tests::network::Undone;
use pv_tests::scene::Scene;
use ring_proto::netif::{Extra, Gso, Ip, rx_flag, tx_flag};
use xenbus::State;

use super::{SOME, Stage, nic};

/// A guest of today with two queues, which asks for all there is.
const SHAPE: NetShape = NetShape {
    queues: 2,
    control: true,
    multicast_control: true,
    ..NetShape::LINUX
};

const MSS: u16 = 1400;

fn withheld(key: &str, mtu: u16) -> anyhow::Result<Stage> {
    let config = format!("max-queues = 4\n{key} = false");
    Stage::configured(&config, nic().mtu(mtu), SHAPE)
}

/// A segment for the guest.
fn segment(mac: [u8; 6], payload: &[u8]) -> Segment<'_> {
    let host = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let guest = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    Segment {
        stations: (mac, HOST),
        addresses: (host, guest),
        ports: (80, 1000),
        seq: 7,
        ack: 9,
        flags: tcp_flag::ACK,
        options: &[],
        payload,
    }
}

/// The same the other way.
fn reply(mac: [u8; 6], payload: &[u8]) -> Segment<'_> {
    let there = segment(mac, payload);
    Segment {
        stations: (HOST, mac),
        addresses: (there.addresses.1, there.addresses.0),
        ports: (1000, 80),
        ..there
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(len).collect()
}

/// The guest answers on its first queue, so that the kernel brings it there what comes next.
fn answer_on_first(wire: &mut Wire) -> anyhow::Result<()> {
    transmit(wire, &reply(wire.mac, &[]).frame(Sum::Whole), 0, &[], 0)
}

/// The next TCP segment.
fn tcp(wire: &mut Wire) -> anyhow::Result<Received> {
    wire.next(0, |frame| {
        Parts::of(&frame.bytes).is_some_and(|ip| ip.tcp().is_some())
    })
}

fn transmit(
    wire: &mut Wire,
    frame: &[u8],
    flags: u16,
    extras: &[Extra],
    expected: i16,
) -> anyhow::Result<()> {
    let packet = Packet {
        bytes: frame,
        cuts: &Cut::pages(frame.len()),
        flags,
        extras,
    };
    let status = wire.answer(0, &packet)?;
    ensure!(status == expected, "status {status}");
    Ok(())
}

/// Brings the guest a packet that is to be cut up; what came of it.
fn bring_long(wire: &mut Wire, len: usize) -> anyhow::Result<Vec<Received>> {
    let mac = wire.mac;
    let payload = payload(len);
    let segment = segment(mac, &payload);
    let undone = Undone {
        checksum: Some((u16::try_from(segment.start())?, 16)),
        valid: false,
        cut: Some((Undone::TCPV4, MSS)),
        headers: u16::try_from(segment.headers())?,
    };
    answer_on_first(wire)?;
    wire.peer.send_undone(&segment.frame(Sum::Blank), undone)?;
    let (mut came, mut total) = (Vec::new(), Vec::new());
    while total.len() < len {
        let frame = tcp(wire)?;
        let parts = Parts::of(&frame.bytes).and_then(|parts| parts.tcp());
        total.extend_from_slice(parts.context("it is TCP")?.payload);
        came.push(frame);
    }
    ensure!(total == payload, "other bytes");
    Ok(came)
}

#[test]
fn without_split_event_channels_a_queue_has_one() -> anyhow::Result<()> {
    let mut stage = withheld("split-event-channels", 1500)?;
    let front = &stage.wire.front;
    ensure!(!front.offered().split && front.ports().count() == 2);
    stage.wire.run(&Traffic::MIXED)?;
    stage.clear()
}

/// A guest that has two all the same is told that there is none it could be heard on.
#[test]
fn split_event_channels_that_were_not_offered_are_refused() -> anyhow::Result<()> {
    let mut scene = Scene::networked("split-event-channels = false")?;
    let guest = scene.guest()?;
    let mut device = scene.attach_nic(&guest, &nic())?;
    let mut backend = Netfront::backend(&mut device)?;
    backend.split = true;
    let mut front = Netfront::prepare(device, NetShape::LINUX, backend, 0)?;
    front.device().switch(State::Connected)?;
    let (domid, device) = (guest.domid(), nic().device());
    let why = scene.toolstack().wait_error(domid, device)?;
    ensure!(why.contains("event-channel"), "{why}");
    let closed = [State::Closing, State::Closed];
    front.device().wait_backend(&closed)?;
    scene.destroy(&guest)?;
    scene.no_wrong_done()
}

#[test]
fn without_scatter_gather_a_frame_is_a_page() -> anyhow::Result<()> {
    let mut stage = withheld("scatter-gather", 9000)?;
    let wire = &mut stage.wire;
    let offered = *wire.front.offered();
    ensure!(
        !offered.sg && !offered.gso_v4 && !offered.gso_v6,
        "{offered:?}"
    );
    let sizes = (60, 4096);
    wire.run(&Traffic {
        out: 0,
        sizes,
        ..SOME
    })?;
    wire.run(&Traffic {
        into: 0,
        sizes,
        ..SOME
    })?;
    // One that does not fit does not come, nor in pieces; the next one does.
    for (number, len) in [(1 << 44, 4097), ((1 << 44) + 1, 4096)] {
        transmit(wire, &numbered(HOST, wire.mac, 1, 60), 0, &[], 0)?;
        wire.peer.send(&numbered(wire.mac, HOST, number, len))?;
    }
    let next = wire.next(0, |frame| number_of(&frame.bytes) >= Some(1 << 44))?;
    ensure!(number_of(&next.bytes) == Some((1 << 44) + 1) && next.buffers == 1);
    for frame in bring_long(wire, 20_000)? {
        ensure!((frame.gso, frame.buffers) == (None, 1), "{frame:?}");
    }
    stage.clear()
}

#[test]
fn without_segmentation_offload_packets_are_what_the_wire_takes() -> anyhow::Result<()> {
    let mut stage = withheld("segmentation-offload", 1500)?;
    let wire = &mut stage.wire;
    let offered = *wire.front.offered();
    ensure!(
        offered.sg && !offered.gso_v4 && !offered.gso_v6,
        "{offered:?}"
    );
    wire.run(&SOME)?;
    let came = bring_long(wire, 20_000)?;
    ensure!(came.len() == 15, "in {} pieces", came.len());
    ensure!(came.iter().all(|frame| frame.gso.is_none()));
    // A guest's own is refused.
    wire.forget()?;
    let payload = payload(20_000);
    let frame = reply(wire.mac, &payload).frame(Sum::Blank);
    let size = NonZeroU16::new(MSS).context("0")?;
    let gso = Extra::gso(Gso { ip: Ip::V4, size });
    let flags = tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED;
    transmit(wire, &frame, flags, &[gso], -1)?;
    ensure!(wire.peer.take()?.is_none(), "it got through");
    stage.clear()
}

#[test]
fn without_checksum_offload_a_guest_gets_all_checksums() -> anyhow::Result<()> {
    let mut stage = withheld("checksum-offload", 1500)?;
    let wire = &mut stage.wire;
    let offered = *wire.front.offered();
    ensure!(
        !offered.blank_v6 && !offered.gso_v4 && offered.sg,
        "{offered:?}"
    );
    wire.run(&SOME)?;
    let mac = wire.mac;
    let segment = segment(mac, b"with a checksum");
    let undone = Undone {
        checksum: Some((u16::try_from(segment.start())?, 16)),
        ..Undone::default()
    };
    answer_on_first(wire)?;
    wire.peer.send_undone(&segment.frame(Sum::Blank), undone)?;
    let frame = tcp(wire)?;
    ensure!(frame.bytes == segment.frame(Sum::Whole), "other bytes");
    ensure!(frame.flags & rx_flag::CSUM_BLANK == 0, "{:#x}", frame.flags);
    // Linux leaves IPv4's blank whatever is offered.
    let blank = reply(mac, b"without").frame(Sum::Blank);
    transmit(wire, &blank, tx_flag::CSUM_BLANK, &[], 0)?;
    stage.clear()
}

#[test]
fn without_multicast_control_a_guest_hears_everything() -> anyhow::Result<()> {
    let mut stage = withheld("multicast-control", 1500)?;
    let wire = &mut stage.wire;
    let offered = *wire.front.offered();
    ensure!(!offered.multicast_control && !offered.dynamic_multicast_control);
    let group = [1, 0, 0x5e, 0, 0, 251];
    let join = [Extra::new(Extra::MULTICAST_ADD, group)];
    transmit(wire, &[0; 60], 0, &join, -1)?;
    transmit(wire, &numbered(HOST, wire.mac, 1, 60), 0, &[], 0)?;
    let frame = numbered(group, HOST, 1 << 44, 100);
    wire.peer.send(&frame)?;
    wire.next(0, |got| got.bytes == frame)?;
    stage.clear()
}

#[test]
fn a_control_ring_that_was_not_offered_is_not_touched() -> anyhow::Result<()> {
    let mut scene = Scene::networked("max-queues = 4\ncontrol-ring = false")?;
    let guest = scene.guest()?;
    let mut device = scene.attach_nic(&guest, &nic())?;
    let mut backend = Netfront::backend(&mut device)?;
    ensure!(!backend.control, "it is offered");
    backend.control = true;
    let mut front = Netfront::prepare(device, SHAPE, backend, 0)?;
    front.device().switch(State::Connected)?;
    front.device().wait_backend(&[State::Connected])?;
    let domains = scene.machine().control()?.domains()?;
    let domain = domains.iter().find(|one| one.domid == guest.domid());
    let mapped = domain.context("there is no such guest")?.mapped_pages;
    ensure!(mapped == 4, "{mapped} pages for two queues");
    let peer = scene.peer(&guest, &nic())?;
    let mut wire = Wire::new(front, peer, nic().mac)?;
    wire.run(&SOME)?;
    wire.front.close()?;
    scene.no_wrong_done()
}

#[test]
fn without_headroom_frames_start_where_their_pages_do() -> anyhow::Result<()> {
    let mut stage = withheld("xdp-headroom", 1500)?;
    let wire = &mut stage.wire;
    ensure!(!wire.front.offered().headroom, "it is offered");
    // A guest that asks all the same is answered.
    wire.front.reconfigure(256)?;
    transmit(wire, &numbered(HOST, wire.mac, 1, 60), 0, &[], 0)?;
    let frame = numbered(wire.mac, HOST, 1 << 44, 100);
    wire.peer.send(&frame)?;
    let got = wire.next(0, |got| got.bytes == frame)?;
    ensure!(got.headroom.is_none(), "{:?}", got.headroom);
    wire.front.reconfigure(0)?;
    wire.forget()?;
    wire.run(&SOME)?;
    stage.clear()
}
