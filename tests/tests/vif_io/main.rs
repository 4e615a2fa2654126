//! Verified frames both ways between a scripted guest and the host's network, through the real
//! daemon and a real tap, for every shape of a connection.

mod neighbours;
mod offloads;
mod strangers;
mod tags;
mod tcp;

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::{
    Cut, SHORTEST, Segment, Sum, number_of, numbered, tcp_flag,
};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Netfront, Packet, Traffic, Wire};
use pv_tests::network::Peer;
use pv_tests::scene::Scene;
use pv_tests::toolstack::NicLine;

/// The guest's address.
const MAC: [u8; 6] = [0x00, 0x16, 0x3e, 0x01, 0x02, 0x03];

/// Everything that a guest may leave to others, or may be left with.
const NO_OFFLOADS: NetShape = NetShape {
    gso_v4: false,
    gso_v6: false,
    blank_v4: false,
    blank_v6: false,
    ..NetShape::LINUX
};

/// Connects, does something, closes, detaches; nothing may be left.
fn with_wire(
    nic: &NicLine,
    shapes: &[NetShape],
    work: impl Fn(&mut Wire) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut scene = Scene::networked("max-queues = 4")?;
    for &shape in shapes {
        let mut step = || -> anyhow::Result<()> {
            let guest = scene.guest()?;
            let mut wire = scene.wire(&guest, nic, shape)?;
            work(&mut wire)?;
            wire.front.close()?;
            scene.detach_nic(&guest, nic)?;
            scene.wait_unmapped(guest.domid())?;
            scene.destroy(&guest)
        };
        let done = step();
        done.with_context(|| format!("{shape}\n{}", scene.told()))?;
    }
    scene.no_wrong_done()
}

fn passes(nic: &NicLine, shapes: &[NetShape], traffic: &Traffic) -> anyhow::Result<()> {
    with_wire(nic, shapes, |wire| wire.run(traffic).map(drop))
}

#[test]
fn the_most_and_the_least_that_a_frontend_can_be() -> anyhow::Result<()> {
    let shapes = [NetShape::LINUX, NetShape::LEAST];
    passes(&NicLine::new(0, MAC), &shapes, &Traffic::MIXED)
}

#[test]
fn every_set_of_features() -> anyhow::Result<()> {
    let mut shapes = Vec::new();
    for bits in 0_u8..64 {
        let on = |bit: u8| bits >> bit & 1 != 0;
        shapes.push(NetShape {
            split: on(0),
            sg: on(1),
            gso_v4: on(2),
            gso_v6: on(2) && on(3),
            blank_v4: on(3),
            blank_v6: on(4),
            rx_notify: on(5),
            ..NetShape::LINUX
        });
    }
    let traffic = Traffic {
        out: 60,
        into: 60,
        most_slots: 3,
        ..Traffic::MIXED
    };
    passes(&NicLine::new(0, MAC), &shapes, &traffic)
}

#[test]
fn several_queues_with_one_or_two_event_channels_each() -> anyhow::Result<()> {
    let mut shapes = Vec::new();
    for queues in 2..=4 {
        for split in [false, true] {
            shapes.push(NetShape {
                queues,
                split,
                ..NetShape::LINUX
            });
        }
    }
    let traffic = Traffic {
        out: 1000,
        into: 1000,
        ..Traffic::MIXED
    };
    passes(&NicLine::new(0, MAC), &shapes, &traffic)
}

/// The tap chooses the queue by what it knows of a flow; each queue gets some.
#[test]
fn each_queue_gets_frames_of_its_flows() -> anyhow::Result<()> {
    let shape = NetShape {
        queues: 4,
        ..NetShape::LINUX
    };
    with_wire(&NicLine::new(0, MAC), &[shape], |wire| {
        for queue in 0..4_u16 {
            let ports = (1000 + queue, 80);
            let answer = Segment {
                stations: (HOST, MAC),
                addresses: (guest_v4(), host_v4()),
                ports,
                seq: 1,
                ack: 1,
                flags: tcp_flag::ACK,
                options: &[],
                payload: b"hello",
            };
            let said = answer.frame(Sum::Whole);
            let packet = Packet {
                bytes: &said,
                cuts: &Cut::pages(said.len()),
                flags: 0,
                extras: &[],
            };
            // By what the guest sends, the tap learns where it wants a flow.
            anyhow::ensure!(wire.answer(queue.into(), &packet)? == 0);
            let back = Segment {
                stations: (MAC, HOST),
                addresses: (host_v4(), guest_v4()),
                ports: (ports.1, ports.0),
                ..answer
            };
            let frame = back.frame(Sum::Whole);
            wire.peer.send(&frame)?;
            let received = receive(wire, queue.into())?;
            anyhow::ensure!(received.bytes == frame, "another frame");
        }
        Ok(())
    })
}

#[test]
fn long_frames_where_the_mtu_allows_them() -> anyhow::Result<()> {
    let traffic = Traffic {
        sizes: (SHORTEST, 9014),
        most_slots: 8,
        ..Traffic::MIXED
    };
    let nic = NicLine::new(0, MAC).mtu(9000);
    let several = NetShape {
        queues: 2,
        ..NetShape::LINUX
    };
    passes(&nic, &[NetShape::LINUX, NO_OFFLOADS, several], &traffic)
}

/// Frames that end just before, at and behind the end of a buffer (FE-08).
#[test]
fn fe_08_frames_around_the_ends_of_pages() -> anyhow::Result<()> {
    let nic = NicLine::new(0, MAC).mtu(65_521);
    with_wire(&nic, &[NetShape::LINUX], |wire| {
        for pages in [1, 2, 3, 15] {
            for len in pages * 4096 - 2..=pages * 4096 + 2 {
                wire.run(&Traffic {
                    out: 1,
                    into: 1,
                    sizes: (len, len),
                    most_slots: 0,
                })?;
            }
        }
        Ok(())
    })
}

#[test]
fn ring_indices_pass_their_end() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let nic = NicLine::new(0, MAC);
    let device = scene.attach_nic(&guest, &nic)?;
    let front = Netfront::connect_at(device, NetShape::LINUX, u32::MAX - 300)?;
    let peer = Peer::open(scene.network()?, &nic.interface(guest.domid()))?;
    let mut wire = Wire::new(front, peer, MAC)?;
    let told = wire.run(&Traffic {
        out: 2000,
        into: 2000,
        most_slots: 4,
        ..Traffic::MIXED
    });
    told.with_context(|| scene.told())?;
    wire.front.close()?;
    scene.no_wrong_done()
}

/// NET-27: what went through the same memory before is in no frame, and behind none. A buffer that is
/// written to outside of its frame is an error of every test.
#[test]
fn net_27_a_short_frame_has_nothing_of_the_long_one_before() -> anyhow::Result<()> {
    const SECRET: u8 = 0x5e;
    with_wire(&NicLine::new(0, MAC), &[NetShape::LINUX], |wire| {
        wire.forget()?;
        for len in [SHORTEST, 23, 42, 59, 60, 61, 1514] {
            for (to, from) in [(HOST, MAC), (MAC, HOST)] {
                let mut long = numbered(to, from, 1, 1514);
                let body = long.get_mut(SHORTEST..).context("it is short")?;
                body.fill(SECRET);
                let short = numbered(to, from, 2, len);
                for frame in [&long, &short] {
                    let got = if from == MAC {
                        let packet = Packet {
                            bytes: frame,
                            cuts: &Cut::pages(frame.len()),
                            flags: 0,
                            extras: &[],
                        };
                        ensure!(wire.answer(0, &packet)? == 0, "it is not sent");
                        wire.peer.take()?.context("nothing came out")?.bytes
                    } else {
                        wire.peer.send(frame)?;
                        let number = number_of(frame);
                        wire.next(0, |got| number_of(&got.bytes) == number)?.bytes
                    };
                    ensure!(got == *frame, "{len} bytes: {got:x?}");
                }
            }
        }
        Ok(())
    })
}

#[test]
fn net_03_headers_cut_anywhere() -> anyhow::Result<()> {
    with_wire(&NicLine::new(0, MAC), &[NetShape::LINUX], |wire| {
        let segment = Segment {
            stations: (HOST, MAC),
            addresses: (guest_v4(), host_v4()),
            ports: (1000, 80),
            seq: 1,
            ack: 1,
            flags: tcp_flag::ACK,
            options: &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: b"behind headers",
        };
        let frame = segment.frame(Sum::Whole);
        for first in 1..segment.headers() {
            for second in [1, 13, 40] {
                let last = frame.len().saturating_sub(first + second);
                let cuts = [first, second.min(frame.len() - first), last];
                let cuts: Vec<Cut> = cuts
                    .into_iter()
                    .filter(|&len| len > 0)
                    .map(|len| Cut::at(4096 - len, len))
                    .collect();
                let packet = Packet {
                    bytes: &frame,
                    cuts: &cuts,
                    flags: 0,
                    extras: &[],
                };
                anyhow::ensure!(wire.answer(0, &packet)? == 0, "{cuts:?}");
                let seen = seen(wire)?;
                anyhow::ensure!(seen.bytes == frame, "{cuts:?}");
            }
        }
        Ok(())
    })
}

/// The shortest frames there are go through as they are, both ways: nothing is added.
#[test]
fn net_06_short_frames_stay_short() -> anyhow::Result<()> {
    with_wire(&NicLine::new(0, MAC), &[NetShape::LINUX], |wire| {
        for len in SHORTEST..64 {
            let frame = numbered(HOST, MAC, 1 << 40, len);
            let packet = Packet {
                bytes: &frame,
                cuts: &Cut::pages(len),
                flags: 0,
                extras: &[],
            };
            anyhow::ensure!(wire.answer(0, &packet)? == 0, "{len} bytes");
            anyhow::ensure!(seen(wire)?.bytes == frame, "{len} bytes out");
            let frame = numbered(MAC, HOST, 1 << 40, len);
            wire.peer.send(&frame)?;
            anyhow::ensure!(receive(wire, 0)?.bytes == frame, "{len} bytes in");
        }
        Ok(())
    })
}

pub(crate) use support::{guest_v4, guest_v6, host_v4, host_v6, receive, seen};

mod support;
