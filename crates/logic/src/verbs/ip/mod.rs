//! Pools of addresses, and who has which.
//!
//! That an address has one owner at most is kept by its row: there is one row per address and scope, held by a
//! claim, and it names one owner. What two requests of one moment do to the same row, the second is refused.

mod allocate;
mod create;
mod freeze;
mod release;
mod reserve;

use std::sync::Arc;

use virtflow_model::kinds::IpAddress;
use virtflow_model::{Action, Kind, Permission};
use virtflow_policy::Target;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::door::Door;
use crate::draft::Draft;
use crate::request::AddressAct;
use crate::typed::{Typed, decoded};

pub(super) use allocate::allocate;
pub(super) use create::{create_address, create_pool};
pub(super) use freeze::{freeze, unfreeze};
pub(super) use release::release;
pub(super) use reserve::reserve;

/// An address that something is to be done to.
struct Found<'a> {
    object: Arc<Object>,
    typed: Arc<Typed<IpAddress>>,
    draft: Draft<'a>,
}

/// The address, and admission to do this to it. What keeps it from its owner is for whoever manages the pool:
/// a tenant has rights over a public address while it has the address, but none over its pool.
fn find<'a>(door: &Door<'a>, act: &AddressAct, action: Action) -> Result<Found<'a>, Error> {
    let tenant = door.tenant(act.tenant.as_deref())?;
    let object = door.find(Kind::IpAddress, &act.target, tenant)?;
    let permission = Permission::new(Kind::IpAddress, action);
    let draft = match (action, object.parent) {
        (Action::Manage, Some(pool)) => {
            let target = Target::new(Kind::IpAddress, door.chain(pool));
            door.draft(permission, &target, || crate::door::forbidden(permission))?
        }
        _ => door.draft_for(permission, &object)?,
    };
    door.refuse_if_read_only(object.tenant)?;
    door.check_generation(&object)?;
    Ok(Found {
        typed: decoded::<IpAddress>(&object)?,
        object,
        draft,
    })
}

/// The rows of a pool in one of the indexes by pool, lowest address first, with the address as a number.
pub(crate) fn rows_of<'a>(
    state: &'a State,
    index: &'static str,
    pool: ObjectId,
) -> impl Iterator<Item = (u128, &'a Arc<Object>)> {
    let prefix = format!("{pool}/");
    let rows = state.key_values(index, &prefix);
    rows.map_while(move |(value, row)| {
        let number = value.strip_prefix(prefix.as_str())?;
        Some((u128::from_str_radix(number, 16).ok()?, row))
    })
}

/// The state an address is in does not allow this. Who has it is not told: it may be another tenant's.
fn refuse(typed: &Typed<IpAddress>, to: &str, advice: &str) -> Error {
    let (address, state) = (typed.spec.address, typed.status.state);
    Error::new(
        ErrorCode::Conflict,
        format!("{address} is {}: it cannot be {to}", state.name()),
    )
    .advise(advice)
}
