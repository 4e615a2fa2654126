//! Verified I/O through the real daemon, in every shape that a frontend may ask for.

use pv_tests::frontend::{Load, Model, Plan, Shape};
use pv_tests::scene::{Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};

#[test]
fn a_linux_guest_reads_back_what_it_wrote() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut model = Model::filled(1, 65536);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
    let tally = Load::new(&mut front, &mut model, Plan::MIXED).run(3000)?;
    assert_eq!(tally.requests(), 3000);
    front.close()?;
    check_image(&image, &model)?;
    scene.toolstack().detach(guest.domid(), XVDA)?;
    scene.wait_unmapped(guest.domid())?;
    scene.no_wrong_done()
}
