//! Making and ending an instance: its VM is made in the same step, and takes the instance along when it goes.

use serde_json::{Value, json};
use virtflow_model::kinds::instance::{InstanceSpec, InstanceStatus};
use virtflow_model::kinds::template::TemplateState;
use virtflow_model::kinds::{Instance, Template, TemplateVersion};
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_policy::Target;
use virtflow_types::{Error, ErrorCode};

use super::create::{id_in, place};
use super::delete::find;
use super::rules::latest_of;
use super::{Done, Outcome, parse_spec, references, vm_create, vm_delete};
use crate::door::Door;
use crate::explain::call;
use crate::operations::verb;
use crate::request::{Create, Delete};
use crate::typed::decoded;

pub(crate) fn create<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    let place = place::<Instance>(door, create)?;
    let permission = Permission::new(Kind::Instance, Action::Create);
    let target = Target::new(Kind::Instance, place.tenant.into_iter().collect());
    let mut draft = door.draft(permission, &target, || crate::door::forbidden(permission))?;
    door.refuse_if_read_only(place.tenant)?;
    let mut spec = create.spec.clone();
    references::resolve(door, Kind::Instance, &mut spec, None, place.tenant)?;
    take_latest(door, &mut spec)?;
    let spec: InstanceSpec = parse_spec(&spec)?;
    Instance::validate(&spec)?;
    let vm = vm_spec(door, &spec)?;
    let (vm, operation) = vm_create::make(door, &mut draft, place.clone(), vm)?;
    let status = InstanceStatus { vm_id: Some(vm.id) };
    let instance = draft.create::<Instance>(place, spec, status)?;
    let action = verb::<Instance>("create");
    let outcome = Outcome::new(action, 202, instance).operation(operation);
    Ok((draft, outcome))
}

/// A template without a version stands for its latest.
fn take_latest(door: &Door<'_>, spec: &mut Value) -> Result<(), Error> {
    let Some(template) = id_in(spec, "template_id") else {
        return Ok(());
    };
    let named = id_in(spec, "template_version_id").and_then(|id| door.state.get(id));
    if let Some(version) = named {
        if version.parent == Some(template) {
            return Ok(());
        }
        return Err(Error::invalid(
            "spec.template_version",
            format!("version `{}` is of another template", version.name),
        ));
    }
    let latest = latest_of(door.state, template).ok_or_else(|| {
        Error::invalid("spec.template", "has no version yet").advise("make a version of it first")
    })?;
    spec["template_version_id"] = latest.id.to_string().into();
    Ok(())
}

/// The VM that realises it.
fn vm_spec(door: &Door<'_>, spec: &InstanceSpec) -> Result<Value, Error> {
    let mut vm = json!({});
    if let Some(group) = spec.group_id {
        vm["group_id"] = group.to_string().into();
    }
    let version = spec.template_version_id.and_then(|id| door.state.get(id));
    let Some(version) = version else {
        vm["specification_id"] = json!(spec.specification_id);
        return Ok(vm);
    };
    let template = version.parent.and_then(|id| door.state.get(id));
    if let Some(template) = template
        && decoded::<Template>(template)?.spec.state != TemplateState::Active
    {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("{} is not active: it gets no new instances", call(template)),
        )
        .advise("name another template"));
    }
    let size = &decoded::<TemplateVersion>(version)?.spec;
    if size.gpu_count > 0 {
        return Err(Error::invalid(
            "spec.template_version",
            format!("{} asks for GPUs, which no VM is given yet", call(version)),
        )
        .advise("name a version without GPUs"));
    }
    vm["cpu_cores"] = size.cpu_cores.into();
    vm["memory_mib"] = size.memory_mib.into();
    vm["storage_gib"] = size.storage_gib.into();
    Ok(vm)
}

/// The instance goes when its VM is gone.
pub(crate) fn delete<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (instance, mut draft) = find(door, delete, Action::Delete)?;
    door.refuse_if_read_only(instance.tenant)?;
    let action = verb::<Instance>("delete");
    let vm = decoded::<Instance>(&instance)?.status.vm_id;
    let Some(vm) = vm.and_then(|id| door.state.get(id)).cloned() else {
        draft.delete(instance.id);
        return Ok((draft, Outcome::new(action, 200, instance).gone()));
    };
    vm_delete::refuse_while_needed(&draft, &vm, Some(instance.id))?;
    let (draft, mut outcome) = vm_delete::begin(door, draft, vm)?;
    outcome.action = action;
    outcome.object = instance;
    Ok((draft, outcome))
}
