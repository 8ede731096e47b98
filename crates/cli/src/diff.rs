//! What lies between two moments: what was made, changed and deleted.

use serde_json::{Map, Value};
use virtflow_client::{Call, Method};
use virtflow_types::Timestamp;

use crate::failure::Failure;
use crate::grammar::Diff;
use crate::noun::Show;
use crate::run::{Cluster, Run};
use crate::{nouns, table};

/// Shows it.
pub(crate) async fn diff(run: &Run, cluster: &Cluster, asked: &Diff) -> Result<(), Failure> {
    let (from, to) = asked.range.split_once("..").ok_or_else(|| {
        Failure::usage(format!("`{}` is no pair of moments", asked.range))
            .advise("two indexes or times with `..` between: 120..180, or 120.. for until now")
    })?;
    let kind = match asked.kind.as_deref() {
        Some(word) => Some(nouns::of_word(word).ok_or_else(|| {
            Failure::usage(format!("`{word}` is no kind")).advise("see `virtflow --help`")
        })?),
        None => None,
    };
    let call = Call::new(Method::Get, &["diff"])?
        .query_if("from", Some(from))
        .query_if("to", Some(to).filter(|to| !to.is_empty()))
        .query_if("kind", kind.map(|noun| noun.kind.name()))
        .query_if("object", asked.object.as_deref())
        .query_if("tenant", asked.tenant.as_deref());
    let listed = cluster.client.list(&call, asked.limit).await?;
    let shown = listed.rows.len();
    run.output.data(&Value::Array(listed.rows), rows)?;
    if listed.more {
        let text = format!("{shown} shown, there are more: raise --limit or name a kind");
        run.output.warn(&text);
    }
    Ok(())
}

/// A row for each field that changed.
fn rows(changes: &Value) -> String {
    let mut rows = Vec::new();
    for change in changes.as_array().into_iter().flatten() {
        let show = |value: Option<&Value>| table::show(value, Show::Plain, Timestamp::EPOCH);
        let name = match change["name"].as_str() {
            Some("") | None => show(change.get("id")),
            Some(_) => show(change.get("name")),
        };
        let head = [
            show(change.get("change")),
            show(change.get("kind")),
            name,
            show(change.pointer("/last/at")),
        ];
        let fields = change["fields"].as_object();
        let mut fields = fields.into_iter().flat_map(Map::iter).peekable();
        if fields.peek().is_none() {
            let mut row = head.to_vec();
            row.extend(["-".to_owned(), "-".to_owned(), "-".to_owned()]);
            rows.push(row);
            continue;
        }
        for (path, values) in fields {
            let mut row = head.to_vec();
            row.extend([
                path.clone(),
                show(values.get("from")),
                show(values.get("to")),
            ]);
            rows.push(row);
        }
    }
    let heads = ["CHANGE", "KIND", "NAME", "LAST", "FIELD", "FROM", "TO"];
    table::of_cells(&heads, &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_for_each_field() {
        let changes = json!([
            {"change": "created", "kind": "rack", "name": "r1", "id": "i", "last": {"at": "2026-11-23T18:00:00Z"}},
            {"change": "changed", "kind": "rack", "name": "r2", "id": "j", "last": {"at": "2026-11-23T18:00:00Z"},
             "fields": {"spec.as_number": {"from": 1, "to": 2}, "spec.bgp_number": {"from": null, "to": 3}}},
            {"change": "deleted", "kind": "quota", "name": "", "id": "k", "last": {"at": "2026-11-23T18:00:00Z"}},
        ]);
        assert_eq!(
            rows(&changes),
            "\
CHANGE   KIND   NAME  LAST                  FIELD            FROM  TO
created  rack   r1    2026-11-23T18:00:00Z  -                -     -
changed  rack   r2    2026-11-23T18:00:00Z  spec.as_number   1     2
changed  rack   r2    2026-11-23T18:00:00Z  spec.bgp_number  -     3
deleted  quota  k     2026-11-23T18:00:00Z  -                -     -"
        );
    }
}
