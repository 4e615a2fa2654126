//! The demo: everything but Xen is real. This is the disks' part; [`nics`] is the other.
//!
//! A simulated machine, the real daemon on it, a real image file, and a scripted guest that
//! believes nothing: it checks every response as Linux does and every byte against what it has
//! written, before and after it reconnects, through the ring and in the file itself.

pub mod nics;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::bench::{Comparison, Contender, Fio, Native, Protocol, Ring, Workload, compare};
use crate::frontend::load::{Load, Plan};
use crate::frontend::{Model, Shape};
use crate::scene::{Guest, Scene};
use crate::toolstack::{DiskLine, XVDA};

/// Sectors of the image that is verified: 64 MiB.
const VERIFIED: usize = 64 << 11;

/// Requests of mixed kinds and sizes.
const REQUESTS: usize = 20_000;

/// Bytes of the image that is measured.
const MEASURED: u64 = 512 << 20;

/// `xvdb`.
const XVDB: u32 = XVDA + 16;

/// A guest of today, with a ring of four pages: room for 128 requests.
const SHAPE: Shape = Shape {
    order: Some(2),
    ..Shape::LINUX
};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What is asked of the disk.
    pub workloads: Vec<Workload>,
    /// How.
    pub protocol: Protocol,
    /// Beside fio, too, if it is installed.
    pub fio: bool,
}

/// Verifies, then measures; one table for each peer.
///
/// # Errors
/// Anything that is not as it must be, with what to do about it where that is known.
pub fn run(wish: &Wish) -> anyhow::Result<Vec<Vec<Comparison>>> {
    println!("building and starting xen-blkback on a simulated machine ...");
    let mut scene = Scene::start("")?;
    let guest = scene.guest()?;
    verify(&mut scene, &guest)?;
    let tables = measure(&mut scene, &guest, wish)?;
    scene.destroy(&guest)?;
    let violations = scene.machine().control()?.violations()?;
    ensure!(
        violations.is_empty(),
        "the daemon broke rules of the hypervisor: {violations:#?}"
    );
    Ok(tables)
}

/// Random verified I/O, then everything once more after a reconnection, then the file itself.
fn verify(scene: &mut Scene, guest: &Guest) -> anyhow::Result<()> {
    let mut model = Model::filled(42, VERIFIED);
    let image = scene.image("verified.img", &model)?;
    let disk = DiskLine::image(XVDA, &image);
    let mut front = scene.connect(guest, &disk, SHAPE)?;
    let plan = Plan {
        depth: 32,
        discards: 2,
        scattered: true,
        ..Plan::MIXED
    };
    let tally = Load::new(&mut front, &mut model, plan).run(REQUESTS)?;
    println!(
        "verified: {} reads, {} writes, {} flushes, {} discards, {} MiB",
        tally.reads,
        tally.writes,
        tally.flushes,
        tally.discards,
        tally.bytes >> 20
    );
    let mut device = front.close()?;
    device.start_over()?;
    let mut front = device.connect(SHAPE)?;
    let plan = Plan {
        writes: 0,
        flushes: 0,
        discards: 0,
        ..plan
    };
    let tally = Load::new(&mut front, &mut model, plan).run(REQUESTS / 4)?;
    println!(
        "verified: {} reads after the guest reconnected",
        tally.reads
    );
    front.close()?;
    scene.toolstack().detach(guest.domid(), XVDA)?;
    let bytes = std::fs::read(&image).context("cannot read the image")?;
    ensure!(
        bytes == model.image(0..VERIFIED),
        "the image file differs from what the guest wrote"
    );
    println!("verified: all {} MiB of the image file", bytes.len() >> 20);
    Ok(())
}

fn measure(scene: &mut Scene, guest: &Guest, wish: &Wish) -> anyhow::Result<Vec<Vec<Comparison>>> {
    let image = scene.image_path("measured.img");
    fill(&image, MEASURED)?;
    let mut front = scene.connect(guest, &DiskLine::image(XVDB, &image), SHAPE)?;
    let workers = scene.daemon()?.workers(guest.domid());
    let worker = *workers.first().context("the guest has no worker")?;
    let mut peers: Vec<Box<dyn Contender>> = vec![Box::new(Native::new(&image)?)];
    if wish.fio {
        match Fio::new(&image) {
            Some(fio) => peers.push(Box::new(fio)),
            None => println!("fio is not installed: measuring without it"),
        }
    }
    let mut tables = Vec::new();
    let mut ring = Ring::new(&mut front, worker, MEASURED);
    for peer in &mut peers {
        let compared = wish
            .workloads
            .iter()
            .map(|workload| compare(&mut ring, &mut **peer, *workload, wish.protocol));
        tables.push(compared.collect::<anyhow::Result<_>>()?);
    }
    front.close()?;
    scene.toolstack().detach(guest.domid(), XVDB)?;
    Ok(tables)
}

/// A file without holes: holes are read without the disk.
fn fill(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let block = vec![0x5A; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&block)
            .with_context(|| format!("cannot fill {} ({bytes} bytes)", path.display()))?;
    }
    Ok(file.sync_all()?)
}
