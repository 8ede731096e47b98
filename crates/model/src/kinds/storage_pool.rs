//! Where disks and images are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use super::ip_pool::PoolState;
use crate::recorded::{RecordedPhase, RecordedReason};
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// Monitors of one Ceph cluster.
const CEPH_MONITORS_MAX: usize = 9;

/// A storage pool. Its parent is its data centre.
#[derive(Debug)]
pub enum StoragePool {}

/// What keeps the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StorageBackend {
    /// A folder on each host.
    #[default]
    Directory,
    /// A volume group on each host.
    Lvm,
    /// A Ceph cluster's block devices.
    CephRbd,
}

impl StorageBackend {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Lvm => "lvm",
            Self::CephRbd => "ceph_rbd",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoragePoolSpec {
    /// The data centre it is in; stays.
    pub data_center_id: ObjectId,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What keeps the bytes; stays.
    pub backend: StorageBackend,
    /// For `directory`: the absolute path of the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For `lvm`: the volume group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_group: Option<String>,
    /// For `ceph_rbd`: the Ceph pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceph_pool: Option<String>,
    /// For `ceph_rbd`: the monitors as `host` or `host:port`, 1 to 9.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceph_monitors: Vec<String>,
    /// Administrative state.
    #[serde(default)]
    pub state: PoolState,
}

/// What was seen of it: nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StoragePoolStatus {
    /// Where it is in its life.
    #[serde(default)]
    pub phase: RecordedPhase,
    /// Why it is not further.
    #[serde(default)]
    pub reason: RecordedReason,
    /// GiB, as its backend reported it; absent: not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_gib: Option<u64>,
}

impl StoragePoolSpec {
    /// Each backend's own fields are there, and no other's.
    fn validate_backend(&self) -> Result<(), Invalid> {
        use StorageBackend::{CephRbd, Directory, Lvm};
        let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let fields = [
            ("path", Directory, self.path.is_some(), has(&self.path)),
            ("volume_group", Lvm, self.volume_group.is_some(), has(&self.volume_group)),
            ("ceph_pool", CephRbd, self.ceph_pool.is_some(), has(&self.ceph_pool)),
            (
                "ceph_monitors",
                CephRbd,
                !self.ceph_monitors.is_empty(),
                !self.ceph_monitors.is_empty(),
            ),
        ];
        for (field, backend, is_there, has_value) in fields {
            if backend == self.backend && !has_value {
                return Err(Invalid::new(field, format!("is missing: the backend {} needs it", backend.name())));
            }
            if backend != self.backend && is_there {
                return Err(Invalid::new(
                    field,
                    format!("is for the backend {}, not for {}", backend.name(), self.backend.name()),
                ));
            }
        }
        Ok(())
    }
}

impl Resource for StoragePool {
    const KIND: Kind = Kind::StoragePool;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        references: &[Reference::under("data_center", Kind::DataCenter)],
        shared: true,
        ..Rules::plain("Where disks and images are kept")
    };
    type Spec = StoragePoolSpec;
    type Status = StoragePoolStatus;

    fn example() -> StoragePoolSpec {
        StoragePoolSpec {
            data_center_id: ObjectId::from_u128(1),
            description: String::new(),
            backend: StorageBackend::CephRbd,
            path: None,
            volume_group: None,
            ceph_pool: Some("private-data-disks".into()),
            ceph_monitors: vec!["10.0.0.21:6789".into()],
            state: PoolState::Active,
        }
    }

    fn validate(spec: &StoragePoolSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Invalid::text("path", &text(&spec.path), 1024)?;
        Invalid::text("volume_group", &text(&spec.volume_group), 127)?;
        Invalid::text("ceph_pool", &text(&spec.ceph_pool), 127)?;
        if spec.ceph_monitors.len() > CEPH_MONITORS_MAX {
            return Err(Invalid::new(
                "ceph_monitors",
                format!("at most {CEPH_MONITORS_MAX} are allowed, not {}", spec.ceph_monitors.len()),
            ));
        }
        for monitor in &spec.ceph_monitors {
            Invalid::text("ceph_monitors", monitor, 255)?;
            if monitor.is_empty() || monitor.contains(char::is_whitespace) {
                return Err(Invalid::new("ceph_monitors", format!("`{monitor}` is no host")));
            }
        }
        spec.validate_backend()?;
        let is_absolute = |path: &String| path.starts_with('/') && !path.split('/').any(|part| part == "..");
        match &spec.path {
            Some(path) if !is_absolute(path) => {
                Err(Invalid::new("path", format!("`{path}` is no absolute path without `..`")))
            }
            _ => Ok(()),
        }
    }

    fn validate_update(old: &StoragePoolSpec, new: &StoragePoolSpec) -> Result<(), Invalid> {
        if old.backend != new.backend {
            return Err(Invalid::new("backend", "stays: what is kept there would be lost; make another pool"));
        }
        Self::validate(new)
    }

    fn print(_: &Meta, _: &StoragePoolSpec, _: &StoragePoolStatus, _: &mut Print) {}
}
