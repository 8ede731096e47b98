//! The log on disk.
//!
//! Votes and entries go through one queue of the underlying log, so none overtakes another; an
//! acknowledgement follows the flush that covers it. `commit` marks are written but not waited for:
//! after a power cut they may be older, and the group tells them again.

mod flush;
#[cfg(test)]
mod fuzz;
mod record;
#[cfg(any(test, virtflow_sim))]
pub(crate) mod simulated;
mod triage;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt::{self, Debug};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::storage::{LogState, RaftLogReader, RaftLogStorage};
use prost::Message;
use raft_log::RaftLog;
use raft_log::api::raft_log_writer::RaftLogWriter;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use virtflow_types::{ObjectId, RequestId};

use crate::config::RaftLimits;
use crate::measure::Measures;
use crate::phase;
use crate::types::{self, Entry, IoFlushed, LogId, Types};
use crate::wire::EntryBody;
use flush::{FlushAsk, FlushState, Flushed, Waiter};
use record::{FRAME_HEADER_BYTES, Frame, LogTypes, VoteRecord};

/// Records of one file of the log.
const CHUNK_RECORDS_MAX: usize = 512 * 1024;
/// Bytes read at once when the log is opened.
const READ_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Bytes waiting to be written, past which appends wait.
const FLUSH_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries kept in memory.
const CACHE_ENTRIES_MAX: usize = 50_000;
/// Bytes of entries sent to a follower in one message. The peer listener's limit lies above.
pub(crate) const APPEND_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Whose log it is. Written once, when the store is made; a log under another name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster_id: ObjectId,
    pub(crate) node_id: u64,
    pub(crate) store_id: ObjectId,
}

/// How the log is kept.
#[derive(Debug, Clone)]
pub(crate) struct LogOptions {
    pub(crate) cache_bytes: usize,
    pub(crate) chunk_bytes: usize,
    pub(crate) measures: Arc<Measures>,
    /// Whether to ask the disk to flush. Only the power-cut test says no, to see itself fail.
    pub(crate) flush: bool,
}

impl LogOptions {
    pub(crate) fn new(limits: &RaftLimits, measures: Arc<Measures>) -> Self {
        Self {
            cache_bytes: limits.log_cache_bytes,
            chunk_bytes: limits.log_file_bytes,
            measures,
            flush: true,
        }
    }
}

/// The log. A clone is another handle on it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<Mutex<RaftLog<LogTypes>>>,
    flush: Arc<FlushState>,
    dir: Arc<PathBuf>,
    sync: bool,
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

fn id_of((term, index): (u64, u64)) -> LogId {
    types::log_id(term, index)
}

fn end_of(segment: raft_log::Segment) -> u64 {
    segment.offset + segment.size
}

fn key_of(id: &LogId) -> (u64, u64) {
    (id.leader_id.term, id.index)
}

impl LogStore {
    /// Makes an empty log that belongs to `identity`. Refuses a folder that holds one.
    pub(crate) async fn create(
        dir: &Path,
        identity: &Identity,
        options: &LogOptions,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let this = Self::open_unchecked(dir, options)?;
        if let Some(found) = this.identity()? {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!(
                    "{} already holds the log of node {}",
                    dir.display(),
                    found.node_id
                ),
            ));
        }
        let text = serde_json::to_string(identity)?;
        let end = end_of(this.lock().save_user_data(Some(text))?);
        this.flush_and_wait(end).await?;
        Ok(this)
    }

    /// Opens the log of `identity`.
    pub(crate) fn open(dir: &Path, identity: &Identity, options: &LogOptions) -> io::Result<Self> {
        let missing = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "{} holds no log; a store that lost its log must not come back under its old id: remove \
                     this controller from the cluster and add it anew",
                    dir.display()
                ),
            )
        };
        if !dir.is_dir() {
            return Err(missing());
        }
        let this = Self::open_unchecked(dir, options)?;
        let found = this.identity()?.ok_or_else(missing)?;
        if found != *identity {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} holds the log of node {} (store {}, cluster {}), not of node {} (store {}, cluster {})",
                    dir.display(),
                    found.node_id,
                    found.store_id,
                    found.cluster_id,
                    identity.node_id,
                    identity.store_id,
                    identity.cluster_id,
                ),
            ));
        }
        Ok(this)
    }

    fn open_unchecked(dir: &Path, options: &LogOptions) -> io::Result<Self> {
        triage::triage(dir)?;
        let mut wal = raft_log::chunked_wal::Config::new(dir.display());
        wal.read_buffer_size = Some(READ_BUFFER_BYTES);
        wal.chunk_max_records = Some(CHUNK_RECORDS_MAX);
        wal.chunk_max_size = Some(options.chunk_bytes);
        wal.truncate_incomplete_record = Some(false);
        wal.flush_batch_wait = Some(Duration::ZERO);
        wal.flush_queue_max_bytes = Some(FLUSH_QUEUE_BYTES_MAX);
        let config = raft_log::Config {
            wal,
            log_cache_max_items: Some(CACHE_ENTRIES_MAX),
            log_cache_capacity: Some(options.cache_bytes),
        };
        let mut log = RaftLog::<LogTypes>::open(Arc::new(config)).map_err(|error| {
            // Held by another process, no room, no right: the system's errors and the lock's are no
            // damage.
            if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::WouldBlock {
                return error;
            }
            let dir = dir.display();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the log in {dir} is damaged: {error}; {}", triage::WAY_OUT),
            )
        })?;
        // What was read may lie in the page cache of a machine whose process died: flush before it
        // counts as flushed.
        let last = log.log_state().last().map_or(0, |id| id.1);
        let state = log.log_state().user_data.clone();
        let end = end_of(log.save_user_data(state)?);
        let flush = Arc::new(FlushState::open(dir, options.measures.clone())?);
        let this = Self {
            log: Arc::new(Mutex::new(log)),
            flush,
            dir: Arc::new(dir.to_path_buf()),
            sync: options.flush,
        };
        this.flush_blocking(end, last)?;
        // The names of the files, and the name of the folder itself.
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        for folder in std::iter::once(dir).chain(above) {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, RaftLog<LogTypes>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> io::Result<Option<Identity>> {
        let text = self.lock().log_state().user_data.clone();
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// The vote, if one was ever given.
    pub(crate) fn vote(&self) -> Option<types::Vote> {
        let vote = self.lock().log_state().vote().copied()?;
        let wire = crate::wire::Vote {
            term: vote.term,
            node: vote.node,
            committed: vote.committed != 0,
        };
        Some(wire.into())
    }

    /// The last entry, or what was purged last if there is none.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.lock().log_state().last().copied().map(id_of)
    }

    fn ask(&self, log: &RaftLog<LogTypes>, end_offset: u64) -> FlushAsk {
        FlushAsk {
            generation: self.flush.generation(),
            end_offset,
            index: log.log_state().last().map_or(0, |id| id.1),
            asked_at: Instant::now(),
            synced: self.sync,
        }
    }

    fn start_flush(
        &self,
        log: &mut RaftLog<LogTypes>,
        end_offset: u64,
        waiter: Waiter,
    ) -> io::Result<()> {
        self.start_flush_of(log, end_offset, waiter, Vec::new())
    }

    fn start_flush_of(
        &self,
        log: &mut RaftLog<LogTypes>,
        end_offset: u64,
        waiter: Waiter,
        requests: Vec<RequestId>,
    ) -> io::Result<()> {
        let flushed = Flushed {
            state: self.flush.clone(),
            ask: self.ask(log, end_offset),
            waiter,
            requests,
        };
        log.flush(self.sync, Some(flushed))
    }

    fn flush_blocking(&self, end_offset: u64, last: u64) -> io::Result<()> {
        let (sender, _receiver) = oneshot::channel();
        let mut log = self.lock();
        self.start_flush(&mut log, end_offset, Waiter::Caller(sender))?;
        log.wait_worker_idle()?;
        drop(log);
        self.flush.skip_to(last);
        Ok(())
    }

    async fn flush_and_wait(&self, end_offset: u64) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.start_flush(&mut self.lock(), end_offset, Waiter::Caller(sender))?;
        receiver
            .await
            .map_err(|_| io::Error::other("the log's flushing thread has stopped"))?
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if from >= to {
            return Ok(entries);
        }
        let log = self.lock();
        let mut bytes = 0;
        for item in log.read(from, to) {
            let (key, frame) = item?;
            bytes += FRAME_HEADER_BYTES + frame.body.len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            let body = EntryBody::decode(frame.body).map_err(io::Error::other)?;
            entries.push(Entry {
                log_id: id_of(key),
                payload: body.into_payload().map_err(io::Error::other)?,
            });
        }
        Ok(entries)
    }

    /// Appends outside of the consensus library: how an offline recovery speaks. Waits for the flush.
    pub(crate) async fn append_offline(&self, entries: Vec<Entry>) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.append_with(entries, Waiter::Caller(sender))?;
        receiver
            .await
            .map_err(|_| io::Error::other("the log's flushing thread has stopped"))?
    }

    fn append_with(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        waiter: Waiter,
    ) -> io::Result<()> {
        let flushed_offset = self.flush.offset();
        let mut log = self.lock();
        let mut end = 0;
        let mut requests = Vec::new();
        for entry in entries {
            if let types::Payload::Normal(bytes) = &entry.payload {
                requests.extend(phase::requests_in(&bytes.0));
            }
            let body = EntryBody::of(&entry.payload).map_err(io::Error::other)?;
            let frame = Frame {
                flushed_offset,
                body: body.encode_to_vec().into(),
            };
            end = end_of(log.append([(key_of(&entry.log_id), frame)])?);
        }
        self.start_flush_of(&mut log, end, waiter, requests)
    }

    async fn cut_after(&self, keep: Option<LogId>) -> io::Result<()> {
        let next = keep.map_or(0, |id| id.index + 1);
        let end = {
            let mut log = self.lock();
            let last = log.log_state().last().map_or(0, |id| id.1 + 1);
            if next >= last {
                return Ok(());
            }
            self.flush.cut_to(next.saturating_sub(1));
            end_of(log.truncate(next)?)
        };
        self.flush_and_wait(end).await
    }

    async fn purge_to(&self, upto: LogId) -> io::Result<()> {
        let end = end_of(self.lock().purge(key_of(&upto))?);
        self.flush_and_wait(end).await?;
        self.flush.skip_to(upto.index);
        Ok(())
    }
}

/// What a node wants to know of its log beside what the consensus library does with it.
pub(crate) trait LogGauge: Debug + Send + Sync {
    /// The index up to which the log is flushed. May fall when a tail is cut off.
    fn flushed(&self) -> watch::Receiver<u64>;
    /// Size of the log's files in bytes.
    fn bytes(&self) -> u64;
}

impl LogGauge for LogStore {
    fn flushed(&self) -> watch::Receiver<u64> {
        self.flush.watch()
    }
    fn bytes(&self) -> u64 {
        self.lock().on_disk_size()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(from) => from + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(to) => to + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<types::Vote>> {
        Ok(self.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = self.read(start, end, APPEND_BYTES_MAX)?;
        keep_if_from(start, &mut entries);
        Ok(entries)
    }
}

/// What is to be sent after `start - 1` begins with `start`, or is nothing. A purge may come between the
/// decision to send and the reading; what then is left of the range must not be sent, for a receiver would
/// take it to follow what it has. The library takes nothing as a sign of life and looks again.
fn keep_if_from(start: u64, entries: &mut Vec<Entry>) {
    if entries
        .first()
        .is_some_and(|first| first.log_id.index != start)
    {
        tracing::warn!(
            start,
            "entries to be sent were purged meanwhile; nothing is sent"
        );
        entries.clear();
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = self.lock();
        Ok(LogState {
            last_purged_log_id: log.log_state().purged().copied().map(id_of),
            last_log_id: log.log_state().last().copied().map(id_of),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &types::Vote) -> io::Result<()> {
        let record = VoteRecord {
            term: vote.leader_id.term,
            committed: u64::from(vote.committed),
            node: vote.leader_id.voted_for,
        };
        let end = end_of(self.lock().save_vote(record)?);
        self.flush_and_wait(end).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else {
            return Ok(());
        };
        let mut log = self.lock();
        let key = key_of(&committed);
        let state = log.log_state();
        // While a snapshot is being installed the group's commit runs ahead of this log; the mark
        // only spares work at the next start, so it is left out then.
        if Some(&key) > state.last() || Some(&key) <= state.committed() {
            return Ok(());
        }
        log.commit(key)?;
        log.flush(false, None)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().log_state().committed().copied().map(id_of))
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.append_with(entries, Waiter::Library(callback))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.cut_after(last_log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.purge_to(log_id).await
    }
}
