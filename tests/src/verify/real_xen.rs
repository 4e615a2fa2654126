//! The scenarios on real Xen: every one is a verdict of its own.

use std::time::Instant;

use super::{Counts, Places, Report, Verdict, steps};
use crate::realxen;

/// Installs Debian packages; says whether they are there.
pub(super) fn install(
    name: &'static str,
    packages: fn() -> anyhow::Result<()>,
    report: &mut Report,
) -> bool {
    let started = Instant::now();
    report.begin(name);
    let installed = packages();
    let verdict = verdict(name, installed.err().map(|error| format!("{error:#}")));
    let ready = verdict.counts.failed == 0;
    report.end(verdict, started.elapsed());
    ready
}

/// Installs what booting Xen needs, builds what is tried on it, and tries it.
pub(super) fn verify(places: &Places, report: &mut Report) {
    let ready = install("packages", realxen::install_missing, report);
    steps::release_build().run(places, report);
    if !ready {
        return;
    }
    println!("real Xen, some twenty-five minutes:");
    match realxen::verify(&places.target.join("release/xen-blkback")) {
        Ok(summary) => {
            for outcome in &summary.outcomes {
                let name = format!("real Xen: {}", outcome.name);
                match &outcome.verdict {
                    realxen::Verdict::Passed => report.note(verdict(&name, None)),
                    realxen::Verdict::Failed(why) => {
                        report.note(verdict(&name, Some(why.clone())));
                    }
                    realxen::Verdict::Skipped => {}
                }
            }
            println!("{summary}");
        }
        Err(error) => {
            println!("real Xen does not boot: {error:#}");
            report.note(verdict("real Xen", Some(format!("{error:#}"))));
        }
    }
}

fn verdict(name: &str, failure: Option<String>) -> Verdict {
    let counts = match failure {
        None => Counts::PASSED,
        Some(_) => Counts::FAILED,
    };
    Verdict {
        name: name.into(),
        counts,
        remark: failure.unwrap_or_default(),
    }
}
