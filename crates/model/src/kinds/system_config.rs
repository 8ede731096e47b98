//! What the cloud's configuration allows in a scope, and how tenants and users may narrow it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    self, FieldRule, Layer, LayerOf, LayerStatus, MergeRule, Schema, Values, scope_key,
};
use crate::print::{key, space};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A layer of the cloud's.
#[derive(Debug)]
pub enum SystemConfig {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemConfigSpec {
    /// What it configures: `genai.policy`.
    pub scope: String,
    /// A part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_scope: Option<String>,
    /// Whether it holds; one of a scope and sub-scope does.
    #[serde(default = "config::active")]
    pub active: bool,
    /// Fields with their values, up to 16 KiB of JSON.
    #[serde(default)]
    pub values: Values,
    /// What holds of each field: how layers meet (`subset`, `override`, `append`), and whether it is secret.
    #[serde(default)]
    pub schema: Schema,
    /// For people.
    #[serde(default)]
    pub description: String,
}

impl Resource for SystemConfig {
    const KIND: Kind = Kind::SystemConfig;
    const SCOPE: Scope = Scope::System;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        shared: true,
        create: ByPeople::ByVerb,
        update: ByPeople::ByVerb,
        ..Rules::plain("What the cloud allows in a scope of configuration")
    };
    type Spec = SystemConfigSpec;
    type Status = LayerStatus;

    fn example() -> SystemConfigSpec {
        let models = serde_json::json!(["small", "large"]);
        let rule = FieldRule {
            merge: MergeRule::Subset,
            secret: false,
        };
        SystemConfigSpec {
            scope: "genai.policy".into(),
            sub_scope: None,
            active: true,
            values: Values::from_iter([("allowed_models".into(), models)]),
            schema: Schema::from([("allowed_models".into(), rule)]),
            description: String::new(),
        }
    }
    fn validate(spec: &SystemConfigSpec) -> Result<(), Invalid> {
        config::check_layer(&spec.scope, spec.sub_scope.as_deref(), &spec.values)?;
        config::check_schema(&spec.schema)?;
        config::check_secrets(&spec.schema, &spec.values)?;
        Invalid::text("description", &spec.description, 1024)
    }
    fn validate_update(old: &SystemConfigSpec, new: &SystemConfigSpec) -> Result<(), Invalid> {
        if old.scope != new.scope || old.sub_scope != new.sub_scope {
            return Err(Invalid::new("scope", "does not change; make another for that scope"));
        }
        Self::validate(new)
    }
    fn print(_: &Meta, spec: &SystemConfigSpec, _: &LayerStatus, print: &mut Print) {
        let at = scope_key(&spec.scope, spec.sub_scope.as_deref());
        if spec.active {
            print.claim(space::CONFIG, format!("system/{at}"));
        }
        print.key(key::CONFIG_SCOPE, format!("system_config/{at}"));
    }
}

impl Layer for SystemConfig {
    const OF: LayerOf = LayerOf::System;

    fn key(spec: &SystemConfigSpec) -> String {
        scope_key(&spec.scope, spec.sub_scope.as_deref())
    }
    fn values(spec: &SystemConfigSpec) -> &Values {
        &spec.values
    }
    fn values_mut(spec: &mut SystemConfigSpec) -> &mut Values {
        &mut spec.values
    }
}
