//! What a queue counts, as its worker says when it ends.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, ensure};
use gntdev::Access;
use pv_tests::frontend::hostile::nics::NetAttacker;
use pv_tests::frontend::netfront::frame::{Segment, Sum, is_filler, numbered, tcp_flag};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Wire};
use pv_tests::network::Undone;
use pv_tests::scene::{Guest, Scene};
use pv_tests::toolstack::NicLine;
use ring_proto::netif::MAX_RX_FRAME;

use super::nic;

/// A daemon that tells.
fn scene() -> anyhow::Result<(Scene, Guest)> {
    let mut scene = Scene::networked_without_daemon("")?;
    scene.start_daemon_at("debug")?;
    let guest = scene.guest()?;
    Ok((scene, guest))
}

/// The only queue has ended, or does so soon; these are its counters.
fn counted<const N: usize>(scene: &Scene, names: [&str; N]) -> anyhow::Result<[u64; N]> {
    let line = scene.daemon()?.wait_log("the queue has ended")?;
    let mut counted = [0; N];
    for (place, name) in counted.iter_mut().zip(names) {
        let number = line.split_once(&format!("{name}: ")).map(|(_, rest)| rest);
        let number = number.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        *place = number
            .with_context(|| format!("{name} is not in {line}"))?
            .parse()?;
    }
    Ok(counted)
}

/// One frame is one, in however many buffers.
#[test]
fn frames_that_cannot_be_copied_are_counted_once_and_not_as_received() -> anyhow::Result<()> {
    let (mut scene, guest) = scene()?;
    let nic = nic().mtu(9000);
    let device = scene.attach_nic(&guest, &nic)?;
    let peer = scene.peer(&guest, &nic)?;
    let mut attacker = NetAttacker::connect(device, peer, nic.mac, 0)?;
    scene.wait_carrier(&nic.interface(guest.domid()), true)?;
    let (bad, good) = (
        attacker.lend(Access::ReadOnly)?,
        attacker.lend(Access::ReadWrite)?,
    );
    for id in 0..60 {
        // Of the first frame all three, of the second only the middle one.
        let is_bad = id < 3 || id == 4;
        attacker.post(id, if is_bad { bad.gref } else { good.gref })?;
    }
    attacker.kick()?;
    for number in 0..5_u64 {
        let frame = numbered(attacker.mac(), HOST, number, 9000);
        attacker.peer.send(&frame)?;
        for _ in 0..3 {
            attacker.received()?;
        }
    }
    scene.destroy(&guest)?;
    let counters = counted(&scene, ["rx_frames", "rx_bytes", "rx_failed"])?;
    ensure!(counters == [3, 27_000, 2], "{counters:?}");
    scene.no_wrong_done()
}

/// The next frame that is none of the hellos is this one, and the counters say so.
fn only_last_comes(
    (mut scene, guest): (Scene, Guest),
    mut wire: Wire,
    nic: &NicLine,
) -> anyhow::Result<()> {
    let last = numbered(wire.mac, HOST, 2, 1000);
    wire.peer.send(&last)?;
    let got = wire.next(0, |frame| !is_filler(&frame.bytes))?;
    ensure!(got.bytes == last, "{} bytes came", got.bytes.len());
    wire.front.close()?;
    scene.detach_nic(&guest, nic)?;
    let counters = counted(&scene, ["rx_long", "rx_dropped", "rx_refused"])?;
    ensure!(counters == [1, 0, 0], "{counters:?}");
    scene.no_wrong_done()
}

/// The administrator raises the MTU later: a guest that posts buffers for what it was told gets no more.
#[test]
fn net_12_a_frame_longer_than_the_mtu_was_is_counted_apart() -> anyhow::Result<()> {
    let (mut scene, guest) = scene()?;
    let nic = nic();
    let shape = NetShape {
        gso_v4: false,
        gso_v6: false,
        buffers: 1,
        ..NetShape::LINUX
    };
    let wire = scene.wire(&guest, &nic, shape)?;
    let interface = nic.interface(guest.domid());
    scene
        .network()?
        .ip(&format!("link set {interface} mtu 9000"))?;
    wire.peer.send(&numbered(wire.mac, HOST, 1, 8000))?;
    only_last_comes((scene, guest), wire, &nic)
}

/// IPv6 has longer packets than netif. The kernel takes a packet for one that is to be cut up, and then
/// finds that it is one piece.
#[test]
fn a_frame_that_is_longer_than_any_is_not_delivered_in_part() -> anyhow::Result<()> {
    let (mut scene, guest) = scene()?;
    let wire = scene.wire(&guest, &nic(), NetShape::LINUX)?;
    let payload = vec![0x5a; 65_515];
    let address = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    let segment = Segment {
        stations: (wire.mac, HOST),
        addresses: (address(1), address(2)),
        ports: (80, 1000),
        seq: 1,
        ack: 1,
        flags: tcp_flag::ACK,
        options: &[],
        payload: &payload,
    };
    let undone = Undone {
        checksum: Some((u16::try_from(segment.start())?, 16)),
        valid: false,
        cut: Some((Undone::TCPV6, 65_534)),
        headers: u16::try_from(segment.headers())?,
    };
    let frame = segment.frame(Sum::Blank);
    ensure!(frame.len() > usize::try_from(MAX_RX_FRAME)?, "it is short");
    wire.peer.send_undone(&frame, undone)?;
    only_last_comes((scene, guest), wire, &nic())
}
