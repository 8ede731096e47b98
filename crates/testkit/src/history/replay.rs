//! The reference model: every value that every key ever had, and where in the log it got it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::log::Log;
use super::violation::Violation;

/// A place in the log: right after a step of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) index: u64,
    pub(crate) step: usize,
}

impl Place {
    /// After all steps of an entry.
    pub(crate) fn end_of(index: u64) -> Self {
        Self {
            index,
            step: usize::MAX,
        }
    }
}

/// A value, from this place on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub(crate) place: Place,
    pub(crate) value: Option<&'a str>,
}

/// A change where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed<'a> {
    pub(crate) place: Place,
    pub(crate) key: &'a str,
    pub(crate) value: Option<&'a str>,
}

/// A log replayed.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    pub(crate) after: u64,
    pub(crate) end: u64,
    versions: BTreeMap<&'a str, Vec<Version<'a>>>,
    changes: Vec<Placed<'a>>,
}

/// Indexes that do not follow each other.
pub(crate) fn gaps(log: &Log) -> Vec<Violation> {
    let mut last = log.after;
    let mut gaps = Vec::new();
    for entry in &log.entries {
        if entry.index != last + 1 {
            gaps.push(Violation::LogGap {
                after: last,
                found: entry.index,
            });
        }
        last = entry.index;
    }
    gaps
}

impl<'a> Replay<'a> {
    /// Replays a log without gaps. Where a change says that something else was there before than the
    /// change before it left, that is a violation; the replay goes on with what the log says.
    pub(crate) fn new(log: &'a Log) -> (Self, Vec<Violation>) {
        let mut broken = Vec::new();
        let start = Place::end_of(log.after);
        let mut versions: BTreeMap<&str, Vec<Version<'a>>> = BTreeMap::new();
        for (key, value) in &log.base {
            let value = Some(value.as_str());
            let first = Version {
                place: start,
                value,
            };
            versions.insert(key, vec![first]);
        }
        let mut changes = Vec::new();
        for entry in &log.entries {
            for (number, step) in entry.steps.iter().enumerate() {
                let place = Place {
                    index: entry.index,
                    step: number,
                };
                for change in &step.changes {
                    let absent = Version {
                        place: start,
                        value: None,
                    };
                    let held = versions.entry(&change.key).or_insert_with(|| vec![absent]);
                    let before = held.last().and_then(|version| version.value);
                    if before != change.before.as_deref() {
                        broken.push(Violation::BrokenChain {
                            index: entry.index,
                            request: step.request.clone(),
                            change: change.clone(),
                            found: before.map(str::to_owned),
                        });
                    }
                    let value = change.after.as_deref();
                    held.push(Version { place, value });
                    changes.push(Placed {
                        place,
                        key: &change.key,
                        value,
                    });
                }
            }
        }
        let replay = Self {
            after: log.after,
            end: log.end(),
            versions,
            changes,
        };
        (replay, broken)
    }

    /// All that a key ever was, the first at the log's beginning. Empty if it never existed.
    pub(crate) fn held(&self, key: &str) -> &[Version<'a>] {
        self.versions.get(key).map_or(&[], Vec::as_slice)
    }

    /// The value right after a place.
    pub(crate) fn at(&self, key: &str, place: Place) -> Option<&'a str> {
        let held = self.held(key);
        let later = held.partition_point(|version| version.place <= place);
        held[..later].last().and_then(|version| version.value)
    }

    /// The value right before a step.
    pub(crate) fn before(&self, key: &str, place: Place) -> Option<&'a str> {
        let held = self.held(key);
        let later = held.partition_point(|version| version.place < place);
        held[..later].last().and_then(|version| version.value)
    }

    /// A key's versions after one place and up to another.
    pub(crate) fn between(&self, key: &str, after: Place, to: Place) -> &[Version<'a>] {
        within(self.held(key), after, to, |version| version.place)
    }

    /// All changes after one place and up to another.
    pub(crate) fn changes(&self, after: Place, to: Place) -> &[Placed<'a>] {
        within(&self.changes, after, to, |change| change.place)
    }

    /// The keys under a prefix that ever existed.
    pub(crate) fn keys(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.versions
            .range::<str, _>(from)
            .map(|(key, _)| *key)
            .take_while(move |key| key.starts_with(prefix))
    }

    /// Whether any key was ever this; which.
    pub(crate) fn holder(&self, value: &str) -> Option<&'a str> {
        let holds = |versions: &Vec<Version<'a>>| {
            versions.iter().any(|version| version.value == Some(value))
        };
        let (key, _) = self.versions.iter().find(|(_, held)| holds(held))?;
        Some(key)
    }

    /// What exists under a prefix after an entry.
    pub(crate) fn image(&self, prefix: &str, index: u64) -> BTreeMap<&'a str, &'a str> {
        let value = |key| self.at(key, Place::end_of(index)).map(|value| (key, value));
        self.keys(prefix).filter_map(value).collect()
    }

    /// The keys that must be looked at to compare an image with what a client was told.
    pub(crate) fn keys_and<'b>(
        &self,
        prefix: &str,
        told: impl Iterator<Item = &'b str>,
    ) -> BTreeSet<&'b str>
    where
        'a: 'b,
    {
        self.keys(prefix).chain(told).collect()
    }
}

fn within<T>(sorted: &[T], after: Place, to: Place, place: impl Fn(&T) -> Place) -> &[T] {
    let from = sorted.partition_point(|item| place(item) <= after);
    let to = sorted.partition_point(|item| place(item) <= to).max(from);
    &sorted[from..to]
}
