//! An instance: what a tenant asked for, from a template or a specification. One that shares its host is
//! realised by one VM of the same name, which is made and goes with it; one that is exclusive has a whole host.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use super::baremetal::Rental;
use super::virtual_machine::{VmPhase, validate_labels};
use crate::print::{dimension, space};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// An instance.
#[derive(Debug)]
pub enum Instance {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceSpec {
    /// The template; its latest version is taken unless one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<ObjectId>,
    /// The version of the template it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_version_id: Option<ObjectId>,
    /// The specification its size came from, where no template gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specification_id: Option<ObjectId>,
    /// The only group of hosts it may run in; absent: any that the tenant has a quota in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<ObjectId>,
    /// `shared`: a VM beside others. `exclusive`: a whole host, at least as large, which takes nothing else.
    #[serde(default)]
    pub rental: Rental,
    /// The user group whose quota it takes, with that of all groups above; absent when it is made: the user's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group_id: Option<ObjectId>,
    /// Labels. The VM that realises it begins with the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// What it became.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStatus {
    /// That of its VM; of one that has a host for itself `running` while the host is heard, and else `unknown`.
    #[serde(default)]
    pub state: VmPhase,
    /// The VM that realises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<ObjectId>,
    /// The host that it has for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rented: Option<Rented>,
}

/// A whole host, and what of every quota it takes: all that the host could hand out when it was rented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rented {
    /// The host.
    pub host_id: ObjectId,
    /// Its group.
    pub group_id: ObjectId,
    /// The tenant's quota in the group.
    pub quota_id: ObjectId,
    /// The user whose quota it counts against, beside the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_user_id: Option<ObjectId>,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
    /// GiB.
    pub storage_gib: u64,
    /// Whole GPUs.
    #[serde(default)]
    pub gpus: u64,
    /// Since when.
    pub rented_at: Timestamp,
}

impl Resource for Instance {
    const KIND: Kind = Kind::Instance;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[
            Reference::to("template", Kind::Template),
            Reference::to("template_version", Kind::TemplateVersion),
            Reference::to("specification", Kind::VirtualMachineSpecification),
            Reference::to("group", Kind::BaremetalGroup),
            Reference::to("user_group", Kind::UserGroup),
        ],
        create: ByPeople::ByVerb,
        delete: ByPeople::ByVerb,
        ..Rules::plain("What a tenant asked for, realised by a VM or by a whole host")
    };
    type Spec = InstanceSpec;
    type Status = InstanceStatus;

    fn example() -> InstanceSpec {
        InstanceSpec {
            specification_id: Some(ObjectId::from_u128(1)),
            ..InstanceSpec::default()
        }
    }
    fn validate(spec: &InstanceSpec) -> Result<(), Invalid> {
        match (spec.template_version_id, spec.specification_id) {
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => {
                return Err(Invalid::new(
                    "template_version_id",
                    "name a template, a version of one, or a specification",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Invalid::new(
                    "specification_id",
                    "the template gives the size; leave one of them out",
                ));
            }
        }
        validate_labels(&spec.labels)?;
        Invalid::text("description", &spec.description, 1024)
    }
    fn validate_update(old: &InstanceSpec, new: &InstanceSpec) -> Result<(), Invalid> {
        let (description, labels) = (new.description.clone(), new.labels.clone());
        let changed = InstanceSpec {
            description,
            labels,
            ..old.clone()
        };
        if changed != *new {
            return Err(Invalid::new(
                "template_version_id",
                "only the description and the labels of an instance change; make another instance",
            ));
        }
        Self::validate(new)
    }
    /// Linked to its VM, so that the VM does not go before it. Not to what it was made from: that may go. Nor to a
    /// host that it rents: that one is linked to it.
    fn print(meta: &Meta, spec: &InstanceSpec, status: &InstanceStatus, print: &mut Print) {
        print.link(spec.group_id).link(spec.user_group_id);
        if let Some(vm) = status.vm_id {
            print.link(vm);
            print.claim(space::PAIR, format!("instance/{vm}"));
        }
        let Some(rented) = &status.rented else {
            return;
        };
        let cores = (dimension::CPU_CORES, rented.cpu_milli.div_ceil(1000));
        let thousandths = (dimension::CPU_MILLI, rented.cpu_milli);
        for (owner, cpu) in [
            (spec.user_group_id.or(meta.tenant), cores),
            (rented.charged_user_id, cores),
            (Some(rented.host_id), thousandths),
            (Some(rented.quota_id), thousandths),
        ] {
            let Some(owner) = owner else { continue };
            for (dimension, amount) in [
                cpu,
                (dimension::MEMORY_MIB, rented.memory_mib),
                (dimension::STORAGE_GIB, rented.storage_gib),
                (dimension::GPUS, rented.gpus),
            ] {
                print.charge(owner, dimension, amount);
            }
        }
        print.link(rented.quota_id).link(rented.charged_user_id);
    }
}
