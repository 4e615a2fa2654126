//! The frames that an interface's worker has dropped last, for whoever asks: a worker remembers some,
//! asked or not ([`ledger`](crate::ledger)).

mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use broker::cli::Reach;
use broker::control::Request;
use serde::{Deserialize, Serialize};

use self::file::Capture;
use crate::cli::Drops;
use crate::filter::Seen;
use crate::inquiry::DROPS;
use crate::ledger::Record;
use crate::policy::Direction;

/// How often the daemon is asked while frames are followed. A queue remembers 64.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The interface's name in this host.
    pub interface: String,
    /// Which connection of its guest [`after`](Self::after) is about.
    pub connection: u64,
    /// The first numbers of each queue that have not been seen yet.
    pub after: BTreeMap<usize, u64>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// The interface's name in this host.
    pub interface: String,
    /// Another one whenever its guest connects: then numbers begin anew.
    pub connection: u64,
    /// In the order in which they were dropped.
    pub frames: Vec<Frame>,
}

/// A frame that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// The queue that has dropped it.
    pub queue: usize,
    /// How many this queue had dropped before.
    pub number: u64,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Which way it went.
    pub direction: Direction,
    /// The check that it did not pass.
    pub reason: String,
    /// The rule that decided, as an index into the policy's.
    pub rule: Option<usize>,
    /// Bytes of all of it.
    pub length: usize,
    /// Its first bytes, in hexadecimal.
    pub head: String,
}

impl Ask {
    /// What is asked for of what there is.
    #[must_use]
    pub fn answer(&self, interface: &str, connection: u64, records: Vec<Record>) -> Dropped {
        let is_new = |record: &Record| {
            let after = self.after.get(&record.queue).copied().unwrap_or(0);
            self.connection != connection || record.number >= after
        };
        // Of one queue, numbers tell the order: a clock has ticks, and can be set.
        let mut latest = BTreeMap::new();
        let mut records: Vec<_> = records
            .into_iter()
            .filter(is_new)
            .map(|record| {
                let latest = latest.entry(record.queue).or_insert(record.time);
                *latest = record.time.max(*latest);
                (*latest, record)
            })
            .collect();
        records.sort_by_key(|(latest, _)| *latest);
        let frames = records.into_iter().map(|(_, record)| Frame::from(record));
        Dropped {
            interface: interface.to_owned(),
            connection,
            frames: frames.collect(),
        }
    }

    /// Notes what has been seen; how many frames were forgotten before they could be.
    fn note(&mut self, told: &Dropped) -> u64 {
        // What was forgotten before anybody asked was not missed.
        let begun = self.connection != 0;
        if self.connection != told.connection {
            self.connection = told.connection;
            self.after.clear();
        }
        let mut missed = 0_u64;
        for frame in &told.frames {
            let after = self.after.entry(frame.queue).or_insert(0);
            if begun {
                missed = missed.saturating_add(frame.number.saturating_sub(*after));
            }
            *after = frame.number.saturating_add(1).max(*after);
        }
        missed
    }
}

impl From<Record> for Frame {
    fn from(record: Record) -> Self {
        let denial = record.denial;
        Self {
            queue: record.queue,
            number: record.number,
            time: u64::try_from(record.time.as_nanos()).unwrap_or(u64::MAX),
            direction: denial.direction,
            reason: denial.reason.to_string(),
            rule: denial.rule,
            length: denial.len,
            head: record
                .head
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }
}

impl Frame {
    /// Its first bytes; none, if they are not told as they should be.
    fn bytes(&self) -> Vec<u8> {
        let digits = self.head.as_bytes().chunks(2);
        let byte = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        digits.map(byte).collect::<Option<_>>().unwrap_or_default()
    }

    /// Why it was dropped, and on which way.
    fn why(&self) -> String {
        let way = self.direction.word();
        let rule = self
            .rule
            .map_or_else(String::new, |rule| format!(" {}", rule + 1));
        format!("{way}, {}{rule}", self.reason)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.time);
        write!(
            f,
            "{} {}: {}, {} bytes",
            humantime::format_rfc3339_millis(time),
            self.why(),
            Seen(&self.bytes()),
            self.length
        )
    }
}

/// Prints or writes the frames that the running daemon called `name` has dropped of an interface.
///
/// # Errors
/// No daemon runs, it does not serve such an interface, or what is asked for cannot be written.
pub fn show(name: &str, options: &Drops) -> anyhow::Result<()> {
    let mut ask = Ask {
        interface: options.vif.clone(),
        ..Ask::default()
    };
    let mut output = Output::open(options)?;
    let mut left = options.count.unwrap_or(usize::MAX);
    loop {
        let mut told = told(name, &options.reach, &ask)?;
        let missed = ask.note(&told);
        if missed > 0 {
            eprintln!("{missed} frames were forgotten before they could be shown");
        }
        let frames = told.frames.len();
        // Those that came last, if not all are wanted; what follows comes in its order.
        if !options.follow {
            told.frames.drain(..frames.saturating_sub(left));
        }
        told.frames.truncate(left);
        left -= told.frames.len();
        output.put(&told)?;
        if !options.follow || left == 0 {
            return Ok(());
        }
        sleep(PAUSE);
    }
}

fn told(name: &str, reach: &Reach, ask: &Ask) -> anyhow::Result<Dropped> {
    let answer = reach.ask(name, &Request::with(DROPS, serde_json::to_value(ask)?))?;
    serde_json::from_value(answer).context("the daemon is of another version")
}

/// Where frames go.
enum Output {
    Lines,
    Json,
    Capture(Box<Capture<Box<dyn Write>>>),
}

impl Output {
    fn open(options: &Drops) -> anyhow::Result<Self> {
        let Some(path) = &options.write else {
            return Ok(if options.json {
                Self::Json
            } else {
                Self::Lines
            });
        };
        let writer: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let file = File::create(path);
            Box::new(file.with_context(|| format!("cannot write {}", path.display()))?)
        };
        let capture = Capture::begin(writer, &options.vif)?;
        Ok(Self::Capture(Box::new(capture)))
    }

    fn put(&mut self, told: &Dropped) -> anyhow::Result<()> {
        let mut out = io::stdout();
        for frame in &told.frames {
            match self {
                Self::Lines => writeln!(out, "{frame}").context("standard output")?,
                Self::Json => {
                    let line = serde_json::to_string(frame)?;
                    writeln!(out, "{line}").context("standard output")?;
                }
                Self::Capture(capture) => capture.put(frame)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Reason;
    use crate::ledger::Denial;

    fn record(queue: usize, number: u64, millis: u64) -> Record {
        Record {
            queue,
            number,
            time: Duration::from_millis(millis),
            denial: Denial {
                direction: Direction::Out,
                reason: Reason::Rule,
                rule: Some(4),
                len: 1514,
            },
            head: vec![0xff, 1, 0xab],
        }
    }

    fn numbers(told: &Dropped) -> Vec<(usize, u64)> {
        let frames = told.frames.iter();
        frames.map(|frame| (frame.queue, frame.number)).collect()
    }

    #[test]
    fn what_was_seen_is_not_told_again_and_what_was_missed_is_counted() {
        let records = || vec![record(0, 5, 10), record(0, 6, 30), record(1, 0, 20)];
        let mut ask = Ask::default();
        let told = ask.answer("vif1.0", 77, records());
        assert_eq!(numbers(&told), [(0, 5), (1, 0), (0, 6)]);
        assert_eq!(ask.note(&told), 0);
        assert_eq!(numbers(&ask.answer("vif1.0", 77, records())), []);
        let later = vec![record(0, 6, 30), record(0, 9, 40), record(1, 1, 50)];
        let told = ask.answer("vif1.0", 77, later);
        assert_eq!(numbers(&told), [(0, 9), (1, 1)]);
        assert_eq!(ask.note(&told), 2);
        // The guest has connected again, and another queue of it has dropped more than is remembered.
        let told = ask.answer("vif1.0", 78, vec![record(0, 0, 60), record(2, 7, 61)]);
        assert_eq!(numbers(&told), [(0, 0), (2, 7)]);
        assert_eq!(ask.note(&told), 7);
    }

    #[test]
    fn a_clock_that_is_set_back_changes_no_order() {
        let mut ask = Ask::default();
        let records = vec![record(0, 0, 50), record(0, 1, 20), record(1, 0, 40)];
        let told = ask.answer("vif1.0", 77, records);
        assert_eq!(numbers(&told), [(1, 0), (0, 0), (0, 1)]);
        ask.note(&told);
        assert_eq!(ask.after, [(0, 2), (1, 1)].into());
        // A worker that tells what it likes.
        let told = Dropped {
            frames: vec![record(0, 9, 1).into(), record(0, 3, 1).into()],
            ..told
        };
        assert_eq!(ask.note(&told), 7);
        assert_eq!(ask.after[&0], 10);
    }

    #[test]
    fn a_frame_is_told_with_its_time_and_why() {
        let frame = Frame::from(record(0, 5, 1_700_000_000_123));
        assert_eq!(frame.bytes(), [0xff, 1, 0xab]);
        assert_eq!(
            frame.to_string(),
            "2023-11-14T22:13:20.123Z out, rule 5: 3 bytes, which are no frame, 1514 bytes"
        );
        let broken = Frame {
            head: "0xyz".into(),
            ..frame
        };
        assert!(broken.bytes().is_empty());
    }
}
