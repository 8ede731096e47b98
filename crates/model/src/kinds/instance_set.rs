//! A set of instances and VMs that belong together: a project's, a department's, a course's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use super::virtual_machine::validate_labels;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

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
    /// The user group that it is of. Those of its instances that are made with it take its quota; others have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group_id: Option<ObjectId>,
    /// The template of the type `instance_set` that its first instances are made of; its latest version is taken unless one is
    /// named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<ObjectId>,
    /// The version of the template they are made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_version_id: Option<ObjectId>,
    /// How many instances are made with the set, called `NAME-1`, `NAME-2` and so on: at least one of a template, at most 50.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u32,
    /// The only group of hosts that they may run in; absent: any that the tenant has a quota in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<ObjectId>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Most instances that are made with a set.
const COUNT_MAX: u32 = 50;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InstanceSetStatus {}

impl Resource for InstanceSet {
    const KIND: Kind = Kind::InstanceSet;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[
            Reference::to("user_group", Kind::UserGroup),
            Reference::to("template", Kind::Template),
            Reference::to("template_version", Kind::TemplateVersion),
            Reference::to("group", Kind::BaremetalGroup),
        ],
        create: ByPeople::ByVerb,
        ..Rules::plain("Instances and VMs that belong together")
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
        let is_made = spec.template_version_id.is_some();
        if spec.count > COUNT_MAX {
            return Err(Invalid::new("count", format!("must be at most {COUNT_MAX}")));
        }
        if is_made && spec.count == 0 {
            return Err(Invalid::new(
                "count",
                "say how many instances are made of the template",
            ));
        }
        if !is_made && (spec.count > 0 || spec.group_id.is_some()) {
            return Err(Invalid::new(
                "template_version_id",
                "name the template that the instances are made of",
            ));
        }
        validate_labels(&spec.labels)
    }
    fn validate_update(old: &InstanceSetSpec, new: &InstanceSetSpec) -> Result<(), Invalid> {
        for (field, stays) in [
            ("template_id", old.template_id == new.template_id),
            (
                "template_version_id",
                old.template_version_id == new.template_version_id,
            ),
            ("count", old.count == new.count),
            ("group_id", old.group_id == new.group_id),
        ] {
            if !stays {
                return Err(Invalid::new(
                    field,
                    "tells what the set began with and does not change; make instances and put them into it",
                ));
            }
        }
        Self::validate(new)
    }
    fn print(_: &Meta, _: &InstanceSetSpec, _: &InstanceSetStatus, _: &mut Print) {}
}
