//! What many objects were at one moment: for lists and comparisons of the past.
//!
//! An object that was there then is there now, or was deleted since. So the candidates are known, and each is
//! looked up by its id.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};
use virtflow_types::{ObjectId, Timestamp};

use crate::bulk::{int, unsigned};
use crate::error::{Doing as _, StoreError};
use crate::read::{HISTORY_COLUMNS, HistoryRow, Moment, Page, Seen, page, split, version_of};
use crate::records::{MissingHistory, missing_history};
use crate::shadow::SqliteShadow;

/// What an object was at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// This.
    Was(Box<HistoryRow>),
    /// What it is now: it last changed before anything that is kept.
    AsNow,
    /// It was not there.
    Absent,
}

impl Moment {
    fn bound(self) -> (&'static str, i64) {
        match self {
            Self::Index(index) => ("applied_index", int(index)),
            Self::Time(at) => ("at_ms", int(at.ms())),
        }
    }
}

impl SqliteShadow {
    /// Objects of a kind that are no more and were deleted after a moment, as they last were, by id upwards from
    /// behind `after`. The cursor is the last id.
    pub async fn deleted_after(
        &self,
        kind: &str,
        moment: Moment,
        after: Option<ObjectId>,
        limit: u32,
    ) -> Result<Page<HistoryRow, ObjectId>, StoreError> {
        let doing = || format!("reading what was deleted of kind `{kind}`");
        let (mut reader, seen) = self.reader().await?;
        check_kept(&mut reader, moment).await?;
        let limit = page(limit);
        let (column, bound) = moment.bound();
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {HISTORY_COLUMNS} FROM history
             WHERE kind = ? AND deleted = 1 AND {column} > ? AND object > ?
             ORDER BY object LIMIT ?"
        )))
        .bind(kind)
        .bind(bound)
        .bind(after.map_or(Vec::new(), |after| after.as_bytes().to_vec()))
        .bind(limit + 1)
        .fetch_all(&mut *reader)
        .await
        .doing(doing)?;
        let (rows, over) = split(&rows, limit, version_of).doing(doing)?;
        let next = over.and(rows.last()).map(|row| row.object);
        Ok(Page { rows, next, seen })
    }

    /// What objects were at a moment, in the order in which they were named; with each comes its version, if it is
    /// there now. Fails if versions of that time are not kept, or may lie only with peers.
    pub async fn then(
        &self,
        objects: &[(ObjectId, Option<u64>)],
        moment: Moment,
    ) -> Result<(Vec<Then>, Seen), StoreError> {
        let (mut reader, seen) = self.reader().await?;
        let gaps = check_kept(&mut reader, moment).await?;
        let mut found = Vec::with_capacity(objects.len());
        for (object, newest) in objects {
            found.push(one(&mut reader, *object, *newest, moment, &gaps).await?);
        }
        Ok((found, seen))
    }

    /// What one object was at a moment; `newest` is its version if it is there now. Fails if that is not kept, or
    /// may lie only with peers; what is certain all the same is told.
    pub async fn was(
        &self,
        object: ObjectId,
        newest: Option<u64>,
        moment: Moment,
    ) -> Result<(Then, Seen), StoreError> {
        let (mut reader, seen) = self.reader().await?;
        check_retained(&mut reader, moment).await?;
        let gaps = Gaps::of(&mut reader, moment).await?;
        let then = one(&mut reader, object, newest, moment, &gaps).await?;
        Ok((then, seen))
    }
}

/// What is not here and may be with peers.
#[derive(Debug)]
struct Gaps {
    all: Vec<MissingHistory>,
    /// One of them that reaches beyond the moment that is asked about.
    after: Option<MissingHistory>,
}

impl Gaps {
    async fn of(reader: &mut SqliteConnection, moment: Moment) -> Result<Self, StoreError> {
        let doing = || "reading how far the history goes back".to_owned();
        let all = missing_history(reader).await?;
        for gap in &all {
            let is_after = match moment {
                Moment::Index(asked) => gap.last_index > asked,
                Moment::Time(asked) => {
                    let sql =
                        "SELECT at_ms FROM history WHERE applied_index > ? ORDER BY rowid LIMIT 1";
                    let next = sqlx::query(sql)
                        .bind(int(gap.last_index))
                        .fetch_optional(&mut *reader)
                        .await
                        .doing(doing)?;
                    let next = next.map(|row| row.try_get::<i64, _>(0)).transpose();
                    next.doing(doing)?.is_none_or(|at| at > int(asked.ms()))
                }
            };
            if is_after {
                let after = Some(*gap);
                return Ok(Self { all, after });
            }
        }
        Ok(Self { all, after: None })
    }
}

/// Refuses a moment before what retention left, or before the end of what lies only with peers; the gaps before it.
async fn check_kept(reader: &mut SqliteConnection, moment: Moment) -> Result<Gaps, StoreError> {
    check_retained(reader, moment).await?;
    let gaps = Gaps::of(reader, moment).await?;
    match &gaps.after {
        Some(gap) => Err(elsewhere(gap)),
        None => Ok(gaps),
    }
}

/// Refuses a moment before what retention left.
async fn check_retained(reader: &mut SqliteConnection, moment: Moment) -> Result<(), StoreError> {
    let doing = || "reading how far the history goes back".to_owned();
    let sql = "SELECT rowid, applied_index, at_ms FROM history ORDER BY rowid LIMIT 1";
    let first = sqlx::query(sql)
        .fetch_optional(&mut *reader)
        .await
        .doing(doing)?;
    if let Some(row) = first {
        let number: i64 = row.try_get(0).doing(doing)?;
        let index = unsigned(row.try_get(1).doing(doing)?);
        let at = Timestamp::from_ms(unsigned(row.try_get(2).doing(doing)?));
        let is_before = match moment {
            Moment::Index(asked) => asked < index,
            Moment::Time(asked) => asked < at,
        };
        // Where the first row ever is still there, nothing went.
        if number > 1 && is_before {
            return Err(StoreError::refused(
                "an answer from the history",
                format!("it is kept from index {index}, {at}, on"),
            ));
        }
    }
    Ok(())
}

/// What is not here and may be elsewhere.
fn elsewhere(gap: &MissingHistory) -> StoreError {
    StoreError::refused(
        "an answer from the history",
        format!(
            "what the entries {} to {} changed is not here; another controller may have it",
            gap.first_index, gap.last_index
        ),
    )
}

/// The newest kept version of an object that is not after a moment. Times are labels that need not grow with the
/// versions.
async fn last_until(
    reader: &mut SqliteConnection,
    object: ObjectId,
    moment: Moment,
) -> Result<Option<HistoryRow>, StoreError> {
    let doing = || format!("reading what {object} was");
    let (column, bound) = moment.bound();
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {HISTORY_COLUMNS} FROM history
         WHERE object = ? AND {column} <= ? ORDER BY version DESC LIMIT 1"
    )))
    .bind(object.as_bytes().as_slice())
    .bind(bound)
    .fetch_optional(reader)
    .await
    .doing(doing)?;
    row.as_ref().map(version_of).transpose().doing(doing)
}

/// The number of an object's kept version that follows a version. Versions grow by one: if it is the next number, none
/// lies between.
async fn next_after(
    reader: &mut SqliteConnection,
    object: ObjectId,
    version: u64,
) -> Result<Option<u64>, StoreError> {
    let doing = || format!("reading what {object} was");
    let next = sqlx::query("SELECT min(version) FROM history WHERE object = ? AND version > ?")
        .bind(object.as_bytes().as_slice())
        .bind(int(version))
        .fetch_one(reader)
        .await
        .doing(doing)?;
    let next: Option<i64> = next.try_get(0).doing(doing)?;
    Ok(next.map(unsigned))
}

async fn one(
    reader: &mut SqliteConnection,
    object: ObjectId,
    newest: Option<u64>,
    moment: Moment,
    gaps: &Gaps,
) -> Result<Then, StoreError> {
    let row = last_until(reader, object, moment).await?;
    let has = row.as_ref().map_or(0, |row| row.version);
    if newest != Some(has) {
        match (next_after(reader, object, has).await?, &row, newest) {
            // None lies between.
            (Some(next), ..) if next == has + 1 => {}
            // A gone one is gone for good.
            (None, Some(row), None) if row.deleted => {}
            (None, None, _) | (None, _, None) if let Some(gap) = &gaps.after => {
                return Err(elsewhere(gap));
            }
            // Nothing of it is kept, so nothing changed it since the moment.
            (None, None, Some(_)) => return Ok(Then::AsNow),
            (None, _, None) => {}
            _ => {
                return Err(match gaps.all.first() {
                    Some(gap) => elsewhere(gap),
                    None => StoreError::refused(
                        "an answer from the history",
                        format!("the version of {object} at that moment is not kept"),
                    ),
                });
            }
        }
    }
    Ok(match row {
        Some(row) if !row.deleted => Then::Was(Box::new(row)),
        _ => Then::Absent,
    })
}
