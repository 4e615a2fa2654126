//! How a guest wants its frames spread over its queues: what it has said on the control ring.
//!
//! Only the state, and what follows from it for a frame. Pages are fetched by whoever handles the
//! ring. Every number of a guest's is bounded before it gets here, or here (NET-20): no message makes
//! the table larger, and no entry names a queue that does not exist.

mod toeplitz;

use ring_proto::GrantRef;
use ring_proto::netif::{
    ControlMessage, ControlStatus, Hash, HashAlgorithm, HashKind, HashKinds, Ip,
};

use crate::headers::{TCP, Transport};
use toeplitz::toeplitz;

/// What a guest has said about hashing. A guest that has said nothing leaves it to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashing {
    queues: u32,
    algorithm: HashAlgorithm,
    kinds: HashKinds,
    key: [u8; KEY],
    /// Queues, each less than `queues`, of which the first `size` are in use.
    table: [u32; TABLE],
    size: usize,
}

const KEY: usize = ControlMessage::MAX_KEY as usize;
const TABLE: usize = ControlMessage::MAX_MAPPING as usize;

impl Hashing {
    /// Nothing was said, by a guest with so many queues.
    #[must_use]
    pub fn new(queues: u32) -> Self {
        Self {
            queues,
            algorithm: HashAlgorithm::None,
            kinds: HashKinds::default(),
            key: [0; KEY],
            table: [0; TABLE],
            size: 0,
        }
    }

    /// Does what a message asks for, and says what was asked. `fetch` brings bytes from the start of
    /// a guest's page, all or none: then it says false.
    ///
    /// As Linux's netback does it (`xen-netback/hash.c`), where the header leaves it open.
    ///
    /// # Errors
    /// What the guest is told, instead: nothing has changed then.
    pub fn handle(
        &mut self,
        message: ControlMessage,
        fetch: impl FnOnce(GrantRef, &mut [u8]) -> bool,
    ) -> Result<u32, ControlStatus> {
        let chosen = self.algorithm != HashAlgorithm::None;
        match message {
            ControlMessage::SetHashAlgorithm(algorithm) => self.algorithm = algorithm,
            ControlMessage::GetHashFlags if chosen => return Ok(HashKinds::ALL.bits()),
            ControlMessage::GetHashFlags => return Err(ControlStatus::NotSupported),
            ControlMessage::SetHashFlags(kinds) if chosen => self.kinds = kinds,
            ControlMessage::SetHashFlags(_) => return Err(ControlStatus::InvalidParameter),
            ControlMessage::SetHashKey { gref, len } => self.set_key(gref, len, fetch)?,
            ControlMessage::GetHashMappingSize => return Ok(ControlMessage::MAX_MAPPING),
            ControlMessage::SetHashMappingSize(size) => {
                self.size = within(size, TABLE)?;
                self.table = [0; TABLE];
            }
            ControlMessage::SetHashMapping {
                gref,
                count,
                offset,
            } => self.set_mapping(gref, count, offset, fetch)?,
        }
        Ok(0)
    }

    /// Does the guest want hashes? If not, it leaves its queues to us.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.algorithm != HashAlgorithm::None && !self.kinds.is_empty()
    }

    /// The hash of a frame that starts with `head`; `None` if the guest wants none, or none of a kind
    /// that such a frame has.
    #[must_use]
    pub fn of(&self, head: &[u8]) -> Option<Hash> {
        if !self.is_on() {
            return None;
        }
        let found = Transport::parse(head)?;
        let (plain, tcp) = match found.ip {
            Ip::V4 => (HashKind::Ipv4, HashKind::Ipv4Tcp),
            Ip::V6 => (HashKind::Ipv6, HashKind::Ipv6Tcp),
        };
        let mut input = [0; LONGEST];
        let addresses = found.addresses(head)?;
        let (place, rest) = input.split_at_mut_checked(addresses.len())?;
        place.copy_from_slice(addresses);
        // Only the first fragment has ports: those of one packet would go different ways.
        let ports = head.get(found.l4..found.l4 + PORTS);
        let ports = ports.filter(|_| found.protocol == TCP && !found.fragment);
        let (kind, len) = match ports.filter(|_| self.kinds.contains(tcp)) {
            Some(ports) => {
                rest.get_mut(..PORTS)?.copy_from_slice(ports);
                (tcp, addresses.len() + PORTS)
            }
            None => (plain, addresses.len()),
        };
        let value = toeplitz(&self.key, input.get(..len)?);
        self.kinds.contains(kind).then_some(Hash { kind, value })
    }

    /// The queue for a frame of this hash, less than the number of queues; `None` if the guest leaves
    /// it to us. A frame that has no hash goes where one of 0 does.
    #[must_use]
    pub fn queue(&self, hash: Option<Hash>) -> Option<u32> {
        if !self.is_on() {
            return None;
        }
        let value = hash.map_or(0, |hash| hash.value);
        let table = self.table.get(..self.size)?;
        if table.is_empty() {
            return value.checked_rem(self.queues);
        }
        table.get(value as usize % table.len()).copied()
    }

    fn set_key(
        &mut self,
        gref: GrantRef,
        len: u32,
        fetch: impl FnOnce(GrantRef, &mut [u8]) -> bool,
    ) -> Result<(), ControlStatus> {
        let len = within(len, KEY)?;
        let mut key = [0; KEY];
        let (bytes, _zeros) = key.split_at_mut(len);
        if len > 0 && !fetch(gref, bytes) {
            return Err(ControlStatus::InvalidParameter);
        }
        self.key = key;
        Ok(())
    }

    fn set_mapping(
        &mut self,
        gref: GrantRef,
        count: u32,
        offset: u32,
        fetch: impl FnOnce(GrantRef, &mut [u8]) -> bool,
    ) -> Result<(), ControlStatus> {
        let offset = within(offset, self.size)?;
        let count = within(count, self.size - offset)?;
        let mut bytes = [0; 4 * TABLE];
        let (bytes, _rest) = bytes.split_at_mut(4 * count);
        if count > 0 && !fetch(gref, bytes) {
            return Err(ControlStatus::InvalidParameter);
        }
        let (entries, _rest) = bytes.as_chunks();
        let entries = || entries.iter().copied().map(u32::from_le_bytes);
        if entries().any(|queue| queue >= self.queues) {
            return Err(ControlStatus::InvalidParameter);
        }
        for (place, queue) in self.table.iter_mut().skip(offset).zip(entries()) {
            *place = queue;
        }
        Ok(())
    }
}

/// `number`, unless it is more than `most`.
fn within(number: u32, most: usize) -> Result<usize, ControlStatus> {
    let number = usize::try_from(number).ok();
    number
        .filter(|&number| number <= most)
        .ok_or(ControlStatus::InvalidParameter)
}

/// Bytes of two TCP ports.
const PORTS: usize = 4;
/// Two IPv6 addresses and two ports.
const LONGEST: usize = 32 + PORTS;

#[cfg(test)]
mod tests;
