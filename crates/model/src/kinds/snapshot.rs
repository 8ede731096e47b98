//! A snapshot of a VM. Hosts take none yet: what is asked for is recorded as pending.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A snapshot.
#[derive(Debug)]
pub enum Snapshot {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// The VM.
    pub vm_id: ObjectId,
    /// For people.
    #[serde(default)]
    pub description: String,
}

impl Resource for Snapshot {
    const KIND: Kind = Kind::Snapshot;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::under("vm", Kind::VirtualMachine)],
        ..Rules::plain("A snapshot of a VM; recorded, not taken yet")
    };
    type Spec = SnapshotSpec;
    type Status = Recorded;

    fn example() -> SnapshotSpec {
        SnapshotSpec {
            vm_id: ObjectId::from_u128(1),
            description: "Before the upgrade".into(),
        }
    }
    fn validate(spec: &SnapshotSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)
    }
    fn print(_: &Meta, _: &SnapshotSpec, _: &Recorded, _: &mut Print) {}
}
