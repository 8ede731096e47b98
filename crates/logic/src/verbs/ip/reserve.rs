//! Keeping an address for who asks for this very one.

use virtflow_model::Action;
use virtflow_model::kinds::IpAddress;
use virtflow_model::kinds::ip_address::AddressState;

use super::{find, refuse};
use crate::door::Door;
use crate::request::AddressAct;
use crate::verbs::{Done, Outcome};

/// Only what nobody has is reserved.
pub(crate) fn reserve<'a>(door: &Door<'a>, act: &AddressAct) -> Done<'a> {
    let mut found = find(door, act, Action::Execute)?;
    match found.typed.status.state {
        AddressState::Available | AddressState::Reserved => {}
        AddressState::Allocated => {
            return Err(refuse(&found.typed, "reserved", "release it first"));
        }
        AddressState::Frozen => {
            return Err(refuse(&found.typed, "reserved", "unfreeze it first"));
        }
    }
    let after = found
        .draft
        .update::<IpAddress>(found.object.id, |_, status| {
            status.state = AddressState::Reserved;
        })?;
    let outcome = Outcome::new("ip_address.reserve", 200, after).before(found.object);
    Ok((found.draft, outcome))
}
