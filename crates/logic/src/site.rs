//! Where a host stands.

use virtflow_model::kinds::baremetal::BaremetalSpec;
use virtflow_model::kinds::{Baremetal, BaremetalGroup, Rack};
use virtflow_model::{Kind, space};
use virtflow_state::{Object, State};
use virtflow_types::ObjectId;

use crate::typed::decoded;

/// The data centre of a host's rack, or else of its group.
pub(crate) fn data_center_of(state: &State, host: &BaremetalSpec) -> Option<ObjectId> {
    let rack = || decoded::<Rack>(state.get(host.rack_id?)?).ok();
    let group = || decoded::<BaremetalGroup>(state.get(host.group_id)?).ok();
    rack()
        .and_then(|rack| rack.spec.data_center_id)
        .or_else(|| group()?.spec.data_center_id)
}

/// True if another host has one of its addresses there already.
pub(crate) fn is_taken_there(
    state: &State,
    id: ObjectId,
    host: &BaremetalSpec,
    place: Option<ObjectId>,
) -> bool {
    let mut holders = addresses(host).filter_map(|(what, address)| {
        let holder = state.holder(&space::within(what, place), address.as_bytes())?;
        Some(holder.id)
    });
    holders.any(|holder| holder != id)
}

/// Hosts that have an address that this one had, wherever they stand: one of them may have waited to stand where it does.
pub(crate) fn with_addresses_of(state: &State, host: &Object) -> Vec<ObjectId> {
    let Ok(host) = decoded::<Baremetal>(host) else {
        return Vec::new();
    };
    let mut places: Vec<Option<ObjectId>> = vec![None];
    let centers = state.of_kind(Kind::DataCenter.name(), None);
    places.extend(centers.map(|center| Some(center.id)));
    let mut found = Vec::new();
    for (what, address) in addresses(&host.spec) {
        for place in &places {
            let holder = state.holder(&space::within(what, *place), address.as_bytes());
            found.extend(holder.map(|holder| holder.id));
        }
    }
    found
}

fn addresses(host: &BaremetalSpec) -> impl Iterator<Item = (&'static str, &str)> {
    let management = host.management_address.as_deref();
    let business = host.business_address.as_deref();
    let management = management.map(|address| ("management_address", address));
    let business = business.map(|address| ("business_address", address));
    management.into_iter().chain(business)
}
