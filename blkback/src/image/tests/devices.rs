//! Block devices: loop devices, where this machine lets us have them.

use rustix::fs::makedev;

use super::*;

#[test]
fn a_block_device_is_found_by_number_and_claimed() {
    let dir = Scratch::new("loop");
    let image = dir.file("disk.img", 1 << 20);
    let Some(device) = Loop::over(&image, 512) else {
        return;
    };
    let number = device.number();
    let mut wish = wanted(Path::new(""), Access::Exclusive);
    wish.device_number = Some(number);
    let opened = open(&wish, &Policy::default(), OWNER).unwrap();
    assert!(opened.shape.block_device);
    assert_eq!(opened.shape.sectors, 2048);
    // O_EXCL on the device: another exclusive opener is told so, even one that knows no locks.
    let rival = rustix::fs::open(&device.path, OFlags::RDWR | OFlags::EXCL, Mode::empty());
    assert_eq!(rival.unwrap_err(), rustix::io::Errno::BUSY);
    drop(opened);

    // The same device by a link below /dev, and by a path that is another device.
    let link = PathBuf::from(format!("/dev/image-test-{}", std::process::id()));
    symlink(&device.path, &link).unwrap();
    wish.path.clone_from(&link);
    let by_link = open(&wish, &Policy::default(), OWNER);
    fs::remove_file(&link).unwrap();
    by_link.unwrap();
    wish.path.clone_from(&device.path);
    wish.device_number = Some(DeviceNumber {
        major: number.major,
        minor: number.minor + 1,
    });
    assert!(matches!(refusal(&wish), Refusal::OtherDevice { .. }));
    wish.path = image.clone();
    assert!(matches!(refusal(&wish), Refusal::OtherDevice { .. }));
    wish.path = PathBuf::new();
    wish.device_number = Some(DeviceNumber {
        major: 4000,
        minor: 1,
    });
    assert!(matches!(refusal(&wish), Refusal::NoDevice { .. }));
    // A node with the same numbers elsewhere is as good as the kernel's.
    let node = dir.path("node");
    let dev = makedev(number.major, number.minor);
    mknodat(
        CWD,
        &node,
        FileType::BlockDevice,
        Mode::RUSR | Mode::WUSR,
        dev,
    )
    .unwrap();
    open(&wanted(&node, Access::Exclusive), &Policy::default(), OWNER).unwrap();
}

#[test]
fn a_4kn_block_device_is_measured_in_its_own_blocks() {
    let dir = Scratch::new("4kn");
    let image = dir.file("disk.img", 1 << 20);
    let Some(device) = Loop::over(&image, 4096) else {
        return;
    };
    let opened = open(
        &wanted(&device.path, Access::Exclusive),
        &Policy::default(),
        OWNER,
    )
    .unwrap();
    assert_eq!(opened.shape.sector_size, 4096);
    assert_eq!(opened.shape.sectors, 2048);
}
