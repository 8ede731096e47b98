//! What a VM's disk begins as: a family of versions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope, checks};

/// An image.
#[derive(Debug)]
pub enum Image {}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageType {
    /// An operating system.
    OsBase,
    /// An application on top of one.
    #[serde(alias = "application")]
    ApplicationLayer,
    /// Something of its owner's own.
    #[default]
    Custom,
}

/// Who sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Its tenant; the cloud's own, those who look after the cloud.
    #[default]
    Private,
    /// Members of some groups of users, of those who may read images of its tenant; who may change it sees it, too.
    GroupSpecific,
    /// Whoever may see images at all. Only for the cloud's own.
    Public,
}

/// What its owner decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// To be used.
    #[default]
    Active,
    /// Still there; better use another one.
    Deprecated,
    /// Takes nothing new.
    Archived,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What is in it.
    #[serde(default, rename = "type")]
    pub image_type: ImageType,
    /// The operating system's name.
    #[serde(default)]
    pub base_os: String,
    /// The operating system's version.
    #[serde(default)]
    pub os_version: String,
    /// The processor it is for, such as `x86_64`.
    #[serde(default)]
    pub architecture: String,
    /// Who sees it. Only the cloud's own images are public.
    #[serde(default)]
    pub visibility: Visibility,
    /// Whose members see it, where it is shown to groups: user groups of its tenant, by their ids, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_group_ids: Vec<ObjectId>,
    /// The fewest vCPUs it runs with; 0: any.
    #[serde(default)]
    pub min_cpu_cores: u32,
    /// The least memory it runs with, MiB; 0: any.
    #[serde(default)]
    pub min_memory_mib: u64,
    /// The smallest disk it fits on, GiB; 0: any.
    #[serde(default)]
    pub min_storage_gib: u64,
    /// vCPUs it runs well with, at least the fewest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended_cpu_cores: Option<u32>,
    /// Memory it runs well with, MiB, at least the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended_memory_mib: Option<u64>,
    /// Administrative state.
    #[serde(default)]
    pub state: ImageState,
}

/// Nothing is observed of it; what is, is a version's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ImageStatus {}

impl Resource for Image {
    const KIND: Kind = Kind::Image;
    const SCOPE: Scope = Scope::Either;
    const RULES: Rules = Rules::plain("What a VM's disk begins as: a family of versions");
    type Spec = ImageSpec;
    type Status = ImageStatus;

    fn example() -> ImageSpec {
        ImageSpec {
            description: "A server without a desktop".into(),
            image_type: ImageType::OsBase,
            base_os: "debian".into(),
            os_version: "13".into(),
            architecture: "x86_64".into(),
            min_memory_mib: 512,
            min_storage_gib: 4,
            recommended_memory_mib: Some(2048),
            ..ImageSpec::default()
        }
    }

    fn validate(spec: &ImageSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        checks::shown_to(spec.visibility == Visibility::GroupSpecific, &spec.user_group_ids)?;
        Invalid::text("base_os", &spec.base_os, 63)?;
        Invalid::text("os_version", &spec.os_version, 63)?;
        Invalid::text("architecture", &spec.architecture, 63)?;
        Invalid::outside("min_cpu_cores", u64::from(spec.min_cpu_cores), 0, 1024)?;
        Invalid::outside("min_memory_mib", spec.min_memory_mib, 0, 64 * 1024 * 1024)?;
        Invalid::outside("min_storage_gib", spec.min_storage_gib, 0, 1024 * 1024)?;
        if let Some(cpu) = spec.recommended_cpu_cores {
            let (cpu, min) = (u64::from(cpu), u64::from(spec.min_cpu_cores));
            Invalid::outside("recommended_cpu_cores", cpu, min, 1024)?;
        }
        if let Some(memory) = spec.recommended_memory_mib {
            let max = 64 * 1024 * 1024;
            Invalid::outside("recommended_memory_mib", memory, spec.min_memory_mib, max)?;
        }
        Ok(())
    }

    fn print(_: &Meta, spec: &ImageSpec, _: &ImageStatus, print: &mut Print) {
        for group in &spec.user_group_ids {
            print.link(*group);
        }
    }
}
