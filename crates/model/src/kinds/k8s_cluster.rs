//! A Kubernetes cluster. Nothing makes one yet: what is asked for is recorded as pending.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::baremetal_group::SchedulingPolicy;
use super::virtual_machine::validate_labels;
use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope, checks};

/// A cluster.
#[derive(Debug)]
pub enum K8sCluster {}

/// How its VMs are laid over hosts, whatever the policy of the hosts' group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulingMode {
    /// Over as many hosts as there are: first on those that have the fewest of its VMs.
    #[default]
    Spread,
    /// On as few as will do.
    Pack,
    /// On those that are least busy.
    LoadBalance,
    /// Over as many racks as there are, and there over as many hosts.
    ZoneSpread,
}

impl SchedulingMode {
    /// The same as the policy of a group.
    pub const fn policy(self) -> SchedulingPolicy {
        match self {
            Self::Spread => SchedulingPolicy::Spread,
            Self::Pack => SchedulingPolicy::Pack,
            Self::LoadBalance => SchedulingPolicy::LoadBalance,
            Self::ZoneSpread => SchedulingPolicy::ZoneSpread,
        }
    }
}

/// What was decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// In use.
    #[default]
    Active,
    /// Being worked on.
    Maintenance,
}

/// Its networks; they never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Networking {
    /// Addresses of pods, as a network: `10.244.0.0/16`.
    #[serde(default = "pod_cidr")]
    pub pod_cidr: String,
    /// Addresses of services, as a network that does not overlap that of the pods.
    #[serde(default = "service_cidr")]
    pub service_cidr: String,
    /// Domain of its services' names.
    #[serde(default = "dns_domain")]
    pub dns_domain: String,
}

fn pod_cidr() -> String {
    "10.244.0.0/16".into()
}

fn service_cidr() -> String {
    "10.96.0.0/12".into()
}

fn dns_domain() -> String {
    "cluster.local".into()
}

impl Default for Networking {
    fn default() -> Self {
        Self {
            pod_cidr: pod_cidr(),
            service_cidr: service_cidr(),
            dns_domain: dns_domain(),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct K8sClusterSpec {
    /// Version of Kubernetes, semantic: `1.31.0`.
    pub version: String,
    /// Its networks.
    #[serde(default)]
    pub networking: Networking,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How its VMs are laid over hosts.
    #[serde(default)]
    pub scheduling_mode: SchedulingMode,
    /// What was decided about it.
    #[serde(default)]
    pub state: ClusterState,
    /// For people.
    #[serde(default)]
    pub description: String,
}

impl Resource for K8sCluster {
    const KIND: Kind = Kind::K8sCluster;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules::plain("A Kubernetes cluster; recorded, not made yet");
    type Spec = K8sClusterSpec;
    type Status = Recorded;

    fn example() -> K8sClusterSpec {
        K8sClusterSpec {
            version: "1.31.0".into(),
            ..K8sClusterSpec::default()
        }
    }
    fn validate(spec: &K8sClusterSpec) -> Result<(), Invalid> {
        checks::version("version", &spec.version)?;
        let networking = &spec.networking;
        let pods = checks::network("networking.pod_cidr", &networking.pod_cidr)?;
        let services = checks::network("networking.service_cidr", &networking.service_cidr)?;
        if pods.covers(services) || services.covers(pods) {
            return Err(Invalid::new(
                "networking.service_cidr",
                format!("{services} overlaps the pods' {pods}"),
            ));
        }
        Invalid::text("networking.dns_domain", &networking.dns_domain, 253)?;
        validate_labels(&spec.tags).map_err(|invalid| Invalid::new("tags", invalid.problem))?;
        Invalid::text("description", &spec.description, 1024)
    }
    fn validate_update(old: &K8sClusterSpec, new: &K8sClusterSpec) -> Result<(), Invalid> {
        if old.networking != new.networking {
            return Err(Invalid::new(
                "networking",
                "the networks of a cluster do not change; make another cluster",
            ));
        }
        Self::validate(new)
    }
    fn print(_: &Meta, _: &K8sClusterSpec, _: &Recorded, _: &mut Print) {}
}
