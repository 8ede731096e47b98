//! Quotas, capacity and the reasons.

use serde_json::{Value, json};
use virtflow_logic::{Create, Limits, Placer, Request, Update, wakes_placer};
use virtflow_model::Kind;
use virtflow_model::kinds::Operation;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_types::{ErrorCode, ObjectId};

use crate::world::World;

fn details(error: &virtflow_types::Error) -> Value {
    serde_json::from_str(error.details.as_deref().unwrap()).unwrap()
}

fn waiting_error(world: &World, operation: ObjectId) -> virtflow_types::Error {
    let object = world.state.get(operation).unwrap();
    let typed = virtflow_logic::decoded::<Operation>(object).unwrap();
    assert_eq!(typed.status.state.name(), "pending");
    typed.status.error.clone().unwrap()
}

#[test]
fn more_than_the_tenants_quota_is_refused_with_its_figures() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let acme = world.named(Kind::Tenant, "acme").id;
    world
        .vm(
            alice,
            "a",
            json!({"cpu_cores": 1, "memory_mib": 1024, "storage_gib": 1}),
        )
        .unwrap();
    let big = json!({"cpu_cores": 1, "memory_mib": 3073, "storage_gib": 1});
    let error = world.vm(alice, "b", big).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    assert_eq!(
        error.message,
        "the quota of tenant `acme` is exceeded in memory_mib: limit 4096, used 1024, asked 3073"
    );
    assert_eq!(
        details(&error),
        json!({"level": "tenant", "dimension": "memory_mib", "limit": 4096, "used": 1024, "asked": 3073,
               "account": format!("{acme}/memory_mib"), "owner": "acme"})
    );
    let fits = json!({"cpu_cores": 1, "memory_mib": 3072, "storage_gib": 1});
    world.vm(alice, "b", fits).unwrap();
}

#[test]
fn a_users_own_quota_counts_too() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let patch = Request::Update(Update {
        kind: Kind::User,
        target: "alice".into(),
        tenant: None,
        spec: json!({"quota": {"vms": 1}}),
        merge: true,
    });
    world.ask(world.admin, &patch).unwrap();
    world
        .vm(alice, "a", json!({"specification": "small"}))
        .unwrap();
    let error = world
        .vm(alice, "b", json!({"specification": "small"}))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    assert_eq!(details(&error)["level"], "user");
    assert_eq!(details(&error)["limit"], 1);
}

#[test]
fn a_group_that_is_named_is_checked_when_the_vm_is_made() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    // Half of 4 CPUs overcommitted fourfold is 8 CPUs.
    let quota = json!({"cpu_cores": 32, "memory_mib": 65536, "storage_gib": 1000});
    let patch = Update {
        kind: Kind::Tenant,
        target: "acme".into(),
        tenant: None,
        spec: json!({"quota": quota}),
        merge: true,
    };
    world.ask(world.admin, &Request::Update(patch)).unwrap();
    let asked = json!({"group": "g1", "cpu_cores": 9, "memory_mib": 128, "storage_gib": 1});
    let error = world.vm(alice, "a", asked).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    assert_eq!(
        error.message,
        "the quota of tenant `acme` in the group `g1` is exceeded in cpu_milli: limit 8000, used 0, asked 9000"
    );
    assert_eq!(details(&error)["level"], "baremetal_group_tenant_quota");

    world.create(Kind::BaremetalGroup, "g2", json!({}));
    let elsewhere = json!({"group": "g2", "specification": "small"});
    let error = world.vm(alice, "a", elsewhere).unwrap_err();
    assert_eq!(
        error.code,
        ErrorCode::NotFound,
        "a group without a quota is not there for a tenant"
    );
}

#[test]
fn a_reason_counts_the_hosts_and_who_sees_them_is_told_each() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    for n in 2..=10 {
        world.host(&format!("SN-{n}"), 4000, 1024, 10);
    }
    let reply = world
        .vm(
            alice,
            "big",
            json!({"cpu_cores": 2, "memory_mib": 3000, "storage_gib": 45}),
        )
        .unwrap();
    // The first host has room; without it, ten are short or away.
    let vm = reply.object_id.unwrap();
    let first = world.named(Kind::Baremetal, "host-sn-1").id;
    let act = virtflow_logic::HostAct {
        target: first.to_string(),
        act: virtflow_logic::HostVerb::Cordon,
    };
    world.ask(world.admin, &Request::Host(act)).unwrap();
    world.place();
    let message = world.vm_status(vm).message;
    assert_eq!(
        message,
        "no host has room: 9 are short of memory_mib and storage_gib; 1 is cordoned"
    );
    let error = waiting_error(&world, reply.operation_id.unwrap());
    assert_eq!(details(&error)["host_count"], 10);
    let cx = world.cx(world.admin);
    let answer = virtflow_logic::placement(&world.state, &cx, "big", Some("acme")).unwrap();
    let all = answer["hosts"].as_array().unwrap();
    assert_eq!(all.len(), 10);
    assert_eq!(answer["host_count"], 10);
    assert_eq!(all[9]["refused_by"], "capacity");
}

#[test]
fn what_fits_nowhere_waits_and_says_what_each_host_is_short_of() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let cordoned = world.host("SN-2", 4000, 8192, 100);
    let act = virtflow_logic::HostAct {
        target: cordoned.id.to_string(),
        act: virtflow_logic::HostVerb::Cordon,
    };
    world.ask(world.admin, &Request::Host(act)).unwrap();
    // Within every quota, beyond the host: it is small now.
    let mut small = crate::world::Host {
        id: host.id,
        key: host.key.clone(),
        epoch: host.epoch,
    };
    world.online(&mut small, "boot-1", [4000, 1024, 10]);
    let reply = world
        .vm(
            alice,
            "big",
            json!({"cpu_cores": 2, "memory_mib": 3000, "storage_gib": 12}),
        )
        .unwrap();
    let (vm, create) = (reply.object_id.unwrap(), reply.operation_id.unwrap());
    world.place();
    let status = world.vm_status(vm);
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (VmPhase::Pending, "no_capacity")
    );
    assert_eq!(
        status.message,
        "no host has room: 1 is short of memory_mib and storage_gib; 1 is cordoned"
    );
    let error = waiting_error(&world, create);
    assert_eq!(error.code, ErrorCode::NoCapacity);
    // Whose VM it is may not know the hosts, nor how much others have on them.
    assert_eq!(
        details(&error),
        json!({
            "asked": {"cpu_milli": 2000, "memory_mib": 3000, "storage_gib": 12},
            "refused": {"capacity": 1, "cordoned": 1},
            "host_count": 2,
        })
    );
    let told = |user| {
        virtflow_logic::placement(&world.state, &world.cx(user), "big", Some("acme")).unwrap()
    };
    let answer = told(alice);
    assert_eq!(answer["hosts"], json!([]));
    assert_eq!(answer["refused"], json!({"capacity": 1, "cordoned": 1}));
    assert_eq!(
        told(world.admin)["hosts"],
        json!([
            {"host_id": host.id, "host": "host-sn-1", "refused_by": "capacity", "short_by": {"memory_mib": 1976, "storage_gib": 2}},
            {"host_id": cordoned.id, "host": "host-sn-2", "refused_by": "cordoned", "short_by": {}},
        ])
    );
    assert_eq!(
        virtflow_logic::loops::place(&world.state, world.now, &Limits::default()),
        [],
        "no news, no write"
    );

    world.online(&mut small, "boot-1", [4000, 8192, 100]);
    world.place();
    assert_eq!(world.phase(vm), VmPhase::Creating);
    assert_eq!(world.operation(create).0, "running");
}

#[test]
fn a_quota_in_the_group_can_be_what_is_short() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    for name in ["a", "b"] {
        let spec = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 40});
        world.vm(alice, name, spec).unwrap();
        world.place();
    }
    let second = world.named(Kind::VirtualMachine, "b").id;
    let status = world.vm_status(second);
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (VmPhase::Pending, "quota_exceeded")
    );
    assert_eq!(
        status.message,
        "the quota of tenant `acme` in the group `g1` is exceeded in storage_gib: limit 50, used 40, asked 40"
    );
}

#[test]
fn a_tenant_without_any_quota_is_told_so() {
    let (mut world, _host) = World::furnished();
    world.create(Kind::Tenant, "poor", json!({}));
    world.user("paul", Some("poor"));
    world.bind("paul", "developer", "tenant/poor");
    let paul = world.named(Kind::User, "paul").id;
    let spec = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1});
    let reply = world.vm(paul, "a", spec).unwrap();
    world.place();
    let status = world.vm_status(reply.object_id.unwrap());
    assert_eq!(status.reason, "no_quota");
    assert_eq!(
        status.message,
        "tenant `poor` has no quota in any group of hosts"
    );
}

#[test]
fn hosts_that_come_move_the_share_and_what_is_over_may_only_shrink() {
    let (mut world, mut host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(
            alice,
            "a",
            json!({"cpu_cores": 6, "memory_mib": 128, "storage_gib": 1}),
        )
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    assert_eq!(world.phase(vm), VmPhase::Creating, "6 of 8 CPUs");
    world.settle(&host);
    // The group's overcommit is cut: the host then hands out less than is taken, and the loop follows.
    let patch = Update {
        kind: Kind::BaremetalGroup,
        target: "g1".into(),
        tenant: None,
        spec: json!({"cpu_overcommit_percent": 100}),
        merge: true,
    };
    let cx = world.cx(world.admin);
    let (changeset, _) =
        virtflow_logic::decide(&world.state, &cx, &Request::Update(patch)).unwrap();
    world.commit(&changeset).unwrap();
    let changesets = virtflow_logic::loops::overcommit(&world.state, world.now, &Limits::default());
    assert_eq!(changesets.len(), 1);
    for changeset in &changesets {
        // Over its limit by decree: the checks on every account do not apply to this one.
        world.state.apply(changeset).unwrap();
    }
    assert_eq!(virtflow_state::verify(&world.state), []);
    let create = Request::Create(Create::new(
        Kind::VirtualMachine,
        "b",
        json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1}),
    ));
    let (changeset, reply) =
        virtflow_logic::decide(&world.state, &world.cx(alice), &create).unwrap();
    world.state.apply(&changeset).unwrap();
    for changeset in virtflow_logic::loops::place(&world.state, world.now, &Limits::default()) {
        world.state.apply(&changeset).unwrap();
    }
    assert_eq!(
        world.phase(reply.object_id.unwrap()),
        VmPhase::Pending,
        "nothing new"
    );
    assert_eq!(world.phase(vm), VmPhase::Running, "what runs stays");
    host.epoch += 0;
}

#[test]
fn a_placer_that_follows_the_changes_decides_as_a_fresh_one() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let mut placer = Placer::new(&world.state);
    for n in 0..5 {
        let spec = json!({"cpu_cores": 1, "memory_mib": 700, "storage_gib": 1});
        world.vm(alice, &format!("vm-{n}"), spec).unwrap();
    }
    // Five of 700 MiB within 4096 fit the quota; the second host is new to the placer.
    let before = world.state.clone();
    world.host("SN-2", 4000, 8192, 100);
    let created: Vec<_> = changes(&before, &world.state);
    assert!(created.iter().any(wakes_placer));
    placer.absorb(&world.state, &created);
    assert_eq!(placer.hosts(), 2);
    let changesets = placer.pass(&world.state, world.now, &Limits::default());
    assert_eq!(changesets.len(), 5);
    world.commit_all(&changesets);
    let on = |host: ObjectId, world: &World| world.used(host, "memory_mib") / 700;
    let other = world.named(Kind::Baremetal, "host-sn-2").id;
    assert_eq!(on(host.id, &world) + on(other, &world), 5);
    assert!(
        on(host.id, &world) >= 2 && on(other, &world) >= 2,
        "spread over both"
    );
}

/// The changes between two states, as a change stream would tell them.
pub(crate) fn changes(
    before: &virtflow_state::State,
    after: &virtflow_state::State,
) -> Vec<virtflow_state::Change> {
    after
        .objects()
        .filter_map(|object| {
            let old = before.get(object.id);
            (old.map(|old| old.version) != Some(object.version)).then(|| virtflow_state::Change {
                id: object.id,
                before: old.cloned(),
                after: Some(object.clone()),
            })
        })
        .collect()
}

/// A host whose data centre is closed, by its rack or by its group, gets no new VMs; when it opens, those that wait do.
#[test]
fn a_closed_data_center_gets_no_vms() {
    let (mut world, host) = World::furnished();
    let (admin, alice) = (world.admin, world.named(Kind::User, "alice").id);
    let of_group = world.named(Kind::DataCenter, "dc1").id;
    let of_rack = world.create(Kind::DataCenter, "north", json!({}));
    let rack = world.create(Kind::Rack, "n1", json!({"data_center": "north"}));
    world
        .patch(admin, Kind::Baremetal, host.id, json!({"rack_id": rack}))
        .unwrap();
    let mut placer = Placer::new(&world.state);
    for (center, closed) in [(of_rack, "maintenance"), (of_group, "offline")] {
        let turn = |world: &mut World, state: &str| {
            let before = world.state.clone();
            world
                .patch(admin, Kind::DataCenter, center, json!({"state": state}))
                .unwrap();
            let changes = changes(&before, &world.state);
            assert!(changes.iter().any(wakes_placer));
            changes
        };
        let closing = turn(&mut world, closed);
        placer.absorb(&world.state, &closing);
        let made = world
            .vm(alice, closed, json!({"specification": "small"}))
            .unwrap();
        let vm = made.object_id.unwrap();
        let bound = placer.pass(&world.state, world.now, &Limits::default());
        world.commit_all(&bound);
        assert_eq!(world.phase(vm), VmPhase::Pending, "{closed}");
        let opening = turn(&mut world, "active");
        placer.absorb(&world.state, &opening);
        let bound = placer.pass(&world.state, world.now, &Limits::default());
        world.commit_all(&bound);
        assert_eq!(world.phase(vm), VmPhase::Creating);
    }
}
