//! The toolstack's and the test's view of the store.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ring_proto::DomId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as Os;
use rustix::net::{RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::os::fd::OwnedFd;
use xenbus::wire::{Decoder, Message, Op, PAYLOAD_MAX};
use xenbus::{Endpoint, Errno};

/// How long an order may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the store of the machine in `dir` is served for domain 0.
#[must_use]
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("xenstored.sock")
}

/// Where it is served for `domain`, from the moment it is introduced until it is released.
#[must_use]
pub fn domain_socket(dir: &Path, domain: DomId) -> PathBuf {
    if domain == DomId::new(0) {
        return socket(dir);
    }
    dir.join(format!("xenstored-{domain}.sock"))
}

/// A connection of domain 0 that introduces and releases domains, and makes the store misbehave.
/// Works from any process; the faults it orders spare it.
#[derive(Debug)]
pub struct Control {
    dir: PathBuf,
    fd: OwnedFd,
    decoder: Decoder,
}

impl Control {
    /// Connects to the store of the machine in `dir`.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn connect(dir: &Path) -> anyhow::Result<Self> {
        let path = socket(dir);
        let family = rustix::net::AddressFamily::UNIX;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(&path)?)
            .with_context(|| format!("no xenstored at {}", path.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            fd,
            decoder: Decoder::default(),
        })
    }

    /// Introduces a domain, as a toolstack does when it has built one: `@introduceDomain` fires, and
    /// the domain can connect where the answer says.
    ///
    /// # Errors
    /// As all orders: the store is gone, or the order makes no sense to it.
    pub fn introduce(&mut self, domain: DomId) -> anyhow::Result<Endpoint> {
        self.ask(Op::Introduce, &[&domain.to_string(), "0", "0"])?;
        Ok(Endpoint::Socket(domain_socket(&self.dir, domain)))
    }

    /// Lets a domain die: its connections end and `@releaseDomain` fires. Its nodes stay.
    ///
    /// # Errors
    /// The domain was never introduced.
    pub fn release(&mut self, domain: DomId) -> anyhow::Result<()> {
        self.ask(Op::Release, &[&domain.to_string()]).map(drop)
    }

    /// Lets nobody be answered for a time.
    ///
    /// # Errors
    /// The store is gone.
    pub fn stall(&mut self, time: Duration) -> anyhow::Result<()> {
        self.ask(Op::Control, &["stall", &time.as_millis().to_string()])
            .map(drop)
    }

    /// Ends every other connection, as a xenstored that is updated or restarted does. Nodes stay.
    ///
    /// # Errors
    /// The store is gone.
    pub fn hang_up(&mut self) -> anyhow::Result<()> {
        self.ask(Op::Control, &["hang-up"]).map(drop)
    }

    /// Answers the next `count` requests `op` of anybody with `errno`, without executing them.
    ///
    /// # Errors
    /// The store is gone.
    pub fn refuse(&mut self, op: Op, errno: &Errno, count: u32) -> anyhow::Result<()> {
        let (op, count) = ((op as u32).to_string(), count.to_string());
        self.ask(Op::Control, &["refuse", &op, errno.name(), &count])
            .map(drop)
    }

    /// What was done wrong so far, one line each, oldest first; the first 4000 bytes of it.
    ///
    /// # Errors
    /// The store is gone.
    pub fn violations(&mut self) -> anyhow::Result<Vec<String>> {
        let answer = self.ask(Op::Control, &["violations"])?;
        Ok(String::from_utf8(answer)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    fn ask(&mut self, op: Op, words: &[&str]) -> anyhow::Result<Vec<u8>> {
        let payload = words
            .iter()
            .flat_map(|word| [word.as_bytes(), b"\0"])
            .collect::<Vec<_>>();
        let message = Message {
            op,
            request: 0,
            transaction: 0,
            payload: payload.concat(),
        };
        let mut bytes = vec![];
        message.encode(PAYLOAD_MAX, &mut bytes)?;
        let sent = rustix::net::send(&self.fd, &bytes, SendFlags::NOSIGNAL)?;
        ensure!(sent == bytes.len(), "xenstored takes no orders");
        let answer = self
            .receive()
            .with_context(|| format!("order {}", words.join(" ")))?;
        match answer.op {
            Op::Error => bail!("{}: {}", words.join(" "), Errno::parse(&answer.payload)),
            _ => Ok(answer.payload),
        }
    }

    fn receive(&mut self) -> anyhow::Result<Message> {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no answer within {PATIENCE:?}");
            let timeout = Timespec::try_from(left)?;
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Os::INTR) => continue,
                other => other?,
            };
            let (taken, _) = rustix::net::recv(&self.fd, &mut bytes, RecvFlags::empty())?;
            ensure!(taken > 0, "xenstored hung up");
            self.decoder.feed(bytes.get(..taken).unwrap_or_default());
        }
    }
}
