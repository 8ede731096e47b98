//! Correct runs by chance: a sequential model makes the log, and each operation gets a call before and a
//! return after the moment at which it really happened.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A run and the log behind it.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) operations: Vec<Operation>,
    pub(super) log: Log,
}

/// The choices for one operation.
#[derive(Debug, Clone)]
struct Choice {
    what: What,
    key: usize,
    condition: u8,
    fate: Fate,
    /// Happens in the entry before, if that is still open.
    joins: bool,
    names_index: bool,
    pause: u64,
    lead: u64,
    lag: u64,
    client: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Put,
    Delete,
    Read,
    List,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    /// It happened and no answer came.
    Unheard,
    /// No answer came, and it did not happen.
    Vanished,
    NotDone,
    /// It happened and no answer came; asked again, the first answer came.
    Repeated,
}

const KEYS: [&str; 3] = ["x", "y", "z"];
/// The base is of this index.
const AFTER: u64 = 7;

/// Runs of up to so many operations.
pub(super) fn runs(operations_max: usize) -> impl Strategy<Value = Run> {
    let choices = proptest::collection::vec(choice(), 1..operations_max);
    (choices, any::<bool>()).prop_map(|(choices, is_timed)| {
        let mut maker = Maker::new();
        for choice in &choices {
            maker.happen(choice);
        }
        maker.finish(is_timed)
    })
}

fn choice() -> impl Strategy<Value = Choice> {
    let what = prop_oneof![
        5 => Just(What::Put),
        1 => Just(What::Delete),
        4 => Just(What::Read),
        1 => Just(What::List),
    ];
    let fate = prop_oneof![
        12 => Just(Fate::Answered),
        1 => Just(Fate::Unheard),
        1 => Just(Fate::Vanished),
        1 => Just(Fate::NotDone),
        1 => Just(Fate::Repeated),
    ];
    let choices = (what, 0..KEYS.len(), 0..8_u8, fate, any::<bool>());
    let times = (prop::bool::weighted(0.8), 1..4_u64, 0..80_u64, 0..80_u64);
    (choices, times, 0..8_usize).prop_map(|(choices, times, client)| {
        let (what, key, condition, fate, joins) = choices;
        let (names_index, pause, lead, lag) = times;
        Choice {
            what,
            key,
            condition,
            fate,
            joins,
            names_index,
            pause,
            lead,
            lag,
            client,
        }
    })
}

struct Maker {
    /// With the client that would like to have made each.
    operations: Vec<(usize, Operation)>,
    log: Log,
    now: Image,
    clock: u64,
    /// Nothing has happened since the last entry.
    is_open: bool,
    serial: u64,
}

impl Maker {
    fn new() -> Self {
        let base = image(&[("x", "b0")]);
        Self {
            operations: Vec::new(),
            log: Log {
                after: AFTER,
                base: base.clone(),
                entries: Vec::new(),
            },
            now: base,
            clock: 100,
            is_open: false,
            serial: 0,
        }
    }

    fn happen(&mut self, choice: &Choice) {
        self.serial += 1;
        match choice.what {
            What::Put | What::Delete => self.write(choice),
            What::Read | What::List => self.read(choice),
        }
    }

    fn read(&mut self, choice: &Choice) {
        self.wait(choice);
        let index = choice.names_index.then_some(self.log.end());
        let key = KEYS[choice.key].to_owned();
        let (call, outcome) = match choice.what {
            What::Read => {
                let value = self.now.get(&key).cloned();
                (Call::Read { key }, Outcome::Value { index, value })
            }
            _ => {
                // Half of the lists are of one key's prefix only.
                let prefix = if choice.joins { key } else { String::new() };
                let under = |(key, _): &(&String, &String)| key.starts_with(&prefix);
                let items = self.now.iter().filter(under);
                let items = items.map(|(key, value)| (key.clone(), value.clone()));
                let items = items.collect();
                (Call::List { prefix }, Outcome::Items { index, items })
            }
        };
        let outcome = match choice.fate {
            Fate::Answered | Fate::Repeated => outcome,
            Fate::Unheard | Fate::Vanished => Outcome::Unknown,
            Fate::NotDone => Outcome::NotDone,
        };
        self.record(choice, String::new(), call, outcome);
    }

    fn write(&mut self, choice: &Choice) {
        let call = self.call(choice);
        let request = format!("r{}", self.serial);
        let (key, value) = call.effect().unwrap();
        let before = self.now.get(key).cloned();
        let is_allowed = call.allowed(before.as_deref());
        let joins = choice.joins && self.is_open;
        if !joins {
            self.wait(choice);
        }
        match (choice.fate, is_allowed) {
            (Fate::NotDone, _) => self.record(choice, request, call, Outcome::NotDone),
            (Fate::Vanished, _) | (Fate::Unheard, false) => {
                self.record(choice, request, call, Outcome::Unknown);
            }
            (Fate::Answered | Fate::Repeated, false) => {
                let index = choice.names_index.then_some(self.log.end());
                self.record(choice, request, call, Outcome::Refused { index });
            }
            (Fate::Answered | Fate::Unheard | Fate::Repeated, true) => {
                let change = Change {
                    key: key.to_owned(),
                    before,
                    after: value.map(str::to_owned),
                };
                self.commit(&request, change, joins);
                let outcome = match choice.fate {
                    Fate::Answered => written(self.log.end()),
                    _ => Outcome::Unknown,
                };
                self.record(choice, request.clone(), call.clone(), outcome);
                if choice.fate == Fate::Repeated {
                    self.wait(choice);
                    let index = self.log.end();
                    self.record(choice, request, call, Outcome::Replayed { index });
                }
            }
        }
    }

    fn call(&self, choice: &Choice) -> Call {
        let key = KEYS[choice.key].to_owned();
        let current = self.now.get(&key);
        let when = match (choice.condition, current) {
            (0, _) => Condition::Absent,
            (1, _) => Condition::Present,
            (2 | 3, Some(current)) => Condition::Is(current.clone()),
            (4, _) => Condition::Is("b0".to_owned()),
            _ => Condition::Any,
        };
        match choice.what {
            What::Delete => Call::Delete { key, when },
            _ => Call::Put {
                key,
                value: format!("v{}", self.serial),
                when,
            },
        }
    }

    fn commit(&mut self, request: &str, change: Change, joins: bool) {
        match &change.after {
            Some(value) => self.now.insert(change.key.clone(), value.clone()),
            None => self.now.remove(&change.key),
        };
        let step = Step {
            request: request.to_owned(),
            changes: vec![change],
        };
        match self.log.entries.last_mut().filter(|_| joins) {
            Some(entry) => entry.steps.push(step),
            None => {
                let entry = Entry {
                    index: self.log.end() + 1,
                    committed_at: Some(self.clock),
                    steps: vec![step],
                };
                self.log.entries.push(entry);
            }
        }
        self.is_open = true;
    }

    /// The next thing happens later.
    fn wait(&mut self, choice: &Choice) {
        self.clock += 10 * choice.pause;
        self.is_open = false;
    }

    /// Notes an operation that happens now. One that was given up may have been so before.
    fn record(&mut self, choice: &Choice, request: String, call: Call, outcome: Outcome) {
        let called = self.clock - choice.lead;
        let returned = match outcome {
            Outcome::Unknown | Outcome::NotDone => called + choice.lag,
            _ => self.clock + choice.lag,
        };
        let operation = Operation {
            client: String::new(),
            request,
            call,
            called,
            returned,
            outcome,
        };
        self.operations.push((choice.client, operation));
    }

    /// Gives each operation to a client that is free when it is called.
    fn finish(mut self, is_timed: bool) -> Run {
        if !is_timed {
            for entry in &mut self.log.entries {
                entry.committed_at = None;
            }
        }
        self.operations
            .sort_by_key(|(_, operation)| operation.called);
        let mut free_at: BTreeMap<usize, u64> = BTreeMap::new();
        let mut operations = Vec::new();
        for (wanted, mut operation) in self.operations {
            let is_free =
                |client: &usize| free_at.get(client).is_none_or(|at| *at < operation.called);
            let client = (wanted..).find(is_free).unwrap();
            free_at.insert(client, operation.returned);
            operation.client = format!("c{client}");
            operations.push(operation);
        }
        Run {
            operations,
            log: self.log,
        }
    }
}
