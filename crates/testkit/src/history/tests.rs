//! Bad runs that must be found and good ones that must pass, by hand and by chance.

mod bad;
mod brute;
mod good;
mod mutation;
mod opinion;
mod random;
mod run;
mod streams;

use std::ops::Range;

use super::{
    Call, Change, Condition, Entry, Image, Log, Operation, Outcome, Step, Violation, witness,
};

fn put(key: &str, value: &str) -> Call {
    put_if(key, value, Condition::Any)
}

fn create(key: &str, value: &str) -> Call {
    put_if(key, value, Condition::Absent)
}

fn swap(key: &str, from: &str, to: &str) -> Call {
    put_if(key, to, Condition::Is(from.into()))
}

fn put_if(key: &str, value: &str, when: Condition) -> Call {
    Call::Put {
        key: key.into(),
        value: value.into(),
        when,
    }
}

fn delete(key: &str) -> Call {
    Call::Delete {
        key: key.into(),
        when: Condition::Any,
    }
}

fn write(client: &str, request: &str, call: Call, time: Range<u64>, outcome: Outcome) -> Operation {
    Operation {
        client: client.into(),
        request: request.into(),
        call,
        called: time.start,
        returned: time.end,
        outcome,
    }
}

fn written(index: u64) -> Outcome {
    Outcome::Written { index }
}

fn refused(index: u64) -> Outcome {
    Outcome::Refused { index: Some(index) }
}

fn read_at(
    client: &str,
    index: u64,
    key: &str,
    value: Option<&str>,
    time: Range<u64>,
) -> Operation {
    let mut read = read(client, key, value, time);
    read.outcome = Outcome::Value {
        index: Some(index),
        value: value.map(str::to_owned),
    };
    read
}

fn read(client: &str, key: &str, value: Option<&str>, time: Range<u64>) -> Operation {
    let outcome = Outcome::Value {
        index: None,
        value: value.map(str::to_owned),
    };
    write(client, "", Call::Read { key: key.into() }, time, outcome)
}

fn list(client: &str, index: Option<u64>, items: &[(&str, &str)], time: Range<u64>) -> Operation {
    let outcome = Outcome::Items {
        index,
        items: image(items),
    };
    let all = Call::List {
        prefix: String::new(),
    };
    write(client, "", all, time, outcome)
}

fn image(items: &[(&str, &str)]) -> Image {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    items.iter().map(owned).collect()
}

/// Each line an entry: `request key before after`, separated by commas; `-` stands for absent.
fn log(entries: &[&str]) -> Log {
    let entry = |(number, text): (usize, &&str)| Entry {
        index: number as u64 + 1,
        committed_at: None,
        steps: text
            .split(", ")
            .filter(|step| !step.is_empty())
            .map(step)
            .collect(),
    };
    Log {
        entries: entries.iter().enumerate().map(entry).collect(),
        ..Log::default()
    }
}

fn step(text: &str) -> Step {
    let words: Vec<&str> = text.split(' ').collect();
    let [request, key, before, after] = words[..] else {
        panic!("`{text}` is not `request key before after`");
    };
    let value = |word: &str| (word != "-").then(|| word.to_owned());
    Step {
        request: request.into(),
        changes: vec![Change {
            key: key.into(),
            before: value(before),
            after: value(after),
        }],
    }
}

/// The one violation that a run must have.
fn only(operations: &[Operation], log: &Log) -> Violation {
    let mut violations = witness::check(operations, log);
    let texts: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert_eq!(violations.len(), 1, "{texts:#?}");
    violations.remove(0)
}

macro_rules! assert_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {{
        let value = $value;
        assert!(matches!(&value, $pattern $(if $guard)?), "{value:#?}");
    }};
}
use assert_matches;
