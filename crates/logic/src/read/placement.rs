use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::kinds::VirtualMachine;
use virtflow_model::{Action, Kind, Permission};
use virtflow_scheduler::Request;
use virtflow_state::State;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::cx::Cx;
use crate::door::Door;
use crate::loops::{Placer, demand_of, nowhere, rooms};
use crate::typed::decoded;

/// Where a VM is, or why it is nowhere: the hosts that could have taken it, at most a thousand of them by name,
/// what refused it there, and what it is short by.
pub fn placement(state: &State, cx: &Cx, vm: &str, tenant: Option<&str>) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let tenant = door.tenant(tenant)?;
    let vm = door.find(Kind::VirtualMachine, vm, tenant)?;
    let typed = decoded::<VirtualMachine>(&vm)?;
    if let Some(at) = &typed.status.placement {
        let name = |id| state.get(id).map_or("", |object| object.name.as_str());
        return Ok(json!({
            "vm_id": vm.id,
            "placed": true,
            "host_id": at.host_id,
            "host": name(at.host_id),
            "group_id": at.group_id,
            "group": name(at.group_id),
            "placed_at": at.placed_at,
            "placement_epoch": typed.status.placement_epoch,
        }));
    }
    let placer = Placer::new(state);
    let rooms = rooms(
        state,
        placer.inventory(),
        &vm,
        &typed.spec,
        &BTreeMap::new(),
    );
    let request = Request {
        pinned: typed.spec.pinned_host_id,
        ..Request::new(demand_of(&typed.spec), &rooms)
    };
    let nowhere = nowhere(state, placer.inventory(), &vm, &typed.spec, &request);
    Ok(json!({
        "vm_id": vm.id,
        "placed": false,
        "reason": nowhere.reason,
        "message": nowhere.error.message,
        "refused": nowhere.refused(),
        "hosts": nowhere.hosts(state, |id| state.get(id).is_some_and(|host| door.sees(host))),
        "host_count": nowhere.host_count(),
    }))
}

/// Which console a VM's output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleTarget {
    /// The VM.
    pub vm_id: ObjectId,
    /// Its host.
    pub host_id: ObjectId,
    /// The binding that is meant.
    pub placement_epoch: u64,
}

/// Lets somebody look at a VM's console.
pub fn console_of(
    state: &State,
    cx: &Cx,
    vm: &str,
    tenant: Option<&str>,
) -> Result<ConsoleTarget, Error> {
    let door = Door::open(state, cx)?;
    let tenant = door.tenant(tenant)?;
    let object = door.find(Kind::VirtualMachine, vm, tenant)?;
    let execute = Permission::new(Kind::VirtualMachine, Action::Execute);
    door.admit(execute, &door.target_of(&object), || {
        Error::not_found(Kind::VirtualMachine.name(), vm)
    })?;
    let typed = decoded::<VirtualMachine>(&object)?;
    match &typed.status.placement {
        Some(at) => Ok(ConsoleTarget {
            vm_id: object.id,
            host_id: at.host_id,
            placement_epoch: typed.status.placement_epoch,
        }),
        None => Err(Error::new(
            ErrorCode::Conflict,
            format!("VM `{}` is on no host, so it has no console", object.name),
        )
        .advise("wait until it is placed: `virtflow vm get` says what it waits for")),
    }
}
