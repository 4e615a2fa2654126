//! NET-14: frames for a guest that somebody outside made, of every kind that its frontend has not
//! agreed to. It gets none of those, and the good ones in between.

use anyhow::ensure;
use pv_tests::frontend::Chance;
use pv_tests::frontend::netfront::frame::{Segment, Sum, number_of, numbered, tcp_flag};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Received, Wire};
use pv_tests::network::Undone;
use pv_tests::toolstack::NicLine;
use ring_proto::netif::{Ip, rx_flag};

use super::{MAC, NO_OFFLOADS, guest_v4, guest_v6, host_v4, host_v6, with_wire};

/// Frames of each test.
const FRAMES: u64 = 400;

const SHAPES: [NetShape; 4] = [
    NetShape::LEAST,
    NO_OFFLOADS,
    NetShape {
        gso_v6: false,
        blank_v4: false,
        ..NetShape::LINUX
    },
    NetShape::LINUX,
];

/// What a guest has agreed to. Of one that takes several pages, that is any length.
fn is_agreed(shape: NetShape, frame: &Received) -> anyhow::Result<()> {
    let blank = frame.flags & rx_flag::CSUM_BLANK != 0;
    match Sum::of(&frame.bytes) {
        Some((ip, _)) if blank => ensure!(shape.takes_blank(ip), "a blank checksum of {ip}"),
        _ => ensure!(!blank, "a blank checksum in what has none"),
    }
    if let Some(gso) = frame.gso {
        ensure!(shape.takes_gso(gso.ip) && blank, "{gso:?}");
    }
    let several = frame.bytes.len() > 4096;
    ensure!(
        shape.sg || !several,
        "{} bytes in one page",
        frame.bytes.len()
    );
    ensure!(!frame.failed, "it could not be copied");
    Ok(())
}

/// Takes everything up to a numbered frame; all of it must be what the guest has agreed to.
fn up_to(wire: &mut Wire, shape: NetShape, number: u64) -> anyhow::Result<()> {
    let frame = numbered(MAC, HOST, number, 100);
    wire.peer.send(&frame)?;
    let mut wrong = Ok(());
    let seen = std::cell::RefCell::new(&mut wrong);
    wire.next(0, |frame| {
        let mut wrong = seen.borrow_mut();
        if wrong.is_ok() {
            **wrong = is_agreed(shape, frame);
        }
        number_of(&frame.bytes) == Some(number)
    })?;
    wrong
}

fn each_shape(send: impl Fn(&mut Wire, &mut Chance) -> anyhow::Result<()>) -> anyhow::Result<()> {
    with_wire(&NicLine::new(0, MAC), &SHAPES, |wire| {
        let shape = *wire.front.shape();
        let mut chance = Chance::new(14);
        for number in 0..FRAMES {
            send(wire, &mut chance)?;
            // No more are under way than the ring holds pieces of the longest.
            if number % 4 == 3 {
                up_to(wire, shape, (1 << 40) + number)?;
            }
        }
        up_to(wire, shape, 1 << 41)
    })
}

fn segment(ip: Ip, payload: &[u8]) -> Segment<'_> {
    let addresses = match ip {
        Ip::V4 => (host_v4(), guest_v4()),
        Ip::V6 => (host_v6(), guest_v6()),
    };
    Segment {
        stations: (MAC, HOST),
        addresses,
        ports: (80, 1000),
        seq: 7,
        ack: 9,
        flags: tcp_flag::ACK,
        options: &[],
        payload,
    }
}

/// Bytes of chance behind Ethernet headers of all kinds, of all lengths.
#[test]
fn net_14_frames_of_chance() -> anyhow::Result<()> {
    each_shape(|wire, chance| {
        let mut frame = [MAC, HOST].concat();
        let kinds = [
            0x0800_u16, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x8847, 0x88cc, 100,
        ];
        frame.extend(kinds[chance.below(8)].to_be_bytes());
        let len = chance.below(1500);
        frame.extend((0..len).map(|_| chance.any().to_be_bytes()[0]));
        if let Some(first) = frame.get_mut(14)
            && !chance.once_in(3)
        {
            *first = [0x45, 0x60, 0x4f][chance.below(3)];
        }
        wire.peer.send(&frame)
    })
}

/// Good packets, one of whose first bytes was changed, with a checksum or cutting up left to others
/// where headers may not say so any more.
#[test]
fn net_14_packets_that_lie_about_themselves() -> anyhow::Result<()> {
    each_shape(|wire, chance| {
        let ip = if chance.once_in(2) { Ip::V4 } else { Ip::V6 };
        let payload = vec![0x5a; [0, 1, 1000, 1400, 9000, 40_000][chance.below(6)]];
        let whole = segment(ip, &payload);
        let mut frame = whole.frame(Sum::Blank);
        let (start, headers) = (
            u16::try_from(whole.start())?,
            u16::try_from(whole.headers())?,
        );
        if !chance.once_in(4) {
            let at = 12 + chance.below(usize::from(headers) - 12);
            // What a blank checksum is made of stays: a sum that nobody could complete is no lie
            // about the packet.
            let summed = match ip {
                Ip::V4 => (16..18).contains(&at) || (26..34).contains(&at),
                Ip::V6 => (18..20).contains(&at) || (22..54).contains(&at),
            };
            let field = usize::from(start) + 16;
            if !summed && !(field..field + 2).contains(&at) {
                frame[at] = chance.any().to_be_bytes()[0];
            }
        }
        let kind = match ip {
            Ip::V4 => Undone::TCPV4,
            Ip::V6 => Undone::TCPV6,
        };
        let size = [1400, 536, 9000][chance.below(3)];
        let cut = (payload.len() > 1400 || chance.once_in(4)).then_some((kind, size));
        let undone = Undone {
            checksum: Some((start, [16, 16, 16, 6][chance.below(4)])),
            valid: false,
            cut,
            headers,
        };
        // The kernel refuses some of them at once.
        let _refused = wire.peer.send_undone(&frame, undone);
        Ok(())
    })
}

/// The hotplug script, or an administrator, raises the MTU of the tap behind everybody's back.
#[test]
fn net_14_a_link_that_takes_longer_frames_than_was_said() -> anyhow::Result<()> {
    let mut scene = pv_tests::scene::Scene::networked("")?;
    for shape in SHAPES {
        let guest = scene.guest()?;
        let line = NicLine::new(0, MAC);
        let mut wire = scene.wire(&guest, &line, shape)?;
        let interface = line.interface(guest.domid());
        scene
            .network()?
            .ip(&format!("link set {interface} mtu 9000"))?;
        for number in 0..100 {
            wire.peer.send(&numbered(
                MAC,
                HOST,
                number,
                4097 + 40 * usize::try_from(number)?,
            ))?;
            let good = (1 << 40) + number;
            wire.peer.send(&numbered(MAC, HOST, good, 100))?;
            let several = std::cell::Cell::new(false);
            wire.next(0, |frame| {
                several.set(several.get() || frame.bytes.len() > 4096);
                number_of(&frame.bytes) == Some(good)
            })?;
            ensure!(shape.sg || !several.get(), "several pages for {shape}");
        }
        wire.front.close()?;
        scene.detach_nic(&guest, &line)?;
        scene.destroy(&guest)?;
    }
    scene.no_wrong_done()
}
