//! Cursors: where a list goes on, tied to the question it belongs to.
//!
//! A cursor is no secret and grants nothing: what a page shows is decided anew for each. The tie to the
//! question only keeps a cursor from being used with another filter, where it would skip silently.

use serde_json::Value;
use virtflow_types::{Error, ObjectId};

const TIE_BYTES: usize = 8;
/// Longest cursor of a list in an order of the asker's: values are names, numbers, words and moments.
const SORTED_BYTES_MAX: usize = 2048;

/// Sixteen bytes of the last object looked at and eight of the question, hexadecimal.
pub(crate) fn write(last: ObjectId, question: &str) -> String {
    let mut text = String::with_capacity(2 * (16 + TIE_BYTES));
    for byte in last.as_bytes().iter().chain(&tie(question)) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The object after which the list goes on.
pub(crate) fn read(text: &str, question: &str) -> Result<ObjectId, Error> {
    let refused = || {
        Error::invalid(
            "cursor",
            "is not one that this list gave; begin again without a cursor",
        )
    };
    if text.len() != 2 * (16 + TIE_BYTES) || !text.is_ascii() {
        return Err(refused());
    }
    let mut id = [0; 16];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| refused())?;
    }
    let id = ObjectId::from_slice(&id).ok_or_else(refused)?;
    // The one spelling of it, and of this question.
    if write(id, question) == text {
        Ok(id)
    } else {
        Err(refused())
    }
}

/// Where a list in an order of the asker's goes on: the id and the tie as above, then the value of the order.
pub(crate) fn write_sorted(value: &Value, last: ObjectId, question: &str) -> String {
    let value = match value {
        Value::String(text) => format!("t{text}"),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => format!("i{whole}"),
            None => format!("r{:016x}", number.as_f64().unwrap_or_default().to_bits()),
        },
        _ => String::new(),
    };
    let mut text = write(last, &format!("{question} {value}"));
    for byte in value.bytes() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The value and the object after which such a list goes on.
pub(crate) fn read_sorted(text: &str, question: &str) -> Result<(Value, ObjectId), Error> {
    let refused = || {
        Error::invalid(
            "cursor",
            "is not one that this list gave; begin again without a cursor",
        )
    };
    if text.len() > SORTED_BYTES_MAX || !text.is_ascii() {
        return Err(refused());
    }
    let (head, rest) = text
        .split_at_checked(2 * (16 + TIE_BYTES))
        .ok_or_else(refused)?;
    let bytes: Option<Vec<u8>> = (0..rest.len().div_ceil(2))
        .map(|at| u8::from_str_radix(rest.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    let value = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let value = value.ok_or_else(refused)?;
    let last = read(head, &format!("{question} {value}"))?;
    let whole = || {
        value
            .strip_prefix('i')?
            .parse::<i64>()
            .ok()
            .map(Value::from)
    };
    let real = || {
        let bits = u64::from_str_radix(value.strip_prefix('r')?, 16).ok()?;
        let number = serde_json::Number::from_f64(f64::from_bits(bits));
        number.map(Value::from)
    };
    let read = match value.strip_prefix('t') {
        Some(text) => Value::from(text),
        None if value.is_empty() => Value::Null,
        None => whole().or_else(real).ok_or_else(refused)?,
    };
    // The one spelling of it.
    match write_sorted(&read, last, question) == text {
        true => Ok((read, last)),
        false => Err(refused()),
    }
}

fn tie(question: &str) -> [u8; TIE_BYTES] {
    let mut tie = [0; TIE_BYTES];
    tie.copy_from_slice(&blake3::hash(question.as_bytes()).as_bytes()[..TIE_BYTES]);
    tie
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_has_one_spelling() {
        let id = ObjectId::from_u128(0xabcdef);
        let text = write(id, "q");
        assert_eq!(read(&text, "q"), Ok(id));
        assert!(read(&text, "another").is_err());
        assert!(read(&text.to_uppercase(), "q").is_err());
        assert!(read(&text.replacen("00", "+0", 1), "q").is_err());
    }

    #[test]
    fn a_place_in_an_order_has_one_spelling_too() {
        let id = ObjectId::from_u128(0xabcdef);
        for value in [
            json!("web-1"),
            json!(""),
            json!(-5),
            json!(12.5),
            Value::Null,
            json!("ü"),
        ] {
            let text = write_sorted(&value, id, "q");
            assert_eq!(read_sorted(&text, "q"), Ok((value.clone(), id)));
            assert!(read_sorted(&text, "another").is_err());
            assert!(read_sorted(&format!("{text}00"), "q").is_err());
            assert!(read_sorted(&text[..text.len() - 1], "q").is_err());
        }
        // A value that somebody put there is none that this list gave.
        let a = write_sorted(&json!("a"), id, "q");
        assert!(read_sorted(&a.replace("7461", "7462"), "q").is_err());
        assert!(read_sorted("", "q").is_err());
        assert!(read_sorted(&"0".repeat(4096), "q").is_err());
    }
}
