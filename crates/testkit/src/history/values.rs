//! Answers against the model: at the index that they name, or else at any that they can be of.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::operation::{Image, Operation};
use super::replay::{Place, Replay, Version};
use super::violation::{Named, ValueFault, Violation};

/// Answers are judged with these at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) operations: &'a [Operation],
    pub(crate) replay: &'a Replay<'a>,
}

/// The least index that the answer can be of, or what is wrong with it.
pub(crate) type Judged = Result<u64, Box<Violation>>;

impl Judge<'_> {
    /// A read of one key: the value must have been there at the end of one of these entries.
    pub(crate) fn value(
        &self,
        number: usize,
        key: &str,
        told: Option<&str>,
        window: RangeInclusive<u64>,
    ) -> Judged {
        let (from, to) = (*window.start(), *window.end());
        self.ends(key, from, to)
            .find(|version| version.value == told)
            .map(|version| version.place.index)
            .ok_or_else(|| self.wrong(number, key, told, window))
    }

    /// A list: all of it must have been there at the end of one of these entries.
    pub(crate) fn items(
        &self,
        number: usize,
        prefix: &str,
        told: &Image,
        window: RangeInclusive<u64>,
    ) -> Judged {
        let (from, to) = (*window.start(), *window.end());
        let says = |key: &str| told.get(key).map(String::as_str);
        let keys = self
            .replay
            .keys_and(prefix, told.keys().map(String::as_str));
        let image = self.replay.image(prefix, from);
        let mut differing: BTreeSet<&str> = keys
            .iter()
            .copied()
            .filter(|key| image.get(key).copied() != says(key))
            .collect();
        if differing.is_empty() {
            return Ok(from);
        }
        let changes = self.replay.changes(Place::end_of(from), Place::end_of(to));
        let mut changes = changes
            .iter()
            .filter(|change| change.key.starts_with(prefix))
            .peekable();
        while let Some(change) = changes.next() {
            match change.value == says(change.key) {
                true => differing.remove(change.key),
                false => differing.insert(change.key),
            };
            let index = change.place.index;
            let entry_ends = changes.peek().is_none_or(|next| next.place.index != index);
            if entry_ends && differing.is_empty() {
                return Ok(index);
            }
        }
        // A key that was never so says most about what is wrong.
        let never = |key: &&&str| {
            let mut ends = self.ends(key, from, to);
            ends.all(|version| version.value != says(key))
        };
        Err(match keys.iter().find(never) {
            Some(key) => self.wrong(number, key, says(key), window),
            None => Box::new(Violation::TornList {
                operation: Named::new(self.operations, number),
                from,
                to,
            }),
        })
    }

    /// A refusal: the condition must have failed somewhere here. Unlike a read it may rest on the
    /// middle of an entry, after its first step, unless the whole entry was known when it was asked.
    pub(crate) fn refusal(&self, number: usize, window: RangeInclusive<u64>, floor: u64) -> Judged {
        let (from, to) = (*window.start(), *window.end());
        let call = &self.operations[number].call;
        let Some((key, _)) = call.effect() else {
            return Ok(from);
        };
        let step = if from > floor { 0 } else { usize::MAX };
        let first = Place { index: from, step };
        let at_first = Version {
            place: first,
            value: self.replay.at(key, first),
        };
        let later = self.replay.between(key, first, Place::end_of(to));
        let mut candidates = std::iter::once(&at_first).chain(later);
        candidates
            .find(|version| !call.allowed(version.value))
            .map(|version| version.place.index)
            .ok_or_else(|| {
                Box::new(Violation::RefusedWrongly {
                    operation: Named::new(self.operations, number),
                    from,
                    to,
                    found: self.replay.at(key, Place::end_of(to)).map(str::to_owned),
                })
            })
    }

    /// A key's value at the end of the first of these entries, and of each that changes it.
    fn ends(&self, key: &str, from: u64, to: u64) -> impl Iterator<Item = Version<'_>> {
        let first = Version {
            place: Place::end_of(from),
            value: self.replay.at(key, Place::end_of(from)),
        };
        let later = self
            .replay
            .between(key, Place::end_of(from), Place::end_of(to));
        let last_of_entry = later.iter().enumerate().filter(move |(number, version)| {
            let next = later.get(number + 1);
            next.is_none_or(|next| next.place.index != version.place.index)
        });
        std::iter::once(first).chain(last_of_entry.map(|(_, version)| *version))
    }

    fn wrong(
        &self,
        number: usize,
        key: &str,
        told: Option<&str>,
        window: RangeInclusive<u64>,
    ) -> Box<Violation> {
        let (from, to) = (*window.start(), *window.end());
        let model = self.replay.at(key, Place::end_of(to));
        Box::new(Violation::WrongValue {
            operation: Named::new(self.operations, number),
            key: key.to_owned(),
            told: told.map(str::to_owned),
            model: model.map(str::to_owned),
            from,
            to,
            fault: self.fault(key, told, to),
        })
    }

    fn fault(&self, key: &str, told: Option<&str>, to: u64) -> ValueFault {
        let held = self.replay.held(key);
        let end = Place::end_of(to);
        let known = &held[..held.partition_point(|version| version.place <= end)];
        if let Some(number) = known.iter().rposition(|version| version.value == told) {
            let next = held.get(number + 1).map_or(to, |next| next.place.index);
            return match known.last() {
                Some(last) if last.value.is_none() => ValueFault::Resurrected {
                    deleted_at: last.place.index,
                },
                _ => ValueFault::Stale { replaced_at: next },
            };
        }
        let later = &held[known.len()..];
        if let Some(version) = later.iter().find(|version| version.value == told) {
            return ValueFault::Future {
                from: version.place.index,
            };
        }
        match told.map(|value| self.replay.holder(value)) {
            Some(Some(key)) => ValueFault::Foreign {
                key: key.to_owned(),
            },
            Some(None) => ValueFault::Phantom,
            None => ValueFault::Missing,
        }
    }
}
