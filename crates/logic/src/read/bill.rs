//! What a billing period comes to: what is on it, and what was used and is not on it yet.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::kinds::billing_period::PeriodState;
use virtflow_model::kinds::billing_usage::{BillingUsageSpec, BillingUsageStatus};
use virtflow_model::kinds::price::Billed;
use virtflow_model::kinds::{BillingPeriod, BillingUsage, VirtualMachine};
use virtflow_model::{Decimal, Kind, Resource, key};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, Timestamp};

use crate::cx::Cx;
use crate::door::Door;
use crate::limits::BILL_LOOKED_AT_MAX;
use crate::metering::usages;
use crate::typed::decoded;

/// What each dimension comes to.
#[derive(Debug, Default)]
struct Sums {
    lines: BTreeMap<&'static str, (Decimal, Decimal)>,
}

impl Sums {
    fn add(&mut self, spec: &BillingUsageSpec, status: &BillingUsageStatus) -> Result<(), Error> {
        let line = self.lines.entry(spec.dimension.name()).or_default();
        let sums = line.0.plus(spec.quantity).zip(line.1.plus(status.amount));
        *line = sums.ok_or_else(too_large)?;
        Ok(())
    }

    fn total(&self) -> Result<Decimal, Error> {
        let mut amounts = self.lines.values().map(|(_, amount)| *amount);
        amounts
            .try_fold(Decimal::default(), Decimal::plus)
            .ok_or_else(too_large)
    }

    fn told(&self) -> Result<Value, Error> {
        let lines = self.lines.iter().map(|(dimension, (quantity, amount))| {
            json!({"dimension": dimension, "quantity": quantity, "amount": amount})
        });
        Ok(json!({"total": self.total()?, "lines": lines.collect::<Vec<_>>()}))
    }
}

fn too_large() -> Error {
    Error::new(
        ErrorCode::Internal,
        "a bill has more digits than are added exactly",
    )
}

/// What a billing period comes to: what is on it, added up exactly, and beside it what was used until now and will be
/// on it once it ends or the month does. Amounts are in the period's currency.
///
/// Fails with `conflict` if more than [`BILL_LOOKED_AT_MAX`] usages are on it; their list can be read in pages.
pub fn bill(state: &State, cx: &Cx, period: &str) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let period = door.find(Kind::BillingPeriod, period, None)?;
    let spec = &decoded::<BillingPeriod>(&period)?.spec;
    let mut billed = Sums::default();
    let mut count = 0_usize;
    for id in state.linking_to(period.id) {
        let Some(usage) = state.get(id) else {
            continue;
        };
        if usage.kind != BillingUsage::KIND.name() {
            continue;
        }
        count += 1;
        if count > BILL_LOOKED_AT_MAX {
            let message = format!("more than {BILL_LOOKED_AT_MAX} usages are on this bill");
            return Err(Error::new(ErrorCode::Conflict, message)
                .advise("read them in pages: list billing usages by their period"));
        }
        let usage = decoded::<BillingUsage>(usage)?;
        billed.add(&usage.spec, &usage.status)?;
    }
    let unbilled = match spec.state {
        PeriodState::Open => unbilled(state, cx.now, &period)?,
        PeriodState::Closed => Sums::default(),
    };
    Ok(json!({
        "period_id": period.id,
        "period": spec.period,
        "currency": spec.currency,
        "state": spec.state,
        "usages": count,
        "billed": billed.told()?,
        "unbilled": unbilled.told()?,
    }))
}

/// What the tenant's VMs have used by `now` that is not on the bill yet.
fn unbilled(state: &State, now: Timestamp, period: &Object) -> Result<Sums, Error> {
    let mut sums = Sums::default();
    let Some(tenant) = period.tenant else {
        return Ok(sums);
    };
    let of_tenant = format!("{}/{tenant}", VirtualMachine::KIND.name());
    for vm in state.by_key(key::TENANT, &of_tenant, None) {
        let typed = decoded::<VirtualMachine>(vm)?;
        for dimension in Billed::ALL {
            let Some(since) = typed.status.unbilled_since(dimension) else {
                continue;
            };
            for usage in usages(state, vm, &typed, dimension, since, now) {
                if usage.spec.period_id == period.id {
                    sums.add(&usage.spec, &usage.status)?;
                }
            }
        }
    }
    Ok(sums)
}
