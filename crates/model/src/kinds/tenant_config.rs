//! How a tenant narrows the cloud's configuration of a scope.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{self, Layer, LayerOf, LayerStatus, Values, scope_key};
use crate::print::{key, space};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A layer of a tenant's.
#[derive(Debug)]
pub enum TenantConfig {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantConfigSpec {
    /// What it configures; the cloud has an active configuration of that scope.
    pub scope: String,
    /// A part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_scope: Option<String>,
    /// Whether it holds; one of a scope and sub-scope does.
    #[serde(default = "config::active")]
    pub active: bool,
    /// Fields with their values, within what the layers above allow; up to 16 KiB of JSON.
    #[serde(default)]
    pub values: Values,
    /// For people.
    #[serde(default)]
    pub description: String,
}

impl Resource for TenantConfig {
    const KIND: Kind = Kind::TenantConfig;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        create: ByPeople::ByVerb,
        update: ByPeople::ByVerb,
        ..Rules::plain("How a tenant narrows the configuration of a scope")
    };
    type Spec = TenantConfigSpec;
    type Status = LayerStatus;

    fn example() -> TenantConfigSpec {
        TenantConfigSpec {
            scope: "genai.policy".into(),
            sub_scope: None,
            active: true,
            values: Values::from_iter([("allowed_models".into(), serde_json::json!(["small"]))]),
            description: String::new(),
        }
    }
    fn validate(spec: &TenantConfigSpec) -> Result<(), Invalid> {
        config::check_layer(&spec.scope, spec.sub_scope.as_deref(), &spec.values)?;
        Invalid::text("description", &spec.description, 1024)
    }
    fn validate_update(old: &TenantConfigSpec, new: &TenantConfigSpec) -> Result<(), Invalid> {
        if old.scope != new.scope || old.sub_scope != new.sub_scope {
            return Err(Invalid::new("scope", "does not change; make another for that scope"));
        }
        Self::validate(new)
    }
    fn print(meta: &Meta, spec: &TenantConfigSpec, _: &LayerStatus, print: &mut Print) {
        let at = scope_key(&spec.scope, spec.sub_scope.as_deref());
        if let Some(whose) = meta.tenant
            && spec.active
        {
            print.claim(space::CONFIG, format!("tenant/{whose}/{at}"));
        }
        print.key(key::CONFIG_SCOPE, format!("tenant_config/{at}"));
    }
}

impl Layer for TenantConfig {
    const OF: LayerOf = LayerOf::Tenant;

    fn key(spec: &TenantConfigSpec) -> String {
        scope_key(&spec.scope, spec.sub_scope.as_deref())
    }
    fn values(spec: &TenantConfigSpec) -> &Values {
        &spec.values
    }
    fn values_mut(spec: &mut TenantConfigSpec) -> &mut Values {
        &mut spec.values
    }
}
