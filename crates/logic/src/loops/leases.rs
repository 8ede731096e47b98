use virtflow_model::Kind;
use virtflow_model::kinds::IpAddress;
use virtflow_state::{Changeset, Object, State};
use virtflow_types::Timestamp;

use super::{expired, packed};
use crate::audit::Entry;
use crate::limits::Limits;
use crate::typed::decoded;

/// Addresses whose lease is over go back to their pools.
pub fn leases(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let is_address = |object: &Object| object.kind == Kind::IpAddress.name();
    let over = expired(state, now, limits, is_address);
    packed(state, now, limits, over, |draft, id| {
        let Some(before) = draft.get(id) else {
            return Ok(());
        };
        let address = decoded::<IpAddress>(&before)?.spec.address;
        draft.release_address(id)?;
        draft.audit(&Entry {
            action: "ip_address.release",
            object: &before,
            before: None,
            note: &format!("the lease of {address} is over"),
        });
        Ok(())
    })
}
