//! Frames that another queue of the VIF has read.

use std::os::fd::BorrowedFd;

use gntdev::GrantError;
use ring_proto::netif::Hash;

use super::held::Held;
use super::{FRAMES, PAGE, Rx};
use crate::metrics::Counters;
use crate::queue::steer::Steer;
use crate::queue::{Means, QueueFault};
use crate::steering::Handed;
use crate::vnet::{self, VNET_LEN};

impl Rx {
    /// Another queue has read frames for this one.
    pub(in crate::queue) fn note_handed(&mut self) {
        if let Some(steer) = &mut self.steer {
            steer.note_handed();
        }
    }

    /// For poll: readable when another queue has read frames for this one.
    pub(in crate::queue) fn inbox(&self) -> Option<BorrowedFd<'_>> {
        self.steer.as_ref().and_then(Steer::wake_fd)
    }

    pub(super) fn has_handed(&self) -> bool {
        self.steer.as_ref().is_some_and(Steer::has_handed)
    }

    /// Moves them into private memory, and decides how each goes to the guest; how much of the memory
    /// they take up, which leaves some for those of the tap.
    pub(super) fn fetch_handed(&mut self, means: &mut Means<'_>) -> Result<usize, QueueFault> {
        let pages = means.pages;
        let (mut fill, mut left) = (0, FRAMES);
        while fill < pages.len() / 2 && left > 0 && self.cutting.is_none() && self.has_handed() {
            if !self.look_for_room()? {
                break;
            }
            left -= 1;
            let Some(frame) = self.steer.as_mut().and_then(Steer::take) else {
                break;
            };
            let at = fill + PAGE;
            pages.write(at - VNET_LEN, &frame.bytes)?;
            let Some((header, bytes)) = frame.bytes.split_first_chunk::<VNET_LEN>() else {
                continue;
            };
            let head = bytes.get(..vnet::HEAD).unwrap_or(bytes);
            let held = Held::at(pages, at).of(bytes.len());
            if self.admit(held, header, head, frame.hash, means.counters)? {
                fill = held.end().next_multiple_of(PAGE);
            }
        }
        Ok(fill)
    }

    /// Gives a frame to the queue that it belongs to.
    #[cold]
    pub(super) fn hand_over(
        &self,
        held: Held<'_>,
        queue: u32,
        hash: Option<Hash>,
        counters: &mut Counters,
    ) -> Result<(), QueueFault> {
        counters.rx_handed += 1;
        let Some(inbox) = self.steer.as_ref().and_then(|steer| steer.inbox_of(queue)) else {
            counters.rx_crowded += 1;
            return Ok(());
        };
        let put = inbox.put(VNET_LEN + held.len(), || {
            let bytes = held.with_header()?.into_boxed_slice();
            Ok::<_, GrantError>(Handed { bytes, hash })
        })?;
        counters.rx_crowded += u64::from(!put);
        Ok(())
    }
}
