use virtflow_model::Kind;
use virtflow_model::kinds::Baremetal;
use virtflow_state::{Changeset, State};
use virtflow_types::Timestamp;

use super::packed;
use crate::limits::Limits;
use crate::observe::schedulable;
use crate::typed::decoded;

/// Brings every host's schedulable capacity to what its inventory and its group's overcommit give.
pub fn overcommit(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let wrong = state
        .of_kind(Kind::Baremetal.name(), None)
        .filter_map(|host| {
            let typed = decoded::<Baremetal>(host).ok()?;
            let right = schedulable(state, &typed.spec, &typed.status)?;
            let now = [
                typed.status.schedulable_cpu_milli,
                typed.status.schedulable_memory_mib,
                typed.status.schedulable_storage_gib,
            ];
            (now != right).then_some((host.id, right))
        });
    packed(state, now, limits, wrong, |draft, (id, right)| {
        draft
            .update::<Baremetal>(id, |_, status| {
                [
                    status.schedulable_cpu_milli,
                    status.schedulable_memory_mib,
                    status.schedulable_storage_gib,
                ] = right;
            })
            .map(drop)
    })
}
