//! What the files look like, and the one row that says where they stand.

use std::path::Path;

use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};
use virtflow_state::State;
use virtflow_types::{Incarnation, ObjectId};

use crate::bulk::{int, unsigned};
use crate::connect::run;
use crate::error::{Doing as _, StoreError};
use crate::options::ViewDef;

/// The newest schema this code reads and writes. Older ones are brought up when opened; none exist.
pub(crate) const SCHEMA: i64 = 1;
/// `application_id` of the state file: "VFst".
pub(crate) const STATE_ID: i64 = 0x5646_7374;
/// `application_id` of the records file: "VFrc".
pub(crate) const RECORDS_ID: i64 = 0x5646_7263;

pub(crate) const STATE_DDL: &str = "
PRAGMA application_id = 0x56467374;
PRAGMA user_version = 1;
CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  cluster_id BLOB,
  incarnation BLOB,
  cluster_version INTEGER NOT NULL,
  applied_index INTEGER NOT NULL,
  applied_term INTEGER NOT NULL,
  raft_meta BLOB NOT NULL,
  digest BLOB NOT NULL,
  checksum BLOB NOT NULL,
  flushes INTEGER NOT NULL
) STRICT;
CREATE TABLE object (
  id BLOB PRIMARY KEY NOT NULL,
  kind TEXT NOT NULL,
  tenant BLOB,
  parent BLOB,
  name TEXT NOT NULL,
  generation INTEGER NOT NULL,
  version INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  spec TEXT NOT NULL,
  status TEXT NOT NULL,
  footprint BLOB NOT NULL
) STRICT;
CREATE INDEX object_kind ON object (kind, name);
CREATE TABLE stream (
  name TEXT PRIMARY KEY NOT NULL,
  count INTEGER NOT NULL,
  head BLOB NOT NULL
) STRICT, WITHOUT ROWID;
";

/// For pages in the order of creation, of all tenants and of one. SQLite keeps what indexes a file has, so that files with
/// and without them are of one schema ([ADR 16](../../../docs/adr/0016-indexes-of-the-shadow.md)).
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS object_made ON object (kind, id);
CREATE INDEX IF NOT EXISTS object_made_in ON object (kind, tenant, id);
";

/// Makes the indexes that a file does not have yet. One of 200,000 objects takes some hundred milliseconds.
pub(crate) async fn make_indexes(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), StoreError> {
    run(connection, INDEXES, path).await
}

pub(crate) const RECORDS_DDL: &str = "
PRAGMA application_id = 0x56467263;
PRAGMA user_version = 1;
CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  cluster_id BLOB,
  incarnation BLOB,
  applied_index INTEGER NOT NULL,
  written_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE stream (
  name TEXT PRIMARY KEY NOT NULL,
  count INTEGER NOT NULL,
  head BLOB NOT NULL,
  floor_count INTEGER NOT NULL,
  floor_head BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE record (
  stream TEXT NOT NULL,
  count INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  head BLOB NOT NULL,
  actor TEXT,
  tenant TEXT,
  object TEXT,
  body ANY NOT NULL,
  PRIMARY KEY (stream, count)
) STRICT;
CREATE INDEX record_at ON record (stream, at_ms, count);
CREATE INDEX record_actor ON record (stream, actor, at_ms, count) WHERE actor IS NOT NULL;
CREATE INDEX record_tenant ON record (stream, tenant, at_ms, count) WHERE tenant IS NOT NULL;
CREATE INDEX record_object ON record (stream, object, at_ms, count) WHERE object IS NOT NULL;
CREATE TABLE missing (
  stream TEXT NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  last_head BLOB NOT NULL,
  PRIMARY KEY (stream, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE history (
  object BLOB NOT NULL,
  version INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  kind TEXT NOT NULL,
  tenant BLOB,
  parent BLOB,
  name TEXT NOT NULL,
  generation INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  spec TEXT NOT NULL,
  status TEXT NOT NULL,
  applied_index INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,
  request BLOB NOT NULL,
  PRIMARY KEY (object, version)
) STRICT;
CREATE INDEX history_deleted ON history (kind, applied_index, object) WHERE deleted = 1;
CREATE TABLE missing_history (
  first_index INTEGER PRIMARY KEY NOT NULL,
  last_index INTEGER NOT NULL
) STRICT;
";

/// Refuses what is not our file or newer than this code.
pub(crate) async fn check_header(
    connection: &mut SqliteConnection,
    path: &Path,
    id: i64,
) -> Result<(), StoreError> {
    let foreign = |why: String| StoreError::Foreign {
        file: path.to_owned(),
        why,
    };
    let mut pragma = async |sql: &'static str| -> Result<i64, StoreError> {
        sqlx::query(sql)
            .fetch_one(&mut *connection)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| foreign(error.to_string()))
    };
    let found = pragma("PRAGMA application_id").await?;
    if found != id {
        return Err(foreign(format!(
            "its application id is {found:#x}, not {id:#x}"
        )));
    }
    let schema = pragma("PRAGMA user_version").await?;
    if schema > SCHEMA {
        return Err(StoreError::TooNew {
            file: path.to_owned(),
            found: schema,
            known: SCHEMA,
        });
    }
    if schema < 1 {
        return Err(foreign(format!("its schema is {schema}")));
    }
    Ok(())
}

/// Makes the typed views anew; others, of kinds that are no more, go.
pub(crate) async fn make_views(
    connection: &mut SqliteConnection,
    path: &Path,
    views: &[ViewDef],
) -> Result<(), StoreError> {
    let doing = || format!("making the views of {}", path.display());
    let wanted = views
        .iter()
        .map(|view| Ok((view.view.clone(), view.create_sql()?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let rows = sqlx::query("SELECT name, sql FROM sqlite_schema WHERE type = 'view' ORDER BY name")
        .fetch_all(&mut *connection)
        .await
        .doing(doing)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let view: (String, String) = (row.try_get(0).doing(doing)?, row.try_get(1).doing(doing)?);
        found.push(view);
    }
    let mut sorted = wanted.clone();
    sorted.sort();
    if sorted == found {
        return Ok(());
    }
    let mut sql = String::from("BEGIN IMMEDIATE;");
    for (name, _) in &found {
        sql.push_str(&format!("DROP VIEW \"{}\";", name.replace('"', "\"\"")));
    }
    for (_, create) in &wanted {
        sql.push_str(create);
        sql.push(';');
    }
    sql.push_str("COMMIT;");
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(|_| ())
        .doing(doing)
}

/// Where a file stands: enough to know it as the one that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) index: u64,
    pub(crate) incarnation: Option<Incarnation>,
}

/// The state file's one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) cluster_id: Option<ObjectId>,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) cluster_version: u32,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) raft_meta: Bytes,
    pub(crate) digest: u128,
}

impl Meta {
    pub(crate) fn of(state: &State, term: u64, raft_meta: Bytes) -> Self {
        Self {
            cluster_id: state.cluster_id(),
            incarnation: state.incarnation(),
            cluster_version: state.cluster_version(),
            index: state.index(),
            term,
            raft_meta,
            digest: state.digest(),
        }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            index: self.index,
            incarnation: self.incarnation,
        }
    }

    /// Over all fields: the digest covers the rows, this what stands beside them.
    fn checksum(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"meta 1");
        hasher.update(self.cluster_id.unwrap_or(ObjectId::NIL).as_bytes());
        hasher.update(self.incarnation.unwrap_or(Incarnation::NIL).as_bytes());
        hasher.update(&self.cluster_version.to_be_bytes());
        hasher.update(&self.index.to_be_bytes());
        hasher.update(&self.term.to_be_bytes());
        hasher.update(&self.digest.to_be_bytes());
        hasher.update(&self.raft_meta);
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        short
    }

    /// Writes it whole; `flushes` grows, so that there is always something to write.
    pub(crate) async fn write(
        &self,
        connection: &mut SqliteConnection,
        path: &Path,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO meta VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, 0)
             ON CONFLICT (one) DO UPDATE SET cluster_id = excluded.cluster_id,
               incarnation = excluded.incarnation, cluster_version = excluded.cluster_version,
               applied_index = excluded.applied_index, applied_term = excluded.applied_term,
               raft_meta = excluded.raft_meta, digest = excluded.digest,
               checksum = excluded.checksum, flushes = flushes + 1",
        )
        .bind(self.cluster_id.map(|id| id.as_bytes().to_vec()))
        .bind(self.incarnation.map(|id| id.as_bytes().to_vec()))
        .bind(i64::from(self.cluster_version))
        .bind(int(self.index))
        .bind(int(self.term))
        .bind(self.raft_meta.to_vec())
        .bind(self.digest.to_be_bytes().to_vec())
        .bind(self.checksum().to_vec())
        .execute(connection)
        .await
        .map(|_| ())
        .doing(|| format!("writing the marks of {}", path.display()))
    }

    /// Reads it and verifies its checksum.
    pub(crate) async fn read(
        connection: &mut SqliteConnection,
        path: &Path,
    ) -> Result<Self, StoreError> {
        let damaged = |why: String| StoreError::damaged(path, format!("its marks: {why}"));
        let row = sqlx::query(
            "SELECT cluster_id, incarnation, cluster_version, applied_index, applied_term,
               raft_meta, digest, checksum FROM meta WHERE one = 1",
        )
        .fetch_one(connection)
        .await
        .map_err(|error| damaged(error.to_string()))?;
        let (meta, checksum) = Self::from_row(&row).map_err(|error| damaged(error.to_string()))?;
        if checksum != meta.checksum() {
            return Err(damaged("the checksum does not fit".into()));
        }
        Ok(meta)
    }

    fn from_row(row: &SqliteRow) -> Result<(Self, Vec<u8>), sqlx::Error> {
        let wrong = |what: &str| sqlx::Error::Decode(what.into());
        let cluster_id = optional_id(row, 0)?
            .map(|bytes| ObjectId::from_slice(&bytes).ok_or_else(|| wrong("cluster id")))
            .transpose()?;
        let incarnation = optional_id(row, 1)?
            .map(|bytes| Incarnation::from_slice(&bytes).ok_or_else(|| wrong("incarnation")))
            .transpose()?;
        let digest: Vec<u8> = row.try_get(6)?;
        let meta = Self {
            cluster_id,
            incarnation,
            cluster_version: u32::try_from(row.try_get::<i64, _>(2)?)
                .map_err(|_| wrong("cluster version"))?,
            index: unsigned(row.try_get(3)?),
            term: unsigned(row.try_get(4)?),
            raft_meta: row.try_get::<Vec<u8>, _>(5)?.into(),
            digest: u128::from_be_bytes(digest.try_into().map_err(|_| wrong("digest"))?),
        };
        Ok((meta, row.try_get(7)?))
    }
}

fn optional_id(row: &SqliteRow, column: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
    row.try_get(column)
}

/// Looks whether a file is as this process last left it.
pub(crate) async fn check_stamp(
    connection: &mut SqliteConnection,
    path: &Path,
    left: Stamp,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT applied_index, incarnation FROM meta WHERE one = 1")
        .fetch_one(connection)
        .await
        .doing(|| format!("reading the marks of {}", path.display()))?;
    let doing = || format!("reading the marks of {}", path.display());
    let found = Stamp {
        index: unsigned(row.try_get(0).doing(doing)?),
        incarnation: optional_id(&row, 1)
            .doing(doing)?
            .and_then(|bytes| Incarnation::from_slice(&bytes)),
    };
    if found == left {
        Ok(())
    } else {
        Err(StoreError::damaged(
            path,
            format!("somebody else wrote to it: left at {left:?}, found at {found:?}"),
        ))
    }
}

/// A new, empty state file, closed and without companions.
pub(crate) async fn create_state(path: &Path) -> Result<(), StoreError> {
    let mut connection = crate::connect::connect(crate::connect::building(path), path).await?;
    run(&mut connection, STATE_DDL, path).await?;
    let empty = Meta::of(&State::empty(), 0, Bytes::new());
    empty.write(&mut connection, path).await?;
    crate::connect::close(connection, path).await
}
