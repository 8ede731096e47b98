//! `-o custom-columns=NAME:.path,…`: columns that people choose.

use serde_json::Value;
use virtflow_types::Timestamp;

use crate::noun::Show;
use crate::table;

/// Most columns.
const COLUMNS_MAX: usize = 50;
/// Longest path, in steps.
const STEPS_MAX: usize = 32;

/// A column and where its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Custom {
    head: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
}

/// Reads `NAME:.path,OTHER:.path`.
pub(crate) fn read(text: &str) -> Result<Vec<Custom>, String> {
    let all: Result<Vec<Custom>, String> = text.split(',').map(column).collect();
    match all {
        Ok(all) if all.len() > COLUMNS_MAX => Err(format!("more than {COLUMNS_MAX} columns")),
        all => all,
    }
}

fn column(text: &str) -> Result<Custom, String> {
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        format!("`{shown}` is no column: write HEAD:.path, such as PHASE:.status.phase")
    };
    let (head, path) = text.split_once(':').ok_or_else(wrong)?;
    let path = path.trim().trim_start_matches('.');
    if head.trim().is_empty() || path.is_empty() {
        return Err(wrong());
    }
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (field, items) = part
            .split_once('[')
            .map_or((part, None), |(field, rest)| (field, Some(rest)));
        if field.is_empty() {
            return Err(wrong());
        }
        steps.push(Step::Field(field.to_owned()));
        if let Some(items) = items {
            let items = items.strip_suffix(']').ok_or_else(wrong)?;
            for item in items.split("][") {
                steps.push(Step::Item(item.parse().map_err(|_| wrong())?));
            }
        }
    }
    if steps.len() > STEPS_MAX {
        return Err(wrong());
    }
    Ok(Custom {
        head: head.trim().to_owned(),
        steps,
    })
}

/// The rows of an object, or of a list of them.
pub(crate) fn shown(columns: &[Custom], data: &Value) -> String {
    let rows = match data {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let heads: Vec<&str> = columns.iter().map(|column| column.head.as_str()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(columns, row)).collect();
    table::of_cells(&heads, &rows)
}

/// The heads of the columns.
pub(crate) fn heads(columns: &[Custom]) -> impl Iterator<Item = &str> {
    columns.iter().map(|column| column.head.as_str())
}

/// One row.
pub(crate) fn cells(columns: &[Custom], row: &Value) -> Vec<String> {
    let cells = columns.iter().map(|column| {
        let found = at(row, &column.steps);
        table::show(found, Show::Plain, Timestamp::EPOCH)
    });
    cells.collect()
}

/// What documents may say under `metadata` is found there, too, although objects have it elsewhere.
fn at<'v>(row: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    let is =
        |at: usize, name: &str| matches!(steps.get(at), Some(Step::Field(field)) if field == name);
    if !is(0, "metadata") || row.get("metadata").is_some() {
        return walk(row, steps);
    }
    if is(1, "labels") {
        return walk(&row["spec"], &steps[1..]);
    }
    walk(row, &steps[1..]).or_else(|| walk(&row["names"], &steps[1..]))
}

fn walk<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Field(field) => value.get(field),
        Step::Item(at) => value.get(at),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_that_people_choose() {
        let columns = read("NAME:.metadata.name,WHOSE:metadata.tenant,APP:.metadata.labels.app,FIRST:.spec.disks[0].size,NONE:.spec.x").unwrap();
        let rows = json!([
            {"name": "web", "names": {"tenant": "acme"}, "spec": {"labels": {"app": "shop"}, "disks": [{"size": 7}]}},
            {"name": "db\u{1b}", "spec": {}},
        ]);
        assert_eq!(
            shown(&columns, &rows),
            "NAME      WHOSE  APP   FIRST  NONE\nweb       acme   shop  7      -\ndb\\u{1b}  -      -     -      -"
        );
        assert_eq!(
            shown(
                &read("S:.status.phase").unwrap(),
                &json!({"status": {"phase": "running"}})
            ),
            "S\nrunning"
        );
    }

    #[test]
    fn what_is_no_column_is_refused() {
        for bad in [
            "", "NAME", "NAME:", ":.name", "N:.a..b", "N:.a[", "N:.a[x]", "N:.[0]", "A:.a,",
        ] {
            assert!(read(bad).unwrap_err().contains("is no column"), "{bad}");
        }
        assert!(read(&vec!["A:.a"; COLUMNS_MAX + 1].join(",")).is_err());
    }
}
