//! What a test makes go wrong.

use std::time::{Duration, Instant};

use xenbus::Errno;
use xenbus::wire::Op;

/// Refuses the next requests of a kind.
#[derive(Clone, Debug)]
struct Refusal {
    /// Any, if none is named.
    op: Option<Op>,
    errno: Errno,
    left: u32,
}

/// Faults that were asked for and are not over.
#[derive(Debug, Default)]
pub(super) struct Faults {
    stalled_until: Option<Instant>,
    refusals: Vec<Refusal>,
    /// All connections are to be dropped.
    pub(super) hang_up: bool,
}

impl Faults {
    /// How long nothing is to be answered yet.
    pub(super) fn stall(&self, now: Instant) -> Option<Duration> {
        self.stalled_until?
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    /// What to answer to a request instead of executing it.
    pub(super) fn refusal(&mut self, op: Op) -> Option<Errno> {
        let applies = |refusal: &&mut Refusal| refusal.op.is_none_or(|wanted| wanted == op);
        let refusal = self.refusals.iter_mut().find(applies)?;
        refusal.left -= 1;
        let errno = refusal.errno.clone();
        self.refusals.retain(|refusal| refusal.left > 0);
        Some(errno)
    }

    /// Takes an order; false when it is none of these.
    pub(super) fn order(&mut self, words: &[&str], now: Instant) -> bool {
        match words {
            ["stall", millis] => match millis.parse() {
                Ok(millis) => self.stalled_until = now.checked_add(Duration::from_millis(millis)),
                Err(_) => return false,
            },
            ["hang-up"] => self.hang_up = true,
            ["refuse", op, errno, count] => match (op.parse(), count.parse()) {
                (Ok(op), Ok(left)) if left > 0 => {
                    let errno = Errno::parse(errno.as_bytes());
                    self.refusals.push(Refusal {
                        op: Op::from_raw(op),
                        errno,
                        left,
                    });
                }
                _ => return false,
            },
            _ => return false,
        }
        true
    }
}
