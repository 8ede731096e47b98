//! A set of VMs that belong together: a project's, a department's, a course's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use super::virtual_machine::validate_labels;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A set.
#[derive(Debug)]
pub enum InstanceSet {}

/// What holds it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetType {
    /// A project.
    Project,
    /// A department.
    Department,
    /// An application.
    Application,
    /// A training.
    Training,
    /// Anything else.
    #[default]
    Custom,
}

/// Whether it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetState {
    /// Takes members.
    #[default]
    Active,
    /// Keeps its members, takes no new ones.
    Archived,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceSetSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What holds it together.
    #[serde(default, rename = "type")]
    pub set_type: SetType,
    /// Whether it takes members.
    #[serde(default)]
    pub state: SetState,
    /// The user group that it is of, for people: the quotas of its VMs are their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group_id: Option<ObjectId>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InstanceSetStatus {}

impl Resource for InstanceSet {
    const KIND: Kind = Kind::InstanceSet;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::to("user_group", Kind::UserGroup)],
        ..Rules::plain("VMs that belong together")
    };
    type Spec = InstanceSetSpec;
    type Status = InstanceSetStatus;

    fn example() -> InstanceSetSpec {
        InstanceSetSpec {
            set_type: SetType::Project,
            ..InstanceSetSpec::default()
        }
    }
    fn validate(spec: &InstanceSetSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        validate_labels(&spec.labels)
    }
    fn print(_: &Meta, _: &InstanceSetSpec, _: &InstanceSetStatus, _: &mut Print) {}
}
