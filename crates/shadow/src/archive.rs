//! What a controller asks of the shadow beside what replication does.

use std::path::Path;

use async_trait::async_trait;
use virtflow_state::RecordRow;
use virtflow_state::port::{Shadow, ShadowError};
use virtflow_types::ObjectId;

use crate::backup::BackupManifest;
use crate::error::StoreError;
use crate::moment::Then;
use crate::read::{AuditCursor, AuditQuery, DeletedCursor, HistoryRow, Moment, Page, Seen};
use crate::records::{MissingHistory, MissingRange, RecordChunk};
use crate::search::{Found, Search};
use crate::shadow::SqliteShadow;

/// The shadow as a whole controller uses it. A simulation has one in memory.
#[async_trait]
pub trait Archive: Shadow {
    /// Waits until `index` is written; pages read afterwards show it.
    async fn wait_written(&self, index: u64) -> Result<(), ShadowError>;
    /// A page of audit records, newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Page<RecordRow, AuditCursor>, StoreError>;
    /// Versions of an object, newest first, below version `before`.
    async fn history(
        &self,
        object: ObjectId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Page<HistoryRow, u64>, StoreError>;
    /// What one object was at a moment; `newest` is its version if it is there now.
    async fn was(
        &self,
        object: ObjectId,
        newest: Option<u64>,
        moment: Moment,
    ) -> Result<(Then, Seen), StoreError>;
    /// Objects of a kind that are no more, latest first.
    async fn deleted(
        &self,
        kind: &str,
        after: Option<DeletedCursor>,
        limit: u32,
    ) -> Result<Page<HistoryRow, DeletedCursor>, StoreError>;
    /// Ids of live objects, by fields and words, in an order, within a time.
    async fn search(&self, search: &Search) -> Result<Found, StoreError>;
    /// Objects of a kind that are no more and were deleted after a moment, by id.
    async fn deleted_after(
        &self,
        kind: &str,
        moment: Moment,
        after: Option<ObjectId>,
        limit: u32,
    ) -> Result<Page<HistoryRow, ObjectId>, StoreError>;
    /// What objects were at a moment; with each comes its version, if it is there now.
    async fn then(
        &self,
        objects: &[(ObjectId, Option<u64>)],
        moment: Moment,
    ) -> Result<(Vec<Then>, Seen), StoreError>;
    /// Entries whose versions of objects lie only with peers.
    async fn missing_history(&self) -> Result<Vec<MissingHistory>, StoreError>;
    /// Ranges of records that lie only with peers.
    async fn missing_records(&self) -> Result<Vec<MissingRange>, StoreError>;
    /// The uppermost records of a range of a stream, with the head below them.
    async fn record_range(
        &self,
        stream: &str,
        from: u64,
        to: u64,
    ) -> Result<RecordChunk, StoreError>;
    /// Takes records in that a peer sent, if their chained heads fit; how many were missing.
    async fn fill_records(&self, chunk: RecordChunk) -> Result<u64, StoreError>;
    /// Writes a backup into the folder `dest`, which must not exist.
    async fn backup(&self, dest: &Path) -> Result<BackupManifest, StoreError>;
}

#[async_trait]
impl Archive for SqliteShadow {
    async fn wait_written(&self, index: u64) -> Result<(), ShadowError> {
        self.wait_written(index).await
    }
    async fn audit(&self, query: &AuditQuery) -> Result<Page<RecordRow, AuditCursor>, StoreError> {
        self.audit(query).await
    }
    async fn history(
        &self,
        object: ObjectId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Page<HistoryRow, u64>, StoreError> {
        self.history(object, before, limit).await
    }
    async fn was(
        &self,
        object: ObjectId,
        newest: Option<u64>,
        moment: Moment,
    ) -> Result<(Then, Seen), StoreError> {
        self.was(object, newest, moment).await
    }
    async fn deleted(
        &self,
        kind: &str,
        after: Option<DeletedCursor>,
        limit: u32,
    ) -> Result<Page<HistoryRow, DeletedCursor>, StoreError> {
        self.deleted(kind, after, limit).await
    }
    async fn search(&self, search: &Search) -> Result<Found, StoreError> {
        self.search(search).await
    }
    async fn deleted_after(
        &self,
        kind: &str,
        moment: Moment,
        after: Option<ObjectId>,
        limit: u32,
    ) -> Result<Page<HistoryRow, ObjectId>, StoreError> {
        self.deleted_after(kind, moment, after, limit).await
    }
    async fn then(
        &self,
        objects: &[(ObjectId, Option<u64>)],
        moment: Moment,
    ) -> Result<(Vec<Then>, Seen), StoreError> {
        self.then(objects, moment).await
    }
    async fn missing_history(&self) -> Result<Vec<MissingHistory>, StoreError> {
        self.missing_history().await
    }
    async fn missing_records(&self) -> Result<Vec<MissingRange>, StoreError> {
        self.missing_records().await
    }
    async fn record_range(
        &self,
        stream: &str,
        from: u64,
        to: u64,
    ) -> Result<RecordChunk, StoreError> {
        self.record_range(stream, from, to).await
    }
    async fn fill_records(&self, chunk: RecordChunk) -> Result<u64, StoreError> {
        self.fill_records(chunk).await
    }
    async fn backup(&self, dest: &Path) -> Result<BackupManifest, StoreError> {
        self.backup(dest).await
    }
}
