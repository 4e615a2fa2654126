//! One connection: lines in, lines out, and never a wait.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mio::Interest;

use super::peer::Peer;
use super::{LINE_MAX, Reply, Request};

/// How long a client may take to say a line, or to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much is read in one go.
const STEP: usize = 16 * 1024;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    /// When it is given up, unless it gets on.
    pub(super) until: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// It says nothing more, or nothing more is listened to.
    deaf: bool,
}

/// What became of a client that was looked at.
#[derive(Debug)]
pub(super) enum Step {
    /// It wants something; a reply is owed.
    Asks(Request),
    /// Nothing yet; to be looked at when it is ready for this.
    Waits(Interest),
    /// It has gone, or is let go.
    Gone,
}

impl Client {
    pub(super) fn new(stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let peer = Peer::of(&stream)?;
        Ok(Self {
            stream,
            peer,
            until: now + PATIENCE,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            deaf: false,
        })
    }

    /// Gets on as far as can be without waiting, and at most to one request.
    pub(super) fn step(&mut self) -> Step {
        match self.flush().and_then(|()| self.fill()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_gone) => return Step::Gone,
        }
        if self.owes() {
            return Step::Waits(Interest::WRITABLE);
        }
        match self.take_line() {
            Some(line) => match serde_json::from_slice(&line) {
                Ok(request) => Step::Asks(request),
                Err(error) => self.refuse(format!("no request: {error}")),
            },
            None if self.input.len() >= LINE_MAX => {
                self.refuse(format!("a line of more than {LINE_MAX} bytes"))
            }
            None if self.deaf => Step::Gone,
            None => Step::Waits(Interest::READABLE),
        }
    }

    /// Answers its request.
    pub(super) fn reply(&mut self, reply: &Reply, now: Instant) {
        self.until = now + PATIENCE;
        self.say(reply);
        if self.flush().is_err() {
            // It has gone, as the next step finds.
            self.deaf = true;
            self.output = Vec::new();
            self.written = 0;
        }
    }

    /// When it is to be looked at next: at once if it has more to say already, which a socket that can
    /// be written to makes the kernel say.
    pub(super) fn interest(&self) -> Interest {
        if self.owes() || self.input.contains(&b'\n') || self.deaf {
            Interest::WRITABLE
        } else {
            Interest::READABLE
        }
    }

    /// Says what is wrong, and listens no more.
    pub(super) fn refuse(&mut self, error: String) -> Step {
        self.deaf = true;
        self.input = Vec::new();
        self.say(&Reply::Error(error));
        Step::Waits(Interest::WRITABLE)
    }

    fn say(&mut self, reply: &Reply) {
        let line = serde_json::to_vec(reply);
        self.output = line.unwrap_or_else(|_error| b"{\"error\":\"no JSON\"}".to_vec());
        self.output.push(b'\n');
        self.written = 0;
    }

    /// Is an answer under way?
    const fn owes(&self) -> bool {
        self.written < self.output.len()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.owes() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Reads on, unless a line is there or an answer is not taken: who does not listen is not heard.
    fn fill(&mut self) -> io::Result<()> {
        if self.owes() || self.deaf || self.input.contains(&b'\n') {
            return Ok(());
        }
        let mut step = [0; STEP];
        let room = LINE_MAX.saturating_sub(self.input.len()).min(STEP);
        match self.stream.read(&mut step[..room]) {
            Ok(0) => self.deaf = true,
            Ok(bytes) => self.input.extend_from_slice(&step[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|&byte| byte == b'\n')?;
        let rest = self.input.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.input, rest);
        line.pop();
        Some(line)
    }
}
