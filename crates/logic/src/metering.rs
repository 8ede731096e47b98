//! Metering: what VMs used becomes usage in the bill of its month, in the very changeset in which the use ends.
//!
//! A VM's status says since when it has used what is not on a bill yet ([`Resource::settle`] keeps that right by the
//! VM's phase and placement). Whatever changes these moments (a stop, a removal, a silent host, the end of a month)
//! therefore also bills what was between, and nothing is billed twice or lost between two changesets.

use std::sync::Arc;

use virtflow_model::kinds::billing_period::PeriodState;
use virtflow_model::kinds::price::Billed;
use virtflow_model::kinds::{BillingPeriod, VirtualMachine};
use virtflow_model::{Decimal, Kind, Resource, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId, Timestamp};

use crate::billing::{Measured, Usage, next_price, usage_of};
use crate::draft::Draft;
use crate::limits::USAGES_PER_STRETCH_MAX;
use crate::typed::{Typed, decoded};

const MS_PER_HOUR: u128 = 3_600_000;
const MIB_PER_GIB: u128 = 1024;

/// Bills what the VMs that a draft changes stop to use with it.
pub(crate) fn bill(draft: &mut Draft<'_>) {
    for before in draft.touched() {
        if before.kind == VirtualMachine::KIND.name() {
            // A stored VM that cannot be read could not have been changed either.
            let _ = bill_vm(draft, &before);
        }
    }
}

fn bill_vm(draft: &mut Draft<'_>, before: &Arc<Object>) -> Result<(), Error> {
    let vm = decoded::<VirtualMachine>(before)?;
    let after = match draft.get(before.id) {
        Some(object) => Some(decoded::<VirtualMachine>(&object)?),
        None => None,
    };
    for dimension in Billed::ALL {
        let Some(from) = vm.status.unbilled_since(dimension) else {
            continue;
        };
        // What goes on was cut off at the moment from which on it does.
        let goes_on = after.as_ref();
        let goes_on = goes_on.and_then(|after| after.status.unbilled_since(dimension));
        if goes_on != Some(from) {
            let until = goes_on.unwrap_or(draft.cx.now);
            for usage in usages(draft.state, before, &vm, dimension, from, until) {
                usage.put(draft)?;
            }
        }
    }
    Ok(())
}

/// A stretch of use, cut where a month begins and where a price changes. What no open period or no price is there for is
/// on no bill, nor is what has more digits than a bill: the limits of sizes keep it from that.
pub(crate) fn usages(
    state: &State,
    vm: &Object,
    typed: &Typed<VirtualMachine>,
    dimension: Billed,
    from: Timestamp,
    until: Timestamp,
) -> Vec<Usage> {
    let mut usages = Vec::new();
    let mut at = from;
    for _ in 0..USAGES_PER_STRETCH_MAX {
        if at >= until {
            break;
        }
        let month_end = at.next_month().min(until);
        let Some((period_id, currency)) = period_of(state, vm.tenant, at) else {
            at = month_end;
            continue;
        };
        let end = next_price(state, dimension, &currency, at)
            .map_or(month_end, |change| change.min(month_end));
        let quantity = quantity(typed, dimension, at, end);
        if let Some(quantity) = quantity.filter(|quantity| !quantity.is_zero()) {
            let measured = Measured {
                period_id,
                vm_id: vm.id,
                vm_name: vm.name.to_string(),
                dimension,
                quantity,
                from: at,
                until: end,
            };
            usages.extend(usage_of(state, &measured));
        }
        at = end;
    }
    usages
}

/// The tenant's open period of the month that a moment is in, and its currency.
fn period_of(state: &State, tenant: Option<ObjectId>, at: Timestamp) -> Option<(ObjectId, String)> {
    let claim = format!("billing_period/{}/{}", tenant?, at.month());
    let period = state.holder(space::PAIR, claim.as_bytes())?;
    if period.kind != Kind::BillingPeriod.name() {
        return None;
    }
    let spec = &decoded::<BillingPeriod>(period).ok()?.spec;
    (spec.state == PeriodState::Open).then(|| (period.id, spec.currency.clone()))
}

fn quantity(
    vm: &Typed<VirtualMachine>,
    dimension: Billed,
    from: Timestamp,
    until: Timestamp,
) -> Option<Decimal> {
    let ms = u128::from(until.ms().saturating_sub(from.ms()));
    match dimension {
        Billed::CpuCoreHours => Decimal::ratio(u128::from(vm.spec.cpu_cores) * ms, MS_PER_HOUR),
        Billed::MemoryGibHours => Decimal::ratio(
            u128::from(vm.spec.memory_mib) * ms,
            MIB_PER_GIB * MS_PER_HOUR,
        ),
        Billed::StorageGibHours => {
            Decimal::ratio(u128::from(vm.spec.storage_gib) * ms, MS_PER_HOUR)
        }
        Billed::GpuHours => Decimal::ratio(u128::from(vm.spec.gpu_count) * ms, MS_PER_HOUR),
    }
}
