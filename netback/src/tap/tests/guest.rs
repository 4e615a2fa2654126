//! A guest that speaks some TCP through a queue of a tap.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::time::Duration;

use ring_proto::netif::{Gso, Ip, RxOffload, TxChecksum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::TapQueue;
use crate::headers::{TCP, Transport, fold, sum};
use crate::vnet::{self, HEAD, ToGuest, VNET_LEN};

pub(super) const PATIENCE: i64 = 10;
pub(super) const HEADER: usize = 20;
pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;

/// A guest that speaks TCP, so far as it is needed here.
pub(super) struct Guest {
    pub(super) queue: TapQueue,
    /// Of its neighbour.
    pub(super) mac: [u8; 6],
    pub(super) ip: Ip,
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
}

/// One TCP frame for the guest.
pub(super) struct Got {
    pub(super) header: [u8; VNET_LEN],
    pub(super) frame: Vec<u8>,
    pub(super) found: Transport,
}

pub(super) fn wait(fd: &impl AsFd) {
    let patience = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    assert!(comes(fd, patience), "nothing has come");
}

pub(super) fn comes(fd: &impl AsFd, patience: Timespec) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&patience)) == Ok(1)
}

pub(super) fn addresses(ip: Ip) -> Vec<u8> {
    let bytes = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    match ip {
        Ip::V4 => [bytes("192.0.2.2"), bytes("192.0.2.1")].concat(),
        Ip::V6 => [bytes("2001:db8::2"), bytes("2001:db8::1")].concat(),
    }
}

pub(super) const fn mss(ip: Ip) -> u16 {
    match ip {
        Ip::V4 => 1460,
        Ip::V6 => 1440,
    }
}

pub(super) fn gso(ip: Ip) -> Option<Gso> {
    let size = NonZeroU16::new(mss(ip)).unwrap();
    Some(Gso { ip, size })
}

/// Bytes that differ from their neighbours.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

impl Guest {
    pub(super) fn new(queue: TapQueue, mac: [u8; 6], ip: Ip, to: u16) -> Self {
        Self {
            queue,
            mac,
            ip,
            from: 1000,
            to,
            seq: 1,
            ack: 0,
        }
    }

    /// A segment with the sum of its pseudo header where the checksum goes.
    pub(super) fn segment(&self, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.from.to_be_bytes());
        tcp.extend(self.to.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        let words = u8::try_from((HEADER + options.len()) / 4).unwrap();
        tcp.extend([words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(payload);
        let addresses = addresses(self.ip);
        let [_, _, high, low] = u32::try_from(tcp.len()).unwrap().to_be_bytes();
        let pseudo = [&addresses[..], &[high, low, 0, TCP]].concat();
        tcp[16..18].copy_from_slice(&fold(sum(0, &pseudo)).to_be_bytes());
        let station = [0, 0x16, 0x3e, 0, 0, 1];
        let mut frame = [&self.mac[..], &station].concat();
        match self.ip {
            Ip::V4 => {
                let total = u16::try_from(HEADER + tcp.len()).unwrap().to_be_bytes();
                let mut header = vec![0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, TCP, 0, 0];
                header.extend(addresses);
                let checksum = !fold(sum(0, &header));
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(header);
            }
            Ip::V6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, TCP, 64]);
                frame.extend(addresses);
            }
        }
        frame.extend(tcp);
        frame
    }

    /// As a queue sends it.
    pub(super) fn send(&self, mut frame: Vec<u8>, checksum: TxChecksum, gso: Option<Gso>) {
        let head = &frame[..frame.len().min(HEAD)];
        let said = vnet::from_guest(head, frame.len(), 1518, checksum, gso).unwrap();
        if let Some((at, bytes)) = said.patch {
            frame[at..at + 2].copy_from_slice(&bytes);
        }
        let whole = [&said.header[..], &frame].concat();
        assert_eq!(rustix::io::write(&self.queue, &whole), Ok(whole.len()));
    }

    pub(super) fn receive(&self) -> Got {
        loop {
            wait(&self.queue);
            let mut bytes = vec![0; 70_000];
            let len = rustix::io::read(&self.queue, &mut bytes).unwrap();
            bytes.truncate(len);
            let (header, frame) = bytes.split_first_chunk().unwrap();
            let found = Transport::parse(frame).filter(|found| found.protocol == TCP);
            if let Some(found) = found {
                let (header, frame) = (*header, frame.to_vec());
                return Got {
                    header,
                    frame,
                    found,
                };
            }
        }
    }

    /// Knocks at a port where nobody is until the kernel says so: by then it has heard of the carrier,
    /// which it passes on to IPv6 in its own time.
    pub(super) fn knock(&mut self) {
        let to = std::mem::replace(&mut self.to, 1);
        let soon = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        let mut knocks = (0..1000).map(|_| {
            self.send(self.segment(SYN, &[], &[]), TxChecksum::Blank, None);
            comes(&self.queue, soon)
        });
        assert!(
            knocks.any(|answered| answered),
            "the kernel does not answer"
        );
        self.to = to;
        let mut answer = [0; 2048];
        while rustix::io::read(&self.queue, &mut answer).is_ok() {}
    }

    pub(super) fn connect(&mut self, listener: &TcpListener) -> TcpStream {
        let [high, low] = mss(self.ip).to_be_bytes();
        let syn = self.segment(SYN, &[2, 4, high, low], &[]);
        self.send(syn, TxChecksum::Blank, None);
        let answer = self.receive();
        assert_eq!(answer.port(), self.from);
        assert_eq!(answer.tcp()[13], SYN | ACK);
        self.seq += 1;
        self.ack = answer.seq() + 1;
        self.send(self.segment(ACK, &[], &[]), TxChecksum::Blank, None);
        wait(listener);
        let (stream, _) = listener.accept().unwrap();
        let patience = Duration::from_secs(PATIENCE.unsigned_abs());
        stream.set_read_timeout(Some(patience)).unwrap();
        stream
    }
}

impl Got {
    pub(super) fn tcp(&self) -> &[u8] {
        &self.frame[self.found.l4..self.found.end]
    }

    pub(super) fn seq(&self) -> u32 {
        u32::from_be_bytes(self.tcp()[4..8].try_into().unwrap())
    }

    /// The guest's.
    pub(super) fn port(&self) -> u16 {
        u16::from_be_bytes(self.tcp()[2..4].try_into().unwrap())
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.tcp()[self.found.tcp_header(&self.frame).unwrap()..]
    }

    /// Is the checksum that of all the bytes?
    pub(super) fn is_whole(&self) -> bool {
        let len = u32::try_from(self.tcp().len()).unwrap();
        let pseudo = self.found.pseudo_sum(&self.frame, len).unwrap();
        fold(sum(pseudo.into(), self.tcp())) == 0xffff
    }

    /// Is it that of the pseudo header only?
    pub(super) fn is_blank(&self) -> bool {
        let len = u32::try_from(self.tcp().len()).unwrap();
        let pseudo = self.found.pseudo_sum(&self.frame, len).unwrap();
        self.tcp()[16..18] == pseudo.to_be_bytes()
    }

    pub(super) fn offload(&self) -> RxOffload {
        match vnet::to_guest(&self.header, &self.frame).unwrap() {
            ToGuest::Offload(offload) => offload,
            undone => panic!("{undone:?}"),
        }
    }
}
