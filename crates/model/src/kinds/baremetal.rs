//! A host: a Linux server with an agent. Its capacity is what its agent reported.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{AccountKey, Limit, ObjectId, Timestamp};

use crate::print::{dimension, key, space};
use crate::{Amounts, ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A host.
#[derive(Debug)]
pub enum Baremetal {}

/// What an administrator decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Takes VMs.
    #[default]
    Active,
    /// Keeps its VMs, takes no new ones.
    Cordoned,
    /// Takes no new ones; its VMs are being moved away.
    Draining,
    /// Taken out for work.
    Maintenance,
    /// Gone for good.
    Decommissioned,
}

/// What was seen of it. Edges only: heartbeats do not come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Registered; its agent was never heard.
    #[default]
    Never,
    /// Its agent speaks.
    Online,
    /// Its lease ran out.
    Offline,
    /// Two boots under one key at once: nothing it says is believed until an operator decides.
    Quarantined,
}

/// How a host fares, as far as its agent told: a word of its own beside its state and its liveness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It was never heard.
    #[default]
    Unknown,
    /// Nothing is wrong with it.
    Healthy,
    /// It may become worse.
    Warning,
    /// It takes no new VMs until it is better.
    Critical,
}

impl Health {
    /// The word for programs, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl HostState {
    /// The word for programs, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Decommissioned => "decommissioned",
        }
    }
}

impl Liveness {
    /// The word for programs, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Machine type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MachineType {
    /// A server.
    #[default]
    CpuServer,
    /// One of a farm of PCs.
    PcFarm,
    /// A server with GPUs.
    GpuServer,
}

/// How it is rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rental {
    /// Many tenants.
    #[default]
    Shared,
    /// One instance has it all.
    Exclusive,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaremetalSpec {
    /// Identity of the machine, unique.
    pub serial_number: String,
    /// Its group.
    pub group_id: ObjectId,
    /// Its rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack_id: Option<ObjectId>,
    /// Where it is managed, unique within the data centre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_address: Option<String>,
    /// Administrative state.
    #[serde(default)]
    pub state: HostState,
    /// Machine type.
    #[serde(default)]
    pub machine_type: MachineType,
    /// `shared`: VMs of many tenants. `exclusive`: it takes no VMs, and one instance has it all.
    #[serde(default)]
    pub rental: Rental,
    /// Where its guests' traffic goes, unique within the data centre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_address: Option<String>,
    /// Region it stands in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Factory or campus it stands in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fab: String,
    /// Building phase it stands in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Data centre as its site calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dc: String,
    /// Room it stands in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// Its place in the rack, `12` or `U12-13`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// The id another system knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_system_id: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What its agent reported and the leader judged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BaremetalStatus {
    /// Alive or not.
    pub liveness: Liveness,
    /// When that last changed.
    #[serde(default)]
    pub liveness_since: Timestamp,
    /// How it fares, as it was last heard: silence changes nothing of it.
    #[serde(default)]
    pub health: Health,
    /// When that, or a reason for it, last changed.
    #[serde(default)]
    pub health_since: Timestamp,
    /// What is wrong with it, in words for programs; a later version may know more of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_reasons: Vec<String>,
    /// Grows at each grant after loss, reboot or re-enrolment.
    #[serde(default)]
    pub host_epoch: u64,
    /// The boot that was granted.
    #[serde(default)]
    pub boot_id: String,
    /// SHA-256 of its public key, hexadecimal: what its certificate is worth hangs on this.
    #[serde(default)]
    pub key_fingerprint: String,
    /// Schedulable CPU before overcommit, thousandths.
    #[serde(default)]
    pub cpu_milli: u64,
    /// Schedulable memory before overcommit, MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// Schedulable storage before overcommit, GiB.
    #[serde(default)]
    pub storage_gib: u64,
    /// GPUs that it hands out, whole ones and each to one VM.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpus: u64,
    /// The same after the group's overcommit: the limits of its accounts.
    #[serde(default)]
    pub schedulable_cpu_milli: u64,
    /// MiB, after overcommit.
    #[serde(default)]
    pub schedulable_memory_mib: u64,
    /// GiB, after overcommit.
    #[serde(default)]
    pub schedulable_storage_gib: u64,
    /// The rest of the inventory, as reported: JSON of facts that nothing decides by.
    #[serde(default)]
    pub inventory: serde_json::Value,
    /// Version of its agent.
    #[serde(default)]
    pub agent_version: String,
    /// Domains on it that are not VirtFlow's, as it last told of them.
    #[serde(default, skip_serializing_if = "Foreign::is_nothing")]
    pub foreign: Foreign,
    /// The data centre that it stands in: that of its rack, or else of its group. Its addresses are unique there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_center_id: Option<ObjectId>,
    /// The instance that has all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<ObjectId>,
}

fn is_zero(amount: &u64) -> bool {
    *amount == 0
}

/// Domains on a host that are not VirtFlow's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Foreign {
    /// Those that are told one by one.
    #[serde(default)]
    pub domains: Vec<ForeignDomain>,
    /// How many there are besides.
    #[serde(default)]
    pub unlisted: u32,
    /// What those take.
    #[serde(default)]
    pub unlisted_take: Amounts,
    /// What all of them take, but for those that became VMs: VMs cannot have it.
    #[serde(default)]
    pub take: Amounts,
}

impl Foreign {
    /// True if there are none.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A domain that is not VirtFlow's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignDomain {
    /// Its UUID.
    pub domain_id: ObjectId,
    /// Its name on its host.
    pub name: String,
    /// What it does.
    pub state: ForeignState,
    /// It starts with its host.
    #[serde(default)]
    pub autostart: bool,
    /// Whole vCPUs.
    pub cpu_cores: u32,
    /// MiB.
    pub memory_mib: u64,
    /// GiB of its disks on the filesystem that holds the host's VMs.
    pub storage_gib: u64,
    /// GPUs that it has of those that the host hands out, whether it runs or not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpus: u64,
    /// Its disks.
    #[serde(default)]
    pub disks: Vec<ForeignDisk>,
    /// What keeps it from being adopted: `transient`, `passthrough` …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
}

/// A disk of a domain that is not VirtFlow's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignDisk {
    /// What the guest has it as: `vda`.
    pub target: String,
    /// MiB, as the guest sees it; absent if the host does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_mib: Option<u64>,
    /// It lies on another filesystem than the host's VMs, or on none: it takes nothing of what is handed out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elsewhere: bool,
}

/// What a domain does that is not VirtFlow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForeignState {
    /// It runs.
    Running,
    /// It is held.
    Paused,
    /// It is about to stop.
    Stopping,
    /// It is defined and does not run.
    Off,
}

impl ForeignDomain {
    /// What it takes of its host. What runs has its processors and memory, all that its definition allows it; what
    /// starts with the host will have them, without asking anybody. What is off has its disks and its GPUs.
    pub fn takes(&self) -> Amounts {
        let has_memory = self.autostart || self.state != ForeignState::Off;
        Amounts {
            cpu_cores: if has_memory { u64::from(self.cpu_cores) } else { 0 },
            memory_mib: if has_memory { self.memory_mib } else { 0 },
            storage_gib: self.storage_gib,
            gpus: self.gpus,
        }
    }
}

impl Resource for Baremetal {
    const KIND: Kind = Kind::Baremetal;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        references: &[
            Reference::within("group", Kind::BaremetalGroup),
            Reference::to("rack", Kind::Rack),
        ],
        create: ByPeople::Never(
            "a host registers itself: make an invitation with `virtflow invite create` and run `virtflow-agent join`",
        ),
        delete: ByPeople::ByVerb,
        ..Rules::plain("A host: a machine that VMs run on")
    };
    type Spec = BaremetalSpec;
    type Status = BaremetalStatus;

    fn example() -> BaremetalSpec {
        BaremetalSpec {
            serial_number: "CZ3412ABCD".into(),
            group_id: ObjectId::from_u128(1),
            rack_id: None,
            management_address: Some("10.0.0.11".into()),
            state: HostState::Active,
            machine_type: MachineType::CpuServer,
            rental: Rental::Shared,
            business_address: None,
            region: "eu-north".into(),
            fab: String::new(),
            phase: String::new(),
            dc: String::new(),
            room: "204".into(),
            unit: "12".into(),
            external_system_id: None,
            description: String::new(),
            labels: BTreeMap::new(),
        }
    }

    fn validate(spec: &BaremetalSpec) -> Result<(), Invalid> {
        if spec.serial_number.trim().is_empty() {
            return Err(Invalid::new("serial_number", "must not be empty"));
        }
        Invalid::text("serial_number", &spec.serial_number, 128)?;
        for (field, text, most) in [
            ("management_address", spec.management_address.as_deref().unwrap_or_default(), 255),
            ("business_address", spec.business_address.as_deref().unwrap_or_default(), 255),
            ("region", &spec.region, 128),
            ("fab", &spec.fab, 128),
            ("phase", &spec.phase, 128),
            ("dc", &spec.dc, 128),
            ("room", &spec.room, 128),
            ("unit", &spec.unit, 32),
            ("external_system_id", spec.external_system_id.as_deref().unwrap_or_default(), 128),
            ("description", &spec.description, 1024),
        ] {
            Invalid::text(field, text, most)?;
        }
        super::virtual_machine::validate_labels(&spec.labels)
    }

    fn validate_update(old: &BaremetalSpec, new: &BaremetalSpec) -> Result<(), Invalid> {
        if old.serial_number != new.serial_number {
            return Err(Invalid::new("serial_number", "is the machine's identity and does not change"));
        }
        if old.group_id != new.group_id {
            return Err(Invalid::new("group_id", "a host does not change its group; remove and register it"));
        }
        Self::validate(new)
    }

    fn name_space(_: &Meta, _: &Self::Spec) -> String {
        space::names(Kind::Baremetal, None)
    }

    /// Its accounts lie under its group's, and what it has is supplied to the group: the group's
    /// totals and what is allocated in it need no adding up. Liveness moves neither. What others' domains
    /// take is not there for VMs: it is taken off here, after overcommit, as a VM of their size would be charged.
    fn print(_: &Meta, spec: &BaremetalSpec, status: &BaremetalStatus, print: &mut Print) {
        print.claim(space::SERIAL_NUMBER, &spec.serial_number);
        if let Some(address) = &spec.management_address {
            print.claim(space::within("management_address", status.data_center_id), address);
        }
        if let Some(address) = &spec.business_address {
            print.claim(space::within("business_address", status.data_center_id), address);
        }
        if !status.key_fingerprint.is_empty() {
            print.claim(space::PUBLIC_KEY, &status.key_fingerprint);
        }
        print
            .link(spec.group_id)
            .link(spec.rack_id)
            .link(status.instance_id)
            .key(key::HOST_GROUP, spec.group_id.to_string());
        for (label, value) in &spec.labels {
            print.key(key::LABEL, format!("{}/{label}={value}", Kind::Baremetal.name()));
        }
        let taken = status.foreign.take;
        for (dimension, amount, taken) in [
            (dimension::CPU_MILLI, status.schedulable_cpu_milli, taken.cpu_cores.saturating_mul(1000)),
            (dimension::MEMORY_MIB, status.schedulable_memory_mib, taken.memory_mib),
            (dimension::STORAGE_GIB, status.schedulable_storage_gib, taken.storage_gib),
            (dimension::GPUS, status.gpus, taken.gpus),
        ] {
            let amount = amount.saturating_sub(taken);
            let group = AccountKey::new(spec.group_id, dimension);
            print.account(dimension, Limit::Fixed(amount), Some(group));
            print.supply(spec.group_id, dimension, amount);
        }
    }
}


#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_programs_are_those_that_are_stored() {
        use {HostState as S, Liveness as L};
        for state in [S::Active, S::Cordoned, S::Draining, S::Maintenance, S::Decommissioned] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        for liveness in [L::Never, L::Online, L::Offline, L::Quarantined] {
            assert_eq!(serde_json::to_value(liveness).unwrap(), liveness.name());
        }
        for health in [Health::Unknown, Health::Healthy, Health::Warning, Health::Critical] {
            assert_eq!(serde_json::to_value(health).unwrap(), health.name());
        }
    }
}
