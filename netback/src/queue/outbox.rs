//! Frames of one sweep on their way to the tap.
//!
//! Each write to a tap brings its frame all the way to whoever receives it, which often is a program
//! that wakes up and takes the CPU when the write returns. Many frames are therefore written in one
//! system call: they are all there when that program looks.

use std::ops::Range;
use std::os::fd::AsFd;

use gntdev::LocalPages;
use ring_proto::netif::Receipt;

use super::layout::Layout;
use super::{QueueFault, sys};
use crate::tap::TapQueue;

/// Frames that are ready to be sent, in their order.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: Vec<Outgoing>,
    /// None where the system lets nobody use `io_uring`.
    batch: Option<sys::Batch>,
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

impl Outbox {
    pub(super) fn new() -> Self {
        let batch = sys::Batch::new();
        let batch = batch.inspect_err(|error| {
            tracing::info!(%error, "frames are written one by one: io_uring cannot be used");
        });
        Self {
            frames: Vec::new(),
            batch: batch.ok(),
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
    ) -> Result<(), QueueFault> {
        match &mut self.batch {
            Some(batch) if self.frames.len() > 1 => {
                let frames = self.frames.iter();
                let frames = frames.map(|frame| layout.runs(frame.runs.clone()));
                let dropped = batch.send(tap.as_fd(), pages, frames);
                let dropped = dropped.map_err(QueueFault::Tap)?;
                for (number, frame) in self.frames.drain(..).enumerate() {
                    sent(frame, !dropped.contains(&number));
                }
            }
            _ => {
                for frame in self.frames.drain(..) {
                    let done = sys::send(tap.as_fd(), pages, layout.runs(frame.runs.clone()));
                    sent(frame, done.is_ok());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::super::layout::Run;
    use super::*;

    /// Datagrams stand for the tap's frames: a write is one, whole or not at all.
    #[test]
    fn a_batch_writes_frames_in_order_whatever_their_runs_and_counts_what_is_not_taken() {
        let (tap, other) = UnixDatagram::pair().unwrap();
        let pages = LocalPages::new(2).unwrap();
        let text: Vec<u8> = (0..100).collect();
        pages.write(0, &text).unwrap();
        pages.write(4096, &text).unwrap();
        let frames: Vec<Vec<Run>> = (0..150)
            .map(|n| match n % 3 {
                0 => vec![Run { at: n % 50, len: 9 }],
                1 => vec![Run { at: n % 50, len: 4 }, Run { at: 4096, len: 7 }],
                _ => vec![Run { at: 4100, len: 1 }; 19],
            })
            .collect();
        let mut batch = sys::Batch::new().unwrap();
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for _ in 0..150 {
                let mut frame = [0; 64];
                let len = other.recv(&mut frame).unwrap();
                seen.push(frame[..len].to_vec());
            }
            seen
        });
        let all = || frames.iter().map(Vec::as_slice);
        assert!(batch.send(tap.as_fd(), &pages, all()).unwrap().is_empty());
        let expected: Vec<Vec<u8>> = frames
            .iter()
            .map(|runs| {
                let bytes = |run: &Run| text[run.at % 4096..][..run.len].to_vec();
                runs.iter().flat_map(bytes).collect()
            })
            .collect();
        assert_eq!(reader.join().unwrap(), expected);

        // Nobody reads any more.
        let dropped = batch.send(tap.as_fd(), &pages, all()).unwrap();
        assert_eq!(dropped, Vec::from_iter(0..frames.len()));
    }
}
