//! What a bound VM costs in memory, as a replica holds it: its row and its share of the indexes.
//!
//! `cargo run --release -p virtflow-logic --example vm_memory`
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/it/world.rs"]
mod world;

use serde_json::json;
use virtflow_logic::{Create, Request, decide};
use virtflow_model::Kind;
use virtflow_state::{Changeset, Op, State};

use crate::world::World;

const VMS: usize = 20_000;

fn main() {
    let (mut world, _first) = World::furnished();
    let lift =
        json!({"quota": {"cpu_cores": null, "memory_mib": null, "storage_gib": null, "vms": null}});
    let quota = world
        .state
        .of_kind("baremetal_group_tenant_quota", None)
        .next()
        .unwrap()
        .id;
    let share = json!({"cpu_quota_percentage": 100.0, "memory_mib": 100_000_000u64, "storage_gib": 100_000_000u64});
    for (kind, target, spec) in [
        (Kind::Tenant, "acme".to_owned(), lift),
        (Kind::BaremetalGroupTenantQuota, quota.to_string(), share),
    ] {
        let update = virtflow_logic::Update {
            kind,
            target,
            tenant: None,
            spec,
            merge: true,
        };
        world.ask(world.admin, &Request::Update(update)).unwrap();
    }
    for n in 0..40 {
        world.host(&format!("BIG-{n}"), 1_000_000, 1_000_000, 100_000);
    }
    let alice = world.named(Kind::User, "alice").id;
    let apply = |state: &mut State, changeset: &Changeset| {
        let kept = |op: &Op| match op {
            Op::Put(object) => object.kind == Kind::VirtualMachine.name(),
            _ => false,
        };
        // As a replica gets it: from bytes, without what is cached on the leader. Operations and keys
        // are counted apart: they go after a day.
        let mut changeset = Changeset::decode(changeset.encode()).unwrap();
        changeset.ops.retain(kept);
        state.apply(&changeset).unwrap();
    };
    let before = resident();
    for n in 0..VMS {
        let spec = json!({"specification": "small", "group": "g1", "labels": {"app": "web"}});
        let create = Create::new(Kind::VirtualMachine, &format!("web-{n}"), spec);
        let cx = world.cx(alice);
        let (changeset, _) = decide(&world.state, &cx, &Request::Create(create)).unwrap();
        apply(&mut world.state, &changeset);
        if n % 200 == 199 {
            for changeset in
                virtflow_logic::loops::place(&world.state, world.now, &Default::default())
            {
                apply(&mut world.state, &changeset);
            }
        }
    }
    let bound = world
        .state
        .by_key(virtflow_model::key::VM_PHASE, "creating", None)
        .count();
    assert_eq!(bound, VMS);
    println!(
        "{} bytes resident a VM, applied one by one",
        (resident() - before) / VMS
    );
    let before = resident();
    let loaded = State::from_parts(
        world.state.cluster_id(),
        world.state.incarnation(),
        world.state.cluster_version(),
        world.state.index(),
        world
            .state
            .objects()
            .map(|object| virtflow_state::Object::decode(object.encode().into()).unwrap()),
        world
            .state
            .streams()
            .map(|(name, head)| (name.clone(), *head)),
    )
    .unwrap();
    println!(
        "{} bytes resident a VM, loaded from rows",
        (resident() - before) / VMS
    );
    let vm = loaded
        .of_kind(Kind::VirtualMachine.name(), None)
        .next()
        .unwrap();
    let stored = vm.encode().len();
    println!(
        "{stored} bytes stored: spec {}, status {}",
        vm.spec.len(),
        vm.status.len()
    );
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
