//! A ring without any of an honest frontend's care.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gntdev::Access;
use ring_proto::blkif::{Abi, Answer, RawSegment, Sent, SentWords, op};
use ring_proto::{FrontRing, GrantRef, RingMemory};
use xenbus::State;

use crate::frontend::Device;
use crate::frontend::Shape;
use crate::frontend::buffers::Lent;
use crate::frontend::keys::{self, Disk, RingKeys};
use crate::frontend::walk::PATIENCE;
use crate::sim::hypervisor::{GuestDomain, GuestPages, GuestPort};

/// Entries of a guest's grant table.
const GRANTS: u32 = 16_384;

/// The id of requests that do not care.
const ID: u64 = 0x5eed;

/// A connected device in bad hands.
#[derive(Debug)]
pub struct Attacker {
    device: Device,
    abi: Abi,
    disk: Disk,
    ring: FrontRing<Arc<GuestPages>>,
    pages: Arc<GuestPages>,
    refs: Vec<GrantRef>,
    port: GuestPort,
}

impl Attacker {
    /// Connects with one ring, whose indices start at `start`. What the slots hold is left as it is.
    ///
    /// # Errors
    /// The backend does not connect.
    pub fn connect(mut device: Device, shape: &Shape, start: u32) -> anyhow::Result<Self> {
        device.limits()?;
        let domain = Arc::clone(device.domain());
        let pages = Arc::new(domain.allocate(shape.ring_pages())?);
        ensure!(
            pages.write(0, &vec![0xa5; shape.ring_pages() as usize * 4096]),
            "pages are short"
        );
        let refs = pages.grant_all(Access::ReadWrite)?;
        let port = domain.alloc_port()?;
        let abi = shape.protocol.abi();
        let ring_shape = abi.ring_shape(shape.ring_pages()).context("no ring fits")?;
        let ring = FrontRing::init_at(Arc::clone(&pages), ring_shape, start)?;
        let ring_keys = RingKeys {
            refs: refs.clone(),
            port: port.port(),
        };
        device.offer(&keys::offer(shape, &[ring_keys]))?;
        device.switch(State::Initialised)?;
        device.wait_backend(&[State::Connected])?;
        let backend = device.backend().to_owned();
        let disk = Disk::read(device.store(), &backend)?;
        device.switch(State::Connected)?;
        Ok(Self {
            device,
            abi,
            disk,
            ring,
            pages,
            refs,
            port,
        })
    }

    /// The device.
    pub const fn device(&mut self) -> &mut Device {
        &mut self.device
    }

    /// The device, the ring forgotten.
    #[must_use]
    pub fn into_device(self) -> Device {
        self.device
    }

    /// The guest.
    #[must_use]
    pub const fn domain(&self) -> &Arc<GuestDomain> {
        self.device.domain()
    }

    /// What the backend says about the disk.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Slot layout.
    #[must_use]
    pub const fn abi(&self) -> Abi {
        self.abi
    }

    /// All words of the ring, header first.
    #[must_use]
    pub fn words(&self) -> &[AtomicU32] {
        self.pages.words()
    }

    /// The ring's memory, for a thread that changes it meanwhile.
    #[must_use]
    pub fn memory(&self) -> Arc<GuestPages> {
        Arc::clone(&self.pages)
    }

    /// The grants of the ring itself.
    #[must_use]
    pub fn ring_refs(&self) -> &[GrantRef] {
        &self.refs
    }

    /// Number of slots.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.ring.slots()
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

    /// How many of the guest's grants are in use now.
    #[must_use]
    pub fn grants_in_use(&self) -> usize {
        let references = (0..GRANTS).map(GrantRef::new);
        references
            .filter(|&gref| self.domain().in_use(gref))
            .count()
    }

    /// Writes a request into the next slot; nobody is shown it yet.
    ///
    /// # Errors
    /// The ring is full.
    pub fn push(&mut self, request: &SentWords) -> anyhow::Result<()> {
        Ok(self.ring.push_request(request)?)
    }

    /// Shows what was written, and rings whether that was asked for or not.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn kick(&mut self) -> anyhow::Result<()> {
        let _asked_for = self.ring.publish();
        self.ring_bell()
    }

    /// Rings.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn ring_bell(&self) -> anyhow::Result<()> {
        Ok(self.port.notify()?)
    }

    /// Takes the next answer, if there is one. Its padding must be 0 (RNG-03).
    ///
    /// # Errors
    /// The backend broke the ring, or left something in the padding.
    pub fn take(&mut self) -> anyhow::Result<Option<Answer>> {
        let Some(words) = self.ring.take_response::<4>()? else {
            return Ok(None);
        };
        let tail = if self.abi == Abi::Native { words[3] } else { 0 };
        ensure!(
            words[2].to_le_bytes()[1] == 0 && tail == 0,
            "RNG-03: padding of a response is not 0: {words:x?}"
        );
        Ok(Some(Answer::decode([words[0], words[1], words[2]])))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// There is none in ten seconds.
    pub fn answer(&mut self) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.take()? {
                return Ok(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.ring.rearm()? {
                ensure!(
                    self.port.wait(left.max(Duration::from_millis(1)))? || !left.is_zero(),
                    "no answer within {PATIENCE:?}"
                );
                ensure!(!left.is_zero(), "no answer within {PATIENCE:?}");
            }
        }
    }

    /// Requests without an answer.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.ring.open()
    }

    /// Takes whatever event has come.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn hush(&self) -> anyhow::Result<()> {
        self.port.take_pending()?;
        Ok(())
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// There is none in ten seconds.
    pub fn ask(&mut self, request: Sent<'_>) -> anyhow::Result<Answer> {
        self.push(&request.encode(self.abi))?;
        self.kick()?;
        self.answer()
    }

    /// Sends one request, whose answer must repeat its operation and have one of these statuses.
    ///
    /// # Errors
    /// Any other answer, or none.
    pub fn expect(
        &mut self,
        what: &str,
        request: Sent<'_>,
        operation: u8,
        statuses: &[i16],
    ) -> anyhow::Result<()> {
        let answer = self.ask(request).with_context(|| what.to_owned())?;
        let id = id_of(&request);
        ensure!(
            answer.id == id && answer.operation == operation && statuses.contains(&answer.status),
            "{what}: expected {statuses:?} to operation {operation} of {id}, found {answer:?}"
        );
        Ok(())
    }

    /// Sends many requests at a time and collects their answers, in whatever order.
    ///
    /// # Errors
    /// An answer is missing.
    pub fn ask_all(&mut self, requests: &[SentWords]) -> anyhow::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut unsent = requests.iter().peekable();
        while answers.len() < requests.len() {
            while self.ring.open() < self.slots()
                && let Some(request) = unsent.next()
            {
                self.push(request)?;
            }
            self.kick()?;
            answers.push(self.answer()?);
            while let Some(answer) = self.take()? {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    /// A good request is served: one sector is read.
    ///
    /// # Errors
    /// It is not.
    pub fn is_served(&mut self) -> anyhow::Result<()> {
        let lent = self.lend(Access::ReadWrite)?;
        let segments = [RawSegment::new(lent.gref, 0, 7)];
        self.expect("a good read", read(0, &segments), op::READ, &[0])
    }
}

fn id_of(request: &Sent<'_>) -> u64 {
    match *request {
        Sent::Direct { id, .. } | Sent::Discard { id, .. } | Sent::Indirect { id, .. } => id,
    }
}

/// A request in a slot, with as many segments as are given.
#[must_use]
pub fn direct(operation: u8, sector: u64, segments: &[RawSegment]) -> Sent<'_> {
    Sent::Direct {
        operation,
        nr_segments: u8::try_from(segments.len()).unwrap_or(u8::MAX),
        handle: 0,
        id: ID,
        sector,
        segments,
    }
}

/// A read into segments.
#[must_use]
pub fn read(sector: u64, segments: &[RawSegment]) -> Sent<'_> {
    direct(op::READ, sector, segments)
}

/// A write from segments.
#[must_use]
pub fn write(sector: u64, segments: &[RawSegment]) -> Sent<'_> {
    direct(op::WRITE, sector, segments)
}

/// A request whose segments are described in `pages`.
#[must_use]
pub fn indirect(operation: u8, nr_segments: u16, sector: u64, pages: &[GrantRef]) -> Sent<'_> {
    Sent::Indirect {
        operation,
        nr_segments,
        handle: 0,
        id: ID,
        sector,
        pages,
    }
}

/// A discard.
#[must_use]
pub const fn discard(flags: u8, sector: u64, sectors: u64) -> Sent<'static> {
    Sent::Discard {
        flags,
        handle: 0,
        id: ID,
        sector,
        sectors,
    }
}

/// Writes segment descriptors into a page.
///
/// # Errors
/// They do not fit.
pub fn describe(page: &GuestPages, segments: &[RawSegment]) -> anyhow::Result<()> {
    for (at, segment) in segments.iter().enumerate() {
        let [low, high] = segment.words();
        let bytes = [low.to_le_bytes(), high.to_le_bytes()].concat();
        ensure!(page.write(at * 8, &bytes), "descriptors do not fit");
    }
    Ok(())
}
