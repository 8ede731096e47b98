//! Giving an address back.

use virtflow_model::Action;
use virtflow_model::kinds::ip_address::AddressState;

use super::{find, refuse};
use crate::door::Door;
use crate::request::AddressAct;
use crate::verbs::{Done, Outcome};

/// What is available already stays so; what is frozen is unfrozen first.
pub(crate) fn release<'a>(door: &Door<'a>, act: &AddressAct) -> Done<'a> {
    let mut found = find(door, act, Action::Execute)?;
    if found.typed.status.state == AddressState::Frozen {
        return Err(refuse(&found.typed, "released", "unfreeze it first"));
    }
    let after = found.draft.release_address(found.object.id)?;
    let outcome = Outcome::new("ip_address.release", 200, after).before(found.object);
    Ok((found.draft, outcome))
}
