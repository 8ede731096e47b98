//! The survey of kinds on the command line: one entry for each kind of the model.

mod facility;
mod tenancy;

use virtflow_model::Kind;

use crate::noun::{Column, Flag, Form, Noun, Show, Verb, column, flag};

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
const LABELS: Flag = flag("label", "labels", Form::Pairs, "key=value; may be repeated");

/// Every kind, in the order of `virtflow help`.
pub(crate) fn all() -> impl Iterator<Item = &'static Noun> {
    tenancy::NOUNS.iter().chain(facility::NOUNS)
}

/// The entry of a command's word.
pub(crate) fn of_word(word: &str) -> Option<&'static Noun> {
    all().find(|noun| noun.word == word)
}

/// The entry of a kind.
pub(crate) fn of_kind(kind: Kind) -> Option<&'static Noun> {
    all().find(|noun| noun.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_here_once() {
        for kind in Kind::ALL {
            let entries = all().filter(|noun| noun.kind == *kind).count();
            assert_eq!(entries, 1, "{}", kind.name());
        }
        let mut words: Vec<&str> = all().map(|noun| noun.word).collect();
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
    }
}
