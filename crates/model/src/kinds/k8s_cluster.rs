//! A Kubernetes cluster. Nothing makes one yet: what is asked for is recorded as pending.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use super::baremetal_group::SchedulingPolicy;
use super::virtual_machine::validate_labels;
use crate::print::dimension;
use crate::recorded::{RecordedPhase, RecordedReason};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope, checks};

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
    /// The user group whose quota of clusters it takes, with that of all groups above; absent when the cluster is made:
    /// the user's first. It does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group_id: Option<ObjectId>,
}

/// What is known of it: that it was asked for, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct K8sClusterStatus {
    /// How far it is.
    pub phase: RecordedPhase,
    /// Why it is no further.
    pub reason: RecordedReason,
    /// Whose user quota is charged; nobody's once that user is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged_user_id: Option<ObjectId>,
}

impl Resource for K8sCluster {
    const KIND: Kind = Kind::K8sCluster;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::to("user_group", Kind::UserGroup)],
        create: ByPeople::ByVerb,
        ..Rules::plain("A Kubernetes cluster; recorded, not made yet")
    };
    type Spec = K8sClusterSpec;
    type Status = K8sClusterStatus;

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
        if old.user_group_id != new.user_group_id {
            return Err(Invalid::new(
                "user_group_id",
                "a cluster does not change the user group whose quota it takes",
            ));
        }
        Self::validate(new)
    }
    /// Counted where a disk is: at the user, and at the user group and what is above it, or else at the tenant.
    fn print(meta: &Meta, spec: &K8sClusterSpec, status: &K8sClusterStatus, print: &mut Print) {
        print.link(spec.user_group_id).link(status.charged_user_id);
        let shared = spec.user_group_id.or(meta.tenant);
        for owner in [shared, status.charged_user_id].into_iter().flatten() {
            print.charge(owner, dimension::CLUSTERS, 1);
        }
    }
}
