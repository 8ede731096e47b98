//! What must have been known when, and what could be: the two ends between which the index of an answer
//! must lie.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::effects::Requests;
use super::log::Log;
use super::operation::Operation;

/// The highest index answered so far, and in which operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) index: u64,
    pub(crate) by: Option<usize>,
}

impl Floor {
    fn raise(&mut self, index: u64, by: usize) {
        if index > self.index {
            *self = Self {
                index,
                by: Some(by),
            };
        }
    }
}

/// The floors under an operation when it is called.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Below {
    /// What anyone had been answered.
    pub(crate) anyone: Floor,
    /// What its client had read.
    pub(crate) own_reads: Floor,
    /// What its client had written.
    pub(crate) own_writes: Floor,
}

impl Below {
    /// The highest of them.
    pub(crate) fn highest(&self) -> Floor {
        let Self {
            anyone,
            own_reads,
            own_writes,
        } = *self;
        let floors = [anyone, own_reads, own_writes];
        let highest = floors.into_iter().rev().max_by_key(|floor| floor.index);
        highest.unwrap_or_default()
    }
}

/// An answer on its way: when it arrives, with what index, to which operation.
type Pending = BinaryHeap<Reverse<(u64, u64, usize)>>;

#[derive(Debug, Default)]
struct Client {
    pending: Pending,
    reads: Floor,
    writes: Floor,
}

/// The floors while operations are walked in the order of their calls.
#[derive(Debug)]
pub(crate) struct Floors<'a> {
    operations: &'a [Operation],
    start: Floor,
    pending: Pending,
    anyone: Floor,
    clients: BTreeMap<&'a str, Client>,
}

impl<'a> Floors<'a> {
    pub(crate) fn new(operations: &'a [Operation], start: u64) -> Self {
        let start = Floor {
            index: start,
            by: None,
        };
        Self {
            operations,
            start,
            pending: Pending::new(),
            anyone: start,
            clients: BTreeMap::new(),
        }
    }

    /// The floors under the next operation.
    pub(crate) fn call(&mut self, number: usize) -> Below {
        let operation = &self.operations[number];
        // At one and the same instant nobody knows who came first.
        while let Some(&Reverse((returned, index, by))) = self.pending.peek() {
            if returned >= operation.called {
                break;
            }
            self.pending.pop();
            self.anyone.raise(index, by);
        }
        let start = self.start;
        let client = self
            .clients
            .entry(&operation.client)
            .or_insert_with(|| Client {
                pending: Pending::new(),
                reads: start,
                writes: start,
            });
        // One client knows: what it had was answered before it called again.
        while let Some(&Reverse((returned, index, by))) = client.pending.peek() {
            if returned > operation.called {
                break;
            }
            client.pending.pop();
            match self.operations[by].call.effect() {
                Some(_) => client.writes.raise(index, by),
                None => client.reads.raise(index, by),
            }
        }
        Below {
            anyone: self.anyone,
            own_reads: client.reads,
            own_writes: client.writes,
        }
    }

    /// Notes the least index that an operation's answer rests on.
    pub(crate) fn answered(&mut self, number: usize, index: u64) {
        let operation = &self.operations[number];
        let pending = Reverse((operation.returned, index, number));
        self.pending.push(pending);
        if let Some(client) = self.clients.get_mut(operation.client.as_str()) {
            client.pending.push(pending);
        }
    }
}

/// Until when which index cannot have been known.
#[derive(Debug)]
pub(crate) struct Ceilings {
    after: u64,
    /// For each entry when it was committed, as the log says.
    committed: Vec<u64>,
    /// The same, and not before any of its requests was made.
    asked: Vec<u64>,
}

impl Ceilings {
    /// No entry was committed before the entry before it.
    pub(crate) fn new(operations: &[Operation], requests: &Requests<'_>, log: &Log) -> Self {
        let (mut committed, mut asked) = (Vec::new(), Vec::new());
        let (mut last_committed, mut last_asked) = (0, 0);
        for entry in &log.entries {
            let causes = entry
                .steps
                .iter()
                .filter_map(|step| requests.get(&step.request)?.cause(operations));
            let called = causes.map(|cause| operations[cause].called).max();
            last_committed = last_committed.max(entry.committed_at.unwrap_or(0));
            last_asked = last_asked.max(last_committed).max(called.unwrap_or(0));
            committed.push(last_committed);
            asked.push(last_asked);
        }
        Self {
            after: log.after,
            committed,
            asked,
        }
    }

    /// The highest index that was committed then, as the log says.
    pub(crate) fn committed(&self, instant: u64) -> u64 {
        self.highest(&self.committed, instant)
    }

    /// The highest index that can have been known then.
    pub(crate) fn known(&self, instant: u64) -> u64 {
        self.highest(&self.asked, instant)
    }

    fn highest(&self, earliest: &[u64], instant: u64) -> u64 {
        self.after + earliest.partition_point(|earliest| *earliest <= instant) as u64
    }
}
