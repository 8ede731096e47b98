//! Making a VM: its size, its name, and what it takes of its tenant's and its user's quota, at once; its
//! host later, by the placer.

use std::sync::Arc;

use serde_json::{Value, json};
use virtflow_model::kinds::virtual_machine::{VirtualMachineSpec, VirtualMachineStatus};
use virtflow_model::kinds::{VirtualMachine, VirtualMachineSpecification};
use virtflow_model::recorded::Recorded;
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_policy::Target;
use virtflow_state::Object;
use virtflow_types::{Error, ObjectId};

use super::create::{id_in, place};
use super::{Done, Outcome, images, parse_spec, references, user_groups};
use crate::door::Door;
use crate::draft::{Draft, Place};
use crate::explain::check_group_quota;
use crate::limits::OPERATION_MAX;
use crate::loops::demand_of;
use crate::operations::verb;
use crate::request::Create;
use crate::typed::decoded;

pub(crate) fn run<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    let place = place::<VirtualMachine>(door, create)?;
    let tenant = place.tenant.unwrap_or(ObjectId::NIL);
    let permission = Permission::new(Kind::VirtualMachine, Action::Create);
    let mut draft = door.draft(
        permission,
        &Target::new(Kind::VirtualMachine, vec![tenant]),
        || crate::door::forbidden(permission),
    )?;
    door.refuse_if_read_only(place.tenant)?;
    let mut spec = create.spec.clone();
    references::resolve(door, Kind::VirtualMachine, &mut spec, None, place.tenant)?;
    let (vm, operation) = make(door, &mut draft, place, spec)?;
    let action = verb::<VirtualMachine>("create");
    Ok((draft, Outcome::new(action, 202, vm).operation(operation)))
}

/// Makes a VM and the operation that ends when it runs. Whoever asks was admitted, the references are
/// resolved.
pub(crate) fn make(
    door: &Door<'_>,
    draft: &mut Draft<'_>,
    place: Place,
    mut spec: Value,
) -> Result<(Arc<Object>, Arc<Object>), Error> {
    let tenant = place.tenant.unwrap_or(ObjectId::NIL);
    fill_size(door, &mut spec)?;
    images::fill(door.state, &mut spec)?;
    user_groups::fill(door, &mut spec, tenant)?;
    let spec = parse_spec::<VirtualMachineSpec>(&spec)?;
    VirtualMachine::validate(&spec)?;
    let (cpu, memory, storage) = (spec.cpu_cores, spec.memory_mib, spec.storage_gib);
    images::check_size(door.state, spec.image_id, cpu, memory, storage)?;
    if let Some(group) = spec.group_id {
        // What can be told now is not left to the placer. The binding checks it again.
        check_group_quota(door.state, group, tenant, demand_of(&spec))?;
    }
    let status = VirtualMachineStatus {
        phase_since: door.cx.now,
        charged_user_id: door.cx.user_id(),
        image: spec.image_id.map(|_| Recorded::default()),
        ..VirtualMachineStatus::default()
    };
    let vm = draft.create::<VirtualMachine>(place, spec, status)?;
    let action = verb::<VirtualMachine>("create");
    let operation = draft.begin(&action, &vm, 0, "waits for a host", OPERATION_MAX)?;
    Ok((vm, operation))
}

/// A specification gives the sizes; then no others may be given.
fn fill_size(door: &Door<'_>, spec: &mut Value) -> Result<(), Error> {
    let Some(id) = id_in(spec, "specification_id") else {
        return Ok(());
    };
    let object = door
        .state
        .get(id)
        .ok_or_else(|| Error::not_found("virtual_machine_specification", &id.to_string()))?;
    let size = &decoded::<VirtualMachineSpecification>(object)?.spec;
    let sizes = [
        ("cpu_cores", json!(size.cpu_cores)),
        ("memory_mib", json!(size.memory_mib)),
        ("storage_gib", json!(size.storage_gib)),
        ("gpu_count", json!(size.gpu_count)),
    ];
    for (field, value) in sizes {
        // Nothing is asked for by nothing, said or not.
        let given = spec.get(field);
        let given = given.filter(|given| !given.is_null() && **given != json!(0));
        if given.is_some_and(|given| *given != value) {
            return Err(Error::invalid(
                format!("spec.{field}"),
                format!(
                    "the specification `{}` says {value}; leave it out, or leave out the specification",
                    object.name
                ),
            ));
        }
        spec[field] = value;
    }
    Ok(())
}
