//! Which multicast a guest wants to hear.

use std::collections::BTreeSet;

use ring_proto::MacAddr;
use ring_proto::netif::MulticastEdit;

/// Addresses that one guest may ask for, as many as Linux takes (`XEN_NETBK_MCAST_MAX`).
pub const MAX: usize = 64;

/// The addresses that a guest has asked for. Bounded, whatever it asks (NET-21).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Multicast {
    wanted: BTreeSet<[u8; 6]>,
}

impl Multicast {
    /// Changes the list; false if it is full, or the address is not one of a group.
    pub fn edit(&mut self, edit: MulticastEdit) -> bool {
        match edit {
            MulticastEdit::Add(address) => self.add(address),
            MulticastEdit::Remove(address) => {
                self.wanted.remove(&address.bytes());
                true
            }
        }
    }

    /// Is it on the list?
    #[must_use]
    pub fn has(&self, address: [u8; 6]) -> bool {
        self.wanted.contains(&address)
    }

    fn add(&mut self, address: MacAddr) -> bool {
        let bytes = address.bytes();
        let room = self.wanted.len() < MAX || self.wanted.contains(&bytes);
        let taken = room && is_group(bytes);
        if taken {
            self.wanted.insert(bytes);
        }
        taken
    }
}

/// A multicast address, or broadcast.
#[must_use]
pub const fn is_group(address: [u8; 6]) -> bool {
    address[0] & 1 != 0
}

/// Everybody.
pub const BROADCAST: [u8; 6] = [0xff; 6];

#[cfg(test)]
mod tests {
    use super::*;

    const fn group(number: u8) -> MacAddr {
        MacAddr::new([1, 0, 0x5e, 0, 0, number])
    }

    #[test]
    fn net_21_the_list_ends_and_what_is_on_it_stays() {
        let mut list = Multicast::default();
        for number in 0..64 {
            assert!(list.edit(MulticastEdit::Add(group(number))));
        }
        assert!(!list.edit(MulticastEdit::Add(group(64))));
        assert!(
            list.edit(MulticastEdit::Add(group(7))),
            "it is there already"
        );
        assert!(list.edit(MulticastEdit::Remove(group(7))));
        assert!(list.edit(MulticastEdit::Remove(group(200))));
        assert!(list.edit(MulticastEdit::Add(group(64))));
        assert!(list.has(group(64).bytes()) && !list.has(group(7).bytes()));
    }

    #[test]
    fn only_groups_are_joined() {
        let mut list = Multicast::default();
        assert!(!list.edit(MulticastEdit::Add(MacAddr::new([2, 0, 0, 0, 0, 1]))));
    }
}
