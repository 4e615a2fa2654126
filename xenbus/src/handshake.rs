//! What a backend does next: the split-driver handshake as a pure, level-triggered state machine.
//!
//! Watches say that something changed, not what; they come late, twice, or folded into one. So the
//! machine is never told about changes. It is shown what is ([`Snapshot`]) together with why it is
//! asked now ([`Event`]), and answers with what to do ([`Action`]). Asking once too often is
//! harmless. The walk of a device:
//!
//! ```text
//! Unseen ── Advertise ──▶ Waiting (2) ── hotplug ready, frontend 3 or 4: Connect ──▶ Connecting
//!   │ restart, both sides at 4: Adopt ───────────────────────────────────────────────▶ │ Connected: Publish
//!   ▼                                                                                  ▼
//! Closed (6) ◀─ Disconnected ── Draining ◀── frontend 6, gone: Disconnect ── Closing (5) ◀── frontend 5 ── Serving (4)
//!   │ frontend starts over (1): Advertise again         directory removed, at any time: Forget
//! ```
//!
//! The rules come from Linux's `drivers/block/xen-blkback/xenbus.c`,
//! `drivers/net/xen-netback/xenbus.c` and `drivers/xen/xenbus/xenbus_client.c`, and from what libxl
//! waits for (`libxl_device.c`). Where they go further:
//!
//! * A frontend that never started cannot close; the kernel lets libxl run into its 10 s time-out.
//!   We close at once.
//! * Requests are still served while the frontend is Closing: it may be waiting for them.
//! * Every state in between is written. A rebooted guest kernel waits 5 s for each of 5, 6 and 2,
//!   per device; so 5 is held until the frontend has seen it.
//! * A frontend that asks to be reconfigured (7) gets no answer: nothing of a block device can be.
//! * A state that nobody may write, on either side, closes the device.

use crate::snapshot::{Hotplug, Seen, Snapshot};
use crate::state::State;

/// When a frontend's rings are worth looking at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Connects {
    /// Block: at Initialised (3) or Connected (4).
    WhenInitialised,
    /// Network: at Connected (4), where netfront goes on its own.
    WhenConnected,
}

/// Why the machine is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Something may have changed in the store; or nothing, it is just time to look again.
    Look,
    /// The device serves its rings, as [`Action::Connect`] or [`Action::Adopt`] asked.
    Connected,
    /// The device has let go of everything, as [`Action::Disconnect`] asked.
    Disconnected,
    /// Connecting did not work, or the device died: nothing is held any more.
    Failed,
    /// The guest broke the protocol. The device has stopped, but still holds what it held.
    Faulted,
}

/// What is to be done, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Set up what the frontend needs to know, and write it together with state InitWait
    /// ([`crate::switch_state_with`]). If that cannot be done, the event is [`Event::Failed`].
    Advertise,
    /// Read the frontend's offer and serve it. Ends in [`Event::Connected`] or [`Event::Failed`].
    Connect,
    /// As [`Action::Connect`], for rings that an earlier process of ours has served, with requests
    /// possibly under way.
    Adopt,
    /// Write what is known only now, together with state Connected.
    Publish,
    /// Finish what is under way and let go of rings, ports and grants. Ends in
    /// [`Event::Disconnected`], also when connecting had not come to its end.
    Disconnect,
    /// Write this state ([`crate::switch_state`]).
    Switch(State),
    /// Write the error node and the log, once.
    Fail(Why),
    /// The device is no more: drop it and write nothing. If its directory exists when looked at
    /// again, it is a new device of the same name.
    Forget,
}

/// Why a device is closed against the guest's or the toolstack's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Somebody wrote a state to our node that only we, or nobody, may write.
    BackendState(Seen),
    /// The frontend is in a state in which no frontend can be.
    FrontendState(Seen),
    /// The `frontend` key names another place than the device's own.
    Unpaired,
    /// The hotplug script failed; `hotplug-error` has its text.
    Hotplug,
    /// The device reported it with [`Event::Failed`] or [`Event::Faulted`].
    Device,
}

/// Where the walk has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing was decided yet.
    Unseen,
    /// Advertised; waiting for the hotplug script and the frontend.
    Waiting,
    /// Asked to connect, or to adopt.
    Connecting {
        /// Both sides were connected when first seen: no state is written.
        adopting: bool,
    },
    /// In use.
    Serving,
    /// Closing, until the frontend is closed.
    Closing {
        /// Rings are still served.
        serving: bool,
    },
    /// Asked to disconnect.
    Draining,
    /// Closed, and open for a frontend that starts over.
    Closed {
        /// The frontend has been away from Initialising since: being there again means that it
        /// starts over.
        armed: bool,
    },
    /// The end.
    Forgotten,
}

/// The state of one device's handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handshake {
    connects: Connects,
    phase: Phase,
    reconnects: u32,
}

type Step = (Phase, Vec<Action>);

impl Handshake {
    /// A device seen for the first time, by this process.
    #[must_use]
    pub fn new(connects: Connects) -> Self {
        Self {
            connects,
            phase: Phase::Unseen,
            reconnects: 0,
        }
    }

    /// Where the walk has come to.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How often the frontend has started over. Whoever executes [`Action::Advertise`] may delay it
    /// by this: it is the guest that decides how often (a closed device stays as it is until then).
    #[must_use]
    pub fn reconnects(&self) -> u32 {
        self.reconnects
    }

    /// Decides what to do. `seen` must have been read after all earlier actions were executed.
    #[must_use]
    pub fn decide(self, event: Event, seen: &Snapshot) -> (Self, Vec<Action>) {
        let (phase, actions) = self.step(event, seen);
        let again =
            matches!(self.phase, Phase::Closed { .. } | Phase::Draining) && phase == Phase::Waiting;
        (
            Self {
                phase,
                reconnects: self.reconnects.saturating_add(u32::from(again)),
                ..self
            },
            actions,
        )
    }

    fn step(&self, event: Event, seen: &Snapshot) -> Step {
        let phase = self.phase;
        let held = matches!(
            phase,
            Phase::Connecting { .. } | Phase::Serving | Phase::Closing { serving: true }
        );
        match (phase, event) {
            (Phase::Forgotten, _) => (phase, vec![]),
            (Phase::Draining, Event::Disconnected | Event::Failed) => self.drained(seen),
            (Phase::Draining, _) => (phase, vec![]),
            (_, Event::Failed | Event::Disconnected) if held => self.failed(seen),
            (Phase::Waiting, Event::Failed) => self.failed(seen),
            (_, Event::Faulted) if held => {
                drain(&[Action::Fail(Why::Device), Action::Switch(State::Closing)])
            }
            (_, _) if held && seen.backend == Seen::Gone => drain(&[]),
            (_, _) if seen.backend == Seen::Gone => (Phase::Forgotten, vec![Action::Forget]),
            (Phase::Connecting { adopting }, Event::Connected) => {
                connected(adopting, seen, self.connecting(adopting, seen))
            }
            _ => self.look(seen),
        }
    }

    fn look(&self, seen: &Snapshot) -> Step {
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
        let in_use = matches!(Guest::of(seen), Guest::Closing | Guest::Reconfiguring)
            || (backend == State::Connected && self.offers(seen));
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

    fn connecting(&self, adopting: bool, seen: &Snapshot) -> Step {
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
    fn drained(&self, seen: &Snapshot) -> Step {
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
    fn failed(&self, seen: &Snapshot) -> Step {
        match seen.backend {
            Seen::Gone => (Phase::Forgotten, vec![Action::Forget]),
            _ => refuse(Why::Device, seen),
        }
    }

    fn offers(&self, seen: &Snapshot) -> bool {
        let early =
            self.connects == Connects::WhenInitialised && seen.frontend.is(State::Initialised);
        seen.alive && (early || seen.frontend.is(State::Connected))
    }
}

/// A frontend's state, by what it means to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    /// 1
    Starting,
    /// 3 or 4
    Ready,
    /// 5
    Closing,
    /// 6
    Closed,
    /// 7 or 8
    Reconfiguring,
    /// Dead, or its directory is gone.
    Left,
    /// What no frontend may say.
    Illegal,
}

impl Guest {
    fn of(seen: &Snapshot) -> Self {
        match seen.frontend {
            _ if !seen.alive => Self::Left,
            Seen::Gone | Seen::At(State::Unknown) => Self::Left,
            Seen::At(State::Initialising) => Self::Starting,
            Seen::At(State::Initialised | State::Connected) => Self::Ready,
            Seen::At(State::Closing) => Self::Closing,
            Seen::At(State::Closed) => Self::Closed,
            Seen::At(State::Reconfiguring | State::Reconfigured) => Self::Reconfiguring,
            Seen::At(State::InitWait) | Seen::Garbled => Self::Illegal,
        }
    }
}

fn connected(adopting: bool, seen: &Snapshot, look: Step) -> Step {
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

fn drain(before: &[Action]) -> Step {
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

#[cfg(test)]
mod tests;
