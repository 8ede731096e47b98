//! A template: what instances are made from, in versions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use super::virtual_machine::validate_labels;
use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope, checks};

/// A template.
#[derive(Debug)]
pub enum Template {}

/// Who may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Those who may read templates of its tenant.
    #[default]
    Private,
    /// Members of some groups of users, of those who may read templates of its tenant; who may change it sees it, too.
    GroupSpecific,
    /// Whoever may read templates anywhere, in every tenant.
    Public,
}

/// Whether it may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// May be chosen.
    #[default]
    Active,
    /// Gets new versions, but no new instances.
    Deprecated,
    /// Gets neither.
    Archived,
}

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UseCase {
    /// Training or serving models.
    AiApplication,
    /// Rendering.
    GraphicsRendering,
    /// Games and the like.
    GamingHighPerformance,
    /// Office work.
    LightweightOffice,
    /// Web servers.
    WebServer,
    /// Databases.
    Database,
    /// Development.
    Development,
    /// Anything.
    #[default]
    General,
}

/// What is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateType {
    /// One instance at a time.
    #[default]
    Instance,
    /// Instances that belong together.
    InstanceSet,
}

impl TemplateType {
    fn is_instance(&self) -> bool {
        *self == Self::Instance
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What it is for.
    #[serde(default)]
    pub use_case: UseCase,
    /// What is made from it.
    #[serde(default, rename = "type", skip_serializing_if = "TemplateType::is_instance")]
    pub template_type: TemplateType,
    /// Who may see it and its versions.
    #[serde(default)]
    pub visibility: Visibility,
    /// Whose members see it, where it is shown to groups: user groups of its tenant, by their ids, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_group_ids: Vec<ObjectId>,
    /// Whether it may be chosen.
    #[serde(default)]
    pub state: TemplateState,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TemplateStatus {}

impl Resource for Template {
    const KIND: Kind = Kind::Template;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules::plain("What instances are made from, in versions");
    type Spec = TemplateSpec;
    type Status = TemplateStatus;

    fn example() -> TemplateSpec {
        TemplateSpec {
            description: "Two cores for a web server".into(),
            use_case: UseCase::WebServer,
            ..TemplateSpec::default()
        }
    }
    fn validate(spec: &TemplateSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        checks::shown_to(spec.visibility == Visibility::GroupSpecific, &spec.user_group_ids)?;
        validate_labels(&spec.labels)
    }
    fn print(_: &Meta, spec: &TemplateSpec, _: &TemplateStatus, print: &mut Print) {
        for group in &spec.user_group_ids {
            print.link(*group);
        }
    }
}
