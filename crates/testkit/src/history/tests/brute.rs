//! The search against trying everything, on runs so small that everything can be tried.

use proptest::prelude::*;

use super::*;
use crate::history::linear::{self, Limits, Verdict};

/// One operation on the register `x`, right or wrong.
fn operation() -> impl Strategy<Value = Operation> {
    let value = || prop::sample::select(vec!["1", "2", "3"]);
    let condition = prop_oneof![
        Just(Condition::Any),
        Just(Condition::Absent),
        Just(Condition::Present),
        value().prop_map(|value| Condition::Is(value.into())),
    ];
    let written =
        || prop_oneof![3 => Just(written(1)), 1 => Just(refused(1)), 2 => Just(Outcome::Unknown)];
    let action = prop_oneof![
        prop::option::of(value()).prop_map(|value| read("a", "x", value, 0..0)),
        (value(), condition.clone(), written()).prop_map(|(value, when, outcome)| write(
            "a",
            "",
            put_if("x", value, when),
            0..0,
            outcome
        )),
        (condition, written()).prop_map(|(when, outcome)| {
            let key = "x".into();
            write("a", "", Call::Delete { key, when }, 0..0, outcome)
        }),
    ];
    (action, 0..20_u64, 0..8_u64).prop_map(|(operation, called, lasts)| Operation {
        called,
        returned: called + lasts,
        ..operation
    })
}

/// Whether any order of those that are left explains them, begun with `value`.
fn any_order(left: &[Operation], value: Option<&str>) -> bool {
    let is_open = |one: &Operation| matches!(one.outcome, Outcome::Unknown);
    if left.iter().all(is_open) {
        return true;
    }
    (0..left.len()).any(|next| {
        let mut rest = left.to_vec();
        let one = rest.remove(next);
        if rest
            .iter()
            .any(|other| !is_open(other) && other.returned < one.called)
        {
            return false;
        }
        let after = match &one.outcome {
            Outcome::Value { value: told, .. } => {
                if told.as_deref() != value {
                    return false;
                }
                value
            }
            Outcome::Refused { .. } => {
                if one.call.allowed(value) {
                    return false;
                }
                value
            }
            _ => {
                if !one.call.allowed(value) {
                    return false;
                }
                one.call.effect().unwrap().1
            }
        };
        any_order(&rest, after)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_search_finds_an_order_where_there_is_one(
        operations in prop::collection::vec(operation(), 1..7),
    ) {
        let mut operations = operations;
        for (number, operation) in operations.iter_mut().enumerate() {
            if operation.call.effect().is_some() {
                operation.request = format!("r{number}");
            }
        }
        let verdict = linear::check(&operations, &Image::new(), Limits::default());
        let found = match verdict {
            Verdict::Linearizable => true,
            Verdict::Impossible { .. } => false,
            Verdict::Undecided { .. } => panic!("{verdict}"),
        };
        prop_assert_eq!(found, any_order(&operations, None));
    }
}
