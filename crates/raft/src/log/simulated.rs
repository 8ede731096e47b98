//! A log on a simulated disk: what was not flushed when the power went is lost, except that the disk may
//! have written a beginning of it on its own account.
//!
//! The disk outlives the node and belongs to the simulation, which decides how long a flush takes and
//! what fails. Damaged bytes are not simulated: a log that checks its frames turns damage into a shorter
//! log or into a refusal to open, and both are tested on the real one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::storage::{LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{Notify, oneshot, watch};
use virtflow_types::chance;

use super::LogGauge;
use crate::types::{Entry, IoFlushed, LogId, Payload, Types, Vote};

/// What a disk holds.
#[derive(Debug, Default, Clone)]
struct Content {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl Content {
    fn last(&self) -> Option<LogId> {
        let last = self.entries.last_key_value().map(|(_, entry)| entry.log_id);
        last.or(self.purged)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Vote(vote) => self.vote = Some(*vote),
            Change::Committed(committed) => self.committed = *committed,
            Change::Append(entries) => {
                let entries = entries.iter().map(|e| (e.log_id.index, e.clone()));
                self.entries.extend(entries);
            }
            Change::TruncateFrom(index) => drop(self.entries.split_off(index)),
            Change::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(*upto));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Vote(Vote),
    Committed(Option<LogId>),
    Append(Vec<Entry>),
    TruncateFrom(u64),
    Purge(LogId),
}

/// How a disk behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskBehaviour {
    /// A flush takes at least that long.
    pub flush_min: Duration,
    /// And at most that long.
    pub flush_max: Duration,
    /// What becomes of flushes.
    pub fault: Option<DiskFault>,
}

/// What a disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing more can be written.
    Full,
    /// A flush fails once, and nobody knows what of it is there.
    FlushFails,
}

#[derive(Debug)]
struct Platter {
    flushed: Content,
    /// Written and not flushed, in order.
    unflushed: VecDeque<Change>,
    behaviour: DiskBehaviour,
}

/// A disk, apart from the process that writes it. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<Platter>>);

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Platter {
            flushed: Content::default(),
            unflushed: VecDeque::new(),
            behaviour: DiskBehaviour {
                flush_min: Duration::from_millis(1),
                flush_max: Duration::from_millis(3),
                fault: None,
            },
        })))
    }
}

impl SimulatedDisk {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut DiskBehaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// The power goes: of what was not flushed only some beginning is there.
    pub fn power_cut(&self) {
        let mut platter = self.lock();
        let written = platter.unflushed.len() as u64;
        let survive = chance::number() % (written + 1);
        for _ in 0..survive {
            if let Some(change) = platter.unflushed.pop_front() {
                platter.flushed.change(&change);
            }
        }
        platter.unflushed.clear();
    }

    /// Nothing is on it any more.
    pub fn wipe(&self) {
        let mut platter = self.lock();
        platter.flushed = Content::default();
        platter.unflushed.clear();
    }

    /// The process died and the machine did not: all that it wrote is there.
    pub fn process_died(&self) {
        let mut platter = self.lock();
        while let Some(change) = platter.unflushed.pop_front() {
            platter.flushed.change(&change);
        }
    }

    /// The log entries that a restart after a power cut could count on: index, term and, where it is a
    /// batch of changesets, its bytes.
    pub fn flushed_entries(&self) -> Vec<(u64, u64, Option<bytes::Bytes>)> {
        let platter = self.lock();
        let entries = platter.flushed.entries.values();
        entries
            .map(|entry| {
                let bytes = match &entry.payload {
                    Payload::Normal(bytes) => Some(bytes.0.clone()),
                    Payload::Blank | Payload::Membership(_) => None,
                };
                (entry.log_id.index, entry.log_id.leader_id.term, bytes)
            })
            .collect()
    }
}

enum Waiter {
    Library(IoFlushed),
    Caller(oneshot::Sender<io::Result<()>>),
    Nobody,
}

impl Waiter {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Library(flushed) => flushed.io_completed(result),
            // The caller may have given up waiting.
            Self::Caller(sender) => drop(sender.send(result)),
            Self::Nobody => {}
        }
    }
}

struct Shared {
    disk: SimulatedDisk,
    /// As the process sees it: flushed and not.
    content: Mutex<Content>,
    waiting: Mutex<Vec<Waiter>>,
    work: Notify,
    flushed: watch::Sender<u64>,
}

impl Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedLog").finish_non_exhaustive()
    }
}

/// The log. A clone is another handle on it.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedLog(Arc<Shared>);

impl SimulatedLog {
    /// On what the disk holds; begins to flush what comes.
    pub(crate) fn open(disk: SimulatedDisk) -> Self {
        let content = {
            let mut platter = disk.lock();
            // What a predecessor wrote and the machine kept counts once this process has flushed it.
            while let Some(change) = platter.unflushed.pop_front() {
                platter.flushed.change(&change);
            }
            platter.flushed.clone()
        };
        let flushed = content.last().map_or(0, |id| id.index);
        let this = Self(Arc::new(Shared {
            disk,
            content: Mutex::new(content),
            waiting: Mutex::default(),
            work: Notify::new(),
            flushed: watch::Sender::new(flushed),
        }));
        let weak = Arc::downgrade(&this.0);
        tokio::spawn(async move {
            while let Some(shared) = weak.upgrade() {
                let idle = shared
                    .waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .is_empty();
                if idle {
                    let work = shared.work.notified();
                    // A log that nobody holds any more is let go within this.
                    drop(tokio::time::timeout(Duration::from_secs(1), work).await);
                } else {
                    flush(&shared).await;
                }
            }
        });
        this
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: Change, waiter: Waiter) {
        self.content().change(&change);
        self.0.disk.lock().unflushed.push_back(change);
        if matches!(waiter, Waiter::Nobody) {
            return;
        }
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(waiter);
        self.0.work.notify_one();
    }

    async fn write_and_wait(&self, change: Change) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.write(change, Waiter::Caller(sender));
        receiver
            .await
            .map_err(|_| io::Error::other("the log was closed"))?
    }

    fn fall_to(&self, index: u64) {
        self.0.flushed.send_if_modified(|flushed| {
            let falls = *flushed > index;
            *flushed = (*flushed).min(index);
            falls
        });
    }
}

/// One flush: all that was written when it began is on the disk when it ends.
async fn flush(shared: &Shared) {
    let (count, last, takes, fault) = {
        let mut platter = shared.disk.lock();
        let content = shared
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = content.last().map_or(0, |id| id.index);
        let behaviour = &mut platter.behaviour;
        let spread = behaviour.flush_max.saturating_sub(behaviour.flush_min);
        let takes = behaviour.flush_min + spread.mul_f64(chance::fraction());
        let fault = behaviour.fault;
        if fault == Some(DiskFault::FlushFails) {
            behaviour.fault = None;
        }
        (platter.unflushed.len(), last, takes, fault)
    };
    let waiting: Vec<Waiter> = std::mem::take(
        &mut *shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    tokio::time::sleep(takes).await;
    if let Some(fault) = fault {
        let (kind, text) = match fault {
            DiskFault::Full => (io::ErrorKind::StorageFull, "no space left on device"),
            DiskFault::FlushFails => (io::ErrorKind::Other, "input/output error"),
        };
        for waiter in waiting {
            waiter.tell(Err(io::Error::new(kind, text)));
        }
        return;
    }
    let held = {
        let mut platter = shared.disk.lock();
        for _ in 0..count {
            if let Some(change) = platter.unflushed.pop_front() {
                platter.flushed.change(&change);
            }
        }
        platter.flushed.last().map_or(0, |id| id.index)
    };
    // A tail that was cut off meanwhile is not there, whatever this flush wrote.
    let now = shared
        .content
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .last()
        .map_or(0, |id| id.index);
    let reached = last.min(held).min(now);
    shared.flushed.send_if_modified(|flushed| {
        let grows = reached > *flushed;
        *flushed = (*flushed).max(reached);
        grows
    });
    for waiter in waiting {
        waiter.tell(Ok(()));
    }
}

impl LogGauge for SimulatedLog {
    fn flushed(&self) -> watch::Receiver<u64> {
        self.0.flushed.subscribe()
    }
    fn bytes(&self) -> u64 {
        0
    }
}

impl RaftLogReader<Types> for SimulatedLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let content = self.content();
        let within = content
            .entries
            .range((range.start_bound().cloned(), range.end_bound().cloned()));
        Ok(within.map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.content().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = self.try_get_log_entries(start..end).await?;
        super::keep_if_from(start, &mut entries);
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for SimulatedLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let content = self.content();
        Ok(LogState {
            last_purged_log_id: content.purged,
            last_log_id: content.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.write_and_wait(Change::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // A hint for the next start; the real log doesn't flush it either.
        self.write(Change::Committed(committed), Waiter::Nobody);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.content().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().collect();
        self.write(Change::Append(entries), Waiter::Library(callback));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let next = last_log_id.map_or(0, |id| id.index + 1);
        self.fall_to(next.saturating_sub(1));
        self.write_and_wait(Change::TruncateFrom(next)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.write_and_wait(Change::Purge(log_id)).await
    }
}
