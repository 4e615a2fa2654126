//! A second opinion: reads bytes at the offsets of the protocol's tables, computes without bounds,
//! and shares nothing with the code under test but the numbers in `blkif.h`.

use ring_proto::blkif::{Abi, Body, Geometry, Reject, Request, Status, Transfer};

type Segments = Vec<(u32, u8, u8)>;

/// What is to be done with a slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Read(u64, Segments),
    Write(u64, Segments),
    Flush(Option<(u64, Segments)>),
    Discard(Option<(u64, u64, bool)>),
    Indirect {
        write: bool,
        segments: u16,
        pages: Vec<u32>,
    },
    Refuse {
        operation: u8,
        status: i16,
    },
}

struct Offsets {
    id: usize,
    sector: usize,
    body: usize,
    pages: usize,
}

fn offsets(abi: Abi) -> Offsets {
    match abi {
        Abi::Native => Offsets {
            id: 8,
            sector: 16,
            body: 24,
            pages: 28,
        },
        Abi::X86_32 => Offsets {
            id: 4,
            sector: 12,
            body: 20,
            pages: 24,
        },
    }
}

fn int(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

pub(crate) fn id(bytes: &[u8], abi: Abi) -> u64 {
    int(bytes, offsets(abi).id, 8)
}

/// The verdict on a slot of 112 bytes, of which the 32-bit layout uses 108.
pub(crate) fn judge(bytes: &[u8], abi: Abi, disk: &Geometry) -> Verdict {
    let refuse = |operation, status| Verdict::Refuse { operation, status };
    let (operation, count) = (bytes[0], bytes[1]);
    match operation {
        3 if count == 0 => Verdict::Flush(None),
        0 | 1 | 3 => match transfer(bytes, abi, disk) {
            Some(_) if operation != 0 && disk.read_only => refuse(operation, -1),
            Some((sector, segments)) => match operation {
                0 => Verdict::Read(sector, segments),
                1 => Verdict::Write(sector, segments),
                _ => Verdict::Flush(Some((sector, segments))),
            },
            None => refuse(operation, -1),
        },
        5 => discard(bytes, abi, disk),
        6 => indirect(bytes, abi, disk).unwrap_or_else(|| refuse(count, -1)),
        other => refuse(other, -2),
    }
}

fn transfer(bytes: &[u8], abi: Abi, disk: &Geometry) -> Option<(u64, Segments)> {
    let at = offsets(abi);
    let count = usize::from(bytes[1]);
    if count == 0 || count > 11 {
        return None;
    }
    let sector = int(bytes, at.sector, 8);
    let block = u64::from(disk.sector_size.bytes() / 512);
    let (mut segments, mut total) = (Vec::new(), 0);
    for index in 0..count {
        let start = at.body + 8 * index;
        let gref = u32::try_from(int(bytes, start, 4)).unwrap();
        let (first, last) = (bytes[start + 4], bytes[start + 5]);
        if last > 7 || first > last || u64::from(last - first + 1) % block != 0 {
            return None;
        }
        total += u128::from(last - first + 1);
        segments.push((gref, first, last));
    }
    let end = u128::from(sector) + total;
    let fits = end <= u128::from(disk.sectors.raw()) && end * 512 <= i64::MAX as u128;
    (fits && sector.is_multiple_of(block)).then_some((sector, segments))
}

fn discard(bytes: &[u8], abi: Abi, disk: &Geometry) -> Verdict {
    let refuse = |status| Verdict::Refuse {
        operation: 5,
        status,
    };
    let at = offsets(abi);
    let Some(limits) = disk.discard else {
        return refuse(-2);
    };
    if disk.read_only {
        return refuse(-1);
    }
    let (first, count) = (int(bytes, at.sector, 8), int(bytes, at.body, 8));
    if count == 0 {
        return Verdict::Discard(None);
    }
    let end = i128::from(first) + i128::from(count);
    if end > i128::from(disk.sectors.raw()) || end * 512 > i128::from(i64::MAX) {
        return refuse(-1);
    }
    let (unit, shift) = (
        i128::from(limits.granularity.get()),
        i128::from(limits.alignment),
    );
    let up = i128::from(first) + (shift - i128::from(first)).rem_euclid(unit);
    let down = end - (end - shift).rem_euclid(unit);
    let secure = limits.secure && bytes[1] & 1 == 1;
    if secure && (up, down) != (i128::from(first), end) {
        return refuse(-1);
    }
    let whole = |sector: i128| u64::try_from(sector).unwrap();
    Verdict::Discard((down > up).then(|| (whole(up), whole(down - up), secure)))
}

fn indirect(bytes: &[u8], abi: Abi, disk: &Geometry) -> Option<Verdict> {
    let segments = u16::try_from(int(bytes, 2, 2)).unwrap();
    let write = match bytes[1] {
        0 => false,
        1 if !disk.read_only => true,
        _ => return None,
    };
    if segments == 0 || segments > disk.max_indirect_segments || segments > 4096 {
        return None;
    }
    let page = |index: usize| u32::try_from(int(bytes, offsets(abi).pages + 4 * index, 4)).unwrap();
    let pages = (0..usize::from(segments).div_ceil(512)).map(page).collect();
    Some(Verdict::Indirect {
        write,
        segments,
        pages,
    })
}

/// What the code under test made of a slot, in the same terms. `parsed` must have been refused or
/// echo what it says.
pub(crate) fn verdict(parsed: &Result<Request<'_>, Reject>) -> Verdict {
    let list = |transfer: &Transfer<'_>| {
        let segments = transfer.segments().into_iter();
        let list: Segments = segments
            .map(|s| (s.gref().raw(), s.first_sect(), s.last_sect()))
            .collect();
        let sectors: u32 = list
            .iter()
            .map(|(_, first, last)| u32::from(last - first) + 1)
            .sum();
        assert_eq!(transfer.sectors(), sectors);
        assert_eq!(transfer.bytes(), sectors * 512);
        assert_eq!(transfer.segments().len(), list.len());
        (transfer.sector().raw(), list)
    };
    match parsed {
        Err(reject) => {
            let response = reject.response();
            assert_eq!(
                (response.id(), response.status()),
                (reject.id(), Status::from(reject))
            );
            Verdict::Refuse {
                operation: response.operation(),
                status: response.status().wire(),
            }
        }
        Ok(request) => match &request.body {
            Body::Read(transfer) => {
                let (sector, segments) = list(transfer);
                Verdict::Read(sector, segments)
            }
            Body::Write(transfer) => {
                let (sector, segments) = list(transfer);
                Verdict::Write(sector, segments)
            }
            Body::Flush(data) => Verdict::Flush(data.as_ref().map(list)),
            Body::Discard(extent) => Verdict::Discard(
                (!extent.is_empty())
                    .then(|| (extent.sector().raw(), extent.sectors(), extent.is_secure())),
            ),
            Body::Indirect(indirect) => Verdict::Indirect {
                write: indirect.is_write(),
                segments: indirect.nr_segments(),
                pages: indirect.pages().map(ring_proto::GrantRef::raw).collect(),
            },
        },
    }
}
