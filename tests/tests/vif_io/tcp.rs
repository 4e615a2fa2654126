//! The kernel's TCP as the guest's peer: it takes no segment whose checksum or place is not right,
//! and what it delivers is what was sent.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::{Cut, Parts, Segment, Sum, tcp_flag};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Packet, Wire};
use pv_tests::network::Network;
use pv_tests::scene::Scene;
use pv_tests::toolstack::NicLine;
use ring_proto::netif::{Extra, Gso, Ip, tx_flag};

use super::{MAC, NO_OFFLOADS, guest_v4, guest_v6, host_v4, host_v6, receive};

/// Payload of one packet on the wire.
const MSS: u16 = 1400;

/// Bytes each way.
const BYTES: usize = 300_000;

/// A connection of the guest, as far as it is needed here: nothing is ever lost.
struct Guest<'a> {
    wire: &'a mut Wire,
    addresses: (IpAddr, IpAddr),
    to: u16,
    seq: u32,
    ack: u32,
}

impl Guest<'_> {
    /// Connects to a listener of the kernel.
    fn connect(&mut self, listener: &TcpListener) -> anyhow::Result<TcpStream> {
        let [high, low] = MSS.to_be_bytes();
        self.send(tcp_flag::SYN, &[2, 4, high, low], &[])?;
        let (flags, _) = self.receive()?;
        ensure!(flags == tcp_flag::SYN | tcp_flag::ACK, "flags {flags:#x}");
        self.send(tcp_flag::ACK, &[], &[])?;
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    /// Sends a segment, to be cut up if it is long, with a checksum that is blank if others are to
    /// complete it.
    fn send(&mut self, flags: u8, options: &[u8], payload: &[u8]) -> anyhow::Result<()> {
        let segment = Segment {
            stations: (HOST, MAC),
            addresses: self.addresses,
            ports: (1000, self.to),
            seq: self.seq,
            ack: self.ack,
            flags,
            options,
            payload,
        };
        let ip = segment.ip();
        let blank = self.wire.front.shape().takes_blank(ip);
        let (sum, said) = if blank {
            (Sum::Blank, tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED)
        } else {
            (Sum::Whole, 0)
        };
        let frame = segment.frame(sum);
        let size = NonZeroU16::new(MSS).context("0")?;
        let cut = [Extra::gso(Gso { ip, size })];
        let long = payload.len() > usize::from(MSS);
        let packet = Packet {
            bytes: &frame,
            cuts: &Cut::pages(frame.len()),
            flags: said,
            extras: if long { &cut } else { &[] },
        };
        let status = self.wire.answer(0, &packet)?;
        ensure!(status == 0, "status {status} of {} bytes", frame.len());
        let syn = u32::from(flags & tcp_flag::SYN != 0);
        self.seq = self.seq.wrapping_add(u32::try_from(payload.len())? + syn);
        Ok(())
    }

    /// The flags and the payload of the next segment; it must be the next one.
    fn receive(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        loop {
            let frame = receive(self.wire, 0)?;
            let parts = Parts::of(&frame.bytes).and_then(|parts| parts.tcp());
            let Some(tcp) = parts.filter(|tcp| tcp.ports == (self.to, 1000)) else {
                continue;
            };
            let syn = tcp.flags & tcp_flag::SYN != 0;
            if syn {
                self.ack = tcp.seq;
            }
            ensure!(tcp.seq == self.ack, "{} instead of {}", tcp.seq, self.ack);
            let len = u32::try_from(tcp.payload.len())? + u32::from(syn);
            self.ack = self.ack.wrapping_add(len);
            return Ok((tcp.flags, tcp.payload.to_vec()));
        }
    }
}

fn pattern() -> Vec<u8> {
    (0_u8..251).cycle().take(BYTES).collect()
}

/// A listener in the scene's network.
fn listen(network: &Network, address: IpAddr) -> anyhow::Result<TcpListener> {
    let listener = network.inside(|| TcpListener::bind((address, 0)))?;
    Ok(listener?)
}

fn both_ways(shape: NetShape, ip: Ip) -> anyhow::Result<()> {
    let (guest_address, host) = match ip {
        Ip::V4 => (guest_v4(), host_v4()),
        Ip::V6 => (guest_v6(), host_v6()),
    };
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let mut nic = NicLine::new(0, MAC);
    nic.addresses.push(match ip {
        Ip::V4 => format!("{host}/24"),
        Ip::V6 => format!("{host}/64 nodad"),
    });
    let mut wire = scene.wire(&guest, &nic, shape)?;
    let interface = nic.interface(guest.domid());
    let station = MAC.map(|byte| format!("{byte:02x}")).join(":");
    let neighbour = format!("neigh add {guest_address} lladdr {station} dev {interface}");
    let network = scene.network()?.clone();
    network.ip(&neighbour)?;
    let listener = listen(&network, host)?;
    let mut peer = Guest {
        to: listener.local_addr()?.port(),
        wire: &mut wire,
        addresses: (guest_address, host),
        seq: 1,
        ack: 0,
    };
    let mut stream = peer.connect(&listener)?;
    let done = upload(&mut peer, &mut stream).and_then(|()| download(&mut peer, stream));
    done.with_context(|| format!("{shape}, {ip}\n{}", scene.told()))?;
    wire.front.close()?;
    scene.no_wrong_done()
}

/// The guest sends, in pieces as long as it may, and waits each time until the kernel has them.
fn upload(peer: &mut Guest<'_>, stream: &mut TcpStream) -> anyhow::Result<()> {
    let sent = pattern();
    let shape = *peer.wire.front.shape();
    let ip = match peer.addresses.0 {
        IpAddr::V4(_) => Ip::V4,
        IpAddr::V6(_) => Ip::V6,
    };
    let longest = if shape.takes_gso(ip) {
        30_000
    } else {
        MSS.into()
    };
    let mut got = Vec::new();
    for piece in sent.chunks(longest) {
        peer.send(tcp_flag::ACK, &[], piece)?;
        let mut bytes = vec![0; piece.len()];
        stream.read_exact(&mut bytes)?;
        got.extend(bytes);
        // The kernel's acknowledgements are of no interest, but take up the guest's buffers.
        while peer.wire.receive(0)?.is_some() {}
    }
    ensure!(got == sent, "the kernel got other bytes");
    Ok(())
}

/// The kernel sends, and the guest acknowledges what comes.
fn download(peer: &mut Guest<'_>, mut stream: TcpStream) -> anyhow::Result<()> {
    let sent = pattern();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stream.write_all(&copy));
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let (_, payload) = peer.receive()?;
        got.extend(payload);
        peer.send(tcp_flag::ACK, &[], &[])?;
    }
    writer.join().expect("writing does not panic")?;
    ensure!(got == sent, "the guest got other bytes");
    Ok(())
}

#[test]
fn streams_both_ways_with_everything_left_to_others() -> anyhow::Result<()> {
    both_ways(NetShape::LINUX, Ip::V4)?;
    both_ways(NetShape::LINUX, Ip::V6)
}

#[test]
fn streams_both_ways_with_nothing_left_to_others() -> anyhow::Result<()> {
    for shape in [NetShape::LEAST, NO_OFFLOADS] {
        both_ways(shape, Ip::V4)?;
        both_ways(shape, Ip::V6)?;
    }
    Ok(())
}

#[test]
fn streams_both_ways_where_the_protocols_differ() -> anyhow::Result<()> {
    let shape = NetShape {
        blank_v6: false,
        ..NetShape::LINUX
    };
    both_ways(shape, Ip::V4)?;
    both_ways(shape, Ip::V6)
}
