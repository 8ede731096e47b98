//! By what lists of a kind are sorted: what every object has, and the fields of one short value.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::{Kind, PerKind, Resource};

/// A key by which a kind's list is sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// What it is called: the field's name.
    pub name: String,
    /// Where its value is.
    pub by: SortBy,
}

/// Where the value that a list is sorted by is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SortBy {
    /// Objects as they were made, which their ids tell.
    Made,
    /// The name.
    Name,
    /// A field of the spec.
    Spec {
        /// Its name.
        field: String,
        /// Its value is a moment.
        is_time: bool,
    },
    /// A field of the status.
    Status {
        /// Its name.
        field: String,
        /// Its value is a moment.
        is_time: bool,
    },
    /// When it last changed.
    Changed,
}

static KNOWN: [OnceLock<Vec<Sort>>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];

impl Kind {
    /// By what lists of it are sorted. Texts are not among the fields: they are long, or secrets' hashes.
    pub fn sorts(self) -> &'static [Sort] {
        let known = KNOWN.get(self as usize);
        known.map_or(&[], |known| known.get_or_init(|| self.dispatch(SortsOf)))
    }
}

struct SortsOf;

impl PerKind for SortsOf {
    type Out = Vec<Sort>;
    fn run<R: Resource>(self) -> Vec<Sort> {
        let mut sorts = Vec::new();
        let mut add = |name: &str, by: SortBy| {
            if !sorts.iter().any(|sort: &Sort| sort.name == name) {
                let name = name.to_owned();
                sorts.push(Sort { name, by });
            }
        };
        if R::NAMED {
            add("name", SortBy::Name);
        }
        add("created_at", SortBy::Made);
        add("updated_at", SortBy::Changed);
        for (field, is_time) in short_fields(&R::KIND.spec_schema()) {
            let by = SortBy::Spec {
                field: field.clone(),
                is_time,
            };
            add(&field, by);
        }
        for (field, is_time) in short_fields(&R::KIND.status_schema()) {
            let by = SortBy::Status {
                field: field.clone(),
                is_time,
            };
            add(&field, by);
        }
        sorts
    }
}

/// Numbers, words, truths and moments; whether each is a moment.
fn short_fields(schema: &Value) -> Vec<(String, bool)> {
    let fields = schema["properties"].as_object();
    let fields = fields.into_iter().flat_map(Map::iter);
    fields
        .filter_map(|(field, schema)| Some((field.clone(), is_time(schema)?)))
        .collect()
}

/// Whether a field's value is a moment; nothing if it is not one short value.
fn is_time(schema: &Value) -> Option<bool> {
    let is = |name: &str| {
        let of_type = &schema["type"];
        let listed = of_type.as_array();
        of_type == name || listed.is_some_and(|types| types.iter().any(|it| it == name))
    };
    if schema["format"] == "date-time" {
        return Some(true);
    }
    if is("integer") || is("number") || is("boolean") || schema["enum"].is_array() {
        return Some(false);
    }
    let made_of = |word: &str| schema[word].as_array().cloned().unwrap_or_default();
    let words = made_of("oneOf");
    if !words.is_empty() && words.iter().all(|word| word["const"].is_string()) {
        return Some(false);
    }
    // One that may be absent is one of two.
    made_of("anyOf").iter().find_map(is_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: Kind) -> Vec<&'static str> {
        kind.sorts().iter().map(|sort| sort.name.as_str()).collect()
    }

    #[test]
    fn sorts_follow_from_what_is_declared() {
        assert_eq!(
            names(Kind::Rack),
            [
                "name",
                "created_at",
                "updated_at",
                "as_number",
                "bgp_number"
            ]
        );
        let vms = names(Kind::VirtualMachine);
        for name in [
            "name",
            "created_at",
            "cpu_cores",
            "memory_mib",
            "storage_gib",
            "phase",
        ] {
            assert!(vms.contains(&name), "{name}: {vms:?}");
        }
        let sessions = Kind::Session.sorts();
        let expiry = sessions.iter().find(|sort| sort.name == "expires_at");
        let expected = SortBy::Spec {
            field: "expires_at".into(),
            is_time: true,
        };
        assert_eq!(expiry.map(|sort| &sort.by), Some(&expected));
        // What has no name is not sorted by it.
        assert_eq!(names(Kind::Session)[0], "created_at");
    }

    /// An order tells of a value what the value itself would tell.
    #[test]
    fn nobody_sorts_by_what_is_kept_of_a_secret() {
        for kind in Kind::ALL {
            for name in names(*kind) {
                let is_hidden =
                    name.contains("hash") || name.contains("secret") || name.contains("password");
                assert!(!is_hidden, "{}.{name}", kind.name());
            }
        }
    }
}
