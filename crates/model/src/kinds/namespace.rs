//! A namespace of a Kubernetes cluster. Recorded as pending, as its cluster is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope, checks};

/// A namespace.
#[derive(Debug)]
pub enum Namespace {}

/// How much may run in it; what is absent has no limit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceQuota {
    /// Whole CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u64>,
    /// MiB of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// GiB of storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_gib: Option<u64>,
    /// Number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u64>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSpec {
    /// The cluster.
    pub cluster_id: ObjectId,
    /// Labels, as Kubernetes has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, as Kubernetes has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How much may run in it.
    #[serde(default)]
    pub quotas: NamespaceQuota,
}

impl Resource for Namespace {
    const KIND: Kind = Kind::Namespace;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::under("cluster", Kind::K8sCluster)],
        cascades: true,
        ..Rules::plain("A namespace of a Kubernetes cluster; recorded, not made yet")
    };
    type Spec = NamespaceSpec;
    type Status = Recorded;

    fn example() -> NamespaceSpec {
        NamespaceSpec {
            cluster_id: ObjectId::from_u128(1),
            labels: BTreeMap::from([("app.example/team".into(), "shop".into())]),
            annotations: BTreeMap::new(),
            quotas: NamespaceQuota {
                cpu_cores: Some(4),
                ..NamespaceQuota::default()
            },
        }
    }
    fn validate(spec: &NamespaceSpec) -> Result<(), Invalid> {
        checks::marks("labels", &spec.labels, 63)?;
        checks::marks("annotations", &spec.annotations, 1024)
    }
    fn print(_: &Meta, _: &NamespaceSpec, _: &Recorded, _: &mut Print) {}
}
