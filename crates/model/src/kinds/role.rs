//! A named set of permissions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::print::space;
use crate::{Invalid, Kind, Meta, Permission, Print, Resource, Rules, Scope};

/// A role. The built-in ones are objects too, made at genesis and not changeable.
#[derive(Debug)]
pub enum Role {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Entries of the catalogue, `virtual_machine.execute`; `*.read` and `*.*` name all kinds.
    pub permissions: Vec<String>,
    /// False takes effect at once for everybody who holds it.
    #[serde(default = "yes")]
    pub active: bool,
    /// Made with the cluster; cannot be changed or deleted.
    #[serde(default)]
    pub built_in: bool,
}

fn yes() -> bool {
    true
}

/// Nothing is observed of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RoleStatus {}

/// Permissions in one role.
const PERMISSIONS_MAX: usize = 1000;

impl Resource for Role {
    const KIND: Kind = Kind::Role;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        shared: true,
        ..Rules::plain("A named set of permissions")
    };
    type Spec = RoleSpec;
    type Status = RoleStatus;

    fn example() -> RoleSpec {
        RoleSpec {
            description: "starts and stops VMs".into(),
            permissions: vec!["virtual_machine.read".into(), "virtual_machine.execute".into()],
            active: true,
            built_in: false,
        }
    }

    fn validate(spec: &RoleSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        if spec.permissions.len() > PERMISSIONS_MAX {
            return Err(Invalid::new(
                "permissions",
                format!("at most {PERMISSIONS_MAX} are allowed"),
            ));
        }
        for permission in &spec.permissions {
            let known = Permission::parse(permission).is_some()
                || permission == "*.*"
                || permission.strip_prefix("*.").is_some_and(|action| {
                    crate::Action::ALL.iter().any(|known| known.name() == action)
                })
                || permission
                    .strip_suffix(".*")
                    .is_some_and(|kind| Kind::parse(kind).is_some());
            if !known {
                return Err(Invalid::new(
                    "permissions",
                    format!("`{permission}` is not in the catalogue; see `virtflow role catalogue`"),
                ));
            }
        }
        Ok(())
    }

    fn name_space(_: &Meta, _: &Self::Spec) -> String {
        space::names(Kind::Role, None)
    }

    fn print(_: &Meta, _: &RoleSpec, _: &RoleStatus, _: &mut Print) {}
}
