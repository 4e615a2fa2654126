//! From the guest's words to work that is ready for the disk.

use gntdev::CopyDirection;
use ring_proto::blkif::{Reject, Request};

use super::slot::{Job, Move, Task};
use super::{Queue, QueueFault};

impl Queue {
    /// Takes what the ring holds, up to one ring of requests; true if there may be more.
    pub(super) fn take_requests(&mut self) -> Result<bool, QueueFault> {
        self.data.begin_sweep();
        self.feed_starved()?;
        if self.stopping {
            return Ok(false);
        }
        for _ in 0..self.ring.slots() {
            if !self.work.starved.is_empty() || !self.take_request()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Moves the staged pages: the descriptors of indirect requests if there are any, whose data
    /// can be staged only then, and then all data.
    pub(super) fn move_data(&mut self) -> Result<(), QueueFault> {
        if !self.work.fetching.is_empty() {
            self.copy_staged()?;
            let mut fetching = std::mem::take(&mut self.work.fetching);
            for token in fetching.drain(..) {
                self.resolve(token)?;
            }
            self.work.fetching = fetching;
        }
        self.copy_staged()
    }

    /// Takes one request into a slot and begins it; false if there is none.
    fn take_request(&mut self) -> Result<bool, QueueFault> {
        let Some((token, slot)) = self.slots.vacant() else {
            return Ok(false);
        };
        let Some(claim) = slot.raw.take_from(&mut self.ring, self.abi)? else {
            return Ok(false);
        };
        self.bell.note_request();
        match Request::parse(&slot.raw, &self.geometry) {
            Ok(request) => {
                let task = Task {
                    claim,
                    echo: request.echo(),
                    job: Job::from(request.body),
                    copy_failed: false,
                    retries: 0,
                    flush: None,
                };
                self.slots.occupy(task);
                self.start(token)?;
            }
            Err(reject) => {
                self.refused(&reject);
                self.ring
                    .respond(claim, &reject.response().encode(self.abi));
            }
        }
        Ok(true)
    }

    /// Hands a request on to whatever it needs first.
    fn start(&mut self, token: u32) -> Result<(), QueueFault> {
        let Some(task) = self.slots.task(token) else {
            return Ok(());
        };
        if task.job.changes_disk() && self.disk.has_failed_flush() {
            self.fail(token);
            return Ok(());
        }
        match &task.job {
            Job::Discard { left } => {
                self.counters.discards += 1;
                if left.bytes == 0 {
                    self.work.done.push(token);
                } else {
                    self.submit(token)?;
                }
            }
            Job::Flush => {
                self.counters.flushes += 1;
                self.submit(token)?;
            }
            Job::Fetch { .. } | Job::Move(_) => {
                // Those that wait already come first.
                if !self.work.starved.is_empty() || !self.give_pages(token)? {
                    self.work.starved.push_back(token);
                }
            }
            Job::Withheld => {}
        }
        Ok(())
    }

    /// Requests that had to wait for private pages, in their order.
    fn feed_starved(&mut self) -> Result<(), QueueFault> {
        while let Some(&token) = self.work.starved.front() {
            if !self.give_pages(token)? {
                return Ok(());
            }
            self.work.starved.pop_front();
        }
        Ok(())
    }

    /// Lends private pages to a request and stages what has to be copied into them; false if there
    /// are not enough.
    fn give_pages(&mut self, token: u32) -> Result<bool, QueueFault> {
        let Some(slot) = self.slots.slot(token) else {
            return Ok(true);
        };
        let (bytes, run) = match slot.task.as_mut().map(|task| &mut task.job) {
            Some(Job::Fetch { bytes, run }) => (*bytes, run),
            Some(Job::Move(job)) => (job.bytes as usize, &mut job.run),
            _ => return Ok(true),
        };
        let Some(lent) = self.arena.take(bytes) else {
            return Ok(false);
        };
        let at = (token, lent.at());
        *run = Some(lent);
        match slot.task.as_ref().map(|task| &task.job) {
            Some(Job::Fetch { .. }) => {
                slot.stage_descriptors(&mut self.data, at, &self.geometry)?;
                self.work.fetching.push(token);
            }
            Some(Job::Move(job)) => {
                if job.write {
                    let from_guest = CopyDirection::FromGuest;
                    slot.stage_data(&mut self.data, from_guest, at, &self.geometry)?;
                }
                self.work.ready.push(token);
            }
            _ => {}
        }
        Ok(true)
    }

    /// The descriptors of an indirect request are in private pages: judges them.
    fn resolve(&mut self, token: u32) -> Result<(), QueueFault> {
        let Some(slot) = self.slots.slot(token) else {
            return Ok(());
        };
        let Some(Task {
            job: Job::Fetch { bytes, run },
            copy_failed,
            ..
        }) = &mut slot.task
        else {
            return Ok(());
        };
        let (bytes, copy_failed) = (*bytes, *copy_failed);
        if let Some(run) = run.take() {
            let kept = slot.keep_descriptors(self.arena.pages(), run.at(), bytes);
            self.arena.give(run);
            kept?;
        }
        if copy_failed {
            self.fail(token);
            return Ok(());
        }
        let transfer = slot.indirect(&self.geometry).map(|indirect| {
            let transfer = indirect.resolve(&slot.descriptors, &self.geometry)?;
            Ok(Move::new(&transfer, indirect.is_write()))
        });
        match transfer {
            Some(Ok(job)) => {
                if let Some(task) = &mut slot.task {
                    task.job = Job::Move(job);
                }
                self.start(token)?;
            }
            Some(Err(reject)) => {
                self.refused(&reject);
                self.answer(token, Reject::response(&reject));
            }
            None => self.fail(token),
        }
        Ok(())
    }

    fn refused(&mut self, reject: &Reject) {
        self.counters.rejected += 1;
        tracing::debug!(%reject, "request refused");
    }

    fn copy_staged(&mut self) -> Result<(), QueueFault> {
        let slots = &mut self.slots;
        let counters = &mut self.counters;
        self.data.run(|token, status| {
            counters.copy_failures += 1;
            tracing::debug!(%status, "the frontend's page could not be copied");
            if let Some(task) = slots.task(token) {
                task.copy_failed = true;
            }
        })?;
        Ok(())
    }
}
