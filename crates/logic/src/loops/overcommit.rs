use virtflow_model::kinds::Baremetal;
use virtflow_model::{Kind, key};
use virtflow_state::{Change, Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::limits::Limits;
use crate::observe::schedulable;
use crate::typed::decoded;

/// Brings every host's schedulable capacity to what its inventory and its group's overcommit give.
pub(super) const OVERCOMMIT: Watching = Watching {
    name: "overcommit",
    scan: |state| ids_of(state, Kind::Baremetal),
    touched,
    due: |state, host| right(state, host).is_some(),
    work,
};

/// One pass over all hosts.
pub fn overcommit(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    OVERCOMMIT.pass(state, now, limits)
}

/// The host itself, or every host of the group.
fn touched(state: &State, change: &Change) -> Vec<ObjectId> {
    let mut hosts = changed_of(change, Kind::Baremetal);
    for group in changed_of(change, Kind::BaremetalGroup) {
        let members = state.by_key(key::HOST_GROUP, &group.to_string(), None);
        hosts.extend(members.map(|host| host.id));
    }
    hosts
}

/// What the host should have, if that is not what it has.
fn right(state: &State, host: ObjectId) -> Option<[u64; 3]> {
    let object = state.get(host)?;
    let typed = decoded::<Baremetal>(object).ok()?;
    let right = schedulable(state, &typed.spec, &typed.status)?;
    let now = [
        typed.status.schedulable_cpu_milli,
        typed.status.schedulable_memory_mib,
        typed.status.schedulable_storage_gib,
    ];
    (now != right).then_some(right)
}

fn work(state: &State, now: Timestamp, limits: &Limits, wrong: &[ObjectId]) -> Vec<Changeset> {
    let wrong = wrong
        .iter()
        .filter_map(|host| Some((*host, right(state, *host)?)));
    packed(state, now, limits, wrong, |draft, (id, right)| {
        draft
            .update::<Baremetal>(id, |_, status| {
                [
                    status.schedulable_cpu_milli,
                    status.schedulable_memory_mib,
                    status.schedulable_storage_gib,
                ] = right;
            })
            .map(drop)
    })
}
