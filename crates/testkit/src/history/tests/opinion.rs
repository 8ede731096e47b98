//! The second opinion by hand: what has no order, and what was not decided.

use super::*;
use crate::history::linear::{self, Limits, Undecided, Verdict};

fn verdict(operations: &[Operation]) -> Verdict {
    linear::check(operations, &Image::new(), Limits::default())
}

#[test]
fn a_stale_read_has_no_order() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", put("x", "2"), 20..30, written(2)),
        read("b", "x", Some("1"), 40..50),
    ];
    assert_eq!(
        verdict(&operations).to_string(),
        "no order explains what was answered about x: after 2 answers, with 2, none of these can \
         come next: b: read x -> 1, 40..50"
    );
}

#[test]
fn a_lost_update_has_no_order() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        write("a", "r2", swap("x", "1", "2"), 20..40, written(2)),
        write("b", "r3", swap("x", "1", "3"), 20..40, written(3)),
    ];
    assert_matches!(verdict(&operations), Verdict::Impossible { .. });
}

#[test]
fn a_refused_write_that_is_read_has_no_order() {
    let operations = [
        write("a", "r1", create("x", "1"), 0..10, written(1)),
        write("a", "r2", create("x", "2"), 20..30, refused(1)),
        read("b", "x", Some("2"), 40..50),
    ];
    assert_matches!(verdict(&operations), Verdict::Impossible { .. });
}

#[test]
fn two_reads_in_the_wrong_order_have_none() {
    let operations = [
        write("w", "r1", put("x", "1"), 0..10, written(1)),
        write("w", "r2", put("x", "2"), 20..90, written(2)),
        read("a", "x", Some("2"), 30..40),
        read("b", "x", Some("1"), 50..60),
    ];
    assert_matches!(verdict(&operations), Verdict::Impossible { .. });
}

#[test]
fn an_unknown_write_happens_once_though_tried_twice() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, Outcome::Unknown),
        read("b", "x", Some("1"), 20..30),
        write("b", "r2", delete("x"), 40..50, written(2)),
        write("a", "r1", put("x", "1"), 60..70, Outcome::Unknown),
        read("b", "x", Some("1"), 80..90),
    ];
    assert_matches!(verdict(&operations), Verdict::Impossible { .. });
    let mut other = operations;
    other[3].request = "r3".into();
    assert_eq!(verdict(&other), Verdict::Linearizable);
}

#[test]
fn attempts_are_one_write_from_the_first_call_on() {
    let replayed = Outcome::Replayed { index: 1 };
    let operations = [
        write("a", "r1", create("x", "1"), 0..10, Outcome::Unknown),
        read("b", "x", Some("1"), 20..30),
        write("a", "r1", create("x", "1"), 40..50, replayed),
        read("b", "x", Some("1"), 60..70),
    ];
    assert_eq!(verdict(&operations), Verdict::Linearizable);
    let mut forgotten = operations;
    forgotten[3] = read("b", "x", None, 60..70);
    assert_matches!(verdict(&forgotten), Verdict::Impossible { .. });
}

#[test]
fn a_list_counts_for_every_key_it_covers() {
    let mut operations = [
        write("a", "r1", put("x", "1"), 0..10, written(1)),
        list("b", None, &[], 20..30),
    ];
    assert_matches!(verdict(&operations), Verdict::Impossible { .. });
    operations[1].call = Call::List { prefix: "y".into() };
    assert_eq!(verdict(&operations), Verdict::Linearizable);
    operations[1] = list("b", None, &[("x", "1"), ("y", "2")], 20..30);
    assert_matches!(verdict(&operations), Verdict::Impossible { key, .. } if key == "y");
}

#[test]
fn indexes_are_not_looked_at() {
    let operations = [
        write("a", "r1", put("x", "1"), 0..10, written(900)),
        read_at("b", 3, "x", Some("1"), 20..30),
    ];
    assert_eq!(verdict(&operations), Verdict::Linearizable);
}

#[test]
fn a_search_that_met_its_limit_has_decided_nothing() {
    let mut operations: Vec<Operation> = (0..13)
        .map(|n| {
            write(
                "a",
                &format!("r{n}"),
                put("x", &n.to_string()),
                0..10,
                written(1),
            )
        })
        .collect();
    let undecided = |why| Verdict::Undecided {
        key: "x".into(),
        why,
    };
    assert_eq!(
        verdict(&operations),
        undecided(Undecided::TooConcurrent(13))
    );
    operations.pop();
    assert_eq!(verdict(&operations), Verdict::Linearizable);
    let few = |limits| linear::check(&operations, &Image::new(), limits);
    let limits = Limits {
        operations: 11,
        ..Limits::default()
    };
    assert_eq!(few(limits), undecided(Undecided::TooMany(12)));
    let limits = Limits {
        steps: 11,
        ..Limits::default()
    };
    assert_eq!(few(limits), undecided(Undecided::OutOfSteps(11)));
    let limits = Limits {
        steps: 12,
        ..Limits::default()
    };
    assert_eq!(few(limits), Verdict::Linearizable);
}

#[test]
fn what_is_impossible_for_one_key_outweighs_what_is_undecided_for_another() {
    let operations: Vec<Operation> = (0..13)
        .map(|n| {
            write(
                "a",
                &format!("r{n}"),
                put("x", &n.to_string()),
                0..10,
                written(1),
            )
        })
        .collect();
    for key in ["a", "y"] {
        let mut operations = operations.clone();
        operations.push(read("b", key, Some("9"), 0..10));
        assert_matches!(verdict(&operations), Verdict::Impossible { key: found, .. } if found == key);
    }
}

#[test]
fn many_writes_of_unknown_outcome_do_not_drown_the_search() {
    let mut operations: Vec<Operation> = (0..100)
        .map(|n| {
            write(
                "a",
                &format!("u{n}"),
                put("x", &format!("u{n}")),
                n..n,
                Outcome::Unknown,
            )
        })
        .collect();
    for n in 0..100 {
        let (at, value) = (1000 + 20 * n, n.to_string());
        operations.push(write("b", &value, put("x", &value), at..at + 5, written(1)));
        let seen = if n % 10 == 0 { format!("u{n}") } else { value };
        operations.push(read("b", "x", Some(&seen), at + 10..at + 15));
    }
    assert_eq!(verdict(&operations), Verdict::Linearizable);
}
