//! What every object has beside its spec and status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Text, Timestamp};

/// What every object has, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its id.
    pub id: ObjectId,
    /// Its name, empty where the kind has none.
    pub name: Text,
    /// The tenant it belongs to.
    pub tenant: Option<ObjectId>,
    /// The object it lives under.
    pub parent: Option<ObjectId>,
    /// Grows when the spec changes.
    pub generation: u64,
    /// Grows with any change.
    pub version: u64,
    /// Takes no new links.
    pub closed: bool,
    /// Who and when.
    pub stamps: Stamps,
}

/// Who made and last changed an object, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Stamps {
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it: a user's id, or `system`.
    pub created_by: String,
    /// When it last changed, by a person or the system.
    pub updated_at: Timestamp,
    /// Who changed it last.
    pub updated_by: String,
}

/// The status JSON as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredStatus<S> {
    /// Who and when.
    pub stamps: Stamps,
    /// What the system saw.
    pub status: S,
}
