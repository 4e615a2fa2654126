//! One round trip: requests out, answers in, watch events put aside.

use std::time::Instant;

use crate::endpoint::Link;
use crate::error::StoreError;
use crate::request::{Reply, Request};
use crate::store::Store;
use crate::wire::{self, Message, Op};

impl Store {
    pub(crate) fn one(&mut self, tx: u32, request: &Request) -> Result<Reply, StoreError> {
        let replies = self.exchange(tx, std::slice::from_ref(request))?;
        replies.into_iter().next().ok_or(StoreError::Lost)
    }

    /// Sends requests ahead of their answers, as many as the link allows, and returns the answers in
    /// order.
    pub(crate) fn exchange(
        &mut self,
        tx: u32,
        requests: &[Request],
    ) -> Result<Vec<Reply>, StoreError> {
        // Checked beforehand, so that nothing is half sent.
        let link = self.link.as_ref().ok_or(StoreError::Lost)?;
        let (limit, window) = (link.payload_limit(), link.window());
        requests
            .iter()
            .try_for_each(|request| request.fits(limit))?;
        let deadline = Instant::now() + self.patience;
        let mut replies: Vec<Option<Reply>> = requests.iter().map(|_| None).collect();
        let first = self.last_request.wrapping_add(1);
        let (mut sent, mut answered) = (0, 0);
        while answered < requests.len() {
            while let Some(request) = requests.get(sent).filter(|_| sent - answered < window) {
                self.last_request = self.last_request.wrapping_add(1);
                let message = request.message(self.last_request, tx);
                self.guarded(|link| link.post(&message))?;
                sent += 1;
            }
            let message = self.next_answer(deadline)?;
            let index = usize::try_from(message.request.wrapping_sub(first)).unwrap_or(usize::MAX);
            let slot = replies
                .get_mut(index)
                .filter(|slot| slot.is_none() && index < sent);
            match (slot, requests.get(index)) {
                (Some(slot), Some(request)) if request.takes(message.op) => {
                    *slot = Some(request.reply(message));
                    answered += 1;
                }
                _ => return self.abandon("answer to nothing that was asked"),
            }
        }
        Ok(replies.into_iter().flatten().collect())
    }

    fn next_answer(&mut self, deadline: Instant) -> Result<Message, StoreError> {
        let patience = self.patience;
        loop {
            while let Some(message) = self.guarded(Link::next_message)? {
                if message.op != Op::WatchEvent {
                    return Ok(message);
                }
                self.expect_event(&message)?;
            }
            self.guarded(|link| {
                link.flush()?;
                // Also who talks all the time, but never answers, is out of time then.
                let came = link.fill()? || link.wait(deadline)?;
                if came && Instant::now() < deadline {
                    Ok(())
                } else {
                    Err(StoreError::Timeout(patience))
                }
            })?;
        }
    }

    pub(crate) fn expect_event(&mut self, message: &Message) -> Result<(), StoreError> {
        let mut parts = wire::strings(&message.payload).map(String::from_utf8_lossy);
        match (message.op, parts.next(), parts.next()) {
            (Op::WatchEvent, Some(path), Some(token)) => {
                self.watches.push(&path, &token);
                Ok(())
            }
            _ => self.abandon("neither an answer nor a watch event"),
        }
    }

    /// Runs `work` on the link and drops the link when it fails.
    pub(crate) fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let outcome = self.link.as_mut().ok_or(StoreError::Lost).and_then(work);
        if outcome.is_err() {
            self.link = None;
        }
        outcome
    }

    fn abandon<T>(&mut self, nonsense: &str) -> Result<T, StoreError> {
        self.guarded(|_| Err(StoreError::Protocol(nonsense.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::errno::Errno;

    /// How many of 40 requests are sent to a xenstored that answers none of them.
    fn sent_ahead(endpoint: Endpoint) -> usize {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let link = Link::over(ours.into(), &endpoint);
        let mut store = Store::over(link, endpoint);
        store.set_patience(Duration::from_millis(1));
        let requests: Vec<Request> = (0..40)
            .map(|n| Request::path(Op::Read, &format!("/a/{n}")).unwrap())
            .collect();
        let refused = store.exchange(0, &requests);
        assert!(
            matches!(refused, Err(StoreError::Timeout(_))),
            "{refused:?}"
        );
        drop(store);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).unwrap();
        let mut decoder = wire::Decoder::default();
        decoder.feed(&bytes);
        std::iter::from_fn(|| decoder.next_message().unwrap()).count()
    }

    /// Every write to `/dev/full` fails with `ENOSPC`, as a write to the kernel's device does when
    /// xenstored refuses a watch over the quota.
    #[test]
    fn a_watch_that_the_kernel_refuses_ends_no_connection() {
        let mut store = Store::connect(Endpoint::Kernel("/dev/full".into())).unwrap();
        for _ in 0..2 {
            let refused = store.watch("/a", "t");
            let errno = refused.as_ref().err().and_then(StoreError::errno);
            assert_eq!(errno, Some(&Errno::NoSpace), "{refused:?}");
            assert!(store.is_connected());
        }
        assert!(!store.watches.has("/a", "t"));
    }

    /// It may be the end of a transaction that did not get out: only a new connection is sure to
    /// leave none open.
    #[test]
    fn anything_else_that_cannot_be_written_ends_the_connection() {
        let mut store = Store::connect(Endpoint::Kernel("/dev/full".into())).unwrap();
        assert_eq!(store.read("/a"), Err(StoreError::Lost));
        assert!(!store.is_connected());
    }

    #[test]
    fn a_socket_takes_requests_ahead_of_their_answers() {
        assert_eq!(sent_ahead(Endpoint::Socket("/s".into())), 16);
    }

    #[test]
    fn the_kernel_has_room_for_one_request() {
        assert_eq!(sent_ahead(Endpoint::Kernel("/k".into())), 1);
    }
}
