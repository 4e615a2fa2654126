//! What the hypervisor says about one grant operation.

use std::fmt;

/// A grant status (`GNTST_*` of `xen/include/public/grant_table.h`).
///
/// Only [`Okay`](Self::Okay) is success. Anything else is a failure, positive numbers too: taking a
/// stray positive status for success crashed backends once (XSA-316).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantStatus {
    /// 0: done.
    Okay,
    /// -1: refused without a closer reason; also what an operation that never ran has. Xen answers
    /// it for entries that are not granted, not to us, or read-only.
    GeneralError,
    /// -2: no such domain.
    BadDomain,
    /// -3: the reference is beyond the domain's grant table.
    BadGrantRef,
    /// -4: unknown mapping handle.
    BadHandle,
    /// -5: our virtual address is unsuitable.
    BadVirtAddr,
    /// -6: our device address is unsuitable.
    BadDevAddr,
    /// -7: no room in the I/O MMU.
    NoDeviceSpace,
    /// -8: not privileged.
    PermissionDenied,
    /// -9: the granted frame is no ordinary memory of that domain.
    BadPage,
    /// -10: the copy would cross a page boundary.
    BadCopyArg,
    /// -11: the frame number is too large.
    AddressTooBig,
    /// -12: the page is paged out; trying again later may work.
    Again,
    /// -13: no free mapping handle on this host (`gnttab_max_maptrack_frames`).
    NoSpace,
    /// A number that this version of the interface does not define.
    Unknown(i16),
}

impl GrantStatus {
    /// The meaning of the number `raw`.
    #[must_use]
    pub const fn from_raw(raw: i16) -> Self {
        match raw {
            0 => Self::Okay,
            -1 => Self::GeneralError,
            -2 => Self::BadDomain,
            -3 => Self::BadGrantRef,
            -4 => Self::BadHandle,
            -5 => Self::BadVirtAddr,
            -6 => Self::BadDevAddr,
            -7 => Self::NoDeviceSpace,
            -8 => Self::PermissionDenied,
            -9 => Self::BadPage,
            -10 => Self::BadCopyArg,
            -11 => Self::AddressTooBig,
            -12 => Self::Again,
            -13 => Self::NoSpace,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn raw(self) -> i16 {
        match self {
            Self::Okay => 0,
            Self::GeneralError => -1,
            Self::BadDomain => -2,
            Self::BadGrantRef => -3,
            Self::BadHandle => -4,
            Self::BadVirtAddr => -5,
            Self::BadDevAddr => -6,
            Self::NoDeviceSpace => -7,
            Self::PermissionDenied => -8,
            Self::BadPage => -9,
            Self::BadCopyArg => -10,
            Self::AddressTooBig => -11,
            Self::Again => -12,
            Self::NoSpace => -13,
            Self::Unknown(other) => other,
        }
    }

    /// Whether the operation was carried out.
    #[must_use]
    pub const fn is_okay(self) -> bool {
        matches!(self, Self::Okay)
    }
}

impl fmt::Display for GrantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Okay => "okay",
            Self::GeneralError => "not granted",
            Self::BadDomain => "no such domain",
            Self::BadGrantRef => "no such grant reference",
            Self::BadHandle => "unknown mapping handle",
            Self::BadVirtAddr => "unsuitable virtual address",
            Self::BadDevAddr => "unsuitable device address",
            Self::NoDeviceSpace => "no room in the I/O MMU",
            Self::PermissionDenied => "permission denied",
            Self::BadPage => "not a page of that domain",
            Self::BadCopyArg => "copy crosses a page",
            Self::AddressTooBig => "frame number too large",
            Self::Again => "page is paged out",
            Self::NoSpace => "no free mapping handle",
            Self::Unknown(_) => "unknown status",
        };
        write!(f, "{name} ({})", self.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gnt_01_every_number_survives_the_round_trip_and_only_zero_is_okay() {
        for raw in i16::MIN..=i16::MAX {
            let status = GrantStatus::from_raw(raw);
            assert_eq!(status.raw(), raw);
            assert_eq!(status.is_okay(), raw == 0, "{raw}");
        }
    }

    #[test]
    fn named_statuses_are_those_of_the_header() {
        assert_eq!(GrantStatus::BadCopyArg.raw(), -10);
        assert_eq!(GrantStatus::Again.raw(), -12);
        assert_eq!(GrantStatus::NoSpace.raw(), -13);
        assert_eq!(GrantStatus::from_raw(-14), GrantStatus::Unknown(-14));
        assert_eq!(GrantStatus::from_raw(1), GrantStatus::Unknown(1));
    }
}
