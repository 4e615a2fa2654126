//! Packets that the guest gets in pieces.

use ring_proto::netif::{Gso, Hash, RxOffload};

use super::Rx;
use super::held::Held;
use crate::metrics::Counters;
use crate::queue::QueueFault;
use crate::vnet::Pieces;

impl Rx {
    /// The guest gets a packet in pieces, as it has room for them.
    #[cold]
    pub(super) fn start_cutting(
        &mut self,
        held: Held<'_>,
        gso: Gso,
        hash: Option<Hash>,
        counters: &mut Counters,
    ) -> Result<(), QueueFault> {
        self.cutting = Pieces::of(held.bytes()?, gso).map(|pieces| (pieces, hash));
        if self.cutting.is_none() {
            counters.rx_refused += 1;
        }
        Ok(())
    }

    /// Places the next piece of a packet that is being cut up where `held` starts; `None` if there is
    /// no such packet any more.
    pub(super) fn put_piece<'a>(
        &mut self,
        held: Held<'a>,
        counters: &mut Counters,
    ) -> Result<Option<Held<'a>>, QueueFault> {
        let Some((pieces, hash)) = &mut self.cutting else {
            return Ok(None);
        };
        let Some(piece) = pieces.next() else {
            counters.rx_refused += u64::from(!pieces.are_complete());
            self.cutting = None;
            return Ok(None);
        };
        let held = held.of(piece.len());
        held.fill(&piece)?;
        let len = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let plan = self.features.plan(len, RxOffload::Validated, *hash);
        let plan = plan.map_err(|refusal| refusal.to_string());
        self.put(held, plan, counters)?;
        Ok(Some(held))
    }
}
