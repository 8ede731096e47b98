//! The catalogue of permissions: every kind with every action.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Kind;

/// What may be done to an object of some kind.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Make one.
    Create,
    /// See one, list them, watch them.
    Read,
    /// Change its spec.
    Update,
    /// Remove it.
    Delete,
    /// Operate it: cordon, drain, membership, grant, revoke.
    Manage,
    /// Start, stop, reboot, console.
    Execute,
    /// Administer wholly; deleting a tenant needs it.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Create,
        Self::Read,
        Self::Update,
        Self::Delete,
        Self::Manage,
        Self::Execute,
        Self::Admin,
    ];
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Manage => "manage",
            Self::Execute => "execute",
            Self::Admin => "admin",
        }
    }
}

/// `kind.action`, one entry of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// On which kind.
    pub kind: Kind,
    /// What.
    pub action: Action,
}

impl Permission {
    /// `kind.action`.
    pub const fn new(kind: Kind, action: Action) -> Self {
        Self { kind, action }
    }
    /// Reads `virtual_machine.execute`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, action) = text.split_once('.')?;
        Some(Self {
            kind: Kind::parse(kind)?,
            action: *Action::ALL.iter().find(|a| a.name() == action)?,
        })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind.name(), self.action.name())
    }
}
