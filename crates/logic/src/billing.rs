//! The one way that usage gets into a billing period.

use std::sync::Arc;
use std::time::Duration;

use virtflow_model::kinds::billing_period::PeriodState;
use virtflow_model::kinds::billing_usage::{BillingUsageSpec, BillingUsageStatus};
use virtflow_model::kinds::price::{Billed, price_key};
use virtflow_model::kinds::{BillingPeriod, BillingUsage, Price};
use virtflow_model::{Decimal, Resource, key};
use virtflow_state::{Changeset, Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::cx::Cx;
use crate::draft::{Draft, Place};
use crate::typed::decoded;

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The period that it is billed in.
    pub period_id: ObjectId,
    /// The VM.
    pub vm_id: ObjectId,
    /// Its name.
    pub vm_name: String,
    /// What it used.
    pub dimension: Billed,
    /// How much of it.
    pub quantity: Decimal,
    /// From when; the price of that moment holds.
    pub from: Timestamp,
    /// Until when, itself not included.
    pub until: Timestamp,
}

/// A usage that can be put onto its bill.
#[derive(Debug)]
pub(crate) struct Usage {
    period: Arc<Object>,
    pub(crate) spec: BillingUsageSpec,
    pub(crate) status: BillingUsageStatus,
}

impl Usage {
    /// Makes it part of a changeset. If the period is closed before that is applied, it is refused.
    pub(crate) fn put(self, draft: &mut Draft<'_>) -> Result<(), Error> {
        let place = Place {
            tenant: self.period.tenant,
            parent: Some(self.period.id),
            ..Place::default()
        };
        draft.create::<BillingUsage>(place, self.spec, self.status)?;
        Ok(())
    }
}

/// Records a usage with what it costs.
///
/// Fails with `conflict` if the period is closed or nothing is charged in its currency, with `invalid` if the
/// measured time is not within the period's month or the quantity has too many digits.
pub fn record_usage(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    measured: &Measured,
) -> Result<Changeset, Error> {
    let usage = usage_of(state, measured)?;
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    usage.put(&mut draft)?;
    Ok(draft.finish())
}

/// What was measured, with what it costs; fails as [`record_usage`] does.
pub(crate) fn usage_of(state: &State, measured: &Measured) -> Result<Usage, Error> {
    let missing = || Error::not_found(BillingPeriod::KIND.name(), &measured.period_id.to_string());
    let period = state.get(measured.period_id).ok_or_else(missing)?;
    let bill = &decoded::<BillingPeriod>(period)?.spec;
    if bill.state == PeriodState::Closed {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("the billing period {} is closed", bill.period),
        )
        .advise("record it in an open period"));
    }
    check_month(&bill.period, measured)?;
    let price =
        price_at(state, measured.dimension, &bill.currency, measured.from).ok_or_else(|| {
            Error::new(
                ErrorCode::Conflict,
                format!(
                    "nothing is charged for {} in {}",
                    measured.dimension.name(),
                    bill.currency
                ),
            )
            .advise("make a price that is valid from then on")
        })?;
    let spec = BillingUsageSpec {
        period_id: period.id,
        vm_id: measured.vm_id,
        vm_name: measured.vm_name.clone(),
        dimension: measured.dimension,
        quantity: measured.quantity,
        measured_from: measured.from,
        measured_until: measured.until,
        price_id: price.id,
    };
    BillingUsage::validate(&spec)?;
    let amount = decoded::<Price>(price)?.spec.amount.times(spec.quantity);
    let amount = amount.ok_or_else(|| {
        Error::invalid(
            "spec.quantity",
            "its product with the price has too many digits",
        )
    })?;
    Ok(Usage {
        period: period.clone(),
        spec,
        status: BillingUsageStatus { amount },
    })
}

/// A month is the beginning of the text of each of its moments.
fn check_month(month: &str, measured: &Measured) -> Result<(), Error> {
    let last = Timestamp::from_ms(measured.until.ms().saturating_sub(1));
    for (field, at) in [("measured_from", measured.from), ("measured_until", last)] {
        if !at.to_string().starts_with(month) {
            return Err(Error::invalid(
                format!("spec.{field}"),
                format!("{at} is not within the period {month}"),
            ));
        }
    }
    Ok(())
}

/// The price that holds at a moment: the latest that began before.
fn price_at<'a>(
    state: &'a State,
    dimension: Billed,
    currency: &str,
    at: Timestamp,
) -> Option<&'a Object> {
    let first = price_key(dimension, currency, Timestamp::EPOCH);
    let last = price_key(dimension, currency, at);
    state
        .key_values(key::PRICE, &first)
        .take_while(|(value, _)| value.as_str() <= last.as_str())
        .last()
        .map(|(_, price)| &**price)
}

/// When another price begins to hold after a moment.
pub(crate) fn next_price(
    state: &State,
    dimension: Billed,
    currency: &str,
    after: Timestamp,
) -> Option<Timestamp> {
    let first = price_key(dimension, currency, after.plus(Duration::from_millis(1)));
    let (_, price) = state.key_values(key::PRICE, &first).next()?;
    let spec = &decoded::<Price>(price).ok()?.spec;
    let is_of_these = spec.dimension == dimension && spec.currency == currency;
    is_of_these.then_some(spec.valid_from)
}
