//! The writing end of a state file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use virtflow_state::{Object, StreamHead, Text};
use virtflow_types::ObjectId;

use crate::bulk::{Bulk, int};
use crate::connect::{check_library, checkpoint, close, connect, run, writing};
use crate::crash::{Crash, CrashPoint};
use crate::error::StoreError;
use crate::files::sync_dir;
use crate::load::{FileContent, check_integrity, footprint_bytes, load};
use crate::options::{ShadowOptions, ViewDef};
use crate::schema::{Meta, STATE_ID, Stamp, check_header, check_stamp, make_indexes, make_views};

/// What many entries did together: the last word on each object.
#[derive(Debug)]
pub(crate) struct StateBatch {
    pub(crate) puts: Vec<Arc<Object>>,
    pub(crate) deletes: Vec<ObjectId>,
    pub(crate) streams: Vec<(Text, StreamHead)>,
    pub(crate) meta: Meta,
}

/// The state file with its only writing connection.
#[derive(Debug)]
pub(crate) struct StateFile {
    connection: SqliteConnection,
    path: PathBuf,
    pub(crate) number: u64,
    meta: Meta,
    statements: Statements,
    /// Whether the connection is set to flush at commits.
    full: bool,
}

#[derive(Debug)]
struct Statements {
    put: Bulk,
    delete: Bulk,
    stream: Bulk,
}

impl StateFile {
    /// Opens, examines and loads a state file; what it holds is flushed when this returns. Views are
    /// made anew if any are given.
    pub(crate) async fn open(
        path: PathBuf,
        number: u64,
        options: &ShadowOptions,
        views: Option<&[ViewDef]>,
    ) -> Result<(Self, FileContent), StoreError> {
        let mut connection = connect(writing(&path, false), &path).await?;
        check_library(&mut connection).await?;
        check_header(&mut connection, &path, STATE_ID).await?;
        check_integrity(&mut connection, &path, options.integrity).await?;
        let content = load(&mut connection, &path, options.supports).await?;
        let file = Self::adopt(connection, path, number, content.meta.clone(), views).await?;
        Ok((file, content))
    }

    /// Opens a file whose content was examined and loaded before.
    pub(crate) async fn open_examined(
        path: PathBuf,
        number: u64,
        meta: Meta,
        views: &[ViewDef],
    ) -> Result<Self, StoreError> {
        let connection = connect(writing(&path, false), &path).await?;
        Self::adopt(connection, path, number, meta, Some(views)).await
    }

    async fn adopt(
        mut connection: SqliteConnection,
        path: PathBuf,
        number: u64,
        meta: Meta,
        views: Option<&[ViewDef]>,
    ) -> Result<Self, StoreError> {
        if let Some(views) = views {
            make_indexes(&mut connection, &path).await?;
            make_views(&mut connection, &path, views).await?;
        }
        let mut file = Self {
            connection,
            path,
            number,
            meta,
            statements: Statements {
                put: Bulk::new(
                    "INSERT INTO object",
                    11,
                    "ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, tenant = excluded.tenant,
                       parent = excluded.parent, name = excluded.name,
                       generation = excluded.generation, version = excluded.version,
                       closed = excluded.closed, spec = excluded.spec, status = excluded.status,
                       footprint = excluded.footprint",
                ),
                delete: Bulk::new("DELETE FROM object WHERE id IN (", 1, ")"),
                stream: Bulk::new(
                    "INSERT INTO stream",
                    3,
                    "ON CONFLICT (name) DO UPDATE SET count = excluded.count, head = excluded.head",
                ),
            },
            full: false,
        };
        // What a killed process committed may lie in the page cache alone, and the name of its
        // write-ahead log with it.
        file.flush().await?;
        if let Some(dir) = file.path.parent() {
            sync_dir(dir)?;
        }
        file.checkpoint().await?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// Index and incarnation last written.
    pub(crate) fn stamp(&self) -> Stamp {
        self.meta.stamp()
    }
    /// Writes a batch in one transaction; with `durable` it is on the disk when this returns, and with
    /// it all that was committed before.
    pub(crate) async fn write(
        &mut self,
        batch: &StateBatch,
        durable: bool,
        crash: &Crash,
    ) -> Result<(), StoreError> {
        self.set_full(durable).await?;
        let (connection, path) = (&mut self.connection, self.path.as_path());
        run(connection, "BEGIN IMMEDIATE", path).await?;
        check_stamp(connection, path, self.meta.stamp()).await?;
        self.statements
            .put
            .execute(connection, path, &batch.puts, |query, object| {
                query
                    .bind(object.id.as_bytes().as_slice())
                    .bind(object.kind.as_str())
                    .bind(object.tenant.as_ref().map(|id| id.as_bytes().as_slice()))
                    .bind(object.parent.as_ref().map(|id| id.as_bytes().as_slice()))
                    .bind(object.name.as_str())
                    .bind(int(object.generation))
                    .bind(int(object.version))
                    .bind(i64::from(object.closed))
                    .bind(&*object.spec)
                    .bind(&*object.status)
                    .bind(footprint_bytes(object))
            })
            .await?;
        self.statements
            .delete
            .execute(connection, path, &batch.deletes, |query, id| {
                query.bind(id.as_bytes().as_slice())
            })
            .await?;
        self.statements
            .stream
            .execute(connection, path, &batch.streams, |query, (name, head)| {
                query
                    .bind(name.as_str())
                    .bind(int(head.count))
                    .bind(head.head.as_slice())
            })
            .await?;
        batch.meta.write(connection, path).await?;
        crash.reach(CrashPoint::StateWritten).await;
        run(connection, "COMMIT", path).await?;
        self.meta = batch.meta.clone();
        crash.reach(CrashPoint::StateCommitted).await;
        Ok(())
    }

    /// Makes durable what is committed: a commit that flushes, with nothing new in it.
    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        self.set_full(true).await?;
        let (connection, path) = (&mut self.connection, self.path.as_path());
        run(connection, "BEGIN IMMEDIATE", path).await?;
        check_stamp(connection, path, self.meta.stamp()).await?;
        self.meta.write(connection, path).await?;
        run(connection, "COMMIT", path).await
    }

    /// Cuts the write-ahead log.
    pub(crate) async fn checkpoint(&mut self) -> Result<(), StoreError> {
        checkpoint(&mut self.connection, &self.path).await
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        close(self.connection, &self.path).await
    }

    async fn set_full(&mut self, full: bool) -> Result<(), StoreError> {
        if self.full != full {
            let sql = if full {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            };
            run(&mut self.connection, sql, &self.path).await?;
            self.full = full;
        }
        Ok(())
    }
}
