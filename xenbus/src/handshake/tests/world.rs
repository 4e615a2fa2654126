//! A store, a device layer and the machine.

use super::super::*;
use crate::snapshot::Hotplug;

use Action::{Adopt, Advertise, Connect, Disconnect, Fail, Forget, Publish, Reconfigure, Switch};
use State::{
    Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured, Reconfiguring,
};

/// What the device layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Connecting,
    Serving,
    Draining,
}

/// A store, a device layer and the machine, with every action checked against what it may do.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) machine: Handshake,
    pub(super) seen: Snapshot,
    pub(super) held: Held,
    /// The store takes no writes, and the broker does not know.
    pub(super) deaf: bool,
    pub(super) did: Vec<Action>,
}

impl World {
    pub(super) fn new(connects: Connects) -> Self {
        Self {
            machine: Handshake::new(connects),
            seen: fresh(),
            held: Held::Nothing,
            deaf: false,
            did: vec![],
        }
    }

    pub(super) fn tell(&mut self, event: Event) -> Vec<Action> {
        let before = self.machine;
        let (machine, actions) = before.decide(event, &self.seen);
        self.machine = machine;
        for action in &actions {
            self.execute(*action, before);
        }
        self.did.extend(&actions);
        actions
    }

    pub(super) fn look(&mut self) -> Vec<Action> {
        if self.machine.phase() == Phase::Forgotten && self.seen.backend != Seen::Gone {
            // A new device of the same name, for whoever looks for devices.
            self.start_over();
        }
        self.tell(Event::Look)
    }

    pub(super) fn start_over(&mut self) {
        self.machine = Handshake::new(self.machine.connects);
        self.did.clear();
    }

    fn execute(&mut self, action: Action, before: Handshake) {
        let context = format!("{action:?} from {before:?} seeing {:?}", self.seen);
        assert_ne!(before.phase(), Phase::Forgotten, "after Forget: {context}");
        match action {
            Advertise => {
                assert_eq!(self.held, Held::Nothing, "{context}");
                assert!(
                    self.seen.online && self.seen.paired && self.seen.alive,
                    "{context}"
                );
                self.write(InitWait, &context);
            }
            Connect => {
                assert_eq!(self.held, Held::Nothing, "{context}");
                assert!(
                    self.seen.online && self.seen.paired && self.seen.alive,
                    "{context}"
                );
                assert!(self.seen.backend.is(InitWait), "{context}");
                assert_eq!(self.seen.hotplug, Hotplug::Ready, "{context}");
                let offers = self.seen.frontend.is(Connected) || self.seen.frontend.is(Initialised);
                assert!(offers, "{context}");
                self.held = Held::Connecting;
            }
            Adopt => {
                assert_eq!(self.held, Held::Nothing, "{context}");
                assert_eq!(before.phase(), Phase::Unseen, "{context}");
                self.held = Held::Connecting;
            }
            Publish => {
                assert_eq!(self.held, Held::Serving, "{context}");
                self.write(Connected, &context);
            }
            Reconfigure => {
                self.network_is_served(&context);
                assert!(self.seen.backend.is(Connected), "{context}");
                assert!(self.seen.frontend.is(Reconfiguring), "{context}");
                self.write(Reconfigured, &context);
            }
            Disconnect => {
                assert!(
                    matches!(self.held, Held::Connecting | Held::Serving),
                    "{context}"
                );
                self.held = Held::Draining;
            }
            Switch(Connected) => {
                self.network_is_served(&context);
                assert!(self.seen.backend.is(Reconfigured), "{context}");
                assert!(self.seen.frontend.is(Connected), "{context}");
                self.write(Connected, &context);
            }
            Switch(Closing) => self.write(Closing, &context),
            Switch(Closed) => {
                assert_eq!(self.held, Held::Nothing, "6 means let go of: {context}");
                let walked = [Closing, Closed, Initialising]
                    .iter()
                    .any(|s| self.seen.backend.is(*s));
                assert!(walked || self.deaf, "5 comes before 6: {context}");
                self.write(Closed, &context);
            }
            Switch(other) => panic!("writes {other}: {context}"),
            Fail(_) => {}
            Forget => {
                assert_eq!(self.held, Held::Nothing, "{context}");
                assert_eq!(self.seen.backend, Seen::Gone, "{context}");
            }
        }
    }

    fn network_is_served(&self, context: &str) {
        assert_eq!(self.machine.connects, Connects::WhenConnected, "{context}");
        assert_eq!(self.machine.phase(), Phase::Serving, "{context}");
        assert_eq!(self.held, Held::Serving, "{context}");
        assert!(self.seen.alive, "{context}");
    }

    /// As a write in a transaction would do it.
    fn write(&mut self, state: State, context: &str) {
        assert_ne!(self.seen.backend, Seen::Gone, "would resurrect: {context}");
        if !self.deaf {
            self.seen.backend = Seen::At(state);
        }
    }

    /// Lets the device layer answer what it owes; true when it owed something.
    pub(super) fn answer(&mut self, fine: bool) -> bool {
        let (held, event) = match (self.held, fine) {
            (Held::Connecting, true) => (Held::Serving, Event::Connected),
            (Held::Connecting, false) => (Held::Nothing, Event::Failed),
            (Held::Draining, true) => (Held::Nothing, Event::Disconnected),
            (Held::Draining, false) => (Held::Nothing, Event::Failed),
            (Held::Nothing | Held::Serving, _) => return false,
        };
        self.held = held;
        self.tell(event);
        true
    }

    /// Looks and answers until nothing moves any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..12 {
            let owed = self.answer(true);
            if self.look().is_empty() && !owed && !self.answer(true) {
                return;
            }
        }
        panic!("does not settle: {self:?}");
    }

    pub(super) fn frontend(&mut self, state: State) -> Vec<Action> {
        self.seen.frontend = Seen::At(state);
        self.look()
    }

    /// To Serving, as an ordinary guest gets there.
    pub(super) fn served() -> Self {
        Self::served_at(Connects::WhenInitialised)
    }

    /// The same for either kind of device.
    pub(super) fn served_at(connects: Connects) -> Self {
        let offers = match connects {
            Connects::WhenInitialised => Initialised,
            Connects::WhenConnected => Connected,
        };
        let mut world = Self::new(connects);
        assert_eq!(world.look(), [Advertise]);
        assert_eq!(world.frontend(offers), []);
        world.seen.hotplug = Hotplug::Ready;
        assert_eq!(world.look(), [Connect]);
        world.held = Held::Serving;
        assert_eq!(world.tell(Event::Connected), [Publish]);
        assert_eq!(world.frontend(Connected), []);
        assert_eq!(world.machine.phase(), Phase::Serving);
        world
    }

    pub(super) fn disconnected(&mut self) -> Vec<Action> {
        assert_eq!(self.held, Held::Draining);
        self.held = Held::Nothing;
        self.tell(Event::Disconnected)
    }
}

/// As libxl makes a device.
pub(super) fn fresh() -> Snapshot {
    Snapshot {
        backend: Seen::At(Initialising),
        online: true,
        hotplug: Hotplug::Pending,
        frontend: Seen::At(Initialising),
        alive: true,
        paired: true,
    }
}
