//! That a VM has a disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::{dimension, space};
use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// An attachment. Its parent is its disk.
#[derive(Debug)]
pub enum DiskAttachment {}

/// What the VM may do with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentMode {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read.
    ReadOnly,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskAttachmentSpec {
    /// The disk; stays.
    pub disk_id: ObjectId,
    /// The VM, of the same tenant; stays.
    pub vm_id: ObjectId,
    /// What the VM may do with it.
    #[serde(default)]
    pub mode: AttachmentMode,
    /// Where its guest may mount it: an absolute path, for the guest to follow or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path_hint: Option<String>,
}

impl Resource for DiskAttachment {
    const KIND: Kind = Kind::DiskAttachment;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("disk", Kind::PrivateDataDisk),
            Reference::to("vm", Kind::VirtualMachine),
        ],
        ..Rules::plain("That a VM has a disk")
    };
    type Spec = DiskAttachmentSpec;
    type Status = Recorded;

    fn example() -> DiskAttachmentSpec {
        DiskAttachmentSpec {
            disk_id: ObjectId::from_u128(1),
            vm_id: ObjectId::from_u128(2),
            mode: AttachmentMode::ReadWrite,
            mount_path_hint: Some("/srv/data".into()),
        }
    }

    fn validate(spec: &DiskAttachmentSpec) -> Result<(), Invalid> {
        let Some(path) = &spec.mount_path_hint else {
            return Ok(());
        };
        Invalid::text("mount_path_hint", path, 1024)?;
        if path.starts_with('/') {
            Ok(())
        } else {
            Err(Invalid::new("mount_path_hint", format!("`{path}` is no absolute path")))
        }
    }

    fn validate_update(old: &DiskAttachmentSpec, new: &DiskAttachmentSpec) -> Result<(), Invalid> {
        if old.vm_id != new.vm_id {
            return Err(Invalid::new("vm_id", "stays: delete the attachment and make another one"));
        }
        Self::validate(new)
    }

    fn print(_: &Meta, spec: &DiskAttachmentSpec, _: &Recorded, print: &mut Print) {
        print.claim(
            space::PAIR,
            format!("attachment/{}/{}", spec.vm_id, spec.disk_id),
        );
        print.link(spec.vm_id);
        print.charge(spec.disk_id, dimension::ATTACHMENTS, 1);
    }
}
