//! Making a set: empty, or with as many instances as it asks for, all of one template and all in the same step.

use serde_json::json;
use virtflow_model::kinds::instance_set::InstanceSetStatus;
use virtflow_model::kinds::instance_set_member::{InstanceSetMemberSpec, InstanceSetMemberStatus};
use virtflow_model::kinds::template::TemplateType;
use virtflow_model::kinds::{Instance, InstanceSet, InstanceSetMember};
use virtflow_model::{Action, Kind, Permission};
use virtflow_policy::Target;
use virtflow_types::{Error, Name};

use super::{Done, create, instance};
use crate::audit::Entry;
use crate::door::{Door, forbidden};
use crate::draft::Place;
use crate::explain::call;
use crate::operations::verb;
use crate::request::Create;
use crate::typed::decoded;

/// All or none: where a quota, a name or a right is in the way of one instance, there is no set either. Each instance has
/// an operation of its own, as when it is made alone.
pub(crate) fn create<'a>(door: &Door<'a>, asked: &Create) -> Done<'a> {
    let (mut draft, outcome) =
        create::make::<InstanceSet>(door, asked, |_, _, _| Ok(InstanceSetStatus::default()))?;
    let set = outcome.object.clone();
    let spec = &decoded::<InstanceSet>(&set)?.spec;
    if spec.template_version_id.is_none() {
        return Ok((draft, outcome));
    }
    let permission = Permission::new(Kind::Instance, Action::Create);
    let target = Target::new(Kind::Instance, set.tenant.into_iter().collect());
    door.admit(permission, &target, || forbidden(permission))?;
    for number in 1..=spec.count {
        let name = format!("{}-{number}", set.name);
        let name = Name::new(&name).map_err(|error| {
            let problem = format!("the instance `{name}` cannot be called so: {error}");
            Error::invalid("name", problem).advise("give the set a shorter name")
        })?;
        let place = Place {
            id: None,
            name: name.as_str().into(),
            tenant: set.tenant,
            parent: None,
        };
        let one = json!({
            "template_id": spec.template_id,
            "template_version_id": spec.template_version_id,
            "group_id": spec.group_id,
            "user_group_id": spec.user_group_id,
        });
        let made = instance::make(door, &mut draft, place, one, TemplateType::InstanceSet)?;
        draft.audit(&Entry {
            action: &verb::<Instance>("create"),
            object: &made.object,
            before: None,
            note: &format!("with {}", call(&set)),
        });
        let member = InstanceSetMemberSpec {
            set_id: set.id,
            vm_id: decoded::<Instance>(&made.object)?.status.vm_id,
            instance_id: Some(made.object.id),
            role: String::new(),
        };
        let place = Place {
            id: None,
            name: "".into(),
            tenant: set.tenant,
            parent: Some(set.id),
        };
        draft.create::<InstanceSetMember>(place, member, InstanceSetMemberStatus::default())?;
    }
    Ok((draft, outcome))
}
