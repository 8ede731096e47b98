//! How much of a group of hosts a tenant may take. Without one, a tenant takes nothing of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{AccountKey, Limit, ObjectId};

use crate::print::{dimension, space};
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A quota of (group, tenant).
#[derive(Debug)]
pub enum BaremetalGroupTenantQuota {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaremetalGroupTenantQuotaSpec {
    /// The group.
    pub group_id: ObjectId,
    /// The tenant.
    pub tenant_id: ObjectId,
    /// Share of the group's schedulable CPU, in percent with up to four decimals.
    pub cpu_quota_percentage: f64,
    /// MiB.
    pub memory_mib: u64,
    /// GiB.
    pub storage_gib: u64,
    /// Whole GPUs; absent: as many as the group has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u64>,
}

impl BaremetalGroupTenantQuotaSpec {
    /// The CPU share in parts per million, as it is counted.
    pub fn cpu_ppm(&self) -> u64 {
        // Validated to lie within 0 and 100, so the product fits and is not negative.
        #[expect(clippy::cast_possible_truncation, reason = "0 to 1,000,000")]
        {
            (self.cpu_quota_percentage * 10_000.0).round() as u64
        }
    }
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BaremetalGroupTenantQuotaStatus {}

impl Resource for BaremetalGroupTenantQuota {
    const KIND: Kind = Kind::BaremetalGroupTenantQuota;
    const SCOPE: Scope = Scope::System;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::within("group", Kind::BaremetalGroup),
            Reference::to("tenant", Kind::Tenant),
        ],
        ..Rules::plain("How much of a group a tenant may take")
    };
    type Spec = BaremetalGroupTenantQuotaSpec;
    type Status = BaremetalGroupTenantQuotaStatus;

    fn example() -> Self::Spec {
        BaremetalGroupTenantQuotaSpec {
            group_id: ObjectId::from_u128(1),
            tenant_id: ObjectId::from_u128(2),
            cpu_quota_percentage: 12.5,
            memory_mib: 65_536,
            storage_gib: 1024,
            gpus: Some(4),
        }
    }
    fn validate(spec: &Self::Spec) -> Result<(), Invalid> {
        let percent = spec.cpu_quota_percentage;
        // What is counted is millionths: more decimals would be shown and not hold.
        let has_four_decimals = format!("{percent:.4}").parse() == Ok(percent);
        if (0.0..=100.0).contains(&percent) && has_four_decimals {
            Ok(())
        } else {
            Err(Invalid::new(
                "cpu_quota_percentage",
                format!("must be 0 to 100 with up to four decimals, not {percent}"),
            ))
        }
    }
    fn validate_update(old: &Self::Spec, new: &Self::Spec) -> Result<(), Invalid> {
        if (old.group_id, old.tenant_id) == (new.group_id, new.tenant_id) {
            Self::validate(new)
        } else {
            Err(Invalid::new("group_id", "a quota stays with its group and tenant"))
        }
    }
    fn print(_: &Meta, spec: &Self::Spec, _: &Self::Status, print: &mut Print) {
        print.claim(
            space::PAIR,
            format!("quota/{}/{}", spec.group_id, spec.tenant_id),
        );
        print.link(spec.group_id).link(spec.tenant_id);
        let share = Limit::Share {
            of: AccountKey::new(spec.group_id, dimension::CPU_MILLI),
            ppm: spec.cpu_ppm(),
        };
        print
            .account(dimension::CPU_MILLI, share, None)
            .account(dimension::MEMORY_MIB, Limit::Fixed(spec.memory_mib), None)
            .account(dimension::STORAGE_GIB, Limit::Fixed(spec.storage_gib), None)
            .account(dimension::GPUS, spec.gpus.map_or(Limit::Unlimited, Limit::Fixed), None);
    }
}
