//! An instance or a VM in a set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A membership.
#[derive(Debug)]
pub enum InstanceSetMember {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceSetMemberSpec {
    /// The set.
    pub set_id: ObjectId,
    /// The VM, of the set's tenant. The membership goes when the VM goes. Of an instance that a VM realises it is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<ObjectId>,
    /// The instance, of the set's tenant. The membership goes when the instance goes. Of a VM that realises one it is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<ObjectId>,
    /// What it does in the set, for people.
    #[serde(default)]
    pub role: String,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InstanceSetMemberStatus {}

impl Resource for InstanceSetMember {
    const KIND: Kind = Kind::InstanceSetMember;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("set", Kind::InstanceSet),
            Reference::to("vm", Kind::VirtualMachine),
            Reference::to("instance", Kind::Instance),
        ],
        cascades: true,
        ..Rules::plain("An instance or a VM in a set")
    };
    type Spec = InstanceSetMemberSpec;
    type Status = InstanceSetMemberStatus;

    fn example() -> InstanceSetMemberSpec {
        InstanceSetMemberSpec {
            set_id: ObjectId::from_u128(1),
            vm_id: Some(ObjectId::from_u128(2)),
            instance_id: None,
            role: "front".into(),
        }
    }
    fn validate(spec: &InstanceSetMemberSpec) -> Result<(), Invalid> {
        if spec.vm_id.or(spec.instance_id).is_none() {
            return Err(Invalid::new("instance_id", "name an instance or a VM"));
        }
        Invalid::text("role", &spec.role, 64)
    }
    fn validate_update(
        old: &InstanceSetMemberSpec,
        new: &InstanceSetMemberSpec,
    ) -> Result<(), Invalid> {
        for (field, old, new) in [
            ("vm_id", old.vm_id, new.vm_id),
            ("instance_id", old.instance_id, new.instance_id),
        ] {
            if old != new {
                return Err(Invalid::new(field, "a membership stays with whom it is of"));
            }
        }
        Self::validate(new)
    }
    fn print(_: &Meta, spec: &InstanceSetMemberSpec, _: &Self::Status, print: &mut Print) {
        print.link(spec.vm_id).link(spec.instance_id);
        if let Some(member) = spec.vm_id.or(spec.instance_id) {
            let pair = format!("instance_set_member/{}/{member}", spec.set_id);
            print.claim(space::PAIR, pair);
        }
    }
}
