//! Brings frames of a file to where a hostile guest, or a worker in bad hands, would send them from.

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use netback::tap::{Tap, TapName};
use pv_tests::realxen::capture;

/// Send frames, which lie in a file one behind the other, each behind its length.
#[derive(Debug, Parser)]
#[command(name = "pv-frames")]
struct Options {
    #[command(subcommand)]
    to: To,
}

#[derive(Debug, Subcommand)]
enum To {
    /// As datagrams, one each: a guest's `socat UDP-RECV:PORT INTERFACE:eth1` transmits them.
    Guest {
        /// The frames.
        file: PathBuf,
        /// Where that listens.
        address: SocketAddr,
        /// How long to wait after each, in microseconds, as the guest loses datagrams that come too
        /// fast.
        #[arg(long, default_value_t = 5000)]
        gap: u64,
    },
    /// Into a tap, as its worker can: no check of ours is in the way.
    Tap {
        /// The frames.
        file: PathBuf,
        /// The tap.
        interface: String,
    },
}

fn main() -> anyhow::Result<()> {
    match Options::parse().to {
        To::Guest { file, address, gap } => guest(&file, address, Duration::from_micros(gap)),
        To::Tap { file, interface } => tap(&file, &interface),
    }
}

fn frames(file: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    capture::unpack(&bytes).with_context(|| file.display().to_string())
}

fn guest(file: &Path, address: SocketAddr, gap: Duration) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for frame in frames(file)? {
        socket.send_to(&frame, address)?;
        std::thread::sleep(gap);
    }
    Ok(())
}

fn tap(file: &Path, interface: &str) -> anyhow::Result<()> {
    let tap = Tap::adopt(&TapName::parse(interface)?)?;
    let queue = std::fs::File::from(tap.queue()?);
    tap.set_carrier(true)?;
    for frame in frames(file)? {
        let behind_header = [&[0; 12], frame.as_slice()].concat();
        let written = (&queue).write(&behind_header)?;
        ensure!(written == behind_header.len(), "{written} bytes written");
    }
    Ok(())
}
