//! Snapshots: copies of the state file, complete and flushed before they get their name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use virtflow_state::port::SnapshotFile;

use crate::connect::{close, connect, copying};
use crate::error::{Doing as _, StoreError};
use crate::files::{Folder, file_bytes, remove_database, rename, sync_dir, sync_file};
use crate::load::peek;
use crate::schema::Meta;

/// How often a copy that is being made is looked at.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes that a copy has grown by when it is flushed: some ten milliseconds of a disk that writes 500 MB/s.
const FLUSH_BYTES: u64 = 4 * 1024 * 1024;

/// The snapshots of one folder, newest last.
#[derive(Debug)]
pub(crate) struct Snapshots {
    folder: Arc<Folder>,
    kept: Vec<SnapshotFile>,
}

impl Snapshots {
    /// Finds what a former process completed: the newest that belongs to this state stays.
    pub(crate) async fn open(folder: Arc<Folder>, state: &Meta) -> Result<Self, StoreError> {
        let dir = folder.snapshots();
        let mut kept: Option<SnapshotFile> = None;
        for name in folder.names(&dir)? {
            let path = dir.join(&name);
            if !name.starts_with("snapshot.") || !name.ends_with(".db") {
                continue;
            }
            let fits = |meta: &Meta| {
                meta.index <= state.index
                    && meta.incarnation == state.incarnation
                    && meta.cluster_id == state.cluster_id
                    && kept.as_ref().is_none_or(|kept| kept.index < meta.index)
            };
            match peek(&path).await {
                Ok(meta) if fits(&meta) => {
                    if let Some(old) = kept.replace(file_of(path, &meta)) {
                        remove_database(&old.path)?;
                    }
                }
                Ok(_) => remove_database(&path)?,
                Err(error) => {
                    tracing::warn!(%error, "removing a snapshot that cannot be read");
                    remove_database(&path)?;
                }
            }
        }
        Ok(Self {
            folder,
            kept: kept.into_iter().collect(),
        })
    }

    pub(crate) fn newest(&self) -> Option<SnapshotFile> {
        self.kept.last().cloned()
    }

    /// Copies the state file; the copy says itself what it contains.
    pub(crate) async fn take(&mut self, state: &Path) -> Result<SnapshotFile, StoreError> {
        self.sweep()?;
        let dir = self.folder.snapshots();
        let temp = dir.join(format!("temp.snapshot.{}.db", next_number()));
        let made = complete(state, &temp, &dir).await;
        if made.is_err() {
            // On a full disk half a copy would be in the way; the error says why it is half.
            let _ = remove_database(&temp);
        }
        let snapshot = made?;
        self.kept.retain(|kept| kept.path != snapshot.path);
        self.kept.push(snapshot.clone());
        self.sweep()?;
        Ok(snapshot)
    }

    /// Removes what is not the newest and nobody reads.
    fn sweep(&mut self) -> Result<(), StoreError> {
        let Some(newest) = self.kept.pop() else {
            return Ok(());
        };
        let mut held = Vec::new();
        for old in self.kept.drain(..) {
            if Arc::strong_count(&old.keep) > 1 {
                held.push(old);
            } else {
                remove_database(&old.path)?;
            }
        }
        held.push(newest);
        self.kept = held;
        Ok(())
    }
}

/// Copies, flushes, and gives the copy the name of a complete one.
async fn complete(state: &Path, temp: &Path, dir: &Path) -> Result<SnapshotFile, StoreError> {
    copy_database(state, temp).await?;
    let meta = peek(temp).await?;
    let path = dir.join(format!("snapshot.{}.db", meta.index));
    sync_file(temp).await?;
    rename(temp, &path)?;
    sync_dir(dir)?;
    Ok(file_of(path, &meta))
}

fn file_of(path: PathBuf, meta: &Meta) -> SnapshotFile {
    SnapshotFile {
        bytes: file_bytes(&path),
        path,
        index: meta.index,
        digest: meta.digest,
        raft_meta: meta.raft_meta.clone(),
        keep: Arc::new(()),
    }
}

/// A compact copy of a database that may be in use, at one moment of it. `to` must not exist.
///
/// It is flushed bit by bit while it grows: half a gigabyte flushed at once holds up whoever flushes a few bytes on the same
/// disk meanwhile, the log above all, until a leader is missed.
pub(crate) async fn copy_database(from: &Path, to: &Path) -> Result<(), StoreError> {
    let doing = || format!("copying {} to {}", from.display(), to.display());
    let target = to
        .to_str()
        .ok_or_else(|| StoreError::refused(format!("{}", to.display()), "its name is not UTF-8"))?;
    let mut connection = connect(copying(from), from).await?;
    let copied = {
        let copy = sqlx::query("VACUUM INTO ?").bind(target);
        let copy = copy.execute(&mut connection);
        tokio::pin!(copy);
        let mut flushed = 0;
        loop {
            tokio::select! {
                biased;
                copied = &mut copy => break copied.map(|_| ()).doing(doing),
                () = tokio::time::sleep(FLUSH_INTERVAL) => {}
            }
            let bytes = file_bytes(to);
            if bytes >= flushed + FLUSH_BYTES {
                flushed = bytes;
                // What fails here fails again at the end, where it counts.
                let _ = sync_file(to).await;
            }
        }
    };
    close(connection, from).await?;
    copied
}

/// Numbers for temporary names, unique in this process; a former one's are removed at open.
pub(crate) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
