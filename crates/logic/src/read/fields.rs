//! Choosing fields: the parts of an object that somebody asks for, each where it stands in the whole.

use serde_json::{Map, Value};
use virtflow_model::Kind;
use virtflow_types::Error;

use super::public::SECRETS;

/// Longest list of fields, in bytes.
const BYTES_MAX: usize = 4096;
/// Fields of one request.
const FIELDS_MAX: usize = 64;
/// What an object has beside spec and status.
const COMMON: &[&str] = &[
    "id",
    "kind",
    "name",
    "tenant_id",
    "parent_id",
    "generation",
    "version",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
];

/// Fields by their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<Vec<String>>);

impl Fields {
    /// Reads `name,status.phase,spec.labels.env`. Below a map of free keys the rest of a path is one key.
    ///
    /// Fails with what there is where a path leads to nothing that objects of the kind have.
    pub fn read(kind: Kind, text: &str) -> Result<Self, Error> {
        let refused = |problem: String| Error::invalid("fields", problem);
        if text.len() > BYTES_MAX {
            let problem = format!("has {} bytes, at most {BYTES_MAX} are allowed", text.len());
            return Err(refused(problem));
        }
        let paths: Vec<&str> = text.split(',').map(str::trim).collect();
        if paths.len() > FIELDS_MAX {
            let problem = format!(
                "names {} fields, at most {FIELDS_MAX} are allowed",
                paths.len()
            );
            return Err(refused(problem));
        }
        let paths = paths.into_iter().map(|path| read(kind, path));
        let paths: Result<_, String> = paths.collect();
        paths.map(Self).map_err(refused)
    }

    /// The chosen parts of an object; what it does not have is left out.
    pub fn of(&self, object: &Value) -> Value {
        let mut chosen = Value::Object(Map::new());
        for path in &self.0 {
            let mut at = Some(object);
            for step in path {
                at = at.and_then(|value| value.get(step));
            }
            if let Some(value) = at {
                place(&mut chosen, path, value);
            }
        }
        chosen
    }
}

fn place(into: &mut Value, path: &[String], value: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *into = value.clone();
        return;
    };
    if let Value::Object(fields) = into {
        let empty = || Value::Object(Map::new());
        place(fields.entry(first).or_insert_with(empty), rest, value);
    }
}

fn read(kind: Kind, path: &str) -> Result<Vec<String>, String> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let schema = match first {
        "spec" => kind.spec_schema(),
        "status" => shown_status(kind),
        "names" => serde_json::json!({"additionalProperties": true}),
        _ if COMMON.contains(&first) => Value::Null,
        _ => {
            let known = COMMON.join(", ");
            return Err(format!(
                "`{path}` is no field of {}; there are {known}, names, spec and status",
                kind.with_article()
            ));
        }
    };
    let mut steps = vec![first.to_owned()];
    let mut schemas = vec![schema];
    let mut rest = rest;
    while let Some(text) = rest {
        let (step, after) = match text.split_once('.') {
            Some((step, after)) => (step, Some(after)),
            None => (text, None),
        };
        let forms: Vec<&Value> = schemas.iter().flat_map(forms).collect();
        let below: Vec<Value> = forms
            .iter()
            .filter_map(|form| form["properties"].get(step).cloned())
            .collect();
        if !below.is_empty() {
            steps.push(step.to_owned());
            schemas = below;
            rest = after;
            continue;
        }
        // A key of a map may have dots.
        let is_map = |form: &&Value| match &form["additionalProperties"] {
            Value::Null => false,
            free => *free != false,
        };
        if !text.is_empty() && forms.iter().any(is_map) {
            steps.push(text.to_owned());
            break;
        }
        let above = steps.join(".");
        let known = forms
            .iter()
            .filter_map(|form| form["properties"].as_object());
        let known: Vec<&str> = known.flat_map(Map::keys).map(String::as_str).collect();
        return Err(match known.is_empty() {
            true => format!("`{path}` leads nowhere: `{above}` has no fields that can be chosen"),
            false => format!("`{path}` leads nowhere: `{above}` has {}", known.join(", ")),
        });
    }
    Ok(steps)
}

/// A schema and those it is made of: one that may be null is one of two.
fn forms(schema: &Value) -> Vec<&Value> {
    let made_of = ["anyOf", "oneOf", "allOf"].into_iter();
    let made_of = made_of.filter_map(|word| schema[word].as_array()).flatten();
    std::iter::once(schema)
        .chain(made_of.flat_map(forms))
        .collect()
}

/// The status as it is shown.
fn shown_status(kind: Kind) -> Value {
    let mut schema = kind.status_schema();
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        for secret in SECRETS {
            fields.remove(*secret);
        }
        if kind == Kind::User {
            fields.insert(
                "has_password".into(),
                serde_json::json!({"type": "boolean"}),
            );
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VM: Kind = Kind::VirtualMachine;

    #[test]
    fn what_is_chosen_stands_where_it_stood() {
        let object = json!({
            "id": "x", "name": "a", "names": {"host": "h1"},
            "spec": {"cpu_cores": 2, "labels": {"a.b": "c", "d": "e"}, "memory_mib": 5},
            "status": {"phase": "running", "placement": {"host_id": "h", "epoch": 1}},
        });
        let chosen = |text: &str| Fields::read(VM, text).unwrap().of(&object);
        assert_eq!(chosen("name"), json!({"name": "a"}));
        assert_eq!(
            chosen("name, spec.cpu_cores,status.placement.host_id,names.host"),
            json!({"name": "a", "spec": {"cpu_cores": 2}, "status": {"placement": {"host_id": "h"}}, "names": {"host": "h1"}})
        );
        assert_eq!(
            chosen("spec.labels.a.b"),
            json!({"spec": {"labels": {"a.b": "c"}}})
        );
        assert_eq!(
            chosen("status,status.phase"),
            json!({"status": object["status"]})
        );
        assert_eq!(
            chosen("status.phase,status"),
            json!({"status": object["status"]})
        );
        // What the kind may have and this object has not.
        assert_eq!(chosen("status.reason,spec.labels.z"), json!({}));
    }

    #[test]
    fn what_leads_nowhere_is_refused_with_what_there_is() {
        for (bad, told) in [
            ("colour", "there are id, kind, name"),
            ("", "there are id, kind, name"),
            ("metadata.name", "there are id, kind, name"),
            ("status.colour", "`status` has "),
            ("status.placement.colour", "host_id"),
            ("spec.cpu_cores.x", "`spec.cpu_cores` has no fields"),
            ("name.first", "`name` has no fields"),
            ("spec.", "`spec` has "),
            ("name,,id", "there are id, kind, name"),
        ] {
            let error = Fields::read(VM, bad).unwrap_err();
            assert_eq!(error.fields[0].field, "fields", "{bad}");
            assert!(error.message.contains(told), "{bad}: {error}");
        }
        assert!(Fields::read(VM, &format!("{}id", "id,".repeat(63))).is_ok());
        assert!(Fields::read(VM, &format!("{}id", "id,".repeat(64))).is_err());
        assert!(Fields::read(VM, &"x".repeat(4097)).is_err());
    }

    #[test]
    fn what_is_kept_of_a_secret_is_no_field() {
        let error = Fields::read(Kind::User, "status.password_hash").unwrap_err();
        assert!(error.message.contains("has_password"), "{error}");
        assert!(!error.message.contains("password_hash,"), "{error}");
        assert!(Fields::read(Kind::User, "status.has_password").is_ok());
    }
}
