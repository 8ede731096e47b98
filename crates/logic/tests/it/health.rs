//! How hosts fare: what is written of it, who is told, and what comes of it for placing.

use serde_json::json;
use virtflow_logic::{
    HostSigns, Limits, ListQuery, Placer, capacity, host_health_differs, hosts_fare, list,
    wakes_placer,
};
use virtflow_model::Kind;
use virtflow_model::kinds::Baremetal;
use virtflow_model::kinds::baremetal::{BaremetalStatus, Health};
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_types::ObjectId;

use crate::placing::changes;
use crate::world::World;

fn status(world: &World, host: ObjectId) -> BaremetalStatus {
    let object = world.state.get(host).unwrap();
    virtflow_logic::decoded::<Baremetal>(object)
        .unwrap()
        .status
        .clone()
}

/// Tells so, and the number of changesets that came of it.
fn tell(world: &mut World, host: ObjectId, signs: &HostSigns) -> usize {
    let told = [(host, signs.clone())];
    let changesets = hosts_fare(&world.state, world.now, &Limits::default(), &told);
    world.commit_all(&changesets);
    changesets.len()
}

fn full() -> HostSigns {
    HostSigns {
        storage_used_mib: 96,
        storage_available_mib: 4,
        clock_offset_ms: 3000,
        ..HostSigns::default()
    }
}

#[test]
fn only_what_changes_is_written_and_silence_changes_nothing() {
    let (mut world, host) = World::furnished();
    let before = world.state.get(host.id).unwrap().clone();
    assert_eq!(status(&world, host.id).health, Health::Unknown);
    let well = HostSigns::default();
    let is_called = host_health_differs(&world.state, host.id, &well);
    assert_eq!(is_called, Some(Health::Unknown));
    assert_eq!(tell(&mut world, host.id, &well), 1);
    assert_eq!(status(&world, host.id).health, Health::Healthy);
    assert_eq!(tell(&mut world, host.id, &well), 0, "told twice");
    assert_eq!(host_health_differs(&world.state, host.id, &well), None);

    world.wait(std::time::Duration::from_secs(60));
    let since = world.now;
    assert_eq!(tell(&mut world, host.id, &full()), 1);
    let ill = status(&world, host.id);
    assert_eq!((ill.health, ill.health_since), (Health::Critical, since));
    assert_eq!(ill.health_reasons, ["storage_full", "clock_off"]);
    world.wait(std::time::Duration::from_secs(60));
    let clock_is_right = HostSigns {
        clock_offset_ms: 0,
        ..full()
    };
    assert_eq!(tell(&mut world, host.id, &clock_is_right), 1);
    let ill = status(&world, host.id);
    assert_eq!(ill.health_reasons, ["storage_full"]);
    assert_eq!(ill.health_since, since, "it is as critical as before");
    let after = world.state.get(host.id).unwrap().clone();
    assert_eq!(after.generation, before.generation, "nobody asked for it");

    world.offline(&host);
    assert_eq!(tell(&mut world, host.id, &well), 0, "it is not heard");
    assert_eq!(host_health_differs(&world.state, host.id, &well), None);
    assert_eq!(status(&world, host.id).health, Health::Critical);
    world.verify();
}

#[test]
fn a_critical_host_gets_no_vms_until_it_is_better() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let mut placer = Placer::new(&world.state);
    let before = world.state.clone();
    tell(&mut world, host.id, &full());
    placer.absorb(&world.state, &changes(&before, &world.state));
    let made = world
        .vm(alice, "web", json!({"specification": "small"}))
        .unwrap();
    let vm = made.object_id.unwrap();
    let bound = placer.pass(&world.state, world.now, &Limits::default());
    world.commit_all(&bound);
    assert_eq!(world.phase(vm), VmPhase::Pending);
    assert_eq!(
        world.vm_status(vm).message,
        "no host has room: 1 is unhealthy"
    );
    // What is only to be watched takes VMs.
    let before = world.state.clone();
    let filling = HostSigns {
        storage_used_mib: 90,
        storage_available_mib: 10,
        ..HostSigns::default()
    };
    tell(&mut world, host.id, &filling);
    assert_eq!(status(&world, host.id).health, Health::Warning);
    let better = changes(&before, &world.state);
    assert!(better.iter().any(wakes_placer));
    placer.absorb(&world.state, &better);
    let bound = placer.pass(&world.state, world.now, &Limits::default());
    world.commit_all(&bound);
    assert_eq!(world.phase(vm), VmPhase::Creating);
    world.verify();
}

#[test]
fn hosts_are_found_by_how_they_fare_and_it_is_told_beside_their_capacity() {
    let (mut world, host) = World::furnished();
    let found = |world: &World, word: &str| {
        let query = ListQuery {
            words: vec![("health".into(), word.into())],
            ..ListQuery::of(Kind::Baremetal)
        };
        let page = list(&world.state, &world.cx(world.admin), &query);
        page.map(|page| page.objects.len())
            .map_err(|error| error.message)
    };
    assert_eq!(found(&world, "unknown"), Ok(1));
    let entry = |world: &World| {
        let told = capacity(&world.state, &world.cx(world.admin)).unwrap();
        told["groups"][0]["hosts"][0].clone()
    };
    assert_eq!(entry(&world)["health"], "unknown");
    tell(&mut world, host.id, &full());
    assert_eq!(found(&world, "unknown"), Ok(0));
    assert_eq!(found(&world, "critical"), Ok(1));
    assert_eq!(found(&world, "warning"), Ok(0));
    assert_eq!(
        found(&world, "ill").unwrap_err(),
        "`health`: `ill` is none of unknown, healthy, warning, critical"
    );
    let told = entry(&world);
    assert_eq!(told["health"], "critical");
    assert_eq!(told["health_reasons"], json!(["storage_full", "clock_off"]));
    assert_eq!(told["health_since"], json!(world.now));
}
