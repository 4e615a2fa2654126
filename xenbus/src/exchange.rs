//! One round trip: requests out, answers in, watch events put aside.

use std::time::Instant;

use crate::endpoint::Link;
use crate::error::StoreError;
use crate::request::{Reply, Request};
use crate::store::Store;
use crate::wire::{self, Message, Op};

/// Requests sent ahead of their answers. xenstored lets an unprivileged domain have 20 outstanding.
const WINDOW: usize = 16;

impl Store {
    pub(crate) fn one(&mut self, tx: u32, request: &Request) -> Result<Reply, StoreError> {
        let replies = self.exchange(tx, std::slice::from_ref(request))?;
        replies.into_iter().next().ok_or(StoreError::Lost)
    }

    /// Sends requests ahead of their answers, at most [`WINDOW`] of them, and returns the answers
    /// in order.
    pub(crate) fn exchange(
        &mut self,
        tx: u32,
        requests: &[Request],
    ) -> Result<Vec<Reply>, StoreError> {
        // Checked beforehand, so that nothing is half sent.
        let limit = self.link.as_ref().ok_or(StoreError::Lost)?.payload_limit();
        requests
            .iter()
            .try_for_each(|request| request.fits(limit))?;
        let deadline = Instant::now() + self.patience;
        let mut replies: Vec<Option<Reply>> = requests.iter().map(|_| None).collect();
        let first = self.last_request.wrapping_add(1);
        let (mut sent, mut answered) = (0, 0);
        while answered < requests.len() {
            while let Some(request) = requests.get(sent).filter(|_| sent - answered < WINDOW) {
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
