//! The main checker: the committed log is the order in which everything happened, and every answer must
//! agree with it.
//!
//! - Every acknowledged write stands in the log once, at the index it was acknowledged with, and did
//!   what was asked where its condition held. What was refused or not done has no effect, what is
//!   unknown at most one, and nothing stands in the log that nobody asked for.
//! - What was called after an index had been answered, to anyone, comes after it: a write above it, an
//!   image at or above it. Nothing answers an index before it was committed.
//! - Every answer is what the model says at its index. One without an index must be so at some index
//!   that it can be of; the least of them then counts as answered, which leaves the others most room
//!   and so never accuses wrongly.
//! - A client never sees less than it has seen and written.
//! - Every change in the log rests on what the change before it left, and the log has no gap. A log
//!   that has one is no witness: then nothing else is checked.
//!
//! Not seen here: what agrees with a log that is itself wrong. [`super::linear`] looks at the answers
//! alone.

use std::ops::RangeInclusive;

use super::effects::Requests;
use super::floor::{Below, Ceilings, Floor, Floors};
use super::log::Log;
use super::operation::{Call, Operation, Outcome};
use super::replay::{Replay, gaps};
use super::values::{Judge, Judged};
use super::violation::{Named, Violation};

/// All that is wrong with the run; nothing if all is well.
#[must_use]
pub fn check(operations: &[Operation], log: &Log) -> Vec<Violation> {
    let mut wrong = gaps(log);
    if !wrong.is_empty() {
        return wrong;
    }
    let malformed = operations.iter().enumerate().filter_map(|(number, one)| {
        let operation = || Named::new(operations, number);
        one.fault().map(|why| Violation::Malformed {
            operation: operation(),
            why,
        })
    });
    wrong.extend(malformed);
    if !wrong.is_empty() {
        return wrong;
    }
    let (replay, broken) = Replay::new(log);
    wrong.extend(broken);
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|&number| operations[number].called);
    let requests = Requests::new(operations, &order, log);
    wrong.extend(requests.check(operations, &replay));
    let walk = Walk {
        operations,
        judge: Judge {
            operations,
            replay: &replay,
        },
        ceilings: Ceilings::new(operations, &requests, log),
        requests,
    };
    let mut floors = Floors::new(operations, log.after);
    for number in order {
        let below = floors.call(number);
        match walk.answer(number, &below) {
            Some(Ok(index)) => floors.answered(number, index),
            Some(Err(violation)) => {
                wrong.push(*violation);
                // What it claims still binds those who come after, as far as it can be true.
                if let Some(index) = operations[number].index() {
                    floors.answered(number, index.min(walk.known(number)));
                }
            }
            None => wrong.extend(walk.unanswered(number, &below)),
        }
    }
    wrong
}

struct Walk<'a> {
    operations: &'a [Operation],
    judge: Judge<'a>,
    ceilings: Ceilings,
    requests: Requests<'a>,
}

impl Walk<'_> {
    /// The least index that an answer rests on, if it was answered.
    fn answer(&self, number: usize, below: &Below) -> Option<Judged> {
        let operation = &self.operations[number];
        let floor = below.highest().index;
        let window = |index| self.window(number, index, below);
        Some(match &operation.outcome {
            Outcome::Unknown | Outcome::NotDone => return None,
            Outcome::Written { index } => self.written(number, *index, below),
            Outcome::Replayed { index } => window(Some(*index)).map(|window| *window.end()),
            Outcome::Value { index, value } => window(*index).and_then(|window| {
                let Call::Read { key } = &operation.call else {
                    return Ok(*window.start());
                };
                self.judge.value(number, key, value.as_deref(), window)
            }),
            Outcome::Items { index, items } => window(*index).and_then(|window| {
                let Call::List { prefix } = &operation.call else {
                    return Ok(*window.start());
                };
                self.judge.items(number, prefix, items, window)
            }),
            Outcome::Refused { index } => {
                window(*index).and_then(|window| self.judge.refusal(number, window, floor))
            }
        })
    }

    fn written(&self, number: usize, index: u64, below: &Below) -> Judged {
        let request = self.requests.get(&self.operations[number].request);
        if !request.is_some_and(|request| request.stands_at(index)) {
            // That is reported already, and where it does not stand it has no order.
            return Ok(index.min(self.known(number)));
        }
        // That nobody asks for an entry after it was answered is seen where they ask.
        let returned = self.operations[number].returned;
        self.not_above(number, index, self.ceilings.committed(returned))?;
        match self.reordered(number, index, below) {
            Some(violation) => Err(Box::new(violation)),
            None => Ok(index),
        }
    }

    /// A write without an answer that is in the log all the same must not be there before its time.
    /// Of several attempts the first one's call counts: any of them may have had the effect.
    fn unanswered(&self, number: usize, below: &Below) -> Option<Violation> {
        let request = self.requests.get(&self.operations[number].request)?;
        let is_first = request.cause(self.operations) == Some(number);
        let effect = request.effects.first().filter(|_| is_first)?;
        self.reordered(number, effect.place.index, below)
    }

    fn reordered(&self, number: usize, index: u64, below: &Below) -> Option<Violation> {
        let floor = below.highest();
        let earlier = floor.by.filter(|_| index <= floor.index)?;
        Some(Violation::Reordered {
            operation: Named::new(self.operations, number),
            index,
            earlier: Named::new(self.operations, earlier),
            earlier_index: floor.index,
        })
    }

    /// The indexes that an image can be of: the one that it names, or all between floor and ceiling.
    fn window(
        &self,
        number: usize,
        index: Option<u64>,
        below: &Below,
    ) -> Result<RangeInclusive<u64>, Box<Violation>> {
        let floor = below.highest();
        // An answer that nobody can have known is reported once and not with all that follow.
        let known = self.known(number).max(floor.index);
        let Some(index) = index else {
            return Ok(floor.index..=known);
        };
        self.not_above(number, index, known)?;
        match index < floor.index {
            true => Err(Box::new(self.stale(number, index, below))),
            false => Ok(index..=index),
        }
    }

    /// The highest index that can have been known when it returned.
    fn known(&self, number: usize) -> u64 {
        self.ceilings.known(self.operations[number].returned)
    }

    fn not_above(&self, number: usize, index: u64, known: u64) -> Result<(), Box<Violation>> {
        if index <= known {
            return Ok(());
        }
        Err(Box::new(Violation::FromTheFuture {
            operation: Named::new(self.operations, number),
            index,
            known,
        }))
    }

    fn stale(&self, number: usize, index: u64, below: &Below) -> Violation {
        let operation = Named::new(self.operations, number);
        let above = |floor: Floor| {
            let by = floor.by.filter(|_| index < floor.index)?;
            Some((Named::new(self.operations, by), floor.index))
        };
        if let Some((earlier, earlier_index)) = above(below.own_reads) {
            Violation::NonMonotonicRead {
                operation,
                index,
                earlier,
                earlier_index,
            }
        } else if let Some((earlier, earlier_index)) = above(below.own_writes) {
            Violation::ForgotOwnWrite {
                operation,
                index,
                earlier,
                earlier_index,
            }
        } else if let Some((earlier, earlier_index)) = above(below.anyone) {
            Violation::StaleRead {
                operation,
                index,
                earlier,
                earlier_index,
            }
        } else {
            Violation::Malformed {
                operation,
                why: "it names an index from before the log begins",
            }
        }
    }
}
