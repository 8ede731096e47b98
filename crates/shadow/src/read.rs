//! Reading with SQL: streams, audit, history. Every answer is a page, and says which index it saw and
//! when that was written: it may be behind the state.

use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, Transaction};
use virtflow_state::{RecordRow, StreamHead};
use virtflow_types::{ObjectId, RequestId, Timestamp};

use crate::bulk::{int, unsigned};
use crate::error::{Doing as _, StoreError};
use crate::load::id_of;

use crate::records::{
    MissingHistory, MissingRange, RecordChunk, head_of, missing_history, missing_ranges, record_of,
    record_range,
};
use crate::shadow::SqliteShadow;

/// Rows on one page of records or history; a larger limit is cut to it.
pub const PAGE_RECORDS_MAX: u32 = 1000;

/// How new an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Index of the last entry in it.
    pub index: u64,
    /// When that entry was written to the file.
    pub at: Timestamp,
}

/// One page of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows, in the order asked for.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<C>,
    /// How new it is.
    pub seen: Seen,
}

/// Which records are wanted, newest first. Filters are on the JSON members `actor`, `tenant` and
/// `object` of a record's body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// The stream.
    pub stream: String,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Who did it.
    pub actor: Option<String>,
    /// In which tenant, a UUID as text.
    pub tenant: Option<String>,
    /// To what, a UUID as text.
    pub object: Option<String>,
    /// Where the page before ended.
    pub after: Option<AuditCursor>,
    /// Rows on the page, 1 to [`PAGE_RECORDS_MAX`].
    pub limit: u32,
}

/// The last record of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    /// Its time.
    pub at: Timestamp,
    /// Its place in the stream.
    pub count: u64,
}

/// The last object of a page of deleted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedCursor {
    /// The entry that deleted it.
    pub index: u64,
    /// Its id.
    pub object: ObjectId,
}

/// One version of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The object.
    pub object: ObjectId,
    /// The version; for a deletion the one after its last.
    pub version: u64,
    /// True if this is its deletion: the other fields are as they last were.
    pub deleted: bool,
    /// Its kind.
    pub kind: String,
    /// Its tenant.
    pub tenant: Option<ObjectId>,
    /// What it lives under.
    pub parent: Option<ObjectId>,
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: u64,
    /// No new links to it.
    pub closed: bool,
    /// What was asked for: JSON.
    pub spec: String,
    /// What was seen: JSON.
    pub status: String,
    /// The entry that made it.
    pub index: u64,
    /// That changeset's label of time.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: String,
    /// The request it belongs to.
    pub request_id: RequestId,
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After this entry was applied.
    Index(u64),
    /// By the changesets' labels of time.
    Time(Timestamp),
}

/// What verifying a stream found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// The stream.
    pub stream: String,
    /// Removed by retention: everything up to this count.
    pub floor: u64,
    /// Records whose hash was recomputed.
    pub verified: u64,
    /// The last count.
    pub last: u64,
    /// Records that lie only with peers.
    pub missing: Vec<MissingRange>,
    /// The first record that is not the one that was appended, and how that shows.
    pub broken: Option<(u64, String)>,
}

pub(crate) const HISTORY_COLUMNS: &str = "object, version, deleted, kind, tenant, parent, name, generation, \
    closed, spec, status, applied_index, at_ms, actor, request";

impl SqliteShadow {
    /// Records of a stream from place `from` on, upwards, or with `newest_first` downwards (`u64::MAX`
    /// begins at the newest). The cursor is the place where the next page begins.
    pub async fn records(
        &self,
        stream: &str,
        from: u64,
        limit: u32,
        newest_first: bool,
    ) -> Result<Page<RecordRow, u64>, StoreError> {
        let doing = || format!("reading the stream `{stream}`");
        let (mut reader, seen) = self.reader().await?;
        let sql = if newest_first {
            "SELECT stream, count, at_ms, head, body FROM record
             WHERE stream = ? AND count <= ? ORDER BY count DESC LIMIT ?"
        } else {
            "SELECT stream, count, at_ms, head, body FROM record
             WHERE stream = ? AND count >= ? ORDER BY count LIMIT ?"
        };
        let limit = page(limit);
        let rows = sqlx::query(sql)
            .bind(stream)
            .bind(int(from))
            .bind(limit + 1)
            .fetch_all(&mut *reader)
            .await
            .doing(doing)?;
        let (rows, over) = split(&rows, limit, record_of).doing(doing)?;
        Ok(Page {
            next: over.map(|record| record.count),
            rows,
            seen,
        })
    }

    /// Records of a stream by time, actor, tenant and object, newest first.
    pub async fn audit(
        &self,
        query: &AuditQuery,
    ) -> Result<Page<RecordRow, AuditCursor>, StoreError> {
        let doing = || format!("searching the stream `{}`", query.stream);
        let (mut reader, seen) = self.reader().await?;
        let mut sql = String::from(
            "SELECT stream, count, at_ms, head, body FROM record
             WHERE stream = ? AND at_ms >= ? AND at_ms < ? AND (at_ms, count) < (?, ?)",
        );
        let filters = [
            (" AND actor = ?", &query.actor),
            (" AND tenant = ?", &query.tenant),
            (" AND object = ?", &query.object),
        ];
        for (condition, value) in &filters {
            if value.is_some() {
                sql.push_str(condition);
            }
        }
        sql.push_str(" ORDER BY at_ms DESC, count DESC LIMIT ?");
        let limit = page(query.limit);
        let (at, count) = query.after.map_or((i64::MAX, i64::MAX), |cursor| {
            (int(cursor.at.ms()), int(cursor.count))
        });
        let mut statement = sqlx::query(AssertSqlSafe(sql))
            .bind(query.stream.as_str())
            .bind(query.from.map_or(0, |from| int(from.ms())))
            .bind(query.to.map_or(i64::MAX, |to| int(to.ms())))
            .bind(at)
            .bind(count);
        for value in filters.iter().filter_map(|(_, value)| value.as_deref()) {
            statement = statement.bind(value);
        }
        let rows = statement
            .bind(limit + 1)
            .fetch_all(&mut *reader)
            .await
            .doing(doing)?;
        let (rows, over) = split(&rows, limit, record_of).doing(doing)?;
        let next = over.and(rows.last()).map(|record| AuditCursor {
            at: record.at,
            count: record.count,
        });
        Ok(Page { rows, next, seen })
    }

    /// Versions of an object, newest first, below version `before` if given. The cursor is the next
    /// page's `before`.
    pub async fn history(
        &self,
        object: ObjectId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Page<HistoryRow, u64>, StoreError> {
        let doing = || format!("reading the history of {object}");
        let (mut reader, seen) = self.reader().await?;
        let limit = page(limit);
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {HISTORY_COLUMNS} FROM history
             WHERE object = ? AND version < ? ORDER BY version DESC LIMIT ?"
        )))
        .bind(object.as_bytes().as_slice())
        .bind(before.map_or(i64::MAX, int))
        .bind(limit + 1)
        .fetch_all(&mut *reader)
        .await
        .doing(doing)?;
        let (rows, over) = split(&rows, limit, version_of).doing(doing)?;
        let next = over.and(rows.last()).map(|row| row.version);
        Ok(Page { rows, next, seen })
    }

    /// Objects of a kind that are no more, as they last were, latest first.
    pub async fn deleted(
        &self,
        kind: &str,
        after: Option<DeletedCursor>,
        limit: u32,
    ) -> Result<Page<HistoryRow, DeletedCursor>, StoreError> {
        let doing = || format!("reading the deleted objects of kind `{kind}`");
        let (mut reader, seen) = self.reader().await?;
        let limit = page(limit);
        let (index, object) = after.map_or((i64::MAX, vec![0xff; 17]), |cursor| {
            (int(cursor.index), cursor.object.as_bytes().to_vec())
        });
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {HISTORY_COLUMNS} FROM history
             WHERE kind = ? AND deleted = 1 AND (applied_index, object) < (?, ?)
             ORDER BY applied_index DESC, object DESC LIMIT ?"
        )))
        .bind(kind)
        .bind(index)
        .bind(object)
        .bind(limit + 1)
        .fetch_all(&mut *reader)
        .await
        .doing(doing)?;
        let (rows, over) = split(&rows, limit, version_of).doing(doing)?;
        let next = over.and(rows.last()).map(|row| DeletedCursor {
            index: row.index,
            object: row.object,
        });
        Ok(Page { rows, next, seen })
    }

    /// Recomputes the chain of hashes of a stream, and compares its end with the head in the state.
    pub async fn verify_stream(&self, stream: &str) -> Result<StreamReport, StoreError> {
        // The state is written after the records: what it counts lies here.
        let head = self.shared.written().image.stream(stream);
        let (mut reader, _) = self.reader().await?;
        verify_chain(&mut reader, stream, head).await
    }

    /// Records that the state counts and this store does not have.
    pub async fn missing_records(&self) -> Result<Vec<MissingRange>, StoreError> {
        let (mut reader, _) = self.reader().await?;
        missing_ranges(&mut reader).await
    }

    /// Entries whose versions of objects this store does not have.
    pub async fn missing_history(&self) -> Result<Vec<MissingHistory>, StoreError> {
        let (mut reader, _) = self.reader().await?;
        missing_history(&mut reader).await
    }

    /// What lies here of the records `first..=last`, as a chunk for a peer that misses them: the
    /// uppermost [`RANGE_RECORDS_MAX`](crate::RANGE_RECORDS_MAX), ending at `last`; empty if `last` is
    /// not here.
    pub async fn record_range(
        &self,
        stream: &str,
        first: u64,
        last: u64,
    ) -> Result<RecordChunk, StoreError> {
        let (mut reader, _) = self.reader().await?;
        record_range(&mut reader, stream, first, last).await
    }

    /// One image of the records for the length of a transaction.
    pub(crate) async fn reader(&self) -> Result<(Transaction<'static, Sqlite>, Seen), StoreError> {
        let doing = || format!("reading {}", self.records_path().display());
        let mut reader = self.readers().begin().await.doing(doing)?;
        let row = sqlx::query("SELECT applied_index, written_at_ms FROM meta WHERE one = 1")
            .fetch_one(&mut *reader)
            .await
            .doing(doing)?;
        let seen = Seen {
            index: unsigned(row.try_get(0).doing(doing)?),
            at: Timestamp::from_ms(unsigned(row.try_get(1).doing(doing)?)),
        };
        Ok((reader, seen))
    }
}

pub(crate) fn page(limit: u32) -> u32 {
    limit.clamp(1, PAGE_RECORDS_MAX)
}

/// The rows of a page, and the one beyond it if there is one.
pub(crate) fn split<T>(
    rows: &[SqliteRow],
    limit: u32,
    read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
) -> Result<(Vec<T>, Option<T>), sqlx::Error> {
    let mut rows = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let over = if u32::try_from(rows.len()).is_ok_and(|n| n > limit) {
        rows.pop()
    } else {
        None
    };
    Ok((rows, over))
}

pub(crate) fn version_of(row: &SqliteRow) -> Result<HistoryRow, sqlx::Error> {
    let wrong = |what: &str| sqlx::Error::Decode(what.into());
    Ok(HistoryRow {
        object: id_of(row, 0)?.ok_or_else(|| wrong("object"))?,
        version: unsigned(row.try_get(1)?),
        deleted: row.try_get::<i64, _>(2)? != 0,
        kind: row.try_get(3)?,
        tenant: id_of(row, 4)?,
        parent: id_of(row, 5)?,
        name: row.try_get(6)?,
        generation: unsigned(row.try_get(7)?),
        closed: row.try_get::<i64, _>(8)? != 0,
        spec: row.try_get(9)?,
        status: row.try_get(10)?,
        index: unsigned(row.try_get(11)?),
        at: Timestamp::from_ms(unsigned(row.try_get(12)?)),
        actor: row.try_get(13)?,
        request_id: RequestId::from_slice(row.try_get(14)?).ok_or_else(|| wrong("request"))?,
    })
}

/// Walks a stream from what retention left to its end, and holds it against `trusted`, the state's
/// head.
pub(crate) async fn verify_chain(
    connection: &mut SqliteConnection,
    stream: &str,
    trusted: StreamHead,
) -> Result<StreamReport, StoreError> {
    let doing = || format!("verifying the stream `{stream}`");
    let row = sqlx::query("SELECT floor_count, floor_head FROM stream WHERE name = ?")
        .bind(stream)
        .fetch_optional(&mut *connection)
        .await
        .doing(doing)?;
    let mut at = match row {
        Some(row) => head_of(&row, 0, 1).doing(doing)?,
        None => StreamHead::default(),
    };
    let mut missing = missing_ranges(connection).await?;
    missing.retain(|range| range.stream == stream);
    let mut report = StreamReport {
        stream: stream.to_owned(),
        floor: at.count,
        verified: 0,
        last: at.count,
        missing: missing.clone(),
        broken: None,
    };
    let mut missing = missing.into_iter().peekable();
    let mut reached = at.count >= trusted.count;
    loop {
        while let Some(range) = missing.next_if(|range| range.first == at.count + 1) {
            at = range.last;
            reached |= at.count >= trusted.count;
        }
        let rows = sqlx::query(
            "SELECT stream, count, at_ms, head, body FROM record
             WHERE stream = ? AND count > ? ORDER BY count LIMIT ?",
        )
        .bind(stream)
        .bind(int(at.count))
        .bind(PAGE_RECORDS_MAX)
        .fetch_all(&mut *connection)
        .await
        .doing(doing)?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let record = record_of(row).doing(doing)?;
            while let Some(range) = missing.next_if(|range| range.first == at.count + 1) {
                at = range.last;
            }
            let next = at.append(&record.body);
            let why = if record.count != next.count {
                Some(format!("records from {} on are not here", next.count))
            } else if record.head != next.head {
                Some("its content does not give its hash".to_owned())
            } else if next.count == trusted.count && next.head != trusted.head {
                Some("its hash is not the one that the state has".to_owned())
            } else {
                None
            };
            if let Some(why) = why {
                report.broken = Some((next.count, why));
                return Ok(report);
            }
            at = next;
            report.verified += 1;
            report.last = at.count;
            reached |= at.count >= trusted.count;
        }
    }
    report.last = at.count;
    if !reached {
        report.broken = Some((
            at.count + 1,
            format!("the state counts {} records", trusted.count),
        ));
    }
    Ok(report)
}
