//! Numbers that name something on the wire, each a type of its own.
//!
//! A domain id, a grant reference and a sector are all small integers that a guest or a toolstack
//! sends; mixing two of them up compiles in C and corrupts someone's disk.

use std::fmt;

/// A Xen domain id (`domid_t` of `xen.h`).
///
/// Having one says nothing about whether such a domain exists now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(u16);

impl DomId {
    /// Names the domain `raw`.
    #[must_use]
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// The number as ioctls and xenstore paths want it.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A grant reference (`grant_ref_t` of `grant_table.h`): an index into the granting domain's table.
///
/// It is a guest's allegation. Only mapping or copying tells whether the entry exists and allows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantRef(u32);

impl GrantRef {
    /// Names entry `raw` of the granting domain's table.
    #[must_use]
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The number as ioctls and xenstore want it.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position on a disk, or a length, in units of 512 bytes.
///
/// Everything that blkif says about sectors is in this unit whatever the disk's `sector-size`
/// (`blkif.h`, "sector-size" and "sectors").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(u64);

impl Sector {
    /// Bytes in one unit.
    pub const BYTES: u64 = 512;

    /// The 512-byte sector number `raw`.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number of 512-byte units.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The same position in bytes; `None` where that exceeds 64 bits.
    #[must_use]
    pub const fn bytes(self) -> Option<u64> {
        self.0.checked_mul(Self::BYTES)
    }
}

impl fmt::Display for Sector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address.
///
/// Having one says nothing about whose it is, or whether it is a group's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The address with these bytes, in the order of the wire.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The bytes in the order of the wire.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
