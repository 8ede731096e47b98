//! Runs by hand in which nothing is wrong.

use super::*;
use crate::history::linear::{self, Limits, Verdict};

/// Nothing is wrong with it, in the eyes of both.
fn fine(operations: &[Operation], log: &Log) {
    let violations = witness::check(operations, log);
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [""; 0]);
    let verdict = linear::check(operations, &log.base, Limits::default());
    assert_eq!(verdict, Verdict::Linearizable, "{verdict}");
}

#[test]
fn nothing_happened() {
    fine(&[], &Log::default());
}

#[test]
fn one_client_after_another() {
    let operations = [
        write("a", "r1", create("x", "1"), 0..10, written(1)),
        read_at("b", 1, "x", Some("1"), 20..30),
        write("b", "r2", swap("x", "1", "2"), 40..50, written(2)),
        write("a", "r3", swap("x", "1", "3"), 60..70, refused(2)),
        list("a", Some(2), &[("x", "2")], 80..90),
        write("a", "r4", delete("x"), 100..110, written(3)),
        write("b", "r5", delete("x"), 120..130, refused(3)),
        read("b", "x", None, 140..150),
        list("b", None, &[], 160..170),
    ];
    fine(&operations, &log(&["r1 x - 1", "r2 x 1 2", "r4 x 2 -"]));
}

#[test]
fn what_overlaps_may_come_in_any_order() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..100, written(2)),
        write("b", "r2", put("x", "2"), 50..100, written(1)),
        read_at("c", 0, "x", None, 60..70),
        read("d", "x", Some("2"), 60..80),
        read_at("e", 2, "x", Some("1"), 60..90),
    ];
    fine(&operations, &log(&["r2 x - 2", "r1 x 2 1"]));
}

#[test]
fn what_touches_at_one_instant_overlaps() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(2)),
        write("b", "r2", put("x", "2"), 10..20, written(1)),
    ];
    fine(&operations, &log(&["r2 x - 2", "r1 x 2 1"]));
}

#[test]
fn an_unknown_write_happens_late_or_never() {
    let late = [
        write("a", "r1", put("x", "1"), 0..10, Outcome::Unknown),
        read_at("b", 1, "x", None, 20..30),
        read_at("b", 2, "x", Some("1"), 40..50),
        write("b", "r2", put("x", "2"), 60..70, written(3)),
    ];
    fine(&late, &log(&["", "r1 x - 1", "r2 x 1 2"]));
    let never = [
        write("a", "r1", put("x", "1"), 0..10, Outcome::Unknown),
        read_at("b", 2, "x", None, 40..50),
    ];
    fine(&never, &log(&["", ""]));
}

#[test]
fn a_repeated_request_happens_once() {
    let replayed = Outcome::Replayed { index: 2 };
    let operations = [
        write("a", "r1", create("x", "1"), 0..10, Outcome::Unknown),
        write("a", "r1", create("x", "1"), 20..30, Outcome::NotDone),
        write("b", "r2", put("y", "2"), 30..40, written(2)),
        write("a", "r1", create("x", "1"), 50..60, replayed),
        read_at("a", 2, "x", Some("1"), 70..80),
    ];
    fine(&operations, &log(&["r1 x - 1", "r2 y - 2"]));
}

#[test]
fn a_refusal_may_rest_on_the_middle_of_an_entry() {
    let operations = [
        write("a", "r1", create("x", "1"), 0..50, written(1)),
        write("b", "r2", create("x", "2"), 0..50, refused(1)),
        write("c", "r3", delete("x"), 0..50, written(1)),
    ];
    fine(&operations, &log(&["r1 x - 1, r3 x 1 -"]));
}

#[test]
fn a_refusal_does_not_rest_on_the_middle_of_an_entry_that_was_answered_before() {
    let operations = [
        write("a", "r1", create("x", "1"), 0..50, written(1)),
        write("b", "r2", create("x", "2"), 60..70, refused(1)),
        write("c", "r3", delete("x"), 0..50, written(1)),
    ];
    let log = log(&["r1 x - 1, r3 x 1 -"]);
    assert_matches!(only(&operations, &log), Violation::RefusedWrongly { .. });
}

#[test]
fn entries_may_hold_requests_that_did_nothing() {
    let operations = [
        write("a", "r1", create("x", "1"), 0..10, Outcome::Unknown),
        read_at("b", 1, "x", None, 40..50),
    ];
    let mut log = log(&["r1 x - 1"]);
    log.entries[0].steps[0].changes.clear();
    fine(&operations, &log);
}

#[test]
fn a_log_may_begin_anywhere() {
    let operations = [
        read_at("a", 6, "x", Some("0"), 0..10),
        write("a", "r1", swap("x", "0", "1"), 20..30, written(8)),
        list("a", Some(8), &[("x", "1"), ("y", "5")], 40..50),
    ];
    let mut log = log(&["", "r1 x 0 1"]);
    log.after = 6;
    log.base = image(&[("x", "0"), ("y", "5")]);
    for entry in &mut log.entries {
        entry.index += 6;
    }
    fine(&operations, &log);
    log.entries[1].steps.clear();
    let before = [read_at("a", 5, "x", Some("0"), 0..10)];
    assert_matches!(only(&before, &log), Violation::Malformed { .. });
}
