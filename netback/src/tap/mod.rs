//! The host's end of a VIF: a tap device with as many queues as the guest has.
//!
//! The broker owns the device ([`Tap`]); a worker gets queues of it ([`TapQueue`]) and can do nothing
//! but move frames. The device outlives both: it is persistent, so neither a worker's death nor the
//! broker's takes the link, its place in a bridge, or its rules away.
//!
//! The carrier says whether a guest is connected. Linux takes it away by itself only when the last
//! queue goes, detached ones included (`__tun_detach` in `drivers/net/tun.c`), and the broker has a
//! detached one: so it stays when a worker dies, and what is sent to the guest then is dropped and
//! counted by the interface, for no queue is left that could be chosen (`tun_net_xmit`). An attached
//! queue that nobody reads would take its share of the frames for good. That is what a worker that is
//! replaced under a connected guest needs. Until there are such, a worker's death closes the guest's
//! interfaces, and the broker unplugs them itself; and of a worker that has outlived its broker, the
//! queues are the last.

mod janitor;
mod owner;
mod sys;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub(crate) use self::janitor::Janitor;
use self::sys::{Ask, NAME_MAX};

/// A name that an interface can have: 1 to 15 letters, digits, `.`, `_` and `-` (NET-25).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TapName(String);

/// A text that is no name for an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "interface name {0:?}: use 1 to {NAME_MAX} letters, digits, `.`, `_` or `-`, and not only dots"
)]
pub struct BadTapName(String);

/// What may be left undone in frames for the guest: set to what its frontend has agreed to, the
/// kernel does the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// TCP and UDP checksums.
    pub checksum: bool,
    /// Cutting up TCP over IPv4; only together with checksums.
    pub tcpv4: bool,
    /// Cutting up TCP over IPv6; only together with checksums.
    pub tcpv6: bool,
}

/// A tap device, owned.
///
/// Having one tells you that the device exists, that it is ours, and that it has one queue that takes
/// no frames. Dropping it leaves the device; [`remove`](Self::remove) does not.
#[derive(Debug)]
pub struct Tap {
    control: OwnedFd,
}

/// One queue of a tap: frames in, frames out, each behind a virtio header of 12 bytes.
#[derive(Debug)]
pub struct TapQueue {
    fd: OwnedFd,
}

/// Why there is no tap: this host's doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The tun driver is not there.
    #[error("/dev/net/tun: {0}; load the module: modprobe tun")]
    NoDriver(Errno),
    /// An interface of that name exists.
    #[error(
        "interface {0} exists already, for something else: give the VIF another vifname, or remove \
         that interface (ip link delete {0})"
    )]
    Exists(String),
    /// The one that had the name is on its way out. It passes.
    #[error(
        "interface {0} is still being removed: if that takes long, a process has it open (xen-netback \
         worker)"
    )]
    Leaving(String),
    /// The device has no name that an interface can have.
    #[error(transparent)]
    Name(#[from] BadTapName),
    /// It was removed meanwhile.
    #[error("the tap was removed: detach the interface and attach it again")]
    Gone,
    /// The kernel refuses something.
    #[error("tap {name}, {what}: {errno}")]
    Refused {
        /// The interface.
        name: String,
        /// What was asked for.
        what: &'static str,
        /// The answer.
        errno: Errno,
    },
}

impl TapName {
    /// Checks a text.
    ///
    /// # Errors
    /// [`BadTapName`].
    pub fn parse(text: &str) -> Result<Self, BadTapName> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fine = (1..=NAME_MAX).contains(&text.len())
            && text.bytes().all(legal)
            && text.bytes().any(|byte| byte != b'.');
        if fine {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadTapName(text.chars().take(32).collect()))
        }
    }

    /// The name under which stock scripts look for a VIF.
    ///
    /// # Errors
    /// The numbers are too long for a name.
    pub fn of_vif(domid: u16, handle: u32) -> Result<Self, BadTapName> {
        Self::parse(&format!("vif{domid}.{handle}"))
    }

    /// The VIF that has this name, unless its toolstack has given it another: as domain and handle.
    #[must_use]
    pub fn vif(&self) -> Option<(u16, u32)> {
        let (domid, handle) = self.0.strip_prefix("vif")?.split_once('.')?;
        let vif = (domid.parse().ok()?, handle.parse().ok()?);
        // No other way to write the same numbers.
        (Self::of_vif(vif.0, vif.1).as_ref() == Ok(self)).then_some(vif)
    }

    /// The names of all interfaces that have one which a tap could have.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn all() -> std::io::Result<Vec<Self>> {
        // Of this thread's network, which sysfs need not show.
        let table = fs::read_to_string("/proc/thread-self/net/dev")?;
        let names = table.lines().filter_map(|line| line.split_once(':'));
        Ok(names
            .filter_map(|(name, _counters)| Self::parse(name.trim()).ok())
            .collect())
    }

    /// Is there an interface of that name, of whatever kind?
    #[must_use]
    pub fn is_taken(&self) -> bool {
        Self::all().is_ok_and(|names| names.contains(self))
    }

    /// Is there a tap of that name?
    #[must_use]
    pub fn is_tap(&self) -> bool {
        Path::new("/sys/class/net")
            .join(&self.0)
            .join("tun_flags")
            .exists()
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tap {
    /// Makes a new device, down and without carrier, for frames of at most `mtu` bytes of payload.
    ///
    /// # Errors
    /// [`TapError`]; no device is left then.
    pub fn create(name: &TapName, mtu: u16, queue_len: u32) -> Result<Self, TapError> {
        let control = open(name.as_str(), sys::IFF_TUN_EXCL)?;
        let tap = Self { control };
        // From here on the device ends with the descriptor, until it is made persistent.
        tap.set_carrier(false)?;
        let number = |code, value: i64, what| {
            let value = i32::try_from(value).unwrap_or(i32::MAX);
            configure(name.as_str(), code, &Ask::Number(value), what)
        };
        number(sys::SIOCSIFMTU, i64::from(mtu), "MTU")?;
        number(sys::SIOCSIFTXQLEN, i64::from(queue_len), "queue length")?;
        let address = Ask::Address(ADDRESS);
        configure(name.as_str(), sys::SIOCSIFHWADDR, &address, "address")?;
        keep_ipv6_off(name.as_str());
        tap.detach()?;
        sys::value(tap.control.as_fd(), sys::TUNSETPERSIST, 1)
            .map_err(|errno| refused(name.as_str(), "persistence", errno))?;
        Ok(tap)
    }

    /// Takes over a device that an earlier process has made. While workers have queues of it, its
    /// carrier stays as it is; without them it is off (before Linux 6.3: on).
    ///
    /// # Errors
    /// [`TapError`]: it is no device of ours, or is gone.
    pub fn adopt(name: &TapName) -> Result<Self, TapError> {
        Self::attach(name, sys::IFF_NO_CARRIER)
    }

    /// The same for a device that no guest is connected to: its carrier is off, whatever the kernel.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn adopt_idle(name: &TapName) -> Result<Self, TapError> {
        Self::adopt(name)?.unplugged()
    }

    fn attach(name: &TapName, flags: u16) -> Result<Self, TapError> {
        let control = open(name.as_str(), flags)?;
        let tap = Self { control };
        tap.detach()?;
        Ok(tap)
    }

    fn unplugged(self) -> Result<Self, TapError> {
        self.set_carrier(false)?;
        Ok(self)
    }

    /// Its current name: hotplug scripts rename devices.
    ///
    /// # Errors
    /// The device is gone.
    pub fn name(&self) -> Result<String, TapError> {
        sys::name_of(self.control.as_fd()).map_err(|errno| refused("?", "its name", errno))
    }

    /// Bytes of an IP packet that it takes, now: hotplug scripts may change it.
    ///
    /// # Errors
    /// The device is gone.
    pub fn mtu(&self) -> Result<u16, TapError> {
        let name = self.name()?;
        let got = configure(&name, sys::SIOCGIFMTU, &Ask::Number(0), "MTU")?;
        let [a, b, c, d, ..] = got;
        let mtu = i32::from_ne_bytes([a, b, c, d]);
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// Another queue, for a worker.
    ///
    /// # Errors
    /// The device is gone, or has too many queues.
    pub fn queue(&self) -> Result<OwnedFd, TapError> {
        open(&self.name()?, 0)
    }

    /// Sets what the kernel may leave undone in frames for the guest.
    ///
    /// # Errors
    /// The device is gone.
    pub fn set_offload(&self, offload: Offload) -> Result<(), TapError> {
        sys::value(self.control.as_fd(), sys::TUNSETOFFLOAD, offload.bits())
            .map_err(|errno| refused("?", "offloads", errno))
    }

    /// Plugs the cable in, or out. In only while there are queues that take frames.
    ///
    /// # Errors
    /// The device is gone, or has no queues.
    pub fn set_carrier(&self, on: bool) -> Result<(), TapError> {
        set_carrier(self.control.as_fd(), on)
    }

    /// Takes the interface down: nobody who has but a queue of it can send any more.
    ///
    /// # Errors
    /// The device is gone.
    pub fn take_down(&self) -> Result<(), TapError> {
        let down = Ask::Flags(0);
        configure(&self.name()?, sys::SIOCSIFFLAGS, &down, "its end").map(drop)
    }

    /// Removes the device, as soon as no worker has a queue of it any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(self) -> Result<(), TapError> {
        self.doom().map(drop)
    }

    /// The device goes with this descriptor, or with the last queue of it that a worker has.
    fn doom(self) -> Result<OwnedFd, TapError> {
        sys::value(self.control.as_fd(), sys::TUNSETPERSIST, 0)
            .map_err(|errno| refused("?", "removal", errno))?;
        Ok(self.control)
    }

    /// Takes no frames: those are for the workers' queues.
    fn detach(&self) -> Result<(), TapError> {
        let detach = Ask::Flags(sys::IFF_DETACH_QUEUE);
        sys::interface(self.control.as_fd(), sys::TUNSETQUEUE, "", &detach)
            .map(drop)
            .map_err(|errno| refused("?", "a queue of its own", errno))
    }
}

impl TapQueue {
    /// Takes over a descriptor that [`Tap::queue`] made.
    #[must_use]
    pub const fn adopt(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Does a frame wait?
    #[must_use]
    pub fn has_frames(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Plugs the cable in, or out: for all queues of the device.
    ///
    /// # Errors
    /// The device is gone.
    pub fn set_carrier(&self, on: bool) -> Result<(), TapError> {
        set_carrier(self.fd.as_fd(), on)
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Offload {
    const fn bits(self) -> u32 {
        if !self.checksum {
            return 0;
        }
        let mut bits = sys::TUN_F_CSUM;
        if self.tcpv4 {
            bits |= sys::TUN_F_TSO4;
        }
        if self.tcpv6 {
            bits |= sys::TUN_F_TSO6;
        }
        if self.tcpv4 || self.tcpv6 {
            bits |= sys::TUN_F_TSO_ECN;
        }
        bits
    }
}

/// Opens a queue of the device `name`, which is made if it does not exist.
fn open(name: &str, flags: u16) -> Result<OwnedFd, TapError> {
    let modes = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open("/dev/net/tun", modes, Mode::empty()).map_err(TapError::NoDriver)?;
    let flags = flags | sys::IFF_TAP | sys::IFF_NO_PI | sys::IFF_VNET_HDR | sys::IFF_MULTI_QUEUE;
    sys::interface(fd.as_fd(), sys::TUNSETIFF, name, &Ask::Flags(flags)).map_err(|errno| {
        match errno {
            Errno::BUSY | Errno::EXIST => TapError::Exists(name.to_owned()),
            errno => refused(name, "a queue", errno),
        }
    })?;
    sys::pointed(fd.as_fd(), sys::TUNSETVNETHDRSZ, VNET_LEN)
        .map_err(|errno| refused(name, "virtio headers", errno))?;
    Ok(fd)
}

fn configure(
    name: &str,
    code: libc::Ioctl,
    ask: &Ask,
    what: &'static str,
) -> Result<[u8; 24], TapError> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    );
    socket
        .and_then(|socket| sys::interface(socket.as_fd(), code, name, ask))
        .map_err(|errno| refused(name, what, errno))
}

/// The host must not answer the guest by itself (NET-23): no link-local address is made.
fn keep_ipv6_off(name: &str) {
    for (key, value) in [("addr_gen_mode", "1"), ("accept_ra", "0")] {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{key}");
        match fs::write(&path, value) {
            Ok(()) => {}
            // A host without IPv6.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "{path} is not {value}: the host may be reached"),
        }
    }
}

fn set_carrier(fd: BorrowedFd<'_>, on: bool) -> Result<(), TapError> {
    sys::pointed(fd, sys::TUNSETCARRIER, i32::from(on))
        .map_err(|errno| refused("?", "carrier", errno))
}

fn refused(name: &str, what: &'static str, errno: Errno) -> TapError {
    let name = name.to_owned();
    match errno {
        // So the driver answers for a descriptor whose device somebody has deleted.
        Errno::BADFD => TapError::Gone,
        errno => TapError::Refused { name, what, errno },
    }
}

/// What every VIF's end in the host has, so that no frame is ever meant for it.
const ADDRESS: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

const VNET_LEN: i32 = 12;

#[cfg(test)]
pub(crate) mod tests;
