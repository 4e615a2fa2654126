//! The rate of what a guest may transmit: one bucket for all of its queues, changed while it is used.
//!
//! The bound is what is tested, not the time: over any time, no more may pass than the rate allows,
//! a burst, and a frame for each queue. A slow machine passes less.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::{Cut, SHORTEST, Segment, Sum, filler, tcp_flag};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Packet, Traffic};
use pv_tests::toolstack::backend_path;
use ring_proto::netif::{Extra, Gso, Ip, tx_flag};

use super::{SOME, Stage, nic};

/// What may pass at once, as Linux has it.
const BURST: f64 = 131_072.0;

/// Bytes of each frame.
const FRAME: usize = 1514;

/// Sends so many frames of [`FRAME`] bytes, and holds what passes against a rate in bytes a second.
fn measured(stage: &mut Stage, frames: u64, rate: f64) -> anyhow::Result<()> {
    let queues = stage.wire.front.queues().len();
    let started = Instant::now();
    stage.wire.run(&Traffic {
        out: frames,
        into: 0,
        sizes: (FRAME, FRAME),
        most_slots: 0,
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let passed = frames as f64 * FRAME as f64;
    let ahead = queues as f64 * FRAME as f64;
    ensure!(
        passed <= rate * seconds + BURST + ahead,
        "{passed} bytes passed in {seconds} s, the rate is {rate}"
    );
    Ok(())
}

fn set_rate(stage: &mut Stage, rate: Option<&str>) -> anyhow::Result<()> {
    let path = backend_path(stage.guest.domid(), stage.nic.device()) + "/rate";
    let store = stage.scene.toolstack().store();
    match rate {
        Some(rate) => store.write(&path, rate)?,
        None => store.remove(&path).map(drop)?,
    }
    Ok(())
}

#[test]
fn a_rate_holds_for_all_queues_together() -> anyhow::Result<()> {
    let mut limited = nic();
    // A megabyte in a second.
    limited.rate = Some((50_000, 50_000));
    for queues in [1, 4] {
        let shape = NetShape {
            queues,
            ..NetShape::LINUX
        };
        let mut stage = Stage::set(limited.clone(), shape)?;
        let step = measured(&mut stage, 500, 1e6);
        step.with_context(|| format!("{queues} queues\n{}", stage.scene.told()))?;
        stage.clear()?;
    }
    Ok(())
}

/// The shortest frames cost as much as others, and those that are to be cut up as their pieces.
#[test]
fn net_11_packets_are_counted_whatever_their_length() -> anyhow::Result<()> {
    // Packets a second, and at once.
    const RATE: f64 = 1000.0;
    const AT_ONCE: f64 = 256.0;
    for queues in [1, 4] {
        let shape = NetShape {
            queues,
            ..NetShape::LINUX
        };
        let mut stage = Stage::configured("max-queues = 4\npacket-rate = 1000", nic(), shape)?;
        let started = Instant::now();
        stage.wire.run(&Traffic {
            out: 700,
            into: 0,
            sizes: (SHORTEST, SHORTEST),
            most_slots: 0,
        })?;
        let allowed = RATE * started.elapsed().as_secs_f64() + AT_ONCE + f64::from(queues);
        ensure!(700.0 <= allowed, "700 frames where {allowed} may pass");
        stage.clear()?;
    }
    let mut stage = Stage::configured("packet-rate = 1000", nic(), NetShape::LINUX)?;
    let started = Instant::now();
    let (packets, pieces) = (15, 44);
    for _ in 0..packets {
        let status = stage
            .wire
            .answer(0, &long(&stage.wire.mac, pieces)?.packet())?;
        ensure!(status == 0, "status {status}");
    }
    let allowed = RATE * started.elapsed().as_secs_f64() + AT_ONCE + f64::from(pieces) + 1.0;
    let passed = f64::from(packets * pieces);
    ensure!(
        passed <= allowed,
        "{passed} pieces where {allowed} may pass"
    );
    stage.wire.forget()?;
    stage.clear()
}

/// A guest that sends nonsense is held back as one that sends frames.
#[test]
fn net_11_what_is_refused_is_counted_too() -> anyhow::Result<()> {
    let mut stage = Stage::configured("packet-rate = 1000", nic(), NetShape::LINUX)?;
    let started = Instant::now();
    for number in 0..700 {
        // No Ethernet header fits.
        let none = Packet {
            bytes: &[7; 13],
            cuts: &Cut::pages(13),
            flags: 0,
            extras: &[],
        };
        let joins = [Extra::new(Extra::MULTICAST_ADD, [1, 0, 0x5e, 1, 2, 3])];
        let joins = Packet {
            bytes: &[7; 60],
            cuts: &Cut::pages(60),
            flags: 0,
            extras: &joins,
        };
        let packet = if number % 2 == 0 { none } else { joins };
        stage.wire.answer(0, &packet)?;
    }
    let allowed = 1000.0 * started.elapsed().as_secs_f64() + 256.0 + 1.0;
    ensure!(700.0 <= allowed, "700 packets where {allowed} may pass");
    stage.wire.forget()?;
    stage.clear()
}

/// A TCP packet, and into what it is to be cut up.
struct Long {
    bytes: Vec<u8>,
    cuts: Vec<Cut>,
    extras: [Extra; 1],
}

impl Long {
    fn packet(&self) -> Packet<'_> {
        Packet {
            bytes: &self.bytes,
            cuts: &self.cuts,
            flags: tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED,
            extras: &self.extras,
        }
    }
}

fn long(mac: &[u8; 6], pieces: u32) -> anyhow::Result<Long> {
    let size = NonZeroU16::new(1400).context("0")?;
    let payload = vec![7; usize::from(size.get()) * usize::try_from(pieces)?];
    let segment = Segment {
        stations: (HOST, *mac),
        addresses: ([192, 0, 2, 2].into(), [192, 0, 2, 1].into()),
        ports: (1000, 80),
        seq: 1,
        ack: 1,
        flags: tcp_flag::ACK,
        options: &[],
        payload: &payload,
    };
    let bytes = segment.frame(Sum::Blank);
    Ok(Long {
        cuts: Cut::pages(bytes.len()),
        bytes,
        extras: [Extra::gso(Gso { ip: Ip::V4, size })],
    })
}

#[test]
fn a_rate_is_changed_while_it_is_used() -> anyhow::Result<()> {
    let mut limited = nic();
    // A kilobyte in a second: after the first burst, next to nothing.
    limited.rate = Some((1000, 1_000_000));
    let mut stage = Stage::set(limited, NetShape::LINUX)?;
    hold(&mut stage)?;
    // What was held back goes on at once, and not after the minutes that it had cost.
    set_rate(&mut stage, Some("50000,50000"))?;
    released(&mut stage)?;
    measured(&mut stage, 300, 1e6)?;
    set_rate(&mut stage, Some("1000,1000000"))?;
    hold(&mut stage)?;
    set_rate(&mut stage, None)?;
    released(&mut stage)?;
    stage.wire.run(&Traffic {
        out: 2000,
        ..Traffic::MIXED
    })?;
    stage.clear()
}

/// Fills the ring until frames are held back: more than a burst is written.
fn hold(stage: &mut Stage) -> anyhow::Result<()> {
    let frame = filler(HOST, stage.wire.mac, FRAME);
    let mut written = 0;
    while written < 250 {
        let queue = &mut stage.wire.front.queues()[0];
        let packet = Packet {
            bytes: &frame,
            cuts: &Cut::pages(FRAME),
            flags: 0,
            extras: &[],
        };
        while queue.tx.take()?.is_some() {}
        match queue.tx.send(&packet)? {
            Some(_) => written += 1,
            None => break,
        }
        queue.publish()?;
    }
    let queue = &mut stage.wire.front.queues()[0];
    ensure!(queue.tx.open() > 0, "nothing is held back");
    Ok(())
}

/// Everything that was held back is answered.
fn released(stage: &mut Stage) -> anyhow::Result<()> {
    let limit = Duration::from_secs(10);
    let deadline = Instant::now() + limit;
    loop {
        let queue = &mut stage.wire.front.queues()[0];
        while let Some(sent) = queue.tx.take()? {
            ensure!(sent.status == 0, "{sent:?}");
        }
        if queue.tx.open() == 0 {
            return stage.wire.forget();
        }
        if !queue.tx.rearm()? {
            let left = deadline.saturating_duration_since(Instant::now());
            let told = || format!("held back still\n{}", stage.scene.told());
            ensure!(!left.is_zero(), told());
            stage.wire.front.wait(left)?;
        }
    }
}

/// By a rate at which one frame takes minutes.
#[test]
fn a_guest_that_is_held_back_for_long_is_not_when_its_rate_is_lifted() -> anyhow::Result<()> {
    let mut limited = nic();
    limited.rate = Some((10, 1_000_000));
    let mut stage = Stage::set(limited, NetShape::LINUX)?;
    hold(&mut stage)?;
    set_rate(&mut stage, None)?;
    released(&mut stage)?;
    stage.clear()
}

/// What waits for the rate is nothing that was asked for: ringing for it is ringing for nothing.
#[test]
fn rng_05_a_guest_that_is_held_back_is_not_heard_for_ringing() -> anyhow::Result<()> {
    let mut limited = nic();
    limited.rate = Some((1000, 1_000_000));
    let mut stage = Stage::set(limited, NetShape::LINUX)?;
    hold(&mut stage)?;
    let port = stage.wire.front.ports().next().context("no port")?;
    let masked = (0..1000).find_map(|_| {
        let rung = port.notify();
        let heard = port.is_heard(Duration::from_millis(300));
        (rung.is_err() || !heard).then_some(rung)
    });
    masked.with_context(|| format!("every ring was heard\n{}", stage.scene.told()))??;
    set_rate(&mut stage, None)?;
    released(&mut stage)?;
    stage.clear()
}

/// What a guest receives has no limit, and one that is held back can be closed and destroyed.
#[test]
fn a_guest_that_is_held_back_receives_and_goes() -> anyhow::Result<()> {
    let mut limited = nic();
    limited.rate = Some((1000, 1_000_000));
    for ends in 0..3 {
        let mut stage = Stage::set(limited.clone(), NetShape::LINUX)?;
        hold(&mut stage)?;
        stage.wire.run(&Traffic {
            out: 0,
            into: 500,
            ..SOME
        })?;
        let Stage {
            mut scene,
            guest,
            nic,
            wire,
        } = stage;
        match ends {
            0 => drop(wire.front.close()?),
            1 => {
                let (domid, device) = (guest.domid(), nic.device());
                scene.toolstack().ask_to_close(domid, device, false)?;
                wire.front.follow_closing()?;
            }
            _ => {}
        }
        scene.destroy(&guest)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}
