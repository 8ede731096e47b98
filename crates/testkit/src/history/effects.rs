//! Each request against what it did: once if acknowledged, never if refused or not done, at most once if
//! unknown, and exactly what was asked, where its condition held.

use std::collections::BTreeMap;

use super::log::{Change, Log};
use super::operation::{Operation, Outcome};
use super::replay::{Place, Replay};
use super::violation::{Named, Violation};

/// What one request did at one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effect<'a> {
    pub(crate) place: Place,
    committed_at: Option<u64>,
    changes: &'a [Change],
}

/// The attempts of one request, and what they did.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    /// In the order of their calls.
    pub(crate) attempts: Vec<usize>,
    /// In the log's order.
    pub(crate) effects: Vec<Effect<'a>>,
}

impl Request<'_> {
    /// The first attempt that can have had an effect.
    pub(crate) fn cause(&self, operations: &[Operation]) -> Option<usize> {
        let can = |number: &usize| !is_harmless(&operations[*number].outcome);
        self.attempts.iter().copied().find(can)
    }

    /// Whether it had its effect there.
    pub(crate) fn stands_at(&self, index: u64) -> bool {
        self.effects
            .iter()
            .any(|effect| effect.place.index == index)
    }
}

/// All requests, by name.
#[derive(Debug)]
pub(crate) struct Requests<'a>(BTreeMap<&'a str, Request<'a>>);

impl<'a> Requests<'a> {
    /// `order` is that of the calls.
    pub(crate) fn new(operations: &'a [Operation], order: &[usize], log: &'a Log) -> Self {
        let mut requests: BTreeMap<&str, Request<'a>> = BTreeMap::new();
        for &number in order {
            let request = operations[number].request.as_str();
            if !request.is_empty() {
                requests.entry(request).or_default().attempts.push(number);
            }
        }
        for entry in &log.entries {
            for (number, step) in entry.steps.iter().enumerate() {
                if step.changes.is_empty() {
                    continue;
                }
                let effect = Effect {
                    place: Place {
                        index: entry.index,
                        step: number,
                    },
                    committed_at: entry.committed_at,
                    changes: &step.changes,
                };
                requests
                    .entry(&step.request)
                    .or_default()
                    .effects
                    .push(effect);
            }
        }
        Self(requests)
    }

    /// The request of this name.
    pub(crate) fn get(&self, request: &str) -> Option<&Request<'a>> {
        self.0.get(request)
    }

    /// What is wrong with what they did.
    pub(crate) fn check(&self, operations: &[Operation], replay: &Replay<'_>) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for (&name, request) in &self.0 {
            let Request { attempts, effects } = request;
            let Some(&first) = attempts.first() else {
                wrong.push(Violation::PhantomEffect {
                    request: name.to_owned(),
                    index: effects[0].place.index,
                });
                continue;
            };
            for &attempt in attempts {
                if operations[attempt].call != operations[first].call {
                    wrong.push(Violation::Malformed {
                        operation: Named::new(operations, attempt),
                        why: "another attempt of its request asked for something else",
                    });
                }
                wrong.extend(unsupported(operations, attempt, request, replay.end));
            }
            if let [once, again, ..] = effects[..] {
                wrong.push(Violation::DuplicateEffect {
                    operation: Named::new(operations, first),
                    first: once.place.index,
                    second: again.place.index,
                });
            }
            for effect in effects {
                wrong.extend(misplaced(operations, request, effect));
                wrong.extend(misdone(operations, first, effect, replay));
            }
        }
        wrong
    }
}

/// An acknowledgement must be borne out by the log.
fn unsupported(
    operations: &[Operation],
    number: usize,
    request: &Request<'_>,
    log_end: u64,
) -> Option<Violation> {
    let first = request.effects.first().map(|effect| effect.place.index);
    let borne_out = match operations[number].outcome {
        Outcome::Written { index } => request.stands_at(index),
        Outcome::Replayed { index } => first.is_some_and(|logged| logged <= index),
        _ => true,
    };
    if borne_out {
        return None;
    }
    let operation = Named::new(operations, number);
    Some(match first {
        None => Violation::LostWrite { operation, log_end },
        Some(logged) => Violation::WrongIndex { operation, logged },
    })
}

/// An effect needs an attempt that can have had it, and that was made before.
fn misplaced(
    operations: &[Operation],
    request: &Request<'_>,
    effect: &Effect<'_>,
) -> Option<Violation> {
    let index = effect.place.index;
    if let Some(cause) = request.cause(operations) {
        let called = operations[cause].called;
        let committed_at = effect.committed_at.filter(|&at| at < called)?;
        return Some(Violation::CommittedBeforeCall {
            operation: Named::new(operations, cause),
            index,
            committed_at,
        });
    }
    let was_refused =
        |number: &&usize| matches!(operations[**number].outcome, Outcome::Refused { .. });
    let refused = request.attempts.iter().find(was_refused);
    let number = *refused.or(request.attempts.first())?;
    let operation = Named::new(operations, number);
    Some(match refused {
        Some(_) => Violation::RefusedButApplied { operation, index },
        None => Violation::NotDoneButApplied { operation, index },
    })
}

/// Whether this answer promises that the call had no effect.
fn is_harmless(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { .. } | Outcome::NotDone)
}

/// An effect must be what was asked, where it was allowed.
fn misdone(
    operations: &[Operation],
    number: usize,
    effect: &Effect<'_>,
    replay: &Replay<'_>,
) -> Option<Violation> {
    let call = &operations[number].call;
    let asked = match (call.effect(), effect.changes) {
        (Some((key, value)), [change]) => change.key == key && change.after.as_deref() == value,
        _ => false,
    };
    let index = effect.place.index;
    if !asked {
        return Some(Violation::WrongEffect {
            operation: Named::new(operations, number),
            index,
            did: effect.changes.to_vec(),
        });
    }
    let (key, _) = call.effect()?;
    let found = replay.before(key, effect.place);
    (!call.allowed(found)).then(|| Violation::ConditionBroken {
        operation: Named::new(operations, number),
        index,
        found: found.map(str::to_owned),
    })
}
