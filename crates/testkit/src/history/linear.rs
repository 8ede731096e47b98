//! The second opinion: is there any order of the operations that explains all answers? It sees calls,
//! answers and times only, neither the log nor an index, so it shares no error with the log.
//!
//! The method is that of Wing and Gong with Lowe's memory of what was tried: extend an order operation by
//! operation, by any that was called before the first outstanding answer came, and never look twice at
//! the same set of operations done with the same value. Registers are independent, so each key is
//! looked at alone; a list counts as a read of each key it covers, and that all of them were so at one
//! instant is left to [`super::witness`]. A write without an answer may happen at any time after its
//! call, or never. Attempts of one request are one write.
//!
//! The search can take exponential time, so it is limited; a search that met its limit has decided
//! nothing and says so.

mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::search::{Action, Event, Found, search};
use super::operation::{Call, Image, Operation, Outcome, told};

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Operations on one key.
    pub operations: usize,
    /// Answered operations on one key that overlap at one instant.
    pub concurrent: usize,
    /// Extensions tried for one key.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: 300,
            concurrent: 12,
            steps: 1_000_000,
        }
    }
}

/// What the search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// An order that explains all answers exists for every key.
    Linearizable,
    /// For this key none exists.
    Impossible {
        /// The key.
        key: String,
        /// How many answered operations the longest explanation holds.
        explained: usize,
        /// What the key is after them.
        value: Option<String>,
        /// The operations of which none can come next.
        stuck: Vec<String>,
    },
    /// It was not found out for this key. No other key is impossible, as far as they were decided.
    Undecided {
        /// The key.
        key: String,
        /// Why.
        why: Undecided,
    },
}

/// Why a search decided nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecided {
    /// More operations than the limit.
    TooMany(usize),
    /// More at once than the limit.
    TooConcurrent(usize),
    /// The steps were used up.
    OutOfSteps(u64),
}

/// Looks for an order, key by key; `initial` is what existed before.
pub fn check(operations: &[Operation], initial: &Image, limits: Limits) -> Verdict {
    let mut verdict = Verdict::Linearizable;
    for key in keys(operations, initial) {
        let first = initial.get(key).map(String::as_str);
        let register = Register::new(operations, key, first);
        match register.decide(limits) {
            Verdict::Linearizable => {}
            impossible @ Verdict::Impossible { .. } => return impossible,
            undecided @ Verdict::Undecided { .. } => verdict = undecided,
        }
    }
    verdict
}

/// Every key that is spoken of.
fn keys<'a>(operations: &'a [Operation], initial: &'a Image) -> BTreeSet<&'a str> {
    let mut keys: BTreeSet<&str> = initial.keys().map(String::as_str).collect();
    for operation in operations {
        match &operation.call {
            Call::Put { key, .. } | Call::Delete { key, .. } | Call::Read { key } => {
                keys.insert(key);
            }
            Call::List { .. } => {}
        }
        if let Outcome::Items { items, .. } = &operation.outcome {
            keys.extend(items.keys().map(String::as_str));
        }
    }
    keys
}

/// All that happened to one key, and where it stands in the list of operations.
struct Register<'a> {
    operations: &'a [Operation],
    key: &'a str,
    first: Option<&'a str>,
    /// By their calls.
    events: Vec<Event<'a>>,
}

impl<'a> Register<'a> {
    fn new(operations: &'a [Operation], key: &'a str, first: Option<&'a str>) -> Self {
        let mut events = Vec::new();
        let mut requests: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, operation) in operations.iter().enumerate() {
            let value = match (&operation.call, &operation.outcome) {
                (call, Outcome::Refused { .. }) if writes(call, key) => Action::Refused(call),
                (call, Outcome::Written { .. } | Outcome::Replayed { .. } | Outcome::Unknown)
                    if writes(call, key) =>
                {
                    requests.entry(&operation.request).or_default().push(number);
                    continue;
                }
                (Call::Read { key: read }, Outcome::Value { value, .. }) if read == key => {
                    Action::Read(value.as_deref())
                }
                (Call::List { prefix }, Outcome::Items { items, .. })
                    if key.starts_with(prefix.as_str()) =>
                {
                    Action::Read(items.get(key).map(String::as_str))
                }
                _ => continue,
            };
            events.push(Event {
                number,
                action: value,
                called: operation.called,
                returned: Some(operation.returned),
            });
        }
        events.extend(
            requests
                .values()
                .map(|attempts| write(operations, attempts)),
        );
        events.sort_by_key(|event| (event.called, event.number));
        Self {
            operations,
            key,
            first,
            events,
        }
    }

    fn decide(&self, limits: Limits) -> Verdict {
        let undecided = |why| Verdict::Undecided {
            key: self.key.to_owned(),
            why,
        };
        if self.events.len() > limits.operations {
            return undecided(Undecided::TooMany(self.events.len()));
        }
        let concurrent = most_at_once(&self.events);
        if concurrent > limits.concurrent {
            return undecided(Undecided::TooConcurrent(concurrent));
        }
        match search(&self.events, self.first, limits.steps) {
            Found::Order => Verdict::Linearizable,
            Found::OutOfSteps => undecided(Undecided::OutOfSteps(limits.steps)),
            Found::Nothing {
                explained,
                value,
                stuck,
            } => Verdict::Impossible {
                key: self.key.to_owned(),
                explained,
                value: value.map(str::to_owned),
                stuck: stuck
                    .into_iter()
                    .map(|number| self.operations[number].to_string())
                    .collect(),
            },
        }
    }
}

fn writes(call: &Call, key: &str) -> bool {
    call.effect().is_some_and(|(written, _)| written == key)
}

/// Several attempts as one write: from the first call to the first answer.
fn write<'a>(operations: &'a [Operation], attempts: &[usize]) -> Event<'a> {
    let answers = attempts.iter().filter_map(|&number| {
        let operation = &operations[number];
        let is_answered = !matches!(operation.outcome, Outcome::Unknown);
        is_answered.then_some(operation.returned)
    });
    let number = attempts
        .iter()
        .copied()
        .min_by_key(|&number| operations[number].called);
    // A request is entered with its first attempt, so there is one.
    let number = number.unwrap_or_default();
    Event {
        number,
        action: Action::Write(&operations[number].call),
        called: operations[number].called,
        returned: answers.min(),
    }
}

fn most_at_once(events: &[Event<'_>]) -> usize {
    let mut returns: Vec<u64> = events.iter().filter_map(|event| event.returned).collect();
    returns.sort_unstable();
    let calls = events.iter().filter(|event| event.returned.is_some());
    let open = calls.enumerate().map(|(before, event)| {
        let over = returns.partition_point(|returned| *returned < event.called);
        before + 1 - over
    });
    open.max().unwrap_or(0)
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => write!(f, "{count} operations are too many"),
            Self::TooConcurrent(count) => write!(f, "{count} operations at once are too many"),
            Self::OutOfSteps(steps) => write!(f, "{steps} steps were not enough"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => f.write_str("linearizable"),
            Self::Impossible {
                key,
                explained,
                value,
                stuck,
            } => write!(
                f,
                "no order explains what was answered about {key}: after {explained} answers, with {}, none of these can come next: {}",
                told(value.as_deref()),
                stuck.join("; ")
            ),
            Self::Undecided { key, why } => write!(f, "not decided for {key}: {why}"),
        }
    }
}
