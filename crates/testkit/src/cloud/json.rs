//! Reaching into JSON, with errors that show what was there instead.

use anyhow::{Context, Result};
use serde_json::Value;

/// The text at a JSON pointer.
///
/// # Errors
/// When there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no text at {pointer} in {value}"))
}

/// The number at a JSON pointer.
///
/// # Errors
/// When there is none.
pub fn number(value: &Value, pointer: &str) -> Result<u64> {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .with_context(|| format!("no number at {pointer} in {value}"))
}

/// The rows of a list.
///
/// # Errors
/// When it is something else.
pub fn list(value: &Value) -> Result<&[Value]> {
    value
        .as_array()
        .map(Vec::as_slice)
        .with_context(|| format!("this should be a list: {value}"))
}

/// What was seen of an object.
pub fn status(object: &Value) -> &Value {
    &object["status"]
}

/// The phase of a virtual machine.
///
/// # Errors
/// When the object has none.
pub fn phase_of(vm: &Value) -> Result<&str> {
    text(status(vm), "/phase")
}
