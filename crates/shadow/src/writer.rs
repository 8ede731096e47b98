//! The one task that writes.
//!
//! Entries wait a little for others to share their transaction, no longer when somebody waits for them.
//! What may be written ends at the flushed end of the log. Each batch goes to the records first, with a
//! flush, then to the state; the state's commits are flushed at intervals, or when somebody waits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until};
use virtflow_state::port::{AppliedEntry, ShadowProgress};
use virtflow_types::Timestamp;

use crate::connect::WAL_BYTES_KEPT;
use crate::crash::CrashPoint;
use crate::error::StoreError;
use crate::files::{Folder, companion, file_bytes, remove_database, rename, sync_dir};
use crate::load::FileContent;
use crate::options::ShadowOptions;
use crate::records::{RecordChunk, RecordsFile};
use crate::schema::Meta;
use crate::shared::{EAGER_ENTRIES, Shared, Written, locked};
use crate::state_file::{StateBatch, StateFile};

/// Pause between two steps of retention while there is more to remove.
const TRIM_PAUSE: Duration = Duration::from_millis(200);
/// Pause between two attempts to cut a write-ahead log that is too long.
const CUT_PAUSE: Duration = Duration::from_secs(2);

/// What the writer is asked to do between batches.
#[derive(Debug)]
pub(crate) enum Command {
    /// Go on with this state in place of the one so far.
    Switch(Box<Switch>, oneshot::Sender<Result<(), StoreError>>),
    /// Take records that were missing.
    Fill(RecordChunk, oneshot::Sender<Result<u64, StoreError>>),
    /// Cut the write-ahead logs.
    Checkpoint(oneshot::Sender<()>),
    /// Write what may be written, flush, close.
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(crate) struct Switch {
    /// Examined, flushed, nobody has it open.
    pub(crate) received: PathBuf,
    pub(crate) content: FileContent,
}

/// What is to be done now, or until when there is nothing.
enum Due {
    Batch(Vec<Arc<AppliedEntry>>, bool),
    Flush,
    Trim,
    Nothing(Instant),
}

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    options: Arc<ShadowOptions>,
    state: StateFile,
    records: RecordsFile,
    commands: mpsc::Receiver<Command>,
    /// When the state was last made durable.
    flushed_at: Instant,
    trim_at: Instant,
    /// Before this, no log is cut again.
    cut_at: Instant,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        folder: Arc<Folder>,
        options: Arc<ShadowOptions>,
        state: StateFile,
        records: RecordsFile,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let now = Instant::now();
        Self {
            trim_at: now + options.retention.every,
            flushed_at: now,
            cut_at: now,
            shared,
            folder,
            options,
            state,
            records,
            commands,
        }
    }

    /// Until it is closed, or fails.
    pub(crate) async fn run(mut self) {
        let shared = self.shared.clone();
        while !shared.has_failed() {
            match self.turn().await {
                Ok(None) => {}
                Ok(Some(done)) => {
                    if let Err(error) = self.close().await {
                        shared.fail(error.into_shadow_error("closing the shadow"));
                        return;
                    }
                    locked(&shared.queue).closed = true;
                    // Whoever asked may have gone.
                    let _ = done.send(());
                    return;
                }
                Err(error) => {
                    shared.fail(error.into_shadow_error("writing the shadow"));
                    return;
                }
            }
        }
    }

    /// One piece of work, or one wait. Returns whom to tell once it is closed.
    async fn turn(&mut self) -> Result<Option<oneshot::Sender<()>>, StoreError> {
        if let Ok(command) = self.commands.try_recv() {
            return self.command(command).await;
        }
        let shared = self.shared.clone();
        let woken = shared.wake.notified();
        match self.due(Instant::now()) {
            Due::Batch(entries, durable) => self.write(&entries, durable).await?,
            Due::Flush => self.flush().await?,
            Due::Trim => self.trim().await?,
            Due::Nothing(until) => {
                tokio::select! {
                    command = self.commands.recv() => {
                        if let Some(command) = command {
                            return self.command(command).await;
                        }
                        // Every handle is gone without a close: stop as a crash would.
                        std::future::pending::<()>().await;
                    }
                    () = woken => {}
                    () = sleep_until(until) => {}
                }
            }
        }
        Ok(None)
    }

    fn due(&self, now: Instant) -> Due {
        let timing = &self.options.timing;
        let written = self.state.stamp().index;
        let durable = self.shared.progress.borrow().durable;
        let flush_at = self.flushed_at + timing.durable_every;
        let mut until = self.trim_at;
        let mut queue = locked(&self.shared.queue);
        let wanted_durable = queue.want_durable > durable;
        let ready = queue.ready();
        if ready > 0 {
            let write_at = queue.since.unwrap_or(now) + timing.linger;
            if queue.want_written > written || ready >= EAGER_ENTRIES || write_at <= now {
                let entries = queue.take(ready, now);
                return Due::Batch(entries, wanted_durable || flush_at <= now);
            }
            until = until.min(write_at);
        }
        drop(queue);
        if written > durable {
            if wanted_durable || flush_at <= now {
                return Due::Flush;
            }
            until = until.min(flush_at);
        }
        if self.trim_at <= now {
            return Due::Trim;
        }
        Due::Nothing(until)
    }

    async fn write(
        &mut self,
        entries: &[Arc<AppliedEntry>],
        durable: bool,
    ) -> Result<(), StoreError> {
        let Some(last) = entries.last() else {
            return Ok(());
        };
        let crash = &self.shared.crash;
        self.records.write(entries, crash).await?;
        let batch = coalesce(entries, last);
        self.state.write(&batch, durable, crash).await?;
        if durable {
            self.flushed_at = Instant::now();
        }
        locked(&self.shared.written).image = last.image.clone();
        self.advance(durable);
        self.bound_logs().await
    }

    /// SQLite brings its write-ahead logs in by itself; what outgrew that while a reader held an old
    /// image is cut here.
    async fn bound_logs(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if now < self.cut_at {
            return Ok(());
        }
        let long = |path: &std::path::Path| file_bytes(&companion(path, "-wal")) > WAL_BYTES_KEPT;
        let (state, records) = (long(self.state.path()), long(self.records.path()));
        if state {
            self.state.checkpoint().await?;
        }
        if records {
            self.records.checkpoint().await?;
        }
        if state || records {
            self.cut_at = now + CUT_PAUSE;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        self.state.flush().await?;
        self.flushed_at = Instant::now();
        self.advance(true);
        Ok(())
    }

    /// Publishes what was just committed, and flushed if `durable`.
    fn advance(&self, durable: bool) {
        let index = self.state.stamp().index;
        let queued = locked(&self.shared.queue).entries.len();
        self.shared.progress.send_modify(|progress| {
            progress.written = index;
            progress.queued = u64::try_from(queued).unwrap_or(u64::MAX);
            if durable {
                progress.durable = index;
            }
        });
    }

    async fn trim(&mut self) -> Result<(), StoreError> {
        let retention = &self.options.retention;
        let more = self.records.trim(retention, Timestamp::now()).await?;
        self.trim_at = Instant::now() + if more { TRIM_PAUSE } else { retention.every };
        Ok(())
    }

    async fn command(
        &mut self,
        command: Command,
    ) -> Result<Option<oneshot::Sender<()>>, StoreError> {
        // A reply may have nobody left to take it: that is the asker's affair.
        match command {
            Command::Switch(switch, reply) => {
                let result = self.switch(*switch).await?;
                let _ = reply.send(result);
            }
            Command::Fill(chunk, reply) => match self.records.fill(&chunk).await {
                result @ (Ok(_) | Err(StoreError::Refused { .. })) => {
                    let _ = reply.send(result);
                }
                Err(error) => return Err(error),
            },
            Command::Checkpoint(reply) => {
                self.state.checkpoint().await?;
                self.records.checkpoint().await?;
                let _ = reply.send(());
            }
            Command::Close(reply) => return Ok(Some(reply)),
        }
        Ok(None)
    }

    /// Installs a received state. The inner error changed nothing; the outer one may have.
    async fn switch(&mut self, switch: Switch) -> Result<Result<(), StoreError>, StoreError> {
        let Switch { received, content } = switch;
        let index = content.meta.index;
        let submitted = locked(&self.shared.queue).submitted;
        if index < submitted {
            return Ok(Err(StoreError::refused(
                format!("the snapshot at {index}"),
                format!("the state here is at {submitted} already"),
            )));
        }
        let number = self.state.number + 1;
        let path = self.folder.state_path(number);
        let opened = self.prepare(&received, &path, number, &content.meta).await;
        let state = match opened {
            Ok(state) => state,
            Err(error) => {
                // Nothing points at it; a leftover would be removed at the next start too.
                let _ = remove_database(&path);
                return Ok(Err(error));
            }
        };
        let crash = &self.shared.crash;
        self.folder.point_at(number, crash).await?;
        crash.reach(CrashPoint::Pointed).await;
        self.records.reconcile(&content.state).await?;
        crash.reach(CrashPoint::RecordsReconciled).await;

        let old = std::mem::replace(&mut self.state, state);
        let old_path = old.path().to_owned();
        old.close().await?;
        remove_database(&old_path)?;
        crash.reach(CrashPoint::OldRemoved).await;

        *locked(&self.shared.written) = Written {
            image: content.state,
            path,
        };
        {
            let mut queue = locked(&self.shared.queue);
            queue.submitted = index;
            // What waited is within the snapshot.
            queue.entries.clear();
            queue.since = None;
        }
        self.flushed_at = Instant::now();
        self.shared.progress.send_modify(|progress| {
            *progress = ShadowProgress {
                submitted: index,
                written: index,
                durable: index,
                queued: 0,
            };
        });
        Ok(Ok(()))
    }

    /// Gives the received file its name and opens it; nothing points at it yet.
    async fn prepare(
        &self,
        received: &std::path::Path,
        path: &std::path::Path,
        number: u64,
        meta: &Meta,
    ) -> Result<StateFile, StoreError> {
        remove_database(path)?;
        rename(received, path)?;
        sync_dir(self.folder.dir())?;
        self.shared.crash.reach(CrashPoint::InstallNamed).await;
        let file =
            StateFile::open_examined(path.to_owned(), number, meta.clone(), &self.options.views)
                .await?;
        self.shared.crash.reach(CrashPoint::InstallOpened).await;
        Ok(file)
    }

    async fn close(mut self) -> Result<(), StoreError> {
        loop {
            let entries = {
                let mut queue = locked(&self.shared.queue);
                let ready = queue.ready();
                queue.take(ready, Instant::now())
            };
            if entries.is_empty() {
                break;
            }
            self.write(&entries, true).await?;
        }
        self.flush().await?;
        self.state.checkpoint().await?;
        self.records.checkpoint().await?;
        self.records.close().await?;
        self.state.close().await
    }
}

/// The last word on each object and stream.
fn coalesce(entries: &[Arc<AppliedEntry>], last: &AppliedEntry) -> StateBatch {
    let mut latest = BTreeMap::new();
    let mut streams = BTreeSet::new();
    for entry in entries {
        for change in &entry.changes {
            latest.insert(change.id, change.after.as_ref());
        }
        streams.extend(entry.records.iter().map(|record| &record.stream));
    }
    let mut puts = Vec::with_capacity(latest.len());
    let mut deletes = Vec::new();
    for (id, after) in latest {
        match after {
            Some(object) => puts.push(object.clone()),
            None => deletes.push(id),
        }
    }
    StateBatch {
        puts,
        deletes,
        streams: streams
            .into_iter()
            .map(|name| (name.clone(), last.image.stream(name)))
            .collect(),
        meta: Meta::of(&last.image, last.term, last.raft_meta.clone()),
    }
}
