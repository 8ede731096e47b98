//! Addresses: who gets which, and who gets it back.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::{AddressVerb, ListQuery, Request, list};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, Timestamp};

use crate::net::{Net, address, allocating, asking, status};

#[test]
fn the_lowest_free_one_is_given_and_never_one_that_no_machine_may_have() {
    let mut net = Net::new("10.0.2.0", "10.0.2.3");
    let first = net.allocate("web-1").unwrap();
    assert_eq!(
        address(&first),
        "10.0.2.2",
        "after the network's own and the gateway"
    );
    assert_eq!(status(&first)["state"], "allocated");
    let vm = net.world.named(Kind::VirtualMachine, "web-1");
    assert_eq!(status(&first)["owner_id"], json!(vm.id));
    assert_eq!(
        first.object.as_ref().unwrap()["tenant_id"],
        json!(vm.tenant)
    );
    assert_eq!(address(&net.allocate("web-2").unwrap()), "10.0.2.3");
    let full = net.allocate("web-1").unwrap_err();
    assert_eq!(full.code, ErrorCode::NoCapacity);
    assert_eq!(
        full.message,
        "ip_pool `p1` is full: none of its 4 addresses can be had"
    );
    net.act(net.alice, "10.0.2.2", AddressVerb::Release)
        .unwrap();
    let again = net.allocate("web-2").unwrap();
    assert_eq!(
        (address(&again).as_str(), again.http_status),
        ("10.0.2.2", 200)
    );
    assert_eq!(again.object_id, first.object_id);
    for special in ["10.0.2.0", "10.0.2.1"] {
        let spec = json!({"ip_pool": net.pool, "address": special});
        let error = net
            .world
            .create_as(net.admin, Kind::IpAddress, "", spec)
            .unwrap_err();
        assert_eq!(error.fields[0].field, "spec.address");
    }
    let spec = json!({"ip_pool": net.pool, "address": "10.0.2.4"});
    let error = net
        .world
        .create_as(net.admin, Kind::IpAddress, "", spec)
        .unwrap_err();
    assert!(error.message.contains("10.0.2.0 to 10.0.2.3"), "{error}");
}

#[test]
fn two_requests_of_one_moment_do_not_get_the_same_address() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let both = |net: &Net| ["web-1", "web-2"].map(|vm| (net.alice, asking("p1", vm)));
    let [first, second] = both(&net);
    assert_eq!(
        net.world.race_told(first, second),
        "the address 10.0.2.10 is taken"
    );
    net.act(net.alice, "10.0.2.10", AddressVerb::Release)
        .unwrap();
    let [first, second] = both(&net);
    let told = net.world.race_told(first, second);
    assert!(told.contains("changed at the same moment"), "{told}");
}

#[test]
fn each_state_allows_what_it_allows() {
    let mut net = Net::new("10.0.2.10", "10.0.2.11");
    let admin = net.admin;
    let spec = json!({"ip_pool": net.pool, "address": "10.0.2.10"});
    let id = net.world.create(Kind::IpAddress, "", spec.clone());
    let error = net
        .world
        .create_as(admin, Kind::IpAddress, "", spec)
        .unwrap_err();
    assert_eq!(error.message, "the address 10.0.2.10 is taken");
    let at = "10.0.2.10";
    let reply = net.act(net.alice, at, AddressVerb::Reserve).unwrap();
    assert_eq!(status(&reply)["state"], "reserved");
    assert_eq!(address(&net.allocate("web-1").unwrap()), "10.0.2.11");
    assert_eq!(
        net.allocate("web-1").unwrap_err().code,
        ErrorCode::NoCapacity
    );

    let mut wanted = allocating("p1", "web-2");
    wanted.address = Some(at.into());
    let wanted = Request::AllocateAddress(wanted);
    let reply = net.world.ask(net.alice, &wanted).unwrap();
    assert_eq!((reply.object_id, address(&reply)), (Some(id), at.into()));
    let error = net.world.ask(net.alice, &wanted).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(
        error.message.starts_with("10.0.2.10 is allocated: "),
        "{error}"
    );
    let error = net.act(net.alice, at, AddressVerb::Reserve).unwrap_err();
    assert!(error.message.contains("cannot be reserved"), "{error}");
    let error = net.world.delete(admin, Kind::IpAddress, id).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);

    let error = net.act(admin, at, AddressVerb::Unfreeze).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    let error = net.act(net.alice, at, AddressVerb::Freeze).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    net.act(admin, at, AddressVerb::Freeze).unwrap();
    net.act(admin, at, AddressVerb::Freeze).unwrap();
    for verb in [AddressVerb::Release, AddressVerb::Reserve] {
        let error = net.act(net.alice, at, verb).unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict, "{verb:?}");
    }
    assert_eq!(
        net.world.ask(net.alice, &wanted).unwrap_err().code,
        ErrorCode::Conflict
    );
    let reply = net.act(admin, at, AddressVerb::Unfreeze).unwrap();
    let vm = net.world.named(Kind::VirtualMachine, "web-2").id;
    assert_eq!(status(&reply)["state"], "allocated");
    assert_eq!(status(&reply)["owner_id"], json!(vm));

    let error = net.world.delete(admin, Kind::IpPool, net.pool).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    for at in [at, "10.0.2.11"] {
        net.act(net.alice, at, AddressVerb::Release).unwrap();
    }
    net.world.delete(admin, Kind::IpPool, net.pool).unwrap();
    assert_eq!(net.world.state.count_of_kind("ip_address"), 0);
    net.world.delete(admin, Kind::Subnet, net.subnet).unwrap();
    net.world.delete(admin, Kind::Vpc, net.vpc).unwrap();
}

#[test]
fn a_lease_ends_by_itself_unless_it_is_frozen() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let until = |net: &Net, seconds| net.world.now.plus(Duration::from_secs(seconds));
    let lease = |net: &mut Net, until: Timestamp| {
        let mut asked = allocating("p1", "web-1");
        asked.leased_until = Some(until);
        net.world.ask(net.alice, &Request::AllocateAddress(asked))
    };
    let now = net.world.now;
    let error = lease(&mut net, now).unwrap_err();
    assert_eq!(error.fields[0].field, "leased_until");
    for seconds in [60, 60, 90] {
        let at = until(&net, seconds);
        lease(&mut net, at).unwrap();
    }
    net.allocate("web-2").unwrap();
    net.act(net.admin, "10.0.2.11", AddressVerb::Freeze)
        .unwrap();
    let states = |net: &Net| {
        let rows = net.world.state.of_kind("ip_address", None);
        let mut states: Vec<_> = rows
            .map(|row| {
                let shown = virtflow_logic::public(&net.world.state, row);
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (
                    text(&shown["spec"]["address"]),
                    text(&shown["status"]["state"]),
                )
            })
            .collect();
        states.sort();
        states
            .into_iter()
            .map(|(_, state)| state)
            .collect::<Vec<_>>()
    };
    net.world.wait(Duration::from_secs(59));
    net.world.loops();
    assert_eq!(
        states(&net),
        ["allocated", "frozen", "allocated", "allocated"]
    );
    net.world.wait(Duration::from_secs(1));
    net.world.loops();
    assert_eq!(
        states(&net),
        ["available", "frozen", "allocated", "allocated"]
    );
    let thawed = net
        .act(net.admin, "10.0.2.11", AddressVerb::Unfreeze)
        .unwrap();
    assert_eq!(
        status(&thawed)["state"],
        "allocated",
        "until it is looked at"
    );
    net.world.loops();
    assert_eq!(
        states(&net),
        ["available", "available", "allocated", "allocated"]
    );
    net.world.wait(Duration::from_secs(3600));
    net.world.loops();
    assert_eq!(
        states(&net),
        ["available", "available", "available", "allocated"]
    );
}

#[test]
fn a_vm_that_goes_gives_its_addresses_back() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    net.world.place();
    net.world.settle(&net.host);
    for vm in ["web-1", "web-1", "web-2"] {
        net.allocate(vm).unwrap();
    }
    net.act(net.admin, "10.0.2.11", AddressVerb::Freeze)
        .unwrap();
    let vm = net.world.named(Kind::VirtualMachine, "web-1").id;
    net.world
        .delete(net.alice, Kind::VirtualMachine, vm)
        .unwrap();
    let error = net.allocate("web-1").unwrap_err();
    assert!(error.message.contains("is being deleted"), "{error}");
    net.world.settle(&net.host);
    assert!(net.world.state.get(vm).is_none());
    assert_eq!(address(&net.allocate("web-2").unwrap()), "10.0.2.10");
    assert_eq!(address(&net.allocate("web-2").unwrap()), "10.0.2.13");
    let reply = net
        .act(net.admin, "10.0.2.11", AddressVerb::Unfreeze)
        .unwrap();
    assert_eq!(status(&reply)["state"], "available");
    assert_eq!(status(&reply)["owner_id"], Value::Null);
}

#[test]
fn a_vm_has_a_bounded_number_of_addresses() {
    let mut net = Net::new("10.0.2.10", "10.0.2.99");
    for _ in 0..64 {
        net.allocate("web-1").unwrap();
    }
    let error = net.allocate("web-1").unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    net.allocate("web-2").unwrap();
}

#[test]
fn several_in_a_row_are_given_and_go_back_together() {
    let mut net = Net::new("10.0.2.0", "10.0.2.9");
    let alice = net.alice;
    // 10.0.2.1 is the gateway; 10.0.2.4 is somebody's.
    let mut single = allocating("p1", "web-2");
    single.address = Some("10.0.2.4".into());
    net.world
        .ask(alice, &Request::AllocateAddress(single))
        .unwrap();
    let mut three = allocating("p1", "web-1");
    three.count = 3;
    let given = net
        .world
        .ask(alice, &Request::AllocateAddress(three.clone()))
        .unwrap();
    assert_eq!(address(&given), "10.0.2.5");
    assert_eq!(status(&given)["range_size"], 3);
    let of_vm = |net: &Net| {
        let mut query = ListQuery::of(Kind::IpAddress);
        query.references = vec![("owner".into(), "web-1".into())];
        let page = list(&net.world.state, &net.world.cx(alice), &query).unwrap();
        let told = page
            .objects
            .iter()
            .map(|it| it["spec"]["address"].as_str().unwrap().to_owned());
        told.collect::<Vec<_>>()
    };
    assert_eq!(of_vm(&net), ["10.0.2.5", "10.0.2.6", "10.0.2.7"]);
    assert_eq!(net.world.used(alice, "addresses"), 4);

    three.address = Some("10.0.2.7".into());
    let taken = net
        .world
        .ask(alice, &Request::AllocateAddress(three.clone()))
        .unwrap_err();
    assert_eq!(taken.code, ErrorCode::Conflict);
    three.address = Some("10.0.2.8".into());
    let short = net
        .world
        .ask(alice, &Request::AllocateAddress(three.clone()))
        .unwrap_err();
    assert_eq!(short.code, ErrorCode::NoCapacity);
    assert!(short.message.contains("no 3 in a row"), "{short}");
    for count in [0, 65] {
        three.count = count;
        let error = net
            .world
            .ask(alice, &Request::AllocateAddress(three.clone()))
            .unwrap_err();
        assert_eq!(error.fields[0].field, "count");
    }

    let part = net
        .act(alice, "10.0.2.6", AddressVerb::Release)
        .unwrap_err();
    assert!(
        part.message
            .contains("10.0.2.6 is one of the 3 from 10.0.2.5 on"),
        "{part}"
    );
    net.act(alice, "10.0.2.5", AddressVerb::Release).unwrap();
    assert_eq!(of_vm(&net), [""; 0]);
    // Rows that are there again and ones that never were make one range.
    three.count = 4;
    three.address = None;
    let again = net
        .world
        .ask(alice, &Request::AllocateAddress(three))
        .unwrap();
    assert_eq!(address(&again), "10.0.2.5");
    assert_eq!(of_vm(&net).last().unwrap(), "10.0.2.8");
    net.world.verify();
}

#[test]
fn a_subnet_has_one_pool_and_pools_of_tenants_share_no_names() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let (admin, pool) = (net.admin, net.pool);
    let old: Value = serde_json::from_str(&net.world.state.get(pool).unwrap().spec).unwrap();
    let second = json!({"data_center_id": old["data_center_id"], "subnet_id": old["subnet_id"],
        "first_address": "10.0.2.30", "last_address": "10.0.2.39"});
    let error = net
        .world
        .create_as(admin, Kind::IpPool, "p2", second)
        .unwrap_err();
    assert_eq!(error.message, "the subnet has a pool already");
    // What one tenant calls its pool says nothing to others, nor to the cloud's own.
    let public = json!({"data_center_id": old["data_center_id"],
        "first_address": "203.0.113.10", "last_address": "203.0.113.19"});
    net.world
        .create_as(admin, Kind::IpPool, "p1", public)
        .unwrap();
    net.world.verify();
}

/// Of a pool that all tenants share none learns who has what, and what is kept goes to whom the operator gives it.
#[test]
fn public_addresses_tell_nothing_of_who_has_them_and_reserved_ones_wait_for_the_operator() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let admin = net.admin;
    let bob = net.world.named(Kind::User, "bob").id;
    let public = json!({"data_center": "dc1", "first_address": "203.0.113.10", "last_address": "203.0.113.19"});
    net.world
        .create_as(admin, Kind::IpPool, "public", public)
        .unwrap();
    let named = |vm: &str, address: &str| {
        let mut asked = allocating("public", vm);
        asked.address = Some(address.into());
        Request::AllocateAddress(asked)
    };
    net.world
        .ask(net.alice, &named("web-1", "203.0.113.11"))
        .unwrap();
    let error = net
        .world
        .ask(bob, &named("other-1", "203.0.113.11"))
        .unwrap_err();
    assert_eq!(
        error.message,
        "203.0.113.11 is allocated: it cannot be allocated"
    );

    let kept = json!({"ip_pool": "public", "address": "203.0.113.12"});
    net.world
        .create_as(admin, Kind::IpAddress, "", kept)
        .unwrap();
    net.act(admin, "203.0.113.12", AddressVerb::Reserve)
        .unwrap();
    let error = net
        .world
        .ask(bob, &named("other-1", "203.0.113.12"))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.contains("is reserved"), "{error}");
    let mut given = allocating("public", "other-1");
    given.address = Some("203.0.113.12".into());
    given.tenant = Some("globex".into());
    net.world
        .ask(admin, &Request::AllocateAddress(given))
        .unwrap();
    net.world.verify();
}
