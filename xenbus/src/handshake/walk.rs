//! The rules: for each phase, what the store's nodes make of it.

use super::guest::Guest;
use super::{Action, Connects, Handshake, Phase, Why};
use crate::snapshot::{Hotplug, Seen, Snapshot};
use crate::state::State;

pub(super) type Step = (Phase, Vec<Action>);

impl Handshake {
    pub(super) fn look(&self, seen: &Snapshot) -> Step {
        match self.phase {
            Phase::Unseen => self.unseen(seen),
            Phase::Waiting => self.waiting(seen),
            Phase::Connecting { adopting } => self.connecting(adopting, seen),
            Phase::Serving => serving(seen),
            Phase::Closing { serving } => self.closing(serving, seen),
            Phase::Closed { armed } => self.closed(armed, seen),
            Phase::Draining | Phase::Forgotten => (self.phase, vec![]),
        }
    }

    /// Nothing is held and nothing is known but what the store says: the start, also after a
    /// restart of ours.
    fn unseen(&self, seen: &Snapshot) -> Step {
        let Seen::At(backend) = seen.backend else {
            return refuse(Why::BackendState(seen.backend), seen);
        };
        let busy = matches!(Guest::of(seen), Guest::Closing | Guest::Reconfiguring);
        let connected = seen.alive && seen.frontend.is(State::Connected);
        let in_use = busy || connected || (backend == State::Connected && self.offers(seen));
        match backend {
            State::Closed => self.closed(true, seen),
            State::Connected | State::Closing if in_use && seen.paired => {
                (Phase::Connecting { adopting: true }, vec![Action::Adopt])
            }
            State::Connected | State::Closing => shut(seen, true),
            State::Initialising | State::InitWait if !seen.online => shut(seen, false),
            State::Initialising | State::InitWait if !seen.paired => refuse(Why::Unpaired, seen),
            // A guest that is not there yet, or no more: the toolstack will say which.
            State::Initialising if Guest::of(seen) == Guest::Left => (Phase::Unseen, vec![]),
            State::Initialising | State::InitWait if Guest::of(seen) != Guest::Left => {
                (Phase::Waiting, vec![Action::Advertise])
            }
            State::InitWait => shut(seen, true),
            _ => refuse(Why::BackendState(seen.backend), seen),
        }
    }

    fn waiting(&self, seen: &Snapshot) -> Step {
        match seen.backend {
            // Our write was lost, or the directory was replaced by a new one.
            Seen::At(State::Initialising) => self.unseen(seen),
            Seen::At(State::InitWait) if !seen.online => shut(seen, false),
            Seen::At(State::InitWait) if !seen.paired => refuse(Why::Unpaired, seen),
            Seen::At(State::InitWait) => match Guest::of(seen) {
                Guest::Left | Guest::Closed => shut(seen, true),
                Guest::Closing => (
                    Phase::Closing { serving: false },
                    vec![Action::Switch(State::Closing)],
                ),
                Guest::Illegal => refuse(Why::FrontendState(seen.frontend), seen),
                _ if seen.hotplug == Hotplug::Failed => refuse(Why::Hotplug, seen),
                _ if seen.hotplug == Hotplug::Ready && self.offers(seen) => {
                    (Phase::Connecting { adopting: false }, vec![Action::Connect])
                }
                _ => (Phase::Waiting, vec![]),
            },
            Seen::At(State::Closing) => shut(seen, false),
            // Our write was lost on the way out of Closed; or the toolstack closed it, which comes
            // to the same.
            Seen::At(State::Closed) => self.closed(true, seen),
            other => refuse(Why::BackendState(other), seen),
        }
    }

    pub(super) fn connecting(&self, adopting: bool, seen: &Snapshot) -> Step {
        let expected = match seen.backend {
            Seen::At(State::InitWait) => !adopting,
            Seen::At(State::Connected | State::Closing) => adopting,
            _ => false,
        };
        match (seen.backend, Guest::of(seen)) {
            (Seen::At(State::Initialising | State::Closing | State::Closed), _) if !expected => {
                drain(&[])
            }
            (other, _) if !expected => drain(&[
                Action::Fail(Why::BackendState(other)),
                Action::Switch(State::Closing),
            ]),
            (_, Guest::Illegal) => frontend_illegal(seen),
            (_, Guest::Left | Guest::Closed | Guest::Starting) => {
                drain(&[Action::Switch(State::Closing)])
            }
            (_, Guest::Closing) if !adopting => drain(&[Action::Switch(State::Closing)]),
            _ => (Phase::Connecting { adopting }, vec![]),
        }
    }

    fn closing(&self, serving: bool, seen: &Snapshot) -> Step {
        let stay = match Guest::of(seen) {
            Guest::Ready | Guest::Reconfiguring => serving,
            Guest::Closing => serving || seen.online,
            Guest::Starting | Guest::Closed | Guest::Left | Guest::Illegal => false,
        };
        match seen.backend {
            Seen::At(State::Initialising | State::Closed) if serving => drain(&[]),
            Seen::At(State::Initialising) => self.unseen(seen),
            Seen::At(State::Closed) => self.closed(true, seen),
            Seen::At(State::Closing) if stay => (self.phase, vec![]),
            Seen::At(State::Closing) if serving => drain(&[]),
            _ if stay => (self.phase, vec![Action::Switch(State::Closing)]),
            _ if serving => drain(&[Action::Switch(State::Closing)]),
            _ => shut(seen, true),
        }
    }

    fn closed(&self, armed: bool, seen: &Snapshot) -> Step {
        let starting = Guest::of(seen) == Guest::Starting;
        match seen.backend {
            Seen::At(State::Initialising) => self.unseen(seen),
            Seen::At(State::Closed) if starting && armed && seen.online && seen.paired => {
                (Phase::Waiting, vec![Action::Advertise])
            }
            Seen::At(State::Closed) => (
                Phase::Closed {
                    armed: armed || !starting,
                },
                vec![],
            ),
            _ => shut(seen, armed),
        }
    }

    /// Everything is let go of.
    pub(super) fn drained(&self, seen: &Snapshot) -> Step {
        match (seen.backend, Guest::of(seen)) {
            (Seen::Gone, _) => (Phase::Forgotten, vec![Action::Forget]),
            (Seen::At(State::Initialising), _) => self.unseen(seen),
            (Seen::At(State::Closed), _) => self.closed(true, seen),
            (_, Guest::Closing) if seen.online => (
                Phase::Closing { serving: false },
                vec![Action::Switch(State::Closing)],
            ),
            _ => shut(seen, true),
        }
    }

    /// Nothing is held, though it should be.
    pub(super) fn failed(&self, seen: &Snapshot) -> Step {
        match seen.backend {
            Seen::Gone => (Phase::Forgotten, vec![Action::Forget]),
            _ => refuse(Why::Device, seen),
        }
    }

    /// A network backend at Reconfigured is connected, whatever happens next.
    pub(super) fn without_reconfigured(&self, seen: &Snapshot) -> Snapshot {
        let ours = self.connects == Connects::WhenConnected && seen.backend.is(State::Reconfigured);
        Snapshot {
            backend: if ours {
                Seen::At(State::Connected)
            } else {
                seen.backend
            },
            ..*seen
        }
    }

    /// What a device that is served, and shall go on so, answers to a wish for a change.
    pub(super) fn reconfigured(&self, seen: &Snapshot) -> Option<Action> {
        let network = self.connects == Connects::WhenConnected;
        match (seen.backend, seen.frontend) {
            (Seen::At(State::Connected), Seen::At(State::Reconfiguring)) if network => {
                Some(Action::Reconfigure)
            }
            (Seen::At(State::Reconfigured), Seen::At(State::Connected)) if network => {
                Some(Action::Switch(State::Connected))
            }
            _ => None,
        }
    }

    fn offers(&self, seen: &Snapshot) -> bool {
        let early =
            self.connects == Connects::WhenInitialised && seen.frontend.is(State::Initialised);
        seen.alive && (early || seen.frontend.is(State::Connected))
    }
}

pub(super) fn connected(adopting: bool, seen: &Snapshot, look: Step) -> Step {
    match look {
        (Phase::Connecting { .. }, _) if !adopting => (Phase::Serving, vec![Action::Publish]),
        (Phase::Connecting { .. }, _) if seen.backend.is(State::Closing) => {
            (Phase::Closing { serving: true }, vec![])
        }
        (Phase::Connecting { .. }, _) => serving(seen),
        elsewhere => elsewhere,
    }
}

fn serving(seen: &Snapshot) -> Step {
    match (seen.backend, Guest::of(seen)) {
        (Seen::At(State::Initialising | State::Closed), _) => drain(&[]),
        (Seen::At(State::InitWait | State::Connected), Guest::Illegal) => frontend_illegal(seen),
        (
            Seen::At(State::InitWait | State::Connected),
            Guest::Left | Guest::Closed | Guest::Starting,
        ) => drain(&[Action::Switch(State::Closing)]),
        (Seen::At(State::InitWait | State::Connected), Guest::Closing) => (
            Phase::Closing { serving: true },
            vec![Action::Switch(State::Closing)],
        ),
        (Seen::At(State::Connected), Guest::Ready | Guest::Reconfiguring) => {
            (Phase::Serving, vec![])
        }
        // Our write was lost.
        (Seen::At(State::InitWait), Guest::Ready | Guest::Reconfiguring) => {
            (Phase::Serving, vec![Action::Publish])
        }
        (Seen::At(State::Closing), Guest::Ready | Guest::Reconfiguring | Guest::Closing) => {
            (Phase::Closing { serving: true }, vec![])
        }
        (Seen::At(State::Closing), _) => drain(&[]),
        (other, _) => drain(&[
            Action::Fail(Why::BackendState(other)),
            Action::Switch(State::Closing),
        ]),
    }
}

fn frontend_illegal(seen: &Snapshot) -> Step {
    drain(&[
        Action::Fail(Why::FrontendState(seen.frontend)),
        Action::Switch(State::Closing),
    ])
}

pub(super) fn drain(before: &[Action]) -> Step {
    (
        Phase::Draining,
        before.iter().copied().chain([Action::Disconnect]).collect(),
    )
}

/// Closes a device that holds nothing, through every state in between.
fn shut(seen: &Snapshot, armed: bool) -> Step {
    let armed = armed || Guest::of(seen) != Guest::Starting;
    let actions = match seen.backend {
        Seen::Gone => return (Phase::Forgotten, vec![Action::Forget]),
        Seen::At(State::Closed) => vec![],
        Seen::At(State::Closing | State::Initialising) => vec![Action::Switch(State::Closed)],
        _ => vec![
            Action::Switch(State::Closing),
            Action::Switch(State::Closed),
        ],
    };
    (Phase::Closed { armed }, actions)
}

fn refuse(why: Why, seen: &Snapshot) -> Step {
    let (phase, mut actions) = shut(seen, false);
    actions.insert(0, Action::Fail(why));
    (phase, actions)
}
