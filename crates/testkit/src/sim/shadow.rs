//! A durable shadow in memory: what was written but not flushed is lost with the power.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use virtflow_shadow::{
    Archive, AuditCursor, AuditQuery, BackupManifest, DeletedCursor, Found, HistoryRow,
    MissingHistory, MissingRange, Moment, Page, RecordChunk, Search, Seen, StoreError, Then,
};
use virtflow_state::port::{
    AppliedEntry, Loaded, Shadow, ShadowError, ShadowProgress, SnapshotFile,
};
use virtflow_state::{RecordRow, State, StreamHead, Text};
use virtflow_types::{ObjectId, Timestamp, chance};

use super::whole::{decode, encode};

/// What the files hold at one moment. Cheap to clone: states share.
#[derive(Debug, Clone, Default)]
struct Files {
    state: State,
    raft_meta: Bytes,
    records: BTreeMap<Text, BTreeMap<u64, RecordRow>>,
}

impl Files {
    fn take(&mut self, entry: &AppliedEntry) {
        self.state = entry.image.clone();
        self.raft_meta = entry.raft_meta.clone();
        for record in &entry.records {
            self.records
                .entry(record.stream.clone())
                .or_default()
                .insert(record.count, record.clone());
        }
    }
    fn loaded(&self) -> Loaded {
        Loaded {
            state: self.state.clone(),
            raft_meta: self.raft_meta.clone(),
        }
    }
}

/// How the shadow's disk behaves.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// From one write to the next.
    pub(crate) write_every: Duration,
    /// Writes from one flush to the next, at most.
    pub(crate) flush_every: u64,
    /// Nothing is written while it stands still.
    pub(crate) stands_still: bool,
    /// The next write fails, which ends the shadow.
    pub(crate) fails: bool,
}

#[derive(Debug)]
struct Platter {
    flushed: Files,
    written: Files,
    behaviour: Behaviour,
    snapshot: Option<SnapshotFile>,
    files_made: u64,
}

/// The disk of a shadow, apart from the process. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct ShadowDisk {
    folder: PathBuf,
    platter: Arc<Mutex<Platter>>,
}

impl ShadowDisk {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let platter = Platter {
            flushed: Files::default(),
            written: Files::default(),
            behaviour: Behaviour {
                write_every: Duration::from_millis(10),
                flush_every: 20,
                stands_still: false,
                fails: false,
            },
            snapshot: None,
            files_made: 0,
        };
        Self {
            folder,
            platter: Arc::new(Mutex::new(platter)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// What was written since the last flush is gone.
    pub(crate) fn power_cut(&self) {
        let mut platter = self.lock();
        platter.written = platter.flushed.clone();
        platter.snapshot = None;
    }

    /// Nothing is on it any more.
    pub(crate) fn wipe(&self) {
        let mut platter = self.lock();
        platter.flushed = Files::default();
        platter.written = Files::default();
        platter.snapshot = None;
    }

    /// The process died and the machine did not.
    pub(crate) fn process_died(&self) {
        self.lock().snapshot = None;
    }
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Arc<AppliedEntry>>,
    submitted: u64,
    log_flushed: u64,
}

/// Told of every entry that a node applied.
pub(crate) type Observer = Arc<dyn Fn(&AppliedEntry) + Send + Sync>;

pub(crate) struct SimulatedShadow {
    disk: ShadowDisk,
    queue: Mutex<Queue>,
    work: Notify,
    progress: watch::Sender<ShadowProgress>,
    failure: watch::Sender<Option<ShadowError>>,
    observer: Observer,
}

impl std::fmt::Debug for SimulatedShadow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedShadow").finish_non_exhaustive()
    }
}

impl SimulatedShadow {
    /// Opens what the disk holds; begins to write what comes.
    pub(crate) fn open(disk: ShadowDisk, observer: Observer) -> (Arc<Self>, Loaded) {
        let loaded = {
            let mut platter = disk.lock();
            // Opening flushes what a process that died had written.
            platter.flushed = platter.written.clone();
            platter.flushed.loaded()
        };
        let index = loaded.state.index();
        let this = Arc::new(Self {
            disk,
            queue: Mutex::new(Queue {
                submitted: index,
                log_flushed: index,
                ..Queue::default()
            }),
            work: Notify::new(),
            progress: watch::Sender::new(ShadowProgress {
                submitted: index,
                written: index,
                durable: index,
                queued: 0,
            }),
            failure: watch::Sender::new(None),
            observer,
        });
        let weak = Arc::downgrade(&this);
        tokio::spawn(async move {
            let mut writes = 0;
            while let Some(this) = weak.upgrade() {
                let every = this.disk.lock().behaviour.write_every;
                drop(tokio::time::timeout(every * 10, this.work.notified()).await);
                tokio::time::sleep(every.mul_f64(0.5 + chance::fraction())).await;
                this.write(&mut writes);
            }
        });
        (this, loaded)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, writes: &mut u64) {
        let mut queue = self.queue();
        let mut platter = self.disk.lock();
        if platter.behaviour.stands_still || self.failure.borrow().is_some() {
            return;
        }
        if platter.behaviour.fails {
            platter.behaviour.fails = false;
            drop(platter);
            self.failure.send_replace(Some(ShadowError {
                doing: "writing the simulated shadow".into(),
                cause: "input/output error".into(),
            }));
            return;
        }
        while queue
            .entries
            .front()
            .is_some_and(|entry| entry.index <= queue.log_flushed)
        {
            if let Some(entry) = queue.entries.pop_front() {
                platter.written.take(&entry);
            }
        }
        *writes += 1;
        if chance::number().is_multiple_of(platter.behaviour.flush_every) {
            platter.flushed = platter.written.clone();
        }
        let now = ShadowProgress {
            submitted: queue.submitted,
            written: platter.written.state.index(),
            durable: platter.flushed.state.index(),
            queued: queue.entries.len() as u64,
        };
        drop(platter);
        self.progress.send_if_modified(|before| {
            let news = *before != now;
            *before = now;
            news
        });
    }

    /// Writes all that may be written and flushes.
    fn flush(&self) {
        let queue = self.queue();
        let mut platter = self.disk.lock();
        platter.flushed = platter.written.clone();
        let durable = platter.flushed.state.index();
        drop(platter);
        let queued = queue.entries.len() as u64;
        self.progress.send_modify(|progress| {
            progress.durable = durable;
            progress.written = durable;
            progress.queued = queued;
        });
    }

    fn next_path(&self, what: &str) -> PathBuf {
        let mut platter = self.disk.lock();
        platter.files_made += 1;
        let number = platter.files_made;
        self.disk.folder.join(format!("{what}-{number}"))
    }

    fn refused(what: &str, why: impl Into<String>) -> StoreError {
        StoreError::Refused {
            what: what.into(),
            why: why.into(),
        }
    }

    fn failed_to(doing: &str, cause: impl ToString) -> ShadowError {
        ShadowError {
            doing: doing.into(),
            cause: cause.to_string(),
        }
    }
}

#[async_trait]
impl Shadow for SimulatedShadow {
    fn submit(&self, entry: Arc<AppliedEntry>) {
        (self.observer)(&entry);
        let mut queue = self.queue();
        assert_eq!(
            entry.index,
            queue.submitted + 1,
            "entries are handed over without a gap"
        );
        queue.submitted = entry.index;
        queue.entries.push_back(entry);
        let (submitted, queued) = (queue.submitted, queue.entries.len() as u64);
        drop(queue);
        self.progress.send_modify(|progress| {
            progress.submitted = submitted;
            progress.queued = queued;
        });
        self.work.notify_one();
    }

    fn log_flushed(&self, index: u64) {
        let mut queue = self.queue();
        queue.log_flushed = queue.log_flushed.max(index);
        drop(queue);
        self.work.notify_one();
    }

    fn progress(&self) -> ShadowProgress {
        *self.progress.borrow()
    }

    async fn wait_durable(&self, index: u64) -> Result<(), ShadowError> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.durable >= index);
        tokio::select! {
            reached = reached => reached.map(drop).map_err(|_| Self::failed_to("waiting", "closed")),
            failed = self.failed() => Err(failed),
        }
    }

    async fn failed(&self) -> ShadowError {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.map(|f| f.clone());
        match failed {
            Ok(Some(error)) => error,
            _ => std::future::pending().await,
        }
    }

    async fn snapshot(&self, at_least: u64) -> Result<SnapshotFile, ShadowError> {
        self.wait_durable(at_least).await?;
        let files = self.disk.lock().flushed.clone();
        let path = self.next_path("snapshot");
        let bytes = encode(&files.state, &files.raft_meta);
        std::fs::write(&path, &bytes).map_err(|e| Self::failed_to("writing a snapshot", e))?;
        let file = SnapshotFile {
            path,
            index: files.state.index(),
            digest: files.state.digest(),
            raft_meta: files.raft_meta,
            bytes: bytes.len() as u64,
            keep: Arc::new(()),
        };
        self.disk.lock().snapshot = Some(file.clone());
        Ok(file)
    }

    async fn current_snapshot(&self) -> Result<Option<SnapshotFile>, ShadowError> {
        Ok(self.disk.lock().snapshot.clone())
    }

    async fn receive_path(&self) -> Result<PathBuf, ShadowError> {
        Ok(self.next_path("received"))
    }

    async fn install(&self, received: PathBuf) -> Result<Loaded, ShadowError> {
        let install = |cause: String| Self::failed_to("installing a snapshot", cause);
        let bytes = std::fs::read(&received).map_err(|error| install(error.to_string()))?;
        let loaded = decode(&bytes).map_err(install)?;
        // A power cut before this moment leaves the old state, after it the new one.
        tokio::time::sleep(Duration::from_millis(5)).await;
        {
            let mut queue = self.queue();
            queue.entries.clear();
            queue.submitted = loaded.state.index();
            queue.log_flushed = queue.log_flushed.max(loaded.state.index());
            let mut platter = self.disk.lock();
            platter.written.state = loaded.state.clone();
            platter.written.raft_meta = loaded.raft_meta.clone();
            platter.flushed = platter.written.clone();
            platter.snapshot = Some(SnapshotFile {
                path: received,
                index: loaded.state.index(),
                digest: loaded.state.digest(),
                raft_meta: loaded.raft_meta.clone(),
                bytes: bytes.len() as u64,
                keep: Arc::new(()),
            });
        }
        let index = loaded.state.index();
        self.progress.send_replace(ShadowProgress {
            submitted: index,
            written: index,
            durable: index,
            queued: 0,
        });
        Ok(loaded)
    }

    async fn close(&self) -> Result<(), ShadowError> {
        self.write(&mut 0);
        self.flush();
        Ok(())
    }
}

/// Nothing in a simulation asks for what was: it is not kept.
fn no_history() -> StoreError {
    StoreError::Refused {
        what: "history".into(),
        why: "a simulated shadow keeps none".into(),
    }
}

#[async_trait]
impl Archive for SimulatedShadow {
    async fn wait_written(&self, index: u64) -> Result<(), ShadowError> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.written >= index);
        reached
            .await
            .map(drop)
            .map_err(|_| Self::failed_to("waiting", "closed"))
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<RecordRow, AuditCursor>, StoreError> {
        let platter = self.disk.lock();
        let records = platter.written.records.get(&Text::new(&query.stream));
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let rows = records.into_iter().flat_map(|rows| rows.values().rev());
        Ok(Page {
            rows: rows.take(limit).cloned().collect(),
            next: None,
            seen: Seen {
                index: platter.written.state.index(),
                at: Timestamp::now(),
            },
        })
    }

    async fn history(
        &self,
        _object: ObjectId,
        _before: Option<u64>,
        _limit: u32,
    ) -> Result<Page<HistoryRow, u64>, StoreError> {
        Err(no_history())
    }

    async fn was(
        &self,
        _object: ObjectId,
        _newest: Option<u64>,
        _moment: Moment,
    ) -> Result<(Then, Seen), StoreError> {
        Err(no_history())
    }

    async fn deleted(
        &self,
        _kind: &str,
        _after: Option<DeletedCursor>,
        _limit: u32,
    ) -> Result<Page<HistoryRow, DeletedCursor>, StoreError> {
        Err(no_history())
    }

    async fn search(&self, _search: &Search) -> Result<Found, StoreError> {
        Err(no_history())
    }

    async fn deleted_after(
        &self,
        _kind: &str,
        _moment: Moment,
        _after: Option<ObjectId>,
        _limit: u32,
    ) -> Result<Page<HistoryRow, ObjectId>, StoreError> {
        Err(no_history())
    }

    async fn then(
        &self,
        _objects: &[(ObjectId, Option<u64>)],
        _moment: Moment,
    ) -> Result<(Vec<Then>, Seen), StoreError> {
        Err(no_history())
    }

    async fn missing_history(&self) -> Result<Vec<MissingHistory>, StoreError> {
        Err(no_history())
    }

    async fn missing_records(&self) -> Result<Vec<MissingRange>, StoreError> {
        let platter = self.disk.lock();
        let files = &platter.written;
        let mut missing = Vec::new();
        for (stream, head) in files.state.streams() {
            let rows = files.records.get(stream);
            let has = |count: u64| rows.is_some_and(|rows| rows.contains_key(&count));
            let mut count = 1;
            while count <= head.count {
                if has(count) {
                    count += 1;
                    continue;
                }
                let first = count;
                while count <= head.count && !has(count) {
                    count += 1;
                }
                let last = count - 1;
                // The head of the last missing one: the stream's own, or unknown until the next is
                // looked at. Ranges in the middle come from two installs; their upper neighbour's head
                // vouches for what lies below it only with the neighbour's body, so they are left.
                if last == head.count {
                    missing.push(MissingRange {
                        stream: stream.clone(),
                        first,
                        last: *head,
                    });
                }
            }
        }
        Ok(missing)
    }

    async fn record_range(
        &self,
        stream: &str,
        from: u64,
        to: u64,
    ) -> Result<RecordChunk, StoreError> {
        let platter = self.disk.lock();
        let rows = platter.written.records.get(&Text::new(stream));
        let mut found: Vec<RecordRow> = Vec::new();
        for count in (from..=to).rev().take(100) {
            match rows.and_then(|rows| rows.get(&count)) {
                Some(row) => found.push(row.clone()),
                None => break,
            }
        }
        found.reverse();
        let below = found.first().map_or(0, |row| row.count - 1);
        let before =
            rows.and_then(|rows| rows.get(&below))
                .map_or_else(StreamHead::default, |row| StreamHead {
                    count: row.count,
                    head: row.head,
                });
        // Without the head below, the first row cannot be verified: it is kept back.
        if below > 0 && before.count == 0 && !found.is_empty() {
            let first = found.remove(0);
            return Ok(RecordChunk {
                stream: Text::new(stream),
                before: StreamHead {
                    count: first.count,
                    head: first.head,
                },
                rows: found,
            });
        }
        Ok(RecordChunk {
            stream: Text::new(stream),
            before,
            rows: found,
        })
    }

    async fn fill_records(&self, chunk: RecordChunk) -> Result<u64, StoreError> {
        let mut head = chunk.before;
        for row in &chunk.rows {
            head = head.append(&row.body);
            if (head.count, head.head) != (row.count, row.head) {
                return Err(Self::refused("records", "their heads do not follow"));
            }
        }
        let mut platter = self.disk.lock();
        let expected = platter.written.state.stream(&chunk.stream);
        let known = platter
            .written
            .records
            .get(&chunk.stream)
            .and_then(|rows| rows.get(&head.count))
            .map(|row| row.head);
        if expected.count == head.count && expected.head != head.head
            || known.is_some_and(|known| known != head.head)
        {
            return Err(Self::refused("records", "they end in another head"));
        }
        let rows = platter.written.records.entry(chunk.stream).or_default();
        let before = rows.len() as u64;
        rows.extend(chunk.rows.into_iter().map(|row| (row.count, row)));
        Ok(rows.len() as u64 - before)
    }

    async fn backup(&self, _dest: &Path) -> Result<BackupManifest, StoreError> {
        Err(Self::refused("a backup", "a simulated shadow makes none"))
    }
}
