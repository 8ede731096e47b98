use virtflow_model::kinds::Baremetal;
use virtflow_model::{Kind, key};
use virtflow_state::{Change, Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::limits::Limits;
use crate::observe::schedulable;
use crate::site::{data_center_of, is_taken_there, with_addresses_of};
use crate::typed::decoded;

/// Brings every host's schedulable capacity to what its inventory and its group's overcommit give, and where it stands to
/// what its rack and its group say.
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

/// The host itself, those that wait for an address of its, or every host of the group or of the rack.
fn touched(state: &State, change: &Change) -> Vec<ObjectId> {
    let mut hosts = changed_of(change, Kind::Baremetal);
    if let Some(before) = change.before.as_ref().filter(|_| !hosts.is_empty()) {
        hosts.extend(with_addresses_of(state, before));
    }
    for group in changed_of(change, Kind::BaremetalGroup) {
        let members = state.by_key(key::HOST_GROUP, &group.to_string(), None);
        hosts.extend(members.map(|host| host.id));
    }
    for rack in changed_of(change, Kind::Rack) {
        let there = state.linking_to(rack);
        let there = there.filter_map(|id| state.get(id));
        let there = there.filter(|object| object.kind == Kind::Baremetal.name());
        hosts.extend(there.map(|host| host.id));
    }
    hosts
}

/// Capacity and place of a host as they follow from others.
type Follows = ([u64; 3], Option<ObjectId>);

/// What the host should have, if that is not what it has. It stays where it counts as standing as long as another host has
/// one of its addresses where it should.
fn right(state: &State, host: ObjectId) -> Option<Follows> {
    let object = state.get(host)?;
    let typed = decoded::<Baremetal>(object).ok()?;
    let now = (
        [
            typed.status.schedulable_cpu_milli,
            typed.status.schedulable_memory_mib,
            typed.status.schedulable_storage_gib,
        ],
        typed.status.data_center_id,
    );
    let place = Some(data_center_of(state, &typed.spec))
        .filter(|place| !is_taken_there(state, host, &typed.spec, *place))
        .unwrap_or(now.1);
    let right = (schedulable(state, &typed.spec, &typed.status)?, place);
    (now != right).then_some(right)
}

fn work(state: &State, now: Timestamp, limits: &Limits, wrong: &[ObjectId]) -> Vec<Changeset> {
    let wrong = wrong
        .iter()
        .filter_map(|host| Some((*host, right(state, *host)?)));
    packed(state, now, limits, wrong, |draft, (id, (right, place))| {
        draft
            .update::<Baremetal>(id, |_, status| {
                status.data_center_id = place;
                [
                    status.schedulable_cpu_milli,
                    status.schedulable_memory_mib,
                    status.schedulable_storage_gib,
                ] = right;
            })
            .map(drop)
    })
}
