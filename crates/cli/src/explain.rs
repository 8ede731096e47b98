//! What a kind is and what its fields mean, read off the types: no cluster is asked.

use serde_json::{Map, Value, json};
use virtflow_model::Kind;

use crate::failure::Failure;
use crate::output::Output;
use crate::schema::{without_null, words_of};
use crate::table;

/// `virtflow explain KIND`, `KIND.field`, `KIND.status.field`.
pub(crate) fn explain(output: Output, what: &str) -> Result<(), Failure> {
    let mut path = what.split('.');
    let word = path.next().unwrap_or_default().replace('-', "_");
    let kind = Kind::parse(&word).ok_or_else(|| {
        Failure::usage(format!("there is no kind `{word}`"))
            .advise("`virtflow --help` lists the kinds")
    })?;
    let path: Vec<&str> = path.collect();
    let (mut schema, path) = match path.as_slice() {
        ["status", rest @ ..] => (kind.status_schema(), rest),
        ["spec", rest @ ..] => (kind.spec_schema(), rest),
        rest => (kind.spec_schema(), rest),
    };
    for field in path {
        schema = field_of(&schema, field).ok_or_else(|| {
            Failure::usage(format!("`{what}`: there is no field `{field}`")).advise(format!(
                "`virtflow explain {}` lists the fields",
                kind.name()
            ))
        })?;
    }
    let about = match schema["description"].as_str() {
        Some(text) if !path.is_empty() => text,
        _ => kind.rules().about,
    };
    let told = json!({"what": what, "about": about, "schema": schema});
    output.data(&told, |_| text(what, about, &schema))
}

/// A field's schema; what a list or a map holds is looked through.
fn field_of(schema: &Value, field: &str) -> Option<Value> {
    let found = schema["properties"].get(field).cloned();
    found.or_else(|| {
        let alternatives = schema["anyOf"].as_array().into_iter().flatten();
        let inner = [&schema["items"], &schema["additionalProperties"]];
        inner
            .into_iter()
            .chain(alternatives)
            .filter(|inner| inner.is_object())
            .find_map(|inner| field_of(inner, field))
    })
}

fn text(what: &str, about: &str, schema: &Value) -> String {
    let mut text = format!("{what}: {about}\n");
    if let Some(choices) = words_of(&without_null(schema)) {
        text.push_str(&format!("\nOne of: {}\n", choices.join(", ")));
    }
    let mut fields = Map::new();
    collect(schema, &mut fields);
    if !fields.is_empty() {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let rows: Vec<Vec<String>> = fields
            .iter()
            .map(|(name, field)| {
                let must = required.iter().any(|one| one == name);
                vec![
                    name.clone(),
                    type_of(field),
                    if must { "yes" } else { "" }.into(),
                    field["description"]
                        .as_str()
                        .unwrap_or_default()
                        .replace('\n', " "),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table::of_cells(
            &["FIELD", "TYPE", "REQUIRED", "MEANING"],
            &rows,
        ));
    }
    text
}

/// The fields of an object, or of what a list or a map of them holds.
fn collect(schema: &Value, into: &mut Map<String, Value>) {
    if let Some(fields) = schema["properties"].as_object() {
        into.extend(fields.clone());
    }
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    for inner in [&schema["items"], &schema["additionalProperties"]]
        .into_iter()
        .chain(alternatives)
    {
        if inner.is_object() {
            collect(inner, into);
        }
    }
}

fn type_of(schema: &Value) -> String {
    let schema = without_null(schema);
    if words_of(&schema).is_some() {
        return "word".into();
    }
    match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ => "value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, path: &[&str]) -> String {
        let mut schema = kind.spec_schema();
        for field in path {
            schema = field_of(&schema, field).unwrap();
        }
        text("it", "about it", &schema)
    }

    #[test]
    fn fields_are_told_with_their_meaning() {
        let rack = told(Kind::Rack, &[]);
        let line = rack
            .lines()
            .find(|line| line.starts_with("as_number"))
            .unwrap();
        assert!(
            line.contains("integer") && line.contains("Autonomous system number"),
            "{line}"
        );
        let serial = told(Kind::Baremetal, &[]);
        let line = serial
            .lines()
            .find(|line| line.starts_with("serial_number"))
            .unwrap();
        assert!(line.contains("yes"), "{line}");
    }

    /// What may be absent takes the same words as what may not.
    #[test]
    fn words_of_an_optional_field_are_told() {
        let words = json!({"type": "string", "enum": ["near", "far"]});
        let optional = json!({"anyOf": [words, {"type": "null"}], "description": "How far"});
        assert!(text("it", "about", &optional).contains("One of: near, far"));
        assert_eq!(type_of(&optional), "word");
        assert_eq!(type_of(&json!({"type": ["integer", "null"]})), "integer");
    }

    #[test]
    fn words_and_nested_fields_are_found() {
        let state = told(Kind::DataCenter, &["state"]);
        assert!(state.contains("active, maintenance, offline"), "{state}");
        assert!(told(Kind::K8sCluster, &["networking"]).contains("pod_cidr"));
        assert!(field_of(&Kind::Rack.spec_schema(), "colour").is_none());
    }
}
