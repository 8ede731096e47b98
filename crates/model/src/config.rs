//! Configuration in three layers: the cloud's, a tenant's, a user's. A lower layer narrows what the one above
//! allows, field by field as the cloud's schema says; it never widens it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Invalid, checks};

/// How a layer's value of a field meets that of the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeRule {
    /// A list within the list above; anything else must be equal to it.
    #[default]
    Subset,
    /// Replaces it.
    Override,
    /// A list that is added to it.
    Append,
}

/// What holds of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldRule {
    /// How layers meet.
    #[serde(default)]
    pub merge: MergeRule,
    /// Not for everybody's eyes. Values of such fields cannot be stored yet.
    #[serde(default)]
    pub secret: bool,
}

/// What holds of each field; a field that is not named merges as a subset.
pub type Schema = BTreeMap<String, FieldRule>;

/// Fields with their values.
pub type Values = Map<String, Value>;

fn rule_of(schema: &Schema, field: &str) -> FieldRule {
    schema.get(field).copied().unwrap_or_default()
}

/// What is below narrows what is above. `above` are the layers over it, the cloud's first.
pub fn check_narrowing(schema: &Schema, above: &[&Values], below: &Values) -> Result<(), Invalid> {
    for (field, value) in below {
        let at = format!("values.{field}");
        let rule = rule_of(schema, field);
        if rule.secret {
            return Err(secret(&at));
        }
        let over = effective_field(rule.merge, above, field);
        match rule.merge {
            MergeRule::Override => {}
            MergeRule::Append if value.is_array() => {}
            MergeRule::Append => return Err(Invalid::new(at, "must be a list: it is appended")),
            MergeRule::Subset => check_subset(&at, over.as_ref(), value)?,
        }
    }
    Ok(())
}

fn check_subset(at: &str, over: Option<&Value>, value: &Value) -> Result<(), Invalid> {
    let Some(over) = over else {
        let problem = "is not set above, so there is nothing to narrow";
        return Err(Invalid::new(at, problem));
    };
    match (over, value) {
        (Value::Array(allowed), Value::Array(wanted)) => {
            match wanted.iter().find(|item| !allowed.contains(item)) {
                None => Ok(()),
                Some(item) => {
                    let shown: String = item.to_string().chars().take(64).collect();
                    let problem =
                        format!("{shown} is not allowed above; a layer narrows, never widens");
                    Err(Invalid::new(at, problem))
                }
            }
        }
        (over, value) if over == value => Ok(()),
        _ => Err(Invalid::new(
            at,
            "differs from the value above, and its field may only be narrowed",
        )),
    }
}

/// The value of one field that layers give together, the first on top.
///
/// A layer that was narrower than the one above may have become wider since; what is not allowed above is then
/// left out.
pub fn effective_field(rule: MergeRule, layers: &[&Values], field: &str) -> Option<Value> {
    let mut values = layers.iter().filter_map(|layer| layer.get(field));
    let first = values.next()?.clone();
    Some(values.fold(first, |over, value| match (rule, over, value) {
        (MergeRule::Override, _, value) => value.clone(),
        (MergeRule::Append, Value::Array(mut over), Value::Array(more)) => {
            over.extend(more.iter().cloned());
            Value::Array(over)
        }
        (MergeRule::Subset, Value::Array(mut over), Value::Array(narrower)) => {
            over.retain(|item| narrower.contains(item));
            Value::Array(over)
        }
        (_, over, _) => over,
    }))
}

/// Refuses values of secret fields: there is nothing yet that would keep them sealed.
pub fn check_secrets(schema: &Schema, values: &Values) -> Result<(), Invalid> {
    let mut fields = values.keys();
    match fields.find(|field| rule_of(schema, field).secret) {
        Some(field) => Err(secret(&format!("values.{field}"))),
        None => Ok(()),
    }
}

fn secret(at: &str) -> Invalid {
    Invalid::new(
        at,
        "is a secret field, and secrets cannot be stored yet: leave it out",
    )
}

/// `genai.policy`: words of `a-z 0-9 _` with points between them.
pub(crate) fn check_scope(field: &str, scope: &str) -> Result<(), Invalid> {
    let word = |word: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        !word.is_empty() && word.bytes().all(allowed)
    };
    if scope.len() <= 128 && scope.split('.').all(word) {
        return Ok(());
    }
    let problem =
        "must be words of a-z, 0-9 and `_` with points between them, such as `genai.policy`";
    Err(Invalid::new(field, problem))
}

/// Scope, sub-scope and values of a layer.
pub(crate) fn check_layer(
    scope: &str,
    sub_scope: Option<&str>,
    values: &Values,
) -> Result<(), Invalid> {
    check_scope("scope", scope)?;
    if let Some(sub_scope) = sub_scope {
        check_scope("sub_scope", sub_scope)?;
    }
    checks::json("values", values)
}

/// Where a layer is filed: `scope` or `scope/sub_scope`.
#[must_use]
pub fn scope_key(scope: &str, sub_scope: Option<&str>) -> String {
    match sub_scope {
        Some(sub_scope) => format!("{scope}/{sub_scope}"),
        None => scope.to_owned(),
    }
}

pub(crate) fn active() -> bool {
    true
}
