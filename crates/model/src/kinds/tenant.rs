//! A tenant: whose VMs, users and networks are kept apart from everybody else's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{Limit, ObjectId};

use crate::print::{dimension, space};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A tenant.
#[derive(Debug)]
pub enum Tenant {}

/// What an administrator decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// Works.
    #[default]
    Active,
    /// Reads only.
    Inactive,
    /// Reads only, by the operator's order.
    Suspended,
}

/// Limits over everything a tenant has; what is left out is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Whole vCPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u64>,
    /// MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_gib: Option<u64>,
    /// Number of VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<u64>,
    /// Number of disks of the tenant's own; a VM's root disk counts with its VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<u64>,
    /// Number of addresses that are allocated or reserved, of whichever pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u64>,
    /// Whole GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u64>,
    /// Number of Kubernetes clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<u64>,
}

impl Quota {
    /// Each dimension with its limit.
    pub fn limits(&self) -> [(&'static str, Limit); 8] {
        let limit = |n: Option<u64>| n.map_or(Limit::Unlimited, Limit::Fixed);
        [
            (dimension::CPU_CORES, limit(self.cpu_cores)),
            (dimension::MEMORY_MIB, limit(self.memory_mib)),
            (dimension::STORAGE_GIB, limit(self.storage_gib)),
            (dimension::VMS, limit(self.vms)),
            (dimension::DISKS, limit(self.disks)),
            (dimension::ADDRESSES, limit(self.addresses)),
            (dimension::GPUS, limit(self.gpus)),
            (dimension::CLUSTERS, limit(self.clusters)),
        ]
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Administrative state.
    #[serde(default)]
    pub state: TenantState,
    /// Limits of the whole tenant.
    #[serde(default)]
    pub quota: Quota,
    /// The user who answers for it; a reference that does not block deleting the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_user_id: Option<ObjectId>,
    /// VLAN of the tenant, 1 to 4094, unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
}

/// What the system saw.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TenantStatus {
    /// True from the moment its deletion was asked for.
    #[serde(default)]
    pub deleting: bool,
}

impl Resource for Tenant {
    const KIND: Kind = Kind::Tenant;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        references: &[Reference::to("admin_user", Kind::User)],
        delete: ByPeople::ByVerb,
        ..Rules::plain("Whose VMs, users and networks are kept apart from everybody else's")
    };
    type Spec = TenantSpec;
    type Status = TenantStatus;

    fn example() -> TenantSpec {
        TenantSpec {
            description: "Acme's research".into(),
            quota: Quota {
                cpu_cores: Some(64),
                memory_mib: Some(262_144),
                storage_gib: Some(4096),
                vms: Some(50),
                disks: Some(100),
                addresses: Some(64),
                gpus: Some(8),
                clusters: Some(4),
            },
            ..TenantSpec::default()
        }
    }

    fn validate(spec: &TenantSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        if let Some(vlan) = spec.vlan_id {
            Invalid::outside("vlan_id", u64::from(vlan), 1, 4094)?;
        }
        Ok(())
    }

    fn print(_meta: &Meta, spec: &TenantSpec, _status: &TenantStatus, print: &mut Print) {
        for (dimension, limit) in spec.quota.limits() {
            print.account(dimension, limit, None);
        }
        if let Some(vlan) = spec.vlan_id {
            print.claim(space::VLAN, vlan.to_be_bytes());
        }
    }
}
