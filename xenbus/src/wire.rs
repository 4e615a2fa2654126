//! The xenstore wire: a 16-byte header, an operation, at most 4096 bytes of payload.
//!
//! Layout and numbers are those of Xen's `public/io/xs_wire.h`; the meaning of each payload is in
//! `docs/misc/xenstore.txt`. Lengths are checked before anything is allocated or sent: xenstored
//! drops a connection that sends more than 4096 bytes, and a peer that announces more than that is
//! not a xenstored.

/// Bytes of a message header.
pub const HEADER_BYTES: usize = 16;
/// The most payload bytes a message may carry (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;
/// The most payload bytes through `/dev/xen/xenbus`, whose buffer holds header and payload
/// together.
pub const KERNEL_PAYLOAD_MAX: usize = PAYLOAD_MAX - HEADER_BYTES;
/// The longest absolute path (`XENSTORE_ABS_PATH_MAX`), in bytes without the terminator.
pub const PATH_MAX: usize = 3072;

/// What a message asks for, answers or announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Op {
    /// Administration of xenstored itself.
    Control = 0,
    /// List the children of a node.
    Directory = 1,
    /// Read a node's value.
    Read = 2,
    /// Read a node's permissions.
    Permissions = 3,
    /// Register a watch.
    Watch = 4,
    /// Remove a watch.
    Unwatch = 5,
    /// Open a transaction.
    TransactionStart = 6,
    /// Commit or abandon a transaction.
    TransactionEnd = 7,
    /// Tell xenstored of a new domain.
    Introduce = 8,
    /// Tell xenstored that a domain is gone.
    Release = 9,
    /// Ask for a domain's home path.
    DomainPath = 10,
    /// Write a node's value, creating it and its parents.
    Write = 11,
    /// Create an empty node and its parents.
    Mkdir = 12,
    /// Remove a node and everything below.
    Remove = 13,
    /// Replace a node's permissions.
    SetPermissions = 14,
    /// Something under a watched path changed; unsolicited.
    WatchEvent = 15,
    /// The request failed; the payload is an errno name.
    Error = 16,
    /// Is a domain known and not yet dead?
    IsDomainIntroduced = 17,
    /// A suspended domain runs again.
    Resume = 18,
    /// Give one domain the rights of another.
    SetTarget = 19,
    /// Drop every watch of the connection.
    ResetWatches = 21,
    /// List the children of a node from a byte offset.
    DirectoryPart = 22,
}

impl Op {
    /// The operation with the number `raw`, if `xs_wire.h` knows one.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        use Op::*;
        const ALL: [Op; 22] = [
            Control,
            Directory,
            Read,
            Permissions,
            Watch,
            Unwatch,
            TransactionStart,
            TransactionEnd,
            Introduce,
            Release,
            DomainPath,
            Write,
            Mkdir,
            Remove,
            SetPermissions,
            WatchEvent,
            Error,
            IsDomainIntroduced,
            Resume,
            SetTarget,
            ResetWatches,
            DirectoryPart,
        ];
        ALL.into_iter().find(|op| *op as u32 == raw)
    }
}

/// One message, either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub op: Op,
    /// Chosen by the client, echoed in the answer; meaningless in a watch event.
    pub request: u32,
    /// The transaction it belongs to; 0 is none.
    pub transaction: u32,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

impl Message {
    /// Appends the encoded message to `out`.
    ///
    /// # Errors
    /// The payload is longer than `limit` bytes ([`PAYLOAD_MAX`] or [`KERNEL_PAYLOAD_MAX`]);
    /// nothing was appended.
    pub fn encode(&self, limit: usize, out: &mut Vec<u8>) -> Result<(), Oversize> {
        let len = self.payload.len();
        let oversize = Oversize {
            len,
            limit: limit.min(PAYLOAD_MAX),
        };
        if len > oversize.limit {
            return Err(oversize);
        }
        let wire_len = u32::try_from(len).map_err(|_| oversize)?;
        for word in [self.op as u32, self.request, self.transaction, wire_len] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

/// A payload that the wire, or this transport, cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload of {len} bytes is over the limit of {limit}")]
pub struct Oversize {
    /// Bytes asked for.
    pub len: usize,
    /// Bytes possible.
    pub limit: usize,
}

/// Why bytes are not xenstore messages. The stream has lost its frame: the connection is of no more
/// use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Garbled {
    /// The length field is over the limit.
    #[error("message announces {0} bytes of payload, the limit is {PAYLOAD_MAX}")]
    Length(u32),
    /// No such operation.
    #[error("message of unknown type {0}")]
    Type(u32),
}

/// Cuts a byte stream into messages. Holds at most one incomplete message and what was fed last.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Adds bytes that came from the peer, in any portions.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no message, judged by the header alone and before the payload is waited for.
    pub fn next_message(&mut self) -> Result<Option<Message>, Garbled> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((header, body)) = rest.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let [op, request, transaction, len] = words(header);
        let op = Op::from_raw(op).ok_or(Garbled::Type(op))?;
        let want = usize::try_from(len)
            .ok()
            .filter(|want| *want <= PAYLOAD_MAX)
            .ok_or(Garbled::Length(len))?;
        let Some(payload) = body.get(..want) else {
            return Ok(None);
        };
        let message = Message {
            op,
            request,
            transaction,
            payload: payload.to_vec(),
        };
        self.taken += HEADER_BYTES + want;
        Ok(Some(message))
    }
}

fn words(header: &[u8]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(header.chunks_exact(4)) {
        *word = bytes
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 8) | u32::from(*byte));
    }
    words
}

/// The strings of a payload in which each ends in a NUL; a last one without is kept too.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = payload.strip_suffix(b"\0").unwrap_or(payload);
    let none = payload.is_empty();
    body.split(|byte| *byte == 0).filter(move |_| !none)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(payload: &[u8]) -> Message {
        Message {
            op: Op::Read,
            request: 7,
            transaction: 9,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn a_request_as_it_stands_on_the_wire() {
        let mut out = Vec::new();
        read(b"/a\0").encode(PAYLOAD_MAX, &mut out).expect("fits");
        assert_eq!(out, b"\x02\0\0\0\x07\0\0\0\x09\0\0\0\x03\0\0\0/a\0");
    }

    #[test]
    fn numbers_are_those_of_xs_wire_h() {
        let numbers: Vec<u32> = (0..40).filter(|raw| Op::from_raw(*raw).is_some()).collect();
        assert_eq!(numbers, (0..=19).chain([21, 22]).collect::<Vec<u32>>());
        assert_eq!(Op::from_raw(15), Some(Op::WatchEvent));
        assert_eq!(Op::from_raw(22), Some(Op::DirectoryPart));
    }

    #[test]
    fn sto_01_nothing_longer_than_a_message_is_sent_or_waited_for() {
        let mut out = Vec::new();
        let long = read(&[b'x'; PAYLOAD_MAX + 1]);
        let refused = Oversize {
            len: 4097,
            limit: 4096,
        };
        assert_eq!(long.encode(usize::MAX, &mut out), Err(refused));
        let kernel = read(&[b'x'; 4081]).encode(KERNEL_PAYLOAD_MAX, &mut out);
        assert_eq!(
            kernel,
            Err(Oversize {
                len: 4081,
                limit: 4080
            })
        );
        assert!(out.is_empty());
        read(&[b'x'; PAYLOAD_MAX])
            .encode(PAYLOAD_MAX, &mut out)
            .expect("fits");

        let header = |op: u32, len: u32| [op, 0, 0, len].map(u32::to_le_bytes).concat();
        let mut decoder = Decoder::default();
        decoder.feed(&header(2, 4097));
        assert_eq!(
            decoder.next_message(),
            Err(Garbled::Length(4097)),
            "by the header alone"
        );
        let mut decoder = Decoder::default();
        decoder.feed(&header(20, 0));
        assert_eq!(decoder.next_message(), Err(Garbled::Type(20)));
    }

    #[test]
    fn strings_end_in_nul() {
        let split = |payload| strings(payload).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(split(b""), Vec::<Vec<u8>>::new());
        assert_eq!(split(b"a\0bc\0"), [&b"a"[..], b"bc"]);
        assert_eq!(split(b"a\0bc"), [&b"a"[..], b"bc"]);
        assert_eq!(split(b"\0"), [b""]);
    }

    fn message() -> impl Strategy<Value = Message> {
        let op = (0_u32..23).prop_filter_map("no such operation", Op::from_raw);
        let payload = proptest::collection::vec(any::<u8>(), 0..300);
        (op, any::<u32>(), any::<u32>(), payload).prop_map(|(op, request, transaction, payload)| {
            Message {
                op,
                request,
                transaction,
                payload,
            }
        })
    }

    proptest! {
        #[test]
        fn messages_survive_any_portioning(
            messages in proptest::collection::vec(message(), 0..8),
            portions in proptest::collection::vec(1_usize..200, 1..20),
        ) {
            let mut wire = Vec::new();
            for message in &messages {
                message.encode(PAYLOAD_MAX, &mut wire).expect("fits");
            }
            let (mut decoder, mut seen, mut rest) = (Decoder::default(), Vec::new(), &wire[..]);
            for portion in portions.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*portion));
                rest = later;
                decoder.feed(now);
                while let Some(message) = decoder.next_message().expect("well-formed") {
                    seen.push(message);
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, messages);
        }

        #[test]
        fn no_bytes_upset_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let mut decoder = Decoder::default();
            for portion in bytes.chunks(512) {
                decoder.feed(portion);
                while let Ok(Some(message)) = decoder.next_message() {
                    prop_assert!(message.payload.len() <= PAYLOAD_MAX);
                }
            }
        }
    }
}
