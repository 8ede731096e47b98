//! Reading a field's JSON Schema.

use serde_json::Value;

/// The words that a text may be, if it may only be some.
pub(crate) fn words_of(schema: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let words: Vec<String> = match (&schema["oneOf"], &schema["enum"]) {
        (Value::Array(all), _) => all.iter().map(|one| text(&one["const"])).collect(),
        (_, Value::Array(all)) => all
            .iter()
            .filter(|word| !word.is_null())
            .map(text)
            .collect(),
        _ => None,
    }?;
    (!words.is_empty()).then_some(words)
}

/// What a field is when it is there: without `null` beside its type.
pub(crate) fn without_null(schema: &Value) -> Value {
    let mut plain = schema.clone();
    let is_null = |it: &Value| it == "null" || it["type"] == "null";
    if let Some(Value::Array(types)) = schema.get("type")
        && let [one] = types.iter().filter(|it| !is_null(it)).collect::<Vec<_>>()[..]
    {
        plain["type"] = one.clone();
    }
    if let Some(Value::Array(any)) = schema.get("anyOf")
        && let [one] = any.iter().filter(|it| !is_null(it)).collect::<Vec<_>>()[..]
    {
        plain = one.clone();
        if !schema["description"].is_null() {
            plain["description"] = schema["description"].clone();
        }
    }
    plain
}
