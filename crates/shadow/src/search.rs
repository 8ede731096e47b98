//! Searching the live objects with SQL: by fields and words, in the order of one field, within a time.
//!
//! It finds ids: whoever asked looks at the objects themselves, with rights and in a newer state. Conditions
//! narrow what is looked at and decide nothing. Values never become part of a statement.

use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, TypeInfo as _, ValueRef as _};
use virtflow_types::ObjectId;

use crate::bulk::{int, unsigned};
use crate::connect::{close, connect, reading};
use crate::error::{Doing as _, StoreError};
use crate::load::id_of;
use crate::options::{Part, is_path};
use crate::shadow::SqliteShadow;

/// Ids that one search finds; a larger limit is cut to it.
pub const SEARCH_ROWS_MAX: u32 = 20_000;
/// Searches of one controller at once; whoever comes after waits.
pub(crate) const SEARCHES_MAX: u32 = 2;
/// Steps of SQLite's machine between two looks at the clock.
const STEPS_PER_LOOK: i32 = 1000;
/// `SQLITE_INTERRUPT`.
const INTERRUPTED: &str = "9";

/// What is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Objects of this kind.
    pub kind: String,
    /// Of this tenant; absent: of all and of none.
    pub tenant: Option<ObjectId>,
    /// Under this object.
    pub parent: Option<ObjectId>,
    /// Of this name.
    pub name: Option<String>,
    /// What fields have to be.
    pub conditions: Vec<Condition>,
    /// Each of them is somewhere in the name or the spec; ASCII letters are alike in both cases.
    pub words: Vec<Word>,
    /// Their order; what is equal goes by id.
    pub order: Order,
    /// The other way round.
    pub is_descending: bool,
    /// Where the part before ended.
    pub after: Option<(SortValue, ObjectId)>,
    /// Ids that are wanted, at most [`SEARCH_ROWS_MAX`].
    pub limit: u32,
    /// How long it may take.
    pub within: Duration,
}

/// A value that one of these places has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The places: a part and SQLite's JSON path in it.
    pub places: Vec<(Part, String)>,
    /// The value.
    pub value: String,
}

/// A word as it is, and as it stands in JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As it is in a name.
    pub plain: String,
    /// As it is within a JSON text's quotes.
    pub in_json: String,
}

/// By what objects are ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Their ids, which tell when they were made.
    Id,
    /// Their names.
    Name,
    /// A value of one place; where there is none it counts as an empty text.
    Value(Part, String),
    /// A moment in one place, likewise.
    Moment(Part, String),
}

/// A value that objects are ordered by.
#[derive(Debug, Clone, PartialEq)]
pub enum SortValue {
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// Text.
    Text(String),
    /// The order is that of ids.
    Id,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Ids in order, each with the value it is ordered by.
    pub rows: Vec<(ObjectId, SortValue)>,
    /// True if there are more behind the last.
    pub has_more: bool,
    /// The index as of which this is so.
    pub index: u64,
}

impl SqliteShadow {
    /// Searches the live objects as they were written last. Fails with [`StoreError::TooLong`] when its time is over.
    pub async fn search(&self, search: &Search) -> Result<Found, StoreError> {
        let doing = || format!("searching objects of kind `{}`", search.kind);
        let deadline = Instant::now() + search.within;
        let place = tokio::time::timeout(search.within, self.searches().acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(too_long(search));
        };
        // Found while no install can be on its way: its end waits for all searches.
        let path = self.shared.written().path;
        let mut connection = connect(reading(&path), &path).await?;
        let mut handle = connection.lock_handle().await.doing(doing)?;
        handle.set_progress_handler(STEPS_PER_LOOK, move || Instant::now() < deadline);
        drop(handle);
        let found = find(&mut connection, search).await;
        close(connection, &path).await?;
        found.map_err(|error| {
            let code = error.as_database_error().and_then(|error| error.code());
            match code.as_deref() == Some(INTERRUPTED) {
                true => too_long(search),
                false => StoreError::Sql {
                    doing: doing(),
                    source: Box::new(error),
                },
            }
        })
    }
}

fn too_long(search: &Search) -> StoreError {
    StoreError::TooLong {
        what: format!("searching objects of kind `{}`", search.kind),
        after: search.within,
    }
}

async fn find(connection: &mut SqliteConnection, search: &Search) -> Result<Found, sqlx::Error> {
    let limit = search.limit.clamp(1, SEARCH_ROWS_MAX);
    let sql = statement(search)?;
    // One image for both statements.
    let mut reader = connection.begin().await?;
    let index = sqlx::query("SELECT applied_index FROM meta WHERE one = 1")
        .fetch_one(&mut *reader)
        .await?;
    let index = unsigned(index.try_get(0)?);
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(search.kind.as_str());
    if let Some(tenant) = search.tenant {
        query = query.bind(tenant.as_bytes().to_vec());
    }
    if let Some(parent) = search.parent {
        query = query.bind(parent.as_bytes().to_vec());
    }
    if let Some(name) = &search.name {
        query = query.bind(name.as_str());
    }
    for condition in &search.conditions {
        for _ in &condition.places {
            query = query.bind(condition.value.as_str());
        }
    }
    for word in &search.words {
        query = query.bind(word.plain.to_ascii_lowercase());
        query = query.bind(word.in_json.to_ascii_lowercase());
    }
    if let Some((value, id)) = &search.after {
        query = match value {
            SortValue::Integer(number) => query.bind(*number),
            SortValue::Real(number) => query.bind(*number),
            SortValue::Text(text) => query.bind(text.as_str()),
            SortValue::Id => query,
        };
        query = query.bind(id.as_bytes().to_vec());
    }
    let rows = query
        .bind(int(u64::from(limit)) + 1)
        .fetch_all(&mut *reader)
        .await?;
    let mut rows: Vec<(ObjectId, SortValue)> = rows
        .iter()
        .map(|row| found_of(row, &search.order))
        .collect::<Result<_, sqlx::Error>>()?;
    let has_more = u32::try_from(rows.len()).is_ok_and(|many| many > limit);
    if has_more {
        rows.pop();
    }
    reader.rollback().await?;
    Ok(Found {
        rows,
        has_more,
        index,
    })
}

/// The statement; nothing that somebody said is in it but paths of the declared form.
pub(crate) fn statement(search: &Search) -> Result<String, sqlx::Error> {
    let key = match &search.order {
        Order::Id => "id".to_owned(),
        Order::Name => "name".to_owned(),
        Order::Value(part, path) => format!("coalesce({}, '')", extract(*part, path)?),
        // Without the letter at its end a moment is before those that differ from it by a fraction of a second.
        Order::Moment(part, path) => format!("coalesce(rtrim({}, 'Z'), '')", extract(*part, path)?),
    };
    let mut sql = format!("SELECT id, {key} AS at FROM object WHERE kind = ?");
    if search.tenant.is_some() {
        sql.push_str(" AND tenant = ?");
    }
    if search.parent.is_some() {
        sql.push_str(" AND parent = ?");
    }
    if search.name.is_some() {
        sql.push_str(" AND name = ?");
    }
    for condition in &search.conditions {
        let places = condition.places.iter();
        let places = places.map(|(part, path)| Ok(format!("{} = ?", extract(*part, path)?)));
        let places = places.collect::<Result<Vec<_>, sqlx::Error>>()?;
        sql.push_str(&format!(" AND ({})", places.join(" OR ")));
    }
    for _ in &search.words {
        sql.push_str(" AND (instr(lower(name), ?) > 0 OR instr(lower(spec), ?) > 0)");
    }
    let (beyond, way) = match search.is_descending {
        true => ("<", "DESC"),
        false => (">", "ASC"),
    };
    match (&search.after, &search.order) {
        (None, _) => {}
        (Some(_), Order::Id) => sql.push_str(&format!(" AND id {beyond} ?")),
        (Some(_), _) => sql.push_str(&format!(" AND ({key}, id) {beyond} (?, ?)")),
    }
    sql.push_str(&match search.order {
        Order::Id => format!(" ORDER BY id {way} LIMIT ?"),
        _ => format!(" ORDER BY at {way}, id {way} LIMIT ?"),
    });
    Ok(sql)
}

fn extract(part: Part, path: &str) -> Result<String, sqlx::Error> {
    match is_path(path) {
        true => Ok(format!("json_extract({}, '{path}')", part.column())),
        false => Err(sqlx::Error::Protocol(format!("unfit JSON path `{path}`"))),
    }
}

fn found_of(row: &SqliteRow, order: &Order) -> Result<(ObjectId, SortValue), sqlx::Error> {
    let id = id_of(row, 0)?.ok_or_else(|| sqlx::Error::Decode("object".into()))?;
    if *order == Order::Id {
        return Ok((id, SortValue::Id));
    }
    let kept = row.try_get_raw(1)?.type_info().name().to_owned();
    let value = match kept.as_str() {
        "INTEGER" => SortValue::Integer(row.try_get_unchecked(1)?),
        "REAL" => SortValue::Real(row.try_get_unchecked(1)?),
        _ => SortValue::Text(row.try_get_unchecked(1)?),
    };
    Ok((id, value))
}
