//! How each file is opened.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::error::{Doing as _, StoreError};

/// The first library of its line in which a reset of the write-ahead log cannot corrupt the file.
const SQLITE_VERSION_MIN: (u32, u32, u32) = (3, 51, 3);
/// How long a statement waits for another process's lock (an operator's `sqlite3`) before that counts
/// as a failure.
const BUSY_TIMEOUT: Duration = Duration::from_millis(10_000);
/// Prepared statements kept by one connection.
const STATEMENTS_MAX: usize = 32;
/// A write-ahead log longer than this is cut after a checkpoint.
pub(crate) const WAL_BYTES_KEPT: u64 = 16 * 1024 * 1024;
/// Page cache of a writing connection.
const WRITER_CACHE_KIB: u32 = 2048;
/// Page cache of a reading connection.
const READER_CACHE_KIB: u32 = 512;

/// `SQLITE_NOTADB`.
const NOT_A_DATABASE: &str = "26";

fn base(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        .pragma("temp_store", "MEMORY")
        // Never trust functions and views that a damaged or foreign file brings along.
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

/// For the one writer of a file.
pub(crate) fn writing(path: &Path, create: bool) -> SqliteConnectOptions {
    base(path)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
        .pragma("journal_size_limit", WAL_BYTES_KEPT.to_string())
}

/// For a file that is written once and then only read or renamed: no companions stay beside it.
pub(crate) fn building(path: &Path) -> SqliteConnectOptions {
    base(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Delete)
        .synchronous(SqliteSynchronous::Full)
}

/// For reading beside the writer.
pub(crate) fn reading(path: &Path) -> SqliteConnectOptions {
    base(path)
        .pragma("query_only", "ON")
        .pragma("cache_size", format!("-{READER_CACHE_KIB}"))
}

/// For reading a file that nobody has open or will write: makes no companions, takes no locks.
pub(crate) fn frozen(path: &Path) -> SqliteConnectOptions {
    base(path).read_only(true).immutable(true)
}

pub(crate) async fn connect(
    options: SqliteConnectOptions,
    path: &Path,
) -> Result<SqliteConnection, StoreError> {
    options.connect().await.map_err(|error| {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.as_deref() == Some(NOT_A_DATABASE) {
            return StoreError::Foreign {
                file: path.to_owned(),
                why: "it is no database".into(),
            };
        }
        StoreError::Sql {
            doing: format!("opening {}", path.display()),
            source: Box::new(error),
        }
    })
}

pub(crate) async fn close(connection: SqliteConnection, path: &Path) -> Result<(), StoreError> {
    connection
        .close()
        .await
        .doing(|| format!("closing {}", path.display()))
}

/// Refuses a library with known corruption bugs; linking could bring one in unnoticed.
pub(crate) async fn check_library(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let version: String = sqlx::query("SELECT sqlite_version()")
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get(0))
        .doing(|| "asking SQLite for its version".into())?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let found = (next(), next(), next());
    if found < SQLITE_VERSION_MIN {
        let (major, minor, patch) = SQLITE_VERSION_MIN;
        return Err(StoreError::refused(
            format!("SQLite {version}"),
            format!("at least {major}.{minor}.{patch} is needed"),
        ));
    }
    Ok(())
}

/// Runs statements without parameters or results.
pub(crate) async fn run(
    connection: &mut SqliteConnection,
    sql: &'static str,
    path: &Path,
) -> Result<(), StoreError> {
    sqlx::raw_sql(sql)
        .execute(connection)
        .await
        .map(|_| ())
        .doing(|| format!("`{}` on {}", sql.trim(), path.display()))
}

/// Brings the write-ahead log into the file, flushes both, and cuts the log to nothing. A reader that
/// holds an old image keeps it from being cut: then the writer does not wait for it, and tries again
/// another time.
pub(crate) async fn checkpoint(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), StoreError> {
    run(connection, "PRAGMA busy_timeout = 50", path).await?;
    run(connection, "PRAGMA wal_checkpoint(TRUNCATE)", path).await?;
    run(connection, "PRAGMA busy_timeout = 10000", path).await
}

/// For copying a file beside its writer.
pub(crate) fn copying(path: &Path) -> SqliteConnectOptions {
    base(path).pragma("cache_size", format!("-{READER_CACHE_KIB}"))
}
