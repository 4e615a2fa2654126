//! What a broker says of itself and its devices.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The answer to `status`. Fields may come to it, none goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// `blkback` or `netback`.
    pub daemon: String,
    /// Its version.
    pub version: String,
    /// The broker's process.
    pub pid: u32,
    /// The domain that it serves in.
    pub domain: u16,
    /// Is xenstore there? Without it nothing comes or goes.
    pub xenstore: bool,
    /// All that it knows of, by guest and number.
    pub devices: Vec<DeviceStatus>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceStatus {
    /// The guest's number.
    pub guest: u16,
    /// Its name, as far as there is one.
    pub name: Option<String>,
    /// The device's number.
    pub device: u32,
    /// One word, or a few: `serving`, `waiting for the guest`.
    pub state: String,
    /// Seconds since it is in that state.
    pub since: u64,
    /// The processes that serve it: one, unless they are those of an earlier broker.
    pub workers: Vec<u32>,
    /// What was connected last, in a few words.
    pub summary: Option<String>,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// A table. What guests and administrators have written was made printable by the broker.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "xen-{} {} (pid {}) in domain {}: {} devices",
            self.daemon,
            self.version,
            self.pid,
            self.domain,
            self.devices.len()
        )?;
        if !self.xenstore {
            write!(f, "\nxenstore is lost: devices go on, changes wait")?;
        }
        let rows: Vec<_> = self.devices.iter().map(DeviceStatus::row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let header = ["GUEST", "NAME", "DEVICE", "STATE", "SINCE", "WORKER"].map(String::from);
        let width = |column: usize| {
            let all = std::iter::once(&header).chain(&rows);
            all.map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let line = |row: &[String; 6]| {
            let cells = row.iter().zip(widths);
            let cells: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ")
        };
        write!(f, "\n{}  WHAT", line(&header))?;
        for (device, row) in self.devices.iter().zip(&rows) {
            write!(f, "\n{}  {}", line(row), device.what())?;
        }
        Ok(())
    }
}

impl DeviceStatus {
    fn row(&self) -> [String; 6] {
        let workers: Vec<_> = self.workers.iter().map(u32::to_string).collect();
        let or_none = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        [
            self.guest.to_string(),
            or_none(self.name.as_deref().unwrap_or_default()),
            self.device.to_string(),
            self.state.clone(),
            age(self.since),
            or_none(&workers.join(",")),
        ]
    }

    fn what(&self) -> String {
        match (&self.error, &self.summary) {
            (Some(error), _) => format!("! {error}"),
            (None, Some(summary)) => summary.clone(),
            (None, None) => "-".to_owned(),
        }
    }
}

/// The two largest units.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_device() {
        let device = DeviceStatus {
            guest: 7,
            name: Some("web-1".into()),
            device: 51712,
            state: "serving".into(),
            since: 3700,
            workers: vec![4711],
            summary: Some("\"/srv/a.img\", 4 MiB".into()),
            error: None,
        };
        let broken = DeviceStatus {
            guest: 12,
            name: None,
            state: "closed".into(),
            since: 5,
            workers: Vec::new(),
            error: Some("image is in use".into()),
            ..device.clone()
        };
        let mut status = Status {
            daemon: "blkback".into(),
            version: "0.1.0".into(),
            pid: 42,
            domain: 0,
            xenstore: true,
            devices: vec![device, broken],
        };
        assert_eq!(
            status.to_string(),
            "xen-blkback 0.1.0 (pid 42) in domain 0: 2 devices\n\
             GUEST  NAME   DEVICE  STATE    SINCE  WORKER  WHAT\n\
             7      web-1  51712   serving  1h1m   4711    \"/srv/a.img\", 4 MiB\n\
             12     -      51712   closed   5s     -       ! image is in use"
        );
        let there = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&there).unwrap(), status);
        status.devices.clear();
        status.xenstore = false;
        assert!(
            status
                .to_string()
                .ends_with("0 devices\nxenstore is lost: devices go on, changes wait")
        );
    }

    #[test]
    fn ages_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (7260, "2h1m"),
            (180_000, "2d2h"),
        ] {
            assert_eq!(age(seconds), expected);
        }
    }
}
