//! The committed log: who did what, in which order.

use super::operation::Image;

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What was there; `None`: nothing.
    pub before: Option<String>,
    /// What is there now; `None`: deleted.
    pub after: Option<String>,
}

/// What one request did, as one whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The request.
    pub request: String,
    /// In order. Empty where the log holds the request but applying it was refused.
    pub changes: Vec<Change>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// When it was first known to be committed anywhere, if the run knows. It bounds what may be
    /// answered when; without it the bound is the latest call of a request that the entry holds.
    pub committed_at: Option<u64>,
    /// In order. Entries without changes must be listed too, or indexes would have gaps.
    pub steps: Vec<Step>,
}

/// The committed log at the end of a run, and what was there before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The index of `base`: the first entry is the one after it.
    pub after: u64,
    /// All that existed then.
    pub base: Image,
    /// In order and without a gap.
    pub entries: Vec<Entry>,
}

impl Log {
    /// The last index.
    pub fn end(&self) -> u64 {
        self.entries.last().map_or(self.after, |entry| entry.index)
    }
}
