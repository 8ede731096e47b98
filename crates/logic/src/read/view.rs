use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Baremetal, Tenant};
use virtflow_model::{Action, Kind, Permission, Resource, key};
use virtflow_policy::{Decision, Target, authorize};
use virtflow_state::{State, verify};
use virtflow_types::Error;

use crate::cx::Cx;
use crate::door::{Door, forbidden};
use crate::loops::overdue;
use crate::typed::decoded;
use crate::verify::verify_footprints;

/// Objects past their deadline that are told by name.
const OVERDUE_TOLD_MAX: usize = 20;

/// Hosts by liveness, VMs by phase, what is unfinished and what is late: for whoever may see all hosts.
pub fn cluster_view(state: &State, cx: &Cx) -> Result<Value, Error> {
    admit_system(state, cx, Permission::new(Baremetal::KIND, Action::Read))?;
    let mut hosts: BTreeMap<&str, u64> = BTreeMap::new();
    for host in state.of_kind(Kind::Baremetal.name(), None) {
        let liveness = decoded::<Baremetal>(host)?.status.liveness;
        *hosts.entry(liveness.name()).or_default() += 1;
    }
    let phases = [
        VmPhase::Pending,
        VmPhase::Creating,
        VmPhase::Starting,
        VmPhase::Running,
        VmPhase::Stopping,
        VmPhase::Stopped,
        VmPhase::Restarting,
        VmPhase::Deleting,
        VmPhase::Error,
        VmPhase::Unknown,
    ];
    let vms: BTreeMap<&str, usize> = phases
        .into_iter()
        .map(|phase| {
            (
                phase.name(),
                state.count_by_key(key::VM_PHASE, phase.name()),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let unfinished = |far: OperationState| state.count_by_key(key::OPERATION_STATE, far.name());
    let late = overdue(state, cx.now);
    let told: Vec<Value> = late
        .iter()
        .take(OVERDUE_TOLD_MAX)
        .filter_map(|id| state.get(*id))
        .map(|object| json!({"id": object.id, "kind": object.kind.as_str(), "name": object.name.as_str()}))
        .collect();
    Ok(json!({
        "hosts": hosts,
        "vms": vms,
        "residues": state.count_of_kind(Kind::Residue.name()),
        "operations": {
            "pending": unfinished(OperationState::Pending),
            "running": unfinished(OperationState::Running),
        },
        "overdue_count": late.len(),
        "overdue": told,
    }))
}

/// Re-derives every index, ledger and footprint from the rows and tells what differs.
pub fn verify_report(state: &State, cx: &Cx) -> Result<Value, Error> {
    admit_system(state, cx, Permission::new(Tenant::KIND, Action::Manage))?;
    let divergences: Vec<String> = verify(state)
        .iter()
        .map(ToString::to_string)
        .chain(verify_footprints(state).iter().map(ToString::to_string))
        .collect();
    let accounts: Vec<Value> = state
        .accounts()
        .filter(|(_, account)| account.used > 0)
        .take(1000)
        .map(|(key, account)| json!({"account": key.to_string(), "used": account.used}))
        .collect();
    Ok(json!({
        "index": state.index(),
        "digest": format!("{:032x}", state.digest()),
        "objects": state.object_count(),
        "accounts": state.accounts().count(),
        "accounts_in_use": accounts,
        "divergences": divergences,
    }))
}

pub(super) fn admit_system(state: &State, cx: &Cx, permission: Permission) -> Result<(), Error> {
    let door = Door::open(state, cx)?;
    let everything = Target::new(permission.kind, Vec::new());
    match authorize(&door.rights, permission, &everything) {
        Decision::Allowed => Ok(()),
        Decision::Forbidden { .. } | Decision::Invisible => Err(forbidden(permission)),
    }
}
