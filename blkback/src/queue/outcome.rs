//! From what the disk has done to answers.

use std::time::Instant;

use gntdev::CopyDirection;
use ring_proto::blkif::Response;
use rustix::io::Errno;
use tracing::{error, warn};

use super::slot::{Job, Move, Next, Task};
use super::{Queue, QueueFault};
use crate::data::Run;
use crate::disk::{Flush, Verdict};
use crate::engine::{Completion, Io, IoKind};

impl Queue {
    /// Looks at what has completed and what else has woken the queue.
    pub(super) fn reap(&mut self) -> Result<(), QueueFault> {
        let mut completions = std::mem::take(&mut self.work.completions);
        let woken = self.engine.reap(&mut completions);
        // All of them, whatever goes wrong: a completion comes once.
        let mut outcome = Ok(());
        for completion in completions.drain(..) {
            outcome = outcome.and(self.advance(completion));
        }
        self.work.completions = completions;
        outcome?;
        let wake = woken?;
        self.stopping |= wake.stop;
        if self.stopping {
            self.bell.mute();
            return Ok(());
        }
        if wake.event {
            self.bell.drain()?;
            self.bell.note_event(Instant::now);
        }
        Ok(self.bell.unmask(Instant::now)?)
    }

    /// Gives the disk everything whose data has arrived.
    pub(super) fn start_ready(&mut self) -> Result<(), QueueFault> {
        let mut ready = std::mem::take(&mut self.work.ready);
        let mut outcome = Ok(());
        for token in ready.drain(..) {
            // A write of which one page is missing must not be written in part (BLK-14).
            if self.slots.task(token).is_some_and(|task| task.copy_failed) {
                self.fail(token);
            } else {
                outcome = outcome.and(self.submit(token));
            }
        }
        self.work.ready = ready;
        outcome
    }

    /// Answers everything whose data has been delivered.
    pub(super) fn answer_done(&mut self) {
        let mut done = std::mem::take(&mut self.work.done);
        for token in done.drain(..) {
            let Some(task) = self.slots.task(token) else {
                continue;
            };
            if task.copy_failed {
                self.fail(token);
            } else {
                let response = task.echo.okay();
                self.answer(token, response);
            }
        }
        self.work.done = done;
    }

    /// Gives the disk the next operation of a request.
    pub(super) fn submit(&mut self, token: u32) -> Result<(), QueueFault> {
        let Some(task) = self.slots.task(token) else {
            return Ok(());
        };
        if task.job.is_flush() && task.flush.is_none() {
            task.flush = Some(self.disk.flushes().begin());
        }
        let io = match &task.job {
            Job::Move(job) if job.flush_first => Io::flush(token),
            Job::Move(job) => Io {
                token,
                kind: if job.write {
                    IoKind::Write
                } else {
                    IoKind::Read
                },
                offset: job.offset + u64::from(job.done),
                len: u64::from(job.bytes - job.done),
                at: job.run.as_ref().map_or(0, Run::at) + job.done as usize,
            },
            Job::Discard { left } => Io {
                token,
                kind: IoKind::Discard,
                offset: left.offset,
                len: left.piece(),
                at: 0,
            },
            Job::Flush => Io::flush(token),
            Job::Fetch { .. } | Job::Withheld => return Ok(()),
        };
        let submitted = self.engine.submit(io);
        if submitted.is_err() {
            self.fail(token);
        }
        Ok(submitted?)
    }

    /// Answers a request with an error, or withholds the answer of a flush, for which no error is
    /// safe.
    pub(super) fn fail(&mut self, token: u32) {
        let Some(task) = self.slots.task(token) else {
            return;
        };
        let Some(response) = task.echo.failed() else {
            task.job = Job::Withheld;
            return;
        };
        self.counters.failed += 1;
        self.answer(token, response);
    }

    /// Answers, and gives back what the request had.
    pub(super) fn answer(&mut self, token: u32, response: Response) {
        let Some(task) = self.slots.close(token) else {
            return;
        };
        self.ring.respond(task.claim, &response.encode(self.abi));
        if let Job::Fetch { run: Some(run), .. } | Job::Move(Move { run: Some(run), .. }) = task.job
        {
            self.arena.give(run);
        }
    }

    /// One operation of a request has completed: the next one, or the answer, or an error.
    fn advance(&mut self, completion: Completion) -> Result<(), QueueFault> {
        let token = completion.token;
        let Some(task) = self.slots.task(token) else {
            error!(token, "completion for no request");
            return Ok(());
        };
        let bytes = match completion.result {
            Ok(bytes) => bytes,
            Err(Errno::AGAIN | Errno::INTR) if task.retries < RETRIES => {
                task.retries += 1;
                return self.submit(token);
            }
            Err(errno) => {
                self.fail_by(token, errno);
                return Ok(());
            }
        };
        match task.flush.as_mut().map(Flush::done) {
            None => {}
            Some(Verdict::Kept) => task.flush = None,
            Some(Verdict::Again) => return self.submit(token),
            Some(Verdict::Lost) => {
                self.fail(token);
                return Ok(());
            }
        }
        let next = task.job.completed(bytes);
        let given_up = match &task.job {
            // A hint may be dropped half-way; a guest that is going must not take hours.
            Job::Discard { .. } if self.stopping => true,
            job => job.changes_disk() && self.disk.has_failed_flush(),
        };
        match next {
            Next::Operation if given_up => self.fail(token),
            Next::Operation => return self.submit(token),
            Next::Delivery => return self.deliver(token),
            Next::Answer => self.work.done.push(token),
            // The end of the image, where there was a disk when the guest was connected.
            Next::Nothing => self.fail_by(token, Errno::IO),
        }
        Ok(())
    }

    /// The disk has done all of a transfer: what was read goes to the guest.
    fn deliver(&mut self, token: u32) -> Result<(), QueueFault> {
        if let Some(slot) = self.slots.slot(token)
            && let Some(Task {
                job: Job::Move(job),
                ..
            }) = &slot.task
        {
            let bytes = u64::from(job.bytes);
            if job.write {
                self.counters.written(bytes);
            } else {
                self.counters.read(bytes);
                let at = (token, job.run.as_ref().map_or(0, Run::at));
                let to_guest = CopyDirection::ToGuest;
                slot.stage_data(&mut self.data, to_guest, at, &self.geometry)?;
            }
        }
        self.work.done.push(token);
        Ok(())
    }

    /// The disk said no.
    #[cold]
    fn fail_by(&mut self, token: u32, errno: Errno) {
        let Some(task) = self.slots.task(token) else {
            return;
        };
        let lost_first = task.flush.take().is_some_and(|mut flush| flush.failed());
        if matches!(task.job, Job::Discard { .. }) && is_unsupported(errno) {
            // The frontend stops asking, which is what it should do.
            let response = task.echo.unsupported();
            self.answer(token, response);
            return;
        }
        self.counters.disk_errors += 1;
        if self.counters.disk_errors.is_power_of_two() {
            let errors = self.counters.disk_errors;
            let why = match errno {
                Errno::NOSPC => "the file system of the image is full",
                _ => "see the kernel log for its reason",
            };
            warn!(%errno, errors, "the disk failed a request; {why}");
        }
        if lost_first {
            self.reporter.alert(format!(
                "a flush failed ({errno}): writes that were answered may be lost. All writes are \
                 refused from now on; check the storage, then detach and attach the disk"
            ));
        }
        self.fail(token);
    }
}

/// The disk cannot discard at all, as opposed to having failed to.
const fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS)
}

const RETRIES: u8 = 16;
