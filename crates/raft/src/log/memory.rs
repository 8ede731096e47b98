//! A log that lives in memory: its "disk" outlives it, and what was not flushed is lost with it. For
//! tests here, and what a simulation will run on.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::watch;

use super::LogGauge;
use crate::types::{Entry, IoFlushed, LogId, Types, Vote};

/// What a log holds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Content {
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
}

/// The log. A clone is another handle on it.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLog {
    content: Arc<Mutex<Content>>,
    disk: Arc<Mutex<Content>>,
    flushed: watch::Sender<u64>,
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryLog {
    /// On what a disk holds.
    pub(crate) fn open(disk: Arc<Mutex<Content>>) -> Self {
        let content = lock(&disk).clone();
        let flushed = content.last().map_or(0, |id| id.index);
        Self {
            content: Arc::new(Mutex::new(content)),
            disk,
            flushed: watch::Sender::new(flushed),
        }
    }

    fn flush(&self) {
        let content = lock(&self.content).clone();
        self.flushed
            .send_replace(content.last().map_or(0, |id| id.index));
        *lock(&self.disk) = content;
    }
}

impl LogGauge for MemoryLog {
    fn flushed(&self) -> watch::Receiver<u64> {
        self.flushed.subscribe()
    }
    fn bytes(&self) -> u64 {
        0
    }
}

impl RaftLogReader<Types> for MemoryLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let content = lock(&self.content);
        let within = content
            .entries
            .values()
            .filter(|entry| range.contains(&entry.log_id.index));
        Ok(within.cloned().collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(lock(&self.content).vote)
    }
}

impl RaftLogStorage<Types> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let content = lock(&self.content);
        Ok(LogState {
            last_purged_log_id: content.purged,
            last_log_id: content.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        lock(&self.content).vote = Some(*vote);
        self.flush();
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        lock(&self.content).committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(lock(&self.content).committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
        lock(&self.content).entries.extend(entries);
        self.flush();
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let next = last_log_id.map_or(0, |id| id.index + 1);
        lock(&self.content).entries.split_off(&next);
        self.flush();
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        {
            let mut content = lock(&self.content);
            content.entries = content.entries.split_off(&(log_id.index + 1));
            content.purged = content.purged.max(Some(log_id));
        }
        self.flush();
        Ok(())
    }
}
