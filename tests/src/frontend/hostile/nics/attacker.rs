//! Rings without any of an honest frontend's care.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gntdev::Access;
use ring_proto::netif::{
    CONTROL_RING, ControlAnswer, ControlSent, Extra, RX_RING, RxAnswer, RxSent, TX_RING, TxAnswer,
    TxSent, tx_flag,
};
use ring_proto::{FrontRing, GrantRef, RingMemory};
use xenbus::State;

use crate::frontend::Device;
use crate::frontend::buffers::Lent;
use crate::frontend::netfront::frame::{number_of, numbered};
use crate::frontend::netfront::offer::{self, QueueKeys};
use crate::frontend::netfront::wire::HOST;
use crate::frontend::netfront::{NetShape, Netfront};
use crate::frontend::walk::PATIENCE;
use crate::network::Peer;
use crate::sim::hypervisor::{GuestDomain, GuestPages, GuestPort};

/// One ring and the page it is in.
#[derive(Debug)]
pub struct BareRing {
    /// The ring.
    pub ring: FrontRing<Arc<GuestPages>>,
    /// Its page.
    pub pages: Arc<GuestPages>,
    /// The page's grant.
    pub gref: GrantRef,
}

/// A connected interface in bad hands, with one event channel for its queue and one for its control
/// ring.
#[derive(Debug)]
pub struct NetAttacker {
    device: Device,
    /// Transmits.
    pub tx: BareRing,
    /// Receives; no buffer is posted.
    pub rx: BareRing,
    port: GuestPort,
    /// Says how to hash.
    pub control: BareRing,
    control_port: GuestPort,
    /// Who is at the other end.
    pub peer: Peer,
    mac: [u8; 6],
    /// The number of the last good frame.
    good: u64,
}

impl BareRing {
    fn new(
        domain: &Arc<GuestDomain>,
        shape: ring_proto::RingShape,
        start: u32,
    ) -> anyhow::Result<Self> {
        let pages = Arc::new(domain.allocate(1)?);
        ensure!(pages.write(0, &[0xa5; 4096]), "a page is short");
        let gref = domain.grant(pages.frame(0), Access::ReadWrite)?;
        Ok(Self {
            ring: FrontRing::init_at(Arc::clone(&pages), shape, start)?,
            pages,
            gref,
        })
    }

    /// All words, header first.
    #[must_use]
    pub fn words(&self) -> &[std::sync::atomic::AtomicU32] {
        self.pages.words()
    }
}

impl NetAttacker {
    /// Connects with one queue, whose ring indices start at `start`. What the slots hold is left as it
    /// is.
    ///
    /// # Errors
    /// The backend does not connect.
    pub fn connect(
        mut device: Device,
        peer: Peer,
        mac: [u8; 6],
        start: u32,
    ) -> anyhow::Result<Self> {
        Netfront::backend(&mut device)?;
        let domain = Arc::clone(device.domain());
        let (tx, rx) = (
            BareRing::new(&domain, TX_RING, start)?,
            BareRing::new(&domain, RX_RING, start)?,
        );
        let control = BareRing::new(&domain, CONTROL_RING, start)?;
        let (port, control_port) = (domain.alloc_port()?, domain.alloc_port()?);
        let keys = QueueKeys {
            tx: tx.gref,
            rx: rx.gref,
            ports: vec![port.port()],
        };
        let mut keys = offer::offer(&NetShape::LINUX, &[keys]);
        keys.push(("ctrl-ring-ref".into(), control.gref.to_string()));
        let channel = control_port.port().0.to_string();
        keys.push(("event-channel-ctrl".into(), channel));
        device.offer(&keys)?;
        device.switch(State::Connected)?;
        device.wait_backend(&[State::Connected])?;
        Ok(Self {
            device,
            tx,
            rx,
            port,
            control,
            control_port,
            peer,
            mac,
            good: 0,
        })
    }

    /// The device.
    pub const fn device(&mut self) -> &mut Device {
        &mut self.device
    }

    /// The device, the rings forgotten.
    #[must_use]
    pub fn into_device(self) -> Device {
        self.device
    }

    /// The guest.
    #[must_use]
    pub const fn domain(&self) -> &Arc<GuestDomain> {
        self.device.domain()
    }

    /// The guest's address.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// A page that the backend may use.
    ///
    /// # Errors
    /// The guest is out of pages or grants.
    pub fn lend(&self, access: Access) -> anyhow::Result<Lent> {
        let memory = self.domain().allocate(1)?;
        let gref = self.domain().grant(memory.frame(0), access)?;
        Ok(Lent { memory, gref })
    }

    /// A page with some bytes at its start.
    ///
    /// # Errors
    /// The guest is out of pages or grants.
    pub fn page(&self, bytes: &[u8]) -> anyhow::Result<Lent> {
        let lent = self.lend(Access::ReadOnly)?;
        ensure!(lent.memory.write(0, bytes), "more than a page");
        Ok(lent)
    }

    /// Writes slots; nobody is shown them yet.
    ///
    /// # Errors
    /// The ring is full.
    pub fn push(&mut self, slots: &[TxSent]) -> anyhow::Result<()> {
        for slot in slots {
            self.tx.ring.push_request(&slot.encode())?;
        }
        Ok(())
    }

    /// Shows what was written into both rings, and rings whether that was asked for or not.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn kick(&mut self) -> anyhow::Result<()> {
        let _asked_for = (self.tx.ring.publish(), self.rx.ring.publish());
        self.ring_bell()
    }

    /// Rings.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn ring_bell(&self) -> anyhow::Result<()> {
        Ok(self.port.notify()?)
    }

    /// Rings for the control ring.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn ring_control(&self) -> anyhow::Result<()> {
        Ok(self.control_port.notify()?)
    }

    /// Sends control messages and waits for as many answers, in their order.
    ///
    /// # Errors
    /// The ring is full, or an answer is missing or to something else.
    pub fn order(&mut self, messages: &[ControlSent]) -> anyhow::Result<Vec<ControlAnswer>> {
        for message in messages {
            self.control.ring.push_request(&message.encode())?;
        }
        let _asked_for = self.control.ring.publish();
        self.ring_control()?;
        messages.iter().map(|sent| self.ordered(*sent)).collect()
    }

    fn ordered(&mut self, sent: ControlSent) -> anyhow::Result<ControlAnswer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(words) = self.control.ring.take_response()? {
                let answer = ControlAnswer::decode(words);
                let right = (answer.id, answer.kind) == (sent.id, sent.kind);
                ensure!(right && answer.status <= 3, "{answer:?} to {sent:?}");
                return Ok(answer);
            }
            if !self.control.ring.rearm()? {
                let left = deadline.saturating_duration_since(Instant::now());
                ensure!(!left.is_zero(), "no answer to {sent:?} in {PATIENCE:?}");
                self.control_port.wait(left)?;
            }
        }
    }

    /// Waits for the next answer on the transmit ring.
    ///
    /// # Errors
    /// There is none in ten seconds.
    pub fn answer(&mut self) -> anyhow::Result<TxAnswer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(words) = self.tx.ring.take_response::<1>()? {
                return Ok(TxAnswer::decode(words));
            }
            if !self.tx.ring.rearm()? {
                self.sleep(deadline)?;
            }
        }
    }

    /// Waits for the next answer on the receive ring, as one with data.
    ///
    /// # Errors
    /// There is none in ten seconds.
    pub fn received(&mut self) -> anyhow::Result<RxAnswer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(words) = self.rx.ring.take_response::<2>()? {
                return Ok(RxAnswer::decode(words));
            }
            if !self.rx.ring.rearm()? {
                self.sleep(deadline)?;
            }
        }
    }

    fn sleep(&self, deadline: Instant) -> anyhow::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "no answer within {PATIENCE:?}");
        self.port.wait(left)?;
        Ok(())
    }

    /// Posts a buffer.
    ///
    /// # Errors
    /// The ring is full.
    pub fn post(&mut self, id: u16, gref: GrantRef) -> anyhow::Result<()> {
        let request = RxSent { id, gref };
        Ok(self.rx.ring.push_request(&request.encode())?)
    }

    /// Sends the slots of one packet, which must be answered with one of these statuses: each slot
    /// with its own id and the same status, extra infos with `NULL`.
    ///
    /// # Errors
    /// Any other answer, or none.
    pub fn expect(&mut self, what: &str, slots: &[TxSent], statuses: &[i16]) -> anyhow::Result<()> {
        self.push(slots)?;
        self.kick()?;
        self.answers(what, slots, statuses).map(drop)
    }

    /// Waits for the answers to the slots of one packet; their status.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub fn answers(
        &mut self,
        what: &str,
        slots: &[TxSent],
        statuses: &[i16],
    ) -> anyhow::Result<i16> {
        let mut said = None;
        for (at, slot) in slots.iter().enumerate() {
            let answer = self.answer();
            let answer = answer.with_context(|| format!("{what}, slot {at}"))?;
            match *slot {
                TxSent::Extra(_) => ensure!(
                    answer.status == TxAnswer::NULL,
                    "{what}: {answer:?} in the slot of an extra info"
                ),
                TxSent::Data { id, .. } => {
                    let before = *said.get_or_insert(answer.status);
                    ensure!(
                        answer.id == id && answer.status == before,
                        "{what}: {answer:?} to slot {at} with id {id}, before {before}"
                    );
                }
            }
        }
        let said = said.context("a packet without data")?;
        ensure!(
            statuses.contains(&said),
            "{what}: status {said} instead of {statuses:?}"
        );
        Ok(said)
    }

    /// A good packet is served: a frame gets to the other end, and nothing else of this guest has
    /// got there since the last one.
    ///
    /// # Errors
    /// It is not so.
    pub fn is_served(&mut self) -> anyhow::Result<()> {
        self.good += 1;
        let frame = numbered(HOST, self.mac, self.good, 100);
        let page = self.page(&frame)?;
        let slots = [data(&page, 0, 0, 100)];
        let sent = self.expect("a good packet", &slots, &[0]);
        self.domain().end_access(page.gref)?;
        sent?;
        self.sees_good(&frame)
    }

    fn sees_good(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        let seen = self.peer.wait(PATIENCE, |_| true)?;
        let seen = seen.context("a good frame is lost")?;
        if seen.bytes != frame {
            let shown = &seen.bytes[..seen.bytes.len().min(64)];
            bail!(
                "{} bytes got through that should not: {shown:02x?}, number {:?}",
                seen.bytes.len(),
                number_of(&seen.bytes)
            );
        }
        Ok(())
    }

    /// Throws away what has got to the other end: some of it was good.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn forget_seen(&mut self) -> anyhow::Result<usize> {
        let mut count = 0;
        // Frames that are answered were handed over before.
        while self.peer.wait(Duration::ZERO, |_| true)?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// A slot with data at the start of a page.
#[must_use]
pub fn data(page: &Lent, id: u16, flags: u16, size: u16) -> TxSent {
    slot(page.gref, 0, id, flags, size)
}

/// A slot with data.
#[must_use]
pub const fn slot(gref: GrantRef, offset: u16, id: u16, flags: u16, size: u16) -> TxSent {
    TxSent::Data {
        gref,
        offset,
        flags,
        id,
        size,
    }
}

/// The slots of a packet: the first one says `total`, the others have `sizes`.
#[must_use]
pub fn chain(page: &Lent, total: u16, sizes: &[u16]) -> Vec<TxSent> {
    let mut slots = Vec::new();
    for at in 0..=sizes.len() {
        let more = if at < sizes.len() {
            tx_flag::MORE_DATA
        } else {
            0
        };
        let size = match at {
            0 => total,
            at => sizes[at - 1],
        };
        let id = u16::try_from(at).unwrap_or(u16::MAX);
        slots.push(data(page, id, more, size));
    }
    slots
}

/// A packet in one slot with extra infos behind it.
#[must_use]
pub fn with_extras(page: &Lent, flags: u16, size: u16, extras: &[Extra]) -> Vec<TxSent> {
    let mut slots = vec![data(page, 7, flags | tx_flag::EXTRA_INFO, size)];
    for (at, &extra) in extras.iter().enumerate() {
        let last = at + 1 == extras.len();
        slots.push(TxSent::Extra(if last { extra } else { extra.followed() }));
    }
    slots
}
