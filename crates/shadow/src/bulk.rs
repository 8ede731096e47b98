//! Many rows in few statements: a statement costs a round trip to the connection's thread, a row in it
//! next to nothing.

use std::path::Path;
use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};

use crate::error::{Doing as _, StoreError};

pub(crate) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Rows in one statement. Few sizes, so that few statements stay prepared.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// `head VALUES (?, …), (?, …) tail` for each of the sizes.
#[derive(Debug)]
pub(crate) struct Bulk {
    sql: [(usize, Arc<str>); 3],
}

impl Bulk {
    pub(crate) fn new(head: &str, columns: usize, tail: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        Self {
            sql: CHUNKS.map(|rows| {
                let values = vec![row.as_str(); rows].join(", ");
                (rows, format!("{head} VALUES {values} {tail}").into())
            }),
        }
    }

    /// Runs it over all rows, each bound by `bind` in the order of the columns.
    pub(crate) async fn execute<'q, T>(
        &self,
        connection: &mut SqliteConnection,
        path: &Path,
        rows: &'q [T],
        bind: impl Fn(Statement<'q>, &'q T) -> Statement<'q>,
    ) -> Result<(), StoreError> {
        let mut rest = rows;
        for (size, sql) in &self.sql {
            while rest.len() >= *size {
                let (chunk, after) = rest.split_at(*size);
                rest = after;
                let query = chunk
                    .iter()
                    .fold(sqlx::query(AssertSqlSafe(sql.clone())), &bind);
                query
                    .execute(&mut *connection)
                    .await
                    .doing(|| format!("writing {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// SQLite's integers are signed; what is stored here (counts, indexes, times) stays far below.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back again; a negative number can only come from a damaged file and becomes one that fits nothing.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
