//! How long one decision takes over 100, 1,000 and 10,000 hosts.
//!
//! `cargo run --release -p virtflow-scheduler --example place_time`
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use virtflow_model::kinds::baremetal_group::SchedulingPolicy;
use virtflow_scheduler::{Group, Host, Inventory, Request, Room, Standing, place};
use virtflow_types::ObjectId;

const ROUNDS: u32 = 1000;

fn main() {
    for count in [100u128, 1_000, 10_000] {
        let mut inventory = Inventory::new();
        inventory.put_group(Group {
            id: ObjectId::from_u128(u128::MAX),
            policy: SchedulingPolicy::Spread,
        });
        for n in 1..=count {
            let used = u64::try_from(n * 7 % 6000).unwrap();
            inventory.put_host(Host {
                id: ObjectId::from_u128(n),
                group: 0,
                zone: ObjectId::NIL,
                standing: Standing::Ready,
                total: [64_000, 262_144, 4000, 0],
                free: [64_000 - used, 262_144 - used * 4, 4000, 0],
                unused_memory_mib: u64::MAX,
                busy_ppm: 0,
            });
        }
        let demand = [200, 128, 1, 0];
        let rooms = [Room::Left([u64::MAX; 4])];
        let began = Instant::now();
        for _ in 0..ROUNDS {
            let request = Request::new(demand, &rooms);
            let host = place(&inventory, &request).unwrap();
            inventory.take(host, demand);
        }
        println!("{count} hosts: {:?} a placement", began.elapsed() / ROUNDS);
    }
}
