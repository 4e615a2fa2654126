//! Block devices as disks: loop devices, which need root. Where there is none, nothing is tried, and
//! that is said.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use gntdev::Access;
use pv_tests::frontend::hostile::Attacker;
use pv_tests::frontend::hostile::attacker::{discard, read, write};
use pv_tests::frontend::{Load, Model, Plan, Shape};
use pv_tests::scene::{Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};
use ring_proto::blkif::{RawSegment, op};

/// 16 MiB.
const SECTORS: usize = 32768;

/// A loop device over an image, detached when dropped.
struct Loop(PathBuf);

impl Loop {
    /// `None` where loop devices cannot be had.
    fn over(image: &Path, sector_size: u32) -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("not tried: loop devices need root and /dev/loop-control");
            return Ok(None);
        }
        let output = Command::new("losetup")
            .args([
                "--find",
                "--show",
                "--sector-size",
                &sector_size.to_string(),
            ])
            .arg(image)
            .output()
            .context("cannot run losetup (package mount)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "losetup: {said}");
        let path = String::from_utf8(output.stdout)?;
        Ok(Some(Self(path.trim_end().into())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // If it stays, the next run of losetup takes another one.
        let _detached = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_block_device_is_written_read_flushed_and_discarded() -> anyhow::Result<()> {
    for (sector_size, engine) in [
        (512, "io-uring"),
        (4096, "io-uring"),
        (512, "threads"),
        (4096, "threads"),
    ] {
        let mut scene = Scene::start(&format!("engine = \"{engine}\""))?;
        let mut model = Model::filled(1, SECTORS);
        let image = scene.image("a.img", &model)?;
        let Some(device) = Loop::over(&image, sector_size)? else {
            return Ok(());
        };
        let guest = scene.guest()?;
        let line = DiskLine::image(XVDA, &device.0);
        let mut front = scene.connect(&guest, &line, Shape::LINUX)?;
        assert_eq!(front.disk().sector_size, u64::from(sector_size));
        assert_eq!(
            front.disk().sectors,
            SECTORS as u64,
            "in units of 512 bytes"
        );
        let plan = Plan {
            discards: if front.disk().discard.is_some() {
                10
            } else {
                0
            },
            scattered: true,
            ..Plan::MIXED
        };
        Load::new(&mut front, &mut model, plan).run(1000)?;
        front.close()?;
        scene.toolstack().detach(guest.domid(), XVDA)?;
        drop(device);
        check_image(&image, &model)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn blk_04_parts_of_a_block_are_refused() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let Some(device) = Loop::over(&image, 4096)? else {
        return Ok(());
    };
    let guest = scene.guest()?;
    let device_of_guest = scene.attach(&guest, &DiskLine::image(XVDA, &device.0))?;
    let mut attacker = Attacker::connect(device_of_guest, &Shape::LINUX, 0)?;
    let lent = attacker.lend(Access::ReadWrite)?;
    let whole = [RawSegment::new(lent.gref, 0, 7)];
    for sector in 1..16 {
        let expected = if sector % 8 == 0 { 0 } else { -1 };
        let what = format!("a block at sector {sector}");
        attacker.expect(&what, read(sector, &whole), op::READ, &[expected])?;
        if expected != 0 {
            attacker.expect(&what, write(sector, &whole), op::WRITE, &[-1])?;
        }
    }
    for first in 0..8 {
        for last in first..8 {
            let part = [RawSegment::new(lent.gref, first, last)];
            let expected = if (first, last) == (0, 7) { 0 } else { -1 };
            let what = format!("sectors {first} to {last} of a page");
            attacker.expect(&what, read(0, &part), op::READ, &[expected])?;
            if expected != 0 {
                attacker.expect(&what, write(0, &part), op::WRITE, &[-1])?;
            }
        }
    }
    if attacker.disk().discard.is_some() {
        // Rounded inwards: nothing is left of it.
        attacker.expect("a part", discard(0, 1, 6), op::DISCARD, &[0, -1])?;
    }
    attacker.is_served()?;
    scene.destroy(&guest)?;
    drop(device);
    check_image(&image, &model)?;
    scene.no_wrong_done()
}
