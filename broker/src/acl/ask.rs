//! Asking rules from the command line.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use ring_proto::DomId;
use xenbus::DOMID_MAX;

use super::rule::Meets;
use super::{Acl, Object, Request};
use crate::owner::{Owner, parse_uuid};

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the `[[acl]]` rules of a configuration file and list them.
    Check {
        /// The file [default: the daemon's own in /etc/xen-backends].
        file: Option<PathBuf>,
    },
    /// Say which rule decides about a guest and an object of this host, and why; fails if it refuses.
    Explain(Ask),
}

/// A guest and an object.
#[derive(Args, Debug)]
pub struct Ask {
    /// Configuration file [default: the daemon's own in /etc/xen-backends].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the guest.
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// Number of the guest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=i64::from(DOMID_MAX)))]
    pub domid: Option<u16>,
    /// UUID of the guest.
    #[arg(long)]
    pub uuid: Option<String>,
    /// The guest is to change it, too.
    #[arg(long)]
    pub writable: bool,
    /// For disks, the absolute path of an image or device, or a logical volume as GROUP/VOLUME; for
    /// interfaces, the bridge.
    pub object: String,
}

impl Ask {
    /// Tells, rule by rule, what `acl` says to this guest about `object`.
    ///
    /// # Errors
    /// It is refused, the question is not complete, or nobody reads the answer.
    pub fn explain(&self, acl: &Acl, object: &Object) -> anyhow::Result<()> {
        let uuid = self
            .uuid
            .as_deref()
            .map(|text| parse_uuid(text).with_context(|| format!("--uuid {text:?} is no UUID")));
        ensure!(
            self.domid.is_some() || acl.rules.iter().all(|rule| rule.domids.is_empty()),
            "a rule names guests by number: say --domid, too"
        );
        let owner = Owner {
            domid: DomId::new(self.domid.unwrap_or_default()),
            name: self.domain.clone(),
            uuid: uuid.transpose()?,
        };
        let request = Request {
            owner: &owner,
            object,
            writable: self.writable,
        };
        let mut out = std::io::stdout();
        writeln!(out, "{}", acl.explain(request)).context("standard output")?;
        let refused = if self.writable {
            "refused for writing"
        } else {
            "refused"
        };
        ensure!(acl.judge(request).is_ok(), "{refused}");
        Ok(())
    }
}

impl Acl {
    /// What each rule says to a request, up to the one that decides.
    pub(super) fn explain(&self, request: Request<'_>) -> String {
        let mut text = format!("{}:", request.object);
        for rule in &self.rules {
            let place = self.place(rule);
            let (says, decides) = match rule.meets(&request) {
                Meets::Not(key) => (format!("is not about it: {key}"), false),
                Meets::Perhaps(unknown) => (format!("may be about it, but {unknown}"), true),
                Meets::Yes => (format!("decides: {}", rule.effect.as_str()), true),
            };
            text += &format!("\n  {place} {says}");
            if decides {
                return text;
            }
        }
        text + &format!("\n  acl-default = {} decides", self.fallback)
    }
}
