//! What the agent sees of its VMs: the level that controllers compare, and the edges between.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message;
use tokio::sync::watch;
use virtflow_proto::agent::v1::{ObservedVm, Tombstone};
use virtflow_types::{ObjectId, Timestamp};

/// Length of the level's hash.
pub const HASH_BYTES: usize = 16;

#[derive(Debug, Default)]
struct Level {
    /// Each VM with the version of its last change.
    vms: BTreeMap<ObjectId, (u64, ObservedVm)>,
    confirmed: BTreeMap<ObjectId, Tombstone>,
    version: u64,
    /// Version of the last change that a list of changed VMs can't tell: a VM left.
    left_at: u64,
    hash: Option<(u64, Vec<u8>)>,
}

/// The table of observations; one writer per VM, any number of readers.
#[derive(Debug)]
pub struct Observations {
    level: Mutex<Level>,
    changed: watch::Sender<u64>,
}

/// What to tell a controller that knows everything up to some version.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// All VMs are listed; otherwise those that changed.
    pub complete: bool,
    /// The VMs.
    pub vms: Vec<ObservedVm>,
    /// Tombstones that were carried out.
    pub confirmed: Vec<Tombstone>,
    /// Hash of the whole level.
    pub hash: Vec<u8>,
    /// Version that the receiver knows afterwards.
    pub version: u64,
}

impl Default for Observations {
    fn default() -> Self {
        Self {
            level: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Observations {
    /// Sets what is seen of a VM. `since_ms` is kept while phase and reason stay the same.
    pub fn publish(&self, vm_id: ObjectId, mut seen: ObservedVm) {
        let mut level = self.level();
        seen.since_ms = Timestamp::now().ms();
        if let Some((_, before)) = level.vms.get(&vm_id) {
            if (before.phase, &before.reason) == (seen.phase, &seen.reason) {
                seen.since_ms = before.since_ms;
            }
            if *before == seen {
                return;
            }
        }
        level.version += 1;
        let version = level.version;
        level.vms.insert(vm_id, (version, seen));
        self.changed.send_replace(version);
    }

    /// Removes a VM that isn't here any more.
    pub fn remove(&self, vm_id: ObjectId) {
        let mut level = self.level();
        if level.vms.remove(&vm_id).is_some() {
            level.version += 1;
            level.left_at = level.version;
            self.changed.send_replace(level.version);
        }
    }

    /// Sets the tombstones that were carried out and are still of interest.
    pub fn set_confirmed(&self, confirmed: BTreeMap<ObjectId, Tombstone>) {
        let mut level = self.level();
        if level.confirmed != confirmed {
            level.confirmed = confirmed;
            level.version += 1;
            self.changed.send_replace(level.version);
        }
    }

    /// Wakes at each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Hash of the whole level.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        self.level().hash()
    }

    /// What is seen of a VM.
    #[must_use]
    pub fn get(&self, vm_id: ObjectId) -> Option<ObservedVm> {
        self.level().vms.get(&vm_id).map(|(_, seen)| seen.clone())
    }

    /// All VMs in each phase.
    #[must_use]
    pub fn all(&self) -> Vec<ObservedVm> {
        let level = self.level();
        level.vms.values().map(|(_, seen)| seen.clone()).collect()
    }

    /// Everything, or what changed since `known`. `None` if nothing did.
    #[must_use]
    pub fn report(&self, known: Option<u64>) -> Option<Report> {
        let mut level = self.level();
        if known == Some(level.version) {
            return None;
        }
        let complete = known.is_none_or(|known| known < level.left_at);
        let after = if complete { 0 } else { known.unwrap_or(0) };
        let hash = level.hash();
        let changed = level.vms.values().filter(|(version, _)| *version > after);
        Some(Report {
            complete,
            vms: changed.map(|(_, seen)| seen.clone()).collect(),
            confirmed: level.confirmed.values().cloned().collect(),
            hash,
            version: level.version,
        })
    }

    fn level(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Level {
    fn hash(&mut self) -> Vec<u8> {
        if let Some((version, hash)) = &self.hash
            && *version == self.version
        {
            return hash.clone();
        }
        let mut bytes = Vec::new();
        // Lengths in front, so that no two levels run into the same bytes.
        for (_, seen) in self.vms.values() {
            bytes.extend(seen.encode_length_delimited_to_vec());
        }
        bytes.push(0xff);
        for tombstone in self.confirmed.values() {
            bytes.extend(tombstone.encode_length_delimited_to_vec());
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hash = digest.as_ref()[..HASH_BYTES].to_vec();
        self.hash = Some((self.version, hash.clone()));
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(number: u8, reason: &str) -> (ObjectId, ObservedVm) {
        let id = ObjectId::from_u128(u128::from(number));
        let vm = ObservedVm {
            vm_id: id.as_bytes().to_vec(),
            reason: reason.to_owned(),
            ..ObservedVm::default()
        };
        (id, vm)
    }

    #[test]
    fn a_reader_gets_what_changed_and_all_when_something_left() {
        let table = Observations::default();
        let (one, first) = seen(1, "a");
        let (two, second) = seen(2, "a");
        table.publish(one, first.clone());
        table.publish(two, second);
        let all = table.report(None).unwrap();
        assert_eq!((all.complete, all.vms.len()), (true, 2));
        assert_eq!(table.report(Some(all.version)), None);

        table.publish(one, first);
        assert_eq!(
            table.report(Some(all.version)),
            None,
            "the same again is no change"
        );

        table.publish(one, seen(1, "b").1);
        let edge = table.report(Some(all.version)).unwrap();
        assert_eq!((edge.complete, edge.vms.len()), (false, 1));
        assert_eq!(edge.vms[0].reason, "b");
        assert_ne!(edge.hash, all.hash);
        assert_eq!(edge.hash, table.hash());

        table.remove(two);
        let after = table.report(Some(edge.version)).unwrap();
        assert_eq!((after.complete, after.vms.len()), (true, 1));
    }

    #[test]
    fn the_hash_is_of_the_level_and_not_of_the_way_there() {
        let [there, back] = [Observations::default(), Observations::default()];
        for (table, order) in [(&there, [1, 2, 3]), (&back, [3, 1, 2])] {
            for number in order {
                let (id, mut vm) = seen(number, "a");
                vm.since_ms = 5;
                table.publish(id, vm);
            }
        }
        // The clock went into both; make it the same.
        for table in [&there, &back] {
            for (_, vm) in table.level().vms.values_mut() {
                vm.since_ms = 0;
            }
        }
        assert_eq!(there.hash(), back.hash());
        let (id, _) = seen(9, "a");
        back.set_confirmed(BTreeMap::from([(id, Tombstone::default())]));
        assert_ne!(there.hash(), back.hash());
    }
}
