//! The line to dom0's agent (`guest/dom0-agent.sh`).

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::{Context, bail};

/// How waiting for an answer ended.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// The job ended with this status.
    Status(i32),
    /// There was none by the deadline.
    Late,
    /// The machine has gone.
    Gone,
}

/// Tells the agent what to run and collects its answers, in whatever order they come.
#[derive(Debug)]
pub(super) struct Agent {
    line: UnixStream,
    unread: Vec<u8>,
    answers: HashMap<String, i32>,
}

impl Agent {
    pub(super) fn new(line: UnixStream) -> Self {
        Self {
            line,
            unread: Vec::new(),
            answers: HashMap::new(),
        }
    }

    /// Has the agent start the job `id`, killing it after `seconds` of the machine's time.
    pub(super) fn start(&mut self, id: &str, seconds: u64) -> anyhow::Result<()> {
        self.line
            .write_all(format!("{id} {seconds}\n").as_bytes())
            .context("dom0's agent takes no jobs: the machine has gone")
    }

    /// Waits for the answer to the job `id`.
    pub(super) fn wait(&mut self, id: &str, deadline: Instant) -> anyhow::Result<Answer> {
        loop {
            if let Some(status) = self.answers.remove(id) {
                return Ok(Answer::Status(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Answer::Late);
            }
            self.line
                .set_read_timeout(Some(left))
                .context("cannot set a deadline")?;
            let mut buffer = [0; 4096];
            match self.line.read(&mut buffer) {
                Ok(0) => return Ok(Answer::Gone),
                Ok(read) => self.take(&buffer[..read])?,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset => return Ok(Answer::Gone),
                    _ => return Err(error).context("cannot read from dom0's agent"),
                },
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.unread.extend_from_slice(bytes);
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some((id, status)) = line.trim().split_once(' ') else {
                bail!("dom0's agent says {line:?}");
            };
            let status = status
                .parse()
                .with_context(|| format!("dom0's agent says {line:?}"))?;
            self.answers.insert(id.to_owned(), status);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn answers_are_told_apart_and_may_come_in_pieces() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut agent = Agent::new(ours);
        agent.start("j1", 9).unwrap();
        let mut heard = [0; 5];
        theirs.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"j1 9\n");
        theirs.write_all(b"j2 7\nj1").unwrap();
        assert_eq!(agent.wait("j2", soon()).unwrap(), Answer::Status(7));
        assert_eq!(agent.wait("j1", Instant::now()).unwrap(), Answer::Late);
        theirs.write_all(b" 0\n").unwrap();
        assert_eq!(agent.wait("j1", soon()).unwrap(), Answer::Status(0));
        drop(theirs);
        assert_eq!(agent.wait("j3", soon()).unwrap(), Answer::Gone);
    }

    #[test]
    fn noise_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"what\n").unwrap();
        assert!(Agent::new(ours).wait("j1", soon()).is_err());
    }
}
