//! A worker as a thread, on the simulated hypervisor: orders, reports, and what a queue does where
//! a whole daemon would be in the way.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod bench;

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use broker::channel::Received;
use broker::message::{Blame, FromWorker, ToWorker};
use pv_tests::frontend::{Done, Io, Queue, Shape};
use ring_proto::blkif::{Abi, Sent};
use ring_proto::{Notify, RingMemory};

use bench::{Bench, COPYING, DEVICE, Disk, ENGINES, LONG, PAGE, readable};

/// Takes responses until there are `count`, sleeping as a frontend sleeps.
fn answers(queue: &mut Queue, count: usize) -> Vec<Done> {
    let deadline = Instant::now() + LONG;
    let mut done = Vec::new();
    loop {
        while let Some(answer) = queue.take().unwrap() {
            done.push(answer);
        }
        if done.len() >= count {
            return done;
        }
        if !queue.rearm().unwrap() {
            let left = deadline.saturating_duration_since(Instant::now());
            let (had, wanted) = (done.len(), count);
            assert!(queue.port().wait(left).unwrap(), "{had} of {wanted} came");
        }
    }
}

fn ask(queue: &mut Queue, io: &Io<'_>) {
    queue.submit(io).unwrap().unwrap();
    queue.publish().unwrap();
}

/// Breaks the ring as only a hostile frontend does (RNG-01).
fn overrun(queue: &mut Queue) {
    let words = queue.ring().memory().words();
    words[0].fetch_add(5000, Ordering::Release);
    queue.port().notify().unwrap();
}

#[test]
fn no_wake_up_is_lost_between_two_that_sleep_in_turns() {
    for engine in ENGINES {
        for persistent in [true, false] {
            let shape = Shape {
                persistent,
                ..COPYING
            };
            let bench = Bench::start();
            let mut queue = bench.queue(shape);
            bench.connect(&queue, shape, engine, Disk::memory(1 << 20));
            for round in 0..2000_u64 {
                let data = [round.to_le_bytes()[0]; 4096];
                let sector = round % 256 * 8;
                let segments = PAGE;
                ask(
                    &mut queue,
                    &Io::Write {
                        sector,
                        segments,
                        data: &data,
                    },
                );
                assert_eq!(answers(&mut queue, 1)[0].status, 0);
                ask(&mut queue, &Io::Read { sector, segments });
                assert_eq!(answers(&mut queue, 1)[0].data, data);
            }
            bench.disconnect();
            queue.retire().unwrap();
            bench.end();
        }
    }
}

#[test]
fn a_device_that_was_disconnected_can_be_connected_at_once() {
    let bench = Bench::start();
    for round in 0..200 {
        let engine = ENGINES[round % 2];
        let queue = bench.queue(COPYING);
        bench.connect(&queue, COPYING, engine, Disk::memory(1 << 20));
        bench.disconnect();
        queue.retire().unwrap();
    }
    bench.end();
}

#[test]
fn con_02_a_broken_ring_is_one_fault_and_one_disconnect_is_answered_once() {
    for engine in ENGINES {
        let bench = Bench::start();
        for _ in 0..20 {
            let mut queue = bench.queue(COPYING);
            let sibling = bench.queue(COPYING);
            let disk = Disk::memory(1 << 20);
            bench.order(&[&queue, &sibling], COPYING, engine, disk);
            assert_eq!(bench.report(), FromWorker::Connected { device: DEVICE });
            overrun(&mut queue);
            let fault = bench.report();
            let guests = Blame::Guest;
            assert!(
                matches!(&fault, FromWorker::Fault { blame, .. } if *blame == guests),
                "{fault:?}"
            );
            bench.disconnect();
        }
        bench.end();
    }
}

#[test]
fn a_device_whose_queues_have_all_ended_waits_for_its_disconnect() {
    let bench = Bench::start();
    for _ in 0..50 {
        let mut queue = bench.queue(COPYING);
        bench.order(&[&queue], COPYING, ENGINES[0], Disk::memory(4096));
        assert_eq!(bench.report(), FromWorker::Connected { device: DEVICE });
        overrun(&mut queue);
        assert!(matches!(bench.report(), FromWorker::Fault { .. }));
        // The queue gives everything back without being told.
        let control = bench.machine.control().unwrap();
        let deadline = Instant::now() + LONG;
        while control.domains().unwrap()[0].mapped_pages > 0 {
            assert!(Instant::now() < deadline, "the ring stays mapped");
            std::thread::yield_now();
        }
        bench.disconnect();
    }
    // Unknown by now, and answered all the same.
    bench.disconnect();
    bench.end();
}

#[test]
fn a_worker_without_a_broker_ends_with_its_last_device() {
    let bench = Bench::start();
    let mut queue = bench.queue(COPYING);
    bench.connect(&queue, COPYING, ENGINES[0], Disk::memory(1 << 20));
    let Bench { broker, worker, .. } = bench;
    drop(broker);
    ask(
        &mut queue,
        &Io::Read {
            sector: 0,
            segments: PAGE,
        },
    );
    assert_eq!(answers(&mut queue, 1)[0].status, 0, "it serves on");
    overrun(&mut queue);
    let deadline = Instant::now() + LONG;
    while !worker.is_finished() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
    worker.join().unwrap().unwrap();
}

/// Whether the ring really never runs dry is up to the scheduler: the engines' own test of a stop
/// that is looked for without sleeping needs no luck.
#[test]
fn rng_04_a_ring_that_never_runs_dry_can_be_stopped() {
    for engine in ENGINES {
        let bench = Bench::start();
        let mut queue = bench.queue(COPYING);
        bench.connect(&queue, COPYING, engine, Disk::memory(1 << 20));
        let stop = AtomicBool::new(false);
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let unknown = Sent::Direct {
                    operation: 77,
                    nr_segments: 0,
                    handle: 0,
                    id: 1,
                    sector: 0,
                    segments: &[],
                };
                while !stop.load(Ordering::Relaxed) {
                    let ring = queue.ring();
                    while ring.take_response::<4>().unwrap().is_some() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                    while ring.push_request(&unknown.encode(Abi::Native)).is_ok() {}
                    if ring.publish() == Notify::Needed {
                        queue.port().notify().unwrap();
                    }
                }
            });
            let deadline = Instant::now() + LONG;
            while taken.load(Ordering::Relaxed) < 100_000 && Instant::now() < deadline {
                std::thread::yield_now();
            }
            queue_stops(&bench, &stop);
            flood.join().unwrap();
            assert!(taken.load(Ordering::Relaxed) >= 100_000);
        });
        bench.end();
    }
}

fn queue_stops(bench: &Bench, stop: &AtomicBool) {
    bench.say(&ToWorker::Disconnect { device: DEVICE });
    let deadline = Instant::now() + Duration::from_secs(10);
    let told = readable(&bench.broker.fd(), deadline);
    stop.store(true, Ordering::Relaxed);
    assert!(told, "the queue does not look whether it shall stop");
    assert_eq!(bench.report(), FromWorker::Disconnected { device: DEVICE });
}

#[test]
fn blk_10_discards_of_a_huge_disk_do_not_hold_up_a_disconnect() {
    for engine in ENGINES {
        let bench = Bench::start();
        let mut queue = bench.queue(COPYING);
        let sectors = 1 << 42;
        bench.connect(&queue, COPYING, engine, Disk::memory(sectors * 512));
        let discard = Io::Discard {
            sector: 0,
            sectors,
            secure: false,
        };
        for _ in 0..31 {
            ask(&mut queue, &discard);
        }
        // Requests are taken in their order.
        let (sector, segments) = (0, PAGE);
        ask(&mut queue, &Io::Read { sector, segments });
        assert_eq!(answers(&mut queue, 1)[0].status, 0);
        bench.disconnect();
        let all = answers(&mut queue, 31);
        assert!(all.iter().all(|answer| answer.status == -1));
        bench.end();
    }
}

#[test]
fn fe_14_a_flush_that_fails_is_not_answered_and_nothing_is_written_after_it() {
    for engine in ENGINES {
        let bench = Bench::start();
        let mut queue = bench.queue(COPYING);
        // Reads zeros, takes writes, cannot be flushed.
        let file = File::options().read(true).write(true).open("/dev/zero");
        let disk = Disk::over(file.unwrap().into(), 1 << 20);
        bench.connect(&queue, COPYING, engine, disk);
        let (sector, segments) = (0, PAGE);
        let write = Io::Write {
            sector,
            segments,
            data: &[1; 4096],
        };
        ask(&mut queue, &write);
        assert_eq!(answers(&mut queue, 1)[0].status, 0);
        ask(&mut queue, &Io::Flush);
        assert!(matches!(
            bench.report(),
            FromWorker::Alert { device: DEVICE, .. }
        ));
        ask(&mut queue, &Io::Flush);
        ask(&mut queue, &write);
        assert_eq!(answers(&mut queue, 1)[0].status, -1);
        ask(&mut queue, &Io::Read { sector, segments });
        assert_eq!(answers(&mut queue, 1)[0].status, 0);
        assert_eq!(queue.open(), 2, "both flushes are open");
        bench.disconnect();
        bench.end();
    }
}

#[test]
fn a_hypervisor_that_is_lost_under_load_is_a_fault_and_the_queue_ends() {
    for engine in ENGINES {
        for _ in 0..10 {
            let bench = Bench::start();
            let mut queue = bench.queue(COPYING);
            bench.connect(&queue, COPYING, engine, Disk::memory(1 << 20));
            for sector in 0..32 {
                let segments = PAGE;
                queue.submit(&Io::Read { sector, segments }).unwrap();
            }
            queue.publish().unwrap();
            let Bench {
                broker,
                machine,
                worker,
                guest,
            } = bench;
            drop(machine);
            let deadline = Instant::now() + LONG;
            let mut reports = Vec::new();
            broker
                .send(&ToWorker::Disconnect { device: DEVICE }, &[])
                .unwrap();
            while reports.last() != Some(&FromWorker::Disconnected { device: DEVICE }) {
                assert!(readable(&broker.fd(), deadline), "{reports:?} {engine:?}");
                if let Received::Message(report, _) = broker.try_recv().unwrap() {
                    reports.push(report);
                }
            }
            drop(broker);
            worker.join().unwrap().unwrap();
            drop(guest);
        }
    }
}
