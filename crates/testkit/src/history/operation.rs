//! What a client asked, and what it was told.

use std::collections::BTreeMap;
use std::fmt;

/// All keys that exist, with their values.
pub type Image = BTreeMap<String, String>;

/// One call of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who called. One client's operations follow each other as they stand in the list.
    pub client: String,
    /// The request's name in the log. Attempts that share it must not take effect more than once
    /// between them. Empty for reads.
    pub request: String,
    /// What was asked.
    pub call: Call,
    /// When it was called.
    pub called: u64,
    /// When it was answered, or given up.
    pub returned: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Writes `value` if the condition holds.
    Put {
        /// The key.
        key: String,
        /// What it shall be.
        value: String,
        /// The condition.
        when: Condition,
    },
    /// Deletes what exists, if the condition holds; what is absent cannot be deleted.
    Delete {
        /// The key.
        key: String,
        /// The condition.
        when: Condition,
    },
    /// Reads one key.
    Read {
        /// The key.
        key: String,
    },
    /// Reads all keys that begin so, in one image.
    List {
        /// The beginning; empty for all.
        prefix: String,
    },
}

/// What must be so for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists.
    Present,
    /// The key exists with this value.
    Is(String),
}

/// What a client knows about its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The write happened, at this index. One that found nothing to change has no place in the log
    /// and cannot be judged: leave it out.
    Written {
        /// The log entry it stands in.
        index: u64,
    },
    /// The request had been carried out before; this is the answer of then, found in this image.
    Replayed {
        /// The image's index.
        index: u64,
    },
    /// The key's value.
    Value {
        /// The image's index, where the answer names one.
        index: Option<u64>,
        /// `None`: it does not exist.
        value: Option<String>,
    },
    /// All that exists under the prefix.
    Items {
        /// The image's index, where the answer names one.
        index: Option<u64>,
        /// Keys and values.
        items: Image,
    },
    /// The write did not happen, for its condition did not hold. Any other reason to turn a request
    /// away is [`Outcome::NotDone`].
    Refused {
        /// The index that the refusal rests on, where the answer names one.
        index: Option<u64>,
    },
    /// No answer, or one that leaves it open: a write may happen at any later time, or never.
    Unknown,
    /// It was not sent, or turned away with the word that nothing was done.
    NotDone,
}

impl Condition {
    /// Whether it holds for what is there.
    pub fn holds(&self, found: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::Is(value) => found == Some(value),
        }
    }
}

impl Call {
    /// The key that it may change, and to what.
    pub fn effect(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Put { key, value, .. } => Some((key, Some(value))),
            Self::Delete { key, .. } => Some((key, None)),
            Self::Read { .. } | Self::List { .. } => None,
        }
    }

    /// Whether it is carried out where this is found. Reads always are.
    pub fn allowed(&self, found: Option<&str>) -> bool {
        match self {
            Self::Put { when, .. } => when.holds(found),
            Self::Delete { when, .. } => found.is_some() && when.holds(found),
            Self::Read { .. } | Self::List { .. } => true,
        }
    }
}

impl Operation {
    /// Why it cannot have been recorded so.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let fits = match (&self.call, &self.outcome) {
            (_, Outcome::Unknown | Outcome::NotDone)
            | (Call::Read { .. }, Outcome::Value { .. })
            | (Call::List { .. }, Outcome::Items { .. }) => true,
            (call, outcome) => {
                let of_write = matches!(
                    outcome,
                    Outcome::Written { .. } | Outcome::Replayed { .. } | Outcome::Refused { .. }
                );
                call.effect().is_some() && of_write
            }
        };
        if !fits {
            Some("this is no answer to what was asked")
        } else if self.returned < self.called {
            Some("it returned before it was called")
        } else if self.call.effect().is_some() && self.request.is_empty() {
            Some("a write needs a request")
        } else {
            None
        }
    }

    /// The index that the answer names.
    pub(crate) fn index(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Written { index } | Outcome::Replayed { index } => Some(index),
            Outcome::Value { index, .. }
            | Outcome::Items { index, .. }
            | Outcome::Refused { index } => index,
            Outcome::Unknown | Outcome::NotDone => None,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Absent => f.write_str(" if absent"),
            Self::Present => f.write_str(" if present"),
            Self::Is(value) => write!(f, " if it is {value}"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, when } => write!(f, "put {key}={value}{when}"),
            Self::Delete { key, when } => write!(f, "delete {key}{when}"),
            Self::Read { key } => write!(f, "read {key}"),
            Self::List { prefix } => write!(f, "list {prefix}*"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, index) = match self {
            Self::Written { index } => ("written".to_owned(), Some(*index)),
            Self::Replayed { index } => ("replayed".to_owned(), Some(*index)),
            Self::Value { index, value } => (told(value.as_deref()).to_owned(), *index),
            Self::Items { index, items } => (format!("{} items", items.len()), *index),
            Self::Refused { index } => ("refused".to_owned(), *index),
            Self::Unknown => ("unknown".to_owned(), None),
            Self::NotDone => ("not done".to_owned(), None),
        };
        match index {
            Some(index) => write!(f, "{text} at index {index}"),
            None => f.write_str(&text),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            request,
            call,
            called,
            returned,
            outcome,
        } = self;
        write!(f, "{client}: {call} -> {outcome}, {called}..{returned}")?;
        match request.is_empty() {
            true => Ok(()),
            false => write!(f, ", request {request}"),
        }
    }
}

/// A value as people read it.
pub(crate) fn told(value: Option<&str>) -> &str {
    value.unwrap_or("absent")
}
