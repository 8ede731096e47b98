//! The survey of kinds on the command line. An entry is made from what a kind declares, unless one is written here
//! that says it better.

mod facility;
mod made;
mod tenancy;

use virtflow_model::Kind;

use crate::noun::{Column, Flag, Form, Noun, Show, Verb, column, flag};

pub(crate) use tenancy::{GRACE, RESTART, TYPE};

const ALL: &[Verb] = &[
    Verb::List,
    Verb::Get,
    Verb::Describe,
    Verb::Create,
    Verb::Update,
    Verb::Delete,
];
const READ: &[Verb] = &[Verb::List, Verb::Get, Verb::Describe];
const MADE_ONCE: &[Verb] = &[
    Verb::List,
    Verb::Get,
    Verb::Describe,
    Verb::Create,
    Verb::Delete,
];
const MADE_BY_OTHERS: &[Verb] = &[Verb::List, Verb::Get, Verb::Describe, Verb::Delete];
const DESCRIPTION: Flag = flag("description", "description", Form::Text, "For people");
const STATE: Column = column("STATE", &["/spec/state"], Show::Plain);
const TENANT: Column = column("TENANT", &["/names/tenant", "/tenant_id"], Show::Plain);
const AGE: Column = column("AGE", &["/created_at"], Show::Age);
pub(crate) const LABELS: Flag = flag("label", "labels", Form::Pairs, "key=value; may be repeated");

/// A kind as `virtflow help` shows it.
#[derive(Debug)]
pub(crate) struct Title {
    pub(crate) kind: Kind,
    /// The command's word.
    pub(crate) word: String,
    /// One line.
    pub(crate) about: &'static str,
}

/// The entries that say something better than what follows from a kind's declaration.
fn written() -> impl Iterator<Item = &'static Noun> {
    tenancy::NOUNS.iter().chain(facility::NOUNS)
}

/// Every kind, in the order of `virtflow help`; nothing is read off a kind's types for it.
pub(crate) fn titles() -> impl Iterator<Item = Title> {
    let of_written = written().map(|noun| Title {
        kind: noun.kind,
        word: noun.word.to_owned(),
        about: noun.about,
    });
    let others = Kind::ALL
        .iter()
        .filter(|kind| written().all(|noun| noun.kind != **kind));
    of_written.chain(others.map(|kind| Title {
        kind: *kind,
        word: made::word_of(*kind),
        about: kind.rules().about,
    }))
}

/// The entry of a command's word.
pub(crate) fn of_word(word: &str) -> Option<&'static Noun> {
    let title = titles().find(|title| title.word == word)?;
    Some(of_kind(title.kind))
}

/// The entry of a kind.
pub(crate) fn of_kind(kind: Kind) -> &'static Noun {
    written()
        .find(|noun| noun.kind == kind)
        .unwrap_or_else(|| made::of_kind(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_here_once() {
        for kind in Kind::ALL {
            let entries = titles().filter(|title| title.kind == *kind).count();
            assert_eq!(entries, 1, "{}", kind.name());
        }
        let mut words: Vec<String> = titles().map(|title| title.word).collect();
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
    }
}
