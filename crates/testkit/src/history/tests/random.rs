//! Runs by chance: correct ones pass, and a single wrong thing in them is found.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::mutation::{ALL, Mutant};
use super::run::{Run, runs};
use super::*;
use crate::history::linear::{self, Limits, Verdict};
use crate::history::watch::{self, Event, Stream};

/// Longer searches would only mean that the generator has gone astray.
const OPERATIONS_MAX: usize = 60;

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

fn opinion(run: &Run) -> Verdict {
    linear::check(&run.operations, &run.log.base, Limits::default())
}

fn violations(run: &Run) -> Vec<String> {
    let violations = witness::check(&run.operations, &run.log);
    violations.iter().map(ToString::to_string).collect()
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_correct_run_is_accepted_by_both(run in runs(OPERATIONS_MAX)) {
        prop_assert_eq!(violations(&run), [""; 0]);
        prop_assert_eq!(opinion(&run), Verdict::Linearizable);
    }

    /// Whatever is bent: what agrees with a log in order has an order.
    #[test]
    fn what_the_witness_accepts_has_an_order(
        run in runs(12),
        bends in prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8, 0..40_u64), 1..4),
    ) {
        let mut run = run;
        for (site, how, by) in bends {
            let count = run.operations.len();
            let told: Vec<Outcome> = run.operations.iter().map(|one| one.outcome.clone()).collect();
            let operation = &mut run.operations[site.index(count)];
            let limit = operation.returned;
            match (how, &mut operation.outcome) {
                (0, _) => operation.called = (operation.called + by).min(limit),
                (1, _) => operation.called = operation.called.saturating_sub(by),
                (2, _) => operation.returned = (limit - by).max(operation.called),
                (3, Outcome::Value { index, .. } | Outcome::Items { index, .. }) => *index = None,
                (4, Outcome::Value { index: Some(index), .. }) => *index = *index + by % 3 - 1,
                (5, Outcome::Value { value, .. }) => {
                    let (from, count) = (usize::try_from(by).unwrap(), told.len());
                    if let Outcome::Value { value: other, .. } = &told[from % count] {
                        value.clone_from(other);
                    }
                }
                _ => {}
            }
        }
        if violations(&run).is_empty() {
            prop_assert_eq!(opinion(&run), Verdict::Linearizable);
        }
    }

    #[test]
    fn watchers_of_a_correct_log_are_accepted(
        run in runs(OPERATIONS_MAX),
        turns in prop::collection::vec(0..100_usize, OPERATIONS_MAX),
    ) {
        let stream = watch(&run.log, &turns);
        prop_assert_eq!(watch::check(&stream, &run.log), Ok(()));
    }

    #[test]
    fn a_single_wrong_event_is_found(
        run in runs(OPERATIONS_MAX),
        turns in prop::collection::vec(0..100_usize, OPERATIONS_MAX),
    ) {
        let right = watch(&run.log, &turns);
        for (site, event) in right.events.iter().enumerate() {
            let Event::Changed { index, key, .. } = event else {
                continue;
            };
            let found = |events: Vec<Event>| {
                let stream = Stream { events, ..right.clone() };
                watch::check(&stream, &run.log).is_err()
            };
            let mut left_out = right.events.clone();
            left_out.remove(site);
            // Asking again from before it was told, or a resync over it, makes up for it.
            let makes_up = right.events[site + 1..].iter().find_map(|event| match event {
                Event::Resync { .. } => Some(true),
                Event::Resumed { after } => Some(after < index),
                Event::Progress { index: up_to } => (up_to >= index).then_some(false),
                Event::Changed { .. } => Some(false),
            });
            prop_assert_eq!(found(left_out), makes_up != Some(true));
            let mut twice = right.events.clone();
            twice.insert(site, event.clone());
            prop_assert!(found(twice));
            let mut other = right.events.clone();
            other[site] = Event::Changed { index: *index, key: key.clone(), version: Some("other".into()) };
            prop_assert!(found(other));
            if let Some(Event::Changed { .. }) = right.events.get(site + 1) {
                let mut swapped = right.events.clone();
                swapped.swap(site, site + 1);
                prop_assert!(found(swapped));
            }
        }
    }
}

#[test]
fn a_single_wrong_thing_is_found() {
    let seen = RefCell::new(BTreeMap::new());
    let mut runner = TestRunner::new(config(200));
    let choices = (runs(OPERATIONS_MAX), any::<prop::sample::Index>());
    let result = runner.run(&choices, |(run, choice)| {
        for mutation in ALL {
            let Some(Mutant { run, has_no_order }) = mutation.mutant(&run, choice) else {
                continue;
            };
            prop_assert!(
                !violations(&run).is_empty(),
                "{mutation:?} passed: {run:#?}"
            );
            if has_no_order {
                let verdict = opinion(&run);
                let is_impossible = matches!(verdict, Verdict::Impossible { .. });
                prop_assert!(is_impossible, "{mutation:?}: {verdict} {run:#?}");
            }
            let mut seen = seen.borrow_mut();
            *seen.entry(mutation).or_insert(0) += 1;
        }
        Ok(())
    });
    result.unwrap();
    for mutation in ALL {
        assert!(
            seen.borrow().contains_key(&mutation),
            "{mutation:?} was never tried"
        );
    }
}

/// A watcher of all keys that is interrupted, or told to look anew, as the turns say.
fn watch(log: &Log, turns: &[usize]) -> Stream {
    let mut events = vec![Event::Resumed { after: log.after }];
    let mut turns = turns.iter().cycle();
    let mut state = vec![log.base.clone()];
    for entry in &log.entries {
        let mut next = state.last().unwrap().clone();
        for change in entry.steps.iter().flat_map(|step| &step.changes) {
            match &change.after {
                Some(value) => next.insert(change.key.clone(), value.clone()),
                None => next.remove(&change.key),
            };
        }
        state.push(next);
    }
    let image = |index: u64| state[usize::try_from(index - log.after).unwrap()].clone();
    let mut from = 0;
    while let Some(entry) = log.entries.get(from) {
        let turn = *turns.next().unwrap();
        let place = turn / 10;
        let index = entry.index;
        match turn % 10 {
            0 => events.push(Event::Progress { index: index - 1 }),
            // Everything between is told by the image.
            1 => {
                let ahead = place % (log.entries.len() - from);
                let index = index + ahead as u64;
                let state = image(index);
                events.push(Event::Resync { index, state });
                from += ahead + 1;
                continue;
            }
            // The watcher forgot some and asks again; every entry is one further turn, so this ends.
            2 => {
                let back = from.min(place % 2);
                from -= back;
                let after = index - 1 - back as u64;
                events.push(Event::Resumed { after });
            }
            _ => {}
        }
        let entry = &log.entries[from];
        for change in entry.steps.iter().flat_map(|step| &step.changes) {
            events.push(Event::Changed {
                index: entry.index,
                key: change.key.clone(),
                version: change.after.clone(),
            });
        }
        from += 1;
    }
    events.push(Event::Progress { index: log.end() });
    Stream {
        watcher: "w".into(),
        prefix: String::new(),
        events,
    }
}
