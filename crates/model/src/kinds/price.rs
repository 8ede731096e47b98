//! What a unit of something costs from a moment on. A price never changes: a new one follows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::Timestamp;

use crate::decimal::Decimal;
use crate::print::{key, space};
use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope, checks};

/// A price.
#[derive(Debug)]
pub enum Price {}

/// What is billed, with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    /// One vCPU for an hour.
    CpuCoreHours,
    /// One GiB of memory for an hour.
    MemoryGibHours,
    /// One GiB of storage for an hour.
    StorageGibHours,
    /// One GPU for an hour.
    GpuHours,
}

impl Billed {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::CpuCoreHours, Self::MemoryGibHours, Self::StorageGibHours, Self::GpuHours];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuCoreHours => "cpu_core_hours",
            Self::MemoryGibHours => "memory_gib_hours",
            Self::StorageGibHours => "storage_gib_hours",
            Self::GpuHours => "gpu_hours",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceSpec {
    /// What is billed.
    pub dimension: Billed,
    /// Three letters: `EUR`.
    pub currency: String,
    /// Of one unit, decimal as text; up to 7 digits before the point and 6 after.
    pub amount: Decimal,
    /// From when on it holds, until a later one does.
    pub valid_from: Timestamp,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PriceStatus {}

/// Where a price stands in the index of prices: those of a dimension and currency by time.
#[must_use]
pub fn price_key(dimension: Billed, currency: &str, from: Timestamp) -> String {
    format!("{}/{currency}/{:015}", dimension.name(), from.ms())
}

impl Resource for Price {
    const KIND: Kind = Kind::Price;
    const SCOPE: Scope = Scope::System;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        shared: true,
        ..Rules::plain("What a unit of something costs from a moment on")
    };
    type Spec = PriceSpec;
    type Status = PriceStatus;

    fn example() -> PriceSpec {
        PriceSpec {
            dimension: Billed::CpuCoreHours,
            currency: "EUR".into(),
            amount: Decimal::default(),
            valid_from: Timestamp::EPOCH,
            description: String::new(),
        }
    }
    fn validate(spec: &PriceSpec) -> Result<(), Invalid> {
        checks::currency("currency", &spec.currency)?;
        spec.amount.check("amount", 7)?;
        Invalid::text("description", &spec.description, 1024)
    }
    fn validate_update(old: &PriceSpec, new: &PriceSpec) -> Result<(), Invalid> {
        let description = new.description.clone();
        if (PriceSpec { description, ..old.clone() }) != *new {
            let problem = "a price does not change; make one that is valid from later on";
            return Err(Invalid::new("amount", problem));
        }
        Self::validate(new)
    }
    fn print(_: &Meta, spec: &PriceSpec, _: &PriceStatus, print: &mut Print) {
        let at = price_key(spec.dimension, &spec.currency, spec.valid_from);
        print.claim(space::PAIR, format!("price/{at}")).key(key::PRICE, at);
    }
}
