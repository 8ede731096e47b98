//! A disk of a tenant's own that outlives the VMs it is attached to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{Limit, ObjectId};

use crate::print::dimension;
use crate::recorded::{RecordedPhase, RecordedReason};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// VMs that one disk may be attached to.
const ATTACHMENTS_MAX: u64 = 64;

/// A disk.
#[derive(Debug)]
pub enum PrivateDataDisk {}

/// What it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskType {
    /// Whatever there is.
    #[default]
    Standard,
    /// Flash.
    Ssd,
    /// Flash behind NVMe.
    Nvme,
}

/// How many VMs may have it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareMode {
    /// One.
    #[default]
    Exclusive,
    /// Up to `max_attachments`.
    Shared,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateDataDiskSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What it is made of; stays.
    #[serde(default, rename = "type")]
    pub disk_type: DiskType,
    /// GiB, 1 to 65536, counted in the quota of storage. It only grows.
    pub size_gib: u64,
    /// How many VMs may have it at once.
    #[serde(default)]
    pub share_mode: ShareMode,
    /// The most VMs that may have it at once: 1 for an exclusive one, 1 to 64 for a shared one.
    #[serde(default = "one")]
    pub max_attachments: u32,
    /// The pool that keeps it; absent: any. Stays once named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_pool_id: Option<ObjectId>,
    /// The user group whose quota it takes, with that of all groups above; absent when the disk is made:
    /// the user's first. It does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group_id: Option<ObjectId>,
}

/// What is known of it: that it was asked for, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PrivateDataDiskStatus {
    /// How far it is.
    pub phase: RecordedPhase,
    /// Why it is no further.
    pub reason: RecordedReason,
    /// Whose user quota is charged; nobody's once that user is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged_user_id: Option<ObjectId>,
}

const fn one() -> u32 {
    1
}

impl Resource for PrivateDataDisk {
    const KIND: Kind = Kind::PrivateDataDisk;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[
            Reference::to("storage_pool", Kind::StoragePool),
            Reference::to("user_group", Kind::UserGroup),
        ],
        create: ByPeople::ByVerb,
        ..Rules::plain("A disk of a tenant's own that outlives the VMs it is attached to")
    };
    type Spec = PrivateDataDiskSpec;
    type Status = PrivateDataDiskStatus;

    fn example() -> PrivateDataDiskSpec {
        PrivateDataDiskSpec {
            description: "The database".into(),
            disk_type: DiskType::Ssd,
            size_gib: 100,
            share_mode: ShareMode::Exclusive,
            max_attachments: 1,
            storage_pool_id: None,
            user_group_id: None,
        }
    }

    fn validate(spec: &PrivateDataDiskSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        Invalid::outside("size_gib", spec.size_gib, 1, 65_536)?;
        let most = match spec.share_mode {
            ShareMode::Exclusive => 1,
            ShareMode::Shared => ATTACHMENTS_MAX,
        };
        Invalid::outside("max_attachments", u64::from(spec.max_attachments), 1, most)
    }

    fn validate_update(old: &PrivateDataDiskSpec, new: &PrivateDataDiskSpec) -> Result<(), Invalid> {
        if new.size_gib < old.size_gib {
            return Err(Invalid::new(
                "size_gib",
                format!("only grows: at least {}, not {}", old.size_gib, new.size_gib),
            ));
        }
        if old.disk_type != new.disk_type {
            return Err(Invalid::new("type", "stays: make another disk"));
        }
        if old.storage_pool_id.is_some() && old.storage_pool_id != new.storage_pool_id {
            return Err(Invalid::new("storage_pool_id", "stays: make another disk there"));
        }
        if old.user_group_id != new.user_group_id {
            return Err(Invalid::new(
                "user_group_id",
                "a disk does not change the user group whose quota it takes",
            ));
        }
        Self::validate(new)
    }

    /// The user and the user group, and with it every group above and the tenant, are charged; without a user
    /// group the tenant itself.
    fn print(
        meta: &Meta,
        spec: &PrivateDataDiskSpec,
        status: &PrivateDataDiskStatus,
        print: &mut Print,
    ) {
        print.link(spec.storage_pool_id).link(spec.user_group_id);
        print.link(status.charged_user_id);
        let shared = spec.user_group_id.or(meta.tenant);
        for owner in [shared, status.charged_user_id].into_iter().flatten() {
            print
                .charge(owner, dimension::STORAGE_GIB, spec.size_gib)
                .charge(owner, dimension::DISKS, 1);
        }
        let most = Limit::Fixed(u64::from(spec.max_attachments));
        print.account(dimension::ATTACHMENTS, most, None);
    }
}
