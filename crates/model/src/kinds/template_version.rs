//! A version of a template: sizes, and an image, that never change. Exactly one version of a template is the latest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use virtflow_types::ObjectId;

use super::virtual_machine::{validate_gpus, validate_size};
use crate::print::space;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope, checks};

/// A version of a template; its name is the version.
#[derive(Debug)]
pub enum TemplateVersion {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateVersionSpec {
    /// The template.
    pub template_id: ObjectId,
    /// Whether it is what the template stands for. A template's first version is; making another the latest
    /// makes the former step back.
    #[serde(default)]
    pub latest: bool,
    /// Whole vCPUs.
    pub cpu_cores: u32,
    /// MiB.
    pub memory_mib: u64,
    /// GiB.
    pub storage_gib: u64,
    /// Number of GPUs.
    #[serde(default)]
    pub gpu_count: u32,
    /// The image that root disks begin as; its latest version is taken unless one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<ObjectId>,
    /// The version of that image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_version_id: Option<ObjectId>,
    /// Bandwidth that an instance is meant to have, Mbit/s; kept for who reads it, no host sees to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbps: Option<u64>,
    /// Anything about networks of instances, for people and other programs, up to 16 KiB of JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub network_config: Map<String, Value>,
    /// What a guest is to read at its first start, at most 16 KiB; kept, no guest is given it yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_data: String,
    /// What is new in it, for people.
    #[serde(default)]
    pub changelog: String,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TemplateVersionStatus {}

impl Resource for TemplateVersion {
    const KIND: Kind = Kind::TemplateVersion;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("template", Kind::Template),
            Reference::to("image", Kind::Image),
            Reference::to("image_version", Kind::ImageVersion),
        ],
        cascades: true,
        ..Rules::plain("Sizes and an image under a template's name, which never change")
    };
    type Spec = TemplateVersionSpec;
    type Status = TemplateVersionStatus;

    fn example() -> TemplateVersionSpec {
        TemplateVersionSpec {
            template_id: ObjectId::from_u128(1),
            latest: true,
            cpu_cores: 2,
            memory_mib: 4096,
            storage_gib: 40,
            gpu_count: 0,
            image_id: None,
            image_version_id: None,
            bandwidth_mbps: None,
            network_config: Map::new(),
            user_data: String::new(),
            changelog: "More memory".into(),
        }
    }
    fn validate(spec: &TemplateVersionSpec) -> Result<(), Invalid> {
        validate_size(spec.cpu_cores, spec.memory_mib, spec.storage_gib)?;
        validate_gpus(spec.gpu_count)?;
        Invalid::outside("gpu_count", u64::from(spec.gpu_count), 0, 64)?;
        if let Some(bandwidth) = spec.bandwidth_mbps {
            Invalid::outside("bandwidth_mbps", bandwidth, 1, 10_000_000)?;
        }
        checks::json("network_config", &spec.network_config)?;
        if spec.user_data.len() > checks::JSON_BYTES_MAX {
            return Err(Invalid::new("user_data", "has more than 16 KiB"));
        }
        Invalid::text("changelog", &spec.changelog, 1024)
    }
    fn validate_update(
        old: &TemplateVersionSpec,
        new: &TemplateVersionSpec,
    ) -> Result<(), Invalid> {
        let latest = new.latest;
        if (TemplateVersionSpec { latest, ..old.clone() }) != *new {
            return Err(Invalid::new(
                "cpu_cores",
                "a version does not change but for `latest`; make another version",
            ));
        }
        if old.latest && !new.latest {
            return Err(Invalid::new(
                "latest",
                "one version is always the latest; make another one the latest instead",
            ));
        }
        Ok(())
    }
    fn print(meta: &Meta, spec: &TemplateVersionSpec, _: &Self::Status, print: &mut Print) {
        print.link(spec.image_id).link(spec.image_version_id);
        if spec.latest {
            let template = meta.parent.unwrap_or(spec.template_id);
            print.claim(space::SINGLE, format!("latest/{template}"));
        }
    }
}
