//! A pool of hosts with one policy. What it has and what is taken follow from its hosts and VMs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{Limit, ObjectId};

use crate::print::{dimension, space};
use crate::{Capacity, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A group of hosts.
#[derive(Debug)]
pub enum BaremetalGroup {}

/// What an administrator decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// Takes VMs.
    #[default]
    Active,
    /// Takes no new VMs.
    Maintenance,
    /// Takes no new VMs, and its hosts are not counted on.
    Disabled,
}

/// How hosts are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulingPolicy {
    /// The emptiest host first, by what is promised on it.
    #[default]
    Spread,
    /// The fullest host that has room.
    Pack,
    /// The host that is least busy, by its last heartbeat and by what is promised on it.
    LoadBalance,
    /// A rack that has the fewest VMs of the same cluster, or else of the same tenant; there the host that has the
    /// fewest; of such the emptiest.
    ZoneSpread,
    /// None by itself: only VMs that are pinned to a host come here.
    Manual,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaremetalGroupSpec {
    /// The data centre its hosts stand in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_center_id: Option<ObjectId>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Administrative state.
    #[serde(default)]
    pub state: GroupState,
    /// How hosts are chosen.
    #[serde(default)]
    pub scheduling_policy: SchedulingPolicy,
    /// Schedulable CPU per real CPU, in percent: 100 is none.
    #[serde(default = "hundred")]
    pub cpu_overcommit_percent: u32,
    /// Schedulable memory per real memory, in percent.
    #[serde(default = "hundred")]
    pub memory_overcommit_percent: u32,
    /// Schedulable storage per real storage, in percent.
    #[serde(default = "hundred")]
    pub storage_overcommit_percent: u32,
}

fn hundred() -> u32 {
    100
}

/// Nothing is observed of it directly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BaremetalGroupStatus {
    /// What its hosts have together, for who may read the group as its operator; never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

impl Resource for BaremetalGroup {
    const KIND: Kind = Kind::BaremetalGroup;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        references: &[Reference::to("data_center", Kind::DataCenter)],
        ..Rules::plain("Hosts with one policy")
    };
    type Spec = BaremetalGroupSpec;
    type Status = BaremetalGroupStatus;

    fn example() -> BaremetalGroupSpec {
        BaremetalGroupSpec {
            data_center_id: None,
            description: "general purpose".into(),
            state: GroupState::Active,
            scheduling_policy: SchedulingPolicy::Spread,
            cpu_overcommit_percent: 400,
            memory_overcommit_percent: 100,
            storage_overcommit_percent: 100,
        }
    }
    fn validate(spec: &BaremetalGroupSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        let percent = |field, value: u32, hi| Invalid::outside(field, u64::from(value), 10, hi);
        percent("cpu_overcommit_percent", spec.cpu_overcommit_percent, 3200)?;
        percent("memory_overcommit_percent", spec.memory_overcommit_percent, 400)?;
        percent("storage_overcommit_percent", spec.storage_overcommit_percent, 1000)
    }
    fn name_space(_: &Meta, _: &Self::Spec) -> String {
        space::names(Kind::BaremetalGroup, None)
    }
    /// Its accounts begin at zero; each host supplies what it has.
    fn print(_: &Meta, spec: &BaremetalGroupSpec, _: &BaremetalGroupStatus, print: &mut Print) {
        print.link(spec.data_center_id);
        for dimension in [
            dimension::CPU_MILLI,
            dimension::MEMORY_MIB,
            dimension::STORAGE_GIB,
            dimension::GPUS,
        ] {
            print.account(dimension, Limit::Fixed(0), None);
        }
    }
}
