//! A service mesh that clusters may belong to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A mesh.
#[derive(Debug)]
pub enum ServiceMesh {}

/// What it is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeshType {
    /// Cilium.
    Cilium,
    /// Istio.
    Istio,
    /// Anything else.
    #[default]
    Other,
}

/// Whether it may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeshState {
    /// May be chosen.
    #[default]
    Active,
    /// Clusters that belong to it stay; no new ones.
    Inactive,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceMeshSpec {
    /// What it is made with.
    #[serde(default, rename = "type")]
    pub mesh_type: MeshType,
    /// Whether it may be chosen.
    #[serde(default)]
    pub state: MeshState,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServiceMeshStatus {}

impl Resource for ServiceMesh {
    const KIND: Kind = Kind::ServiceMesh;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        shared: true,
        ..Rules::plain("A service mesh that clusters may belong to")
    };
    type Spec = ServiceMeshSpec;
    type Status = ServiceMeshStatus;

    fn example() -> ServiceMeshSpec {
        ServiceMeshSpec {
            mesh_type: MeshType::Cilium,
            ..ServiceMeshSpec::default()
        }
    }
    fn validate(spec: &ServiceMeshSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)
    }
    fn print(_: &Meta, _: &ServiceMeshSpec, _: &ServiceMeshStatus, _: &mut Print) {}
}
