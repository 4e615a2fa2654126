//! What the xenstore client promises, checked against the simulated xenstored and a real one.
//!
//! The cases work below `/tool/pv-contracts` and below one backend directory of a domain that does
//! not exist; both are removed before and after each case. They need the rights of domain 0.

mod nodes;
mod transactions;
mod watches;

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use ring_proto::DomId;
use xenbus::{BackendPath, Class, Endpoint, Store};

use super::Tally;

/// How long an event may take, and how long none is waited for.
const SOON: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(100);

/// Where the cases may play.
const ROOT: &str = "/tool/pv-contracts";

/// A device of a guest that does not exist, of a class that no daemon serves meanwhile.
const DEVICE: BackendPath = BackendPath {
    backend: DomId::new(0),
    class: Class::Vif,
    frontend: DomId::new(32_000),
    devid: 0,
};

/// One promise.
#[derive(Clone, Copy, Debug)]
pub struct StoreCase {
    /// What is promised, in a few words.
    pub name: &'static str,
    /// Checks it against the xenstored at the endpoint.
    pub run: fn(&Endpoint) -> anyhow::Result<()>,
}

/// A list of functions as cases of the same names.
macro_rules! cases {
    ($module:ident: $($name:ident),+ $(,)?) => {
        [$(StoreCase { name: stringify!($name), run: $module::$name }),+]
    };
}

/// Every case there is.
#[must_use]
pub fn cases() -> Vec<StoreCase> {
    let mut all = Vec::new();
    all.extend(cases!(nodes:
        what_was_written_is_read,
        an_absent_node_is_none,
        writing_creates_what_is_above,
        removing_takes_everything_below,
        making_a_node_keeps_its_value,
        children_are_listed,
        a_thousand_children_are_listed,
        hundreds_of_nodes_are_read_in_order,
        sto_01_the_longest_message_goes_and_a_longer_one_is_not_sent,
        a_path_that_is_none_is_not_sent,
        permissions_are_read_back,
        sto_04_new_nodes_belong_to_whom_the_directory_belongs,
        domain_0_is_there_and_a_strange_one_is_not,
        an_error_is_left_where_the_kernel_leaves_it,
    ));
    all.extend(cases!(transactions:
        a_transaction_is_seen_as_a_whole_or_not_at_all,
        a_failed_or_cancelled_transaction_writes_nothing,
        sto_02_a_conflict_is_done_again,
        sto_02_endless_conflicts_end,
        a_stranger_elsewhere_is_no_conflict,
        a_node_that_appears_is_a_conflict,
        a_state_is_switched_once,
        keys_come_with_the_state,
        a_removed_directory_stays_removed,
        an_announced_key_fires_the_state,
    ));
    all.extend(cases!(watches:
        a_watch_fires_once_at_once,
        a_watch_covers_what_is_below_and_nothing_beside,
        a_removed_watch_is_silent,
        a_refused_watch_ends_nothing,
        two_tokens_are_two_watches,
        removal_of_what_is_above_fires,
        a_transaction_fires_when_it_commits,
        special_watches_fire_once_at_once,
        con_05_a_flood_is_one_event,
    ));
    all
}

/// Runs every case and says how it went.
///
/// # Errors
/// Only those of `out`; a case that fails is counted.
pub fn run(endpoint: &Endpoint, out: &mut dyn Write) -> std::io::Result<Tally> {
    let mut tally = Tally::default();
    for case in cases() {
        match attempt(case, endpoint) {
            Ok(()) => {
                tally.passed += 1;
                writeln!(out, "{} ... ok", case.name)?;
            }
            Err(error) => {
                tally.failed += 1;
                writeln!(out, "{} ... FAILED: {error:#}", case.name)?;
            }
        }
    }
    writeln!(out, "{} passed, {} failed", tally.passed, tally.failed)?;
    Ok(tally)
}

fn attempt(case: StoreCase, endpoint: &Endpoint) -> anyhow::Result<()> {
    sweep(endpoint).context("before")?;
    let outcome = (case.run)(endpoint);
    sweep(endpoint).context("after")?;
    outcome
}

fn sweep(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = Store::connect(endpoint.clone())?;
    store.remove(ROOT)?;
    store.remove(&format!(
        "{}/{}",
        DEVICE.class.directory(DEVICE.backend),
        DEVICE.frontend
    ))?;
    store.remove(&format!(
        "/local/domain/0/error/backend/vif/{}",
        DEVICE.frontend
    ))?;
    Ok(())
}

fn connect(endpoint: &Endpoint) -> anyhow::Result<Store> {
    Ok(Store::connect(endpoint.clone())?)
}

/// Fails the case, with the values, unless they are equal.
macro_rules! same {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) => {
                let what = stringify!($left);
                anyhow::ensure!(left == right, "{what} is {left:?}, not {right:?}");
            }
        }
    };
}
use same;
