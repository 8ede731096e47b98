//! Why a VM found no host, in words and figures.

use serde_json::{Map, Value, json};
use virtflow_model::kinds::virtual_machine::VirtualMachineSpec;
use virtflow_scheduler::{
    Amounts, DIMENSIONS, Inventory, Refusal, Request, Room, Standing, Why, explain as refusals_of,
};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::explain::{name_of, no_group_quota, over_group_quota};
use crate::limits::{REFUSALS_ANSWERED_MAX, REFUSALS_TOLD_MAX};

/// Why a VM has no host: a word, a sentence, and an error for whoever waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Nowhere {
    pub(crate) reason: &'static str,
    pub(crate) error: Error,
    refusals: Vec<Refusal>,
}

impl Nowhere {
    /// The first hosts that refused, and why; for who asks.
    pub(crate) fn hosts(&self, state: &State) -> Vec<Value> {
        let most = self.refusals.len().min(REFUSALS_ANSWERED_MAX);
        told(state, &self.refusals[..most])
    }

    /// How many refused.
    pub(crate) fn host_count(&self) -> usize {
        self.refusals.len()
    }
}

pub(crate) fn not_active(vm: &Object) -> Nowhere {
    Nowhere {
        reason: "tenant_not_active",
        error: Error::new(
            ErrorCode::Conflict,
            format!("VM `{}` waits: its tenant is not active", vm.name),
        ),
        refusals: Vec::new(),
    }
}

/// Tells why no host took the request.
pub(crate) fn nowhere(
    state: &State,
    inventory: &Inventory,
    vm: &Object,
    spec: &VirtualMachineSpec,
    request: &Request<'_>,
) -> Nowhere {
    let mut refusals = refusals_of(inventory, request);
    // Of a VM that is pinned only its host is of interest.
    refusals.retain(|refusal| !matches!(refusal.why, Why::NoQuota | Why::Pinned));
    let name = |id| name_of(state, id);
    if !request.rooms.iter().any(|room| *room != Room::Closed) {
        let tenant = vm.tenant.unwrap_or(ObjectId::NIL);
        return Nowhere {
            reason: "no_quota",
            error: no_group_quota(state, tenant, spec.group_id),
            refusals: Vec::new(),
        };
    }
    let only_quota = !refusals.is_empty()
        && refusals
            .iter()
            .all(|refusal| matches!(refusal.why, Why::OverQuota(_)));
    if only_quota && let Some(error) = group_quota_error(state, inventory, vm, request) {
        return Nowhere {
            reason: "quota_exceeded",
            error,
            refusals,
        };
    }
    let mut lines: Vec<String> = refusals
        .iter()
        .take(REFUSALS_TOLD_MAX)
        .map(|refusal| format!("`{}` {}", name(refusal.host), sentence(refusal.why)))
        .collect();
    if refusals.len() > REFUSALS_TOLD_MAX {
        lines.push(format!("{} more hosts", refusals.len() - REFUSALS_TOLD_MAX));
    }
    let message = if lines.is_empty() {
        "no host has room: there is no host in the groups that may be used".to_owned()
    } else {
        format!("no host has room: {}", lines.join("; "))
    };
    let first = &refusals[..refusals.len().min(REFUSALS_TOLD_MAX)];
    let details = json!({
        "asked": amounts(&request.demand),
        "hosts": told(state, first),
        "host_count": refusals.len(),
    });
    Nowhere {
        reason: "no_capacity",
        error: Error::new(ErrorCode::NoCapacity, message)
            .advise("it is placed as soon as a host has room; add a host, delete something, or delete it and ask for less")
            .with_details(details.to_string()),
        refusals,
    }
}

/// The first quota in a group that is too small, with its figures.
fn group_quota_error(
    state: &State,
    inventory: &Inventory,
    vm: &Object,
    request: &Request<'_>,
) -> Option<Error> {
    for (group, room) in inventory.groups().iter().zip(request.rooms) {
        let Room::Left(left) = room else { continue };
        let short = (0..DIMENSIONS.len()).find(|at| request.demand[*at] > left[*at]);
        if let Some(at) = short {
            let asked = request.demand[at];
            return over_group_quota(state, group.id, vm.tenant?, DIMENSIONS[at], asked);
        }
    }
    None
}

fn told(state: &State, refusals: &[Refusal]) -> Vec<Value> {
    let tell = |refusal: &Refusal| told_one(refusal, &name_of(state, refusal.host));
    refusals.iter().map(tell).collect()
}

/// By name, what is none left out.
fn amounts(amounts: &Amounts) -> Value {
    let amounts = DIMENSIONS.iter().zip(amounts);
    let some = amounts.filter(|(_, amount)| **amount > 0);
    let map: Map<String, Value> = some
        .map(|(dimension, amount)| ((*dimension).to_owned(), json!(amount)))
        .collect();
    map.into()
}

fn told_one(refusal: &Refusal, host: &str) -> Value {
    let (refused_by, short) = match &refusal.why {
        Why::Standing(standing) => (standing.name(), json!({})),
        Why::NoQuota => ("no_quota", json!({})),
        Why::Pinned => ("pinned", json!({})),
        Why::Manual => ("manual", json!({})),
        Why::OverQuota(short) => ("quota", amounts(short)),
        Why::Short(short) => ("capacity", amounts(short)),
        Why::Busy(short) => ("load", json!({"memory_mib": short})),
    };
    json!({"host_id": refusal.host, "host": host, "refused_by": refused_by, "short_by": short})
}

fn sentence(why: Why) -> String {
    let short = |amounts: Amounts| {
        DIMENSIONS
            .iter()
            .zip(amounts)
            .filter(|(_, amount)| *amount > 0)
            .map(|(dimension, amount)| format!("{dimension} by {amount}"))
            .collect::<Vec<_>>()
            .join(" and ")
    };
    match why {
        Why::Standing(Standing::Exclusive) => "is rented out as a whole only".into(),
        Why::Standing(standing) => format!("is {}", standing.name().replace('_', " ")),
        Why::NoQuota => "is in a group without quota".into(),
        Why::Pinned => "is not the host that it is pinned to".into(),
        Why::Manual => "takes only VMs that are pinned to it, as its group's policy says".into(),
        Why::OverQuota(amounts) => format!(
            "is barred by the quota in its group, short of {}",
            short(amounts)
        ),
        Why::Short(amounts) => format!("is short of {}", short(amounts)),
        Why::Busy(memory_mib) => format!("is busy: unused memory_mib is short by {memory_mib}"),
    }
}

#[cfg(test)]
mod tests {
    use virtflow_scheduler::Standing;

    use super::*;

    #[test]
    fn an_answer_names_a_limited_number_of_hosts_and_counts_them_all() {
        let refusal = |n: u128| Refusal {
            host: ObjectId::from_u128(n),
            why: Why::Standing(Standing::Offline),
        };
        let of = |count: u128| Nowhere {
            reason: "no_capacity",
            error: Error::new(ErrorCode::NoCapacity, "no host has room"),
            refusals: (1..=count).map(refusal).collect(),
        };
        let (few, many) = (of(1000), of(1001));
        let state = State::empty();
        assert_eq!((few.hosts(&state).len(), few.host_count()), (1000, 1000));
        assert_eq!((many.hosts(&state).len(), many.host_count()), (1000, 1001));
    }
}
