//! Hosts: one that is rented stays for rent, and its addresses are unique where it comes to stand.

use virtflow_model::kinds::Baremetal;
use virtflow_model::kinds::baremetal::{BaremetalSpec, Rental};
use virtflow_types::Error;

use super::Writing;
use crate::rental::refuse_while_rented;
use crate::site::data_center_of;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &mut Writing<'_, '_>) -> Result<(), Error> {
    let new: BaremetalSpec = parse_spec(writing.new)?;
    let state = writing.door.state;
    let Some(host) = writing.id.and_then(|id| state.get(id)) else {
        return Ok(());
    };
    let place = data_center_of(state, &new);
    writing
        .draft
        .update::<Baremetal>(host.id, |_, status| status.data_center_id = place)?;
    match new.rental {
        Rental::Shared => refuse_while_rented(state, host, "be shared"),
        Rental::Exclusive => Ok(()),
    }
}
