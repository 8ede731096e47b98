//! The words in which replication and the durable shadow meet, so that neither needs to know the other.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use virtflow_types::{RequestId, Timestamp};

use crate::object::Change;
use crate::refused::Refused;
use crate::state::{RecordRow, State};

/// What one log entry did.
#[derive(Debug, Clone)]
pub struct AppliedEntry {
    /// Its index in the log.
    pub index: u64,
    /// The term it was appended in.
    pub term: u64,
    /// What a snapshot taken at this index must carry of the replication's own state (last log id,
    /// membership). Opaque to all but the replication layer.
    pub raft_meta: Bytes,
    /// Each changeset's result, in order.
    pub outcomes: Vec<Outcome>,
    /// Every change, in order; an object changed by two changesets of the entry stands here twice.
    pub changes: Vec<Change>,
    /// Every record appended, in order.
    pub records: Vec<RecordRow>,
    /// The state after the entry.
    pub image: State,
}

/// What became of one changeset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The request it belongs to.
    pub request_id: RequestId,
    /// Its label of time.
    pub now: Timestamp,
    /// Who caused it.
    pub actor: String,
    /// Applied, or why not.
    pub result: Result<(), Refused>,
    /// How many of the entry's changes are its own: the first outcome's come first. 0 if refused.
    pub changes: usize,
}

/// A state with what the replication layer stored beside it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The state, its digest verified.
    pub state: State,
    /// The last entry's `raft_meta`; empty for an empty store.
    pub raft_meta: Bytes,
}

/// A snapshot that lies complete and flushed in a file of its own.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    /// Where it is. Never changed once returned; the shadow removes it when a newer one has been
    /// made and nobody holds this handle's `keep`.
    pub path: PathBuf,
    /// The index inside the file: exactly what it contains.
    pub index: u64,
    /// The digest of the state at that index.
    pub digest: u128,
    /// The `raft_meta` at that index.
    pub raft_meta: Bytes,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Keeps the file from being removed while a transfer reads it.
    pub keep: Arc<()>,
}

/// How far the shadow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShadowProgress {
    /// Highest index handed to it.
    pub submitted: u64,
    /// Highest index committed to its files.
    pub written: u64,
    /// Highest index known to be flushed to the disk: what a snapshot may claim and the log may be
    /// purged to.
    pub durable: u64,
    /// Entries waiting to be written.
    pub queued: u64,
}

/// The shadow failed; the node must stop rather than go on without it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{doing}: {cause}")]
pub struct ShadowError {
    /// What was being done, on which file.
    pub doing: String,
    /// The cause, as text.
    pub cause: String,
}

/// The durable shadow of the state, as the replication layer sees it.
#[async_trait]
pub trait Shadow: fmt::Debug + Send + Sync + 'static {
    /// Hands over an applied entry; entries come in the order of their indexes without a gap. Never
    /// blocks; the caller slows down by [`Shadow::progress`].
    fn submit(&self, entry: Arc<AppliedEntry>);
    /// The local log is flushed up to `index`; nothing above it is written.
    fn log_flushed(&self, index: u64);
    /// How far it has come.
    fn progress(&self) -> ShadowProgress;
    /// Waits until `durable >= index`, or the shadow failed.
    async fn wait_durable(&self, index: u64) -> Result<(), ShadowError>;
    /// Waits until the shadow fails; pending for ever otherwise.
    async fn failed(&self) -> ShadowError;
    /// A snapshot of the durable state, at an index at or above `at_least`.
    async fn snapshot(&self, at_least: u64) -> Result<SnapshotFile, ShadowError>;
    /// The newest complete snapshot, if one is kept.
    async fn current_snapshot(&self) -> Result<Option<SnapshotFile>, ShadowError>;
    /// A path, unique and not existing, where a received snapshot may be written to.
    async fn receive_path(&self) -> Result<PathBuf, ShadowError>;
    /// Verifies a received file, flushes it, loads it and points at it; when this returns, a restart
    /// begins from it. On an error nothing has changed.
    async fn install(&self, received: PathBuf) -> Result<Loaded, ShadowError>;
    /// Writes what is queued, flushes and closes.
    async fn close(&self) -> Result<(), ShadowError>;
}
