//! The other end of a guest's interface: whoever is in the host's network, frame by frame.
//!
//! It sees each frame that the guest transmits as the host's network gets it, and what was left
//! undone in it; and it sends frames as the host's network would. Nothing of our daemons is used for
//! it: the header in front of frames is the kernel's (`struct virtio_net_hdr`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Network, sys};

/// Bytes of a header.
const HEADER: usize = 10;

/// Longest frame, and its header.
const LONGEST: usize = HEADER + 65_535 + 18;

/// A socket that speaks through one interface.
#[derive(Debug)]
pub struct Peer {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// A frame that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What is left to be done in it.
    pub undone: Undone,
}

/// What is left to be done in a frame, in the kernel's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Where the sum over the rest of the frame starts, and where it goes, counted from there.
    pub checksum: Option<(u16, u16)>,
    /// The sender says that the checksum is right.
    pub valid: bool,
    /// To be cut up: `VIRTIO_NET_HDR_GSO_*` and the most payload of a piece.
    pub cut: Option<(u8, u16)>,
    /// Bytes of the headers that each piece gets.
    pub headers: u16,
}

impl Undone {
    /// `VIRTIO_NET_HDR_GSO_TCPV4`.
    pub const TCPV4: u8 = 1;
    /// `VIRTIO_NET_HDR_GSO_TCPV6`.
    pub const TCPV6: u8 = 4;

    fn encode(self) -> [u8; HEADER] {
        let (start, offset) = self.checksum.unwrap_or_default();
        let (kind, size) = self.cut.unwrap_or_default();
        let flags = u8::from(self.checksum.is_some()) | u8::from(self.valid) << 1;
        let mut header = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = [self.headers, size, start, offset];
        for (place, word) in header[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        header
    }

    fn decode(header: &[u8; HEADER]) -> Self {
        let [flags, kind, a, b, c, d, e, f, g, h] = *header;
        let [headers, size, start, offset] =
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_ne_bytes);
        Self {
            checksum: (flags & 1 != 0).then_some((start, offset)),
            valid: flags & 2 != 0,
            cut: (kind != 0).then_some((kind, size)),
            headers,
        }
    }
}

impl Peer {
    /// Speaks through `interface`, which may be down still.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn open(network: &Network, interface: &str) -> anyhow::Result<Self> {
        let socket = network.inside(|| sys::packet_socket(interface))?;
        let socket = socket.with_context(|| format!("cannot speak through {interface}"))?;
        let buffer = vec![0; LONGEST];
        Ok(Self { socket, buffer })
    }

    /// Sends a frame in which nothing is left to be done.
    ///
    /// # Errors
    /// The interface is down, or the frame is longer than it takes.
    pub fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        self.send_undone(bytes, Undone::default())
    }

    /// Sends a frame in which the interface, or who is behind it, has to do something.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_undone(&self, bytes: &[u8], undone: Undone) -> anyhow::Result<()> {
        let whole = [&undone.encode(), bytes].concat();
        let sent = rustix::io::write(&self.socket, &whole);
        let sent = sent.with_context(|| format!("a frame of {} bytes, {undone:?}", bytes.len()))?;
        ensure!(sent == whole.len(), "{sent} of {} bytes sent", whole.len());
        Ok(())
    }

    /// Takes the next frame, if one has come.
    ///
    /// # Errors
    /// The interface went down or is gone.
    pub fn take(&mut self) -> anyhow::Result<Option<Seen>> {
        let len = match rustix::io::read(&self.socket, &mut self.buffer[..]) {
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno).context("the peer's socket"),
        };
        let (header, bytes) = self.buffer[..len]
            .split_first_chunk::<HEADER>()
            .context("a frame without header")?;
        Ok(Some(Seen {
            bytes: bytes.to_vec(),
            undone: Undone::decode(header),
        }))
    }

    /// Waits for a frame that is `wanted`, for at most `limit`; others are thrown away.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn wait(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Option<Seen>> {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(seen) = self.take()? {
                if wanted(&seen) {
                    return Ok(Some(seen));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut polled, Some(&Timespec::try_from(left)?)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("the peer cannot wait"),
            }
        }
    }
}

impl AsFd for Peer {
    /// Readable when a frame has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_sends_the_other_sees() {
        let network = Network::new().unwrap();
        network.ip("link add near type veth peer name far").unwrap();
        for end in ["near", "far"] {
            network.ip(&format!("link set {end} up")).unwrap();
        }
        let (a, mut b) = (
            Peer::open(&network, "near").unwrap(),
            Peer::open(&network, "far").unwrap(),
        );
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        frame.extend([7; 50]);
        let seen = (0..1000).find_map(|_| {
            a.send(&frame).unwrap();
            b.wait(Duration::from_millis(10), |_| true).unwrap()
        });
        let seen = seen.unwrap();
        assert_eq!((seen.bytes, seen.undone), (frame, Undone::default()));
        assert!(a.send(&[0; 1600]).is_err(), "longer than the MTU");
    }

    #[test]
    fn headers_say_what_they_were_told() {
        let undone = Undone {
            checksum: Some((34, 16)),
            valid: false,
            cut: Some((Undone::TCPV4, 1448)),
            headers: 66,
        };
        assert_eq!(Undone::decode(&undone.encode()), undone);
        assert_eq!(undone.encode()[..2], [1, 1]);
    }
}
