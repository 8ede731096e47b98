//! A month of a tenant's bills. Once closed, nothing in it ever changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope, checks};

/// A billing period.
#[derive(Debug)]
pub enum BillingPeriod {}

/// Whether it takes usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeriodState {
    /// It does.
    #[default]
    Open,
    /// It never changes again.
    Closed,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BillingPeriodSpec {
    /// The month in UTC, `2026-11`; one of each tenant.
    pub period: String,
    /// Currency of all that is billed in it, three letters: `EUR`.
    pub currency: String,
    /// Whether it takes usage; closing it is final.
    #[serde(default)]
    pub state: PeriodState,
}

/// Whose it was, once the tenant is gone: bills outlive it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BillingPeriodStatus {
    /// The former tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_tenant_id: Option<ObjectId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub former_tenant_name: String,
}

impl Resource for BillingPeriod {
    const KIND: Kind = Kind::BillingPeriod;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules::plain("A month of a tenant's bills");
    type Spec = BillingPeriodSpec;
    type Status = BillingPeriodStatus;

    fn example() -> BillingPeriodSpec {
        BillingPeriodSpec {
            period: "2026-11".into(),
            currency: "EUR".into(),
            state: PeriodState::Open,
        }
    }
    fn validate(spec: &BillingPeriodSpec) -> Result<(), Invalid> {
        let sound = spec.period.split_once('-').is_some_and(|(year, month)| {
            let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
            digits(year, 4) && digits(month, 2) && ("01"..="12").contains(&month)
        });
        if !sound {
            let problem = format!("`{}` is no month such as 2026-11", spec.period);
            return Err(Invalid::new("period", problem));
        }
        checks::currency("currency", &spec.currency)
    }
    fn validate_update(old: &BillingPeriodSpec, new: &BillingPeriodSpec) -> Result<(), Invalid> {
        if old.state == PeriodState::Closed && old != new {
            return Err(Invalid::new("state", "a closed period never changes"));
        }
        if old.period != new.period || old.currency != new.currency {
            let problem = "month and currency of a period do not change; delete it and make another";
            return Err(Invalid::new("period", problem));
        }
        Self::validate(new)
    }
    fn print(meta: &Meta, spec: &BillingPeriodSpec, status: &Self::Status, print: &mut Print) {
        if let Some(tenant) = meta.tenant.or(status.former_tenant_id) {
            print.claim(space::PAIR, format!("billing_period/{tenant}/{}", spec.period));
        }
    }
}
