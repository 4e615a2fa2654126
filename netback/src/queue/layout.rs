//! Where packets lie in private memory.
//!
//! A copy that crosses a page of ours is two for the hypervisor, so no fragment does. Fragments that
//! follow each other without a gap are one run, and the tap takes a packet run by run.

use std::ops::Range;

use gntdev::{GrantError, LocalPages, PAGE_SIZE};
use ring_proto::netif::{Fragment, MAX_TX_SLOTS};

use crate::vnet::VNET_LEN;

/// Bytes that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where they start.
    pub at: usize,
    /// How many they are.
    pub len: usize,
}

/// Packets, one behind the other. The first run of each starts with room for its virtio header.
#[derive(Debug, Default)]
pub(super) struct Layout {
    runs: Vec<Run>,
    fill: usize,
}

/// Most runs of a packet.
pub(super) const MAX_RUNS: usize = MAX_TX_SLOTS;

/// What a packet may take up: its header in one page, and each fragment in another.
const ROOM: usize = (1 + MAX_TX_SLOTS) * PAGE_SIZE;

impl Layout {
    /// Forgets all packets.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.fill = 0;
    }

    /// Is there room for any packet in `pages`?
    pub(super) const fn has_room(&self, pages: &LocalPages) -> bool {
        self.fill + ROOM <= pages.len()
    }

    /// Places a packet behind the last one, and tells where each of its fragments goes; its runs.
    pub(super) fn place(
        &mut self,
        fragments: &[Fragment],
        mut put: impl FnMut(&Fragment, usize),
    ) -> Range<usize> {
        let first = self.runs.len();
        let mut end = self.fill + VNET_LEN;
        for fragment in fragments {
            let len = usize::from(fragment.len());
            let at = match end % PAGE_SIZE + len {
                0..=PAGE_SIZE => end,
                _ => end.next_multiple_of(PAGE_SIZE),
            };
            put(fragment, at);
            match self.runs.get_mut(first..).and_then(<[Run]>::last_mut) {
                Some(run) if at == end => run.len += len,
                Some(_) => self.runs.push(Run { at, len }),
                None => self.runs.push(Run {
                    at: at - VNET_LEN,
                    len: VNET_LEN + len,
                }),
            }
            end = at + len;
        }
        self.fill = end;
        first..self.runs.len()
    }

    /// The runs of a packet.
    pub(super) fn runs(&self, packet: Range<usize>) -> &[Run] {
        self.runs.get(packet).unwrap_or_default()
    }
}

/// Copies out the first bytes of a packet with its virtio header, as many as there are and fit; how
/// many that were.
pub(super) fn read_head(
    pages: &LocalPages,
    runs: &[Run],
    into: &mut [u8],
) -> Result<usize, GrantError> {
    let mut seen = 0;
    for run in runs {
        let Some(rest) = into.get_mut(seen..) else {
            break;
        };
        let len = rest.len().min(run.len);
        let Some(part) = rest.get_mut(..len) else {
            break;
        };
        pages.read(run.at, part)?;
        seen += len;
    }
    Ok(seen)
}

/// Writes over bytes of a packet, `from` bytes behind the start of its virtio header.
pub(super) fn overwrite(
    pages: &LocalPages,
    runs: &[Run],
    mut from: usize,
    bytes: &[u8],
) -> Result<(), GrantError> {
    let mut left = bytes;
    for run in runs {
        if left.is_empty() {
            break;
        }
        if from < run.len {
            let (now, later) = left.split_at(left.len().min(run.len - from));
            pages.write(run.at + from, now)?;
            (left, from) = (later, run.len);
        }
        from -= run.len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use ring_proto::GrantRef;
    use ring_proto::netif::{Assembler, TxOffer, Verdict};

    use super::*;

    /// By the only way to a fragment, the assembler: of these lengths, each at the start of its page.
    fn fragments(lens: &[u16]) -> Vec<Fragment> {
        let offer = TxOffer {
            max_frame: 65_535,
            gso_v4: false,
            gso_v6: false,
            gso_floor: NonZeroU16::MIN,
        };
        let mut assembler = Assembler::new(offer);
        let total: u32 = lens.iter().copied().map(u32::from).sum();
        for (index, &len) in lens.iter().enumerate() {
            let size = if index == 0 { total } else { len.into() };
            let more = if index + 1 < lens.len() { 4 << 16 } else { 0 };
            let slot = [GrantRef::new(7).raw(), more, size << 16];
            if let Some(done) = assembler.push(slot).unwrap() {
                let Verdict::Packet(packet) = done.verdict else {
                    panic!("no packet: {done:?}");
                };
                return packet.fragments.to_vec();
            }
        }
        panic!("incomplete");
    }

    #[test]
    fn no_fragment_crosses_a_page_and_no_packet_overlaps_another() {
        let shapes: [&[u16]; 7] = [
            &[60],
            &[4096],
            &[4090, 10],
            &[66, 4096, 4096, 4096],
            &[66, 100, 4096, 2000],
            &[2049; 19],
            &[1, 4095, 1, 4096, 4095],
        ];
        let mut layout = Layout::default();
        let mut fill = 0;
        for shape in shapes.iter().cycle().take(70) {
            let before = layout.fill;
            let mut ends = Vec::new();
            let packet = layout.place(&fragments(shape), |fragment, at| {
                let len = usize::from(fragment.len());
                assert!(at % PAGE_SIZE + len <= PAGE_SIZE, "{shape:?} at {at}");
                ends.push(at + len);
            });
            let runs = layout.runs(packet);
            assert!(runs.len() <= MAX_RUNS);
            let total: usize = shape.iter().copied().map(usize::from).sum();
            assert_eq!(
                runs.iter().map(|run| run.len).sum::<usize>(),
                VNET_LEN + total
            );
            for run in runs {
                assert!(run.at >= fill, "{shape:?}: {run:?} before {fill}");
                fill = run.at + run.len;
            }
            assert_eq!(ends.last(), Some(&fill));
            assert!(layout.fill - before <= ROOM);
        }
    }

    #[test]
    fn whole_pages_lie_side_by_side() {
        let mut layout = Layout::default();
        let packet = layout.place(&fragments(&[66, 4096, 4096, 4096, 500]), |_, _| {});
        let runs = [
            Run { at: 0, len: 78 },
            Run {
                at: 4096,
                len: 3 * 4096 + 500,
            },
        ];
        assert_eq!(layout.runs(packet), runs);
    }

    #[test]
    fn bytes_are_read_and_written_across_runs() {
        let pages = LocalPages::new(2).unwrap();
        let runs = [Run { at: 10, len: 4 }, Run { at: 4096, len: 6 }];
        overwrite(&pages, &runs, 0, b"0123456789").unwrap();
        overwrite(&pages, &runs, 3, b"xy").unwrap();
        let mut seen = [0; 8];
        assert_eq!(read_head(&pages, &runs, &mut seen), Ok(8));
        assert_eq!(&seen, b"012xy567");
        let mut all = [0; 20];
        assert_eq!(read_head(&pages, &runs, &mut all), Ok(10));
        assert_eq!(&all[..10], b"012xy56789");
    }
}
