//! Running the cases, each with a fresh guest.

use std::io::Write;

use anyhow::Context;

use super::{Peer, event_ports, events, grant_copies, grant_maps};

/// One promise.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is promised, in a few words; ids are those of the threat catalogue.
    pub name: &'static str,
    /// Checks it.
    pub run: fn(&mut dyn Peer) -> anyhow::Result<()>,
}

/// How many cases held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that held.
    pub passed: usize,
    /// Those that did not.
    pub failed: usize,
}

/// A list of functions as cases of the same names.
macro_rules! cases {
    ($module:ident: $($name:ident),+ $(,)?) => {
        [$(Case { name: stringify!($name), run: $module::$name }),+]
    };
}

/// Every case there is.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(cases!(events:
        a_bound_port_is_pending_at_once,
        a_notify_reaches_the_backend,
        a_notify_reaches_the_guest,
        many_notifies_are_one,
        a_masked_port_is_silent_and_loses_nothing,
        unmasking_alone_is_no_event,
        two_ports_are_told_apart,
        ports_beyond_the_room_come_later,
        poll_waits_for_a_port,
        io_uring_waits_for_a_port,
    ));
    all.extend(cases!(event_ports:
        a_port_is_bound_again_after_the_backend_died,
        a_port_is_bound_again_after_unbind,
        a_bound_port_is_bound_by_nobody_else,
        an_unknown_port_is_stale,
        a_closed_port_is_stale,
        an_unknown_domain_has_no_ports,
        an_unbound_port_takes_no_orders,
        notifying_a_guest_that_closed_is_no_error,
        a_restricted_handle_binds_no_other_guest,
        a_restricted_handle_binds_its_own_guest,
        domain_0_is_no_restriction,
        a_handle_passed_on_keeps_its_ports,
    ));
    all.extend(cases!(grant_maps:
        a_mapping_shows_both_sides_the_same_bytes,
        pages_lie_in_the_order_asked_for,
        a_read_only_mapping_reads,
        a_read_only_grant_refuses_writers,
        an_unknown_reference_is_refused,
        a_revoked_reference_is_refused,
        gnt_01_one_bad_page_of_a_batch_leaves_none_mapped,
        unmapping_gives_the_page_back,
        dropping_gives_the_page_back,
        one_page_is_mapped_twice,
        a_mapping_outlives_its_handle,
        ranges_outside_a_mapping_are_refused,
        no_pages_are_no_mapping,
        a_grant_handle_is_passed_on,
        mapped_bytes_are_copied_by_range,
    ));
    all.extend(cases!(grant_copies:
        bytes_come_from_the_guest,
        bytes_go_to_the_guest,
        our_side_may_cross_pages,
        gnt_01_a_segment_that_crosses_a_page_fails_alone,
        gnt_01_a_bad_reference_fails_alone_at_every_position,
        hundreds_of_segments_go_in_one_call,
        a_read_only_grant_is_read_but_not_written,
        gnt_06_a_revoked_reference_is_not_copied,
        an_unknown_domain_is_not_copied,
        a_range_outside_of_our_memory_copies_nothing,
        gnt_05_a_copied_page_is_not_in_use,
        no_segments_are_no_error,
    ));
    all
}

/// Runs every case, each with a guest of `world`, and says how it went.
///
/// # Errors
/// Only those of `out`; a case that fails is counted.
pub fn run(
    world: &dyn Fn() -> anyhow::Result<Box<dyn Peer>>,
    out: &mut dyn Write,
) -> std::io::Result<Tally> {
    let mut tally = Tally::default();
    for case in cases() {
        match attempt(case, world) {
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

fn attempt(case: Case, world: &dyn Fn() -> anyhow::Result<Box<dyn Peer>>) -> anyhow::Result<()> {
    let mut peer = world().context("no guest for this case")?;
    (case.run)(&mut *peer)?;
    peer.conclude()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::SimPeer;
    use crate::sim::Machine;

    #[test]
    fn the_simulated_machine_keeps_every_contract() {
        let machine = Machine::temporary().unwrap();
        let world = || Ok(Box::new(SimPeer::new(machine.dir())?) as Box<dyn Peer>);
        let mut out = Vec::new();
        let tally = run(&world, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(tally.failed, 0, "\n{text}");
        assert_eq!(tally.passed, cases().len());
        let control = machine.control().unwrap();
        assert_eq!(control.violations().unwrap(), Vec::<String>::new());
        assert_eq!(control.abandoned_pages().unwrap(), 0);
        assert_eq!(control.domains().unwrap(), vec![], "no zombies");
    }

    #[test]
    fn a_broken_contract_is_told() {
        let world = || anyhow::bail!("there is no machine");
        let mut out = Vec::new();
        let tally = run(&world, &mut out).unwrap();
        assert_eq!(tally.passed, 0);
        assert_eq!(tally.failed, cases().len());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("FAILED: no guest for this case: there is no machine"));
    }
}
