//! How a user narrows their tenant's configuration of a scope.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::config::{self, Layer, LayerOf, LayerStatus, Values, scope_key};
use crate::print::{key, space};
use crate::{Action, ByPeople, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope};

/// A layer of a user's.
#[derive(Debug)]
pub enum UserConfig {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfigSpec {
    /// The user.
    pub user_id: ObjectId,
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

impl Resource for UserConfig {
    const KIND: Kind = Kind::UserConfig;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[Reference::under("user", Kind::User)],
        create: ByPeople::ByVerb,
        update: ByPeople::ByVerb,
        owner: Owner::Parent,
        own: &[
            Action::Read,
            Action::Create,
            Action::Update,
            Action::Delete,
            // To see what its secret fields hold.
            Action::Manage,
        ],
        cascades: true,
        ..Rules::plain("How a user narrows the configuration of a scope")
    };
    type Spec = UserConfigSpec;
    type Status = LayerStatus;

    fn example() -> UserConfigSpec {
        UserConfigSpec {
            user_id: ObjectId::from_u128(1),
            scope: "genai.policy".into(),
            sub_scope: None,
            active: true,
            values: Values::from_iter([("allowed_models".into(), serde_json::json!(["small"]))]),
            description: String::new(),
        }
    }
    fn validate(spec: &UserConfigSpec) -> Result<(), Invalid> {
        config::check_layer(&spec.scope, spec.sub_scope.as_deref(), &spec.values)?;
        Invalid::text("description", &spec.description, 1024)
    }
    fn validate_update(old: &UserConfigSpec, new: &UserConfigSpec) -> Result<(), Invalid> {
        if old.scope != new.scope || old.sub_scope != new.sub_scope {
            return Err(Invalid::new("scope", "does not change; make another for that scope"));
        }
        Self::validate(new)
    }
    fn print(meta: &Meta, spec: &UserConfigSpec, _: &LayerStatus, print: &mut Print) {
        let at = scope_key(&spec.scope, spec.sub_scope.as_deref());
        if let Some(whose) = meta.parent
            && spec.active
        {
            print.claim(space::CONFIG, format!("user/{whose}/{at}"));
        }
        print.key(key::CONFIG_SCOPE, format!("user_config/{at}"));
    }
}

impl Layer for UserConfig {
    const OF: LayerOf = LayerOf::User;

    fn key(spec: &UserConfigSpec) -> String {
        scope_key(&spec.scope, spec.sub_scope.as_deref())
    }
    fn values(spec: &UserConfigSpec) -> &Values {
        &spec.values
    }
    fn values_mut(spec: &mut UserConfigSpec) -> &mut Values {
        &mut spec.values
    }
}
