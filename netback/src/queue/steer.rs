//! One queue's part in spreading frames as the guest says.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ring_proto::netif::Hash;

use crate::hash::Hashing;
use crate::steering::{Handed, Inbox, Steering};

/// Which queue a frame belongs to, and what the guest is told about its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// This one.
    Here(Option<Hash>),
    /// Another one.
    Queue(u32, Option<Hash>),
}

/// What a queue of a VIF with a control ring knows.
#[derive(Debug)]
pub struct Steer {
    steering: Arc<Steering>,
    queue: u32,
    /// The last change that was seen.
    seen: u32,
    /// What the guest has said; none while it wants no hashing.
    hashing: Option<Arc<Hashing>>,
    /// The inbox may hold frames.
    handed: bool,
}

impl Steer {
    /// Of the queue with this number.
    #[must_use]
    pub const fn new(steering: Arc<Steering>, queue: u32) -> Self {
        Self {
            steering,
            queue,
            seen: 0,
            hashing: None,
            handed: false,
        }
    }

    /// Takes over what the guest has said since; true if it wants hashes.
    pub(super) fn follow(&mut self) -> bool {
        if let Some((seen, hashing)) = self.steering.news(self.seen) {
            self.seen = seen;
            self.hashing = hashing.is_on().then_some(hashing);
        }
        self.hashing.is_some()
    }

    /// Where a frame that starts with `head` goes.
    pub(super) fn route(&self, head: &[u8]) -> Route {
        let Some(hashing) = &self.hashing else {
            return Route::Here(None);
        };
        let hash = hashing.of(head);
        match hashing.queue(hash) {
            Some(queue) if queue != self.queue => Route::Queue(queue, hash),
            _ => Route::Here(hash),
        }
    }

    /// Where frames for another queue are put.
    pub(super) fn inbox_of(&self, queue: u32) -> Option<&Inbox> {
        self.steering.inbox(queue)
    }

    /// The inbox has rung.
    pub(super) fn note_handed(&mut self) {
        if let Some(inbox) = self.steering.inbox(self.queue) {
            inbox.hear();
            self.handed = true;
        }
    }

    /// May there be frames in the inbox?
    pub(super) const fn has_handed(&self) -> bool {
        self.handed
    }

    /// Are there frames in the inbox, whether it has rung or not?
    pub(super) fn holds_frames(&self) -> bool {
        self.inbox_of(self.queue)
            .is_some_and(|inbox| !inbox.is_empty())
    }

    /// The next frame that another queue has read.
    pub(super) fn take(&mut self) -> Option<Handed> {
        let frame = self.steering.inbox(self.queue).and_then(Inbox::take);
        self.handed = frame.is_some();
        frame
    }

    /// For poll: readable when there may be frames in the inbox.
    pub(super) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.steering.inbox(self.queue).map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use ring_proto::GrantRef;
    use ring_proto::netif::{ControlMessage, HashAlgorithm, HashKinds};

    use super::*;

    /// All frames belong to queue 1 of 2.
    fn said(algorithm: HashAlgorithm) -> Hashing {
        let gref = GrantRef::new(7);
        let (count, offset) = (1, 0);
        let mut hashing = Hashing::new(2);
        for message in [
            ControlMessage::SetHashAlgorithm(HashAlgorithm::Toeplitz),
            ControlMessage::SetHashFlags(HashKinds::ALL),
            ControlMessage::SetHashMappingSize(1),
            ControlMessage::SetHashMapping {
                gref,
                count,
                offset,
            },
            ControlMessage::SetHashAlgorithm(algorithm),
        ] {
            let page = |_: GrantRef, bytes: &mut [u8]| {
                bytes.copy_from_slice(&[1, 0, 0, 0]);
                true
            };
            assert_eq!(hashing.handle(message, page), Ok(0));
        }
        hashing
    }

    #[test]
    fn a_queue_keeps_what_is_its_own_and_all_that_nobody_has_decided() {
        let steering = Arc::new(Steering::new(2).unwrap());
        let mut queues = [0, 1].map(|queue| Steer::new(Arc::clone(&steering), queue));
        let arp = [0; 60];
        for queue in &mut queues {
            assert!(!queue.follow());
            assert_eq!(queue.route(&arp), Route::Here(None));
        }
        steering.say(said(HashAlgorithm::Toeplitz));
        for queue in &mut queues {
            assert!(queue.follow() && queue.follow());
        }
        let routes = queues.each_ref().map(|queue| queue.route(&arp));
        assert_eq!(routes, [Route::Queue(1, None), Route::Here(None)]);
        steering.say(said(HashAlgorithm::None));
        for queue in &mut queues {
            assert!(!queue.follow());
            assert_eq!(queue.route(&arp), Route::Here(None));
        }
    }

    #[test]
    fn an_inbox_is_looked_at_until_it_is_empty() {
        let steering = Arc::new(Steering::new(2).unwrap());
        let [sender, mut owner] = [0, 1].map(|queue| Steer::new(Arc::clone(&steering), queue));
        let frame = || {
            Ok::<_, ()>(Handed {
                bytes: [0; 60].into(),
                hash: None,
            })
        };
        assert!(!owner.holds_frames());
        for _ in 0..2 {
            assert_eq!(sender.inbox_of(1).unwrap().put(60, frame), Ok(true));
        }
        assert!(owner.holds_frames() && !owner.has_handed());
        owner.note_handed();
        for _ in 0..2 {
            assert!(owner.has_handed() && owner.take().is_some());
        }
        assert!(owner.take().is_none() && !owner.has_handed());
    }
}
