//! The guard of ARP and RARP (NET-16).

use std::net::Ipv4Addr;
use std::time::Instant;

use super::Reason;
use super::frame::{ARP, Frame, RARP};
use super::meter::Meter;
use super::sources::Sources;
use crate::policy::{Mac, VifPolicy};

/// What a guest may say about who has which IPv4 address.
#[derive(Debug)]
pub(super) struct Arp {
    mac: Mac,
    mac_guard: bool,
    rarp: bool,
    meter: Meter,
}

impl Arp {
    pub(super) fn new(policy: &VifPolicy, now: Instant) -> Self {
        Self {
            mac: policy.mac,
            mac_guard: policy.mac_guard,
            rarp: policy.rarp,
            meter: Meter::new(50, 100, now),
        }
    }

    /// The message of a frame that this guard judges; `None` for other frames.
    ///
    /// # Errors
    /// [`Reason::Malformed`]: it is cut off.
    pub(super) fn read(&self, frame: &Frame<'_>) -> Result<Option<Message>, Reason> {
        let judged = frame.kind == ARP || self.rarp && frame.kind == RARP;
        if !judged {
            return Ok(None);
        }
        let message = frame.head.get(frame.l3..).and_then(<[u8]>::first_chunk);
        message
            .map(|bytes| Some(Message(*bytes)))
            .ok_or(Reason::Malformed)
    }

    pub(super) fn judge(
        &self,
        kind: u16,
        message: &Message,
        own: &Sources,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Reason> {
        let Message(
            [
                formats @ ..,
                op_high,
                op,
                s0,
                s1,
                s2,
                s3,
                s4,
                s5,
                i0,
                i1,
                i2,
                i3,
                t0,
                t1,
                t2,
                t3,
                t4,
                t5,
                _,
                _,
                _,
                _,
            ],
        ) = message;
        if *formats != ETHERNET_AND_IPV4 || *op_high != 0 {
            return Err(Reason::Arp);
        }
        let sender = Mac([*s0, *s1, *s2, *s3, *s4, *s5]);
        if kind == RARP {
            let target = Mac([*t0, *t1, *t2, *t3, *t4, *t5]);
            let own = sender == self.mac && target == self.mac;
            let known = matches!(*op, ASK_REVERSE | TELL_REVERSE);
            return (known && own).then_some(()).ok_or(Reason::Arp);
        }
        let address = Ipv4Addr::new(*i0, *i1, *i2, *i3);
        let known = matches!(*op, ASK | TELL);
        let stands = !self.mac_guard || sender == self.mac;
        // Who probes for an address has none yet (RFC 5227).
        let probes = *op == ASK && address.is_unspecified();
        if !(known && stands && (probes || own.has_v4(address))) {
            return Err(Reason::Arp);
        }
        if self.meter.admits(now) {
            Ok(())
        } else {
            Err(Reason::ArpRate)
        }
    }
}

/// An ARP message (RFC 826): four formats, operation, sender, target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message([u8; 28]);

/// Hardware type 1, protocol type 0x0800, and how long such addresses are.
const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

const ASK: u8 = 1;
const TELL: u8 = 2;
const ASK_REVERSE: u8 = 3;
const TELL_REVERSE: u8 = 4;
