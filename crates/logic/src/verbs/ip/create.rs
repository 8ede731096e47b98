//! Making pools and addresses: whose they are, and where their addresses are unique, follows from the subnet.

use virtflow_model::kinds::ip_address::IpAddressStatus;
use virtflow_model::kinds::ip_pool::IpPoolStatus;
use virtflow_model::kinds::{IpAddress, IpPool, Subnet};

use crate::door::Door;
use crate::request::Create;
use crate::verbs::Done;
use crate::verbs::create::make;

/// A pool of a subnet is its tenant's; one without is the cloud's.
pub(crate) fn create_pool<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    make::<IpPool>(door, create, |draft, place, spec| {
        let mut status = IpPoolStatus::default();
        if let Some(id) = spec.subnet_id {
            status.address_scope_id = draft.typed::<Subnet>(id)?.spec.address_scope();
            place.tenant = draft.get(id).and_then(|subnet| subnet.tenant);
        }
        Ok(status)
    })
}

/// An address is its pool's, and can be had.
pub(crate) fn create_address<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    make::<IpAddress>(door, create, |draft, _, spec| {
        let pool = draft.typed::<IpPool>(spec.ip_pool_id)?;
        Ok(IpAddressStatus {
            address_scope_id: pool.status.address_scope_id,
            subnet_id: pool.spec.subnet_id,
            ..IpAddressStatus::default()
        })
    })
}
