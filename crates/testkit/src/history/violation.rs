//! What can be wrong, each with the operations that show it.

use std::fmt;

use super::log::Change;
use super::operation::{Operation, told};

/// An operation, by its place in the list and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its place in the list that was checked.
    pub number: usize,
    /// What it was.
    pub text: String,
}

impl Named {
    pub(crate) fn new(operations: &[Operation], number: usize) -> Self {
        Self {
            number,
            text: operations[number].to_string(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} ({})", self.number, self.text)
    }
}

/// How a value that was read is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueFault {
    /// It was so before, up to this index.
    Stale {
        /// Where it became something else.
        replaced_at: u64,
    },
    /// It was deleted, and nothing has been there since.
    Resurrected {
        /// Where.
        deleted_at: u64,
    },
    /// It was so only later.
    Future {
        /// From where on.
        from: u64,
    },
    /// It was another key's.
    Foreign {
        /// Whose.
        key: String,
    },
    /// The log holds it nowhere.
    Phantom,
    /// The key existed all the time.
    Missing,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The recording itself makes no sense.
    Malformed {
        /// Which.
        operation: Named,
        /// Why.
        why: &'static str,
    },
    /// The log's indexes do not follow each other.
    LogGap {
        /// The index before.
        after: u64,
        /// The index that came.
        found: u64,
    },
    /// A change rests on something else than what the change before it left.
    BrokenChain {
        /// Where.
        index: u64,
        /// Whose.
        request: String,
        /// The change.
        change: Change,
        /// What the log had left there.
        found: Option<String>,
    },
    /// A write was acknowledged and is not in the log.
    LostWrite {
        /// Which.
        operation: Named,
        /// Where the log ends.
        log_end: u64,
    },
    /// A write was acknowledged with another index than it has in the log.
    WrongIndex {
        /// Which.
        operation: Named,
        /// Where it stands.
        logged: u64,
    },
    /// One request happened twice.
    DuplicateEffect {
        /// The request, by its first attempt.
        operation: Named,
        /// Where first.
        first: u64,
        /// Where again.
        second: u64,
    },
    /// The log did something that nobody asked for.
    PhantomEffect {
        /// Under this request.
        request: String,
        /// Where.
        index: u64,
    },
    /// A write that was refused happened.
    RefusedButApplied {
        /// Which.
        operation: Named,
        /// Where.
        index: u64,
    },
    /// A write that was never sent, or turned away, happened.
    NotDoneButApplied {
        /// Which.
        operation: Named,
        /// Where.
        index: u64,
    },
    /// A request did something else than what was asked.
    WrongEffect {
        /// What was asked.
        operation: Named,
        /// Where.
        index: u64,
        /// What was done.
        did: Vec<Change>,
    },
    /// A write happened where its condition did not hold.
    ConditionBroken {
        /// Which.
        operation: Named,
        /// Where.
        index: u64,
        /// What was there.
        found: Option<String>,
    },
    /// A write was refused where its condition held.
    RefusedWrongly {
        /// Which.
        operation: Named,
        /// From this index on it would have had to be carried out ...
        from: u64,
        /// ... and up to here.
        to: u64,
        /// What was there.
        found: Option<String>,
    },
    /// An entry was committed before anyone had asked for it.
    CommittedBeforeCall {
        /// Which.
        operation: Named,
        /// Where.
        index: u64,
        /// When it was committed.
        committed_at: u64,
    },
    /// A write happened at or below an index that had been answered before it was called.
    Reordered {
        /// Which.
        operation: Named,
        /// Where it happened.
        index: u64,
        /// Who had been answered.
        earlier: Named,
        /// With what index.
        earlier_index: u64,
    },
    /// An image is older than what had been acknowledged before it was asked for.
    StaleRead {
        /// Which.
        operation: Named,
        /// The image's index.
        index: u64,
        /// Who had been answered.
        earlier: Named,
        /// With what index.
        earlier_index: u64,
    },
    /// A client saw an older image than it had seen before.
    NonMonotonicRead {
        /// Which.
        operation: Named,
        /// The image's index.
        index: u64,
        /// What it had read.
        earlier: Named,
        /// At what index.
        earlier_index: u64,
    },
    /// A client did not see what it had written.
    ForgotOwnWrite {
        /// Which.
        operation: Named,
        /// The image's index.
        index: u64,
        /// What it had written.
        earlier: Named,
        /// At what index.
        earlier_index: u64,
    },
    /// An index was answered before it was committed.
    FromTheFuture {
        /// Which.
        operation: Named,
        /// The index that it names.
        index: u64,
        /// The highest that could be known when it returned.
        known: u64,
    },
    /// A value that the key did not have at the index that the answer names, or at none that it could
    /// have been read at.
    WrongValue {
        /// Which.
        operation: Named,
        /// The key.
        key: String,
        /// What the client was told.
        told: Option<String>,
        /// What the model says at `to`.
        model: Option<String>,
        /// The lowest index it could be of ...
        from: u64,
        /// ... and the highest.
        to: u64,
        /// How it is wrong.
        fault: ValueFault,
    },
    /// Each key of a list was so at some index, but all together at none.
    TornList {
        /// Which.
        operation: Named,
        /// The lowest index it could be of ...
        from: u64,
        /// ... and the highest.
        to: u64,
    },
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { replaced_at } => write!(f, "that was replaced at index {replaced_at}"),
            Self::Resurrected { deleted_at } => write!(f, "that was deleted at index {deleted_at}"),
            Self::Future { from } => write!(f, "that is so from index {from} on only"),
            Self::Foreign { key } => write!(f, "that is a value of key {key}"),
            Self::Phantom => f.write_str("nobody ever wrote that"),
            Self::Missing => f.write_str("it existed all the time"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (told(self.before.as_deref()), told(self.after.as_deref()));
        write!(f, "{}: {before} -> {after}", self.key)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { operation, why } => write!(f, "{operation} makes no sense: {why}"),
            Self::LogGap { after, found } => {
                write!(f, "the log goes on with index {found} after {after}")
            }
            Self::BrokenChain {
                index,
                request,
                change,
                found,
            } => write!(
                f,
                "request {request} at index {index} changed `{change}`, but the log had left {} there",
                told(found.as_deref())
            ),
            Self::LostWrite { operation, log_end } => write!(
                f,
                "{operation} was acknowledged and is lost: the log, which ends at {log_end}, does not have it"
            ),
            Self::WrongIndex { operation, logged } => {
                write!(f, "{operation} stands in the log at index {logged}")
            }
            Self::DuplicateEffect {
                operation,
                first,
                second,
            } => {
                write!(
                    f,
                    "{operation} happened twice: at index {first} and at index {second}"
                )
            }
            Self::PhantomEffect { request, index } => {
                write!(f, "request {request} at index {index} was made by nobody")
            }
            Self::RefusedButApplied { operation, index } => {
                write!(
                    f,
                    "{operation} was refused, yet it happened at index {index}"
                )
            }
            Self::NotDoneButApplied { operation, index } => {
                write!(
                    f,
                    "{operation} was not done, yet it happened at index {index}"
                )
            }
            Self::WrongEffect {
                operation,
                index,
                did,
            } => {
                let did: Vec<_> = did.iter().map(Change::to_string).collect();
                write!(
                    f,
                    "{operation} did something else at index {index}: {}",
                    did.join(", ")
                )
            }
            Self::ConditionBroken {
                operation,
                index,
                found,
            } => write!(
                f,
                "{operation} happened at index {index} over {}, against its condition",
                told(found.as_deref())
            ),
            Self::RefusedWrongly {
                operation,
                from,
                to,
                found,
            } => write!(
                f,
                "{operation} was refused, but its condition held all through index {from} to {to}: it was {}",
                told(found.as_deref())
            ),
            Self::CommittedBeforeCall {
                operation,
                index,
                committed_at,
            } => write!(
                f,
                "{operation} was committed at index {index} at {committed_at}, before it was asked for"
            ),
            Self::Reordered {
                operation,
                index,
                earlier,
                earlier_index,
            } => write!(
                f,
                "{operation} happened at index {index}, but {earlier} had been answered with index {earlier_index} before"
            ),
            Self::StaleRead {
                operation,
                index,
                earlier,
                earlier_index,
            } => write!(
                f,
                "{operation} is of index {index}, but {earlier} had been answered with index {earlier_index} before"
            ),
            Self::NonMonotonicRead {
                operation,
                index,
                earlier,
                earlier_index,
            } => write!(
                f,
                "{operation} is of index {index}, but the same client had seen index {earlier_index} in {earlier}"
            ),
            Self::ForgotOwnWrite {
                operation,
                index,
                earlier,
                earlier_index,
            } => write!(
                f,
                "{operation} is of index {index}, but the same client had written at index {earlier_index} in {earlier}"
            ),
            Self::FromTheFuture {
                operation,
                index,
                known,
            } => write!(
                f,
                "{operation} names index {index} when nothing above {known} was committed"
            ),
            Self::WrongValue {
                operation,
                key,
                told: value,
                model,
                from,
                to,
                fault,
            } => {
                let (value, model) = (told(value.as_deref()), told(model.as_deref()));
                write!(f, "{operation} says that {key} is {value}, but ")?;
                match from == to {
                    true => write!(f, "at index {to} it is {model}: {fault}"),
                    false => write!(
                        f,
                        "from index {from} to {to} it never is, at the last it is {model}: {fault}"
                    ),
                }
            }
            Self::TornList {
                operation,
                from,
                to,
            } => write!(
                f,
                "{operation} shows together what was so at no one index from {from} to {to}"
            ),
        }
    }
}
