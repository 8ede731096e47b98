//! Watch streams by hand.

use super::*;
use crate::history::watch::{self, Event, FaultKind as F, Stream};

fn changed(index: u64, key: &str, version: &str) -> Event {
    Event::Changed {
        index,
        key: key.into(),
        version: (version != "-").then(|| version.to_owned()),
    }
}

const fn resumed(after: u64) -> Event {
    Event::Resumed { after }
}

const fn progress(index: u64) -> Event {
    Event::Progress { index }
}

fn resync(index: u64, state: &[(&str, &str)]) -> Event {
    Event::Resync {
        index,
        state: image(state),
    }
}

/// x is made, becomes 2 in one step with a new y, and goes; an entry without changes; z is made.
fn history() -> Log {
    log(&["r1 x - 1", "r2 x 1 2, r3 y - 7", "r4 x 2 -", "", "r5 z - 3"])
}

fn check(events: &[Event]) -> Result<(), F> {
    check_under("", events)
}

fn check_under(prefix: &str, events: &[Event]) -> Result<(), F> {
    let stream = Stream {
        watcher: "w".into(),
        prefix: prefix.into(),
        events: events.to_vec(),
    };
    watch::check(&stream, &history()).map_err(|fault| fault.kind)
}

#[test]
fn every_change_once_and_in_order_is_right() {
    let all = [
        resumed(0),
        changed(1, "x", "1"),
        changed(2, "x", "2"),
        changed(2, "y", "7"),
        changed(3, "x", "-"),
        progress(4),
        changed(5, "z", "3"),
        progress(5),
    ];
    assert_eq!(check(&all), Ok(()));
    let some = [resumed(1), changed(2, "y", "7"), progress(5)];
    assert_eq!(check_under("y", &some), Ok(()));
}

#[test]
fn a_resume_goes_on_where_the_watcher_was_or_before() {
    let events = [
        resumed(0),
        changed(1, "x", "1"),
        changed(2, "x", "2"),
        resumed(1),
        changed(2, "x", "2"),
        changed(2, "y", "7"),
        resumed(2),
        changed(3, "x", "-"),
        resumed(4),
        changed(5, "z", "3"),
    ];
    assert_eq!(check(&events), Ok(()));
}

#[test]
fn a_resync_stands_for_all_that_it_skips() {
    let events = [
        resumed(0),
        changed(1, "x", "1"),
        resync(3, &[("y", "7")]),
        changed(5, "z", "3"),
        progress(5),
    ];
    assert_eq!(check(&events), Ok(()));
    let first = [resync(2, &[("x", "2"), ("y", "7")]), changed(3, "x", "-")];
    assert_eq!(check(&first), Ok(()));
}

#[test]
fn a_change_that_is_left_out_is_a_gap() {
    let gap = |index, key: &str| {
        Err(F::Gap {
            index,
            key: key.into(),
        })
    };
    let skipped = [resumed(0), changed(1, "x", "1"), changed(2, "y", "7")];
    assert_eq!(check(&skipped), gap(2, "x"));
    let ends_early = [
        resumed(0),
        changed(1, "x", "1"),
        changed(2, "x", "2"),
        progress(2),
    ];
    assert_eq!(check(&ends_early), gap(2, "y"));
    let resumed_too_far = [
        resumed(0),
        changed(1, "x", "1"),
        changed(2, "x", "2"),
        resumed(2),
    ];
    assert_eq!(check(&resumed_too_far), gap(2, "y"));
}

#[test]
fn a_change_that_comes_again_is_a_duplicate() {
    let events = [
        resumed(0),
        changed(1, "x", "1"),
        changed(2, "x", "2"),
        changed(2, "x", "2"),
    ];
    let index = 2;
    assert_eq!(
        check(&events),
        Err(F::Duplicate {
            index,
            key: "x".into()
        })
    );
}

#[test]
fn changes_that_change_places_are_out_of_order() {
    let events = [
        resumed(0),
        changed(1, "x", "1"),
        changed(3, "x", "-"),
        changed(2, "x", "2"),
    ];
    let (index, due) = (3, 2);
    assert_eq!(
        check(&events),
        Err(F::OutOfOrder {
            index,
            key: "x".into(),
            due
        })
    );
}

#[test]
fn a_change_that_never_was_is_a_phantom() {
    for event in [
        changed(1, "x", "9"),
        changed(1, "y", "1"),
        changed(4, "x", "1"),
    ] {
        assert_matches!(check(&[resumed(0), event]), Err(F::Phantom { .. }));
    }
    // Another's key under a prefix.
    let foreign = [resumed(0), changed(1, "x", "1")];
    assert_matches!(check_under("y", &foreign), Err(F::Phantom { .. }));
}

#[test]
fn a_resync_that_shows_another_state_is_found() {
    for state in [
        &[("x", "2")][..],
        &[("x", "1"), ("y", "7")],
        &[("x", "2"), ("y", "7"), ("z", "3")],
    ] {
        assert_matches!(
            check(&[resync(2, state)]),
            Err(F::WrongState { index: 2, .. })
        );
    }
}

#[test]
fn nothing_goes_back() {
    let (index, from) = (1, 2);
    let back = Err(F::WentBack { index, from });
    let start = [resumed(0), changed(1, "x", "1"), changed(2, "x", "2")];
    for event in [resync(1, &[("x", "1")]), progress(1)] {
        assert_eq!(check(&[&start[..], &[event]].concat()), back);
    }
}

#[test]
fn what_is_outside_the_log_or_was_not_asked_for_is_found() {
    assert_eq!(check(&[resumed(6)]), Err(F::OutsideLog { index: 6 }));
    assert_eq!(check(&[changed(1, "x", "1")]), Err(F::NotAsked));
    assert_eq!(check(&[progress(1)]), Err(F::NotAsked));
}
