//! Ranges of records that an installed snapshot skipped, and how a peer's copy fills them.
//!
//! A range ends at a head that the state vouches for. A chunk must end there too: hashed through from
//! its own claim of what came before, it reaches that head only if every record of it and the claim are
//! true. Then the claim is the trusted end of what is still missing below. So ranges are filled from
//! the top downward.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use virtflow_state::{RecordRow, StreamHead, Text};
use virtflow_types::Timestamp;

use super::RecordsFile;
use super::rows::{RecordInsert, head_of, insert_records};
use crate::bulk::{int, unsigned};
use crate::connect::run;
use crate::error::{Doing as _, StoreError};

/// Records in one chunk.
pub const RANGE_RECORDS_MAX: u64 = 1000;

/// Records that the state counts and this store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRange {
    /// The stream.
    pub stream: Text,
    /// The first that is missing.
    pub first: u64,
    /// The last, with the head that the stream has there.
    pub last: StreamHead,
}

/// Entries whose versions of objects this store does not have. Nothing vouches for a peer's copy of
/// them, so they stay missing until their retention ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingHistory {
    /// The first entry.
    pub first_index: u64,
    /// The last entry.
    pub last_index: u64,
}

/// Successive records with the head before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChunk {
    /// The stream.
    pub stream: Text,
    /// The head that the first record was appended to.
    pub before: StreamHead,
    /// The records, ascending without a gap.
    pub rows: Vec<RecordRow>,
}

pub(crate) async fn missing_ranges(
    connection: &mut SqliteConnection,
) -> Result<Vec<MissingRange>, StoreError> {
    let doing = || "reading what is missing".to_owned();
    let rows = sqlx::query(
        "SELECT stream, first, last, last_head FROM missing ORDER BY stream, first LIMIT 1000",
    )
    .fetch_all(connection)
    .await
    .doing(doing)?;
    rows.iter()
        .map(|row| {
            Ok(MissingRange {
                stream: Text::new(row.try_get::<&str, _>(0)?),
                first: unsigned(row.try_get(1)?),
                last: head_of(row, 2, 3)?,
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .doing(doing)
}

pub(crate) async fn missing_history(
    connection: &mut SqliteConnection,
) -> Result<Vec<MissingHistory>, StoreError> {
    let doing = || "reading what is missing of history".to_owned();
    let rows = sqlx::query(
        "SELECT first_index, last_index FROM missing_history ORDER BY first_index LIMIT 1000",
    )
    .fetch_all(connection)
    .await
    .doing(doing)?;
    rows.iter()
        .map(|row| {
            Ok(MissingHistory {
                first_index: unsigned(row.try_get(0)?),
                last_index: unsigned(row.try_get(1)?),
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .doing(doing)
}

pub(crate) fn record_of(row: &SqliteRow) -> Result<RecordRow, sqlx::Error> {
    let head = head_of(row, 1, 3)?;
    Ok(RecordRow {
        stream: Text::new(row.try_get::<&str, _>(0)?),
        count: head.count,
        at: Timestamp::from_ms(unsigned(row.try_get(2)?)),
        head: head.head,
        // Text or bytes: either way the bytes.
        body: row.try_get_unchecked::<Vec<u8>, _>(4)?.into(),
    })
}

/// The records of `first..=last` that lie here, as one chunk that ends at `last`: the uppermost
/// [`RANGE_RECORDS_MAX`] of them. Empty if `last` itself is not here.
pub(crate) async fn record_range(
    connection: &mut SqliteConnection,
    stream: &str,
    first: u64,
    last: u64,
) -> Result<RecordChunk, StoreError> {
    let doing = || format!("reading records {first} to {last} of `{stream}`");
    // One more below: its head is what the lowest of the chunk was appended to.
    let lowest = first.max(1).max(last.saturating_sub(RANGE_RECORDS_MAX - 1));
    let rows = sqlx::query(
        "SELECT stream, count, at_ms, head, body FROM record
         WHERE stream = ? AND count BETWEEN ? AND ? ORDER BY count DESC",
    )
    .bind(stream)
    .bind(int(lowest - 1))
    .bind(int(last))
    .fetch_all(&mut *connection)
    .await
    .doing(doing)?;
    let mut chunk = Vec::with_capacity(rows.len());
    for row in &rows {
        let record = record_of(row).doing(doing)?;
        if record.count + u64::try_from(chunk.len()).unwrap_or(u64::MAX) != last {
            break;
        }
        chunk.push(record);
    }
    chunk.reverse();
    let mut before = StreamHead::default();
    if chunk.first().is_some_and(|record| record.count > 1) {
        let floor = sqlx::query("SELECT floor_count, floor_head FROM stream WHERE name = ?")
            .bind(stream)
            .fetch_optional(&mut *connection)
            .await
            .doing(doing)?
            .map(|row| head_of(&row, 0, 1))
            .transpose()
            .doing(doing)?
            .unwrap_or_default();
        if floor.count + 1 == chunk[0].count && chunk[0].count >= lowest {
            before = floor;
        } else {
            let below = chunk.remove(0);
            before = StreamHead {
                count: below.count,
                head: below.head,
            };
        }
    }
    Ok(RecordChunk {
        stream: Text::new(stream),
        before,
        rows: chunk,
    })
}

impl RecordsFile {
    /// Adds a peer's copy of records that are missing here, after proving that they are the ones.
    /// Returns how many were added.
    pub(crate) async fn fill(&mut self, chunk: &RecordChunk) -> Result<u64, StoreError> {
        let what = || format!("records of `{}`", chunk.stream);
        let refused = |why: &str| Err(StoreError::refused(what(), why));
        let Some(top) = chunk.rows.last() else {
            return Ok(0);
        };
        let ranges = missing_ranges(&mut self.connection).await?;
        let Some(range) = ranges
            .iter()
            .find(|range| range.stream == chunk.stream && range.last.count == top.count)
        else {
            return refused("they do not end where a missing range ends");
        };
        let mut head = chunk.before;
        for row in &chunk.rows {
            head = head.append(&row.body);
            if row.stream != chunk.stream || row.count != head.count || row.head != head.head {
                return refused("the chain of their hashes is broken");
            }
        }
        if head != range.last {
            return refused("their hashes do not lead to the head that the state has");
        }
        if chunk.before.count == 0 && chunk.before != StreamHead::default() {
            return refused("they begin before the stream does");
        }
        let wanted: Vec<_> = chunk
            .rows
            .iter()
            .filter(|row| row.count >= range.first)
            .map(RecordInsert::of)
            .collect();

        let doing = || format!("filling {}", what());
        run(&mut self.connection, "BEGIN IMMEDIATE", &self.path).await?;
        sqlx::query("DELETE FROM missing WHERE stream = ? AND first = ?")
            .bind(range.stream.as_str())
            .bind(int(range.first))
            .execute(&mut self.connection)
            .await
            .doing(doing)?;
        if chunk.before.count >= range.first {
            sqlx::query("INSERT INTO missing (stream, first, last, last_head) VALUES (?, ?, ?, ?)")
                .bind(range.stream.as_str())
                .bind(int(range.first))
                .bind(int(chunk.before.count))
                .bind(chunk.before.head.as_slice())
                .execute(&mut self.connection)
                .await
                .doing(doing)?;
        }
        insert_records(
            &mut self.connection,
            &self.path,
            &self.statements.record,
            &wanted,
        )
        .await?;
        run(&mut self.connection, "COMMIT", &self.path).await?;
        Ok(u64::try_from(wanted.len()).unwrap_or(u64::MAX))
    }
}
