//! Why a VM found no host, in words and figures.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use virtflow_model::kinds::virtual_machine::VirtualMachineSpec;
use virtflow_scheduler::{
    Amounts, DIMENSIONS, Inventory, Refusal, Request, Room, Standing, Why, explain as refusals_of,
};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::explain::{name_of, no_group_quota, over_group_quota};
use crate::limits::REFUSALS_ANSWERED_MAX;

/// Why a VM has no host: a word, a sentence, and an error for whoever waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Nowhere {
    pub(crate) reason: &'static str,
    pub(crate) error: Error,
    refusals: Vec<Refusal>,
}

impl Nowhere {
    /// The first hosts that refused, and why, of those that whoever asks sees.
    pub(crate) fn hosts(&self, state: &State, is_seen: impl Fn(ObjectId) -> bool) -> Vec<Value> {
        let seen = self.refusals.iter().filter(|refusal| is_seen(refusal.host));
        let seen = seen.take(REFUSALS_ANSWERED_MAX);
        seen.map(|refusal| told_one(refusal, &name_of(state, refusal.host)))
            .collect()
    }

    /// How many refused for what.
    pub(crate) fn refused(&self) -> Value {
        counts(&self.refusals)
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
    let message = match summary(&refusals) {
        none if none.is_empty() => {
            "no host has room: there is no host in the groups that may be used".to_owned()
        }
        told => format!("no host has room: {told}"),
    };
    let details = json!({
        "asked": amounts(&request.demand),
        "refused": counts(&refusals),
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
    let short = match &refusal.why {
        Why::OverQuota(short) | Why::Short(short) => amounts(short),
        Why::Busy(short) => json!({"memory_mib": short}),
        Why::Standing(_) | Why::NoQuota | Why::Pinned | Why::Manual => json!({}),
    };
    json!({"host_id": refusal.host, "host": host, "refused_by": word(refusal.why), "short_by": short})
}

/// How many hosts refused for what, the most frequent first, without a name or an amount: whose VM it is may not know
/// the hosts, and by how much they are short tells what others have on them.
fn summary(refusals: &[Refusal]) -> String {
    // There are as many refusals as hosts, and few reasons: only these are put into words.
    let mut found: Vec<(Why, usize)> = Vec::new();
    for refusal in refusals {
        let why = without_amounts(refusal.why);
        match found.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => found.push((why, 1)),
        }
    }
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines = found.iter().map(|(why, count)| sentence(*why, *count));
    lines.collect::<Vec<_>>().join("; ")
}

/// What it is short of, without by how much.
fn without_amounts(why: Why) -> Why {
    let some = |amounts: Amounts| amounts.map(|amount| amount.min(1));
    match why {
        Why::OverQuota(short) => Why::OverQuota(some(short)),
        Why::Short(short) => Why::Short(some(short)),
        Why::Busy(_) => Why::Busy(1),
        Why::Standing(_) | Why::NoQuota | Why::Pinned | Why::Manual => why,
    }
}

/// The same by the words of [`told_one`].
fn counts(refusals: &[Refusal]) -> Value {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals {
        *counts.entry(word(refusal.why)).or_default() += 1;
    }
    json!(counts)
}

const fn word(why: Why) -> &'static str {
    match why {
        Why::Standing(standing) => standing.name(),
        Why::NoQuota => "no_quota",
        Why::Pinned => "pinned",
        Why::Manual => "manual",
        Why::OverQuota(_) => "quota",
        Why::Short(_) => "capacity",
        Why::Busy(_) => "load",
    }
}

fn sentence(why: Why, count: usize) -> String {
    let short = |amounts: Amounts| {
        let amounts = DIMENSIONS.iter().zip(amounts);
        let some = amounts.filter(|(_, amount)| *amount > 0);
        let names: Vec<&str> = some.map(|(dimension, _)| *dimension).collect();
        names.join(" and ")
    };
    let (is, take) = match count {
        1 => ("is", "takes"),
        _ => ("are", "take"),
    };
    match why {
        Why::Standing(Standing::Exclusive) => format!("{count} {is} rented out as a whole only"),
        Why::Standing(standing) => format!("{count} {is} {}", standing.name().replace('_', " ")),
        Why::NoQuota => format!("{count} {is} in a group without quota"),
        Why::Pinned => format!("{count} {is} not the host that it is pinned to"),
        Why::Manual => format!("{count} {take} only VMs that are pinned to one host"),
        Why::OverQuota(amounts) => format!(
            "{count} {is} barred by the quota in the group, short of {}",
            short(amounts)
        ),
        Why::Short(amounts) => format!("{count} {is} short of {}", short(amounts)),
        Why::Busy(_) => format!("{count} {is} busy and short of unused memory_mib"),
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
        let all = |_| true;
        assert_eq!(
            (few.hosts(&state, all).len(), few.host_count()),
            (1000, 1000)
        );
        assert_eq!(
            (many.hosts(&state, all).len(), many.host_count()),
            (1000, 1001)
        );
        let one = many.hosts(&state, |id| id == ObjectId::from_u128(7));
        assert_eq!(one.len(), 1);
        assert_eq!(many.refused(), json!({"offline": 1001}));
        assert_eq!(summary(&many.refusals), "1001 are offline");
    }
}
