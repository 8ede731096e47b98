//! Making and ending an instance: its VM is made in the same step, and takes the instance along when it goes; or it
//! rents a whole host, and gives it back.

use serde_json::{Value, json};
use virtflow_model::kinds::baremetal::Rental;
use virtflow_model::kinds::instance::{InstanceSpec, InstanceStatus};
use virtflow_model::kinds::template::{TemplateState, TemplateType};
use virtflow_model::kinds::{Instance, Template, TemplateVersion, VirtualMachineSpecification};
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_policy::Target;
use virtflow_scheduler::Amounts;
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::create::{id_in, place};
use super::delete::find;
use super::rules::latest_of;
use super::{Done, Outcome, images, parse_spec, references, user_groups, vm_create, vm_delete};
use crate::door::Door;
use crate::draft::{Draft, Place};
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
    let outcome = make(door, &mut draft, place, spec, TemplateType::Instance)?;
    Ok((draft, outcome))
}

/// Makes an instance, and what realises it. Whoever asks was admitted, the references are resolved; a template has to
/// be of that type.
pub(super) fn make(
    door: &Door<'_>,
    draft: &mut Draft<'_>,
    place: Place,
    mut spec: Value,
    of: TemplateType,
) -> Result<Outcome, Error> {
    take_latest(door, &mut spec)?;
    user_groups::fill(door, &mut spec, place.tenant.unwrap_or(ObjectId::NIL))?;
    let spec: InstanceSpec = parse_spec(&spec)?;
    Instance::validate(&spec)?;
    let size = size_of(door, &spec, of)?;
    match spec.rental {
        Rental::Shared => make_vm(door, draft, place, spec, &size),
        Rental::Exclusive => {
            let instance = draft.rent(door, place, spec, size.demand())?;
            Ok(Outcome::new(verb::<Instance>("create"), 201, instance))
        }
    }
}

/// How large what realises it is at least, and what it begins as.
#[derive(Debug)]
struct Size {
    cpu_cores: u32,
    memory_mib: u64,
    storage_gib: u64,
    gpu_count: u32,
    image_id: Option<ObjectId>,
    image_version_id: Option<ObjectId>,
}

impl Size {
    fn demand(&self) -> Amounts {
        [
            u64::from(self.cpu_cores) * 1000,
            self.memory_mib,
            self.storage_gib,
            u64::from(self.gpu_count),
        ]
    }
}

fn make_vm(
    door: &Door<'_>,
    draft: &mut Draft<'_>,
    place: Place,
    spec: InstanceSpec,
    size: &Size,
) -> Result<Outcome, Error> {
    let mut vm = match spec.specification_id {
        Some(id) => json!({"specification_id": id}),
        None => json!({
            "cpu_cores": size.cpu_cores,
            "memory_mib": size.memory_mib,
            "storage_gib": size.storage_gib,
            "gpu_count": size.gpu_count,
            "image_id": size.image_id,
            "image_version_id": size.image_version_id,
        }),
    };
    if let Some(group) = spec.group_id {
        vm["group_id"] = json!(group);
    }
    if let Some(group) = spec.user_group_id {
        vm["user_group_id"] = json!(group);
    }
    if !spec.labels.is_empty() {
        vm["labels"] = json!(spec.labels);
    }
    let (vm, operation) = vm_create::make(door, draft, place.clone(), vm)?;
    let status = InstanceStatus {
        vm_id: Some(vm.id),
        ..InstanceStatus::default()
    };
    let instance = draft.create::<Instance>(place, spec, status)?;
    Ok(Outcome::new(verb::<Instance>("create"), 202, instance).operation(operation))
}

/// A template without a version stands for its latest.
pub(super) fn take_latest(door: &Door<'_>, spec: &mut Value) -> Result<(), Error> {
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

fn size_of(door: &Door<'_>, spec: &InstanceSpec, of: TemplateType) -> Result<Size, Error> {
    let version = spec.template_version_id.and_then(|id| door.state.get(id));
    let Some(version) = version else {
        let named = spec.specification_id.and_then(|id| door.state.get(id));
        let named = named.ok_or_else(|| Error::invalid("spec.specification", "is not there"))?;
        if named.closed {
            let message = format!("{} is deprecated: nothing new is made from it", call(named));
            return Err(Error::new(ErrorCode::Conflict, message).advise("name another"));
        }
        let size = &decoded::<VirtualMachineSpecification>(named)?.spec;
        return Ok(Size {
            cpu_cores: size.cpu_cores,
            memory_mib: size.memory_mib,
            storage_gib: size.storage_gib,
            gpu_count: size.gpu_count,
            image_id: None,
            image_version_id: None,
        });
    };
    if let Some(template) = version.parent.and_then(|id| door.state.get(id)) {
        let spec = &decoded::<Template>(template)?.spec;
        if spec.state != TemplateState::Active {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("{} is not active: it gets no new instances", call(template)),
            )
            .advise("name another template"));
        }
        if spec.template_type != of {
            let (problem, advice) = match of {
                TemplateType::Instance => (
                    "is one of instance sets: no single instance is made of it",
                    "name a template of the type `instance`, or make an instance set of this one",
                ),
                TemplateType::InstanceSet => (
                    "is one of single instances: no set is made of it",
                    "name a template of the type `instance_set`, or make instances of this one",
                ),
            };
            let problem = format!("{} {problem}", call(template));
            return Err(Error::invalid("spec.template", problem).advise(advice));
        }
    }
    let size = &decoded::<TemplateVersion>(version)?.spec;
    images::refuse_unseen(door, size.image_id)?;
    Ok(Size {
        cpu_cores: size.cpu_cores,
        memory_mib: size.memory_mib,
        storage_gib: size.storage_gib,
        gpu_count: size.gpu_count,
        image_id: size.image_id,
        image_version_id: size.image_version_id,
    })
}

/// The instance goes when its VM is gone; one that rents a host goes at once, and gives it back.
pub(crate) fn delete<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (instance, mut draft) = find(door, delete, Action::Delete)?;
    door.refuse_if_read_only(instance.tenant)?;
    let action = verb::<Instance>("delete");
    let vm = decoded::<Instance>(&instance)?.status.vm_id;
    let Some(vm) = vm.and_then(|id| door.state.get(id)).cloned() else {
        draft.remove_instance(&instance)?;
        return Ok((draft, Outcome::new(action, 200, instance).gone()));
    };
    vm_delete::refuse_while_needed(&draft, &vm, Some(instance.id))?;
    let (draft, mut outcome) = vm_delete::begin(door, draft, vm)?;
    outcome.action = action;
    outcome.object = instance;
    Ok((draft, outcome))
}
