//! A cable between two hosts.

use std::sync::Arc;
use std::thread;

use tun_tap::{Iface, Mode};

use crate::host::Host;

/// Carries frames between an interface of one host and one of another, both of which it makes unless
/// they are there, until the process ends.
pub(crate) fn connect((one, a): (&Host, &'static str), (other, b): (&Host, &'static str)) {
    let open = |host: &Host, name| {
        let opened = host.inside(move || Iface::without_packet_info(name, Mode::Tap));
        Arc::new(opened.join().unwrap().unwrap())
    };
    let (a, b) = (open(one, a), open(other, b));
    for (from, to) in [(Arc::clone(&a), Arc::clone(&b)), (b, a)] {
        thread::spawn(move || {
            let mut frame = [0; 2048];
            while let Ok(len) = from.recv(&mut frame) {
                // Nobody listens at an end that is turned off.
                let _ = to.send(&frame[..len]);
            }
        });
    }
}
