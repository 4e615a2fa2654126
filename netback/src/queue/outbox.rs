//! Frames of one sweep on their way to the tap.
//!
//! Each write to a tap brings its frame all the way to whoever receives it, which often is a program
//! that wakes up and takes the CPU when the write returns. Many frames are therefore written in one
//! system call: they are all there when that program looks.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use gntdev::LocalPages;
use io_uring::IoUring;
use ring_proto::netif::Receipt;

use super::layout::{Layout, Run};
use super::sys;
use crate::tap::TapQueue;

/// Frames that are ready to be sent, in their order.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: Vec<Outgoing>,
    writer: Writer,
}

/// A frame.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// What the guest is to be answered by.
    pub receipt: Receipt,
    /// Where it lies, with its virtio header in front.
    pub runs: Range<usize>,
    /// Its bytes, without that.
    pub len: u16,
}

/// Writes frames, many at once where the system allows that.
#[derive(Debug)]
struct Writer {
    batch: Option<sys::Batch>,
    /// Of each frame, whether the tap has taken it.
    taken: Vec<bool>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let ring = IoUring::new(sys::FRAMES);
        let ring = ring.inspect_err(|error| {
            tracing::info!(%error, "frames are written one by one: io_uring cannot be used");
        });
        Self {
            frames: Vec::new(),
            writer: Writer::new(ring.ok()),
        }
    }

    /// Puts a frame behind the others.
    pub(super) fn put(&mut self, frame: Outgoing) {
        self.frames.push(frame);
    }

    /// Sends all, and tells of each in order whether the tap has taken it. It has not if the interface
    /// is down, or its queue is full: so does a cable that is not plugged in.
    pub(super) fn send(
        &mut self,
        tap: &TapQueue,
        pages: &LocalPages,
        layout: &Layout,
        mut sent: impl FnMut(Outgoing, bool),
    ) {
        let frames = self.frames.iter();
        let frames = frames.map(|frame| layout.runs(frame.runs.clone()));
        let taken = self.writer.write(tap.as_fd(), pages, frames);
        for (frame, &taken) in self.frames.drain(..).zip(taken) {
            sent(frame, taken);
        }
    }
}

impl Writer {
    fn new(ring: Option<IoUring>) -> Self {
        Self {
            batch: ring.map(sys::Batch::new),
            taken: Vec::new(),
        }
    }

    fn write<'a>(
        &mut self,
        tap: BorrowedFd<'_>,
        pages: &LocalPages,
        frames: impl ExactSizeIterator<Item = &'a [Run]> + Clone,
    ) -> &[bool] {
        self.taken.clear();
        let count = frames.len();
        if count > 1
            && let Some(batch) = &mut self.batch
            && let Err(error) = batch.write(tap, pages, frames.clone(), &mut self.taken)
        {
            tracing::warn!(%error, "frames are written one by one from now on: io_uring has failed");
            self.batch = None;
        }
        for runs in frames.skip(self.taken.len()) {
            let written = sys::write(tap, pages, runs);
            self.taken.push(written.is_ok());
        }
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Bytes at two places of two pages.
    fn pages() -> LocalPages {
        let pages = LocalPages::new(2).unwrap();
        let text: Vec<u8> = (0..100).collect();
        pages.write(0, &text).unwrap();
        pages.write(4096, &text).unwrap();
        pages
    }

    /// Runs in these pages, and their bytes.
    fn frames() -> Vec<(Vec<Run>, Vec<u8>)> {
        let runs = (0..150).map(|n| match n % 3 {
            0 => vec![Run { at: n % 50, len: 9 }],
            1 => vec![Run { at: n % 50, len: 4 }, Run { at: 4096, len: 7 }],
            _ => vec![Run { at: 4100, len: 1 }; 19],
        });
        let bytes = |run: &Run| (0..100).skip(run.at % 4096).take(run.len);
        runs.map(|runs| (runs.clone(), runs.iter().flat_map(bytes).collect()))
            .collect()
    }

    /// Datagrams stand for the tap's frames: a write is one, whole or not at all.
    fn check(writer: &mut Writer) {
        let (tap, other) = UnixDatagram::pair().unwrap();
        let (pages, frames) = (pages(), frames());
        let runs = || frames.iter().map(|(runs, _)| runs.as_slice());
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut frame = [0; 64];
                let mut next = || other.recv(&mut frame).map(|len| frame[..len].to_vec());
                (0..150).map(|_| next().unwrap()).collect::<Vec<_>>()
            });
            let taken = writer.write(tap.as_fd(), &pages, runs());
            assert_eq!(taken, [true; 150]);
            let bytes: Vec<_> = frames.iter().map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(reader.join().unwrap(), bytes);
        });
        // Nobody reads any more.
        let taken = writer.write(tap.as_fd(), &pages, runs());
        assert_eq!(taken, [false; 150]);
    }

    #[test]
    fn frames_are_written_in_order_whatever_their_runs_and_what_is_not_taken_is_told() {
        let ring = IoUring::new(sys::FRAMES).unwrap();
        let mut batches = Writer::new(Some(ring));
        check(&mut batches);
        assert!(batches.batch.is_some(), "the ring was not used to the end");
        check(&mut Writer::new(None));
    }

    #[test]
    fn flt_16_a_ring_that_fails_is_given_up_and_its_frames_are_written_all_the_same() {
        // It takes nothing before it is enabled, which it never is.
        let ring = IoUring::builder().setup_r_disabled().build(sys::FRAMES);
        let mut writer = Writer::new(Some(ring.unwrap()));
        check(&mut writer);
        assert!(writer.batch.is_none());
    }
}
