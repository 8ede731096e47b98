//! How the shadow is kept: limits, retention, and the views of the kinds.

use std::time::Duration;

use virtflow_state::CLUSTER_VERSION;

use crate::error::StoreError;

/// How a shadow is kept. The default suits a controller; only the views must be given.
#[derive(Debug, Clone)]
pub struct ShadowOptions {
    /// Typed views of the kinds, made anew at every open.
    pub views: Vec<ViewDef>,
    /// How long records and history are kept.
    pub retention: Retention,
    /// When it writes and flushes.
    pub timing: Timing,
    /// How a file is examined before it is loaded, beyond the digest.
    pub integrity: Integrity,
    /// The highest cluster version that the controller supports: what is above it is neither opened nor installed.
    pub supports: u32,
}

impl Default for ShadowOptions {
    fn default() -> Self {
        Self {
            views: Vec::new(),
            retention: Retention::default(),
            timing: Timing::default(),
            integrity: Integrity::default(),
            supports: CLUSTER_VERSION,
        }
    }
}

/// How long and how much of what is not live is kept. What passes either limit goes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Age of a record.
    pub records_age: Duration,
    /// Records of one stream.
    pub records_per_stream_max: u64,
    /// Age of an object's version.
    pub history_age: Duration,
    /// Versions of all objects together.
    pub history_rows_max: u64,
    /// How often the limits are looked at.
    pub every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            records_age: DAY * 400,
            records_per_stream_max: 50_000_000,
            history_age: DAY * 90,
            history_rows_max: 10_000_000,
            every: Duration::from_secs(600),
        }
    }
}

/// When the writer writes and flushes, if nobody waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Longest time an entry waits for others to share its transaction.
    pub linger: Duration,
    /// Longest time between a commit and the flush that makes it durable.
    pub durable_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(100),
            durable_every: Duration::from_millis(500),
        }
    }
}

/// How a file is examined before it is loaded. The digest over its content is always verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Integrity {
    /// Full up to 256 MiB, quick above.
    #[default]
    BySize,
    /// Every page and every index against its table.
    Full,
    /// Every page.
    Quick,
}

/// A view over the objects of one kind, for people with `sqlite3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDef {
    /// The kind as stored: `virtual_machine`.
    pub kind: String,
    /// The view's name.
    pub view: String,
    /// Its columns after the common ones (id, name, tenant, parent, generation, version, closed).
    pub columns: Vec<ViewColumn>,
}

/// One column of a view: a path into the JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewColumn {
    /// The column's name.
    pub column: String,
    /// Which JSON it is read from.
    pub part: Part,
    /// SQLite's JSON path: `$.memory_mib`.
    pub path: String,
}

/// The two JSON texts of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What was asked for.
    Spec,
    /// What was seen.
    Status,
}

impl Part {
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Status => "status",
        }
    }
}

/// Columns that every view has; a view's own must be named otherwise.
const COMMON_COLUMNS: [&str; 9] = [
    "id",
    "name",
    "tenant",
    "parent",
    "generation",
    "version",
    "closed",
    "spec",
    "status",
];
/// Names that are tables already.
const TABLES: [&str; 3] = ["object", "stream", "meta"];

impl ViewDef {
    /// The statement that makes the view. Plain JSON functions only: the reader may be an older
    /// `sqlite3`.
    pub(crate) fn create_sql(&self) -> Result<String, StoreError> {
        let bad = |what: &str, text: &str| {
            Err(StoreError::refused(
                format!("view `{}`", self.view),
                format!("{what} `{text}`"),
            ))
        };
        if !is_identifier(&self.view) || TABLES.contains(&self.view.as_str()) {
            return bad("unfit name", &self.view);
        }
        if !is_identifier(&self.kind) {
            return bad("unfit kind", &self.kind);
        }
        let mut sql = format!(
            "CREATE VIEW \"{}\" AS SELECT {} AS id, name, {} AS tenant, {} AS parent, generation, version, closed",
            self.view,
            id_text("id"),
            id_text("tenant"),
            id_text("parent"),
        );
        let mut seen: Vec<&str> = COMMON_COLUMNS.to_vec();
        for column in &self.columns {
            if !is_identifier(&column.column) || seen.contains(&column.column.as_str()) {
                return bad("unfit or repeated column", &column.column);
            }
            if !is_path(&column.path) {
                return bad("unfit JSON path", &column.path);
            }
            seen.push(&column.column);
            sql.push_str(&format!(
                ", json_extract({}, '{}') AS \"{}\"",
                column.part.column(),
                column.path,
                column.column
            ));
        }
        sql.push_str(&format!(
            ", spec, status FROM object WHERE kind = '{}'",
            self.kind
        ));
        Ok(sql)
    }
}

/// A UUID column as people read it: 8-4-4-4-12.
fn id_text(column: &str) -> String {
    let part = |from: u8, len: u8| format!("substr(hex({column}), {from}, {len})");
    format!(
        "CASE WHEN {column} IS NULL THEN NULL ELSE lower({} || '-' || {} || '-' || {} || '-' || {} || '-' || {}) END",
        part(1, 8),
        part(9, 4),
        part(13, 4),
        part(17, 4),
        part(21, 12)
    )
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 63
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

pub(crate) fn is_path(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('$') else {
        return false;
    };
    text.len() <= 256
        && (rest.is_empty() || rest.starts_with(['.', '[']))
        && rest
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '[' | ']' | '#'))
}
