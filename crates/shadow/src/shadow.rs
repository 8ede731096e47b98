//! The shadow as others hold it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use virtflow_state::port::{
    AppliedEntry, Loaded, Shadow, ShadowError, ShadowProgress, SnapshotFile,
};

use crate::connect::reading;
use crate::crash::{Crash, CrashPoint};
use crate::error::StoreError;
use crate::files::{Folder, companion, file_bytes, remove_database, rename, sync_dir, sync_file};
use crate::install::examine_received;
use crate::options::ShadowOptions;
use crate::records::{RecordChunk, RecordsFile};
use crate::schema::create_state;
use crate::search::SEARCHES_MAX;
use crate::shared::Shared;
use crate::snapshot::{Snapshots, next_number};
use crate::state_file::StateFile;
use crate::writer::{Command, Switch, Writer};

/// Commands that may wait for the writer; whoever has one more waits itself.
const COMMANDS_MAX: usize = 16;
/// Connections that read records. Few: each has a thread and a page cache.
const READERS_MAX: u32 = 2;
/// A reading connection that nobody used for so long is closed.
const READER_IDLE: std::time::Duration = std::time::Duration::from_secs(60);

/// The durable shadow of the state, in SQLite. Cloned as an [`Arc`].
#[derive(Debug)]
pub struct SqliteShadow {
    pub(crate) shared: Arc<Shared>,
    folder: Arc<Folder>,
    /// The highest cluster version that is installed or copied.
    supports: u32,
    commands: mpsc::Sender<Command>,
    readers: SqlitePool,
    /// Held while a snapshot is taken or installed: the two never overlap.
    snapshots: Mutex<Snapshots>,
    /// A permit for each search; an install takes them all, as it removes the file that they read.
    searches: Semaphore,
    writer: JoinHandle<()>,
}

/// Sizes for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShadowStats {
    /// The state's file.
    pub state_bytes: u64,
    /// What of the state waits in the write-ahead log.
    pub state_wal_bytes: u64,
    /// The records' file.
    pub records_bytes: u64,
    /// What of the records waits in the write-ahead log.
    pub records_wal_bytes: u64,
}

impl SqliteShadow {
    /// Opens the shadow in `dir`, which is made if missing, and loads its state; an empty folder gives
    /// the empty state. Leftovers of an interrupted install or snapshot are removed.
    ///
    /// The state loaded may be older than what this store held before a crash, never older than its
    /// last published durable index: the log is to be replayed from the entry after it.
    pub async fn open(
        dir: &Path,
        options: ShadowOptions,
    ) -> Result<(Arc<Self>, Loaded), StoreError> {
        let folder = Arc::new(Folder::open(dir).await?);
        let options = Arc::new(options);
        let number = match folder.pointer()? {
            Some(number) => number,
            None => begin(&folder).await?,
        };
        let (state, content) = StateFile::open(
            folder.state_path(number),
            number,
            &options,
            Some(&options.views),
        )
        .await?;
        // Only now: on the word of a wrong pointer nothing is removed.
        folder.clean(number)?;
        let mut records = RecordsFile::open(folder.records_path(), &options).await?;
        records.reconcile(&content.state).await?;
        let snapshots = Snapshots::open(folder.clone(), &content.meta).await?;
        let loaded = content.loaded();

        let readers = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(READERS_MAX)
            .idle_timeout(READER_IDLE)
            .connect_lazy_with(reading(records.path()));
        let shared = Arc::new(Shared::new(content.state, state.path().to_owned()));
        let supports = options.supports;
        let (commands, incoming) = mpsc::channel(COMMANDS_MAX);
        let writer = Writer::new(
            shared.clone(),
            folder.clone(),
            options,
            state,
            records,
            incoming,
        );
        let shadow = Self {
            shared,
            folder,
            supports,
            commands,
            readers,
            snapshots: Mutex::new(snapshots),
            searches: Semaphore::new(SEARCHES_MAX as usize),
            writer: tokio::spawn(writer.run()),
        };
        Ok((Arc::new(shadow), loaded))
    }

    /// Waits until entry `index` can be read with SQL, or the shadow failed. Entries above the flushed
    /// end of the log are not written before it moves.
    pub async fn wait_written(&self, index: u64) -> Result<(), ShadowError> {
        self.wait(index, false).await
    }

    /// Adds a peer's copy of missing records, proved by the heads in the state; a chunk ends where a
    /// missing range ends. Returns how many were added.
    pub async fn fill_records(&self, chunk: RecordChunk) -> Result<u64, StoreError> {
        self.ask(|reply| Command::Fill(chunk, reply)).await?
    }

    /// Sizes of the files.
    pub fn stats(&self) -> ShadowStats {
        let (state, records) = (self.shared.written().path, self.folder.records_path());
        ShadowStats {
            state_bytes: file_bytes(&state),
            state_wal_bytes: file_bytes(&companion(&state, "-wal")),
            records_bytes: file_bytes(&records),
            records_wal_bytes: file_bytes(&companion(&records, "-wal")),
        }
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }
    pub(crate) fn supports(&self) -> u32 {
        self.supports
    }
    pub(crate) fn searches(&self) -> &Semaphore {
        &self.searches
    }
    pub(crate) fn records_path(&self) -> PathBuf {
        self.folder.records_path()
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ShadowError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply)).await;
        if sent.is_err() {
            return Err(self.shared.stopped());
        }
        answer.await.map_err(|_| self.shared.stopped())
    }

    async fn wait(&self, index: u64, durable: bool) -> Result<(), ShadowError> {
        self.shared.want(index, durable);
        let mut progress = self.shared.progress.subscribe();
        let reached = progress.wait_for(|progress| {
            let at = if durable {
                progress.durable
            } else {
                progress.written
            };
            at >= index
        });
        tokio::select! {
            biased;
            result = reached => result.map(|_| ()).map_err(|_| self.shared.stopped()),
            error = self.failed() => Err(error),
            () = self.commands.closed() => Err(self.shared.stopped()),
        }
    }

    async fn take_snapshot(
        &self,
        snapshots: &mut Snapshots,
        at_least: u64,
    ) -> Result<SnapshotFile, StoreError> {
        if self.shared.has_failed() {
            return Err(self.shared.stopped().into());
        }
        if let Some(newest) = snapshots.newest()
            && newest.index >= at_least
        {
            return Ok(newest);
        }
        self.wait(at_least, true).await?;
        let snapshot = snapshots.take(&self.shared.written().path).await?;
        // The copy may contain commits that are not flushed yet.
        self.wait(snapshot.index, true).await?;
        // It kept the write-ahead log from being reset while it read.
        self.ask(Command::Checkpoint).await?;
        Ok(snapshot)
    }

    async fn install_received(&self, received: PathBuf) -> Result<Loaded, StoreError> {
        let _exclusive = self.snapshots.lock().await;
        let here = self.shared.written().image;
        let content = examine_received(&received, &here, self.supports).await?;
        self.shared.crash.reach(CrashPoint::InstallVerified).await;
        let loaded = content.loaded();
        let _no_search = self.searches.acquire_many(SEARCHES_MAX).await;
        let switch = Box::new(Switch { received, content });
        self.ask(|reply| Command::Switch(switch, reply)).await??;
        Ok(loaded)
    }
}

/// Makes the first state file of an empty folder and points at it.
async fn begin(folder: &Folder) -> Result<u64, StoreError> {
    let missing = || StoreError::PointerMissing(folder.dir().to_owned());
    // Records are made after the pointer.
    if folder.records_path().exists() {
        return Err(missing());
    }
    match folder.state_numbers()?.as_slice() {
        [] => {}
        // A process that was killed between making the first file and pointing at it: the file holds
        // nothing yet.
        [1] => {
            let meta = crate::load::peek(&folder.state_path(1))
                .await
                .map_err(|_| missing())?;
            let untouched = meta.index == 0
                && meta.cluster_id.is_none()
                && !companion(&folder.state_path(1), "-wal").exists();
            if !untouched {
                return Err(missing());
            }
        }
        _ => return Err(missing()),
    }
    let (temp, path) = (folder.temp_path("first", 1), folder.state_path(1));
    remove_database(&temp)?;
    create_state(&temp).await?;
    sync_file(&temp).await?;
    rename(&temp, &path)?;
    sync_dir(folder.dir())?;
    folder.point_at(1, &Crash::never()).await?;
    Ok(1)
}

#[async_trait]
impl Shadow for SqliteShadow {
    fn submit(&self, entry: Arc<AppliedEntry>) {
        self.shared.submit(entry);
    }

    fn log_flushed(&self, index: u64) {
        self.shared.log_flushed(index);
    }

    fn progress(&self) -> ShadowProgress {
        *self.shared.progress.borrow()
    }

    async fn wait_durable(&self, index: u64) -> Result<(), ShadowError> {
        self.wait(index, true).await
    }

    async fn failed(&self) -> ShadowError {
        let mut failure = self.shared.failure();
        match failure.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone().unwrap_or_else(|| self.shared.stopped()),
            Err(_) => self.shared.stopped(),
        }
    }

    async fn snapshot(&self, at_least: u64) -> Result<SnapshotFile, ShadowError> {
        let mut snapshots = self.snapshots.lock().await;
        self.take_snapshot(&mut snapshots, at_least)
            .await
            .map_err(|error| error.into_shadow_error("taking a snapshot"))
    }

    async fn current_snapshot(&self) -> Result<Option<SnapshotFile>, ShadowError> {
        Ok(self.snapshots.lock().await.newest())
    }

    async fn receive_path(&self) -> Result<PathBuf, ShadowError> {
        Ok(self.folder.temp_path("received", next_number()))
    }

    async fn install(&self, received: PathBuf) -> Result<Loaded, ShadowError> {
        let result = self.install_received(received.clone()).await;
        if result.is_err() {
            // It is of no further use; if it was given its place already there is nothing here.
            let _ = remove_database(&received);
        }
        result.map_err(|error| error.into_shadow_error("installing a snapshot"))
    }

    async fn close(&self) -> Result<(), ShadowError> {
        self.readers.close().await;
        self.ask(Command::Close).await
    }
}

impl Drop for SqliteShadow {
    fn drop(&mut self) {
        // Without a close this is a crash: what is committed stays, the rest is in the log.
        self.writer.abort();
    }
}
