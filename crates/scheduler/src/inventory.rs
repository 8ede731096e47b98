//! The hosts as placing sees them: what is free, and what keeps a host out.

use std::collections::BTreeMap;

use virtflow_model::kinds::baremetal_group::SchedulingPolicy;
use virtflow_types::ObjectId;

/// The dimensions that are counted, in the order of [`Amounts`], by their names in ledgers.
pub const DIMENSIONS: [&str; 4] = ["cpu_milli", "memory_mib", "storage_gib", "gpus"];

/// Where GPUs stand among them.
pub(crate) const GPUS: usize = 3;

/// Thousandths of a CPU, MiB of memory, GiB of storage, whole GPUs.
pub type Amounts = [u64; DIMENSIONS.len()];

/// Whether a host takes VMs, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Ready,
    /// Its operator keeps new VMs away.
    Cordoned,
    /// Its VMs are being moved away.
    Draining,
    /// Taken out for work.
    Maintenance,
    /// Gone for good.
    Decommissioned,
    /// Its agent was never heard.
    NeverSeen,
    /// Its agent is silent.
    Offline,
    /// Nothing it says is believed.
    Quarantined,
    /// Its health is critical.
    Unhealthy,
    /// Its group takes no VMs.
    GroupClosed,
    /// The data centre that it stands in takes no VMs.
    DataCenterClosed,
    /// It is rented out as a whole.
    Exclusive,
}

impl Standing {
    /// The word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Decommissioned => "decommissioned",
            Self::NeverSeen => "never_seen",
            Self::Offline => "offline",
            Self::Quarantined => "quarantined",
            Self::Unhealthy => "unhealthy",
            Self::GroupClosed => "group_closed",
            Self::DataCenterClosed => "data_center_closed",
            Self::Exclusive => "exclusive",
        }
    }
}

/// A group of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: ObjectId,
    /// How its hosts are chosen.
    pub policy: SchedulingPolicy,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: ObjectId,
    /// Its group's place in [`Inventory::groups`].
    pub group: usize,
    /// The rack it stands in; what has none stands in [`ObjectId::NIL`] together.
    pub zone: ObjectId,
    /// Whether it takes VMs.
    pub standing: Standing,
    /// What it may hand out, overcommit included.
    pub total: Amounts,
    /// What is left of that.
    pub free: Amounts,
    /// Memory that its last heartbeat called unused, MiB; `u64::MAX` if unknown.
    pub unused_memory_mib: u64,
    /// CPU in use by its last heartbeat, parts per million; 0 if unknown.
    pub busy_ppm: u32,
}

/// How many kin of a VM each host and its zone have, in the order of [`Inventory::hosts`]: VMs that had better not all
/// fail with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kin(Vec<KinAt>);

/// Kin at one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KinAt {
    pub(crate) zone: u32,
    pub(crate) host: u32,
}

impl Kin {
    pub(crate) fn at(&self, host: usize) -> Option<KinAt> {
        self.0.get(host).copied()
    }
}

/// All hosts that there are.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    hosts: Vec<Host>,
    groups: Vec<Group>,
    by_id: BTreeMap<ObjectId, usize>,
}

impl Inventory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The hosts; their order means nothing.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
    /// The groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
    /// A host by its id.
    pub fn host(&self, id: ObjectId) -> Option<&Host> {
        self.by_id.get(&id).map(|at| &self.hosts[*at])
    }

    /// The kin that are there by host, told host by host. It is of use until a host comes or goes.
    pub fn kin(&self, by_host: &BTreeMap<ObjectId, u32>) -> Kin {
        let mut by_zone: BTreeMap<ObjectId, u32> = BTreeMap::new();
        for (host, count) in by_host {
            if let Some(host) = self.host(*host) {
                *by_zone.entry(host.zone).or_default() += count;
            }
        }
        let at = |host: &Host| KinAt {
            zone: by_zone.get(&host.zone).copied().unwrap_or(0),
            host: by_host.get(&host.id).copied().unwrap_or(0),
        };
        Kin(self.hosts.iter().map(at).collect())
    }

    /// Sets a group's policy, adding it if it is new; its place.
    pub fn put_group(&mut self, group: Group) -> usize {
        match self.groups.iter().position(|known| known.id == group.id) {
            Some(at) => {
                self.groups[at] = group;
                at
            }
            None => {
                self.groups.push(group);
                self.groups.len() - 1
            }
        }
    }

    /// Sets a host, keeping what its last heartbeat said if the new value says nothing.
    pub fn put_host(&mut self, mut host: Host) {
        match self.by_id.get(&host.id) {
            Some(at) => {
                let known = &mut self.hosts[*at];
                if host.unused_memory_mib == u64::MAX && host.busy_ppm == 0 {
                    host.unused_memory_mib = known.unused_memory_mib;
                    host.busy_ppm = known.busy_ppm;
                }
                *known = host;
            }
            None => {
                self.by_id.insert(host.id, self.hosts.len());
                self.hosts.push(host);
            }
        }
    }

    /// Forgets a host.
    pub fn remove_host(&mut self, id: ObjectId) {
        if let Some(at) = self.by_id.remove(&id) {
            self.hosts.swap_remove(at);
            if let Some(moved) = self.hosts.get(at) {
                self.by_id.insert(moved.id, at);
            }
        }
    }

    /// Notes what a heartbeat said.
    pub fn set_load(&mut self, id: ObjectId, unused_memory_mib: u64, busy_ppm: u32) {
        if let Some(at) = self.by_id.get(&id) {
            self.hosts[*at].unused_memory_mib = unused_memory_mib;
            self.hosts[*at].busy_ppm = busy_ppm;
        }
    }

    /// Books `demand` on a host.
    pub fn take(&mut self, id: ObjectId, demand: Amounts) {
        if let Some(at) = self.by_id.get(&id) {
            let host = &mut self.hosts[*at];
            for (free, asked) in host.free.iter_mut().zip(demand) {
                *free = free.saturating_sub(asked);
            }
            host.unused_memory_mib = match host.unused_memory_mib {
                u64::MAX => u64::MAX,
                known => known.saturating_sub(demand[1]),
            };
        }
    }
}
