//! The end of tenants: what is left in one goes, leaves first, then the tenant; bills and operations outlive it.

use virtflow_model::Kind;
use virtflow_model::key;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{BillingPeriod, BillingUsage, Operation, Tenant, VirtualMachine};
use virtflow_state::{Changeset, Object, State};
use virtflow_types::{Error, ObjectId, Timestamp};

use super::users::empty_user;
use super::{Watching, changed_of, each, ids_of};
use crate::audit::Entry;
use crate::draft::Draft;
use crate::limits::Limits;
use crate::operations::{End, unfinished};
use crate::typed::decoded;
use crate::verbs::delete_vm;

/// Tenants that are worked on in one pass.
const TENANTS_PER_PASS: usize = 16;

/// Removes what is left of tenants whose deletion was asked for, one bounded step a pass: VMs first, then
/// bindings, quotas and users, then the tenant itself.
pub(super) const TENANT_DELETIONS: Watching = Watching {
    name: "tenant_deletions",
    scan: |state| ids_of(state, Kind::Tenant),
    touched: |_, change| changed_of(change, Kind::Tenant),
    due: is_leaving,
    work,
};

/// One pass over all tenants.
pub fn tenant_deletions(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    TENANT_DELETIONS.pass(state, now, limits)
}

fn is_leaving(state: &State, tenant: ObjectId) -> bool {
    state.get(tenant).is_some_and(|tenant| {
        tenant.closed && decoded::<Tenant>(tenant).is_ok_and(|tenant| tenant.status.deleting)
    })
}

fn work(state: &State, now: Timestamp, limits: &Limits, leaving: &[ObjectId]) -> Vec<Changeset> {
    let leaving = leaving.iter().take(TENANTS_PER_PASS);
    each(state, now, limits, leaving, |draft, tenant| {
        step(draft, *tenant, limits.objects_per_changeset)
    })
}

/// True if nothing would be left hanging: a user group may have been given a role outside its tenant, and a host
/// that an instance rents is given back.
fn is_needed_by_no_other(state: &State, id: ObjectId) -> bool {
    let mut needing = state.linking_to(id).filter_map(|id| state.get(id));
    needing.all(|object| {
        matches!(
            Kind::of_name(&object.kind),
            Some(Kind::RoleBinding | Kind::Baremetal)
        )
    })
}

/// True for what outlives its tenant: operations can be looked up until their time is over, and bills are kept.
fn stays(object: &Object) -> bool {
    matches!(
        Kind::of_name(&object.kind),
        Some(Kind::Operation | Kind::BillingPeriod | Kind::BillingUsage)
    )
}

/// The bill says whose it was.
fn keep_bill(draft: &mut Draft<'_>, period: ObjectId) -> Result<(), Error> {
    let tenant = draft.get(period).and_then(|period| period.tenant);
    let tenant = tenant.and_then(|tenant| draft.get(tenant));
    draft.rewrite::<BillingPeriod>(period, |row, _, status| {
        row.tenant = None;
        if let Some(tenant) = tenant {
            status.former_tenant_id = Some(tenant.id);
            status.former_tenant_name = tenant.name.to_string();
        }
    })?;
    Ok(())
}

fn step(draft: &mut Draft<'_>, tenant: ObjectId, most: usize) -> Result<(), Error> {
    let state = draft.state;
    let of = |kind: Kind| {
        state
            .by_key(key::TENANT, &format!("{}/{tenant}", kind.name()), None)
            .take(most)
    };
    let vms: Vec<_> = of(Kind::VirtualMachine).collect();
    if !vms.is_empty() {
        for vm in vms {
            let typed = decoded::<VirtualMachine>(vm)?;
            if typed.status.phase != VmPhase::Deleting {
                delete_vm(draft, vm, None)?;
            }
        }
        return Ok(());
    }
    // Everything that refers to the tenant, whatever its kind: first what nothing else needs, so that what lies
    // within something goes before it. Users last, as bindings name them.
    let linked: Vec<&Object> = state
        .linking_to(tenant)
        .filter_map(|id| state.get(id))
        .filter(|object| object.kind != Kind::User.name())
        .filter(|object| stays(object) || is_needed_by_no_other(state, object.id))
        .take(most)
        .map(|object| &**object)
        .collect();
    if !linked.is_empty() {
        for object in linked {
            if object.kind == Kind::Instance.name() {
                draft.remove_instance(object)?;
                continue;
            }
            if !stays(object) {
                draft.delete_bindings_over(object.id)?;
                draft.delete(object.id);
                continue;
            }
            match Kind::of_name(&object.kind) {
                Some(Kind::BillingPeriod) => keep_bill(draft, object.id)?,
                Some(Kind::BillingUsage) => {
                    draft.rewrite::<BillingUsage>(object.id, |row, _, _| row.tenant = None)?;
                }
                _ => {
                    draft.rewrite::<Operation>(object.id, |row, _, _| row.tenant = None)?;
                }
            }
        }
        return Ok(());
    }
    let users: Vec<_> = of(Kind::User).collect();
    if !users.is_empty() {
        for user in users {
            let room = most.saturating_sub(draft.len());
            if room == 0 {
                break;
            }
            empty_user(draft, user.id, room)?;
        }
        return Ok(());
    }
    let Some(object) = draft.get(tenant) else {
        return Ok(());
    };
    draft.delete(tenant);
    draft.audit(&Entry {
        action: "tenant.deleted",
        object: &object,
        before: None,
        note: "nothing of it is left",
    });
    for operation in unfinished(state, tenant) {
        let done = End::Completed(format!("tenant `{}` and all it had is gone", object.name));
        draft.end(operation.id, &done)?;
    }
    Ok(())
}
