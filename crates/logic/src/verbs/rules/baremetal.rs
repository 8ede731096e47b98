//! Hosts: one that is rented stays for rent.

use virtflow_model::kinds::baremetal::{BaremetalSpec, Rental};
use virtflow_types::Error;

use super::Writing;
use crate::rental::refuse_while_rented;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let new: BaremetalSpec = parse_spec(writing.new)?;
    let state = writing.door.state;
    match writing.id.and_then(|id| state.get(id)) {
        Some(host) if new.rental == Rental::Shared => refuse_while_rented(state, host, "be shared"),
        _ => Ok(()),
    }
}
