//! A typed SQL view per kind, as data: whoever keeps the rows in SQL makes them from this.

use serde_json::Value;
use virtflow_model::{Kind, PerKind, Resource};

use crate::read::SECRETS;

/// The view of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindView {
    /// The kind, as stored.
    pub kind: String,
    /// The view's name.
    pub view: String,
    /// Its columns beside those every object has.
    pub columns: Vec<ViewColumn>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewColumn {
    /// Its name.
    pub column: String,
    /// Where the value is.
    pub part: ViewPart,
    /// JSON path within that part's stored text.
    pub path: String,
}

/// The part of a row that a column is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewPart {
    /// What was asked for.
    Spec,
    /// What was seen, with its stamps.
    Status,
}

/// Columns that every object has; a field of that name gets its part's name before it.
const COMMON: &[&str] = &[
    "id",
    "kind",
    "name",
    "tenant",
    "parent",
    "generation",
    "version",
    "closed",
];

/// One view a kind, its columns taken from the kind's example and first status.
pub fn views() -> Vec<KindView> {
    Kind::ALL
        .iter()
        .map(|kind| kind.dispatch(Columns))
        .collect()
}

struct Columns;

impl PerKind for Columns {
    type Out = KindView;

    fn run<R: Resource>(self) -> KindView {
        let spec = serde_json::to_value(R::example()).unwrap_or_default();
        let status = serde_json::to_value(R::Status::default()).unwrap_or_default();
        let mut columns = Vec::new();
        add(&mut columns, ViewPart::Spec, "$", &spec);
        add(&mut columns, ViewPart::Status, "$.status", &status);
        if R::KIND == Kind::VirtualMachine {
            // Absent until it is placed, so the default status does not show it.
            push(
                &mut columns,
                ViewPart::Status,
                "host_id",
                "$.status.placement.host_id".into(),
            );
        }
        for stamp in ["created_at", "created_by", "updated_at", "updated_by"] {
            push(
                &mut columns,
                ViewPart::Status,
                stamp,
                format!("$.stamps.{stamp}"),
            );
        }
        KindView {
            kind: R::KIND.name().into(),
            view: R::KIND.name().into(),
            columns,
        }
    }
}

fn add(columns: &mut Vec<ViewColumn>, part: ViewPart, path: &str, fields: &Value) {
    let Value::Object(fields) = fields else {
        return;
    };
    for (field, _) in fields {
        if !SECRETS.contains(&field.as_str()) {
            push(columns, part, field, format!("{path}.{field}"));
        }
    }
}

fn push(columns: &mut Vec<ViewColumn>, part: ViewPart, field: &str, path: String) {
    let taken = |name: &str| columns.iter().any(|column| column.column == name);
    let prefix = match part {
        ViewPart::Spec => "spec",
        ViewPart::Status => "status",
    };
    let column = if COMMON.contains(&field) || taken(field) {
        format!("{prefix}_{field}")
    } else {
        field.to_owned()
    };
    columns.push(ViewColumn { column, part, path });
}
