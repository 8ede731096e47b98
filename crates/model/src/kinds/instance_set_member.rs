//! A VM in a set.

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
    /// The VM, of the set's tenant. The membership goes when the VM goes.
    pub vm_id: ObjectId,
    /// What the VM does in the set, for people.
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
        ],
        cascades: true,
        ..Rules::plain("A VM in a set")
    };
    type Spec = InstanceSetMemberSpec;
    type Status = InstanceSetMemberStatus;

    fn example() -> InstanceSetMemberSpec {
        InstanceSetMemberSpec {
            set_id: ObjectId::from_u128(1),
            vm_id: ObjectId::from_u128(2),
            role: "front".into(),
        }
    }
    fn validate(spec: &InstanceSetMemberSpec) -> Result<(), Invalid> {
        Invalid::text("role", &spec.role, 64)
    }
    fn validate_update(
        old: &InstanceSetMemberSpec,
        new: &InstanceSetMemberSpec,
    ) -> Result<(), Invalid> {
        if old.vm_id != new.vm_id {
            return Err(Invalid::new("vm_id", "a membership stays with its VM"));
        }
        Self::validate(new)
    }
    fn print(_: &Meta, spec: &InstanceSetMemberSpec, _: &Self::Status, print: &mut Print) {
        let pair = format!("instance_set_member/{}/{}", spec.set_id, spec.vm_id);
        print.claim(space::PAIR, pair).link(spec.vm_id);
    }
}
