//! Two guests in one bridge: what one says about its frames, and what the other is told.

use anyhow::ensure;
use pv_tests::frontend::netfront::frame::{Cut, Segment, Sum, tcp_flag};
use pv_tests::frontend::netfront::{NetShape, Packet, Received, Wire};
use pv_tests::network::Peer;
use pv_tests::scene::Scene;
use pv_tests::toolstack::NicLine;
use ring_proto::netif::{rx_flag, tx_flag};

use super::{guest_v4, guest_v6, host_v4, host_v6, receive};

/// The addresses of both.
const FIRST: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 1];
const SECOND: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 2];

/// Connects two guests to a bridge; the second one's frontend is of this shape.
fn bridged(
    shape: NetShape,
    work: impl FnOnce(&mut Wire, &mut Wire) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let network = scene.network()?.clone();
    network.ip("link add xenbr0 type bridge")?;
    network.ip("link set xenbr0 up")?;
    let mut connect = |mac, shape| -> anyhow::Result<Wire> {
        let guest = scene.guest()?;
        let mut line = NicLine::new(0, mac);
        line.bridge = Some("xenbr0".into());
        let front = scene.connect_nic(&guest, &line, shape)?;
        Wire::new(front, Peer::open(&network, "xenbr0")?, mac)
    };
    let mut first = connect(FIRST, NetShape::LINUX)?;
    let mut second = connect(SECOND, shape)?;
    work(&mut first, &mut second)?;
    scene.no_wrong_done()
}

/// The first guest sends a frame; what the second one gets.
fn passed(
    first: &mut Wire,
    second: &mut Wire,
    frame: &[u8],
    flags: u16,
) -> anyhow::Result<Received> {
    let packet = Packet {
        bytes: frame,
        cuts: &Cut::pages(frame.len()),
        flags,
        extras: &[],
    };
    let status = first.answer(0, &packet)?;
    ensure!(status == 0, "status {status}");
    receive(second, 0)
}

fn segments(payload: &[u8]) -> [Segment<'_>; 2] {
    let v4 = Segment {
        stations: (SECOND, FIRST),
        addresses: (guest_v4(), host_v4()),
        ports: (1000, 80),
        seq: 7,
        ack: 9,
        flags: tcp_flag::ACK,
        options: &[],
        payload,
    };
    let v6 = Segment {
        addresses: (guest_v6(), host_v6()),
        ..v4
    };
    [v4, v6]
}

/// A guest that lies about its checksum deceives nobody: the other one is told to look by itself.
#[test]
fn net_10_no_guest_is_told_that_another_ones_checksum_is_right() -> anyhow::Result<()> {
    bridged(NetShape::LINUX, |first, second| {
        for segment in segments(b"believe me") {
            for sum in [Sum::Wrong, Sum::Whole] {
                let frame = segment.frame(sum);
                for flags in [tx_flag::DATA_VALIDATED, 0] {
                    let got = passed(first, second, &frame, flags)?;
                    ensure!(got.bytes == frame, "{sum:?}: other bytes");
                    ensure!(got.flags == 0, "{sum:?}: told {:#x}", got.flags);
                }
            }
        }
        Ok(())
    })
}

/// A blank one is filled in by the last who must, over what the bytes are then: it cannot be wrong.
#[test]
fn net_10_a_blank_checksum_between_guests_stays_blank_or_is_made_right() -> anyhow::Result<()> {
    let blank = tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED;
    bridged(NetShape::LINUX, |first, second| {
        for segment in segments(b"finish me") {
            let frame = segment.frame(Sum::Blank);
            let got = passed(first, second, &frame, blank)?;
            let told = rx_flag::CSUM_BLANK | rx_flag::DATA_VALIDATED;
            ensure!(got.bytes == frame && got.flags == told, "{got:?}");
        }
        Ok(())
    })?;
    bridged(NetShape::LEAST, |first, second| {
        for segment in segments(b"finish me") {
            let got = passed(first, second, &segment.frame(Sum::Blank), blank)?;
            ensure!(got.bytes == segment.frame(Sum::Whole), "other bytes");
            ensure!(got.flags & rx_flag::CSUM_BLANK == 0, "{:#x}", got.flags);
        }
        Ok(())
    })
}
