//! Tables for people.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use virtflow_types::Timestamp;

use crate::noun::{Column, Noun, Show, column};
use crate::{amount, safe};

/// What stands where there is nothing to show.
const NOTHING: &str = "-";

/// Rows under heads; columns are aligned, nothing is drawn, so that it reads well in a pipe.
pub(crate) fn of_cells(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for row in rows {
        table.add_row(row.iter().map(|cell| safe::line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines()
        .map(|line| line.trim_end())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Columns that a wide table has beside those of the kind.
const WIDE: &[Column] = &[
    column("ID", &["/id"], Show::Plain),
    column("LABELS", &["/spec/labels"], Show::Plain),
    column("UPDATED", &["/updated_at"], Show::Age),
    column("BY", &["/names/updated_by", "/updated_by"], Show::Plain),
];

/// Objects of a kind.
pub(crate) fn of_objects(noun: &Noun, objects: &[Value], now: Timestamp, is_wide: bool) -> String {
    let rows = objects
        .iter()
        .map(|object| cells(noun, object, now, is_wide));
    of_cells(&heads(noun, is_wide), &rows.collect::<Vec<_>>())
}

/// What a wide table of a kind has more: what it has not already, and what there is.
fn wide(noun: &Noun, is_wide: bool) -> impl Iterator<Item = &'static Column> {
    let has_labels = noun.is_listed_by("label");
    let is_named = noun.facts().is_named;
    WIDE.iter().filter(move |column| match column.head {
        "ID" => is_wide && is_named,
        "LABELS" => is_wide && has_labels,
        _ => is_wide,
    })
}

/// The heads of a kind's table.
pub(crate) fn heads(noun: &Noun, is_wide: bool) -> Vec<&'static str> {
    let first = match noun.facts().is_named {
        true => "NAME",
        false => "ID",
    };
    let columns = noun.columns.iter().chain(wide(noun, is_wide));
    std::iter::once(first)
        .chain(columns.map(|column| column.head))
        .collect()
}

/// An object's row of that table.
pub(crate) fn cells(noun: &Noun, object: &Value, now: Timestamp, is_wide: bool) -> Vec<String> {
    let first = match noun.facts().is_named {
        true => "/name",
        false => "/id",
    };
    let first = show(object.pointer(first), Show::Plain, now);
    let columns = noun.columns.iter().chain(wide(noun, is_wide));
    let columns = columns.map(|column| cell(object, column, now));
    std::iter::once(first).chain(columns).collect()
}

/// The chosen fields of objects, a column each.
pub(crate) fn of_fields(fields: &str, objects: &[Value]) -> String {
    let paths: Vec<&str> = fields.split(',').map(str::trim).collect();
    let heads: Vec<String> = paths.iter().map(|path| path.to_uppercase()).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let at = |object: &Value, path: &str| {
        let mut value = object;
        let mut rest = Some(path);
        while let Some(text) = rest {
            // A key may have dots: what stands there as a whole comes first.
            let whole = value.get(text).is_some();
            let (step, after) = match text.split_once('.') {
                Some((step, after)) if !whole => (step, Some(after)),
                _ => (text, None),
            };
            value = &value[step];
            rest = after;
        }
        show(Some(value), Show::Plain, Timestamp::EPOCH)
    };
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|object| paths.iter().map(|path| at(object, path)).collect())
        .collect();
    of_cells(&heads, &rows)
}

/// One object's value in a column.
fn cell(object: &Value, column: &Column, now: Timestamp) -> String {
    let found = column
        .at
        .iter()
        .filter_map(|pointer| object.pointer(pointer))
        .find(|value| !value.is_null() && value.as_str() != Some(""));
    show(found, column.show, now)
}

/// A value as people read it.
pub(crate) fn show(value: Option<&Value>, form: Show, now: Timestamp) -> String {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return if form == Show::Length { "all" } else { NOTHING }.into();
    };
    let shown = match form {
        Show::Plain => None,
        Show::Mib => value.as_u64().map(amount::show_mib),
        Show::Gib => value
            .as_u64()
            .and_then(|gib| gib.checked_mul(1024))
            .map(amount::show_mib),
        Show::CpuMilli => value.as_u64().map(cores),
        Show::Percent => value.as_f64().map(|percent| format!("{percent}%")),
        Show::Seconds => value
            .as_u64()
            .map(|seconds| amount::show_span(Duration::from_secs(seconds))),
        Show::Age => moment(value).map(|at| match at {
            Timestamp::EPOCH => NOTHING.into(),
            at => amount::show_span(now.since(at)),
        }),
        Show::Until => moment(value).map(|at| {
            if at <= now {
                "expired".into()
            } else {
                amount::show_span(rounded(at.since(now)))
            }
        }),
        Show::Length => value.as_array().map(|items| match items.len() {
            0 => "all".into(),
            n => n.to_string(),
        }),
    };
    shown.unwrap_or_else(|| plain(value))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => NOTHING.into(),
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.values().all(Value::is_string) => {
            let pairs = fields
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            pairs.collect::<Vec<_>>().join(",")
        }
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => other.to_string(),
    }
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// To whole seconds, upwards: a token of 15 minutes shows 15 minutes when it was just made.
fn rounded(span: Duration) -> Duration {
    Duration::from_secs(
        span.as_millis()
            .div_ceil(1000)
            .try_into()
            .unwrap_or(u64::MAX),
    )
}

/// Thousandths of a CPU as CPUs.
fn cores(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nouns;

    const NOW: Timestamp = Timestamp::from_ms(1_795_456_800_000);

    #[test]
    fn a_list_of_vms() {
        let noun = nouns::of_word("vm").unwrap();
        let vms = json!([
            {
                "name": "web-1",
                "names": {"tenant": "acme", "host": "h1"},
                "spec": {"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1},
                "status": {"phase": "running", "restarts": 0},
                "created_at": "2026-11-23T17:58:30Z",
            },
            {
                "name": "db\u{1b}[2J",
                "tenant_id": "t-1",
                "spec": {"cpu_cores": 64, "memory_mib": 65536, "storage_gib": 2048},
                "status": {"phase": "pending", "reason": "no_capacity", "restarts": 3},
                "created_at": "2026-11-20T17:00:00Z",
            },
        ]);
        assert_eq!(
            of_objects(noun, vms.as_array().unwrap(), NOW, false),
            "\
NAME         TENANT  PHASE    REASON       HOST  CPU  MEMORY  DISK  RESTARTS  AGE
web-1        acme    running  -            h1    1    128MiB  1GiB  0         1m30s
db\\u{1b}[2J  t-1     pending  no_capacity  -     64   64GiB   2TiB  3         3d1h"
        );
    }

    #[test]
    fn a_wide_table_has_more() {
        let noun = nouns::of_word("vm").unwrap();
        let vm = json!({"id": "v-1", "name": "web", "names": {"tenant": "acme", "updated_by": "ada"},
            "spec": {"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1, "labels": {"app": "shop", "stage": "test"}},
            "status": {"phase": "running", "restarts": 0},
            "created_at": "2026-11-23T17:58:30Z", "updated_at": "2026-11-23T17:59:00Z"});
        assert_eq!(
            of_objects(noun, &[vm], NOW, true),
            "\
NAME  TENANT  PHASE    REASON  HOST  CPU  MEMORY  DISK  RESTARTS  AGE    ID   LABELS               UPDATED  BY
web   acme    running  -       -     1    128MiB  1GiB  0         1m30s  v-1  app=shop,stage=test  1m0s     ada"
        );
    }

    #[test]
    fn values() {
        for (value, form, expected) in [
            (json!(null), Show::Plain, "-"),
            (json!(""), Show::Plain, "-"),
            (json!(true), Show::Plain, "yes"),
            (json!(1500), Show::CpuMilli, "1.5"),
            (json!(2000), Show::CpuMilli, "2"),
            (json!(12.5), Show::Percent, "12.5%"),
            (json!("2026-11-23T18:15:00Z"), Show::Until, "15m0s"),
            (json!("2026-11-23T17:00:00Z"), Show::Until, "expired"),
            (json!("1970-01-01T00:00:00Z"), Show::Age, "-"),
            (json!(90), Show::Seconds, "1m30s"),
            (json!([]), Show::Length, "all"),
            (json!(["a"]), Show::Length, "1"),
            (json!("not a number"), Show::Mib, "not a number"),
        ] {
            assert_eq!(show(Some(&value), form, NOW), expected, "{value} {form:?}");
        }
        assert_eq!(show(None, Show::Plain, NOW), "-");
        // A token without a list of permissions is not narrowed.
        assert_eq!(show(None, Show::Length, NOW), "all");
    }
}
