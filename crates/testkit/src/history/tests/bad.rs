//! Runs by hand, each wrong in one way.

use super::*;
use crate::history::{ValueFault, Violation as V};

#[test]
fn an_acknowledged_write_that_is_not_in_the_log_is_lost() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..30, written(2)),
    ];
    let lost = only(&operations, &log(&["r1 x - 1"]));
    assert_matches!(&lost, V::LostWrite { operation, log_end: 1 } if operation.number == 1);
    assert_eq!(
        lost.to_string(),
        "#1 (a: put x=2 -> written at index 2, 20..30, request r2) was acknowledged and is lost: \
         the log, which ends at 1, does not have it"
    );
}

#[test]
fn a_replayed_answer_without_an_effect_is_a_lost_write() {
    let replayed = Outcome::Replayed { index: 1 };
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, Outcome::Unknown),
        write("a", "r1", put("x", "1"), 20..30, replayed),
    ];
    assert_matches!(only(&operations, &log(&[""])), V::LostWrite { .. });
}

#[test]
fn an_image_older_than_what_was_acknowledged_is_stale() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..30, written(2)),
        read_at("b", 1, "x", Some("1"), 40..50),
    ];
    let log = log(&["r1 x - 1", "r2 x 1 2"]);
    assert_matches!(
        only(&operations, &log),
        V::StaleRead { operation, index: 1, earlier, earlier_index: 2 }
            if operation.number == 2 && earlier.number == 1
    );
}

#[test]
fn an_old_value_under_a_new_index_is_stale() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..30, written(2)),
        read_at("b", 2, "x", Some("1"), 40..50),
    ];
    let stale = only(&operations, &log(&["r1 x - 1", "r2 x 1 2"]));
    assert_matches!(
        &stale,
        V::WrongValue {
            fault: ValueFault::Stale { replaced_at: 2 },
            ..
        }
    );
    assert_eq!(
        stale.to_string(),
        "#2 (b: read x -> 1 at index 2, 40..50) says that x is 1, but at index 2 it is 2: \
         that was replaced at index 2"
    );
}

#[test]
fn an_old_value_without_an_index_is_stale() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..30, written(2)),
        read("b", "x", Some("1"), 40..50),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1", "r2 x 1 2"])),
        V::WrongValue {
            from: 2,
            to: 2,
            fault: ValueFault::Stale { .. },
            ..
        }
    );
}

#[test]
fn a_read_without_an_index_binds_the_reads_after_it() {
    let operations = [
        write("w", "r1", put("x", "1"), 0..10, written(1)),
        write("w", "r2", put("x", "2"), 20..90, written(2)),
        read("a", "x", Some("2"), 30..40),
        read("b", "x", Some("1"), 50..60),
    ];
    let log = log(&["r1 x - 1", "r2 x 1 2"]);
    assert_matches!(
        only(&operations, &log),
        V::WrongValue { operation, from: 2, .. } if operation.number == 3
    );
}

#[test]
fn an_image_that_was_not_yet_committed_is_from_the_future() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        read_at("b", 2, "x", Some("2"), 20..30),
        write("a", "r2", put("x", "2"), 40..50, written(2)),
    ];
    let log = log(&["r1 x - 1", "r2 x 1 2"]);
    assert_matches!(
        only(&operations, &log),
        V::FromTheFuture { operation, index: 2, known: 1 } if operation.number == 1
    );
}

#[test]
fn an_image_above_the_end_of_the_log_is_from_the_future() {
    let operations = [read_at("b", 2, "x", Some("1"), 20..30)];
    let mut log = log(&["r1 x - 1"]);
    log.entries[0].steps.clear();
    assert_matches!(only(&operations, &log), V::FromTheFuture { known: 1, .. });
}

#[test]
fn a_write_is_not_acknowledged_before_it_is_committed() {
    let operations = [write("a", "r1", put("x", "1"), 0..10, written(1))];
    let mut log = log(&["r1 x - 1"]);
    log.entries[0].committed_at = Some(11);
    assert_matches!(
        only(&operations, &log),
        V::FromTheFuture {
            index: 1,
            known: 0,
            ..
        }
    );
    log.entries[0].committed_at = Some(10);
    assert_eq!(witness::check(&operations, &log), []);
}

#[test]
fn a_later_value_under_an_older_index_is_from_the_future() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..90, written(2)),
        read_at("b", 1, "x", Some("2"), 30..40),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1", "r2 x 1 2"])),
        V::WrongValue {
            fault: ValueFault::Future { from: 2 },
            ..
        }
    );
}

#[test]
fn one_request_must_not_happen_twice() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..30, written(2)),
    ];
    let log = log(&["r1 x - 1", "r2 x 1 2", "r1 x 2 1"]);
    assert_matches!(
        only(&operations, &log),
        V::DuplicateEffect {
            first: 1,
            second: 3,
            ..
        }
    );
}

#[test]
fn an_unknown_request_must_not_happen_twice() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, Outcome::Unknown),
        write("a", "r1", put("x", "1"), 20..30, Outcome::Unknown),
    ];
    let log = log(&["r1 x - 1", "r1 x 1 1"]);
    assert_matches!(only(&operations, &log), V::DuplicateEffect { .. });
}

#[test]
fn two_requests_in_the_wrong_order_are_found() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(2)),
        write("b", "r2", put("x", "2"), 20..30, written(1)),
    ];
    assert_matches!(
        only(&operations, &log(&["r2 x - 2", "r1 x 2 1"])),
        V::Reordered { operation, index: 1, earlier, earlier_index: 2 }
            if operation.number == 1 && earlier.number == 0
    );
}

#[test]
fn a_write_does_not_join_an_entry_that_was_answered_before() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("b", "r2", put("y", "2"), 20..30, written(1)),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1, r2 y - 2"])),
        V::Reordered { .. }
    );
}

#[test]
fn an_unknown_write_does_not_happen_before_its_call() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(2)),
        write("b", "r2", put("x", "2"), 20..30, Outcome::Unknown),
    ];
    assert_matches!(
        only(&operations, &log(&["r2 x - 2", "r1 x 2 1"])),
        V::Reordered { operation, .. } if operation.number == 1
    );
    let mut log = log(&["r2 x - 2"]);
    log.entries[0].committed_at = Some(19);
    assert_matches!(
        only(&operations[1..], &log),
        V::CommittedBeforeCall {
            committed_at: 19,
            ..
        }
    );
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        read_at("b", 1, "x", Some("9"), 20..30),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1"])),
        V::WrongValue {
            fault: ValueFault::Phantom,
            ..
        }
    );
}

#[test]
fn an_effect_that_nobody_asked_for_is_found() {
    let log = log(&["r1 x - 1"]);
    assert_matches!(only(&[], &log), V::PhantomEffect { index: 1, .. });
}

#[test]
fn a_client_does_not_see_time_go_back() {
    // The answers touch at one instant, so only the client itself knows which came first.
    let operations = [
        write("w", "r1", put("x", "1"), 0..5, written(1)),
        write("w", "r2", put("x", "2"), 10..90, written(2)),
        read_at("a", 2, "x", Some("2"), 20..30),
        read_at("a", 1, "x", Some("1"), 30..40),
    ];
    let log = log(&["r1 x - 1", "r2 x 1 2"]);
    assert_matches!(
        only(&operations, &log),
        V::NonMonotonicRead { operation, earlier, .. }
            if operation.number == 3 && earlier.number == 2
    );
    let mut two_clients = operations;
    two_clients[3].client = "b".into();
    assert_eq!(witness::check(&two_clients, &log), []);
}

#[test]
fn a_client_sees_what_it_wrote() {
    let operations = [
        write("w", "r1", put("x", "1"), 0..5, written(1)),
        write("a", "r2", put("x", "2"), 10..20, written(2)),
        read_at("a", 1, "x", Some("1"), 20..30),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1", "r2 x 1 2"])),
        V::ForgotOwnWrite { earlier, .. } if earlier.number == 1
    );
}

#[test]
fn an_update_lost_by_two_swaps_of_the_same_value_is_found() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", swap("x", "1", "2"), 20..40, written(2)),
        write("b", "r3", swap("x", "1", "3"), 20..40, written(3)),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1", "r2 x 1 2", "r3 x 2 3"])),
        V::ConditionBroken { operation, index: 3, found: Some(found) }
            if operation.number == 2 && found == "2"
    );
}

#[test]
fn a_change_that_rests_on_another_past_is_found() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..40, written(2)),
        write("b", "r3", put("x", "3"), 20..40, written(3)),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1", "r2 x 1 2", "r3 x 1 3"])),
        V::BrokenChain { index: 3, .. }
    );
}

#[test]
fn a_refused_write_must_not_happen() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("b", "r2", create("x", "2"), 5..20, refused(1)),
        write("a", "r3", delete("x"), 30..40, written(2)),
    ];
    let log = log(&["r1 x - 1", "r3 x 1 -", "r2 x - 2"]);
    assert_matches!(
        only(&operations, &log),
        V::RefusedButApplied { operation, index: 3 } if operation.number == 1
    );
}

#[test]
fn a_write_that_was_not_done_must_not_happen() {
    let operations = [write("a", "r1", put("x", "1"), 0..10, Outcome::NotDone)];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1"])),
        V::NotDoneButApplied { .. }
    );
}

#[test]
fn a_write_is_not_refused_where_its_condition_holds() {
    let mut operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("b", "r2", swap("x", "1", "2"), 20..30, refused(1)),
    ];
    let log = log(&["r1 x - 1"]);
    assert_matches!(only(&operations, &log), V::RefusedWrongly { .. });
    operations[1].outcome = Outcome::Refused { index: None };
    assert_matches!(only(&operations, &log), V::RefusedWrongly { .. });
}

#[test]
fn the_value_of_another_key_is_found() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("y", "2"), 20..30, written(2)),
        read_at("b", 2, "y", Some("1"), 40..50),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1", "r2 y - 2"])),
        V::WrongValue { fault: ValueFault::Foreign { key }, .. } if key == "x"
    );
}

#[test]
fn a_write_to_another_key_or_of_another_value_is_found() {
    let operations = [write("a", "r1", put("x", "1"), 0..10, written(1))];
    for done in ["r1 y - 1", "r1 x - 2", "r1 x - -"] {
        assert_matches!(only(&operations, &log(&[done])), V::WrongEffect { .. });
    }
}

#[test]
fn a_deleted_value_does_not_come_back() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", delete("x"), 20..30, written(2)),
        read_at("b", 3, "x", Some("1"), 40..50),
    ];
    assert_matches!(
        only(&operations, &log(&["r1 x - 1", "r2 x 1 -", ""])),
        V::WrongValue {
            fault: ValueFault::Resurrected { deleted_at: 2 },
            ..
        }
    );
}

#[test]
fn what_existed_all_the_time_is_not_absent() {
    let mut log = log(&[""]);
    log.base = image(&[("x", "0")]);
    assert_matches!(
        only(&[read_at("a", 1, "x", None, 0..10)], &log),
        V::WrongValue {
            fault: ValueFault::Missing,
            ..
        }
    );
}

#[test]
fn a_gap_in_the_log_is_found_and_so_is_a_step_back() {
    let operations = [write("a", "r1", put("x", "1"), 0..10, written(1))];
    let mut log = log(&["r1 x - 1", "", ""]);
    log.entries.remove(1);
    assert_eq!(only(&operations, &log), V::LogGap { after: 1, found: 3 });
    log.entries[1].index = 1;
    assert_eq!(only(&operations, &log), V::LogGap { after: 1, found: 1 });
}

#[test]
fn a_write_stands_at_the_index_that_was_acknowledged() {
    let operations = [write("a", "r1", put("x", "1"), 0..10, written(1))];
    assert_matches!(
        only(&operations, &log(&["", "r1 x - 1"])),
        V::WrongIndex { logged: 2, .. }
    );
    let replayed = Outcome::Replayed { index: 1 };
    let operations = [write("a", "r1", put("x", "1"), 0..10, replayed)];
    assert_matches!(
        only(&operations, &log(&["", "r1 x - 1"])),
        V::WrongIndex { logged: 2, .. }
    );
}

#[test]
fn a_list_is_of_one_instant() {
    let operations = [
        write("w", "r1", put("x", "1"), 0..90, written(1)),
        write("v", "r2", put("y", "2"), 0..90, written(2)),
        list("a", None, &[("y", "2")], 10..20),
    ];
    let log = log(&["r1 x - 1", "r2 y - 2"]);
    assert_matches!(only(&operations, &log), V::TornList { from: 0, to: 2, .. });
}

#[test]
fn a_read_does_not_see_half_an_entry() {
    let operations = [
        write("v", "r1", put("x", "1"), 0..90, written(1)),
        write("w", "r2", put("x", "2"), 0..90, written(1)),
        read("a", "x", Some("1"), 10..20),
    ];
    let log = log(&["r1 x - 1, r2 x 1 2"]);
    assert_matches!(
        only(&operations, &log),
        V::WrongValue { from: 0, to: 1, .. }
    );
    let mut listed = operations;
    listed[2] = list("a", None, &[("x", "1")], 10..20);
    assert_matches!(only(&listed, &log), V::WrongValue { .. });
}

#[test]
fn a_list_does_not_see_half_an_entry() {
    let operations = [
        write("v", "r1", put("x", "1"), 0..90, written(1)),
        write("w", "r2", put("y", "2"), 0..90, written(1)),
        list("a", None, &[("x", "1")], 10..20),
    ];
    let log = log(&["r1 x - 1, r2 y - 2"]);
    assert_matches!(only(&operations, &log), V::TornList { .. });
}

#[test]
fn a_list_without_what_exists_or_with_what_does_not_is_found() {
    let log = log(&["r1 x - 1"]);
    for items in [&[][..], &[("x", "1"), ("y", "9")], &[("x", "2")]] {
        for index in [Some(1), None] {
            let operations = [
                write("a", "r1", put("x", "1"), 0..10, written(1)),
                list("a", index, items, 20..30),
            ];
            assert_matches!(only(&operations, &log), V::WrongValue { .. });
        }
    }
}

#[test]
fn a_recording_that_makes_no_sense_is_refused() {
    let backwards = Range { start: 10, end: 0 };
    let wrong = [
        write("a", "r1", put("x", "1"), backwards, Outcome::Unknown),
        write("a", "", put("x", "1"), 0..10, Outcome::Unknown),
        write("a", "", Call::Read { key: "x".into() }, 0..10, written(1)),
        write(
            "a",
            "r1",
            put("x", "1"),
            0..10,
            Outcome::Value {
                index: None,
                value: None,
            },
        ),
    ];
    for operation in wrong {
        assert_matches!(only(&[operation], &log(&[""])), V::Malformed { .. });
    }
    let two = [
        write("a", "r1", put("x", "1"), 0..10, Outcome::Unknown),
        write("a", "r1", put("x", "2"), 20..30, Outcome::Unknown),
    ];
    assert_matches!(only(&two, &log(&[""])), V::Malformed { .. });
}
