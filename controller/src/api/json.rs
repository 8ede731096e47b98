//! Request bodies: JSON that means one thing only.
//!
//! A key that stands twice, nesting beyond [`DEPTH_MAX`], a wrong content type and a field nobody
//! knows are refused with the field's path: what two parsers read differently is an attack.

use std::cell::Cell;
use std::fmt;

use axum::http::StatusCode;
use serde::Deserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use virtflow_types::{Error, ErrorCode};

use super::envelope::Failure;
use super::request::Call;

/// Deepest nesting of a body.
pub(crate) const DEPTH_MAX: usize = 32;

/// Most values of a body, those within values too: a small one takes far more memory than text, and the
/// body of a login is read before anybody is known.
pub(crate) const VALUES_MAX: usize = 20_000;

/// Refuses a body that says anything, for what takes none.
pub(crate) fn nothing(call: &Call) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    body(call).map(|Nothing {}| ())
}

/// Reads a JSON value without repeated keys, of as many values as are left.
struct Strict<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| {
            D::Error::custom(format!("more than {VALUES_MAX} values in one body"))
        })?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict(self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands twice")));
            }
            map.insert(key, entries.next_value_seed(Strict(self.0))?);
        }
        Ok(Value::Object(map))
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

/// Reads a body as JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    let left = Cell::new(VALUES_MAX);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict(&left).deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    let value = read.map_err(|error| {
        Error::new(
            ErrorCode::Invalid,
            format!("the request's body is not valid JSON: {error}"),
        )
        .advise("send one JSON object, each key once")
    })?;
    if depth(&value) > DEPTH_MAX {
        return Err(Error::new(
            ErrorCode::Invalid,
            format!("the request's body is nested deeper than {DEPTH_MAX} levels"),
        ));
    }
    Ok(value)
}

/// Reads a value as `T`; an error names the field by its path.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body".into() } else { path };
        Error::invalid(field, error.into_inner().to_string())
    })
}

/// The call's body as `T`. An absent body reads as an empty object, for verbs that need none.
pub(crate) fn body<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    if call.body.is_empty() {
        return Ok(typed(Value::Object(Map::new()))?);
    }
    require_json(call)?;
    let value = parse(&call.body)?;
    if !value.is_object() {
        return Err(Error::invalid("body", "must be a JSON object").into());
    }
    Ok(typed(value)?)
}

fn require_json(call: &Call) -> Result<(), Failure> {
    let given = call.header("content-type").unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = media == "application/json" || media == "application/merge-patch+json";
    let utf8 = parts.all(|parameter| {
        let parameter = parameter.to_ascii_lowercase().replace('"', "");
        !parameter.starts_with("charset=") || parameter == "charset=utf-8"
    });
    let encoded = call
        .header("content-encoding")
        .is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"));
    if json && utf8 && !encoded {
        return Ok(());
    }
    let problem = if encoded {
        "compressed bodies are not accepted".to_owned()
    } else {
        format!("the body must be `application/json` in UTF-8, not `{given}`")
    };
    Err(Failure::with_status(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Error::new(ErrorCode::Invalid, problem).advise("send `Content-Type: application/json`"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let error = parse(br#"{"a":{"b":1,"b":2}}"#).unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid);
        assert!(error.message.contains("`b` stands twice"), "{error}");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(DEPTH_MAX - 1).as_bytes()).is_ok());
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn values_are_counted() {
        let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(parse(list(VALUES_MAX).as_bytes()).is_ok());
        let error = parse(list(VALUES_MAX + 1).as_bytes()).unwrap_err();
        assert!(error.message.contains("more than 20000 values"), "{error}");
    }

    #[test]
    fn numbers_beyond_their_range_and_broken_text_are_refused() {
        for bad in ["1e400", "NaN", "{", "\"\\ud800\"", "{\"a\":1}x", "", "'a'"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert_eq!(parse(b"18446744073709551615").unwrap(), json!(u64::MAX));
    }

    #[test]
    fn an_error_names_the_field_by_its_path() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Inner {
            #[expect(dead_code, reason = "only its type matters")]
            size: u64,
        }
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[expect(dead_code, reason = "only its type matters")]
            inner: Inner,
        }
        let error = typed::<Outer>(json!({"inner": {"size": "big"}})).unwrap_err();
        assert_eq!(error.fields[0].field, "inner.size");
        let error = typed::<Outer>(json!({"inner": {"size": 1, "colour": 2}})).unwrap_err();
        assert!(error.fields[0].problem.contains("colour"), "{error}");
    }
}
