//! What the agent keeps on disk: the orders it has, and how far it is with them.
//!
//! The file makes an agent that restarts without any controller go on where it was. It may be lost
//! at any time: libvirt's metadata says which domains are ours, and a controller says the rest again.
//! A file that can't be read is set aside and started anew, never a reason not to run.
//!
//! Invariants:
//! - The highest stamp is on disk before anything newer is acted on; what is older is refused.
//! - An incarnation that was left is never obeyed again, whatever index it comes with.
//! - The state in memory is never behind what a caller of [`LocalStore::commit`] was told is stored.

pub(crate) mod file;
#[cfg(test)]
mod fuzz;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;
use virtflow_types::{Incarnation, ObjectId};

use self::file::Found;
use crate::desired::{Desired, DesiredVm, Stamp, Tombstone};
use crate::off_loop::off_loop;
use crate::xml::DomainStamp;

/// Version of the file's format. A file of another version is treated as lost.
const FORMAT: u32 = 1;
/// Former incarnations remembered; each is a restore of the whole store from a backup.
const RETIRED_INCARNATIONS_MAX: usize = 64;

/// An act (start, stop, reboot) under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// The act.
    pub power_serial: u64,
    /// The run that a reboot ends; another run means that the reboot is done.
    pub old_run_id: Option<u32>,
}

/// How far the agent is with one VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last act that is done; `None` if that is not known (any more).
    pub done_serial: Option<u64>,
    /// The act under way.
    pub acting: Option<Acting>,
    /// How often the agent itself has started the guest again.
    pub restarts: u64,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVm {
    /// What it shall be.
    pub desired: DesiredVm,
    /// When that was so.
    pub stamp: Stamp,
    /// How far it is.
    pub progress: Progress,
}

impl StoredVm {
    /// What a domain is stamped with that this orders.
    #[must_use]
    pub fn domain_stamp(&self) -> DomainStamp {
        DomainStamp {
            placement_epoch: self.desired.placement_epoch,
            incarnation: self.stamp.incarnation,
            index: self.stamp.index,
        }
    }
}

/// All that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalState {
    format: u32,
    /// The highest stamp seen.
    pub highest: Option<Stamp>,
    /// Incarnations before that of `highest`, oldest first.
    pub retired: Vec<Incarnation>,
    /// VMs of this host.
    pub vms: BTreeMap<ObjectId, StoredVm>,
    /// What must go and may not be gone yet.
    pub tombstones: BTreeMap<ObjectId, Tombstone>,
    /// What went and is still named by the controller.
    pub confirmed: BTreeMap<ObjectId, Tombstone>,
}

/// An order that is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Older than what is known.
    #[error("the order is of index {told}, but index {known} was seen already")]
    Older {
        /// The order's index.
        told: u64,
        /// The highest seen.
        known: u64,
    },
    /// Of a life of the store that has ended.
    #[error("the order is of incarnation {0}, which a later one has replaced")]
    Retired(Incarnation),
}

impl LocalState {
    /// Whether an order stamped so may be obeyed.
    ///
    /// # Errors
    /// If it is older than what is known.
    pub fn admits(&self, stamp: Stamp) -> Result<(), Refused> {
        match self.highest {
            _ if self.retired.contains(&stamp.incarnation) => {
                Err(Refused::Retired(stamp.incarnation))
            }
            Some(known) if known.incarnation == stamp.incarnation && stamp.index < known.index => {
                Err(Refused::Older {
                    told: stamp.index,
                    known: known.index,
                })
            }
            _ => Ok(()),
        }
    }

    /// Takes an order in. Nothing that isn't named is ever removed from the machine by this: a VM
    /// that a complete list leaves out is merely no longer looked after.
    ///
    /// # Errors
    /// If the order is older than what is known; then nothing changes.
    pub fn accept(&mut self, order: &Desired) -> Result<(), Refused> {
        self.admits(order.stamp)?;
        if let Some(known) = self.highest
            && known.incarnation != order.stamp.incarnation
        {
            self.retired.push(known.incarnation);
            if self.retired.len() > RETIRED_INCARNATIONS_MAX {
                self.retired.remove(0);
            }
        }
        self.highest = Some(order.stamp);
        if order.complete {
            let named = |id: &ObjectId| order.vms.iter().any(|vm| vm.vm_id == *id);
            self.vms.retain(|id, _| named(id));
            let buried = |id: &ObjectId| order.tombstones.iter().any(|t| t.vm_id == *id);
            self.confirmed.retain(|id, _| buried(id));
        }
        for vm in &order.vms {
            let former = self.vms.get(&vm.vm_id);
            // Another binding is another life of the VM: its acts are counted anew.
            let progress = former
                .filter(|former| former.desired.placement_epoch == vm.placement_epoch)
                .map(|former| former.progress)
                .unwrap_or_default();
            self.vms.insert(
                vm.vm_id,
                StoredVm {
                    desired: vm.clone(),
                    stamp: order.stamp,
                    progress,
                },
            );
        }
        for tombstone in &order.tombstones {
            let done = self.confirmed.get(&tombstone.vm_id);
            if done.is_none_or(|done| done.placement_epoch < tombstone.placement_epoch) {
                self.tombstones.insert(tombstone.vm_id, *tombstone);
            }
            // A VM that must go in its present binding is not wanted any more.
            let wanted = self.vms.get(&tombstone.vm_id);
            if wanted.is_some_and(|w| w.desired.placement_epoch <= tombstone.placement_epoch) {
                self.vms.remove(&tombstone.vm_id);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Memory {
    state: LocalState,
    /// Grows with each change.
    version: u64,
}

/// The state and its file.
#[derive(Debug)]
pub struct LocalStore {
    path: PathBuf,
    memory: Mutex<Memory>,
    /// The version on disk; held while writing, so that changes gather for the next write.
    written: AsyncMutex<u64>,
}

impl LocalStore {
    /// Opens the file in `folder`, or starts anew without one; says which in the log.
    #[must_use]
    pub fn open(folder: &Path) -> Arc<Self> {
        let path = folder.join("state.json");
        let state = match file::read(&path) {
            Found::Nothing => LocalState::default(),
            Found::Content(bytes) => match serde_json::from_slice::<LocalState>(&bytes) {
                Ok(state) if state.format == FORMAT => state,
                Ok(state) => set_aside(&path, &format!("its format is {}", state.format)),
                Err(error) => set_aside(&path, &error.to_string()),
            },
            Found::Damaged(problem) => set_aside(&path, &problem),
        };
        Arc::new(Self {
            path,
            memory: Mutex::new(Memory {
                state: LocalState {
                    format: FORMAT,
                    ..state
                },
                version: 0,
            }),
            written: AsyncMutex::new(0),
        })
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&LocalState) -> T) -> T {
        look(&self.memory().state)
    }

    /// Changes the state and returns when the change is on disk. Changes made while a write is
    /// under way share the next one.
    ///
    /// # Errors
    /// If the file can't be written. The change stays in memory and goes out with the next write;
    /// the caller must not act on it.
    pub async fn commit<T>(&self, change: impl FnOnce(&mut LocalState) -> T) -> std::io::Result<T> {
        let (result, version) = {
            let mut memory = self.memory();
            let result = change(&mut memory.state);
            memory.version += 1;
            (result, memory.version)
        };
        let mut written = self.written.lock().await;
        if *written < version {
            let (bytes, now) = {
                let memory = self.memory();
                (serde_json::to_vec(&memory.state)?, memory.version)
            };
            let path = self.path.clone();
            let write = off_loop(move || file::write(&path, &bytes));
            write.await.map_err(std::io::Error::other)??;
            *written = now;
        }
        Ok(result)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a file that can't be used for whoever wants to look, and starts anew.
fn set_aside(path: &Path, problem: &str) -> LocalState {
    let aside = path.with_added_extension("damaged");
    tracing::error!(
        file = %path.display(),
        kept_as = %aside.display(),
        problem,
        "the local state can't be used and starts anew; running guests go on"
    );
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::warn!(%error, file = %path.display(), "can't set the local state aside");
    }
    LocalState::default()
}

#[cfg(test)]
mod tests;
