//! How a VIF's queues follow what its guest has said about hashing, and hand frames to each other.
//!
//! The kernel brings a flow's frames to the tap queue on which the guest last sent that flow, and
//! knows nothing of the guest's table. So the queue that reads a frame may not be the one that it
//! belongs to: that one gets it through its inbox, which is bounded in frames and bytes.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring_proto::netif::Hash;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::hash::Hashing;
use crate::news::News;

/// What the queues of a VIF with a control ring share.
#[derive(Debug)]
pub struct Steering {
    /// What is so since the last change.
    hashing: News<Hashing>,
    inboxes: Vec<Inbox>,
}

/// Frames that other queues have read for one.
#[derive(Debug)]
pub struct Inbox {
    content: Mutex<Content>,
    /// Readable when there may be frames.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Content {
    frames: VecDeque<Handed>,
    bytes: usize,
}

/// A frame on its way from the queue that has read it to the one that it belongs to.
#[derive(Debug)]
pub struct Handed {
    /// A virtio header and the frame.
    pub bytes: Box<[u8]>,
    /// What the reader has computed.
    pub hash: Option<Hash>,
}

impl Steering {
    /// Nothing was said so far, by a guest with so many queues.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new(queues: u32) -> Result<Self, Errno> {
        let inboxes = (0..queues).map(|_| Inbox::new());
        Ok(Self {
            hashing: News::new(Hashing::new(queues)),
            inboxes: inboxes.collect::<Result<_, _>>()?,
        })
    }

    /// The guest has said something new: every sweep that begins when this has returned follows it.
    pub fn say(&self, hashing: Hashing) {
        self.hashing.say(hashing);
    }

    /// What was said, if that is another change than `seen`.
    #[must_use]
    pub fn news(&self, seen: u32) -> Option<(u32, Arc<Hashing>)> {
        self.hashing.since(seen)
    }

    /// The inbox of a queue; `None` if there is no such queue.
    #[must_use]
    pub fn inbox(&self, queue: u32) -> Option<&Inbox> {
        self.inboxes.get(usize::try_from(queue).ok()?)
    }
}

impl Inbox {
    fn new() -> Result<Self, Errno> {
        Ok(Self {
            content: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Puts in a frame of so many bytes that `make` makes; false if there is no room for it.
    ///
    /// # Errors
    /// Of `make`.
    pub fn put<E>(
        &self,
        bytes: usize,
        make: impl FnOnce() -> Result<Handed, E>,
    ) -> Result<bool, E> {
        let mut content = self.lock();
        if content.frames.len() >= FRAMES || content.bytes + bytes > BYTES {
            return Ok(false);
        }
        let frame = make()?;
        content.bytes += frame.bytes.len();
        content.frames.push_back(frame);
        // Who finds more than one has been woken for the first, and looks until there is none.
        if content.frames.len() == 1 {
            drop(content);
            self.ring();
        }
        Ok(true)
    }

    /// Takes the oldest frame.
    #[must_use]
    pub fn take(&self) -> Option<Handed> {
        let mut content = self.lock();
        let frame = content.frames.pop_front()?;
        content.bytes = content.bytes.saturating_sub(frame.bytes.len());
        Some(frame)
    }

    /// Are there frames?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().frames.is_empty()
    }

    /// Its owner has woken up, and will look until there is none.
    pub fn hear(&self) {
        // Nothing to read: it was heard already.
        let _heard = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    fn ring(&self) {
        // It cannot be full: it is written once for a frame that nobody has taken.
        let _told = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Inbox {
    /// Readable when there may be frames.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Frames that wait in an inbox at most: two rings full of buffers.
const FRAMES: usize = 512;
/// Their bytes.
const BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use ring_proto::netif::{ControlMessage, HashAlgorithm};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn put(inbox: &Inbox, len: usize) -> bool {
        let make = || {
            Ok::<_, Infallible>(Handed {
                bytes: vec![0; len].into(),
                hash: None,
            })
        };
        inbox.put(len, make).unwrap()
    }

    fn rings(inbox: &Inbox) -> bool {
        let mut polled = [PollFd::new(inbox, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn an_inbox_has_bounds_and_says_when_it_is_full() {
        let steering = Steering::new(2).unwrap();
        let inbox = steering.inbox(1).unwrap();
        assert!(steering.inbox(2).is_none());
        assert_eq!((0..2 * FRAMES).filter(|_| put(inbox, 60)).count(), FRAMES);
        let unmade = inbox.put(60, || -> Result<Handed, Infallible> { panic!("full") });
        assert_eq!(unmade, Ok(false));
        assert!(steering.inbox(0).unwrap().is_empty());
        while inbox.take().is_some() {}
        let most = BYTES / 65_000;
        assert_eq!((0..FRAMES).filter(|_| put(inbox, 65_000)).count(), most);
        assert!(inbox.take().is_some());
        assert!(put(inbox, 65_000) && !put(inbox, 65_000));
    }

    #[test]
    fn its_owner_is_woken_for_the_first_frame() {
        let steering = Steering::new(1).unwrap();
        let inbox = steering.inbox(0).unwrap();
        assert!(!rings(inbox));
        assert!(put(inbox, 60) && rings(inbox));
        inbox.hear();
        inbox.hear();
        assert!(put(inbox, 60) && !rings(inbox), "it knows of the first");
        while inbox.take().is_some() {}
        assert!(put(inbox, 60) && rings(inbox));
    }

    #[test]
    fn what_was_said_is_news_once() {
        let steering = Steering::new(2).unwrap();
        assert!(steering.news(0).is_none());
        let mut hashing = Hashing::new(2);
        let message = ControlMessage::SetHashAlgorithm(HashAlgorithm::Toeplitz);
        assert_eq!(hashing.handle(message, |_, _| false), Ok(0));
        steering.say(hashing.clone());
        let (seen, now) = steering.news(0).unwrap();
        assert_eq!(*now, hashing);
        assert!(steering.news(seen).is_none());
    }
}
