//! What controllers order, checked once at the border and then plain values.

use serde::{Deserialize, Serialize};
use virtflow_proto::agent::v1;
use virtflow_types::{Incarnation, Name, NameError, ObjectId};

/// The most VMs one message may name.
pub const VMS_MAX: usize = 10_000;
/// The most network cards of a VM.
pub const NICS_MAX: usize = 16;
/// The longest grace time of a stop.
pub const GRACE_S_MAX: u32 = 24 * 3600;

/// A point in the order of what controllers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The life of the store.
    pub incarnation: Incarnation,
    /// Applied index within that life.
    pub index: u64,
}

/// The power state people asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// The guest shall run.
    Running,
    /// It shall not.
    Stopped,
}

/// What to do about a guest that ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Leave it.
    Never,
    /// Start it again if it ended against its will.
    OnFailure,
    /// Start it again however it ended.
    Always,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredNic {
    /// Its address.
    pub mac: String,
    /// The bridge it is plugged into; empty means the agent's configured one.
    pub bridge: String,
}

/// One VM as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredVm {
    /// The VM.
    pub vm_id: ObjectId,
    /// Its binding to this host.
    pub placement_epoch: u64,
    /// Generation of its specification.
    pub generation: u64,
    /// Its name.
    pub name: Name,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// Size of its disk; 0 for none.
    pub storage_gib: u64,
    /// Whole GPUs that it has for itself.
    #[serde(default, skip_serializing_if = "no_gpus")]
    pub gpu_count: u32,
    /// The power state asked for.
    pub power: Power,
    /// Grows with each start, stop and reboot that was asked for.
    pub power_serial: u64,
    /// The act of this serial is a reboot.
    pub reboot: bool,
    /// The act of this serial grants no grace time.
    pub force: bool,
    /// Time for a graceful shutdown.
    pub grace_s: u32,
    /// What to do when the guest ends by itself.
    pub restart: RestartPolicy,
    /// Network cards.
    pub nics: Vec<DesiredNic>,
    /// UUID of the domain that was there before the VM and is taken over; `None` for a VM whose
    /// domain is made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_domain: Option<ObjectId>,
}

fn no_gpus(count: &u32) -> bool {
    *count == 0
}

/// The order to remove a VM's domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The VM.
    pub vm_id: ObjectId,
    /// The binding that ends; a domain of a later one stays.
    pub placement_epoch: u64,
    /// Leave the VM's files.
    pub keep_files: bool,
}

/// A message of desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// When it was so.
    pub stamp: Stamp,
    /// Every VM of this host is named; otherwise those that changed.
    pub complete: bool,
    /// VMs.
    pub vms: Vec<DesiredVm>,
    /// What must go.
    pub tombstones: Vec<Tombstone>,
}

/// An order that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadOrder {
    /// Not sixteen bytes.
    #[error("{0} is not sixteen bytes")]
    Id(&'static str),
    /// Absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Out of its bounds.
    #[error("{0} of VM {1} is out of bounds")]
    Bounds(&'static str, ObjectId),
    /// The VM's name is none.
    #[error("VM {0} has an impossible name")]
    Name(ObjectId, #[source] NameError),
    /// Too many.
    #[error("it names more than {0} {1}")]
    TooMany(usize, &'static str),
}

impl Stamp {
    /// From the wire.
    ///
    /// # Errors
    /// If the incarnation isn't sixteen bytes.
    pub fn from_wire(wire: &v1::Stamp) -> Result<Self, BadOrder> {
        Ok(Self {
            incarnation: Incarnation::from_slice(&wire.incarnation)
                .ok_or(BadOrder::Id("the stamp's incarnation"))?,
            index: wire.index,
        })
    }

    /// To the wire.
    #[must_use]
    pub fn to_wire(self) -> v1::Stamp {
        v1::Stamp {
            incarnation: self.incarnation.as_bytes().to_vec(),
            index: self.index,
        }
    }
}

impl Desired {
    /// From the wire.
    ///
    /// # Errors
    /// If any part makes no sense; then none of it is obeyed.
    pub fn from_wire(wire: &v1::Desired) -> Result<Self, BadOrder> {
        if wire.vms.len() > VMS_MAX {
            return Err(BadOrder::TooMany(VMS_MAX, "VMs"));
        }
        if wire.tombstones.len() > VMS_MAX {
            return Err(BadOrder::TooMany(VMS_MAX, "tombstones"));
        }
        let stamp = wire.stamp.as_ref().ok_or(BadOrder::Missing("the stamp"))?;
        Ok(Self {
            stamp: Stamp::from_wire(stamp)?,
            complete: wire.complete,
            vms: wire
                .vms
                .iter()
                .map(DesiredVm::from_wire)
                .collect::<Result<_, _>>()?,
            tombstones: wire
                .tombstones
                .iter()
                .map(Tombstone::from_wire)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl DesiredVm {
    fn from_wire(wire: &v1::DesiredVm) -> Result<Self, BadOrder> {
        let vm_id = ObjectId::from_slice(&wire.vm_id).ok_or(BadOrder::Id("a VM's id"))?;
        let within = |what, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(BadOrder::Bounds(what, vm_id))
            }
        };
        within("cpu_cores", (1..=4096).contains(&wire.cpu_cores))?;
        within("memory_mib", (1..=1 << 30).contains(&wire.memory_mib))?;
        within("storage_gib", wire.storage_gib <= 1 << 22)?;
        within("gpu_count", wire.gpu_count <= 16)?;
        within("grace_s", wire.grace_s <= GRACE_S_MAX)?;
        within("nics", wire.nics.len() <= NICS_MAX)?;
        Ok(Self {
            vm_id,
            placement_epoch: wire.placement_epoch,
            generation: wire.generation,
            name: Name::new(&wire.name).map_err(|error| BadOrder::Name(vm_id, error))?,
            vcpus: wire.cpu_cores,
            memory_mib: wire.memory_mib,
            storage_gib: wire.storage_gib,
            gpu_count: wire.gpu_count,
            power: match wire.power() {
                v1::Power::Running => Power::Running,
                v1::Power::Stopped => Power::Stopped,
                v1::Power::Unspecified => return Err(BadOrder::Missing("a VM's power")),
            },
            power_serial: wire.power_serial,
            reboot: wire.reboot,
            force: wire.force,
            grace_s: wire.grace_s,
            restart: match wire.restart() {
                v1::RestartPolicy::Always => RestartPolicy::Always,
                v1::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
                v1::RestartPolicy::Never | v1::RestartPolicy::Unspecified => RestartPolicy::Never,
            },
            nics: wire
                .nics
                .iter()
                .map(|nic| DesiredNic {
                    mac: nic.mac.clone(),
                    bridge: nic.bridge.clone(),
                })
                .collect(),
            adopted_domain: match wire.adopted_domain.as_slice() {
                [] => None,
                bytes => Some(
                    ObjectId::from_slice(bytes)
                        .ok_or(BadOrder::Id("the UUID of a domain to adopt"))?,
                ),
            },
        })
    }
}

impl Tombstone {
    fn from_wire(wire: &v1::Tombstone) -> Result<Self, BadOrder> {
        Ok(Self {
            vm_id: ObjectId::from_slice(&wire.vm_id).ok_or(BadOrder::Id("a tombstone's VM"))?,
            placement_epoch: wire.placement_epoch,
            keep_files: wire.keep_files,
        })
    }

    /// To the wire.
    #[must_use]
    pub fn to_wire(self) -> v1::Tombstone {
        v1::Tombstone {
            vm_id: self.vm_id.as_bytes().to_vec(),
            placement_epoch: self.placement_epoch,
            keep_files: self.keep_files,
        }
    }
}
