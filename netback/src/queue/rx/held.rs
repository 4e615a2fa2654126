//! A frame for the guest in private memory.

use gntdev::{GrantError, LocalPages};
use ring_proto::netif::{Hash, Ip, RxFeatures, RxOffload, RxPlan};

use crate::headers::{self, Transport};
use crate::vnet::{ToGuest, VNET_LEN};

/// Where a frame is. Its virtio header is in front of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pages: &'a LocalPages,
    at: usize,
    len: usize,
}

impl<'a> Held<'a> {
    /// None yet, from `at` on.
    pub(super) const fn at(pages: &'a LocalPages, at: usize) -> Self {
        Self { pages, at, len: 0 }
    }

    /// One of `len` bytes in the same place.
    pub(super) const fn of(self, len: usize) -> Self {
        Self { len, ..self }
    }

    /// Where it starts.
    pub(super) const fn start(&self) -> usize {
        self.at
    }

    /// Where the memory behind it starts.
    pub(super) const fn end(&self) -> usize {
        self.at + self.len
    }

    /// Its bytes.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Copies out the virtio header and as many of the first bytes as there are and fit.
    pub(super) fn head<'b>(&self, into: &'b mut [u8]) -> Result<&'b [u8], GrantError> {
        let seen = into.len().min(VNET_LEN + self.len);
        let head = into.get_mut(..seen).unwrap_or_default();
        self.pages.read(self.at - VNET_LEN, head)?;
        Ok(head)
    }

    /// Copies it out.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, GrantError> {
        let mut bytes = vec![0; self.len];
        self.pages.read(self.at, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies it out, with its virtio header in front.
    pub(super) fn with_header(&self) -> Result<Vec<u8>, GrantError> {
        let mut bytes = vec![0; VNET_LEN + self.len];
        self.pages.read(self.at - VNET_LEN, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes all of it.
    pub(super) fn fill(&self, bytes: &[u8]) -> Result<(), GrantError> {
        self.pages.write(self.at, bytes)
    }

    /// Decides how it is given to the guest, and does what nobody has done that the guest does not
    /// do.
    pub(super) fn plan(
        &self,
        features: RxFeatures,
        told: ToGuest,
        head: &[u8],
        hash: Option<Hash>,
    ) -> Result<RxPlan, String> {
        let offload = match told {
            ToGuest::Offload(RxOffload::Blank(ip)) if !takes_blank(features, ip) => {
                let found = Transport::parse(head).ok_or("no transport")?;
                let offset = found.checksum_offset().ok_or("no checksum")?;
                self.complete(found.l4, usize::from(offset))?;
                RxOffload::Validated
            }
            ToGuest::Offload(offload) => offload,
            ToGuest::Cut(_) => return Err("a packet in pieces has no plan".to_owned()),
            ToGuest::Complete {
                start,
                offset,
                outermost,
            } => {
                self.complete(start.into(), offset.into())?;
                // Of another one inside, it says nothing about the frame.
                if outermost {
                    RxOffload::Validated
                } else {
                    RxOffload::Plain
                }
            }
        };
        let len = u32::try_from(self.len).unwrap_or(u32::MAX);
        let plan = features.plan(len, offload, hash);
        plan.map_err(|refusal| refusal.to_string())
    }

    /// Completes a checksum, from `start` to the end of the frame, and puts it at `start + offset`.
    #[cold]
    fn complete(&self, start: usize, offset: usize) -> Result<(), String> {
        let field = start + offset;
        if field + 2 > self.len {
            return Err(format!("a checksum at {field} of {} bytes", self.len));
        }
        let outside = |error: GrantError| error.to_string();
        let (mut total, mut from) = (0, start);
        let mut piece = [0; 1024];
        while from < self.len {
            let left = (self.len - from).min(piece.len());
            let bytes = piece.get_mut(..left).unwrap_or_default();
            self.pages.read(self.at + from, bytes).map_err(outside)?;
            total = headers::sum(total, bytes);
            from += bytes.len();
        }
        let sum = match !headers::fold(total) {
            // UDP's word for "none".
            0 => 0xffff,
            sum => sum,
        };
        let written = self.pages.write(self.at + field, &sum.to_be_bytes());
        written.map_err(outside)
    }
}

const fn takes_blank(features: RxFeatures, ip: Ip) -> bool {
    match ip {
        Ip::V4 => features.blank_v4,
        Ip::V6 => features.blank_v6,
    }
}
