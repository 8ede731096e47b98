//! Choosing hosts: by table, by property, and by the clock.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use virtflow_model::kinds::baremetal_group::SchedulingPolicy;
use virtflow_scheduler::{
    Amounts, Group, Host, Inventory, Refusal, Request, Room, Standing, Why, explain, place,
};
use virtflow_types::ObjectId;

fn id(n: u128) -> ObjectId {
    ObjectId::from_u128(n)
}

fn host(n: u128, total: Amounts, free: Amounts) -> Host {
    Host {
        id: id(n),
        group: 0,
        zone: ObjectId::NIL,
        standing: Standing::Ready,
        total,
        free,
        unused_memory_mib: u64::MAX,
        busy_ppm: 0,
    }
}

fn inventory(policy: SchedulingPolicy, hosts: Vec<Host>) -> Inventory {
    let mut inventory = Inventory::new();
    inventory.put_group(Group {
        id: id(1000),
        policy,
    });
    for host in hosts {
        inventory.put_host(host);
    }
    inventory
}

const ANY: &[Room] = &[Room::Left([u64::MAX; 4])];
const TOTAL: Amounts = [8000, 8192, 100, 0];

fn request(demand: Amounts) -> Request<'static> {
    Request::new(demand, ANY)
}

#[test]
fn spread_takes_the_emptiest_and_pack_the_fullest_that_has_room() {
    let hosts = || {
        vec![
            host(1, TOTAL, [4000, 4096, 50, 0]),
            host(2, TOTAL, [8000, 8192, 100, 0]),
            host(3, TOTAL, [500, 1024, 100, 0]),
            host(4, TOTAL, [2000, 2048, 100, 0]),
        ]
    };
    let small = request([1000, 1024, 10, 0]);
    assert_eq!(
        place(&inventory(SchedulingPolicy::Spread, hosts()), &small),
        Some(id(2))
    );
    assert_eq!(
        place(&inventory(SchedulingPolicy::Pack, hosts()), &small),
        Some(id(4))
    );
    let large = request([4001, 1024, 10, 0]);
    assert_eq!(
        place(&inventory(SchedulingPolicy::Pack, hosts()), &large),
        Some(id(2))
    );
}

#[test]
fn a_busy_host_counts_as_fuller() {
    let mut busy = host(1, TOTAL, TOTAL);
    busy.busy_ppm = 900_000;
    let calm = host(2, TOTAL, [7500, 7600, 95, 0]);
    let inventory = inventory(SchedulingPolicy::Spread, vec![busy, calm]);
    assert_eq!(place(&inventory, &request([1000, 512, 1, 0])), Some(id(2)));
}

#[test]
fn load_balance_takes_the_idlest_and_what_was_promised_since_counts() {
    let seen = |n, busy_ppm, unused_memory_mib, free| Host {
        busy_ppm,
        unused_memory_mib,
        ..host(n, TOTAL, free)
    };
    let hosts = || {
        vec![
            // The books say that it is half full; nobody does anything there.
            seen(1, 10_000, 8000, [4000, 4096, 50, 0]),
            // Empty by the books, and busy.
            seen(2, 800_000, 8000, TOTAL),
            // Idle CPUs, and memory that is used up.
            seen(3, 10_000, 1100, [6000, 6000, 80, 0]),
        ]
    };
    let small = request([1000, 1024, 10, 0]);
    let mut balanced = inventory(SchedulingPolicy::LoadBalance, hosts());
    assert_eq!(place(&balanced, &small), Some(id(1)));
    assert_eq!(
        place(&inventory(SchedulingPolicy::Spread, hosts()), &small),
        Some(id(2))
    );
    // Heartbeats do not show yet what was promised a moment ago.
    balanced.take(id(1), [2900, 1024, 10, 0]);
    assert_eq!(place(&balanced, &small), Some(id(2)));
}

#[test]
fn hosts_with_gpus_are_kept_for_who_asks_for_them() {
    let with = |n, gpus| {
        let total = [TOTAL[0], TOTAL[1], TOTAL[2], gpus];
        host(n, total, total)
    };
    for policy in [SchedulingPolicy::Spread, SchedulingPolicy::Pack] {
        let nearly_full = host(3, TOTAL, [1000, 1024, 10, 0]);
        let mut inventory = inventory(policy, vec![with(1, 2), with(2, 1), nearly_full]);
        let plain = request([1000, 1024, 10, 0]);
        assert_eq!(place(&inventory, &plain), Some(id(3)), "{policy:?}");
        inventory.take(id(3), plain.demand);
        assert!(
            place(&inventory, &plain).is_some(),
            "else it takes one of those"
        );
        assert_eq!(
            place(&inventory, &request([1000, 1024, 10, 2])),
            Some(id(1))
        );
        let three = request([1000, 1024, 10, 3]);
        assert_eq!(place(&inventory, &three), None);
        assert_eq!(explain(&inventory, &three)[0].why, Why::Short([0, 0, 0, 1]));
    }
}

#[test]
fn each_host_says_why_it_refused() {
    let mut cordoned = host(1, TOTAL, TOTAL);
    cordoned.standing = Standing::Cordoned;
    let mut offline = host(2, TOTAL, TOTAL);
    offline.standing = Standing::Offline;
    let mut elsewhere = host(5, TOTAL, TOTAL);
    elsewhere.group = 1;
    let mut full = host(6, TOTAL, TOTAL);
    full.unused_memory_mib = 1000;
    let mut inventory = inventory(
        SchedulingPolicy::Spread,
        vec![
            cordoned,
            offline,
            host(3, TOTAL, [1000, 8192, 4, 0]),
            elsewhere,
            full,
        ],
    );
    inventory.put_group(Group {
        id: id(1001),
        policy: SchedulingPolicy::Spread,
    });
    let request = request([4000, 2048, 10, 0]);
    assert_eq!(place(&inventory, &request), None);
    let refusal = |n, why| Refusal { host: id(n), why };
    assert_eq!(
        explain(&inventory, &request),
        [
            refusal(1, Why::Standing(Standing::Cordoned)),
            refusal(2, Why::Standing(Standing::Offline)),
            refusal(3, Why::Short([3000, 0, 6, 0])),
            refusal(5, Why::NoQuota),
            refusal(6, Why::Busy(1048)),
        ]
    );
}

#[test]
fn a_quota_of_the_group_is_a_limit_too() {
    let inventory = inventory(SchedulingPolicy::Spread, vec![host(1, TOTAL, TOTAL)]);
    let rooms = [Room::Left([2000, 8192, 100, 0])];
    let fits = Request::new([2000, 1, 1, 0], &rooms);
    let over = Request::new([2001, 1, 1, 0], &rooms);
    assert_eq!(place(&inventory, &fits), Some(id(1)));
    assert_eq!(place(&inventory, &over), None);
    assert_eq!(
        explain(&inventory, &over)[0].why,
        Why::OverQuota([1, 0, 0, 0])
    );
    let closed = Request::new([1, 1, 1, 0], &[Room::Closed]);
    assert_eq!(place(&inventory, &closed), None);
}

#[test]
fn hosts_come_change_and_go() {
    let mut inventory = inventory(
        SchedulingPolicy::Spread,
        vec![
            host(1, TOTAL, TOTAL),
            host(2, TOTAL, TOTAL),
            host(3, TOTAL, TOTAL),
        ],
    );
    inventory.set_load(id(3), 100, 500_000);
    inventory.remove_host(id(1));
    assert_eq!(inventory.hosts().len(), 2);
    assert!(inventory.host(id(1)).is_none());
    assert_eq!(inventory.host(id(3)).unwrap().busy_ppm, 500_000);
    inventory.put_host(host(3, TOTAL, [0, 0, 0, 0]));
    assert_eq!(inventory.host(id(3)).unwrap().free, [0, 0, 0, 0]);
    assert_eq!(inventory.host(id(3)).unwrap().unused_memory_mib, 100);
    assert_eq!(place(&inventory, &request([1, 1, 1, 0])), Some(id(2)));
}

proptest! {
    /// However requests come, no host and no quota is overdrawn, and what is refused has a reason.
    #[test]
    fn never_overdraws(
        totals in prop::collection::vec((0u64..16_000, 0u64..16_384, 0u64..200, 0u64..3, any::<bool>()), 1..12),
        demands in prop::collection::vec((1u64..6000, 1u64..6000, 0u64..60, 0u64..2), 1..60),
        quota in (0u64..60_000, 0u64..60_000, 0u64..800, 0u64..8),
        pack in any::<bool>(),
    ) {
        let policy = if pack { SchedulingPolicy::Pack } else { SchedulingPolicy::Spread };
        let mut hosts = Vec::new();
        for (n, (cpu, memory, storage, gpus, ready)) in totals.iter().enumerate() {
            let total = [*cpu, *memory, *storage, *gpus];
            let mut host = host(n as u128 + 1, total, total);
            if !ready {
                host.standing = Standing::Cordoned;
            }
            hosts.push(host);
        }
        let mut inventory = inventory(policy, hosts);
        let mut booked = vec![[0u64; 4]; totals.len()];
        let mut room = [quota.0, quota.1, quota.2, quota.3];
        for (cpu, memory, storage, gpus) in demands {
            let demand = [cpu, memory, storage, gpus];
            let rooms = [Room::Left(room)];
            let request = Request::new(demand, &rooms);
            match place(&inventory, &request) {
                Some(host) => {
                    inventory.take(host, demand);
                    let at = usize::try_from(host.uuid().as_u128()).unwrap() - 1;
                    prop_assert!(totals[at].4, "a cordoned host was given a VM");
                    for d in 0..4 {
                        booked[at][d] += demand[d];
                        room[d] = room[d].checked_sub(demand[d]).expect("quota overdrawn");
                    }
                    let (cpu, memory, storage, gpus, _) = totals[at];
                    prop_assert!(booked[at][0] <= cpu && booked[at][1] <= memory && booked[at][2] <= storage && booked[at][3] <= gpus);
                }
                None => {
                    prop_assert_eq!(explain(&inventory, &request).len(), totals.len());
                }
            }
        }
    }
}
