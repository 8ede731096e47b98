//! The state's durable shadow: what was applied, written behind it into SQLite.
//!
//! A controller starts from it, a snapshot is a copy of it, history and audit are read from it, and an
//! operator opens it with `sqlite3` when all else fails. It is never the truth that a decision rests on:
//! that is the state in memory, and behind it the log.
//!
//! Two databases lie in one folder:
//!
//! - `state.<n>.db`, named by the flushed pointer file `CURRENT`: the live objects, the heads of the
//!   streams, and in the same transaction the applied index with what replication keeps beside it.
//! - `records.db`: the streams' records and every version of every object, with retention.
//!
//! What must hold, and where it is kept:
//!
//! - Nothing above the flushed end of the local log is written (`writer`).
//! - Records are flushed *before* the state that counts them is committed, so a state that survives a
//!   power cut finds its records (`writer`).
//! - The durable index is published only after a commit under `synchronous=FULL` (`state_file`).
//! - A transaction whose file is not as this process last left it is refused (`state_file`, `records`).
//! - A file that is loaded must give the digest that was written with it (`load`).
//! - An install changes the pointer last; before that the old state stands, after it the new
//!   (`install`).
//! - An error is never skipped: it ends the shadow, and with it the node.
//!
//! Deliberately absent: rules about objects (`virtflow-state`), agreement (`virtflow-raft`), and what a
//! kind's columns mean: the typed views are handed in as data.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod backup;
mod bulk;
mod connect;
mod crash;
mod error;
mod files;
mod inspect;
mod install;
mod load;
mod moment;
mod options;
mod read;
mod records;
mod schema;
mod search;
mod shadow;
mod shared;
mod snapshot;
mod state_file;
mod writer;

#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use backup::{BackupFile, BackupManifest, restore_into, set_incarnation, verify_backup};
pub use error::StoreError;
pub use inspect::{Inspection, current_state_file, inspect};
pub use moment::Then;
pub use options::{Integrity, Part, Retention, ShadowOptions, Timing, ViewColumn, ViewDef};
pub use read::{
    AuditCursor, AuditQuery, DeletedCursor, HistoryRow, Moment, PAGE_RECORDS_MAX, Page, Seen,
    StreamReport,
};
pub use records::{MissingHistory, MissingRange, RANGE_RECORDS_MAX, RecordChunk};
pub use search::{Condition, Found, Order, SEARCH_ROWS_MAX, Search, SortValue, Word};
pub use shadow::{ShadowStats, SqliteShadow};

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
