//! Whom monitoring is told to ask.

use serde_json::{Value, json};
use virtflow_logic::{
    HostInventory, Request, TargetRole, Update, inventory_changed, monitoring_targets,
};
use virtflow_model::Kind;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId};

use crate::world::World;

fn told(world: &World, role: Option<TargetRole>) -> Vec<Value> {
    let text = monitoring_targets(&world.state, &world.cx(world.admin), role).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The agent tells where monitoring reaches it.
fn tells(world: &mut World, host: ObjectId, address: &str) {
    let inventory = HostInventory {
        gpus: 0,
        foreign: None,
        cpu_milli: 4000,
        memory_mib: 8192,
        storage_gib: 100,
        facts: json!({"status_address": address}),
    };
    let (request_id, now) = (RequestId::generate(), world.now);
    let changeset = inventory_changed(&world.state, request_id, now, host, &inventory).unwrap();
    world.commit(&changeset).unwrap();
}

fn announce(world: &mut World, n: u64, status_address: &str) -> Result<(), Error> {
    world.announce_with(0xc0 + u128::from(n), n, |announce| {
        announce.status_address = status_address.into();
    })
}

#[test]
fn targets_are_those_that_told_an_address_with_where_they_stand() {
    let (mut world, first) = World::furnished();
    assert_eq!(told(&world, None), Vec::<Value>::new(), "nobody told one");

    world.create(Kind::DataCenter, "dc2", json!({"region": "eu-south"}));
    world.create(Kind::Rack, "r2", json!({"data_center": "dc2"}));
    let second = world.join("SN-2", "key-2", json!({"group": "g1", "rack": "r2"}));
    let second = second.unwrap();
    tells(&mut world, first.id, "10.0.0.21:9441");
    tells(&mut world, second, "h2.example:9441");
    announce(&mut world, 2, "c2.example:9440").unwrap();
    announce(&mut world, 3, "").unwrap();

    let controller = json!({
        "targets": ["c2.example:9440"],
        "labels": {
            "__scheme__": "https", "role": "controller", "controller": "c2",
            "controller_id": ObjectId::from_u128(0xc2),
        },
    });
    let mut hosts = vec![
        json!({
            "targets": ["10.0.0.21:9441"],
            "labels": {
                "__scheme__": "https", "role": "agent", "host": "host-sn-1", "host_id": first.id,
                "group": "g1", "data_center": "dc1",
            },
        }),
        json!({
            "targets": ["h2.example:9441"],
            "labels": {
                "__scheme__": "https", "role": "agent", "host": "host-sn-2", "host_id": second,
                "group": "g1", "rack": "r2", "data_center": "dc2",
            },
        }),
    ];
    let of_host = |told: &Value| told["labels"]["host"].as_str().map(str::to_owned);
    let mut agents = told(&world, Some(TargetRole::Agent));
    agents.sort_by_key(of_host);
    assert_eq!(agents, hosts);
    let controllers = told(&world, Some(TargetRole::Controller));
    assert_eq!(controllers, std::slice::from_ref(&controller));
    let mut all = told(&world, None);
    all.sort_by_key(of_host);
    hosts.insert(0, controller);
    assert_eq!(all, hosts);
}

#[test]
fn a_silent_host_stays_a_target_and_a_decommissioned_one_does_not() {
    let (mut world, host) = World::furnished();
    tells(&mut world, host.id, "10.0.0.21:9441");
    world.offline(&host);
    assert_eq!(told(&world, None).len(), 1);
    let gone = Update {
        kind: Kind::Baremetal,
        target: host.id.to_string(),
        tenant: None,
        spec: json!({"state": "decommissioned"}),
        merge: true,
    };
    world.ask(world.admin, &Request::Update(gone)).unwrap();
    assert_eq!(told(&world, None), Vec::<Value>::new());
}

#[test]
fn who_may_not_see_all_hosts_is_told_of_none_and_no_controller_announces_nonsense() {
    let (mut world, _) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let refused = monitoring_targets(&world.state, &world.cx(alice), None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    let refused = announce(&mut world, 2, "http://c2/metrics").unwrap_err();
    assert_eq!(refused.fields[0].field, "status_address");
}
