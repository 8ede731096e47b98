//! Configuration in three layers: the cloud's, a tenant's, a user's. A lower layer narrows what the one above
//! allows, field by field as the cloud's schema says; it never widens it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Invalid, Resource, checks};

/// Secret fields that one schema may have. With [`SECRET_BYTES_MAX`] it keeps what is sealed of a layer well within
/// one changeset.
pub const SECRETS_MAX: usize = 32;
/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 4096;

/// How a layer's value of a field meets that of the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeRule {
    /// Of a list or an object a part of the one above; anything else must be equal to it.
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
    /// Not for everybody's eyes: its values are texts, kept sealed and shown as a mask. Merges by `override`.
    #[serde(default)]
    pub secret: bool,
}

/// What holds of each field; a field that is not named merges as a subset.
pub type Schema = BTreeMap<String, FieldRule>;

/// Fields with their values.
pub type Values = Map<String, Value>;

/// What is kept of a layer beside its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LayerStatus {
    /// The values of secret fields, each in a box that only controllers open. Never shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sealed_values: BTreeMap<String, String>,
}

/// What the kinds of layers have in common.
pub trait Layer: Resource<Status = LayerStatus> {
    /// Whose layer it is.
    const OF: LayerOf;
    /// What it configures, as [`scope_key`] files it.
    fn key(spec: &Self::Spec) -> String;
    /// Its fields.
    fn values(spec: &Self::Spec) -> &Values;
    /// Its fields, to put masks into.
    fn values_mut(spec: &mut Self::Spec) -> &mut Values;
}

/// Whose a layer is, the widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerOf {
    /// The cloud's.
    System,
    /// A tenant's.
    Tenant,
    /// A user's.
    User,
}

/// What holds of a field, whether the schema names it or not.
#[must_use]
pub fn rule_of(schema: &Schema, field: &str) -> FieldRule {
    schema.get(field).copied().unwrap_or_default()
}

/// What stands in a spec where a secret is kept: the generation of the layer in which it was set, so that another
/// secret is another mask.
#[must_use]
pub fn mask(generation: u64) -> Value {
    json!({"secret": generation})
}

/// True for what [`mask`] gives.
#[must_use]
pub fn is_mask(value: &Value) -> bool {
    let only = value.as_object().filter(|fields| fields.len() == 1);
    only.and_then(|fields| fields.get("secret"))
        .is_some_and(Value::is_u64)
}

/// What is below narrows what is above. `above` are the layers over it, the cloud's first.
pub fn check_narrowing(
    schema: &Schema,
    above: &[(LayerOf, &Values)],
    below: &Values,
) -> Result<(), Invalid> {
    check_secrets(schema, below)?;
    for (field, value) in below {
        let at = format!("values.{field}");
        match rule_of(schema, field).merge {
            MergeRule::Override => {}
            MergeRule::Append if value.is_array() => {}
            MergeRule::Append => return Err(Invalid::new(at, "must be a list: it is appended")),
            MergeRule::Subset => {
                let over = effective_field(MergeRule::Subset, above, field).value;
                check_subset(&at, over.as_ref(), value)?;
            }
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
        (Value::Object(allowed), Value::Object(wanted)) => {
            wanted.iter().try_for_each(|(name, part)| {
                check_subset(&format!("{at}.{name}"), allowed.get(name), part)
            })
        }
        (over, value) if over == value => Ok(()),
        _ => Err(Invalid::new(
            at,
            "differs from the value above, and its field may only be narrowed",
        )),
    }
}

/// What layers give together for one field.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effective {
    /// The value; `None` where a lower layer has one that nothing above allows (any more).
    pub value: Option<Value>,
    /// The layers that it came from: that set it, narrowed it or added to it.
    pub from: Vec<LayerOf>,
    /// Layers whose value is not taken, or not wholly, because it is wider than those above allow now.
    pub ignored: Vec<LayerOf>,
}

/// The value of one field that layers give together, the widest first.
///
/// Layers are checked when they are written, and those above may have become narrower since; what they do not allow
/// any more is left out.
#[must_use]
pub fn effective_field(rule: MergeRule, layers: &[(LayerOf, &Values)], field: &str) -> Effective {
    let mut found = Effective::default();
    let set = layers
        .iter()
        .filter_map(|(of, values)| Some((*of, values.get(field)?)));
    for (of, value) in set {
        let Some(over) = found.value.take() else {
            // Nobody allows what the cloud does not set.
            match rule == MergeRule::Subset && of != LayerOf::System {
                true => found.ignored.push(of),
                false => {
                    found.value = Some(value.clone());
                    found.from.push(of);
                }
            }
            continue;
        };
        let (next, is_taken, is_wider) = match rule {
            MergeRule::Override => {
                found.from.clear();
                (value.clone(), true, false)
            }
            MergeRule::Append => append(over, value),
            MergeRule::Subset => {
                let (narrowed, is_wider) = narrow(&over, value);
                let is_taken = narrowed != over;
                (narrowed, is_taken, is_wider)
            }
        };
        found.value = Some(next);
        if is_taken {
            found.from.push(of);
        }
        if is_wider {
            found.ignored.push(of);
        }
    }
    found
}

/// A list with what another one has more; whether it was taken, and whether it could not be.
fn append(over: Value, more: &Value) -> (Value, bool, bool) {
    match (over, more) {
        (Value::Array(mut over), Value::Array(more)) => {
            for item in more {
                if !over.contains(item) {
                    over.push(item.clone());
                }
            }
            (Value::Array(over), true, false)
        }
        (over, _) => (over, false, true),
    }
}

/// What both allow, and whether the lower one asks for more.
fn narrow(over: &Value, below: &Value) -> (Value, bool) {
    match (over, below) {
        (Value::Array(allowed), Value::Array(wanted)) => {
            let both = allowed.iter().filter(|item| wanted.contains(item));
            let is_wider = wanted.iter().any(|item| !allowed.contains(item));
            (both.cloned().collect(), is_wider)
        }
        (Value::Object(allowed), Value::Object(wanted)) => {
            let mut is_wider = wanted.keys().any(|name| !allowed.contains_key(name));
            let mut both = Map::new();
            for (name, over) in allowed {
                if let Some(below) = wanted.get(name) {
                    let (part, is_part_wider) = narrow(over, below);
                    is_wider |= is_part_wider;
                    both.insert(name.clone(), part);
                }
            }
            (both.into(), is_wider)
        }
        (over, below) => (over.clone(), over != below),
    }
}

/// A secret is a text of bounded length, or the mask of one.
pub fn check_secrets(schema: &Schema, values: &Values) -> Result<(), Invalid> {
    let secrets = values
        .iter()
        .filter(|(field, _)| rule_of(schema, field).secret);
    for (field, value) in secrets {
        let at = format!("values.{field}");
        match value.as_str() {
            Some(text) if text.len() > SECRET_BYTES_MAX => {
                let problem = format!(
                    "has {} bytes, a secret at most {SECRET_BYTES_MAX}",
                    text.len()
                );
                return Err(Invalid::new(at, problem));
            }
            Some(_) => {}
            None if is_mask(value) => {}
            None => {
                let problem =
                    "must be a text, or the mask of the secret that is kept: it is a secret field";
                return Err(Invalid::new(at, problem));
            }
        }
    }
    Ok(())
}

/// A schema of the cloud's.
pub(crate) fn check_schema(schema: &Schema) -> Result<(), Invalid> {
    if schema.len() > 256 {
        return Err(Invalid::new("schema", "at most 256 fields are allowed"));
    }
    for (field, rule) in schema {
        Invalid::text("schema", field, 128)?;
        if rule.secret && rule.merge != MergeRule::Override {
            let problem =
                "must be `override`: what is sealed cannot be compared with what is above";
            return Err(Invalid::new(format!("schema.{field}.merge"), problem));
        }
    }
    if schema.values().filter(|rule| rule.secret).count() > SECRETS_MAX {
        let problem = format!("at most {SECRETS_MAX} secret fields are allowed");
        return Err(Invalid::new("schema", problem));
    }
    Ok(())
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
