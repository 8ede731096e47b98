//! A snapshot of a VM, or of one of its disks. Hosts take none yet: what is asked for is recorded as pending.

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
    /// The one disk of the VM's that it is of, which stays as long as it is; absent: the whole VM. It does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_id: Option<ObjectId>,
    /// For people.
    #[serde(default)]
    pub description: String,
}

impl Resource for Snapshot {
    const KIND: Kind = Kind::Snapshot;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("vm", Kind::VirtualMachine),
            Reference::to("disk", Kind::PrivateDataDisk),
        ],
        ..Rules::plain("A snapshot of a VM or of one of its disks; recorded, not taken yet")
    };
    type Spec = SnapshotSpec;
    type Status = Recorded;

    fn example() -> SnapshotSpec {
        SnapshotSpec {
            vm_id: ObjectId::from_u128(1),
            disk_id: None,
            description: "Before the upgrade".into(),
        }
    }
    fn validate(spec: &SnapshotSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)
    }
    fn validate_update(old: &SnapshotSpec, new: &SnapshotSpec) -> Result<(), Invalid> {
        if old.disk_id != new.disk_id {
            return Err(Invalid::new("disk_id", "stays: take another snapshot"));
        }
        Self::validate(new)
    }
    fn print(_: &Meta, spec: &SnapshotSpec, _: &Recorded, print: &mut Print) {
        print.link(spec.disk_id);
    }
}
