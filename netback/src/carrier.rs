//! When a VIF's queues take its carrier away, and give it back.
//!
//! The broker plugs the cable in once all queues serve, and out when it has them closed; a queue
//! whose guest has stopped receiving takes it out meanwhile. As the two do not know of each other,
//! a queue may plug it in again just behind the broker's back. So the first queue that ends
//! plugs it out for good, before it says so, and nobody connects the guest again before all have said
//! so: what the broker finds then is a cable that is out. Only of a worker that is killed in between may it
//! stay in, until the guest connects or its interface goes; no queue takes frames then, and the
//! kernel drops them.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the queues of a VIF know about its carrier. Every change of it is made while nobody else makes
/// one.
#[derive(Debug, Default)]
pub(crate) struct Carrier(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Queues whose guest has stopped receiving.
    stalled: u32,
    /// A queue has ended, and the others will.
    ended: bool,
}

impl Carrier {
    /// A queue's guest has stopped receiving: the first one takes the carrier away; true if this was
    /// it.
    pub(crate) fn note_stalled(&self, plug: impl FnOnce(bool)) -> bool {
        let mut state = self.lock();
        state.stalled += 1;
        let first = state.stalled == 1;
        if first {
            plug(false);
        }
        first
    }

    /// It receives again: the last one gives the carrier back.
    pub(crate) fn note_flowing(&self, plug: impl FnOnce(bool)) {
        let mut state = self.lock();
        state.stalled = state.stalled.saturating_sub(1);
        if state.stalled == 0 && !state.ended {
            plug(true);
        }
    }

    /// A queue ends, and so does the connection.
    pub(crate) fn note_ended(&self, plug: impl FnOnce(bool)) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.ended, true) {
            plug(false);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// A cable: true if it is plugged in.
    #[derive(Debug)]
    struct Cable(AtomicBool);

    impl Cable {
        fn plug(&self, on: bool) {
            thread::yield_now();
            self.0.store(on, Ordering::Relaxed);
        }

        fn is_in(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_first_queue_that_stalls_takes_the_carrier_and_the_last_that_flows_gives_it_back() {
        let (carrier, cable) = (Carrier::default(), Cable(AtomicBool::new(true)));
        let plug = |on| cable.plug(on);
        assert!(carrier.note_stalled(plug));
        assert!(!carrier.note_stalled(plug));
        carrier.note_flowing(plug);
        assert!(!cable.is_in());
        carrier.note_flowing(plug);
        assert!(cable.is_in());
    }

    /// Two queues take turns in being stalled, and change at the same time.
    #[test]
    fn net_12_while_any_queue_is_stalled_there_is_no_carrier() {
        let (carrier, cable) = (Carrier::default(), Cable(AtomicBool::new(true)));
        let (carrier, cable) = (&carrier, &cable);
        let both = &Barrier::new(2);
        let turns = |mut stalled: bool| {
            move || {
                (0..20_000).all(|_| {
                    if stalled {
                        carrier.note_flowing(|on| cable.plug(on));
                    } else {
                        carrier.note_stalled(|on| cable.plug(on));
                    }
                    stalled = !stalled;
                    both.wait();
                    let out = !cable.is_in();
                    both.wait();
                    out
                })
            }
        };
        carrier.note_stalled(|on| cable.plug(on));
        thread::scope(|scope| {
            let queues = [true, false].map(|stalled| scope.spawn(turns(stalled)));
            assert!(
                queues
                    .map(|queue| queue.join().unwrap())
                    .iter()
                    .all(|&out| out)
            );
        });
    }

    #[test]
    fn a_queue_does_not_give_the_carrier_back_when_another_has_ended() {
        let (carrier, cable) = (Carrier::default(), Cable(AtomicBool::new(true)));
        let plug = |on| cable.plug(on);
        carrier.note_stalled(plug);
        // The broker has closed the interface, and this queue has not heard of it.
        cable.plug(false);
        carrier.note_flowing(plug);
        assert!(cable.is_in());
        carrier.note_stalled(plug);
        carrier.note_ended(plug);
        carrier.note_flowing(plug);
        carrier.note_ended(plug);
        assert!(!cable.is_in());
    }
}
