//! A state that is driven by small made-up changesets, and the entries that it gives.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use virtflow_state::port::{AppliedEntry, Loaded, Outcome, Shadow as _};
use virtflow_state::{
    AccountDef, AccountKey, CLUSTER_VERSION, Changeset, Charge, Claim, Expect, Footprint, IndexKey,
    Limit, Object, Op, Record, State,
};
use virtflow_types::{Incarnation, ObjectId, RequestId, Timestamp};

use crate::options::{Integrity, ShadowOptions, Timing};
use crate::shadow::SqliteShadow;

/// One thing that a made-up request does.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Create { slot: u8, size: u16, on: Option<u8> },
    Update { slot: u8, size: u16, closed: bool },
    Status { slot: u8, size: u16 },
    Delete { slot: u8 },
    Usage { bytes: Vec<u8> },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let slot = 0_u8..24;
    prop_oneof![
        4 => (slot.clone(), 0_u16..2000, proptest::option::of(0_u8..24))
            .prop_map(|(slot, size, on)| Step::Create { slot, size, on }),
        3 => (slot.clone(), 0_u16..2000, any::<bool>())
            .prop_map(|(slot, size, closed)| Step::Update { slot, size, closed }),
        3 => (slot.clone(), 0_u16..6000).prop_map(|(slot, size)| Step::Status { slot, size }),
        2 => slot.prop_map(|slot| Step::Delete { slot }),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Step::Usage { bytes }),
    ]
}

/// Entries, each with its changesets, each with its steps.
pub(super) fn script(entries: usize) -> impl Strategy<Value = Vec<Vec<Vec<Step>>>> {
    let changeset = proptest::collection::vec(step(), 1..4);
    let entry = proptest::collection::vec(changeset, 0..4);
    proptest::collection::vec(entry, 1..entries)
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) state: State,
    pub(super) entries: Vec<Arc<AppliedEntry>>,
    requests: u128,
    /// Ids are never reused: how often a slot was made.
    lives: [u128; 24],
}

impl Machine {
    /// A state after its genesis, which is entry 1.
    pub(super) fn new() -> Self {
        let mut machine = Self {
            state: State::empty(),
            entries: Vec::new(),
            requests: 0,
            lives: [0; 24],
        };
        let mut genesis = machine.changeset();
        genesis.ops.push(Op::Genesis(
            Incarnation::from_u128(0xA11),
            ObjectId::from_u128(0xC1),
        ));
        machine.entry(vec![genesis]);
        machine
    }

    pub(super) fn changeset(&mut self) -> Changeset {
        self.requests += 1;
        let request = RequestId::from_u128(self.requests);
        let now = Timestamp::from_ms(1_000_000 + u64::try_from(self.requests).unwrap() * 10);
        Changeset::new(request, now, format!("user-{}", self.requests % 3))
    }

    /// Applies one entry and keeps it.
    pub(super) fn entry(&mut self, changesets: Vec<Changeset>) -> Arc<AppliedEntry> {
        let index = self.state.index() + 1;
        let (mut outcomes, mut changes, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for changeset in changesets {
            let result = self.state.apply(&changeset);
            outcomes.push(Outcome {
                request_id: changeset.request_id,
                now: changeset.now,
                actor: changeset.actor.clone(),
                changes: result.as_ref().map_or(0, |applied| applied.changes.len()),
                result: result.as_ref().map(|_| ()).map_err(Clone::clone),
            });
            if let Ok(applied) = result {
                changes.extend(applied.changes);
                records.extend(applied.records);
            }
        }
        self.state.set_index(index);
        let entry = Arc::new(AppliedEntry {
            index,
            term: 1 + index / 10,
            raft_meta: Bytes::from(format!("raft meta at {index}")),
            outcomes,
            changes,
            records,
            image: self.state.clone(),
        });
        self.entries.push(entry.clone());
        entry
    }

    pub(super) fn id(&self, slot: u8) -> ObjectId {
        ObjectId::from_u128(u128::from(slot) << 64 | self.lives[usize::from(slot)])
    }

    pub(super) fn steps(&mut self, steps: &[Step]) -> Changeset {
        let mut changeset = self.changeset();
        for step in steps {
            self.add(&mut changeset, step);
        }
        changeset
    }

    fn add(&mut self, changeset: &mut Changeset, step: &Step) {
        let (verb, slot) = match step {
            Step::Create { slot, size, on } => {
                if self.state.get(self.id(*slot)).is_none() {
                    self.lives[usize::from(*slot)] += 1;
                }
                let object = thing(self.id(*slot), *slot, *size, on.map(|on| self.id(on)));
                changeset.ops.push(Op::Put(Box::new(object)));
                ("create", *slot)
            }
            Step::Update { slot, size, closed } => {
                let Some(before) = self.state.get(self.id(*slot)) else {
                    return;
                };
                let mut object = before.next();
                object.generation += 1;
                object.spec = text(*size).into();
                object.closed = *closed;
                changeset.ops.push(Op::Put(Box::new(object)));
                ("update", *slot)
            }
            Step::Status { slot, size } => {
                let Some(before) = self.state.get(self.id(*slot)) else {
                    return;
                };
                let mut object = before.next();
                object.status = text(*size).into();
                changeset.ops.push(Op::Put(Box::new(object)));
                ("status", *slot)
            }
            Step::Delete { slot } => {
                let id = self.id(*slot);
                let version = self.state.get(id).map_or(1, |object| object.version);
                changeset.ops.push(Op::Delete(id, version));
                ("delete", *slot)
            }
            Step::Usage { bytes } => {
                let count = self.state.stream("usage").count;
                changeset
                    .ops
                    .push(Op::Expect(Expect::StreamCount("usage".into(), count)));
                changeset.ops.push(Op::Record(Record {
                    stream: "usage".into(),
                    body: bytes.clone().into(),
                }));
                return;
            }
        };
        let body = format!(
            r#"{{"actor":"{}","object":"{}","tenant":"t{}","verb":"{verb}"}}"#,
            changeset.actor,
            self.id(slot),
            slot % 2
        );
        changeset.ops.push(Op::Record(Record {
            stream: "audit".into(),
            body: body.into(),
        }));
    }

    pub(super) fn play(&mut self, script: &[Vec<Vec<Step>>]) {
        for entry in script {
            for_entry(self, entry);
        }
    }

    /// An entry that raises the cluster version.
    pub(super) fn raise_to(&mut self, version: u32) {
        let mut changeset = self.changeset();
        changeset.ops.push(Op::ClusterVersion(version));
        self.entry(vec![changeset]);
    }

    /// Some fifty objects' worth of entries, for tests that need no particular ones.
    pub(super) fn fill(&mut self, entries: u64) {
        for n in 0..entries {
            let slot = u8::try_from(n % 24).unwrap();
            let size = u16::try_from(n * 37 % 1500).unwrap();
            let step = match n % 5 {
                0 | 1 => Step::Create {
                    slot,
                    size,
                    on: None,
                },
                2 => Step::Status {
                    slot: (slot + 22) % 24,
                    size,
                },
                3 => Step::Update {
                    slot: (slot + 21) % 24,
                    size,
                    closed: n % 2 == 0,
                },
                _ => Step::Delete {
                    slot: (slot + 20) % 24,
                },
            };
            let changeset = self.steps(&[step]);
            self.entry(vec![changeset]);
        }
    }

    /// So many entries, each with one more object.
    pub(super) fn grow(&mut self, entries: u64) {
        for _ in 0..entries {
            let n = self.state.index();
            let mut changeset = self.changeset();
            let id = ObjectId::from_u128(u128::from(n) << 64 | 0x6_0000);
            // Rows that share a page, and rows that reach over several.
            let size = if n.is_multiple_of(3) {
                n * 37 % 300
            } else {
                4000 + n * 37 % 5000
            };
            let size = u16::try_from(size).unwrap();
            let mut object = thing(id, 200, size, None);
            object.name = format!("grown-{n}").into();
            object.footprint.claims = vec![Claim::point("names", object.name.as_bytes())].into();
            changeset.ops.push(Op::Put(Box::new(object)));
            let body = format!(r#"{{"actor":"{}","object":"{id}"}}"#, changeset.actor);
            changeset.ops.push(Op::Record(Record {
                stream: "audit".into(),
                body: body.into(),
            }));
            let entry = self.entry(vec![changeset]);
            assert_eq!(entry.outcomes[0].result, Ok(()));
        }
    }

    pub(super) fn index(&self) -> u64 {
        self.state.index()
    }

    /// Hands over the entries above `after`, with the log flushed to their end.
    pub(super) fn submit_after(&self, shadow: &SqliteShadow, after: u64) {
        for entry in self.entries.iter().filter(|entry| entry.index > after) {
            shadow.submit(entry.clone());
        }
        shadow.log_flushed(self.index());
    }
}

fn for_entry(machine: &mut Machine, entry: &[Vec<Step>]) {
    // Decided one after the other on the state so far, as a sequencer does.
    let mut scratch = machine.state.clone();
    let mut changesets = Vec::new();
    for steps in entry {
        let kept = std::mem::replace(&mut machine.state, scratch);
        let changeset = machine.steps(steps);
        scratch = std::mem::replace(&mut machine.state, kept);
        // Refusals are results too; they stay in the entry.
        let _ = scratch.apply(&changeset);
        changesets.push(changeset);
    }
    machine.entry(changesets);
}

fn text(size: u16) -> String {
    format!(
        r#"{{"memory_mib":{size},"note":"{}","nested":{{"cpus":{}}}}}"#,
        "ä\\\"x".repeat(usize::from(size) / 8),
        size % 7
    )
}

fn thing(id: ObjectId, slot: u8, size: u16, on: Option<ObjectId>) -> Object {
    let kind = if slot < 8 { "virtual_machine" } else { "disk" };
    let mut object = Object::new(kind, id, format!("thing-{slot}"));
    object.spec = text(size).into();
    object.tenant = slot
        .is_multiple_of(2)
        .then(|| ObjectId::from_u128(0x7E0 + u128::from(slot)));
    object.parent = on;
    let mut charges = vec![Charge {
        account: AccountKey::new(id, "memory_mib"),
        amount: u64::from(size),
    }];
    if let Some(on) = on.filter(|on| *on != id) {
        charges.push(Charge {
            account: AccountKey::new(on, "memory_mib"),
            amount: 1,
        });
    }
    object.footprint = Footprint {
        claims: vec![Claim::point("names", object.name.as_bytes())].into(),
        links: on.filter(|on| *on != id).into_iter().collect(),
        supplies: Box::default(),
        charges: charges.into(),
        accounts: vec![AccountDef {
            dimension: "memory_mib".into(),
            parent: None,
            limit: Limit::Fixed(100_000),
        }]
        .into(),
        keys: vec![IndexKey {
            name: "thing.slot".into(),
            value: format!("{slot}").into(),
        }]
        .into(),
    };
    object
}

/// Quick to write, so that tests need not wait; every load is examined to the last index.
pub(super) fn options() -> ShadowOptions {
    ShadowOptions {
        timing: Timing {
            linger: std::time::Duration::from_millis(1),
            durable_every: std::time::Duration::from_millis(20),
        },
        integrity: Integrity::Full,
        ..ShadowOptions::default()
    }
}

pub(super) async fn open(dir: &Path) -> (Arc<SqliteShadow>, Loaded) {
    SqliteShadow::open(dir, options()).await.unwrap()
}

/// Opened by a controller that supports the next cluster version, too.
pub(super) async fn open_newer(dir: &Path) -> (Arc<SqliteShadow>, Loaded) {
    let newer = ShadowOptions {
        supports: CLUSTER_VERSION + 1,
        ..options()
    };
    SqliteShadow::open(dir, newer).await.unwrap()
}

/// Same rows, same heads, same derived indexes.
pub(super) fn assert_same(loaded: &Loaded, state: &State) {
    assert_eq!(loaded.state.index(), state.index());
    assert_eq!(loaded.state.digest(), state.digest());
    assert!(loaded.state.objects().eq(state.objects()));
    assert!(loaded.state.streams().eq(state.streams()));
    assert!(loaded.state.accounts().eq(state.accounts()));
    assert_eq!(virtflow_state::verify(&loaded.state), vec![]);
}
