//! What a backend does next: the split-driver handshake as a pure, level-triggered state machine.
//!
//! Watches say that something changed, not what; they come late, twice, or folded into one. So the
//! machine is never told about changes. It is shown what is ([`Snapshot`]) together with why it is
//! asked now ([`Event`]), and answers with what to do ([`Action`]). Asking once too often is
//! harmless. The walk of a device:
//!
//! ```text
//! Unseen ─ Advertise ─▶ Waiting (2) ─ script done, frontend at 3 or 4: Connect ─▶ Connecting
//!   │                       ▲                                                         │
//!   │ a restart of ours,    │ frontend starts over (1): Advertise  Connected: Publish │
//!   │ both sides at 4:      │                                                         ▼
//!   └─ Adopt ▶ Connecting  Closed (6) ◀─ Disconnected ─ Draining ◀─ Closing (5) ◀─ Serving (4)
//!                                          frontend at 6      frontend at 5
//! ```
//!
//! Whenever the backend's directory is gone, all is let go of and the device is forgotten.
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
//! * A block frontend that asks to be reconfigured (7) gets no answer: nothing of its device can be.
//!   A network frontend does; once it is back at 4 so are we, since at 8 its next wish would look
//!   granted before it was read.
//! * A state that nobody may write, on either side, closes the device.

mod guest;
mod walk;

use crate::snapshot::{Seen, Snapshot};
use crate::state::State;
use walk::{Step, connected, drain};

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
    /// Network only, while serving: take over what the frontend has changed, then write state
    /// Reconfigured. What cannot be taken over is not answered; asked again at the next look.
    Reconfigure,
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
        let (phase, mut actions) = self.step(event, &self.without_reconfigured(seen));
        if phase == Phase::Serving && actions.is_empty() {
            actions.extend(self.reconfigured(seen));
        }
        let again = self.was_over() && phase == Phase::Waiting && !self.is_another(seen);
        (
            Self {
                phase,
                reconnects: self.reconnects.saturating_add(u32::from(again)),
                ..self
            },
            actions,
        )
    }

    /// Whether `seen` is another device of the same name: only a toolstack writes Initialising to
    /// our node, and it does so to a directory that it has just made. The removal of the old one can
    /// go unseen when both come fast.
    #[must_use]
    pub fn is_another(&self, seen: &Snapshot) -> bool {
        self.was_over() && seen.backend.is(State::Initialising)
    }

    fn was_over(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. } | Phase::Draining)
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
            (_, _) if held && seen.backend == Seen::Gone => drain(&[]),
            (_, Event::Faulted) if held => {
                drain(&[Action::Fail(Why::Device), Action::Switch(State::Closing)])
            }
            (_, _) if seen.backend == Seen::Gone => (Phase::Forgotten, vec![Action::Forget]),
            (Phase::Connecting { adopting }, Event::Connected) => {
                connected(adopting, seen, self.connecting(adopting, seen))
            }
            _ => self.look(seen),
        }
    }
}

#[cfg(test)]
mod tests;
