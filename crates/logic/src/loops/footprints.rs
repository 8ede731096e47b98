//! Rows of stores from before something was counted are counted.

use virtflow_model::Kind;
use virtflow_model::kinds::{IpAddress, VirtualMachine};
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::draft::Draft;
use crate::limits::Limits;
use crate::typed::{decoded, kind_of};
use crate::verbs::chain_of;
use crate::verify::is_of_former_form;

/// The kinds that open accounts, are charged or claim elsewhere since a later version than the first. In this order, as
/// an account is open before something is charged to it.
const KINDS: &[Kind] = &[
    Kind::VirtualMachineSpecification,
    Kind::Tenant,
    Kind::User,
    Kind::UserGroup,
    Kind::BaremetalGroup,
    Kind::BaremetalGroupTenantQuota,
    Kind::Baremetal,
    Kind::PrivateDataDisk,
    Kind::K8sCluster,
    Kind::IpAddress,
];

/// Writes again what an older version wrote, with the accounts and charges that its kind gives it now.
///
/// While controllers are replaced one by one, an older leader may take back what a newer one gave: it does not know
/// of it. So it is looked at whenever such a row changes, by whoever leads.
pub(super) const FOOTPRINTS: Watching = Watching {
    name: "footprints",
    scan: |state| {
        let kinds = KINDS.iter();
        kinds.flat_map(|kind| ids_of(state, *kind)).collect()
    },
    touched: |_, change| {
        let kinds = KINDS.iter();
        kinds.flat_map(|kind| changed_of(change, *kind)).collect()
    },
    due: |state, id| {
        let object = state.get(id);
        object.is_some_and(|object| is_of_former_form(object))
    },
    work,
};

/// One pass over all that might be of the former form.
pub fn footprints(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    FOOTPRINTS.pass(state, now, limits)
}

fn work(state: &State, now: Timestamp, limits: &Limits, due: &[ObjectId]) -> Vec<Changeset> {
    let mut due: Vec<ObjectId> = due.to_vec();
    due.sort_by_cached_key(|id| rank(state, *id));
    packed(state, now, limits, due, |draft, id| {
        charge_as_owner(draft, id)?;
        draft.renew(id)
    })
}

/// An address is charged as the VM that has it.
fn charge_as_owner(draft: &mut Draft<'_>, id: ObjectId) -> Result<(), Error> {
    let Some(object) = draft.get(id).filter(|it| it.kind == Kind::IpAddress.name()) else {
        return Ok(());
    };
    let owner = decoded::<IpAddress>(&object)?.status.owner_id;
    let Some(owner) = owner else {
        return Ok(());
    };
    let vm = draft.typed::<VirtualMachine>(owner)?;
    draft.update::<IpAddress>(id, |_, status| {
        status.charged_group_id = vm.spec.user_group_id;
        status.charged_user_id = vm.status.charged_user_id;
    })?;
    Ok(())
}

/// Kind by kind; of groups those above before those below, as their accounts lie above one another.
fn rank(state: &State, id: ObjectId) -> (usize, usize) {
    let kind = state.get(id).and_then(|object| kind_of(object));
    let place = KINDS.iter().position(|of| Some(*of) == kind);
    let level = match kind {
        Some(Kind::UserGroup) => chain_of(state, id).map_or(0, |chain| chain.len()),
        _ => 0,
    };
    (place.unwrap_or(KINDS.len()), level)
}
