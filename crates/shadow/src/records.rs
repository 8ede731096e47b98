//! The writing end of the records file: streams, and every version of every object.
//!
//! Each commit is flushed, and comes before the state's commit that counts the same records. So the
//! file may be ahead of the state, never behind, but for two gaps that are written down: what an
//! installed snapshot skipped, and what retention removed.

mod fill;
mod rows;
mod trim;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use virtflow_state::port::AppliedEntry;
use virtflow_state::{State, StreamHead, Text};
use virtflow_types::{Incarnation, ObjectId, Timestamp};

use crate::bulk::{Bulk, int, unsigned};
use crate::connect::{check_library, checkpoint, close, connect, run, writing};
use crate::crash::{Crash, CrashPoint};
use crate::error::{Doing as _, StoreError};
use crate::files::{file_bytes, sync_dir};
use crate::load::{FULL_CHECK_BYTES_MAX, check_integrity};
use crate::options::{Integrity, ShadowOptions};
use crate::schema::{RECORDS_DDL, RECORDS_ID, Stamp, check_header, check_stamp};

pub use fill::{MissingHistory, MissingRange, RANGE_RECORDS_MAX, RecordChunk};
pub(crate) use fill::{missing_history, missing_ranges, record_of, record_range};
pub(crate) use rows::head_of;
use rows::{RecordInsert, insert_records, versions_of};

/// The records file with its only writing connection.
#[derive(Debug)]
pub(crate) struct RecordsFile {
    connection: SqliteConnection,
    path: PathBuf,
    stamp: Stamp,
    /// The newest record of each stream that lies here or is known to be missing.
    heads: BTreeMap<Text, StreamHead>,
    statements: Statements,
}

#[derive(Debug)]
struct Statements {
    record: Bulk,
    history: Bulk,
    stream: Bulk,
}

impl Statements {
    fn new() -> Self {
        Self {
            record: Bulk::new(
                "INSERT INTO record (stream, count, at_ms, head, actor, tenant, object, body)",
                8,
                "",
            ),
            history: Bulk::new(
                "INSERT INTO history (object, version, deleted, kind, tenant, parent, name,
                   generation, closed, spec, status, applied_index, at_ms, actor, request)",
                15,
                "",
            ),
            stream: Bulk::new(
                "INSERT INTO stream (name, count, head, floor_count, floor_head)",
                5,
                "ON CONFLICT (name) DO UPDATE SET count = excluded.count, head = excluded.head",
            ),
        }
    }
}

impl RecordsFile {
    /// Opens the file, or makes an empty one.
    pub(crate) async fn open(path: PathBuf, options: &ShadowOptions) -> Result<Self, StoreError> {
        let fresh = !path.exists();
        let mut connection = connect(writing(&path, true), &path).await?;
        check_library(&mut connection).await?;
        if fresh || is_blank(&mut connection, &path).await? {
            run(&mut connection, "BEGIN IMMEDIATE", &path).await?;
            run(&mut connection, RECORDS_DDL, &path).await?;
            run(
                &mut connection,
                "INSERT INTO meta VALUES (1, NULL, NULL, 0, 0); COMMIT",
                &path,
            )
            .await?;
        }
        check_header(&mut connection, &path, RECORDS_ID).await?;
        // It may grow far beyond the state, and nothing is decided from it: a start does not wait for
        // a look at all of a large one.
        if options.integrity != Integrity::BySize || file_bytes(&path) <= FULL_CHECK_BYTES_MAX {
            check_integrity(&mut connection, &path, options.integrity).await?;
        }
        // A flushed commit brings what a killed process left in the page cache along.
        run(
            &mut connection,
            "PRAGMA synchronous = FULL; UPDATE meta SET one = one",
            &path,
        )
        .await?;
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
        checkpoint(&mut connection, &path).await?;
        let damaged = |error: sqlx::Error| StoreError::damaged(&path, error.to_string());
        let row = sqlx::query("SELECT applied_index, incarnation FROM meta WHERE one = 1")
            .fetch_one(&mut connection)
            .await
            .map_err(damaged)?;
        let incarnation: Option<Vec<u8>> = row.try_get(1).map_err(damaged)?;
        let stamp = Stamp {
            index: unsigned(row.try_get(0).map_err(damaged)?),
            incarnation: incarnation.and_then(|bytes| Incarnation::from_slice(&bytes)),
        };
        let mut heads = BTreeMap::new();
        let rows = sqlx::query("SELECT name, count, head FROM stream")
            .fetch_all(&mut connection)
            .await
            .map_err(damaged)?;
        for row in &rows {
            let name: String = row.try_get(0).map_err(damaged)?;
            let head = head_of(row, 1, 2).map_err(damaged)?;
            heads.insert(Text::from(name), head);
        }
        Ok(Self {
            connection,
            path,
            stamp,
            heads,
            statements: Statements::new(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the file to where a freshly loaded or installed state stands: what the state counts and
    /// the file has not becomes a missing range, which a peer may fill.
    pub(crate) async fn reconcile(&mut self, state: &State) -> Result<(), StoreError> {
        if let (Some(ours), Some(theirs)) = (self.stamp.incarnation, state.incarnation())
            && ours != theirs
        {
            return Err(StoreError::damaged(
                &self.path,
                format!("it belongs to the store's life {ours}, the state to {theirs}"),
            ));
        }
        let mut behind = Vec::new();
        for (name, head) in state.streams() {
            let known = self.heads.get(name).copied().unwrap_or_default();
            if known.count < head.count {
                behind.push((name.clone(), known, *head));
            } else if known.count == head.count && known.head != head.head {
                return Err(StoreError::damaged(
                    &self.path,
                    format!("the head of the stream `{name}` is not the one that the state has"),
                ));
            }
        }
        let index = self.stamp.index.max(state.index());
        let stamp = Stamp {
            index,
            incarnation: self.stamp.incarnation.or(state.incarnation()),
        };
        if behind.is_empty() && stamp == self.stamp {
            return Ok(());
        }
        let doing = || "writing down what is missing".to_owned();
        run(&mut self.connection, "BEGIN IMMEDIATE", &self.path).await?;
        check_stamp(&mut self.connection, &self.path, self.stamp).await?;
        for (name, known, head) in &behind {
            sqlx::query("INSERT INTO missing (stream, first, last, last_head) VALUES (?, ?, ?, ?)")
                .bind(name.as_str())
                .bind(int(known.count + 1))
                .bind(int(head.count))
                .bind(head.head.as_slice())
                .execute(&mut self.connection)
                .await
                .doing(doing)?;
        }
        if index > self.stamp.index {
            sqlx::query("INSERT INTO missing_history (first_index, last_index) VALUES (?, ?)")
                .bind(int(self.stamp.index + 1))
                .bind(int(index))
                .execute(&mut self.connection)
                .await
                .doing(doing)?;
        }
        let heads: Vec<_> = behind
            .into_iter()
            .map(|(name, _, head)| (name, head))
            .collect();
        self.write_heads(&heads).await?;
        self.write_meta(stamp, state.cluster_id()).await?;
        run(&mut self.connection, "COMMIT", &self.path).await?;
        self.stamp = stamp;
        self.heads.extend(heads);
        Ok(())
    }

    /// Writes what the entries recorded and changed. Entries that the file has already, because the
    /// state fell back behind it in a crash, are passed over.
    pub(crate) async fn write(
        &mut self,
        entries: &[Arc<AppliedEntry>],
        crash: &Crash,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        if last.index <= self.stamp.index {
            return Ok(());
        }
        if first.index > self.stamp.index + 1 {
            return Err(StoreError::damaged(
                &self.path,
                format!(
                    "it ends at {}, the next entry is {}",
                    self.stamp.index, first.index
                ),
            ));
        }
        let new = || {
            entries
                .iter()
                .filter(|entry| entry.index > self.stamp.index)
        };
        let mut heads: BTreeMap<Text, StreamHead> = BTreeMap::new();
        let mut records = Vec::new();
        let mut history = Vec::new();
        for entry in new() {
            for record in &entry.records {
                let known = heads
                    .get(&record.stream)
                    .or_else(|| self.heads.get(&record.stream))
                    .map_or(0, |head| head.count);
                if record.count != known + 1 {
                    return Err(StoreError::damaged(
                        &self.path,
                        format!(
                            "the stream `{}` ends at {known}, the next record is {}",
                            record.stream, record.count
                        ),
                    ));
                }
                let head = StreamHead {
                    count: record.count,
                    head: record.head,
                };
                heads.insert(record.stream.clone(), head);
                records.push(RecordInsert::of(record));
            }
            versions_of(entry, &mut history)?;
        }
        let stamp = Stamp {
            index: last.index,
            incarnation: last.image.incarnation(),
        };
        let heads: Vec<_> = heads.into_iter().collect();

        run(&mut self.connection, "BEGIN IMMEDIATE", &self.path).await?;
        check_stamp(&mut self.connection, &self.path, self.stamp).await?;
        insert_records(
            &mut self.connection,
            &self.path,
            &self.statements.record,
            &records,
        )
        .await?;
        self.statements
            .history
            .execute(&mut self.connection, &self.path, &history, |query, row| {
                let object = row.object;
                query
                    .bind(object.id.as_bytes().as_slice())
                    .bind(int(row.version))
                    .bind(i64::from(row.deleted))
                    .bind(object.kind.as_str())
                    .bind(object.tenant.as_ref().map(|id| id.as_bytes().as_slice()))
                    .bind(object.parent.as_ref().map(|id| id.as_bytes().as_slice()))
                    .bind(object.name.as_str())
                    .bind(int(object.generation))
                    .bind(i64::from(object.closed))
                    .bind(&*object.spec)
                    .bind(&*object.status)
                    .bind(int(row.index))
                    .bind(int(row.at.ms()))
                    .bind(row.actor)
                    .bind(row.request.as_bytes().as_slice())
            })
            .await?;
        self.write_heads(&heads).await?;
        self.write_meta(stamp, last.image.cluster_id()).await?;
        crash.reach(CrashPoint::RecordsWritten).await;
        run(&mut self.connection, "COMMIT", &self.path).await?;
        self.stamp = stamp;
        self.heads.extend(heads);
        crash.reach(CrashPoint::RecordsCommitted).await;
        Ok(())
    }

    /// Moves the file to another life of the store, and drops what lies beyond `state`: records and
    /// versions that the restored state never made.
    pub(crate) async fn restart_at(&mut self, state: &State) -> Result<(), StoreError> {
        let doing = || format!("cutting {} to the restored state", self.path.display());
        run(&mut self.connection, "BEGIN IMMEDIATE", &self.path).await?;
        let mut heads = Vec::new();
        for name in self.heads.keys() {
            let head = state.stream(name);
            for sql in [
                "DELETE FROM record WHERE stream = ? AND count > ?",
                "DELETE FROM missing WHERE stream = ? AND last > ?",
            ] {
                sqlx::query(sql)
                    .bind(name.as_str())
                    .bind(int(head.count))
                    .execute(&mut self.connection)
                    .await
                    .doing(doing)?;
            }
            if self.heads[name].count >= head.count {
                heads.push((name.clone(), head));
            }
        }
        for sql in [
            "DELETE FROM history WHERE applied_index > ?",
            "DELETE FROM missing_history WHERE last_index > ?",
        ] {
            sqlx::query(sql)
                .bind(int(state.index()))
                .execute(&mut self.connection)
                .await
                .doing(doing)?;
        }
        let stamp = Stamp {
            index: self.stamp.index.min(state.index()),
            incarnation: state.incarnation(),
        };
        self.write_heads(&heads).await?;
        self.write_meta(stamp, state.cluster_id()).await?;
        run(&mut self.connection, "COMMIT", &self.path).await?;
        self.stamp = stamp;
        self.heads.extend(heads);
        self.reconcile(state).await
    }

    pub(crate) async fn checkpoint(&mut self) -> Result<(), StoreError> {
        checkpoint(&mut self.connection, &self.path).await
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        close(self.connection, &self.path).await
    }

    async fn write_heads(&mut self, heads: &[(Text, StreamHead)]) -> Result<(), StoreError> {
        self.statements
            .stream
            .execute(&mut self.connection, &self.path, heads, |query, row| {
                let (name, head) = row;
                query
                    .bind(name.as_str())
                    .bind(int(head.count))
                    .bind(head.head.as_slice())
                    // Only a new stream takes these: nothing of it has been removed.
                    .bind(0_i64)
                    .bind([0_u8; 32].to_vec())
            })
            .await
    }

    async fn write_meta(
        &mut self,
        stamp: Stamp,
        cluster_id: Option<ObjectId>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE meta SET cluster_id = ?, incarnation = ?, applied_index = ?, written_at_ms = ?",
        )
        .bind(cluster_id.map(|id| id.as_bytes().to_vec()))
        .bind(stamp.incarnation.map(|id| id.as_bytes().to_vec()))
        .bind(int(stamp.index))
        .bind(int(Timestamp::now().ms()))
        .execute(&mut self.connection)
        .await
        .map(|_| ())
        .doing(|| format!("writing the marks of {}", self.path.display()))
    }
}

/// True for a file that a killed process made but never filled.
async fn is_blank(connection: &mut SqliteConnection, path: &Path) -> Result<bool, StoreError> {
    sqlx::query("SELECT count(*) FROM sqlite_schema")
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get::<i64, _>(0))
        .map(|tables| tables == 0)
        .map_err(|error| StoreError::Foreign {
            file: path.to_owned(),
            why: error.to_string(),
        })
}
