//! Quotas by number: disks of a tenant's own, addresses, and clusters.

use std::time::Duration;

use serde_json::json;
use virtflow_logic::{AddressVerb, Create, Limits, Request, loops};
use virtflow_model::Kind;
use virtflow_state::{Changeset, Object, Op};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId};

use crate::net::{Net, address, allocating, asking};
use crate::world::World;

/// `acme` with `alice` in the group `team`, which lies under `lab`.
fn grouped() -> (World, ObjectId, [ObjectId; 4]) {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let acme = world.named(Kind::Tenant, "acme").id;
    let [lab, team] = groups(&mut world);
    (world, alice, [acme, lab, team, alice])
}

fn groups(world: &mut World) -> [ObjectId; 2] {
    let admin = world.admin;
    let mut make = |kind, name: &str, spec| {
        let mut create = Create::new(kind, name, spec);
        create.tenant = (kind == Kind::UserGroup).then(|| "acme".into());
        world.made(admin, &Request::Create(create)).unwrap()
    };
    let lab = make(Kind::UserGroup, "lab", json!({}));
    let team = make(Kind::UserGroup, "team", json!({"parent_group": "lab"}));
    let member = json!({"user_group": "team", "user": "alice"});
    let mut create = Create::new(Kind::UserGroupMember, "", member);
    create.name = None;
    world.made(admin, &Request::Create(create)).unwrap();
    [lab, team]
}

fn limit(world: &mut World, kind: Kind, id: ObjectId, dimension: &str, most: u64) {
    let change = json!({"quota": {dimension: most}});
    world.patch(world.admin, kind, id, change).unwrap();
}

fn disk(world: &mut World, user: ObjectId, name: &str) -> Result<ObjectId, Error> {
    world.create_as(user, Kind::PrivateDataDisk, name, json!({"size_gib": 2}))
}

fn refused(error: &Error, message: &str) {
    assert_eq!(error.code, ErrorCode::QuotaExceeded, "{error}");
    assert_eq!(error.message, message);
}

#[test]
fn disks_count_at_their_user_their_groups_and_their_tenant() {
    let (mut world, alice, levels) = grouped();
    let [acme, lab, team, _] = levels;
    let before = world.used(acme, "storage_gib");
    let d1 = disk(&mut world, alice, "d1").unwrap();
    disk(&mut world, alice, "d2").unwrap();
    for level in levels {
        assert_eq!(world.used(level, "disks"), 2);
    }
    assert_eq!(world.used(acme, "storage_gib"), before + 4);
    assert_eq!(world.used(team, "storage_gib"), 4);
    let kinds = [Kind::Tenant, Kind::UserGroup, Kind::UserGroup, Kind::User];
    for ((level, kind), name) in levels
        .into_iter()
        .zip(kinds)
        .zip(["acme", "lab", "team", "alice"])
    {
        limit(&mut world, kind, level, "disks", 2);
        let error = disk(&mut world, alice, "d3").unwrap_err();
        let whose = format!("{} `{name}`", kind.name());
        let message =
            format!("the quota of {whose} is exceeded in disks: limit 2, used 2, asked 1");
        refused(&error, &message);
        limit(&mut world, kind, level, "disks", 3);
    }
    disk(&mut world, alice, "d3").unwrap();
    world.delete(alice, Kind::PrivateDataDisk, d1).unwrap();
    for level in levels {
        assert_eq!(world.used(level, "disks"), 2);
    }
    let change = json!({"user_group": "lab"});
    let d2 = world.named(Kind::PrivateDataDisk, "d2").id;
    let error = world
        .patch(alice, Kind::PrivateDataDisk, d2, change)
        .unwrap_err();
    assert_eq!(error.fields[0].field, "spec.user_group_id");
    let spec = json!({"size_gib": 1, "user_group": "other"});
    let other = Create {
        tenant: Some("acme".into()),
        ..Create::new(Kind::UserGroup, "other", json!({}))
    };
    world.made(world.admin, &Request::Create(other)).unwrap();
    let error = world
        .create_as(alice, Kind::PrivateDataDisk, "d4", spec)
        .unwrap_err();
    assert!(
        error
            .advice
            .as_deref()
            .unwrap_or_default()
            .contains("a group that you are in"),
        "{error:?}"
    );
    assert_eq!(world.used(lab, "disks"), 2);
}

#[test]
fn a_disk_outlives_who_made_it() {
    let (mut world, alice, [acme, _, team, _]) = grouped();
    let d1 = disk(&mut world, alice, "d1").unwrap();
    world.delete(world.admin, Kind::User, alice).unwrap();
    world.loops();
    assert!(world.state.get(alice).is_none());
    assert!(world.state.get(d1).is_some());
    assert_eq!(
        (world.used(acme, "disks"), world.used(team, "disks")),
        (1, 1)
    );
    world
        .delete(world.admin, Kind::PrivateDataDisk, d1)
        .unwrap();
    assert_eq!(
        (world.used(acme, "disks"), world.used(team, "disks")),
        (0, 0)
    );
}

#[test]
fn the_last_disk_is_not_given_twice() {
    let (mut world, alice, [acme, ..]) = grouped();
    limit(&mut world, Kind::Tenant, acme, "disks", 1);
    let both = ["d1", "d2"].map(|name| {
        let create = Create::new(Kind::PrivateDataDisk, name, json!({"size_gib": 1}));
        (alice, Request::Create(create))
    });
    let [first, second] = both;
    assert_eq!(
        world.race_told(first, second),
        "the quota of tenant `acme` is exceeded in disks: limit 1, used 1, asked 1"
    );
}

#[test]
fn an_address_counts_while_it_is_taken() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let [lab, _] = groups(&mut net.world);
    let acme = net.world.named(Kind::Tenant, "acme").id;
    let (alice, admin) = (net.alice, net.admin);
    let spec = json!({"specification": "small"});
    net.world.vm(alice, "web-3", spec).unwrap();
    let used = |net: &Net| [acme, lab, alice].map(|level| net.world.used(level, "addresses"));
    // `web-1` is older than the group.
    let first = address(&net.allocate("web-1").unwrap());
    assert_eq!(used(&net), [1, 0, 1]);
    let second = address(&net.allocate("web-3").unwrap());
    assert_eq!(used(&net), [2, 1, 2]);

    net.act(admin, &second, AddressVerb::Freeze).unwrap();
    assert_eq!(used(&net), [2, 1, 2], "who has it keeps it");
    net.act(admin, &second, AddressVerb::Unfreeze).unwrap();
    net.act(alice, &second, AddressVerb::Release).unwrap();
    assert_eq!(used(&net), [1, 0, 1]);
    net.act(alice, &second, AddressVerb::Reserve).unwrap();
    assert_eq!(used(&net), [2, 0, 1], "nobody's in particular");
    net.act(alice, &second, AddressVerb::Reserve).unwrap();
    assert_eq!(used(&net), [2, 0, 1]);
    let mut wanted = allocating("p1", "web-3");
    wanted.address = Some(second.clone());
    wanted.leased_until = Some(net.world.now.plus(Duration::from_secs(60)));
    let wanted = Request::AllocateAddress(wanted);
    net.world.ask(alice, &wanted).unwrap();
    assert_eq!(used(&net), [2, 1, 2]);

    limit(&mut net.world, Kind::Tenant, acme, "addresses", 2);
    refused(
        &net.allocate("web-2").unwrap_err(),
        "the quota of tenant `acme` is exceeded in addresses: limit 2, used 2, asked 1",
    );
    net.world.wait(Duration::from_secs(60));
    net.world.loops();
    assert_eq!(used(&net), [1, 0, 1], "the lease is over");
    let spec = json!({"ip_pool": net.pool, "address": "10.0.2.19"});
    net.world.create(Kind::IpAddress, "", spec);
    assert_eq!(used(&net), [1, 0, 1], "known by name, and nobody's");
    net.act(alice, "10.0.2.19", AddressVerb::Reserve).unwrap();
    let error = net.act(alice, &second, AddressVerb::Reserve).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded, "{error}");
    net.act(admin, &second, AddressVerb::Freeze).unwrap();
    assert_eq!(used(&net), [2, 0, 1], "nobody has it");

    net.act(admin, &first, AddressVerb::Freeze).unwrap();
    let vm = net.world.named(Kind::VirtualMachine, "web-1").id;
    net.world.delete(alice, Kind::VirtualMachine, vm).unwrap();
    assert_eq!(used(&net), [1, 0, 0], "a frozen one has lost its owner");
}

#[test]
fn the_last_address_is_not_given_twice() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let acme = net.world.named(Kind::Tenant, "acme").id;
    let public = json!({"data_center": "dc1", "first_address": "203.0.113.10", "last_address": "203.0.113.19"});
    net.world
        .create_as(net.admin, Kind::IpPool, "p2", public)
        .unwrap();
    limit(&mut net.world, Kind::Tenant, acme, "addresses", 1);
    let [first, second] = [("p1", "web-1"), ("p2", "web-2")];
    let asked = |(pool, vm)| (net.alice, asking(pool, vm));
    let (first, second) = (asked(first), asked(second));
    assert_eq!(
        net.world.race_told(first, second),
        "the quota of tenant `acme` is exceeded in addresses: limit 1, used 1, asked 1"
    );
}

fn cluster(world: &mut World, user: ObjectId, name: &str) -> Result<ObjectId, Error> {
    world.create_as(user, Kind::K8sCluster, name, json!({"version": "1.31.0"}))
}

#[test]
fn clusters_count_at_their_user_their_groups_and_their_tenant() {
    let (mut world, alice, levels) = grouped();
    let [acme, lab, team, _] = levels;
    let first = cluster(&mut world, alice, "k1").unwrap();
    assert_eq!(levels.map(|level| world.used(level, "clusters")), [1; 4]);
    let kinds = [Kind::Tenant, Kind::UserGroup, Kind::UserGroup, Kind::User];
    let whose = [
        "tenant `acme`",
        "user_group `lab`",
        "user_group `team`",
        "user `alice`",
    ];
    for ((level, kind), whose) in levels.into_iter().zip(kinds).zip(whose) {
        limit(&mut world, kind, level, "clusters", 1);
        let error = cluster(&mut world, alice, "k2").unwrap_err();
        let message =
            format!("the quota of {whose} is exceeded in clusters: limit 1, used 1, asked 1");
        refused(&error, &message);
        limit(&mut world, kind, level, "clusters", 2);
    }
    let made = |name: &str| {
        let create = Create::new(Kind::K8sCluster, name, json!({"version": "1.31.0"}));
        (alice, Request::Create(create))
    };
    let told = world.race_told(made("k2"), made("k3"));
    assert!(
        told.contains("exceeded in clusters: limit 2, used 2, asked 1"),
        "{told}"
    );
    // The cluster stays counted at its tenant when its maker goes.
    let moved = world.patch(alice, Kind::K8sCluster, first, json!({"user_group": "lab"}));
    assert_eq!(moved.unwrap_err().fields[0].field, "spec.user_group_id");
    let admin = world.admin;
    world.delete(admin, Kind::User, alice).unwrap();
    world.loops();
    assert_eq!(
        [acme, lab, team].map(|level| world.used(level, "clusters")),
        [2; 3]
    );
    world.delete(admin, Kind::K8sCluster, first).unwrap();
    assert_eq!(
        [acme, lab, team].map(|level| world.used(level, "clusters")),
        [1; 3]
    );
    world.verify();
}

/// A row as it was written before disks, addresses, clusters and GPUs were counted.
fn former(object: &Object) -> Object {
    let is_older =
        |dimension: &str| !matches!(dimension, "disks" | "addresses" | "gpus" | "clusters");
    let mut row = object.next();
    let print = &mut row.footprint;
    print.charges = std::mem::take(&mut print.charges)
        .into_iter()
        .filter(|charge| is_older(&charge.account.dimension))
        .collect();
    print.accounts = std::mem::take(&mut print.accounts)
        .into_iter()
        .filter(|account| is_older(&account.dimension))
        .collect();
    row
}

#[test]
fn what_an_older_version_wrote_is_counted() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let [lab, team] = groups(&mut net.world);
    let acme = net.world.named(Kind::Tenant, "acme").id;
    let (alice, admin) = (net.alice, net.admin);
    for name in ["d1", "d2"] {
        disk(&mut net.world, alice, name).unwrap();
    }
    net.world
        .vm(alice, "web-3", json!({"specification": "small"}))
        .unwrap();
    net.allocate("web-3").unwrap();
    cluster(&mut net.world, alice, "k").unwrap();
    let used = |world: &World| {
        let of = |at| ["disks", "addresses", "clusters"].map(|dimension| world.used(at, dimension));
        [acme, lab, team, alice].map(of)
    };
    assert_eq!(used(&net.world), [[2, 1, 1]; 4]);

    let world = &mut net.world;
    let mut older = Changeset::new(RequestId::generate(), world.now, world.cx(admin).actor());
    let rows = world.state.objects().map(|object| former(object));
    let rows = rows.filter(|row| world.state.get(row.id).unwrap().footprint != row.footprint);
    older.ops = rows.map(|row| Op::Put(Box::new(row))).collect();
    // Two tenants, two user groups, three users, two disks, an address, a cluster; a group of hosts with two quotas
    // and a host.
    assert_eq!(older.ops.len(), 15);
    world.commit(&older).unwrap();
    let account = virtflow_state::AccountKey::new(acme, "disks");
    assert!(world.state.account(&account).is_none());

    // However little one changeset takes, an account is open before anything is charged to it.
    let limits = Limits {
        objects_per_changeset: 1,
        changesets_per_pass: 100,
        ..Limits::default()
    };
    let renewed = loops::footprints(&world.state, world.now, &limits);
    assert_eq!(renewed.len(), 15);
    for changeset in &renewed {
        world.commit(changeset).unwrap();
    }
    assert_eq!(used(world), [[2, 1, 1]; 4]);
    assert!(loops::footprints(&world.state, world.now, &limits).is_empty());
    limit(world, Kind::Tenant, acme, "disks", 2);
    assert_eq!(
        disk(world, alice, "d3").unwrap_err().code,
        ErrorCode::QuotaExceeded
    );
}
