//! Reading a state file without judging it: what a verifier compares.

use std::path::Path;

use futures::TryStreamExt as _;
use sqlx::Row as _;
use virtflow_state::{Object, StreamHead, Text};
use virtflow_types::{Incarnation, ObjectId};

use crate::connect::{close, connect, frozen, reading};
use crate::error::{Doing as _, StoreError};
use crate::files::companion;
use crate::load::{OBJECTS, object_of, stream_of};
use crate::schema::{Meta, STATE_ID, check_header};

/// What a state file says, true or not.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The cluster.
    pub cluster_id: Option<ObjectId>,
    /// The store's life.
    pub incarnation: Option<Incarnation>,
    /// The cluster version.
    pub cluster_version: u32,
    /// Index of the last entry in it.
    pub index: u64,
    /// The digest it was written with.
    pub digest: u128,
    /// The rows that can be read.
    pub objects: Vec<Object>,
    /// The rows that cannot, and why.
    pub unreadable: Vec<String>,
    /// Where the streams stand.
    pub streams: Vec<(Text, StreamHead)>,
}

/// Reads a state file as it is, beside a running controller or alone. Nothing is written.
pub async fn inspect(file: &Path) -> Result<Inspection, StoreError> {
    // With a write-ahead log beside it the newest rows are there.
    let options = if companion(file, "-wal").exists() {
        reading(file)
    } else {
        frozen(file)
    };
    let doing = || format!("reading {}", file.display());
    let mut connection = connect(options, file).await?;
    check_header(&mut connection, file, STATE_ID).await?;
    // One transaction: the rows are of the index that the marks name.
    sqlx::query("BEGIN")
        .execute(&mut connection)
        .await
        .doing(doing)?;
    let meta = Meta::read(&mut connection, file).await?;
    let rows = sqlx::query("SELECT name, count, head FROM stream ORDER BY name")
        .fetch_all(&mut connection)
        .await
        .doing(doing)?;
    let streams = rows
        .iter()
        .map(stream_of)
        .collect::<Result<_, _>>()
        .doing(doing)?;
    let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
    {
        let mut rows = sqlx::query(OBJECTS).fetch(&mut connection);
        while let Some(row) = rows.try_next().await.doing(doing)? {
            match object_of(&row) {
                Ok(object) => objects.push(object),
                Err(error) => {
                    let id: Vec<u8> = row.try_get(0).unwrap_or_default();
                    let name = ObjectId::from_slice(&id)
                        .map_or_else(|| format!("{id:02x?}"), |id| id.to_string());
                    unreadable.push(format!("object {name}: {error}"));
                }
            }
        }
    }
    close(connection, file).await?;
    Ok(Inspection {
        cluster_id: meta.cluster_id,
        incarnation: meta.incarnation,
        cluster_version: meta.cluster_version,
        index: meta.index,
        digest: meta.digest,
        objects,
        unreadable,
        streams,
    })
}

/// The state file that counts in a store's folder.
pub fn current_state_file(dir: &Path) -> Result<std::path::PathBuf, StoreError> {
    let pointer = dir.join("CURRENT");
    let name =
        std::fs::read_to_string(&pointer).doing(|| format!("reading {}", pointer.display()))?;
    Ok(dir.join(name.trim()))
}
