//! Addresses: within their pool, and none that a machine cannot have; what somebody has is not deleted.

use virtflow_model::kinds::ip_address::{AddressState, IpAddressSpec};
use virtflow_model::kinds::{IpAddress, IpPool, Subnet};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::typed::decoded;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some() {
        return Ok(());
    }
    let IpAddressSpec {
        ip_pool_id,
        address,
        ..
    } = parse_spec(writing.new)?;
    let pool = &writing.draft.typed::<IpPool>(ip_pool_id)?.spec;
    if !pool.contains(address) {
        return Err(Error::invalid(
            "spec.address",
            format!(
                "{address} is none of the pool's, which are {} to {}",
                pool.first_address, pool.last_address
            ),
        ));
    }
    if let Some(subnet) = pool.subnet_id {
        let subnet = &writing.draft.typed::<Subnet>(subnet)?.spec;
        if subnet.special().contains(&address) {
            return Err(Error::invalid(
                "spec.address",
                format!(
                    "{address} is the gateway of {}, its own address or the one for all of its machines",
                    subnet.cidr
                ),
            ));
        }
    }
    Ok(())
}

pub(super) fn on_delete(object: &Object) -> Result<(), Error> {
    let address = decoded::<IpAddress>(object)?;
    match address.status.state {
        AddressState::Available | AddressState::Reserved => Ok(()),
        state @ (AddressState::Allocated | AddressState::Frozen) => Err(Error::new(
            ErrorCode::InUse,
            format!("{} is {}", address.spec.address, state.name()),
        )
        .advise("release or unfreeze it first")),
    }
}
