//! Whatever a guest writes to its disk, it stays a disk of that many sectors, and names nothing.

use rustix::fs::inotify;

use super::*;

/// Beginnings that other programs take for formats with files of their own behind them.
const MAGICS: [(&str, usize, &[u8]); 12] = [
    ("qcow2", 0, b"QFI\xfb\0\0\0\x03"),
    ("qcow", 0, b"QFI\xfb\0\0\0\x01"),
    ("vhd", 0, b"conectix"),
    ("vhdx", 0, b"vhdxfile"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk text", 0, b"# Disk DescriptorFile\n"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("luks", 0, b"LUKS\xba\xbe\0\x02"),
    ("lvm", 512, b"LABELONE"),
    ("gpt", 512, b"EFI PART"),
    ("iso 9660", 32769, b"CD001"),
    ("dmg", 0, b"koly"),
];

#[test]
fn blk_16_what_is_in_an_image_is_not_looked_at() {
    let dir = Scratch::new("blk16");
    let secret = dir.file("secret.img", 4096);
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let seen = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS;
    inotify::add_watch(&watch, &secret, seen).unwrap();
    for (name, at, magic) in MAGICS {
        let mut bytes = vec![0; 1 << 20];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        // Where qcow2 has the name of what is behind it: its place, its length, and itself.
        let behind = secret.to_str().unwrap().as_bytes();
        bytes[4096..4096 + behind.len()].copy_from_slice(behind);
        if at == 0 && magic.starts_with(b"QFI") {
            bytes[8..16].copy_from_slice(&4096_u64.to_be_bytes());
            let length = u32::try_from(behind.len()).unwrap();
            bytes[16..20].copy_from_slice(&length.to_be_bytes());
        }
        let image = dir.path("disk.img");
        fs::write(&image, &bytes).unwrap();
        for access in [Access::ReadOnly, Access::Exclusive, Access::Shared] {
            let wish = wanted(&image, access);
            let shape = inspect(&wish, &Policy::default()).unwrap();
            let opened = open(&wish, &Policy::default(), OWNER).unwrap();
            assert_eq!(
                (shape.sectors, opened.shape.sectors),
                (2048, 2048),
                "{name}"
            );
        }
        assert_eq!(fs::read(&image).unwrap(), bytes, "{name} was changed");
        let events = rustix::io::read(&watch, &mut [0_u8; 4096]);
        assert!(events.is_err(), "{name}: what it names was opened");
    }
    File::open(&secret).unwrap();
    assert!(rustix::io::read(&watch, &mut [0_u8; 4096]).is_ok());
}
