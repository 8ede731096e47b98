//! Giving an address back, and with it those that were given together with it.

use virtflow_model::kinds::IpAddress;
use virtflow_model::kinds::ip_address::{AddressState, in_pool};
use virtflow_model::net::Address;
use virtflow_model::{Action, key};
use virtflow_types::{Error, ErrorCode};

use super::{Found, find, refuse};
use crate::door::Door;
use crate::request::AddressAct;
use crate::typed::decoded;
use crate::verbs::{Done, Outcome};

/// What is available already stays so; what is frozen is unfrozen first.
pub(crate) fn release<'a>(door: &Door<'a>, act: &AddressAct) -> Done<'a> {
    let mut found = find(door, act, Action::Execute)?;
    if found.typed.status.state == AddressState::Frozen {
        return Err(refuse(&found.typed, "released", "unfreeze it first"));
    }
    let range = (
        found.typed.status.range_start,
        found.typed.status.range_size,
    );
    if let (Some(start), Some(size)) = range {
        if start != found.typed.spec.address {
            let problem = format!(
                "{} is one of the {size} from {start} on, which go back together",
                found.typed.spec.address
            );
            return Err(Error::new(ErrorCode::Conflict, problem)
                .advise(format!("release {start} to release them all")));
        }
        release_others(&mut found, start, size)?;
    }
    let after = found.draft.release_address(found.object.id)?;
    let outcome = Outcome::new("ip_address.release", 200, after).before(found.object);
    Ok((found.draft, outcome))
}

/// Of a range: all but its first.
fn release_others(found: &mut Found<'_>, start: Address, size: u32) -> Result<(), Error> {
    let pool = found.typed.spec.ip_pool_id;
    for number in (start.number()..)
        .skip(1)
        .take(size.saturating_sub(1) as usize)
    {
        let at = in_pool(pool, Address::from_number(number));
        let state = found.draft.state;
        let Some(row) = state.by_key(key::IP_POOL, &at, None).next() else {
            continue;
        };
        let typed = decoded::<IpAddress>(row)?;
        // One that came back by itself may be somebody else's by now.
        if typed.status.range_start != Some(start)
            || typed.status.owner_id != found.typed.status.owner_id
        {
            continue;
        }
        if typed.status.state == AddressState::Frozen {
            return Err(refuse(&typed, "released", "unfreeze it first"));
        }
        found.draft.release_address(row.id)?;
    }
    Ok(())
}
