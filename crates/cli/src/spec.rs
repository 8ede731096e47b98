//! From flags to the JSON of a spec.

use std::time::Duration;

use clap::ArgMatches;
use serde_json::{Map, Value};
use virtflow_types::Timestamp;

use crate::amount;
use crate::failure::Failure;
use crate::noun::{Flag, Form};

/// Deepest path of fields: as deep as a controller takes a body.
const PATH_FIELDS_MAX: usize = 32;
/// Largest file of a spec, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The spec that a command line describes: a file, then typed flags, then `--set`, then `--unset`, each
/// over what stands before it.
pub(crate) fn of_matches(
    flags: &[Flag],
    matches: &ArgMatches,
    is_creation: bool,
    now: Timestamp,
) -> Result<Value, Failure> {
    let mut spec = Value::Object(Map::new());
    if let Some(path) = text_of(matches, "from-file") {
        spec = of_file(path)?;
    }
    for flag in flags.iter().filter(|flag| is_creation || !flag.is_for_life) {
        let texts: Vec<&str> = match matches.get_many::<String>(flag.long) {
            Some(texts) => texts.map(String::as_str).collect(),
            None => continue,
        };
        let value = value_of(flag.form, &texts, now)
            .map_err(|problem| Failure::usage(format!("--{}: {problem}", flag.long)))?;
        put(&mut spec, flag.path, value).map_err(Failure::usage)?;
    }
    for text in many_of(matches, "set") {
        let (path, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--set: `{text}` is not path=value")))?;
        // What reads as JSON is JSON, all else is text.
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        put(&mut spec, path, value)
            .map_err(|problem| Failure::usage(format!("--set: {problem}")))?;
    }
    for path in many_of(matches, "unset") {
        put(&mut spec, path, Value::Null)
            .map_err(|problem| Failure::usage(format!("--unset: {problem}")))?;
    }
    Ok(spec)
}

fn many_of<'a>(matches: &'a ArgMatches, name: &str) -> Vec<&'a str> {
    match matches.try_get_many::<String>(name) {
        Ok(Some(texts)) => texts.map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

fn text_of<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    many_of(matches, name).into_iter().next_back()
}

/// A spec in a file, as JSON or YAML; `-` is standard input. A whole object, as `get -o yaml` prints
/// it, counts by its spec.
fn of_file(path: &str) -> Result<Value, Failure> {
    let text = crate::secret::read_document(path, FILE_BYTES_MAX)?;
    let value: Value = serde_yaml_ng::from_str(&text)
        .map_err(|error| Failure::usage(format!("{path} is neither JSON nor YAML: {error}")))?;
    let spec = match value {
        Value::Object(mut object) if object.contains_key("kind") && object.contains_key("spec") => {
            object.remove("spec").unwrap_or_default()
        }
        other => other,
    };
    if spec.is_object() {
        Ok(spec)
    } else {
        Err(Failure::usage(format!(
            "{path} holds no spec: an object is expected"
        )))
    }
}

/// A flag's texts as JSON. Only forms that repeat are given more than one.
pub(crate) fn value_of(form: Form, texts: &[&str], now: Timestamp) -> Result<Value, String> {
    let text = texts.last().copied().unwrap_or_default();
    Ok(match form {
        Form::Text | Form::Choice(_) => text.into(),
        Form::Count => count(text)?.into(),
        Form::Mib => amount::size_mib(text)?.into(),
        Form::Gib => amount::size_gib(text)?.into(),
        Form::Percent => amount::percent(text)?.into(),
        Form::WholePercent => count(text.trim_end_matches('%'))?.into(),
        Form::Seconds => amount::span(text)?.as_secs().into(),
        Form::Expiry => expiry(amount::span(text)?, now)?.to_string().into(),
        Form::Word(_) => text.replace('-', "_").into(),
        Form::Truth => (text == "true").into(),
        Form::Texts => texts.iter().map(|text| Value::from(*text)).collect(),
        Form::Pairs => {
            let mut map = Map::new();
            for text in texts {
                let (key, value) = text
                    .split_once('=')
                    .ok_or_else(|| format!("`{text}` is not key=value"))?;
                map.insert(key.to_owned(), value.into());
            }
            Value::Object(map)
        }
    })
}

fn count(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no whole number"))
}

pub(crate) fn expiry(span: Duration, now: Timestamp) -> Result<Timestamp, String> {
    if span.is_zero() {
        return Err("a time to live must not be zero".into());
    }
    Ok(now.plus(span))
}

/// Sets the field at a path of dots; objects on the way are made.
pub(crate) fn put(spec: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.split('.').count() > PATH_FIELDS_MAX {
        return Err(format!("a path has at most {PATH_FIELDS_MAX} fields"));
    }
    let mut place = spec;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let Value::Object(fields) = place else {
            return Err(format!(
                "`{path}` leads through something that is no object"
            ));
        };
        if part.is_empty() {
            return Err(format!("`{path}` is no path of fields such as quota.vms"));
        }
        if parts.peek().is_none() {
            merge(fields.entry(part).or_insert(Value::Null), value);
            return Ok(());
        }
        place = fields
            .entry(part)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    Ok(())
}

/// Objects are joined, all else is replaced.
fn merge(place: &mut Value, value: Value) {
    match (place, value) {
        (Value::Object(fields), Value::Object(more)) => fields.extend(more),
        (place, value) => *place = value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_456_800_000);

    #[test]
    fn forms() {
        for (form, texts, expected) in [
            (Form::Text, &["a b"][..], json!("a b")),
            (Form::Count, &["7"], json!(7)),
            (Form::Mib, &["4GiB"], json!(4096)),
            (Form::Gib, &["1TiB"], json!(1024)),
            (Form::Percent, &["12.5"], json!(12.5)),
            (Form::WholePercent, &["400%"], json!(400)),
            (Form::Seconds, &["2m"], json!(120)),
            (Form::Expiry, &["15m"], json!("2026-11-23T18:15:00Z")),
            (
                Form::Word(&["on-failure"]),
                &["on-failure"],
                json!("on_failure"),
            ),
            (Form::Choice(&["x86-64"]), &["x86-64"], json!("x86-64")),
            (Form::Truth, &["false"], json!(false)),
            (Form::Texts, &["a", "b"], json!(["a", "b"])),
            (
                Form::Pairs,
                &["a=1", "b=x=y"],
                json!({"a": "1", "b": "x=y"}),
            ),
        ] {
            assert_eq!(value_of(form, texts, NOW), Ok(expected), "{form:?}");
        }
        for (form, text) in [
            (Form::Count, "-1"),
            (Form::Count, "1.5"),
            (Form::Gib, "1MiB"),
            (Form::WholePercent, "12.5"),
            (Form::Expiry, "0s"),
            (Form::Pairs, "novalue"),
        ] {
            assert!(value_of(form, &[text], NOW).is_err(), "{form:?} {text}");
        }
    }

    #[test]
    fn paths() {
        let mut spec = json!({"labels": {"a": "1"}});
        put(&mut spec, "quota.vms", json!(7)).unwrap();
        put(&mut spec, "labels", json!({"b": "2"})).unwrap();
        put(&mut spec, "labels.a", Value::Null).unwrap();
        assert_eq!(
            spec,
            json!({"quota": {"vms": 7}, "labels": {"a": null, "b": "2"}})
        );
        for bad in ["", ".", "a.", ".a", "quota.vms.x"] {
            assert!(put(&mut spec, bad, json!(1)).is_err(), "{bad}");
        }
        let deep = vec!["a"; PATH_FIELDS_MAX].join(".");
        assert!(put(&mut spec, &deep, json!(1)).is_ok());
        assert!(put(&mut spec, &format!("{deep}.a"), json!(1)).is_err());
    }
}
