//! A person who looks after things: a rack, a host, a VM.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::print::space;
use crate::states::ActiveState;
use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A maintainer.
#[derive(Debug)]
pub enum Maintainer {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintainerSpec {
    /// The account that other systems know this person by, unique whatever its case.
    pub account: String,
    /// Where they are written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Administrative state; an inactive one is given nothing new to look after.
    #[serde(default)]
    pub state: ActiveState,
}

/// Nothing is observed of a maintainer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MaintainerStatus {}

impl Resource for Maintainer {
    const KIND: Kind = Kind::Maintainer;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules::plain("A person who looks after things");
    type Spec = MaintainerSpec;
    type Status = MaintainerStatus;

    fn example() -> MaintainerSpec {
        MaintainerSpec {
            account: "ada".into(),
            email: Some("ada@example.org".into()),
            state: ActiveState::Active,
        }
    }

    fn validate(spec: &MaintainerSpec) -> Result<(), Invalid> {
        Invalid::text("account", &spec.account, 128)?;
        if spec.account.trim().is_empty() {
            return Err(Invalid::new("account", "must not be empty"));
        }
        spec.email.as_deref().map_or(Ok(()), Invalid::email)
    }

    fn print(_: &Meta, spec: &MaintainerSpec, _: &MaintainerStatus, print: &mut Print) {
        print.claim(space::MAINTAINER_ACCOUNT, spec.account.to_lowercase());
    }
}
