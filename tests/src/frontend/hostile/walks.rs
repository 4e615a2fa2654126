//! CON-03, CON-05: a frontend that writes states and keys in no order, and without end.

use std::time::{Duration, Instant};

use xenbus::State;

use crate::frontend::Device;
use crate::frontend::{Chance, Shape, keys};

/// Writes all 81 pairs of states, one after the other, without waiting for anything.
///
/// # Errors
/// The store is lost.
pub fn all_pairs(device: &mut Device) -> anyhow::Result<()> {
    for first in State::ALL {
        for second in State::ALL {
            device.switch(first)?;
            device.switch(second)?;
        }
    }
    Ok(())
}

/// Writes states that are none.
///
/// # Errors
/// The store is lost.
pub fn impossible_states(device: &mut Device) -> anyhow::Result<()> {
    let path = format!("{}/state", device.frontend());
    let digits = [b'3'; 2000];
    let values: [&[u8]; 9] = [
        b"", b"9", b"-1", b" 3", b"3 ", b"3\0", b"\xff", b"03", &digits,
    ];
    for value in values {
        device.store().write(&path, value)?;
    }
    Ok(())
}

/// Removes its directory, brings it back, removes parts of it, in any order.
///
/// # Errors
/// The store is lost.
pub fn tear_at_the_directory(device: &mut Device) -> anyhow::Result<()> {
    let frontend = device.frontend().to_owned();
    let mut chance = Chance::new(9);
    for _ in 0..200 {
        let key = ["state", "ring-ref", "event-channel", "protocol", "backend"][chance.below(5)];
        let path = format!("{frontend}/{key}");
        if chance.once_in(2) {
            device.store().remove(&path)?;
        } else {
            let value = chance.below(9).to_string();
            device.store().write(&path, value)?;
        }
    }
    device.store().remove(&format!("{frontend}/state"))?;
    Ok(())
}

/// Rewrites a node that the backend watches, as fast as the store takes it.
///
/// # Errors
/// The store is lost.
pub fn rewrite_for(device: &mut Device, time: Duration) -> anyhow::Result<u32> {
    let until = Instant::now() + time;
    let path = format!("{}/state", device.frontend());
    let mut count = 0;
    while Instant::now() < until {
        device.store().write(&path, State::Initialising.value())?;
        count += 1;
    }
    Ok(count)
}

/// Offers rings that are not there and says that it is ready, again and again.
///
/// # Errors
/// The store is lost.
pub fn hollow_offers(device: &mut Device, times: usize) -> anyhow::Result<()> {
    let ring = keys::RingKeys {
        refs: vec![ring_proto::GrantRef::new(77)],
        port: evtchn::RemotePort(77),
    };
    let offer = keys::offer(&Shape::LINUX, &[ring]);
    for _ in 0..times {
        device.offer(&offer)?;
        for state in [
            State::Initialised,
            State::Closing,
            State::Closed,
            State::Initialising,
        ] {
            device.switch(state)?;
        }
    }
    Ok(())
}
