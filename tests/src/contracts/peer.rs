//! The other side of a contract.

use std::time::Duration;

use evtchn::{Evtchn, RemotePort};
use gntdev::{Access, Gntdev, LocalPages};
use ring_proto::{DomId, GrantRef};

/// A guest that does as a case says. Each case gets a fresh one.
pub trait Peer {
    /// A new handle for the backend's event channels.
    ///
    /// # Errors
    /// The hypervisor is not there.
    fn open_events(&self) -> anyhow::Result<Evtchn>;

    /// A new handle for the backend's grants.
    ///
    /// # Errors
    /// The hypervisor is not there.
    fn open_grants(&self) -> anyhow::Result<Gntdev>;

    /// Zeroed memory of the backend's, of the kind that is tried.
    ///
    /// # Errors
    /// There is none left.
    fn memory(&self, pages: usize) -> anyhow::Result<LocalPages> {
        Ok(LocalPages::new(pages)?)
    }

    /// The guest's number.
    fn domid(&self) -> DomId;

    /// Allocates an event channel for the backend.
    ///
    /// # Errors
    /// The guest cannot.
    fn open_port(&mut self) -> anyhow::Result<RemotePort>;

    /// Closes it.
    ///
    /// # Errors
    /// It is not open.
    fn close_port(&mut self, port: RemotePort) -> anyhow::Result<()>;

    /// Signals the backend.
    ///
    /// # Errors
    /// The port is not open.
    fn notify(&mut self, port: RemotePort) -> anyhow::Result<()>;

    /// Whether the backend signals `port` within `limit`, or did since this was last asked.
    ///
    /// # Errors
    /// The port is not open.
    fn signalled(&mut self, port: RemotePort, limit: Duration) -> anyhow::Result<bool>;

    /// Grants a fresh page of zeroes to the backend.
    ///
    /// # Errors
    /// The guest has none left.
    fn grant(&mut self, access: Access) -> anyhow::Result<GrantRef>;

    /// Ends a grant, whose page is not mapped.
    ///
    /// # Errors
    /// It was not granted, or is in use.
    fn revoke(&mut self, gref: GrantRef) -> anyhow::Result<()>;

    /// Writes into a granted page.
    ///
    /// # Errors
    /// It was not granted, or the range is outside of it.
    fn write(&mut self, gref: GrantRef, at: usize, bytes: &[u8]) -> anyhow::Result<()>;

    /// Reads a granted page.
    ///
    /// # Errors
    /// It was not granted, or the range is outside of it.
    fn read(&mut self, gref: GrantRef, at: usize, into: &mut [u8]) -> anyhow::Result<()>;

    /// Whether the guest sees the backend use the page; `None` where a guest cannot tell.
    fn in_use(&self, gref: GrantRef) -> Option<bool>;

    /// What only the hypervisor can tell once a case has passed.
    ///
    /// # Errors
    /// The backend left something behind, or did something that it must not.
    fn conclude(&mut self) -> anyhow::Result<()>;
}
