//! Verified I/O through the real daemon, in every shape that a frontend may ask for.

use anyhow::{Context, ensure};
use pv_tests::frontend::Device;
use pv_tests::frontend::load::packed;
use pv_tests::frontend::model::SECTOR;
use pv_tests::frontend::{Io, Load, Model, Plan, Protocol, Segments, Shape};
use pv_tests::scene::{Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};

/// 16 MiB.
const SECTORS: usize = 32768;

const IO_URING: &str = "engine = \"io-uring\"\nmax-queues = 4\n";
const THREADS: &str = "engine = \"threads\"\nmax-queues = 4\n";

/// Every combination of layout, grants, ring size, queues and segments that there is to ask for.
fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for protocol in Protocol::ALL {
        for persistent in [true, false] {
            for order in [None, Some(0), Some(1), Some(4)] {
                for queues in [1, 2, 4] {
                    for segments in [
                        Segments::Direct,
                        Segments::IndirectIfMany,
                        Segments::Indirect,
                    ] {
                        shapes.push(Shape {
                            protocol,
                            persistent,
                            order,
                            queues,
                            segments,
                        });
                    }
                }
            }
        }
    }
    shapes
}

/// The same disk, attached and detached for each shape.
fn verified_in_all_shapes(config: &str, wanted: fn(&Shape) -> bool) -> anyhow::Result<()> {
    let mut scene = Scene::start(config)?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let mut disk = DiskLine::image(XVDA, &image);
    for (seed, shape) in shapes().into_iter().filter(wanted).enumerate() {
        // Another number each time: of the same one, a toolstack would not attach so many either.
        disk.vdev += 16;
        let device = scene.attach(&guest, &disk)?;
        let step = verified(&mut model, device, shape, seed as u64);
        step.with_context(|| format!("{shape}\n{}", scene.told()))?;
        scene.toolstack().detach(guest.domid(), disk.vdev)?;
    }
    scene.wait_unmapped(guest.domid())?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

fn verified(model: &mut Model, device: Device, shape: Shape, seed: u64) -> anyhow::Result<Device> {
    let mut front = device.connect(shape)?;
    ensure!(
        front.persistent() == shape.persistent,
        "grants are not as agreed"
    );
    let plan = Plan {
        scattered: seed.is_multiple_of(2),
        max_sectors: if shape.segments == Segments::Direct {
            88
        } else {
            160
        },
        depth: 12,
        seed,
        ..Plan::MIXED
    };
    Load::new(&mut front, model, plan).run(120)?;
    front.close()
}

/// CON-08: a frontend that starts over in another shape; nothing of a connection may be left for
/// the next one.
#[test]
fn con_08_a_frontend_starts_over_in_other_shapes() -> anyhow::Result<()> {
    let mut scene = Scene::start(IO_URING)?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let mut device = scene.attach(&guest, &DiskLine::image(XVDA, &image))?;
    let mut shape = Shape::LINUX;
    for (protocol, persistent, order, queues) in [
        (Protocol::X86_32, false, Some(4), 4),
        (Protocol::X86_64, true, None, 1),
        (Protocol::Unsaid, true, Some(2), 2),
        (Protocol::Arm, false, Some(0), 1),
    ] {
        shape = Shape {
            protocol,
            persistent,
            order,
            queues,
            ..shape
        };
        let step = verified(&mut model, device, shape, u64::from(queues));
        device = step.with_context(|| format!("{shape}\n{}", scene.told()))?;
        device.start_over()?;
    }
    scene.toolstack().detach(guest.domid(), XVDA)?;
    scene.wait_unmapped(guest.domid())?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn io_uring_persistent_in_all_shapes() -> anyhow::Result<()> {
    verified_in_all_shapes(IO_URING, |shape| shape.persistent)
}

#[test]
fn io_uring_copying_in_all_shapes() -> anyhow::Result<()> {
    verified_in_all_shapes(IO_URING, |shape| !shape.persistent)
}

#[test]
fn threads_persistent_in_all_shapes() -> anyhow::Result<()> {
    verified_in_all_shapes(THREADS, |shape| shape.persistent)
}

#[test]
fn threads_copying_in_all_shapes() -> anyhow::Result<()> {
    verified_in_all_shapes(THREADS, |shape| !shape.persistent)
}

#[test]
fn grants_are_ended_when_the_backend_does_not_keep_them() -> anyhow::Result<()> {
    let mut scene = Scene::start("persistent-grants = false")?;
    let mut model = Model::filled(2, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
    assert!(!front.persistent(), "offered against the configuration");
    Load::new(&mut front, &mut model, Plan::MIXED).run(500)?;
    front.close()?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn indirect_requests_are_not_offered_when_they_are_switched_off() -> anyhow::Result<()> {
    let mut scene = Scene::start("max-indirect-segments = 0")?;
    let mut model = Model::filled(2, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
    assert_eq!(front.max_segments(), 11);
    Load::new(&mut front, &mut model, Plan::MIXED).run(200)?;
    scene.no_wrong_done()
}

#[test]
fn indices_wrap_around() -> anyhow::Result<()> {
    for (persistent, protocol) in [(true, Protocol::X86_64), (false, Protocol::X86_32)] {
        let mut scene = Scene::start("")?;
        let mut model = Model::filled(3, SECTORS);
        let image = scene.image("a.img", &model)?;
        let guest = scene.guest()?;
        let shape = Shape {
            persistent,
            protocol,
            ..Shape::LINUX
        };
        let device = scene.attach(&guest, &DiskLine::image(XVDA, &image))?;
        let mut front = device.connect_at(shape, u32::MAX - 100)?;
        Load::new(&mut front, &mut model, Plan::MIXED).run(400)?;
        front.close()?;
        check_image(&image, &model)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn requests_of_one_mebibyte() -> anyhow::Result<()> {
    for config in [IO_URING, THREADS] {
        let mut scene = Scene::start(config)?;
        let mut model = Model::filled(4, SECTORS);
        let image = scene.image("a.img", &model)?;
        let guest = scene.guest()?;
        let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
        assert_eq!(front.max_segments(), 256);
        let plan = Plan {
            max_sectors: 2048,
            depth: 6,
            ..Plan::MIXED
        };
        Load::new(&mut front, &mut model, plan).run(150)?;
        front.close()?;
        check_image(&image, &model)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn a_full_ring_of_full_requests() -> anyhow::Result<()> {
    for persistent in [true, false] {
        let mut scene = Scene::start("")?;
        let mut model = Model::filled(5, SECTORS * 4);
        let image = scene.image("a.img", &model)?;
        let guest = scene.guest()?;
        let shape = Shape {
            order: Some(4),
            persistent,
            segments: Segments::Direct,
            ..Shape::LINUX
        };
        let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), shape)?;
        let depth = front.queues()[0].slots() as usize;
        assert_eq!(depth, 512);
        let plan = Plan {
            depth,
            writes: 50,
            flushes: 0,
            ..Plan::MIXED
        };
        Load::new(&mut front, &mut model, plan).run(3000)?;
        front.close()?;
        check_image(&image, &model)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn through_the_page_cache() -> anyhow::Result<()> {
    let mut scene = Scene::start("direct-io = \"off\"")?;
    let mut model = Model::filled(6, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
    let plan = Plan {
        scattered: true,
        ..Plan::MIXED
    };
    Load::new(&mut front, &mut model, plan).run(1000)?;
    front.close()?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn a_discarded_range_reads_as_zeros_and_its_neighbours_stay() -> anyhow::Result<()> {
    for config in [IO_URING, THREADS] {
        let mut scene = Scene::start(config)?;
        let mut model = Model::filled(7, SECTORS);
        let image = scene.image("a.img", &model)?;
        let guest = scene.guest()?;
        let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
        let discard = front.disk().discard.context("discards are not offered")?;
        let unit = usize::try_from(discard.granularity)? / SECTOR;

        // A sector more at either end than whole units: rounded inwards (BLK-09).
        let (first, last) = (10 * unit - 1, 20 * unit + 1);
        let done = front.answer(&Io::Discard {
            sector: first as u64,
            sectors: (last - first) as u64,
            secure: false,
        })?;
        assert_eq!(done.status, 0);
        model.zeroed_out(10 * unit..20 * unit);
        if unit == 1 {
            model.zeroed_out(first..last);
        }
        check_image(&image, &model)?;

        let plan = Plan {
            discards: 20,
            ..Plan::MIXED
        };
        Load::new(&mut front, &mut model, plan).run(600)?;
        front.close()?;
        check_image(&image, &model)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn discard_is_not_offered_when_the_toolstack_forbids_it() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let model = Model::filled(8, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let mut disk = DiskLine::image(XVDA, &image);
    disk.discard = false;
    let mut front = scene.connect(&guest, &disk, Shape::LINUX)?;
    assert_eq!(front.disk().discard, None);
    let io = Io::Discard {
        sector: 0,
        sectors: 64,
        secure: false,
    };
    assert_eq!(front.answer(&io)?.status, -2, "never offered, never done");
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn flushes_are_offered_and_answered() -> anyhow::Result<()> {
    for config in [IO_URING, THREADS] {
        let mut scene = Scene::start(config)?;
        let mut model = Model::filled(9, SECTORS);
        let image = scene.image("a.img", &model)?;
        let guest = scene.guest()?;
        let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
        assert!(front.disk().flush && !front.disk().barrier);
        assert_eq!(front.answer(&Io::Flush)?.status, 0);
        let plan = Plan {
            flushes: 40,
            ..Plan::MIXED
        };
        let tally = Load::new(&mut front, &mut model, plan).run(500)?;
        assert!(tally.flushes > 100);
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn blk_06_a_read_only_disk_is_read_and_never_written() -> anyhow::Result<()> {
    for config in [IO_URING, THREADS] {
        let mut scene = Scene::start(config)?;
        let mut model = Model::filled(10, SECTORS);
        let image = scene.image("a.img", &model)?;
        let guest = scene.guest()?;
        let disk = DiskLine::image(XVDA, &image).read_only();
        let mut front = scene.connect(&guest, &disk, Shape::LINUX)?;
        assert!(front.disk().read_only());
        let plan = Plan {
            writes: 0,
            flushes: 0,
            ..Plan::MIXED
        };
        Load::new(&mut front, &mut model, plan).run(200)?;

        let data = [0xee; 4096];
        let segments = &[(0, 7)];
        let write = Io::Write {
            sector: 8,
            segments,
            data: &data,
        };
        assert_eq!(front.answer(&write)?.status, -1);
        let segments = &packed(512, 256);
        let data = vec![0xee; 512 * SECTOR];
        let indirect = Io::Write {
            sector: 0,
            segments,
            data: &data,
        };
        assert_eq!(front.answer(&indirect)?.status, -1);
        let discard = Io::Discard {
            sector: 0,
            sectors: 1024,
            secure: false,
        };
        assert!(front.answer(&discard)?.status < 0);
        // Nothing can be undurable on a disk that is not written.
        assert_eq!(front.answer(&Io::Flush)?.status, 0);

        Load::new(&mut front, &mut model, plan).run(200)?;
        front.close()?;
        check_image(&image, &model)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn two_guests_and_two_disks_each_at_once() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut fronts = Vec::new();
    for guest_number in 0..2_u32 {
        let guest = scene.guest()?;
        for disk_number in 0..2_u32 {
            let number = guest_number * 2 + disk_number;
            let model = Model::filled(100 + u64::from(number), SECTORS);
            let image = scene.image(&format!("{number}.img"), &model)?;
            let shape = Shape {
                persistent: number.is_multiple_of(2),
                queues: 2,
                ..Shape::LINUX
            };
            let disk = DiskLine::image(XVDA + disk_number * 16, &image);
            let front = scene.connect(&guest, &disk, shape)?;
            fronts.push((front, model, image));
        }
    }
    let running: Vec<_> = fronts
        .into_iter()
        .map(|(mut front, mut model, image)| {
            std::thread::spawn(move || -> anyhow::Result<()> {
                Load::new(&mut front, &mut model, Plan::MIXED).run(1500)?;
                front.close()?;
                check_image(&image, &model)
            })
        })
        .collect();
    for thread in running {
        let outcome = thread.join().expect("the load does not panic");
        outcome.with_context(|| scene.told())?;
    }
    scene.no_wrong_done()
}
