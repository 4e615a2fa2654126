//! What a block backend tells a frontend, key by key.
//!
//! Keys and their meaning: `public/io/blkif.h`, "Backend Device Properties" and "Features".

use xenbus::Key;

use crate::image::Shape;
use crate::spec::DiscardSpec;

/// The most segments of an indirect request, as every Linux backend has it
/// (`MAX_INDIRECT_SEGMENTS` of `drivers/block/xen-blkback/common.h`).
pub const INDIRECT_SEGMENTS_MAX: u16 = 256;

/// The largest ring: 2^4 pages, as in Linux (`XENBUS_MAX_RING_GRANT_ORDER`).
pub const RING_PAGE_ORDER_MAX: u8 = 4;

/// The most queues of one device that a configuration may allow.
pub const QUEUES_MAX: u16 = 16;

/// What a backend offers, whatever the disk: a promise for the whole life of a connection
/// (FE-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// `multi-queue-max-queues`.
    pub queues: u16,
    /// `max-ring-page-order`.
    pub ring_page_order: u8,
    /// `feature-max-indirect-segments`; 0 offers no indirect requests.
    pub indirect_segments: u16,
    /// `feature-persistent`.
    pub persistent: bool,
}

/// What kind of drive the guest is to see: what the toolstack said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drive {
    /// `device-type` is `cdrom`.
    pub cdrom: bool,
    /// `removable` is 1.
    pub removable: bool,
    /// `mode` is `r`.
    pub read_only: bool,
}

/// Written together with InitWait: what a frontend has to know to set up its rings.
#[must_use]
pub fn before_rings(offered: Offered) -> Vec<Key<'static>> {
    let mut keys = vec![
        ("max-ring-page-order", offered.ring_page_order.to_string()),
        ("multi-queue-max-queues", offered.queues.to_string()),
    ];
    if offered.indirect_segments > 0 {
        let segments = offered.indirect_segments.to_string();
        keys.push(("feature-max-indirect-segments", segments));
    }
    keys
}

/// Written together with Connected, in one transaction (FE-19): the frontend reads them then.
#[must_use]
pub fn before_connected(offered: Offered, drive: Drive, shape: &Shape) -> Vec<Key<'static>> {
    let mut keys = vec![
        ("feature-persistent", flag(offered.persistent)),
        // A cache that cannot be written needs no flush, and a barrier is asked of nobody: Linux
        // frontends stopped using them for flushes with data.
        ("feature-flush-cache", flag(!drive.read_only)),
        ("feature-barrier", flag(false)),
        ("sectors", shape.sectors.to_string()),
        ("info", info(drive).to_string()),
        ("sector-size", shape.sector_size.to_string()),
        (
            "physical-sector-size",
            shape.physical_sector_size.to_string(),
        ),
    ];
    keys.extend(discard(shape.discard));
    keys
}

/// `feature-discard` is written in either case: a device that was connected before may have had
/// it, and an old key would be an old promise.
fn discard(discard: Option<DiscardSpec>) -> Vec<Key<'static>> {
    let Some(DiscardSpec {
        granularity,
        alignment,
    }) = discard
    else {
        return vec![("feature-discard", flag(false))];
    };
    vec![
        ("feature-discard", flag(true)),
        ("discard-granularity", granularity.to_string()),
        ("discard-alignment", alignment.to_string()),
        // Nothing here can promise that discarded data is beyond recovery.
        ("discard-secure", flag(false)),
    ]
}

/// `VDISK_CDROM`, `VDISK_REMOVABLE`, `VDISK_READONLY`.
fn info(drive: Drive) -> u32 {
    u32::from(drive.cdrom) | u32::from(drive.removable) << 1 | u32::from(drive.read_only) << 2
}

fn flag(on: bool) -> String {
    u8::from(on).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: Offered = Offered {
        queues: 4,
        ring_page_order: 4,
        indirect_segments: 256,
        persistent: true,
    };
    const SHAPE: Shape = Shape {
        sectors: 2048,
        sector_size: 4096,
        physical_sector_size: 4096,
        block_device: true,
        discard: None,
    };

    #[test]
    fn a_frontend_knows_the_rings_it_may_have() {
        let expected = [
            ("max-ring-page-order", "4"),
            ("multi-queue-max-queues", "4"),
            ("feature-max-indirect-segments", "256"),
        ];
        assert_eq!(before_rings(OFFERED), expected.map(owned));
        let plain = Offered {
            indirect_segments: 0,
            ..OFFERED
        };
        assert_eq!(
            before_rings(plain),
            expected[..2].iter().copied().map(owned).collect::<Vec<_>>()
        );
    }

    #[test]
    fn fe_19_sectors_count_512_bytes_whatever_the_block_size() {
        let keys = before_connected(OFFERED, Drive::default(), &SHAPE);
        for expected in [
            ("sectors", "2048"),
            ("sector-size", "4096"),
            ("physical-sector-size", "4096"),
            ("info", "0"),
            ("feature-flush-cache", "1"),
            ("feature-persistent", "1"),
            ("feature-discard", "0"),
        ] {
            assert!(keys.contains(&owned(expected)), "{expected:?} in {keys:?}");
        }
    }

    #[test]
    fn blk_06_a_read_only_disk_says_so_and_offers_no_flush() {
        let drive = Drive {
            cdrom: true,
            removable: true,
            read_only: true,
        };
        let keys = before_connected(OFFERED, drive, &SHAPE);
        assert!(keys.contains(&owned(("info", "7"))));
        assert!(keys.contains(&owned(("feature-flush-cache", "0"))));
    }

    #[test]
    fn discard_comes_with_its_parameters() {
        let discard = Some(DiscardSpec {
            granularity: 65536,
            alignment: 512,
        });
        let keys = before_connected(OFFERED, Drive::default(), &Shape { discard, ..SHAPE });
        for expected in [
            ("feature-discard", "1"),
            ("discard-granularity", "65536"),
            ("discard-alignment", "512"),
            ("discard-secure", "0"),
        ] {
            assert!(keys.contains(&owned(expected)), "{expected:?} in {keys:?}");
        }
    }

    fn owned((key, value): (&'static str, &str)) -> Key<'static> {
        (key, value.to_owned())
    }
}
