use virtflow_model::kinds::IpAddress;
use virtflow_model::{Kind, key};
use virtflow_state::{Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use super::packed;
use crate::audit::Entry;
use crate::limits::Limits;
use crate::typed::decoded;

/// Addresses whose lease is over go back to their pools.
pub fn leases(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let most = limits.objects_per_changeset * limits.changesets_per_pass;
    let over = state
        .key_values(key::EXPIRES, "")
        .take_while(|(at, _)| at.parse::<u64>().is_ok_and(|at| at <= now.ms()))
        .filter(|(_, object)| object.kind == Kind::IpAddress.name())
        .map(|(_, object)| object.id)
        .take(most)
        .collect::<Vec<ObjectId>>();
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
