//! What a client asked for that changes something: what is done, and what has no answer yet. Whoever is interrupted in
//! the middle is told from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Answer, Call, Method};

/// Done writes that are remembered; of the rest only their number is.
const DONE_MAX: usize = 100;

/// A write as it goes to a controller, without what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What to do.
    pub method: Method,
    /// On what.
    pub path: String,
    /// The key under which a repetition is the same request.
    pub key: Option<String>,
}

/// A write that a controller said is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was asked for.
    pub sent: Sent,
    /// Kind and name, or kind and id, of what it was about, where the answer tells.
    pub object: Option<String>,
    /// The operation that was begun.
    pub operation_id: Option<String>,
}

/// The writes of a client and its clones. Clones of the journal are the same journal.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    number: u64,
    under_way: BTreeMap<u64, Sent>,
    done: Vec<Done>,
    done_count: usize,
    /// A controller has been reached, so what is under way may have been sent.
    is_connected: bool,
    /// Sessions that are being renewed.
    renewals: usize,
}

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes that may have been carried out although nobody has said so yet.
    pub fn unanswered(&self) -> Vec<Sent> {
        let entries = self.entries();
        match entries.is_connected {
            true => entries.under_way.values().cloned().collect(),
            false => Vec::new(),
        }
    }

    /// Writes that were to be sent while no controller has been reached: nothing came of them.
    pub fn unsent(&self) -> Vec<Sent> {
        let entries = self.entries();
        match entries.is_connected {
            true => Vec::new(),
            false => entries.under_way.values().cloned().collect(),
        }
    }

    /// The first of the writes that are done.
    pub fn done(&self) -> Vec<Done> {
        self.entries().done.clone()
    }

    /// How many writes are done.
    pub fn done_count(&self) -> usize {
        self.entries().done_count
    }

    /// True while a session is being renewed: ended in the middle, it is lost.
    pub fn is_renewing(&self) -> bool {
        self.entries().renewals > 0
    }

    pub(crate) fn connected(&self) {
        self.entries().is_connected = true;
    }

    /// A call begins. What changes nothing is not noted.
    pub(crate) fn begin(&self, call: &Call) -> UnderWay {
        let mut entries = self.entries();
        entries.number += 1;
        let number = entries.number;
        if call.is_write() {
            let sent = Sent {
                method: call.method,
                path: call.path.clone(),
                key: call.key.clone(),
            };
            entries.under_way.insert(number, sent);
        }
        drop(entries);
        UnderWay {
            journal: self.clone(),
            number,
        }
    }

    pub(crate) fn renew(&self) -> Renewal {
        self.entries().renewals += 1;
        Renewal(self.clone())
    }
}

/// A call under way, until it is dropped.
pub(crate) struct UnderWay {
    journal: Journal,
    number: u64,
}

impl UnderWay {
    /// It was answered, and is done.
    pub(crate) fn done(self, answer: &Answer) {
        let mut entries = self.journal.entries();
        let Some(sent) = entries.under_way.remove(&self.number) else {
            return;
        };
        entries.done_count += 1;
        if entries.done.len() < DONE_MAX {
            entries.done.push(Done {
                sent,
                object: object_of(answer),
                operation_id: operation_of(answer),
            });
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.journal.entries().under_way.remove(&self.number);
    }
}

/// A renewal, until it is dropped.
pub(crate) struct Renewal(Journal);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.entries().renewals -= 1;
    }
}

fn object_of(answer: &Answer) -> Option<String> {
    let data = match answer.data.get("object") {
        Some(object) => object,
        None => &answer.data,
    };
    let text = |name: &str| data[name].as_str().filter(|text| !text.is_empty());
    let called = text("name").or_else(|| text("id"))?;
    Some(format!("{} {called}", text("kind")?))
}

fn operation_of(answer: &Answer) -> Option<String> {
    let id = answer.data.pointer("/operation/id")?.as_str()?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write() -> Call {
        let call = Call::new(Method::Post, &["vms"]).unwrap();
        call.idempotency_key("k-1")
    }

    #[test]
    fn what_is_under_way_is_unsent_until_somebody_is_reached() {
        let journal = Journal::default();
        let under_way = journal.begin(&write());
        assert!(journal.unanswered().is_empty());
        assert_eq!(journal.unsent().len(), 1);
        journal.connected();
        assert!(journal.unsent().is_empty());
        assert_eq!(journal.unanswered()[0].key.as_deref(), Some("k-1"));
        drop(under_way);
        assert!(journal.unanswered().is_empty() && journal.done().is_empty());
    }

    #[test]
    fn what_is_done_is_told_with_its_operation() {
        let journal = Journal::default();
        journal.connected();
        let data = json!({"object": {"kind": "virtual_machine", "name": "web-1"}, "operation": {"id": "o-1"}});
        let answer = Answer {
            data,
            ..Answer::default()
        };
        journal.begin(&write()).done(&answer);
        let done = &journal.done()[0];
        assert_eq!(done.object.as_deref(), Some("virtual_machine web-1"));
        assert_eq!(done.operation_id.as_deref(), Some("o-1"));
        assert!(journal.unanswered().is_empty());
    }

    #[test]
    fn questions_and_trials_are_no_writes_and_the_rest_is_counted() {
        let journal = Journal::default();
        journal.connected();
        let read = Call::new(Method::Get, &["vms"]).unwrap();
        let question = Call::new(Method::Post, &["auth", "can-i"]).unwrap();
        let trial = write().query("dry_run", "true");
        for call in [read, question.question(), trial] {
            let under_way = journal.begin(&call);
            assert!(journal.unanswered().is_empty(), "{call:?}");
            under_way.done(&Answer::default());
        }
        assert_eq!(journal.done_count(), 0);
        for _ in 0..=DONE_MAX {
            journal.begin(&write()).done(&Answer::default());
        }
        assert_eq!(journal.done().len(), DONE_MAX);
        assert_eq!(journal.done_count(), DONE_MAX + 1);
    }

    #[test]
    fn a_renewal_lasts_until_it_is_dropped() {
        let journal = Journal::default();
        let renewal = journal.renew();
        assert!(journal.is_renewing());
        drop(renewal);
        assert!(!journal.is_renewing());
    }
}
