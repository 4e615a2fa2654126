//! The event loop of a broker: one thread, woken by the store, workers, signals and deadlines.
//!
//! The store says *where* something changed; `attend` looks what is there, asks the
//! handshake what to do, and does it. A watch event costs the same however many devices there
//! are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ring_proto::DomId;
use sd_notify::NotifyState;
use xenbus::{BackendPath, Event, Store, StoreError};

use crate::control::{CONTROL_TOKENS, Control, ControlError};
use crate::device::Device;
use crate::driver::Driver;
use crate::fleet::{Fleet, Ready};
use crate::hypervisor::Hypervisor;
use crate::incumbent::Incumbents;
use crate::instance::{Instance, InstanceError};
use crate::pace::Bucket;
use crate::past_errors::PastErrors;
use crate::preflight::{self, Unready};
use crate::rescan::{Rescan, guest_of};
use crate::sys;
use crate::worker::Command;

const STORE: Token = Token(0);
const SIGNAL: Token = Token(1);
const DRIVER: Token = Token(2);
/// The first of the control socket's.
const CONTROL: usize = 3;
const _: () = assert!(CONTROL + CONTROL_TOKENS <= Fleet::TOKENS);

/// The first pause before a lost xenstored is tried again; doubled up to [`STORE_RETRY_MAX`].
const STORE_RETRY: Duration = Duration::from_millis(100);
const STORE_RETRY_MAX: Duration = Duration::from_secs(5);

/// How a broker is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `blkback` or `netback`: names the lock file.
    pub name: &'static str,
    /// The hypervisor below.
    pub hypervisor: Hypervisor,
    /// Where the lock file and the records of workers are.
    pub run_dir: PathBuf,
    /// What a worker is.
    pub worker: Command,
}

/// Why a broker does not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The host is not ready.
    #[error(transparent)]
    Unready(#[from] Unready),
    /// Another one runs.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// No control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No xenstore.
    #[error("xenstore")]
    Store(#[from] StoreError),
    /// The event loop cannot be set up or go on.
    #[error("event loop")]
    Loop(#[from] io::Error),
}

/// Serves every device of one class, one worker process per guest.
#[derive(Debug)]
pub struct Supervisor<D> {
    pub(crate) name: &'static str,
    pub(crate) driver: D,
    pub(crate) control: Control,
    pub(crate) store: Store,
    pub(crate) own_domain: DomId,
    pub(crate) devices: BTreeMap<BackendPath, Device>,
    pub(crate) fleet: Fleet,
    pub(crate) incumbents: Incumbents,
    pub(crate) past_errors: PastErrors,
    /// What devices have to be told, in order.
    pub(crate) inbox: VecDeque<(BackendPath, Event)>,
    /// Devices that may have changed.
    pub(crate) changed: BTreeSet<BackendPath>,
    /// Directories that may have changed in ways that no event tells: all, or those of guests.
    pub(crate) rescan: Rescan,
    /// Listing was refused; not before this.
    pub(crate) rescan_after: Option<Instant>,
    /// A domain may have died.
    pub(crate) released: bool,
    poll: Poll,
    store_retry: Option<(Instant, Duration)>,
    store_lines: Bucket,
    _instance: Instance,
}

impl<D: Driver> Supervisor<D> {
    /// Checks the host, takes the right to serve it, connects to the store and watches.
    ///
    /// # Errors
    /// Whatever an administrator has to mend first; the text says how.
    pub fn start(settings: Settings, driver: D) -> Result<Self, BrokerError> {
        if settings.hypervisor == Hypervisor::Xen {
            preflight::check(driver.class())?;
        }
        sys::close_inherited_on_exec()?;
        let instance = Instance::claim(&settings.run_dir, settings.name)?;
        let poll = Poll::new()?;
        let ending = sys::end_requests()?;
        let registry = poll.registry();
        registry.register(
            &mut SourceFd(&ending.as_raw_fd()),
            SIGNAL,
            Interest::READABLE,
        )?;
        if let Some(fd) = driver.watched() {
            let fd = &mut SourceFd(&fd.as_raw_fd());
            registry.register(fd, DRIVER, Interest::READABLE)?;
        }
        let incumbents = Incumbents::find(&settings.run_dir, registry, Fleet::tokens_end())?;
        let fleet = Fleet::new(settings.worker, registry.try_clone()?, &settings.run_dir);
        let mut store = Store::connect(settings.hypervisor.store_endpoint()?)?;
        let own_domain = store.own_domain()?;
        store.watch(&driver.class().directory(own_domain), BACKEND)?;
        store.watch("@releaseDomain", RELEASE)?;
        let registry = registry.try_clone()?;
        let now = Instant::now();
        let control = Control::listen(&settings.run_dir, settings.name, registry, CONTROL, now)?;
        let mut supervisor = Self {
            name: settings.name,
            driver,
            control,
            store,
            own_domain,
            devices: BTreeMap::new(),
            fleet,
            incumbents,
            past_errors: PastErrors::default(),
            inbox: VecDeque::new(),
            changed: BTreeSet::new(),
            rescan: Rescan::Everything,
            rescan_after: None,
            released: false,
            poll,
            store_retry: None,
            store_lines: Bucket::new(10, Duration::from_secs(6), Instant::now()),
            _instance: instance,
        };
        supervisor.register_store()?;
        Ok(supervisor)
    }

    /// Serves until the process is asked to end (`SIGTERM`, `SIGINT`). Guests that are connected
    /// then keep their devices: their workers go on without a broker.
    ///
    /// # Errors
    /// The event loop itself does not work any more.
    pub fn run(mut self) -> Result<(), BrokerError> {
        let mut events = Events::with_capacity(256);
        self.end_forgotten();
        self.driver.starting(&mut self.store, self.own_domain);
        self.settle();
        tell_systemd(&[NotifyState::Ready]);
        tracing::info!(
            domain = %self.own_domain,
            devices = self.devices.len(),
            "ready, watching {}",
            self.driver.class().directory(self.own_domain)
        );
        loop {
            let timeout = self.next_deadline().map(|at| {
                // Rounded up: a deadline that is reached a moment early would be polled for.
                at.saturating_duration_since(Instant::now()) + Duration::from_millis(1)
            });
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    SIGNAL => {
                        self.leave();
                        return Ok(());
                    }
                    STORE => {}
                    DRIVER => self.driver.noticed(Instant::now()),
                    token if self.control.owns(token) => self.serve_control(token),
                    token => self.wake_by(token)?,
                }
            }
            let now = Instant::now();
            self.control.tidy(now);
            if self.driver.deadline().is_some_and(|at| at <= now) {
                self.driver.due(now);
            }
            self.settle();
        }
    }

    /// A worker's descriptor is readable.
    fn wake_by(&mut self, token: Token) -> io::Result<()> {
        match Fleet::ready(token) {
            Some(Ready::Link(guest)) => self.take_reports(guest),
            Some(Ready::Exit(guest)) => {
                // What it said last comes before its end.
                self.take_reports(guest)?;
                self.take_exit(guest)
            }
            None => {
                if let Some(guest) = self.incumbents.ended(token, self.poll.registry())? {
                    self.foreign_ended(guest);
                }
                Ok(())
            }
        }
    }

    /// Works until nothing is left to do now.
    fn settle(&mut self) {
        loop {
            let now = Instant::now();
            self.mend_store(now);
            if self.store.is_connected() {
                self.take_watch_events();
                self.take_rescan(now);
            }
            self.wake_devices(now);
            while let Some(path) = self.changed.pop_first() {
                self.inbox.push_back((path, Event::Look));
            }
            if self.inbox.is_empty() || !self.store.is_connected() {
                return;
            }
            // One round, so that a device that keeps us busy does not keep others waiting.
            for _ in 0..self.inbox.len() {
                let Some((path, event)) = self.inbox.pop_front() else {
                    break;
                };
                self.attend(path, event, now);
            }
        }
    }

    fn take_watch_events(&mut self) {
        loop {
            if let Err(error) = self.store.poll_events() {
                return self.store_failed(&error);
            }
            let mut any = false;
            while let Some(event) = self.store.next_event() {
                any = true;
                self.note(&event.token, &event.path);
            }
            if !any {
                return;
            }
        }
    }

    /// Remembers where a watch event points to.
    fn note(&mut self, token: &str, path: &str) {
        if token == RELEASE {
            self.released = true;
            return;
        }
        if token != BACKEND {
            // A frontend's state: the token is the device.
            self.changed.extend(BackendPath::parse(token));
            return;
        }
        match BackendPath::containing(path) {
            Some((device, "")) => {
                self.changed.insert(device);
            }
            Some((device, key)) if TELLING.contains(&key) => {
                self.changed.insert(device);
            }
            Some(_) => {}
            None => self.rescan.add(guest_of(path)),
        }
    }

    fn wake_devices(&mut self, now: Instant) {
        for device in self.devices.values_mut() {
            if device.wake.is_some_and(|at| at <= now) {
                device.wake = None;
                let unheard = device
                    .unheard
                    .drain(..)
                    .filter(|event| *event != Event::Look);
                self.inbox.extend(unheard.map(|event| (device.path, event)));
                self.changed.insert(device.path);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let retry = self.store_retry.map(|(at, _)| at);
        let own = self.control.next_deadline().into_iter();
        let always = retry.into_iter().chain(own).chain(self.driver.deadline());
        if !self.store.is_connected() {
            // Nothing else can be done without the store.
            return always.min();
        }
        let devices = self.devices.values().filter_map(|device| device.wake);
        devices.chain(self.rescan_after).chain(always).min()
    }

    /// Notes that a store operation failed; a lost connection is mended by and by.
    pub(crate) fn store_failed(&mut self, error: &StoreError) {
        if self.store.is_connected() {
            // A full store refuses everybody at every turn.
            match self.store_lines.take(Instant::now()) {
                Ok(()) => tracing::warn!(%error, "xenstore"),
                Err(_) => tracing::debug!(%error, "xenstore"),
            }
        } else if self.store_retry.is_none() {
            tracing::error!(%error, "xenstore is lost; devices go on, changes wait");
            self.store_retry = Some((Instant::now(), STORE_RETRY));
        }
    }

    fn mend_store(&mut self, now: Instant) {
        if !self.store.is_connected() && self.store_retry.is_none() {
            self.store_retry = Some((now, STORE_RETRY));
        }
        let Some((at, pause)) = self.store_retry.filter(|(at, _)| *at <= now) else {
            return;
        };
        let mended = self.store.reconnect().map_err(BrokerError::from);
        match mended.and_then(|()| Ok(self.register_store()?)) {
            Ok(()) => {
                tracing::info!("xenstore is back");
                self.store_retry = None;
                self.rescan = Rescan::Everything;
                self.rescan_after = None;
            }
            Err(error) => {
                tracing::debug!(%error, "xenstore is still lost");
                let next = (pause * 2).min(STORE_RETRY_MAX);
                self.store_retry = Some((at.max(now) + pause, next));
            }
        }
    }

    fn register_store(&mut self) -> io::Result<()> {
        match self.store.fd() {
            Some(fd) => self.poll.registry().register(
                &mut SourceFd(&fd.as_raw_fd()),
                STORE,
                Interest::READABLE,
            ),
            None => Ok(()),
        }
    }

    /// The end of the broker, not of the devices.
    fn leave(&mut self) {
        tell_systemd(&[NotifyState::Stopping]);
        match self.fleet.serving() {
            0 => tracing::info!("ends"),
            workers => tracing::warn!(workers, "ends; the guests' workers go on serving"),
        }
    }
}

/// Tokens of watches; those of frontends are the device's path.
const BACKEND: &str = "backend";
const RELEASE: &str = "release";

/// The keys of a backend directory whose change means something, besides the directory itself.
const TELLING: [&str; 4] = ["state", "online", "hotplug-status", "rate"];

/// Without systemd this does nothing; a systemd that does not listen is no reason to stop.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
