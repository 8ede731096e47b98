//! A virtual machine: what a tenant wants to run, where it is bound, and what was seen of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Text, Timestamp};

use super::price::Billed;
use crate::print::{dimension, key, space};
use crate::recorded::Recorded;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A VM.
#[derive(Debug)]
pub enum VirtualMachine {}

/// Whether it should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// It should run.
    #[default]
    Running,
    /// It should not.
    Stopped,
}

/// What its agent does when the guest ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Leave it.
    #[default]
    Never,
    /// Start it again if it crashed.
    OnFailure,
    /// Start it again however it ended.
    Always,
}

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmType {
    /// Control plane of a cluster.
    ControlPlane,
    /// Worker of a cluster.
    Worker,
    /// Management.
    Management,
    /// Anything else.
    #[default]
    Other,
}

/// What is asked for. Sizes are written out when the VM is made from a specification.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualMachineSpec {
    /// The specification its size came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specification_id: Option<ObjectId>,
    /// Whole vCPUs.
    #[serde(default)]
    pub cpu_cores: u32,
    /// MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// GiB.
    #[serde(default)]
    pub storage_gib: u64,
    /// Whole GPUs, up to 16, which it has for itself.
    #[serde(default, skip_serializing_if = "no_gpus")]
    pub gpu_count: u32,
    /// The image that its root disk begins as; its default version is taken unless one is named, and its latest if none
    /// is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<ObjectId>,
    /// The version of that image. It stays. One that is named by a tag is the one that the tag points to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_version_id: Option<ObjectId>,
    /// The only group of hosts it may run in; absent: any that the tenant has a quota in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<ObjectId>,
    /// The only host it may run on, for who looks after hosts; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_host_id: Option<ObjectId>,
    /// The user group whose quota it takes, with that of all groups above; absent when the VM is made:
    /// the user's first. It does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group_id: Option<ObjectId>,
    /// The Kubernetes cluster that it is a machine of, of the same tenant; the cluster stays as long as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<ObjectId>,
    /// Whether it should run.
    #[serde(default)]
    pub power: Power,
    /// What happens when the guest ends by itself.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// Seconds a guest is given to shut down before it is switched off.
    #[serde(default = "grace")]
    pub grace_s: u32,
    /// What it is for.
    #[serde(default, rename = "type")]
    pub vm_type: VmType,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn no_gpus(count: &u32) -> bool {
    *count == 0
}

fn grace() -> u32 {
    30
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmPhase {
    /// Not bound to a host yet.
    #[default]
    Pending,
    /// Bound; its host makes it.
    Creating,
    /// Its host starts it.
    Starting,
    /// Runs.
    Running,
    /// Its host stops it.
    Stopping,
    /// Does not run.
    Stopped,
    /// Its host restarts it.
    Restarting,
    /// Is being removed.
    Deleting,
    /// Failed; the reason says how.
    Error,
    /// Its host is silent.
    Unknown,
}

impl VmPhase {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Deleting => "deleting",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
    /// True while its vCPUs and memory are billed: as long as its guest is known to run.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Stopping | Self::Restarting)
    }
    /// True for phases that must end: they have a deadline.
    pub const fn is_transitional(self) -> bool {
        matches!(
            self,
            Self::Creating | Self::Starting | Self::Stopping | Self::Restarting | Self::Deleting
        )
    }
}

/// Where it is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placement {
    /// The host.
    pub host_id: ObjectId,
    /// The host's group.
    pub group_id: ObjectId,
    /// The (group, tenant) quota that is charged.
    pub quota_id: ObjectId,
    /// When it was bound.
    pub placed_at: Timestamp,
    /// UUID of the domain that was on the host before the VM and that the host goes on running for it. Its
    /// definition and its disks are not of the host's agent's making, and stay as they are. It ends with the binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_domain: Option<ObjectId>,
}

/// What the system decided and saw.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMachineStatus {
    /// Where it is in its life.
    pub phase: VmPhase,
    /// Since when.
    #[serde(default)]
    pub phase_since: Timestamp,
    /// When a transitional phase counts as stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// One snake_case word: why it is in this phase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Where it is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Grows at each binding.
    #[serde(default)]
    pub placement_epoch: u64,
    /// Grows at each start, stop and reboot that is asked for.
    #[serde(default)]
    pub power_serial: u64,
    /// What that act was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_act: Option<PowerAct>,
    /// Whose user quota is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_user_id: Option<ObjectId>,
    /// How far its root disk is made from the image that it names; absent if it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Recorded>,
    /// Restarts by its agent.
    #[serde(default)]
    pub restarts: u64,
    /// Process id of QEMU on the host, when it runs.
    #[serde(default)]
    pub pid: u32,
    /// Generation that its host last carried out.
    #[serde(default)]
    pub observed_generation: u64,
    /// Since when its guest has run without that being on a bill; absent while it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_unbilled_since: Option<Timestamp>,
    /// Since when its storage and its GPUs have been kept for it on a host without that being on a bill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_unbilled_since: Option<Timestamp>,
}

impl VirtualMachineStatus {
    /// Since when it has used something that is not on a bill yet; absent while it does not use it.
    pub const fn unbilled_since(&self, dimension: Billed) -> Option<Timestamp> {
        match dimension {
            Billed::CpuCoreHours | Billed::MemoryGibHours => self.running_unbilled_since,
            // A GPU is nobody else's while its VM stands still.
            Billed::StorageGibHours | Billed::GpuHours => self.storage_unbilled_since,
        }
    }

    /// When what is not billed yet has to be: bills are of a month.
    fn billing_due(&self) -> Option<Timestamp> {
        let since = Billed::ALL.into_iter().filter_map(|dimension| self.unbilled_since(dimension));
        since.map(Timestamp::next_month).min()
    }
}

/// Begins to count where something begins to be used, and stops where it ends.
fn count(since: &mut Option<Timestamp>, is_used: bool, now: Timestamp) {
    if is_used {
        since.get_or_insert(now);
    } else {
        *since = None;
    }
}

/// The last act on its power that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PowerAct {
    /// Start.
    Start,
    /// Graceful stop, then hard.
    Stop,
    /// Hard stop.
    ForceStop,
    /// Graceful reboot, then hard.
    Reboot,
    /// Hard reboot.
    ForceReboot,
}

/// Smallest and largest VM that is accepted.
pub(crate) fn validate_size(cpu: u32, memory_mib: u64, storage_gib: u64) -> Result<(), Invalid> {
    Invalid::outside("cpu_cores", u64::from(cpu), 1, 1024)?;
    Invalid::outside("memory_mib", memory_mib, 16, 64 * 1024 * 1024)?;
    Invalid::outside("storage_gib", storage_gib, 0, 1024 * 1024)
}

/// As many GPUs as one machine is ever given.
pub(crate) fn validate_gpus(count: u32) -> Result<(), Invalid> {
    Invalid::outside("gpu_count", u64::from(count), 0, 16)
}

/// Labels: few, short, printable.
pub(crate) fn validate_labels(labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if labels.len() > 64 {
        return Err(Invalid::new("labels", "at most 64 are allowed"));
    }
    for (label, value) in labels {
        if label.is_empty() || label.contains('=') || label.contains('/') {
            return Err(Invalid::new("labels", format!("`{label}` is no label: `=` and `/` are not allowed")));
        }
        Invalid::text("labels", label, 63)?;
        Invalid::text("labels", value, 63)?;
    }
    Ok(())
}

impl Resource for VirtualMachine {
    const KIND: Kind = Kind::VirtualMachine;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[
            Reference::to("specification", Kind::VirtualMachineSpecification),
            Reference::to("image", Kind::Image),
            Reference::to("image_version", Kind::ImageVersion),
            Reference::to("group", Kind::BaremetalGroup),
            Reference::to("pinned_host", Kind::Baremetal),
            Reference::to("user_group", Kind::UserGroup),
            Reference::to("cluster", Kind::K8sCluster),
        ],
        create: ByPeople::ByVerb,
        delete: ByPeople::ByVerb,
        ..Rules::plain("A virtual machine")
    };
    type Spec = VirtualMachineSpec;
    type Status = VirtualMachineStatus;

    fn example() -> VirtualMachineSpec {
        VirtualMachineSpec {
            cpu_cores: 2,
            memory_mib: 2048,
            storage_gib: 20,
            grace_s: grace(),
            ..VirtualMachineSpec::default()
        }
    }

    fn validate(spec: &VirtualMachineSpec) -> Result<(), Invalid> {
        validate_size(spec.cpu_cores, spec.memory_mib, spec.storage_gib)?;
        validate_gpus(spec.gpu_count)?;
        Invalid::outside("grace_s", u64::from(spec.grace_s), 0, 3600)?;
        validate_labels(&spec.labels)
    }

    fn validate_update(old: &VirtualMachineSpec, new: &VirtualMachineSpec) -> Result<(), Invalid> {
        let size = |s: &VirtualMachineSpec| (s.cpu_cores, s.memory_mib, s.storage_gib, s.gpu_count);
        if size(old) != size(new) || old.specification_id != new.specification_id {
            return Err(Invalid::new("cpu_cores", "resizing a VM is not available yet"));
        }
        let image = |s: &VirtualMachineSpec| (s.image_id, s.image_version_id);
        if image(old) != image(new) {
            return Err(Invalid::new("image_id", "a VM does not change its image"));
        }
        if old.group_id != new.group_id {
            return Err(Invalid::new("group_id", "a VM does not change its group"));
        }
        if old.pinned_host_id != new.pinned_host_id {
            return Err(Invalid::new("pinned_host_id", "a VM stays pinned, or free, for life"));
        }
        if old.user_group_id != new.user_group_id {
            return Err(Invalid::new(
                "user_group_id",
                "a VM does not change the user group whose quota it takes",
            ));
        }
        Self::validate(new)
    }

    fn settle(status: &mut VirtualMachineStatus, now: Timestamp) {
        count(&mut status.running_unbilled_since, status.phase.is_running(), now);
        count(&mut status.storage_unbilled_since, status.placement.is_some(), now);
    }

    /// The user and the user group, and with it every group above and the tenant, are charged from creation on;
    /// without a user group the tenant itself. The host and the (group, tenant) quota are from the binding on.
    fn print(meta: &Meta, spec: &VirtualMachineSpec, status: &VirtualMachineStatus, print: &mut Print) {
        let size = [
            (dimension::MEMORY_MIB, spec.memory_mib),
            (dimension::STORAGE_GIB, spec.storage_gib),
            (dimension::GPUS, u64::from(spec.gpu_count)),
        ];
        let shared = spec.user_group_id.or(meta.tenant);
        for owner in [shared, status.charged_user_id].into_iter().flatten() {
            print
                .charge(owner, dimension::CPU_CORES, u64::from(spec.cpu_cores))
                .charge(owner, dimension::VMS, 1);
            for (dimension, amount) in size {
                print.charge(owner, dimension, amount);
            }
        }
        print.link(status.charged_user_id);
        print.link(spec.specification_id);
        print.link(spec.image_id).link(spec.image_version_id);
        print.link(spec.group_id).link(spec.user_group_id);
        print.link(spec.cluster_id);
        print.link(spec.pinned_host_id);
        if let Some(placement) = &status.placement {
            print.link(placement.quota_id);
            match placement.adopted_domain {
                None => {
                    print.link(placement.host_id);
                }
                // It is there whether the host takes new VMs or not. The charges keep the host from going as well
                // as a link would.
                Some(domain) => {
                    print.claim(space::ADOPTED_DOMAIN, format!("{}/{domain}", placement.host_id));
                }
            }
            print.key(key::VM_HOST, placement.host_id.to_string());
            for owner in [placement.host_id, placement.quota_id] {
                print.charge(owner, dimension::CPU_MILLI, u64::from(spec.cpu_cores) * 1000);
                for (dimension, amount) in size {
                    print.charge(owner, dimension, amount);
                }
            }
        }
        print.key(key::VM_PHASE, Text::new_static(status.phase.name()));
        if let Some(due) = status.billing_due() {
            print.expires(due);
        }
        for (label, value) in &spec.labels {
            print.key(key::LABEL, format!("virtual_machine/{label}={value}"));
        }
    }
}
