//! Billing: what is closed stays.

use virtflow_model::kinds::BillingPeriod;
use virtflow_model::kinds::billing_period::PeriodState;
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode};

use crate::typed::decoded;

pub(super) fn on_delete(period: &Object) -> Result<(), Error> {
    let spec = &decoded::<BillingPeriod>(period)?.spec;
    if spec.state == PeriodState::Open {
        return Ok(());
    }
    let message = format!("the billing period {} is closed: it stays", spec.period);
    Err(Error::new(ErrorCode::Conflict, message).advise("leave it: bills are kept"))
}
