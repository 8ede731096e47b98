//! A cluster's belonging to a service mesh.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A cluster in a mesh.
#[derive(Debug)]
pub enum K8sClusterToServiceMesh {}

/// What the mesh is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeshRole {
    /// Its first; a cluster has at most one.
    Primary,
    /// One of others.
    #[default]
    Secondary,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct K8sClusterToServiceMeshSpec {
    /// The cluster.
    pub cluster_id: ObjectId,
    /// The mesh.
    pub service_mesh_id: ObjectId,
    /// What the mesh is to the cluster.
    #[serde(default)]
    pub role: MeshRole,
}

impl Resource for K8sClusterToServiceMesh {
    const KIND: Kind = Kind::K8sClusterToServiceMesh;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("cluster", Kind::K8sCluster),
            Reference::to("service_mesh", Kind::ServiceMesh),
        ],
        cascades: true,
        ..Rules::plain("A cluster in a service mesh; recorded, not joined yet")
    };
    type Spec = K8sClusterToServiceMeshSpec;
    type Status = Recorded;

    fn example() -> Self::Spec {
        K8sClusterToServiceMeshSpec {
            cluster_id: ObjectId::from_u128(1),
            service_mesh_id: ObjectId::from_u128(2),
            role: MeshRole::Primary,
        }
    }
    fn validate(_: &Self::Spec) -> Result<(), Invalid> {
        Ok(())
    }
    fn validate_update(old: &Self::Spec, new: &Self::Spec) -> Result<(), Invalid> {
        if old.service_mesh_id == new.service_mesh_id {
            Ok(())
        } else {
            Err(Invalid::new("service_mesh_id", "does not change: delete it and make another"))
        }
    }
    fn print(_: &Meta, spec: &Self::Spec, _: &Recorded, print: &mut Print) {
        let pair = format!("service_mesh/{}/{}", spec.cluster_id, spec.service_mesh_id);
        print.claim(space::PAIR, pair).link(spec.service_mesh_id);
        if spec.role == MeshRole::Primary {
            print.claim(space::SINGLE, format!("primary/{}", spec.cluster_id));
        }
    }
}
