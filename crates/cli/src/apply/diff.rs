//! What differs between what is and what is wanted: as a patch for the API, and as lines for people.

use serde_json::{Map, Value, json};

/// Longest value that is shown in a line, in characters.
const SHOWN_CHARS_MAX: usize = 120;

/// A field that differs; nothing on a side where it is not there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// Its path, by dots.
    pub(crate) path: String,
    pub(crate) from: Option<Value>,
    pub(crate) to: Option<Value>,
}

/// What makes `is` into `wanted` by RFC 7386: objects are merged, null removes. A null that is wanted is a field
/// that is not wanted.
pub(crate) fn patch(is: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (field, to) in wanted.iter().filter(|(_, to)| !to.is_null()) {
        match (is.get(field), to) {
            (Some(from), to) if from == to => {}
            (Some(Value::Object(from)), Value::Object(to)) => {
                let within = self::patch(from, to);
                if !within.is_empty() {
                    patch.insert(field.clone(), within.into());
                }
            }
            _ => {
                patch.insert(field.clone(), to.clone());
            }
        }
    }
    for (field, _) in is.iter().filter(|(_, from)| !from.is_null()) {
        if wanted.get(field).is_none_or(Value::is_null) {
            patch.insert(field.clone(), Value::Null);
        }
    }
    patch
}

/// The fields in which two objects differ, by their paths; what is within a list is not looked into.
pub(crate) fn changes(is: &Map<String, Value>, wanted: &Map<String, Value>) -> Vec<Change> {
    let mut all = Vec::new();
    collect("", is, wanted, &mut all);
    all
}

fn collect(
    above: &str,
    is: &Map<String, Value>,
    wanted: &Map<String, Value>,
    all: &mut Vec<Change>,
) {
    let nothing = Map::new();
    let mut fields: Vec<&String> = is.keys().chain(wanted.keys()).collect();
    fields.sort_unstable();
    fields.dedup();
    for field in fields {
        let there = |side: &Map<String, Value>| side.get(field).filter(|it| !it.is_null()).cloned();
        let path = match above {
            "" => field.clone(),
            above => format!("{above}.{field}"),
        };
        match (there(is), there(wanted)) {
            (from, to) if from == to => {}
            (Some(Value::Object(from)), Some(Value::Object(to))) => {
                collect(&path, &from, &to, all);
            }
            (None, Some(Value::Object(to))) if !to.is_empty() => {
                collect(&path, &nothing, &to, all);
            }
            (Some(Value::Object(from)), None) if !from.is_empty() => {
                collect(&path, &from, &nothing, all);
            }
            (from, to) => all.push(Change { path, from, to }),
        }
    }
}

/// A change in a line.
pub(crate) fn line(change: &Change) -> String {
    let Change { path, from, to } = change;
    crate::safe::line(&match (from, to) {
        (None, Some(to)) => format!("    + {path}: {}", shown(to)),
        (Some(from), None) => format!("    - {path}: {}", shown(from)),
        (from, to) => {
            let show = |side: &Option<Value>| side.as_ref().map_or("nothing".into(), shown);
            format!("    ~ {path}: {} -> {}", show(from), show(to))
        }
    })
}

/// For programs.
pub(crate) fn to_json(changes: &[Change]) -> Value {
    let changes = changes.iter();
    changes
        .map(|it| json!({"field": it.path, "from": it.from, "to": it.to}))
        .collect()
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    let begin: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{begin}... ({} bytes)", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_patch_has_what_differs_and_nothing_else() {
        for (is, wanted, expected) in [
            (json!({"a": 1}), json!({"a": 1}), json!({})),
            (json!({"a": 1}), json!({"a": 2}), json!({"a": 2})),
            (json!({"a": 1}), json!({}), json!({"a": null})),
            (json!({"a": 1}), json!({"a": null}), json!({"a": null})),
            (json!({}), json!({"a": null}), json!({})),
            (json!({"a": null}), json!({}), json!({})),
            (
                json!({"labels": {"a": "1", "b": "2"}}),
                json!({"labels": {"a": "1", "c": "3"}}),
                json!({"labels": {"b": null, "c": "3"}}),
            ),
            (json!({"l": [1, 2]}), json!({"l": [1]}), json!({"l": [1]})),
            (json!({"a": {"b": 1}}), json!({"a": 7}), json!({"a": 7})),
        ] {
            assert_eq!(
                Value::from(patch(&map(is.clone()), &map(wanted.clone()))),
                expected,
                "{is} {wanted}"
            );
        }
    }

    #[test]
    fn lines_for_people() {
        let is = map(json!({"a": 1, "gone": "x", "labels": {"stage": "test", "same": "s"}}));
        let wanted =
            map(json!({"a": 2, "new": {"deep": true}, "labels": {"stage": "live", "same": "s"}}));
        let lines: Vec<String> = changes(&is, &wanted).iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "    ~ a: 1 -> 2",
                "    - gone: \"x\"",
                "    ~ labels.stage: \"test\" -> \"live\"",
                "    + new.deep: true",
            ]
        );
        let long = Change {
            path: "a".into(),
            from: None,
            to: Some("x".repeat(200).into()),
        };
        assert_eq!(
            line(&long),
            format!("    + a: \"{}... (202 bytes)", "x".repeat(119))
        );
        let unsafe_text = Change {
            path: "a".into(),
            from: None,
            to: Some("\u{202e}".into()),
        };
        assert_eq!(line(&unsafe_text), "    + a: \"\\u{202e}\"");
    }
}
