//! From a state file back to the state.

use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tokio::sync::mpsc;
use virtflow_state::port::Loaded;
use virtflow_state::{ClusterVersionTooNew, Object, State, StreamHead, Text};
use virtflow_types::ObjectId;

use crate::bulk::unsigned;
use crate::connect::{close, connect, frozen};
use crate::error::StoreError;
use crate::files::file_bytes;
use crate::options::Integrity;
use crate::schema::{Meta, STATE_ID, check_header};

/// Up to this size every index is compared with its table at a start.
pub(crate) const FULL_CHECK_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Objects handed on together, and how many such groups may wait: bounds the memory of a load beyond
/// the state itself.
const GROUP_OBJECTS: usize = 512;
const GROUPS_WAITING_MAX: usize = 4;

/// What one file holds.
#[derive(Debug)]
pub(crate) struct FileContent {
    pub(crate) meta: Meta,
    pub(crate) state: State,
}

impl FileContent {
    pub(crate) fn loaded(&self) -> Loaded {
        Loaded {
            state: self.state.clone(),
            raft_meta: self.meta.raft_meta.clone(),
        }
    }
}

/// Examines a file's pages and indexes.
pub(crate) async fn check_integrity(
    connection: &mut SqliteConnection,
    path: &Path,
    integrity: Integrity,
) -> Result<(), StoreError> {
    let full = match integrity {
        Integrity::Full => true,
        Integrity::Quick => false,
        Integrity::BySize => file_bytes(path) <= FULL_CHECK_BYTES_MAX,
    };
    let sql = if full {
        "PRAGMA integrity_check(1)"
    } else {
        "PRAGMA quick_check(1)"
    };
    let answer: String = sqlx::query(sql)
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| StoreError::damaged(path, error.to_string()))?;
    if answer == "ok" {
        Ok(())
    } else {
        Err(StoreError::damaged(path, answer))
    }
}

/// Reads the whole file and verifies its digest. What is of a cluster version above `supports` is not even read: it may
/// hold what only newer software understands.
pub(crate) async fn load(
    connection: &mut SqliteConnection,
    path: &Path,
    supports: u32,
) -> Result<FileContent, StoreError> {
    let damaged = |why: String| StoreError::damaged(path, why);
    let meta = Meta::read(connection, path).await?;
    check_version(path, meta.cluster_version, supports)?;
    let mut streams = Vec::new();
    let rows = sqlx::query("SELECT name, count, head FROM stream ORDER BY name")
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| damaged(error.to_string()))?;
    for row in &rows {
        streams.push(stream_of(row).map_err(|error| damaged(error.to_string()))?);
    }

    // The state takes its rows from a plain iterator: it runs on a thread of its own and is fed in
    // groups, so that the rows never lie in memory twice.
    let (groups, mut incoming) = mpsc::channel::<Vec<Object>>(GROUPS_WAITING_MAX);
    let marks = meta.clone();
    let building = tokio::task::spawn_blocking(move || {
        let objects = std::iter::from_fn(|| incoming.blocking_recv()).flatten();
        State::from_parts(
            marks.cluster_id,
            marks.incarnation,
            marks.cluster_version,
            marks.index,
            objects,
            streams,
        )
    });
    let fed = feed(connection, &groups).await;
    drop(groups);
    let built = building.await.map_err(|error| damaged(error.to_string()))?;
    fed.map_err(|error| damaged(error.to_string()))?;
    let state = built.map_err(|divergence| damaged(divergence.to_string()))?;
    if state.digest() != meta.digest {
        return Err(damaged(format!(
            "its content has the digest {:032x}, it was written with {:032x}",
            state.digest(),
            meta.digest
        )));
    }
    Ok(FileContent { meta, state })
}

/// Refuses a file of a cluster version above `supports`.
pub(crate) fn check_version(file: &Path, needed: u32, supports: u32) -> Result<(), StoreError> {
    ClusterVersionTooNew::check(needed, supports).map_err(|source| StoreError::ClusterVersion {
        file: file.to_owned(),
        source,
    })
}

/// All objects, in the columns that [`object_of`] reads.
pub(crate) const OBJECTS: &str =
    "SELECT id, kind, tenant, parent, name, generation, version, closed, spec, status, footprint
     FROM object";

async fn feed(
    connection: &mut SqliteConnection,
    groups: &mpsc::Sender<Vec<Object>>,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query(OBJECTS).fetch(connection);
    let mut group = Vec::with_capacity(GROUP_OBJECTS);
    while let Some(row) = rows.try_next().await? {
        group.push(object_of(&row)?);
        if group.len() == GROUP_OBJECTS {
            let full = std::mem::replace(&mut group, Vec::with_capacity(GROUP_OBJECTS));
            if groups.send(full).await.is_err() {
                // The builder gave up; its error says more.
                return Ok(());
            }
        }
    }
    // As above.
    let _ = groups.send(group).await;
    Ok(())
}

pub(crate) fn stream_of(row: &SqliteRow) -> Result<(Text, StreamHead), sqlx::Error> {
    let name: &str = row.try_get(0)?;
    let head: Vec<u8> = row.try_get(2)?;
    let head = StreamHead {
        count: unsigned(row.try_get(1)?),
        head: head
            .try_into()
            .map_err(|_| sqlx::Error::Decode("head of a stream".into()))?,
    };
    Ok((Text::new(name), head))
}

pub(crate) fn object_of(row: &SqliteRow) -> Result<Object, sqlx::Error> {
    let wrong = |what: &str| sqlx::Error::Decode(format!("object: {what}").into());
    let footprint: Vec<u8> = row.try_get(10)?;
    let mut object =
        Object::decode(Bytes::from(footprint)).map_err(|error| wrong(&error.to_string()))?;
    object.id = ObjectId::from_slice(row.try_get(0)?).ok_or_else(|| wrong("id"))?;
    object.kind = Text::new(row.try_get::<&str, _>(1)?);
    object.tenant = id_of(row, 2)?;
    object.parent = id_of(row, 3)?;
    object.name = Text::new(row.try_get::<&str, _>(4)?);
    object.generation = unsigned(row.try_get(5)?);
    object.version = unsigned(row.try_get(6)?);
    object.closed = row.try_get::<i64, _>(7)? != 0;
    object.spec = row.try_get::<&str, _>(8)?.into();
    object.status = row.try_get::<&str, _>(9)?.into();
    Ok(object)
}

/// What an object holds of the shared, in the stored form; its other parts have columns of their own.
pub(crate) fn footprint_bytes(object: &Object) -> Vec<u8> {
    let mut bare = Object::new("", ObjectId::NIL, "");
    bare.spec = "".into();
    bare.status = "".into();
    bare.footprint = object.footprint.clone();
    bare.encode()
}

/// An optional id in a column.
pub(crate) fn id_of(row: &SqliteRow, column: usize) -> Result<Option<ObjectId>, sqlx::Error> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    bytes
        .map(|bytes| {
            ObjectId::from_slice(bytes).ok_or_else(|| sqlx::Error::Decode("not an id".into()))
        })
        .transpose()
}

/// Everything that can be known of a file that nobody has open: ours, not newer, sound, its digest
/// right, of a cluster version up to `supports`.
pub(crate) async fn examine(path: &Path, supports: u32) -> Result<FileContent, StoreError> {
    let mut connection = connect(frozen(path), path).await?;
    check_header(&mut connection, path, STATE_ID).await?;
    check_integrity(&mut connection, path, Integrity::Full).await?;
    let content = load(&mut connection, path, supports).await?;
    close(connection, path).await?;
    Ok(content)
}

/// The marks alone, of a file that nobody has open.
pub(crate) async fn peek(path: &Path) -> Result<Meta, StoreError> {
    let mut connection = connect(frozen(path), path).await?;
    check_header(&mut connection, path, STATE_ID).await?;
    let meta = Meta::read(&mut connection, path).await?;
    close(connection, path).await?;
    Ok(meta)
}
