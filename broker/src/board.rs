//! Numbers that a worker writes and its broker reads, without a word between the two.
//!
//! They lie in a memory file that the broker makes and passes along with the device, so they can be
//! read while the worker is busy, and when it has ended. What nobody has written reads as zero and
//! takes no memory. The broker believes nothing of it, and reads it as a file: a worker in bad hands
//! can write what it likes, and no more.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::fs::{SealFlags, fcntl_add_seals, fstat, ftruncate};
use rustix::io::{Errno, pread};

use crate::memory;
use crate::sys::SharedNumbers;

/// The broker's end.
#[derive(Debug)]
pub struct Board {
    file: OwnedFd,
}

impl Board {
    /// So many zeros.
    ///
    /// # Errors
    /// The host has no memory or no descriptor left.
    pub fn new(numbers: usize) -> io::Result<Self> {
        let file = memory::file("xen-board")?;
        let bytes = numbers.checked_mul(NUMBER).ok_or(Errno::FBIG)?;
        ftruncate(&file, bytes.try_into().map_err(io::Error::other)?)?;
        // A worker cannot have the broker's memory grow, nor its own mapping end.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { file })
    }

    /// A descriptor for [`Tally::adopt`].
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    /// Some of the numbers; fewer, if there are no more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, range: Range<usize>) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; range.len().saturating_mul(NUMBER)];
        let start = range.start.checked_mul(NUMBER).ok_or(Errno::FBIG)?;
        let start = u64::try_from(start).map_err(io::Error::other)?;
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match pread(&self.file, rest, start + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        bytes.truncate(read);
        let (numbers, _) = bytes.as_chunks();
        Ok(numbers.iter().copied().map(u64::from_ne_bytes).collect())
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Tally {
    numbers: SharedNumbers,
}

impl Tally {
    /// That of a board.
    ///
    /// # Errors
    /// It is none, or there is no memory left.
    pub fn adopt(file: &OwnedFd) -> io::Result<Self> {
        let bytes = usize::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
        let numbers = SharedNumbers::map(file.as_fd(), bytes / NUMBER)?;
        Ok(Self { numbers })
    }

    /// All numbers.
    #[must_use]
    pub fn all(&self) -> &[AtomicU64] {
        self.numbers.all()
    }
}

const NUMBER: usize = size_of::<u64>();

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_there_is_not() {
        let board = Board::new(3).unwrap();
        let tally = Tally::adopt(&board.share().unwrap()).unwrap();
        assert_eq!(tally.all().len(), 3);
        tally.all()[1].store(7, Ordering::Relaxed);
        assert_eq!(board.read(0..3).unwrap(), [0, 7, 0]);
        assert_eq!(board.read(1..9).unwrap(), [7, 0]);
        assert!(board.read(4..9).unwrap().is_empty());
        tally.all()[2].fetch_add(u64::MAX, Ordering::Relaxed);
        drop(tally);
        assert_eq!(board.read(2..3).unwrap(), [u64::MAX]);
    }

    #[test]
    fn a_worker_can_neither_cut_it_off_nor_have_it_grow() {
        let board = Board::new(3).unwrap();
        let theirs = board.share().unwrap();
        for bytes in [0, 1 << 30] {
            assert_eq!(ftruncate(&theirs, bytes), Err(Errno::PERM));
        }
        assert_eq!(board.read(0..9).unwrap(), [0; 3]);
    }

    #[test]
    fn what_is_no_file_is_no_board() {
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(Tally::adopt(&pipe).is_err());
        assert!(Board::new(usize::MAX).is_err());
    }
}
