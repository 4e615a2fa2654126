//! Grants that fail, lie, or are not ours.

use super::*;

#[test]
fn a_mapped_grant_cannot_be_ended_and_an_ended_one_not_twice() {
    let bench = Bench::new();
    let mapping = bench.map(&[bench.gref]).unwrap();
    let gref = bench.gref;
    assert_eq!(bench.guest.end_access(gref), Err(StillInUse { gref }));
    mapping.unmap().unwrap();
    assert_eq!(bench.guest.end_access(gref), Ok(()));
    assert_eq!(bench.guest.end_access(gref), Ok(()));
    let first = bench
        .guest
        .grant(bench.page.frame(0), Access::ReadOnly)
        .unwrap();
    let second = bench
        .guest
        .grant(bench.page.frame(0), Access::ReadOnly)
        .unwrap();
    assert_ne!(first, second, "one reference was free twice");
}

#[test]
fn gnt_02_the_nth_page_fails_and_takes_its_batch_along() {
    let bench = Bench::new();
    let pages = bench.guest.allocate(5).unwrap();
    let grefs = pages.grant_all(Access::ReadWrite).unwrap();
    let domid = bench.guest.domid();
    for nth in 1..=5 {
        bench
            .control
            .fail_map(domid, nth, GrantStatus::NoSpace)
            .unwrap();
        let refused = GrantError::MapRefused {
            domid,
            pages: 5,
            status: Some(GrantStatus::NoSpace),
        };
        assert_eq!(bench.map(&grefs).err(), Some(refused));
        assert!(grefs.iter().all(|&gref| !bench.guest.in_use(gref)), "{nth}");
        bench.map(&grefs).unwrap().unmap().unwrap();
    }
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[test]
fn gnt_02_the_nth_copy_fails_alone() {
    let bench = Bench::new();
    let domid = bench.guest.domid();
    let pages = LocalPages::new(1).unwrap();
    for nth in 1..=4u32 {
        bench
            .control
            .fail_copy(domid, nth, GrantStatus::Again)
            .unwrap();
        let segment = CopySegment::new(bench.gref, 0, 0, 8, CopyDirection::ToGuest);
        let mut segments = [segment; 4];
        bench.grants.copy(domid, &pages, &mut segments).unwrap();
        for (at, segment) in (1u32..).zip(segments) {
            let expected = if at == nth {
                GrantStatus::Again
            } else {
                GrantStatus::Okay
            };
            assert_eq!(segment.status, expected);
        }
    }
    assert_eq!(bench.control.copies(domid).unwrap(), 12);
}

#[test]
fn gnt_06_only_what_was_granted_to_us_is_ours() {
    let bench = Bench::new();
    let frame = bench.page.frame(0);
    let (us, other) = (DomId::new(0), DomId::new(9));
    let gref = bench
        .guest
        .grant_to(other, frame, Access::ReadWrite)
        .unwrap();
    let cases = [
        (
            grant_wire::GTF_PERMIT_ACCESS,
            other,
            frame,
            GrantStatus::GeneralError,
        ),
        (0, us, frame, GrantStatus::GeneralError),
        // Transfers and transitive grants are none that a backend takes.
        (2, us, frame, GrantStatus::GeneralError),
        (3, us, frame, GrantStatus::GeneralError),
        // The grant table itself, and frames that are not the guest's.
        (grant_wire::GTF_PERMIT_ACCESS, us, 0, GrantStatus::BadPage),
        (
            grant_wire::GTF_PERMIT_ACCESS,
            us,
            1 << 30,
            GrantStatus::BadPage,
        ),
        (
            grant_wire::GTF_PERMIT_ACCESS,
            us,
            u32::MAX,
            GrantStatus::BadPage,
        ),
    ];
    for (flags, to, frame, status) in cases {
        bench.guest.set_entry(gref, flags, to, frame);
        assert_eq!(
            bench.refusal(gref),
            Some(status),
            "map {flags} {to} {frame}"
        );
        assert_eq!(bench.copy(gref), status, "copy {flags} {to} {frame}");
        assert!(!bench.guest.in_use(gref), "marked in use by a refusal");
    }
    bench
        .guest
        .set_entry(gref, grant_wire::GTF_PERMIT_ACCESS, us, frame);
    assert_eq!(bench.copy(gref), GrantStatus::Okay);
}

#[test]
fn a_guest_that_rewrites_its_table_while_mapped_harms_nobody() {
    let bench = Bench::new();
    let mapping = bench.map(&[bench.gref]).unwrap();
    bench
        .guest
        .set_entry(bench.gref, u32::from(u16::MAX), DomId::new(7), u32::MAX);
    mapping.write(0, b"still there").unwrap();
    let mut seen = [0; 11];
    assert!(bench.page.read(0, &mut seen));
    assert_eq!(&seen, b"still there");
    mapping.unmap().unwrap();
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[test]
fn another_connection_cannot_unmap_what_is_not_its() {
    let bench = Bench::new();
    let domid = u32::from(bench.guest.domid().raw());
    let (one, two) = (
        Raw::connect(bench.machine.dir()),
        Raw::connect(bench.machine.dir()),
    );
    let mapped = one.ask(&[grant_wire::MAP, domid, 1, bench.gref.raw()]);
    assert_eq!(
        two.ask(&[grant_wire::UNMAP, mapped[1]]),
        [errno(Errno::NOENT)]
    );
    assert!(bench.guest.in_use(bench.gref));
}

#[test]
fn dropping_a_mapping_that_cannot_be_unmapped_is_counted() {
    let bench = Bench::new();
    let mapping = bench.map(&[bench.gref]).unwrap();
    let Bench {
        machine, grants, ..
    } = bench;
    drop(machine);
    drop(mapping);
    assert_eq!(grants.failed_unmaps(), 1);
}
