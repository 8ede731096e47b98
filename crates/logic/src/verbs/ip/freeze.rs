//! Leaving an address as it is: nobody gets it, and who has it keeps it.

use virtflow_model::Action;
use virtflow_model::kinds::IpAddress;
use virtflow_model::kinds::ip_address::AddressState;

use super::{find, refuse};
use crate::door::Door;
use crate::request::AddressAct;
use crate::verbs::{Done, Outcome};

/// Whatever state it is in; a lease does not end while it is frozen.
pub(crate) fn freeze<'a>(door: &Door<'a>, act: &AddressAct) -> Done<'a> {
    let mut found = find(door, act, Action::Manage)?;
    let after = found
        .draft
        .update::<IpAddress>(found.object.id, |_, status| {
            if status.state != AddressState::Frozen {
                status.state_before_freeze = Some(status.state);
                status.state = AddressState::Frozen;
            }
        })?;
    let outcome = Outcome::new("ip_address.freeze", 200, after).before(found.object);
    Ok((found.draft, outcome))
}

/// It is again what it was.
pub(crate) fn unfreeze<'a>(door: &Door<'a>, act: &AddressAct) -> Done<'a> {
    let mut found = find(door, act, Action::Manage)?;
    if found.typed.status.state != AddressState::Frozen {
        return Err(refuse(
            &found.typed,
            "unfrozen",
            "there is nothing to do: only a frozen one is",
        ));
    }
    let after = found
        .draft
        .update::<IpAddress>(found.object.id, |_, status| {
            status.state = status.state_before_freeze.take().unwrap_or_default();
        })?;
    let outcome = Outcome::new("ip_address.unfreeze", 200, after).before(found.object);
    Ok((found.draft, outcome))
}
