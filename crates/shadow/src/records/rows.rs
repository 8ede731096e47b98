//! Records and versions on their way into the file, and heads on their way out.

use std::path::Path;

use serde::Deserialize;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use virtflow_state::port::AppliedEntry;
use virtflow_state::{Object, RecordRow, StreamHead};
use virtflow_types::{RequestId, Timestamp};

use crate::bulk::{Bulk, int, unsigned};
use crate::error::StoreError;

/// A stream head from two columns.
pub(crate) fn head_of(
    row: &SqliteRow,
    count: usize,
    head: usize,
) -> Result<StreamHead, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(head)?;
    Ok(StreamHead {
        count: unsigned(row.try_get(count)?),
        head: bytes
            .try_into()
            .map_err(|_| sqlx::Error::Decode("head of a stream".into()))?,
    })
}

/// A record as it is written, with what audit is searched by.
#[derive(Debug)]
pub(super) struct RecordInsert<'a> {
    row: &'a RecordRow,
    fields: SearchFields,
}

impl<'a> RecordInsert<'a> {
    pub(super) fn of(row: &'a RecordRow) -> Self {
        Self {
            row,
            fields: SearchFields::of(&row.body),
        }
    }
}

/// What a record's body is found by, if it is a JSON object with these members as text.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct SearchFields {
    actor: Option<String>,
    tenant: Option<String>,
    object: Option<String>,
}

impl SearchFields {
    /// Streams may hold anything: what is no such JSON is found by its place and time alone.
    fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

pub(super) async fn insert_records(
    connection: &mut SqliteConnection,
    path: &Path,
    statement: &Bulk,
    records: &[RecordInsert<'_>],
) -> Result<(), StoreError> {
    statement
        .execute(connection, path, records, |query, record| {
            let row = record.row;
            let query = query
                .bind(row.stream.as_str())
                .bind(int(row.count))
                .bind(int(row.at.ms()))
                .bind(row.head.as_slice())
                .bind(record.fields.actor.as_deref())
                .bind(record.fields.tenant.as_deref())
                .bind(record.fields.object.as_deref());
            // Text as text, so that people can read it.
            match std::str::from_utf8(&row.body) {
                Ok(text) => query.bind(text),
                Err(_) => query.bind(row.body.as_ref()),
            }
        })
        .await
}

/// One version of an object as it is written.
#[derive(Debug)]
pub(super) struct VersionInsert<'a> {
    pub(super) object: &'a Object,
    pub(super) version: u64,
    pub(super) deleted: bool,
    pub(super) index: u64,
    pub(super) at: Timestamp,
    pub(super) actor: &'a str,
    pub(super) request: &'a RequestId,
}

/// Pairs an entry's changes with the changesets that made them.
pub(super) fn versions_of<'a>(
    entry: &'a AppliedEntry,
    out: &mut Vec<VersionInsert<'a>>,
) -> Result<(), StoreError> {
    let uneven = || {
        StoreError::refused(
            format!("entry {}", entry.index),
            "its outcomes do not account for its changes",
        )
    };
    let mut rest = entry.changes.as_slice();
    for outcome in &entry.outcomes {
        let (own, after) = rest.split_at_checked(outcome.changes).ok_or_else(uneven)?;
        rest = after;
        for change in own {
            let (object, deleted) = match (&change.after, &change.before) {
                (Some(after), _) => (after, false),
                (None, Some(before)) => (before, true),
                (None, None) => continue,
            };
            out.push(VersionInsert {
                object,
                version: object.version + u64::from(deleted),
                deleted,
                index: entry.index,
                at: outcome.now,
                actor: &outcome.actor,
                request: &outcome.request_id,
            });
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(uneven())
    }
}
