//! An interface and who is at its other end: verified frames both ways.
//!
//! Every frame has a number, and all of its bytes follow from that. Each must come once, whole, and
//! not before another that went the same way earlier; none may be lost, since no more are under way
//! than the smallest queue between both ends holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ring_proto::netif::Extra;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::frame::{Cut, filler, number_of, numbered};
use super::{Netfront, Packet, Received};
use crate::frontend::Chance;
use crate::frontend::walk::PATIENCE;
use crate::network::{Peer, Undone};

/// The address of the host's end: that of all of its taps.
pub const HOST: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Frames that are under way at most in each direction.
const UNDER_WAY: usize = 64;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Frames of the guest.
    pub out: u64,
    /// Frames for the guest.
    pub into: u64,
    /// Bytes of the shortest and of the longest frame.
    pub sizes: (usize, usize),
    /// The most slots that the guest cuts a frame into; 0: as few as there can be.
    pub most_slots: usize,
}

impl Traffic {
    /// Frames of all sizes that an ordinary network knows, both ways.
    pub const MIXED: Self = Self {
        out: 500,
        into: 500,
        sizes: (super::frame::SHORTEST, 1514),
        most_slots: 0,
    };
}

/// An interface and its other end.
#[derive(Debug)]
pub struct Wire {
    /// The guest's end.
    pub front: Netfront,
    /// The other.
    pub peer: Peer,
    /// The guest's address.
    pub mac: [u8; 6],
    chance: Chance,
    /// The number of the next frame.
    next: u64,
}

/// What happens in one run.
#[derive(Debug, Default)]
struct Run {
    /// Frames of the guest that the other end has not seen, in the order of each queue.
    out: BTreeMap<usize, VecDeque<(u64, usize)>>,
    /// Frames for the guest that it has not seen.
    into: BTreeMap<u64, usize>,
    /// The last frame that each of the guest's queues has brought.
    last: BTreeMap<usize, u64>,
    /// Of the frames that were sent.
    bytes: u64,
    /// Packets that the backend has not answered, by queue and number there.
    unanswered: BTreeSet<(usize, u64)>,
}

impl Run {
    fn out_open(&self) -> usize {
        self.out.values().map(VecDeque::len).sum()
    }

    fn is_over(&self) -> bool {
        self.out_open() == 0 && self.into.is_empty() && self.unanswered.is_empty()
    }
}

impl Wire {
    /// Waits until frames pass: the kernel hears of a carrier in its own time.
    ///
    /// # Errors
    /// None has passed in ten seconds.
    pub fn new(front: Netfront, peer: Peer, mac: [u8; 6]) -> anyhow::Result<Self> {
        let mut wire = Self {
            front,
            peer,
            mac,
            chance: Chance::new(u64::from(mac[5]) + 1),
            next: 1,
        };
        wire.settle()?;
        Ok(wire)
    }

    /// Sends frames that nobody counts to the guest until one gets there.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn settle(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let hello = filler(self.mac, HOST, 60);
        while Instant::now() < deadline {
            self.peer.send(&hello)?;
            self.front.wait(Duration::from_millis(2))?;
            let mut came = false;
            for queue in 0..self.front.queues().len() {
                came |= self
                    .receive(queue)?
                    .is_some_and(|frame| frame.bytes == hello);
            }
            if came {
                return Ok(());
            }
            self.front.rearm()?;
        }
        bail!("no frame has reached the guest in {PATIENCE:?}")
    }

    /// Throws away what has come to the other end.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn forget(&mut self) -> anyhow::Result<()> {
        while self.peer.take()?.is_some() {}
        Ok(())
    }

    /// Takes the next frame of a queue, and posts another buffer.
    ///
    /// # Errors
    /// Whatever a backend must not do.
    pub fn receive(&mut self, queue: usize) -> anyhow::Result<Option<Received>> {
        let queue = &mut self.front.queues()[queue];
        let taken = queue.rx.take()?;
        if taken.is_some() {
            queue.rx.fill()?;
            queue.publish()?;
        }
        Ok(taken)
    }

    /// The next frame of a queue that is `wanted`; others are thrown away.
    ///
    /// # Errors
    /// There is none within ten seconds, or whatever a backend must not do.
    pub fn next(
        &mut self,
        queue: usize,
        wanted: impl Fn(&Received) -> bool,
    ) -> anyhow::Result<Received> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.receive(queue)? {
                if wanted(&frame) {
                    return Ok(frame);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "queue {queue} gets no such frame");
            // What has come on other queues stays there.
            if !self.front.rearm()? {
                self.front.wait(left)?;
            }
        }
    }

    /// Has as much under way in both directions as there can be, and waits for nothing.
    ///
    /// # Errors
    /// The guest is out of pages, or the interface is down.
    pub fn fill(&mut self) -> anyhow::Result<()> {
        let mut run = Run::default();
        while self.transmit(&Traffic::MIXED, &mut run)? {}
        for queue in self.front.queues() {
            queue.publish()?;
        }
        for _ in 0..UNDER_WAY {
            self.tell_guest(&Traffic::MIXED, &mut run)?;
        }
        Ok(())
    }

    /// Sends one packet on a queue and waits for its answer; the status.
    ///
    /// # Errors
    /// There is none within ten seconds, or no room.
    pub fn answer(&mut self, queue: usize, packet: &Packet<'_>) -> anyhow::Result<i16> {
        let ring = &mut self.front.queues()[queue];
        let number = ring.tx.send(packet)?.context("the ring is full")?;
        ring.publish()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(sent) = self.front.queues()[queue].tx.take()? {
                ensure!(sent.number == number, "{sent:?} is not answer {number}");
                return Ok(sent.status);
            }
            if !self.front.queues()[queue].tx.rearm()? {
                let left = deadline.saturating_duration_since(Instant::now());
                ensure!(!left.is_zero(), "no answer within {PATIENCE:?}");
                self.front.wait(left)?;
            }
        }
    }

    /// Sends frames both ways at the same time and verifies every one; how many bytes that were.
    ///
    /// # Errors
    /// A frame is missing, wrong, out of order, or there twice; or whatever a backend must not do.
    pub fn run(&mut self, traffic: &Traffic) -> anyhow::Result<u64> {
        let mut run = Run::default();
        let (mut out, mut into) = (traffic.out, traffic.into);
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let mut moved = false;
            while out > 0 && run.out_open() < UNDER_WAY && self.transmit(traffic, &mut run)? {
                out -= 1;
                moved = true;
            }
            for queue in self.front.queues() {
                queue.publish()?;
            }
            while into > 0 && run.into.len() < UNDER_WAY {
                self.tell_guest(traffic, &mut run)?;
                into -= 1;
                moved = true;
            }
            moved |= self.collect(&mut run)?;
            if out == 0 && into == 0 && run.is_over() {
                return Ok(run.bytes);
            }
            if moved {
                deadline = Instant::now() + PATIENCE;
            } else if !self.front.rearm()? {
                self.sleep(deadline, &run)?;
            }
        }
    }

    /// Writes one frame of the guest; false if there is no room for it.
    fn transmit(&mut self, traffic: &Traffic, run: &mut Run) -> anyhow::Result<bool> {
        let queue = self.chance.below(self.front.queues().len());
        let len = self.size(traffic);
        let frame = numbered(HOST, self.mac, self.next, len);
        let cuts = match traffic.most_slots {
            0 => Cut::pages(len),
            most => Cut::scattered(len, most, &mut self.chance),
        };
        let packet = Packet {
            bytes: &frame,
            cuts: &cuts,
            flags: 0,
            extras: NONE,
        };
        let Some(number) = self.front.queues()[queue].tx.send(&packet)? else {
            return Ok(false);
        };
        run.out
            .entry(queue)
            .or_default()
            .push_back((self.next, len));
        run.unanswered.insert((queue, number));
        run.bytes += len as u64;
        self.next += 1;
        Ok(true)
    }

    fn tell_guest(&mut self, traffic: &Traffic, run: &mut Run) -> anyhow::Result<()> {
        let len = self.size(traffic);
        let frame = numbered(self.mac, HOST, self.next, len);
        self.peer.send(&frame)?;
        run.into.insert(self.next, len);
        run.bytes += len as u64;
        self.next += 1;
        Ok(())
    }

    fn size(&mut self, traffic: &Traffic) -> usize {
        let (least, most) = traffic.sizes;
        least + self.chance.below(most + 1 - least)
    }

    /// Takes whatever has come at both ends; whether anything did.
    fn collect(&mut self, run: &mut Run) -> anyhow::Result<bool> {
        let mut moved = false;
        while let Some(seen) = self.peer.take()? {
            moved = true;
            let Some(number) = number_of(&seen.bytes) else {
                continue;
            };
            let mut waiting = run.out.values_mut();
            let first = waiting.find_map(|queue| queue.pop_front_if(|&mut (n, _)| n == number));
            let (_, len) = first
                .with_context(|| format!("frame {number} is no queue's next: {:?}", run.out))?;
            let sent = numbered(HOST, self.mac, number, len);
            ensure!(seen.bytes == sent, "frame {number} of {len} bytes is wrong");
            ensure!(seen.undone == Undone::default(), "{:?}", seen.undone);
        }
        for queue in 0..self.front.queues().len() {
            while let Some(sent) = self.front.queues()[queue].tx.take()? {
                moved = true;
                // Or of a packet from before.
                run.unanswered.remove(&(queue, sent.number));
                ensure!(sent.status == 0, "packet {sent:?} of queue {queue} failed");
            }
            while let Some(frame) = self.receive(queue)? {
                moved = true;
                self.check_received(queue, &frame, run)?;
            }
        }
        Ok(moved)
    }

    fn check_received(&self, queue: usize, frame: &Received, run: &mut Run) -> anyhow::Result<()> {
        let Some(number) = number_of(&frame.bytes) else {
            return Ok(());
        };
        ensure!(!frame.failed, "frame {number} could not be copied");
        let len = run.into.remove(&number);
        let len = len.with_context(|| format!("frame {number} was not sent, or came twice"))?;
        let sent = numbered(self.mac, HOST, number, len);
        ensure!(
            frame.bytes == sent,
            "frame {number} of {len} bytes is wrong"
        );
        let before = run.last.insert(queue, number).unwrap_or(0);
        ensure!(before < number, "frame {number} came behind {before}");
        Ok(())
    }

    /// Sleeps until something comes at either end.
    fn sleep(&mut self, deadline: Instant, run: &Run) -> anyhow::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!(
                "nothing has come for {PATIENCE:?}; missing: {:?} of the guest, {:?} for it, answers \
                 to {:?}",
                run.out,
                run.into,
                run.unanswered
            );
        }
        {
            let mut polled = vec![PollFd::new(&self.peer, PollFlags::IN)];
            polled.extend(self.front.ports().map(|p| PollFd::new(p, PollFlags::IN)));
            match poll(&mut polled, Some(&Timespec::try_from(left)?)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for frames"),
            }
        }
        for queue in self.front.queues() {
            queue.take_events()?;
        }
        Ok(())
    }
}

const NONE: &[Extra] = &[];
