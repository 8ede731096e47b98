//! What a leader does without being asked: pure passes over an image.
//!
//! Each gives changesets to be proposed one by one. They are idempotent and rest on nothing but the
//! image: one that is refused, because the state moved on, is dropped, and the next pass sees why.

mod agenda;
mod alerts;
mod built_in_roles;
mod cloud_boxes;
mod dangling;
mod deadlines;
mod footprints;
mod leases;
mod lost_hosts;
mod meter;
mod nowhere;
mod overcommit;
mod placer;
mod retire;
mod tenants;
mod users;

use virtflow_model::{Kind, key};
use virtflow_state::{Change, Changeset, Object, State};
use virtflow_types::{Error, ObjectId, RequestId, Timestamp};

use crate::cx::Cx;
use crate::draft::Draft;
use crate::limits::Limits;

pub use agenda::{Agenda, Watching};
pub use alerts::host_alerts;
pub use built_in_roles::built_in_roles;
pub(crate) use built_in_roles::spec_of;
pub use cloud_boxes::cloud_boxes;
pub use dangling::dangling;
pub(crate) use deadlines::DEADLINE_EXCEEDED;
pub use deadlines::{deadlines, overdue};
pub use footprints::footprints;
pub use leases::leases;
pub use lost_hosts::lost_hosts;
pub(crate) use lost_hosts::{lose_vm, unsettled};
pub use meter::meter;
pub(crate) use nowhere::nowhere;
pub use overcommit::overcommit;
pub use placer::{Placer, place, wakes_placer};
pub(crate) use placer::{balance, data_center_is_open, demand_of, rooms};
pub use retire::retire;
pub use tenants::tenant_deletions;
pub(crate) use users::empty_user;
pub use users::user_deletions;

/// One pass of a loop.
pub type Pass = fn(&State, Timestamp, &Limits) -> Vec<Changeset>;

/// Every loop but the placer, which keeps an inventory of its own.
pub const ALL: &[(&str, Pass)] = &[
    ("deadlines", deadlines),
    ("lost_hosts", lost_hosts),
    ("host_alerts", host_alerts),
    ("overcommit", overcommit),
    ("tenant_deletions", tenant_deletions),
    ("user_deletions", user_deletions),
    ("dangling", dangling),
    ("built_in_roles", built_in_roles),
    ("footprints", footprints),
    ("retire", retire),
    ("cloud_boxes", cloud_boxes),
    ("leases", leases),
    ("meter", meter),
];

/// Those of [`ALL`] that time gives something to do: they look at what has a deadline.
pub const TIMED: &[(&str, Pass)] = &[
    ("deadlines", deadlines),
    ("retire", retire),
    ("cloud_boxes", cloud_boxes),
    ("leases", leases),
    ("meter", meter),
];

/// Those of [`ALL`] that need not look at everything in each pass: an [`Agenda`] tells them at what.
pub const WATCHING: &[Watching] = &[
    lost_hosts::LOST_HOSTS,
    alerts::HOST_ALERTS,
    overcommit::OVERCOMMIT,
    tenants::TENANT_DELETIONS,
    users::USER_DELETIONS,
    dangling::DANGLING,
    built_in_roles::BUILT_IN,
    footprints::FOOTPRINTS,
];

fn ids_of(state: &State, kind: Kind) -> Vec<ObjectId> {
    let objects = state.of_kind(kind.name(), None);
    objects.map(|object| object.id).collect()
}

/// The object that changed, if it is of that kind.
fn changed_of(change: &Change, kind: Kind) -> Vec<ObjectId> {
    let object = change.after.as_ref().or(change.before.as_ref());
    let object = object.filter(|object| object.kind == kind.name());
    object.map(|object| object.id).into_iter().collect()
}

/// Runs `step` in a changeset of its own for each item, up to the limits; what fails is left for the next
/// pass and told in the changeset of nobody: an error here is a damaged object, which `verify` reports.
pub(crate) fn each<T>(
    state: &State,
    now: Timestamp,
    limits: &Limits,
    items: impl IntoIterator<Item = T>,
    mut step: impl FnMut(&mut Draft<'_>, T) -> Result<(), Error>,
) -> Vec<Changeset> {
    let mut changesets = Vec::new();
    for item in items {
        if changesets.len() >= limits.changesets_per_pass {
            break;
        }
        let cx = Cx::system(RequestId::generate(), now);
        let mut draft = Draft::new(state, &cx);
        if step(&mut draft, item).is_ok() && !draft.is_empty() {
            changesets.push(draft.finish());
        }
    }
    changesets
}

/// What has a time that is over and is such, as many as one pass takes, the earliest first.
pub(crate) fn expired(
    state: &State,
    now: Timestamp,
    limits: &Limits,
    is_such: impl Fn(&Object) -> bool,
) -> Vec<ObjectId> {
    state
        .key_values(key::EXPIRES, "")
        .take_while(|(at, _)| at.parse::<u64>().is_ok_and(|at| at <= now.ms()))
        .filter(|(_, object)| is_such(object))
        .map(|(_, object)| object.id)
        .take(limits.objects_per_changeset * limits.changesets_per_pass)
        .collect()
}

/// Packs small independent changes into changesets of a bounded number of objects.
pub(crate) fn packed<T>(
    state: &State,
    now: Timestamp,
    limits: &Limits,
    items: impl IntoIterator<Item = T>,
    mut step: impl FnMut(&mut Draft<'_>, T) -> Result<(), Error>,
) -> Vec<Changeset> {
    let cx = Cx::system(RequestId::generate(), now);
    let mut changesets = Vec::new();
    let mut draft = Draft::new(state, &cx);
    for item in items {
        if draft.len() >= limits.objects_per_changeset {
            let full = std::mem::replace(&mut draft, Draft::new(state, &cx));
            changesets.push(full.finish_as(Some(RequestId::generate())));
            if changesets.len() >= limits.changesets_per_pass {
                return changesets;
            }
        }
        // A step that fails has written nothing yet: steps look before they write.
        let _ = step(&mut draft, item);
    }
    if !draft.is_empty() {
        changesets.push(draft.finish_as(Some(RequestId::generate())));
    }
    changesets
}
