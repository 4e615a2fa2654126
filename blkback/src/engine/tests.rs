//! What both engines must do, on a real file.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};

use super::*;
use crate::spec::DiskSpec;

const LONG: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

struct Rig {
    engine: Engine,
    pages: Arc<LocalPages>,
    file: File,
    spec: DiskSpec,
    events: OwnedFd,
    stop: OwnedFd,
}

fn bell() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// An engine over a memory file of 1 MiB.
fn rig(choice: EngineChoice, read_only: bool) -> Rig {
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(MIB).unwrap();
    let spec = DiskSpec {
        sectors: MIB / 512,
        sector_size: 512,
        read_only,
        block_device: false,
        discard: None,
        flush: true,
    };
    let disk = if read_only {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        OwnedFd::from(File::open(path).unwrap())
    } else {
        file.as_fd().try_clone_to_owned().unwrap()
    };
    let disk = Arc::new(Disk::new(disk, spec.clone()));
    let pages = Arc::new(LocalPages::new(64).unwrap());
    let (events, stop) = (bell(), bell());
    let sources = WakeSources::new(&events, &stop);
    let engine = Engine::new(choice, &disk, &pages, sources, 32).unwrap();
    Rig {
        engine,
        pages,
        file,
        spec,
        events,
        stop,
    }
}

fn both(test: impl Fn(Rig)) {
    for choice in [EngineChoice::IoUring, EngineChoice::Threads] {
        test(rig(choice, false));
    }
}

impl Rig {
    /// Waits for `count` completions, at most twenty seconds.
    fn completions(&mut self, count: usize) -> Vec<Completion> {
        let deadline = Instant::now() + LONG;
        let mut seen = Vec::new();
        while seen.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} came", seen.len());
            self.engine.wait(Some(deadline)).unwrap();
            self.engine.reap(&mut seen).unwrap();
        }
        seen.sort_by_key(|completion| completion.token);
        seen
    }

    fn one(&mut self, io: Io) -> Result<u64, Errno> {
        self.engine.submit(io).unwrap();
        let seen = self.completions(1);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].token, io.token);
        assert_eq!(self.engine.in_flight(), 0);
        seen[0].result
    }
}

fn io(token: u32, kind: IoKind, offset: u64, len: u64, at: usize) -> Io {
    Io {
        token,
        kind,
        offset,
        len,
        at,
    }
}

#[test]
fn what_is_written_is_read() {
    both(|mut rig| {
        rig.pages
            .write(4096, b"seven dragons guard the disk")
            .unwrap();
        assert_eq!(rig.one(io(3, IoKind::Write, 8192, 4096, 4096)), Ok(4096));
        assert_eq!(rig.one(io(4, IoKind::Read, 8192, 4096, 0)), Ok(4096));
        let mut back = [0; 28];
        rig.pages.read(0, &mut back).unwrap();
        assert_eq!(&back, b"seven dragons guard the disk");
    });
}

#[test]
fn a_full_depth_completes_each_token_once() {
    both(|mut rig| {
        for token in 0..32 {
            let offset = u64::from(token) * 4096;
            let at = token as usize * 4096;
            rig.engine
                .submit(io(token, IoKind::Write, offset, 4096, at))
                .unwrap();
        }
        rig.engine.flush().unwrap();
        let tokens: Vec<u32> = rig.completions(32).iter().map(|done| done.token).collect();
        assert_eq!(tokens, (0..32).collect::<Vec<_>>());
        assert_eq!(rig.engine.in_flight(), 0);
    });
}

#[test]
fn blk_11_a_read_beyond_the_end_is_short() {
    both(|mut rig| {
        rig.file.set_len(4096 + 512).unwrap();
        assert_eq!(rig.one(io(0, IoKind::Read, 4096, 4096, 0)), Ok(512));
        assert_eq!(rig.one(io(0, IoKind::Read, 8192, 4096, 0)), Ok(0));
    });
}

#[test]
fn blk_06_a_disk_that_was_opened_for_reading_cannot_be_written() {
    for choice in [EngineChoice::IoUring, EngineChoice::Threads] {
        let mut rig = rig(choice, true);
        assert_eq!(
            rig.one(io(0, IoKind::Write, 0, 4096, 0)),
            Err(Errno::BADF),
            "{choice:?}"
        );
    }
}

#[test]
fn a_flush_and_a_hole() {
    both(|mut rig| {
        rig.pages.write(0, &[0xAA; 8192]).unwrap();
        assert_eq!(rig.one(io(0, IoKind::Write, 0, 8192, 0)), Ok(8192));
        rig.one(Io::flush(1)).unwrap();
        rig.one(io(2, IoKind::Discard, 4096, 4096, 0)).unwrap();
        assert_eq!(rig.one(io(3, IoKind::Read, 0, 8192, 8192)), Ok(8192));
        let mut back = [1; 8192];
        rig.pages.read(8192, &mut back).unwrap();
        assert!(back[..4096].iter().all(|byte| *byte == 0xAA));
        assert!(back[4096..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn an_event_and_a_stop_wake_a_sleeping_engine() {
    both(|mut rig| {
        let mut none = Vec::new();
        assert_eq!(rig.engine.reap(&mut none).unwrap(), Wake::default());
        for round in 0..3 {
            rustix::io::write(&rig.events, &1_u64.to_ne_bytes()).unwrap();
            let wake = rig.wake();
            assert!(wake.event && !wake.stop, "round {round}: {wake:?}");
            rustix::io::read(&rig.events, &mut [0; 8]).unwrap();
        }
        rustix::io::write(&rig.stop, &1_u64.to_ne_bytes()).unwrap();
        assert!(rig.wake().stop);
        assert!(none.is_empty());
    });
}

impl Rig {
    /// Waits for something other than a completion.
    fn wake(&mut self) -> Wake {
        let deadline = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < deadline, "nothing woke the engine");
            self.engine.wait(Some(deadline)).unwrap();
            let wake = self.engine.reap(&mut Vec::new()).unwrap();
            if wake != Wake::default() {
                return wake;
            }
        }
    }
}

#[test]
fn a_deadline_ends_the_sleep() {
    both(|mut rig| {
        let deadline = Instant::now() + Duration::from_millis(5);
        while Instant::now() < deadline {
            rig.engine.wait(Some(deadline)).unwrap();
        }
        assert_eq!(rig.engine.reap(&mut Vec::new()).unwrap(), Wake::default());
    });
}

#[test]
fn a_stop_is_seen_by_an_engine_that_never_sleeps() {
    both(|mut rig| {
        rustix::io::write(&rig.stop, &1_u64.to_ne_bytes()).unwrap();
        let deadline = Instant::now() + LONG;
        let mut none = Vec::new();
        loop {
            rig.engine.flush().unwrap();
            if rig.engine.reap(&mut none).unwrap().stop {
                break;
            }
            assert!(Instant::now() < deadline, "the stop is not seen");
        }
    });
}

#[test]
fn a_stop_that_was_seen_wakes_no_more() {
    both(|mut rig| {
        rustix::io::write(&rig.stop, &1_u64.to_ne_bytes()).unwrap();
        assert!(rig.wake().stop);
        let deadline = Instant::now() + Duration::from_millis(100);
        let mut wakes = 0;
        while Instant::now() < deadline {
            rig.engine.wait(Some(deadline)).unwrap();
            rig.engine.reap(&mut Vec::new()).unwrap();
            wakes += 1;
        }
        assert!(wakes < 10, "it spins while the disk finishes: {wakes}");
    });
}

#[test]
fn an_engine_that_is_gone_has_let_go_of_the_disk() {
    use rustix::fs::{FlockOperation, flock};

    for choice in [EngineChoice::IoUring, EngineChoice::Threads] {
        let mut rig = rig(choice, true);
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&rig.file)
        );
        let lock = OwnedFd::from(File::open(path).unwrap());
        let spec = rig.spec.clone();
        for _ in 0..10 {
            flock(&lock, FlockOperation::Unlock).unwrap();
            let path = format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&rig.file)
            );
            let disk = OwnedFd::from(File::open(path).unwrap());
            flock(&disk, FlockOperation::NonBlockingLockExclusive).unwrap();
            let disk = Arc::new(Disk::new(disk, spec.clone()));
            let sources = WakeSources::new(&rig.events, &rig.stop);
            rig.engine = Engine::new(choice, &disk, &rig.pages, sources, 32).unwrap();
            drop(disk);
            assert_eq!(rig.one(io(0, IoKind::Read, 0, 4096, 0)), Ok(4096));
            let (events, stop) = (bell(), bell());
            let other = Arc::new(Disk::new(bell(), spec.clone()));
            let sources = WakeSources::new(&events, &stop);
            // Whoever is told that the device is disconnected may lock the image at once.
            rig.engine =
                Engine::new(EngineChoice::Threads, &other, &rig.pages, sources, 32).unwrap();
            let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
            assert_eq!(locked, Ok(()), "{choice:?} keeps the disk open");
        }
    }
}
