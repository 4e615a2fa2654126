//! Policies at work: what the worker, the kernel, and both together let pass.

mod in_force;
mod kernel;
mod told;
mod worker;

use netback::policy::{Mac, Prefix, VifPolicy};
use pv_tests::spoof::{Site, Spoof, matrix};

/// A guest that may use its own addresses.
fn locked(site: &Site) -> VifPolicy {
    let own = vec![
        Prefix::host(site.own.v4.into()),
        Prefix::host(site.own.v6.into()),
    ];
    VifPolicy::locked(Mac(site.own.mac), own)
}

fn frames() -> (Site, Vec<Spoof>) {
    let site = Site::example();
    (site, matrix(&site))
}
