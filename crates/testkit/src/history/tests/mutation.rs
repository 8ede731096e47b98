//! Single changes that make a correct run wrong.

use proptest::prelude::prop;

use super::run::Run;
use super::*;

/// A change, and what it needs to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mutation {
    LoseStep,
    RepeatStep,
    DropEntry,
    SwapEntries,
    OtherValueInLog,
    OtherKeyInLog,
    OtherIndex,
    CalledTooLate,
    AnsweredTooEarly,
    AppliedButRefused,
    AppliedButNotDone,
    RefusedButAcknowledged,
    RefusedThoughAllowed,
    SwappedFromNothing,
    PhantomRead,
    StaleValue,
    OldImage,
    FutureImage,
    VanishedValue,
    ShortList,
}

pub(super) const ALL: [Mutation; 20] = [
    Mutation::LoseStep,
    Mutation::RepeatStep,
    Mutation::DropEntry,
    Mutation::SwapEntries,
    Mutation::OtherValueInLog,
    Mutation::OtherKeyInLog,
    Mutation::OtherIndex,
    Mutation::CalledTooLate,
    Mutation::AnsweredTooEarly,
    Mutation::AppliedButRefused,
    Mutation::AppliedButNotDone,
    Mutation::RefusedButAcknowledged,
    Mutation::RefusedThoughAllowed,
    Mutation::SwappedFromNothing,
    Mutation::PhantomRead,
    Mutation::StaleValue,
    Mutation::OldImage,
    Mutation::FutureImage,
    Mutation::VanishedValue,
    Mutation::ShortList,
];

/// A wrong run.
pub(super) struct Mutant {
    pub(super) run: Run,
    /// No order of the operations explains it either, whatever the log says.
    pub(super) has_no_order: bool,
}

impl Mutation {
    /// The run with this at a place of choice, or the next at which it is wrong.
    pub(super) fn mutant(self, run: &Run, choice: prop::sample::Index) -> Option<Mutant> {
        let sites = run.operations.len().max(run.log.entries.len());
        let first = choice.index(sites);
        (first..sites).chain(0..first).find_map(|site| {
            let mut mutated = run.clone();
            let has_no_order = self.apply(&mut mutated, site)?;
            Some(Mutant {
                run: mutated,
                has_no_order,
            })
        })
    }

    /// Changes the operation or entry of this number, where that makes the run wrong; whether it then
    /// has no order.
    fn apply(self, run: &mut Run, site: usize) -> Option<bool> {
        match self {
            Self::DropEntry => {
                let is_inner = site + 1 < run.log.entries.len();
                is_inner.then(|| run.log.entries.remove(site))?;
                return Some(false);
            }
            Self::SwapEntries => return swap_entries(run, site),
            _ => {}
        }
        let Run { operations, log } = run;
        let all = operations.clone();
        let operation = operations.get_mut(site)?;
        let acknowledged = match operation.outcome {
            Outcome::Written { index } => Some(index),
            _ => None,
        };
        match self {
            Self::DropEntry | Self::SwapEntries => None,
            Self::LoseStep => {
                acknowledged?;
                step_of(log, operation)?.changes.clear();
                Some(false)
            }
            Self::RepeatStep => {
                let again = step_of(log, operation)?.clone();
                log.entries.push(Entry {
                    index: log.end() + 1,
                    committed_at: None,
                    steps: vec![again],
                });
                Some(false)
            }
            Self::OtherValueInLog => {
                step_of(log, operation)?.changes[0].after = Some("other".into());
                Some(false)
            }
            Self::OtherKeyInLog => {
                step_of(log, operation)?.changes[0].key = "elsewhere".into();
                Some(false)
            }
            Self::OtherIndex => {
                operation.outcome = written(acknowledged? + 1 - 2 * (site as u64 % 2));
                Some(false)
            }
            Self::CalledTooLate => {
                let index = acknowledged?;
                let knows = |other: &&Operation| {
                    other.index().is_some_and(|known| known >= index)
                        && other.request != operation.request
                };
                let value = operation.call.effect()?.1?.to_owned();
                let answered = all.iter().filter(knows).map(|other| other.returned).min()?;
                operation.called = answered.max(operation.called) + 1;
                operation.returned = operation.returned.max(operation.called);
                operation.client = "late".into();
                let called = operation.called;
                Some(
                    all.iter()
                        .any(|other| has_read(other, &value) && other.returned < called),
                )
            }
            Self::AnsweredTooEarly => {
                let index = acknowledged?;
                let entry = log.entries.iter().find(|entry| entry.index == index)?;
                if entry.committed_at? == operation.called {
                    return None;
                }
                operation.returned = operation.called;
                Some(false)
            }
            Self::AppliedButRefused => {
                operation.outcome = refused(acknowledged?);
                Some(false)
            }
            Self::AppliedButNotDone => {
                acknowledged?;
                let value = operation.call.effect()?.1?.to_owned();
                operation.outcome = Outcome::NotDone;
                Some(all.iter().any(|other| has_read(other, &value)))
            }
            Self::RefusedButAcknowledged => {
                let Outcome::Refused { .. } = operation.outcome else {
                    return None;
                };
                operation.outcome = written(log.end());
                Some(false)
            }
            Self::RefusedThoughAllowed => {
                let Outcome::Refused { .. } = operation.outcome else {
                    return None;
                };
                operation.call = put("x", "fine");
                Some(true)
            }
            Self::SwappedFromNothing => {
                acknowledged?;
                operation.call = match operation.call.effect()? {
                    (key, Some(value)) => swap(key, "never", value),
                    (_, None) => return None,
                };
                Some(true)
            }
            Self::PhantomRead => {
                let Outcome::Value { value, .. } = &mut operation.outcome else {
                    return None;
                };
                *value = Some("phantom".into());
                Some(true)
            }
            Self::StaleValue => stale_value(operation, &all, log),
            Self::OldImage => {
                let Outcome::Value {
                    index: Some(index), ..
                } = &mut operation.outcome
                else {
                    return None;
                };
                let before = all.iter().filter(|other| other.returned < operation.called);
                *index = before.filter_map(Operation::index).max()? - 1;
                Some(false)
            }
            Self::FutureImage => {
                let (Outcome::Value {
                    index: Some(index), ..
                }
                | Outcome::Items {
                    index: Some(index), ..
                }
                | Outcome::Refused { index: Some(index) }) = &mut operation.outcome
                else {
                    return None;
                };
                *index = log.end() + 1;
                Some(false)
            }
            Self::VanishedValue => {
                let Outcome::Value { value, .. } = &mut operation.outcome else {
                    return None;
                };
                let is_base = matches!(&operation.call, Call::Read { key } if key == "x");
                let deletes = |other: &Operation| other.call == delete_of(&other.call, "x");
                if !is_base || all.iter().any(deletes) {
                    return None;
                }
                *value = None;
                Some(true)
            }
            Self::ShortList => {
                let Outcome::Items {
                    index: Some(_),
                    items,
                } = &mut operation.outcome
                else {
                    return None;
                };
                items.pop_first()?;
                Some(false)
            }
        }
    }
}

/// What an operation did.
fn step_of<'a>(log: &'a mut Log, operation: &Operation) -> Option<&'a mut Step> {
    let steps = log.entries.iter_mut().flat_map(|entry| &mut entry.steps);
    let mut steps = steps.filter(|step| step.request == operation.request);
    steps.next()
}

fn swap_entries(run: &mut Run, site: usize) -> Option<bool> {
    let acknowledged = |operation: &Operation| match operation.outcome {
        Outcome::Written { index } => Some(index),
        _ => None,
    };
    let index = run.log.entries.get(site)?.index;
    let mut indexes = run.operations.iter().filter_map(acknowledged);
    if !indexes.any(|acknowledged| acknowledged == index) {
        return None;
    }
    let [one, other] = run.log.entries.get_mut(site..site + 2)? else {
        return None;
    };
    std::mem::swap(&mut one.steps, &mut other.steps);
    Some(false)
}

fn has_read(operation: &Operation, written: &str) -> bool {
    match &operation.outcome {
        Outcome::Value { value, .. } => value.as_deref() == Some(written),
        Outcome::Items { items, .. } => items.values().any(|value| value == written),
        _ => false,
    }
}

/// The call itself if it deletes this key.
fn delete_of(call: &Call, key: &str) -> Call {
    match call {
        Call::Delete { key: deleted, .. } if deleted == key => call.clone(),
        _ => delete("no such key"),
    }
}

/// A read answers what an acknowledged write had replaced before the read was called.
fn stale_value(operation: &mut Operation, all: &[Operation], log: &mut Log) -> Option<bool> {
    let Call::Read { key } = &operation.call else {
        return None;
    };
    let Outcome::Value { value, .. } = &mut operation.outcome else {
        return None;
    };
    let writes_it = |other: &&Operation| {
        let is_key = other
            .call
            .effect()
            .is_some_and(|(written, _)| written == key);
        let is_acknowledged = matches!(other.outcome, Outcome::Written { .. });
        is_key && is_acknowledged && other.returned < operation.called
    };
    let replacing = all.iter().rfind(writes_it)?;
    let replaced = step_of(log, replacing)?.changes[0].before.clone()?;
    // If that was surely there before it was replaced, and as no value is written twice, it is gone.
    let wrote = |other: &&Operation| {
        let (_, value) = other.call.effect().unwrap_or_default();
        value == Some(replaced.as_str())
    };
    let has_no_order = match all.iter().find(wrote) {
        Some(writer) => {
            let is_acknowledged = matches!(writer.outcome, Outcome::Written { .. });
            is_acknowledged && writer.returned < replacing.called
        }
        None => true,
    };
    *value = Some(replaced);
    Some(has_no_order)
}
