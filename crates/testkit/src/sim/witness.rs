//! What clients saw of the registers, put before the checkers of histories.

use std::collections::BTreeMap;

use virtflow_state::Object;

use super::clients::{Act, End, Step as Asked};
use super::ledger::Ledger;
use crate::history::linear::{self, Limits, Verdict};
use crate::history::watch::{self, Stream};
use crate::history::{
    Call, Change, Condition, Entry, Image, Log, Operation, Outcome, Step, witness,
};

/// Names of racks that are registers.
pub(crate) const PREFIX: &str = "reg-";

/// A register's value in a rack's row.
pub(crate) fn value_of(row: &Object) -> Option<(String, String)> {
    let is_register = row.kind.as_str() == "rack" && row.name.starts_with(PREFIX);
    is_register.then(|| (row.name.to_string(), description(&row.spec)))
}

fn description(spec: &str) -> String {
    let spec: serde_json::Value = serde_json::from_str(spec).unwrap_or_default();
    spec["description"].as_str().unwrap_or_default().to_owned()
}

/// The registers' part of the ledger. Requests are named after what they wrote: a value is written by one
/// request only; a deletion after the value that it removed.
fn log_of(ledger: &Ledger) -> Log {
    let mut now = Image::new();
    let mut entries = Vec::new();
    for (index, seen) in &ledger.entries {
        let mut steps = Vec::new();
        for left in &seen.objects {
            if left.kind != "rack" || !left.name.starts_with(PREFIX) {
                continue;
            }
            let after = left.spec.as_deref().map(description);
            let before = match &after {
                Some(after) => now.insert(left.name.clone(), after.clone()),
                None => now.remove(&left.name),
            };
            steps.push(Step {
                request: match (&after, &before) {
                    (Some(value), _) => format!("write {value}"),
                    (None, before) => format!("delete {}", before.clone().unwrap_or_default()),
                },
                changes: vec![Change {
                    key: left.name.clone(),
                    before,
                    after,
                }],
            });
        }
        entries.push(Entry {
            index: *index,
            committed_at: Some(seen.at_us),
            steps,
        });
    }
    Log {
        after: 0,
        base: Image::new(),
        entries,
    }
}

fn operation_of(asked: &Asked, deletions: &mut BTreeMap<String, u64>) -> Operation {
    let key = asked.key.clone();
    let (request, call) = match &asked.act {
        Act::Read => (String::new(), Call::Read { key }),
        Act::Create { value } => (
            format!("write {value}"),
            Call::Put {
                key,
                value: value.clone(),
                when: Condition::Absent,
            },
        ),
        Act::Change { seen, value } => (
            format!("write {value}"),
            Call::Put {
                key,
                value: value.clone(),
                when: Condition::Is(seen.clone()),
            },
        ),
        Act::Delete { seen } => {
            let count = deletions.entry(seen.clone()).or_default();
            *count += 1;
            let request = match *count {
                1 => format!("delete {seen}"),
                more => format!("delete {seen} ({more})"),
            };
            let when = Condition::Is(seen.clone());
            (request, Call::Delete { key, when })
        }
    };
    let outcome = match (&asked.act, &asked.end) {
        (Act::Read, End::Done { index, value }) => Outcome::Value {
            index: *index,
            value: value.clone(),
        },
        (_, End::Done { index, .. }) => Outcome::Written {
            index: index.unwrap_or(0),
        },
        (Act::Read, End::Refused { .. }) | (_, End::NotSent) => Outcome::NotDone,
        (_, End::Refused { code }) => match code.as_str() {
            "already_exists" | "precondition_failed" | "not_found" => {
                Outcome::Refused { index: None }
            }
            _ => Outcome::NotDone,
        },
        (Act::Read, End::Unknown) => Outcome::NotDone,
        (_, End::Unknown) => Outcome::Unknown,
    };
    Operation {
        client: asked.client.clone(),
        request,
        call,
        called: asked.called_us,
        returned: asked.returned_us,
        outcome,
    }
}

/// Several may have tried to delete one value; who did it is who was told so, or else somebody who was not
/// told.
fn order_deletions(asked: &mut [&Asked]) {
    asked.sort_by_key(|step| {
        let rank = match &step.end {
            End::Done { .. } => 0,
            End::Unknown => 1,
            End::Refused { .. } | End::NotSent => 2,
        };
        (rank, step.called_us)
    });
}

pub(crate) fn check(ledger: &Ledger, asked: &[Asked], streams: &[Stream]) -> Vec<String> {
    let log = log_of(ledger);
    let (mut deletions, others): (Vec<&Asked>, Vec<&Asked>) = asked
        .iter()
        .partition(|step| matches!(step.act, Act::Delete { .. }));
    order_deletions(&mut deletions);
    let mut counts = BTreeMap::new();
    let mut operations: Vec<Operation> = deletions
        .into_iter()
        .chain(others)
        .map(|step| operation_of(step, &mut counts))
        .collect();
    operations.sort_by(|a, b| (a.called, &a.client).cmp(&(b.called, &b.client)));
    let mut found: Vec<String> = witness::check(&operations, &log)
        .into_iter()
        .map(|violation| violation.to_string())
        .collect();
    let limits = Limits {
        operations: 2000,
        ..Limits::default()
    };
    match linear::check(&operations, &Image::new(), limits) {
        Verdict::Linearizable => {}
        verdict => found.push(verdict.to_string()),
    }
    for stream in streams {
        if let Err(fault) = watch::check(stream, &log) {
            found.push(fault.to_string());
        }
    }
    found
}
