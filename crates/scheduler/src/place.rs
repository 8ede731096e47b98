//! The pass over the hosts, and the reason of every host that was passed over.

use std::cmp::Reverse;

use virtflow_model::kinds::baremetal_group::SchedulingPolicy;
use virtflow_types::ObjectId;

use crate::inventory::{Amounts, GPUS, Host, Inventory, Kin, Standing};

/// What a tenant may still take of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Nothing: it has no quota there, or the request names another group.
    Closed,
    /// This much.
    Left(Amounts),
}

/// One VM that looks for a host.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What it takes.
    pub demand: Amounts,
    /// What its tenant may take of each group, in the order of [`Inventory::groups`]; a group beyond
    /// the end is closed.
    pub rooms: &'a [Room],
    /// How hosts are chosen for it, whatever their groups' policies are; its kin count under
    /// [`SchedulingPolicy::Spread`], too.
    pub policy: Option<SchedulingPolicy>,
    /// The VMs that it had better not stand beside, for [`SchedulingPolicy::ZoneSpread`].
    pub kin: Option<&'a Kin>,
    /// The only host that it may have.
    pub pinned: Option<ObjectId>,
}

impl<'a> Request<'a> {
    /// One that asks for nothing in particular.
    pub const fn new(demand: Amounts, rooms: &'a [Room]) -> Self {
        Self {
            demand,
            rooms,
            policy: None,
            kin: None,
            pinned: None,
        }
    }
}

/// Why a host did not take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The host takes no VMs now.
    Standing(Standing),
    /// The tenant has no quota in its group, or the request names another group.
    NoQuota,
    /// The tenant's quota in its group is short by this much.
    OverQuota(Amounts),
    /// The host is short by this much.
    Short(Amounts),
    /// It may have another host only.
    Pinned,
    /// Only VMs that are pinned to a host of that group come there.
    Manual,
    /// There is room in the books, but its last heartbeat saw this much too little unused memory, MiB.
    Busy(u64),
}

/// A host and why it did not take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The host.
    pub host: ObjectId,
    /// Why.
    pub why: Why,
}

/// One full scale of a score: a host with nothing on it.
const SCALE: u64 = 1 << 16;

/// The best host for the request, or `None` if none has room.
///
/// Spread takes the host that is left emptiest in its fullest dimension, pack the one left fullest; a
/// busy host counts as fuller by up to a quarter. Load balance takes the one that its last heartbeat saw
/// idlest, by half, and that is left emptiest, by half: heartbeats are seconds old, and what was promised since is in the
/// books. Zone spread asks first which zone has the fewest kin, then which host has, then which is emptiest. Whatever the
/// policy, what asks for no GPUs comes to a host with GPUs only if no other takes it: else such hosts fill up with
/// VMs that need none. Equal hosts are told apart by their ids, so the same inventory always gives the same answer.
pub fn place(inventory: &Inventory, request: &Request<'_>) -> Option<ObjectId> {
    let mut best: Option<(Merit, ObjectId)> = None;
    for (at, host) in inventory.hosts().iter().enumerate() {
        if host.standing != Standing::Ready || !fits(&host.free, &request.demand) {
            continue;
        }
        let Some(Room::Left(room)) = request.rooms.get(host.group) else {
            continue;
        };
        if !fits(room, &request.demand) || host.unused_memory_mib < request.demand[1] {
            continue;
        }
        let policy = inventory.groups()[host.group].policy;
        if bars(policy, host, request).is_some() {
            continue;
        }
        let merit = merit(request.policy.unwrap_or(policy), at, host, request);
        let better = match best {
            None => true,
            Some((most, id)) => merit > most || (merit == most && host.id < id),
        };
        if better {
            best = Some((merit, host.id));
        }
    }
    best.map(|(_, id)| id)
}

/// How good a host is: one whose GPUs are not in vain before one with fewer kin in its zone before one that has fewer
/// itself before one of a higher score.
type Merit = (Reverse<bool>, Reverse<u32>, Reverse<u32>, u64);

fn merit(policy: SchedulingPolicy, at: usize, host: &Host, request: &Request<'_>) -> Merit {
    let kin = request.kin.and_then(|kin| kin.at(at));
    let (zone, own) = match (policy, kin) {
        (SchedulingPolicy::ZoneSpread, Some(kin)) => (kin.zone, kin.host),
        (SchedulingPolicy::Spread, Some(kin)) if request.policy.is_some() => (0, kin.host),
        _ => (0, 0),
    };
    let emptiness = emptiness(host, &request.demand);
    let score = match policy {
        SchedulingPolicy::Spread | SchedulingPolicy::ZoneSpread | SchedulingPolicy::Manual => {
            emptiness
        }
        SchedulingPolicy::Pack => SCALE - emptiness,
        SchedulingPolicy::LoadBalance => emptiness.midpoint(idleness(host)),
    };
    let in_vain = request.demand[GPUS] == 0 && host.total[GPUS] > 0;
    (Reverse(in_vain), Reverse(zone), Reverse(own), score)
}

/// What keeps a host from a request beside room and standing.
fn bars(policy: SchedulingPolicy, host: &Host, request: &Request<'_>) -> Option<Why> {
    match request.pinned {
        Some(only) if only != host.id => Some(Why::Pinned),
        None if policy == SchedulingPolicy::Manual => Some(Why::Manual),
        _ => None,
    }
}

/// Why each host refused the request, in the order of their ids; a host that would take it is left out.
pub fn explain(inventory: &Inventory, request: &Request<'_>) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = inventory
        .hosts()
        .iter()
        .filter_map(|host| {
            let policy = inventory.groups()[host.group].policy;
            let why = why(policy, host, request)?;
            Some(Refusal { host: host.id, why })
        })
        .collect();
    refusals.sort_unstable_by_key(|refusal| refusal.host);
    refusals
}

fn why(policy: SchedulingPolicy, host: &Host, request: &Request<'_>) -> Option<Why> {
    let room = match request.rooms.get(host.group) {
        Some(Room::Left(room)) => room,
        Some(Room::Closed) | None => return Some(Why::NoQuota),
    };
    if let Some(barred) = bars(policy, host, request) {
        return Some(barred);
    }
    if host.standing != Standing::Ready {
        return Some(Why::Standing(host.standing));
    }
    if !fits(&host.free, &request.demand) {
        return Some(Why::Short(short(&host.free, &request.demand)));
    }
    if !fits(room, &request.demand) {
        return Some(Why::OverQuota(short(room, &request.demand)));
    }
    if host.unused_memory_mib < request.demand[1] {
        return Some(Why::Busy(request.demand[1] - host.unused_memory_mib));
    }
    None
}

fn fits(free: &Amounts, demand: &Amounts) -> bool {
    free.iter().zip(demand).all(|(free, asked)| asked <= free)
}

fn short(free: &Amounts, demand: &Amounts) -> Amounts {
    let mut short = Amounts::default();
    for (short, (free, asked)) in short.iter_mut().zip(free.iter().zip(demand)) {
        *short = asked.saturating_sub(*free);
    }
    short
}

/// What `part` is of `total`, in parts of [`SCALE`].
fn share(part: u64, total: u64) -> u64 {
    // Dividing 128 bits takes several times as long, and no host has that much of anything.
    match part.checked_mul(SCALE) {
        Some(scaled) => scaled / total,
        None => {
            let share = u128::from(part) * u128::from(SCALE) / u128::from(total);
            u64::try_from(share).unwrap_or(SCALE)
        }
    }
}

/// How empty the host would be in its fullest dimension, 0 to [`SCALE`]. GPUs do not tell: they are few, and whole.
fn emptiness(host: &Host, demand: &Amounts) -> u64 {
    let mut least = SCALE;
    let dimensions = host
        .total
        .iter()
        .zip(host.free.iter().zip(demand))
        .take(GPUS);
    for (total, (free, asked)) in dimensions.filter(|(total, _)| **total > 0) {
        least = least.min(share(free - asked, *total));
    }
    let busy = u64::from(host.busy_ppm.min(1_000_000)) * (SCALE / 4) / 1_000_000;
    least.saturating_sub(busy)
}

/// How idle its last heartbeat saw the host, in CPU or in memory, whichever is less, 0 to [`SCALE`]; what is not known is
/// idle.
fn idleness(host: &Host) -> u64 {
    let busy = u64::from(host.busy_ppm.min(1_000_000)) * SCALE / 1_000_000;
    let memory = match (host.unused_memory_mib, host.total[1]) {
        (u64::MAX, _) | (_, 0) => SCALE,
        (unused, total) => share(unused, total).min(SCALE),
    };
    memory.min(SCALE - busy)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_the_same_however_large_their_parts() {
        assert_eq!(
            [share(0, 7), share(7, 7), share(1, 4)],
            [0, 1 << 16, 1 << 14]
        );
        // Beyond what 64 bits can scale.
        assert_eq!(share(u64::MAX / 4, u64::MAX), (1 << 14) - 1);
        assert_eq!(share(1 << 48, 1 << 50), 1 << 14);
        assert_eq!(share((1 << 48) - 1, 1 << 48), (1 << 16) - 1);
    }
}
