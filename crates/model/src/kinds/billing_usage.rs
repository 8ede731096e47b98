//! What a VM used in a billing period, and what that costs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use super::price::Billed;
use crate::decimal::Decimal;
use crate::print::space;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A usage.
#[derive(Debug)]
pub enum BillingUsage {}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BillingUsageSpec {
    /// The period.
    pub period_id: ObjectId,
    /// The VM; it may be gone by now.
    pub vm_id: ObjectId,
    /// Its name at the time.
    #[serde(default)]
    pub vm_name: String,
    /// What was used.
    pub dimension: Billed,
    /// How much of it, decimal as text; up to 9 digits before the point and 6 after.
    pub quantity: Decimal,
    /// From when.
    pub measured_from: Timestamp,
    /// Until when, itself not included.
    pub measured_until: Timestamp,
    /// The price that held at the beginning.
    pub price_id: ObjectId,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BillingUsageStatus {
    /// Quantity times price, exactly, in the period's currency.
    pub amount: Decimal,
}

impl Resource for BillingUsage {
    const KIND: Kind = Kind::BillingUsage;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("period", Kind::BillingPeriod),
            Reference::to("price", Kind::Price),
        ],
        create: ByPeople::Never("usage is metered, not typed in"),
        update: ByPeople::Never("what was metered stays"),
        delete: ByPeople::Never("what was metered stays"),
        ..Rules::plain("What a VM used in a billing period, and what that costs")
    };
    type Spec = BillingUsageSpec;
    type Status = BillingUsageStatus;

    fn example() -> BillingUsageSpec {
        BillingUsageSpec {
            period_id: ObjectId::from_u128(1),
            vm_id: ObjectId::from_u128(2),
            vm_name: "web-1".into(),
            dimension: Billed::CpuCoreHours,
            quantity: Decimal::default(),
            measured_from: Timestamp::EPOCH,
            measured_until: Timestamp::from_ms(3_600_000),
            price_id: ObjectId::from_u128(3),
        }
    }
    fn validate(spec: &BillingUsageSpec) -> Result<(), Invalid> {
        spec.quantity.check("quantity", 9)?;
        if spec.measured_until <= spec.measured_from {
            return Err(Invalid::new("measured_until", "must be later than measured_from"));
        }
        Invalid::text("vm_name", &spec.vm_name, 63)
    }
    /// The same hour of the same VM counts once. The VM is not linked: it goes, and its bill stays.
    fn print(_: &Meta, spec: &BillingUsageSpec, _: &Self::Status, print: &mut Print) {
        let (vm, what, from) = (spec.vm_id, spec.dimension.name(), spec.measured_from.ms());
        print
            .claim(space::PAIR, format!("billing_usage/{vm}/{what}/{from}"))
            .link(spec.price_id);
    }
}
