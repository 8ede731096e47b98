//! Pools of addresses: where they lie, and whose VMs they give to.

use serde_json::{Value, json};
use virtflow_logic::{AddressVerb, Create, Power, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::ErrorCode;

use crate::net::{Net, address, asking};

#[test]
fn pools_lie_within_their_subnet_apart_from_one_another_and_only_grow() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    for (first, last, at) in [
        ("10.0.1.250", "10.0.2.5", "spec.first_address"),
        ("10.0.2.250", "10.0.3.5", "spec.last_address"),
        ("10.0.2.30", "10.0.2.20", "spec.last_address"),
        ("10.0.2.30", "2001:db8::1", "spec.last_address"),
    ] {
        let error = net.pool("p2", first, last).unwrap_err();
        assert_eq!(error.fields[0].field, at, "{error}");
    }
    let huge =
        json!({"data_center": "dc1", "first_address": "198.18.0.0", "last_address": "198.19.0.0"});
    let error = net
        .world
        .create_as(net.admin, Kind::IpPool, "p2", huge)
        .unwrap_err();
    assert!(
        error.message.contains("at most 65536 addresses, not 65537"),
        "{error}"
    );
    let second = net.pool("p2", "10.0.2.20", "10.0.2.29").unwrap_err();
    assert_eq!(second.code, ErrorCode::AlreadyExists);
    assert_eq!(second.message, "the subnet has a pool already");
    let admin = net.admin;
    let public = |first: &str, last: &str| json!({"data_center": "dc1", "first_address": first, "last_address": last});
    let made = |net: &mut Net, name: &str, first: &str, last: &str| {
        net.world
            .create_as(admin, Kind::IpPool, name, public(first, last))
    };
    made(&mut net, "public-1", "198.18.0.10", "198.18.0.19").unwrap();
    for (first, last) in [
        ("198.18.0.19", "198.18.0.30"),
        ("198.18.0.12", "198.18.0.13"),
    ] {
        let error = made(&mut net, "public-2", first, last).unwrap_err();
        assert_eq!(error.code, ErrorCode::AlreadyExists);
        assert!(error.message.contains("overlaps another pool's"), "{error}");
    }
    let beside = made(&mut net, "public-2", "198.18.0.20", "198.18.0.29").unwrap();
    let shrunk = json!({"first_address": "198.18.0.19"});
    let error = net
        .world
        .patch(admin, Kind::IpPool, beside, shrunk)
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    let pool = net.pool;
    let mut change = |spec: Value| net.world.patch(admin, Kind::IpPool, pool, spec);
    for (spec, at) in [
        (json!({"first_address": "10.0.2.11"}), "spec.first_address"),
        (json!({"last_address": "10.0.2.18"}), "spec.last_address"),
        (json!({"subnet": null}), "spec.subnet_id"),
    ] {
        assert_eq!(change(spec).unwrap_err().fields[0].field, at);
    }
    change(json!({"first_address": "10.0.2.2"})).unwrap();
    let [first, second] = [("p3", "198.18.0.40"), ("p4", "198.18.0.45")].map(|(name, first)| {
        let spec = public(first, "198.18.0.49");
        (
            admin,
            Request::Create(Create::new(Kind::IpPool, name, spec)),
        )
    });
    let told = net.world.race_told(first, second);
    assert!(
        told.contains("198.18.0.45 overlaps another pool's"),
        "{told}"
    );
}

#[test]
fn the_gateway_stays_while_there_are_addresses_and_takes_none_that_is_given() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let (admin, subnet) = (net.admin, net.subnet);
    let change = json!({"gateway": "10.0.2.254"});
    net.world
        .patch(admin, Kind::Subnet, subnet, change.clone())
        .unwrap();
    let racing = Request::Update(virtflow_logic::Update {
        kind: Kind::Subnet,
        target: subnet.to_string(),
        tenant: None,
        spec: json!({"gateway": "10.0.2.10"}),
        merge: true,
    });
    let told = net
        .world
        .race_told((net.alice, asking("p1", "web-1")), (admin, racing));
    assert_eq!(told, "the address 10.0.2.10 is taken");
    let error = net
        .world
        .patch(admin, Kind::Subnet, subnet, json!({"gateway": "10.0.2.1"}))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert!(error.message.contains("it has 1"), "{error}");
    net.world
        .patch(admin, Kind::Subnet, subnet, json!({"auto_assign": false}))
        .unwrap();
}

#[test]
fn a_pool_gives_to_its_tenants_vms_while_it_is_active() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let bob = net.world.named(Kind::User, "bob").id;
    let error = net.world.ask(bob, &asking("p1", "other-1")).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::NotFound, "no ip_pool `p1`")
    );
    let error = net
        .world
        .ask(net.admin, &asking("p1", "other-1"))
        .unwrap_err();
    assert_eq!(error.message, "no virtual_machine `other-1`");
    let error = net
        .world
        .ask(net.alice, &asking("p1", "other-1"))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    net.allocate("web-1").unwrap();
    net.world
        .patch(
            net.admin,
            Kind::IpPool,
            net.pool,
            json!({"state": "maintenance"}),
        )
        .unwrap();
    let error = net.allocate("web-1").unwrap_err();
    assert_eq!(
        error.message,
        "ip_pool `p1` is maintenance: it gives nothing"
    );
    net.act(net.alice, "10.0.2.10", AddressVerb::Release)
        .unwrap();
    net.world.user("carol", Some("acme"));
    let carol = net.world.bind("carol", "user", "tenant/acme");
    assert!(net.world.state.get(carol).is_some());
    net.world
        .patch(
            net.admin,
            Kind::IpPool,
            net.pool,
            json!({"state": "active"}),
        )
        .unwrap();
    let carol = net.world.named(Kind::User, "carol").id;
    net.world.bind("carol", "viewer", "tenant/acme");
    let error = net.world.ask(carol, &asking("p1", "web-1")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
}

#[test]
fn public_addresses_are_for_every_tenant_and_stay_the_clouds() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let range = json!({"data_center": "dc1", "first_address": "203.0.113.10", "last_address": "203.0.113.19"});
    net.world.bind("alice", "tenant_admin", "tenant/acme");
    let error = net
        .world
        .create_as(net.alice, Kind::IpPool, "public", range.clone())
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    net.world.create(Kind::IpPool, "public", range);
    let bob = net.world.named(Kind::User, "bob").id;
    let given = net
        .world
        .ask(net.alice, &asking("public", "web-1"))
        .unwrap();
    assert_eq!(address(&given), "203.0.113.10");
    let given = net.world.ask(bob, &asking("public", "other-1")).unwrap();
    assert_eq!(address(&given), "203.0.113.11");
    let error = net
        .act(bob, "203.0.113.10", AddressVerb::Release)
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let error = net
        .act(net.alice, "203.0.113.10", AddressVerb::Freeze)
        .unwrap_err();
    assert_eq!(
        error.code,
        ErrorCode::Forbidden,
        "it is frozen by who manages the pool"
    );
    let released = net
        .act(net.alice, "203.0.113.10", AddressVerb::Release)
        .unwrap();
    assert_eq!(released.object.unwrap()["tenant_id"], Value::Null);
    let given = net.world.ask(bob, &asking("public", "other-1")).unwrap();
    assert_eq!(address(&given), "203.0.113.10");
}

#[test]
fn a_tenant_that_goes_takes_its_networks_along() {
    let mut net = Net::new("10.0.2.10", "10.0.2.19");
    let place = json!({"subnet": net.subnet});
    let mut create = Create::new(Kind::Place, "hq", place);
    create.tenant = Some("acme".into());
    net.world.ask(net.admin, &Request::Create(create)).unwrap();
    net.world.place();
    net.world.settle(&net.host);
    net.allocate("web-1").unwrap();
    net.act(net.admin, "10.0.2.10", AddressVerb::Freeze)
        .unwrap();
    for vm in ["web-1", "web-2"] {
        let stop = Power {
            target: vm.into(),
            tenant: None,
            act: PowerAct::Stop,
        };
        net.world.ask(net.alice, &Request::Power(stop)).unwrap();
    }
    net.world.settle(&net.host);
    let acme = net.world.named(Kind::Tenant, "acme").id;
    net.world.delete(net.admin, Kind::Tenant, acme).unwrap();
    net.world.loops();
    net.world.settle(&net.host);
    net.world.loops();
    assert!(net.world.state.get(acme).is_none());
    for kind in ["vpc", "subnet", "place", "ip_pool", "ip_address"] {
        assert_eq!(net.world.state.count_of_kind(kind), 0, "{kind}");
    }
}
