//! VPCs, subnets and places.

use serde_json::{Value, json};
use virtflow_logic::{Create, Request};
use virtflow_model::Kind;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::asking::create;
use crate::world::World;

/// `acme` and `globex` with an administrator each.
fn world() -> (World, ObjectId, ObjectId) {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    for (user, scope) in [("alice", "tenant/acme"), ("bob", "tenant/globex")] {
        world.bind(user, "tenant_admin", scope);
    }
    let [alice, bob] = ["alice", "bob"].map(|name| world.named(Kind::User, name).id);
    (world, alice, bob)
}

fn subnet(vpc: ObjectId, cidr: &str) -> Value {
    json!({"vpc": vpc, "cidr": cidr})
}

fn making(kind: Kind, name: &str, spec: Value) -> Request {
    Request::Create(Create::new(kind, name, spec))
}

fn field(error: &Error) -> &str {
    assert_eq!(error.code, ErrorCode::Invalid, "{error}");
    &error.fields[0].field
}

#[test]
fn a_vpc_says_what_is_wrong_with_it() {
    let (mut world, alice, _) = world();
    let wrong = [
        (json!({}), "spec.cidr", "missing"),
        (json!({"cidr": "10.0.0.5/16"}), "spec.cidr", "10.0.0.0/16"),
        (
            json!({"cidr": "10.0.0.0/16", "vlan_id": 4095}),
            "spec.vlan_id",
            "1 to 4094",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "vni": 16_777_216}),
            "spec.vni",
            "1 to 16777215",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "vlan_id": 7, "vni": 7}),
            "spec.vni",
            "not by both",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "dns_servers": vec!["10.0.0.2"; 9]}),
            "spec.dns_servers",
            "at most 8",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "dns_servers": ["dns"]}),
            "spec.dns_servers[0]",
            "no address",
        ),
    ];
    for (spec, at, told) in wrong {
        let error = world.create_as(alice, Kind::Vpc, "v", spec).unwrap_err();
        assert_eq!(field(&error), at);
        assert!(error.message.contains(told), "{error}");
    }
    let (admin, acme) = (world.admin, world.named(Kind::Tenant, "acme").id);
    let own = json!({"vlan_id": 4094});
    world.patch(admin, Kind::Tenant, acme, own).unwrap();
    let spec = json!({"cidr": "10.0.0.0/16", "vlan_id": 4094, "dns_servers": vec!["10.0.0.2"; 8]});
    let vpc = world.create_as(alice, Kind::Vpc, "v", spec).unwrap();
    let error = world
        .patch(alice, Kind::Vpc, vpc, json!({"cidr": "10.0.0.0/8"}))
        .unwrap_err();
    assert_eq!(field(&error), "spec.cidr");
    world
        .patch(alice, Kind::Vpc, vpc, json!({"vlan_id": null, "vni": 4094}))
        .unwrap();
}

#[test]
fn what_carries_a_vpc_carries_no_other() {
    let (mut world, alice, bob) = world();
    let vni = json!({"cidr": "10.0.0.0/16", "vni": 5000});
    let vlan = json!({"cidr": "10.0.0.0/16", "vlan_id": 50});
    let admin = world.admin;
    for (name, spec, told) in [
        ("v1", vni, "VNI 5000 carries another VPC"),
        ("v2", vlan, "VLAN 50 carries another VPC"),
    ] {
        let of = |tenant| create(Kind::Vpc, name, Some(tenant), spec.clone());
        world.ask(admin, &of("acme")).unwrap();
        let error = world.ask(admin, &of("globex")).unwrap_err();
        assert_eq!(error.code, ErrorCode::AlreadyExists);
        assert_eq!(error.message, told);
    }
    let neither = json!({"cidr": "10.0.0.0/16"});
    world
        .create_as(bob, Kind::Vpc, "v1", neither.clone())
        .unwrap();
    world.create_as(bob, Kind::Vpc, "v2", neither).unwrap();
    let [first, second] = [("v3", alice), ("v3", bob)].map(|(name, user)| {
        let spec = json!({"cidr": "10.0.0.0/16", "vni": 5001});
        (user, making(Kind::Vpc, name, spec))
    });
    assert_eq!(
        world.race_told(first, second),
        "VNI 5001 carries another VPC"
    );
}

#[test]
fn subnets_lie_within_their_vpc_and_apart_from_one_another() {
    let (mut world, alice, _) = world();
    let [v1, v2] = ["v1", "v2"].map(|name| {
        let spec = json!({"cidr": "10.0.0.0/16"});
        world.create_as(alice, Kind::Vpc, name, spec).unwrap()
    });
    for outside in ["10.1.0.0/24", "10.0.0.0/15", "2001:db8::/64"] {
        let error = world
            .create_as(alice, Kind::Subnet, "s", subnet(v1, outside))
            .unwrap_err();
        assert_eq!(field(&error), "spec.cidr");
        assert!(
            error
                .message
                .contains("does not lie within the VPC's 10.0.0.0/16")
        );
    }
    world
        .create_as(alice, Kind::Subnet, "s1", subnet(v1, "10.0.2.0/23"))
        .unwrap();
    for overlapping in ["10.0.2.0/23", "10.0.3.128/25", "10.0.0.0/16"] {
        let error = world
            .create_as(alice, Kind::Subnet, "s2", subnet(v1, overlapping))
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::AlreadyExists);
        assert!(
            error.message.contains("overlaps another subnet's"),
            "{error}"
        );
    }
    for apart in ["10.0.1.0/24", "10.0.4.0/24"] {
        let name = format!("s-{}", &apart[5..6]);
        world
            .create_as(alice, Kind::Subnet, &name, subnet(v1, apart))
            .unwrap();
    }
    world
        .create_as(alice, Kind::Subnet, "s1", subnet(v2, "10.0.2.0/23"))
        .unwrap();
    let racing = ["10.0.8.0/22", "10.0.9.0/24"].map(|cidr| {
        let name = format!("race-{}", &cidr[5..6]);
        (alice, making(Kind::Subnet, &name, subnet(v1, cidr)))
    });
    let [first, second] = racing;
    let told = world.race_told(first, second);
    assert!(
        told.contains("10.0.9.0 overlaps another subnet's"),
        "{told}"
    );
}

#[test]
fn a_subnet_stays_what_it_is_and_its_gateway_is_within() {
    let (mut world, alice, _) = world();
    let spec = json!({"cidr": "10.0.0.0/16"});
    let vpc = world.create_as(alice, Kind::Vpc, "v1", spec).unwrap();
    for gateway in ["10.0.3.1", "10.0.2.0", "10.0.2.255"] {
        let spec = json!({"vpc": vpc, "cidr": "10.0.2.0/24", "gateway": gateway});
        let error = world.create_as(alice, Kind::Subnet, "s", spec).unwrap_err();
        assert_eq!(field(&error), "spec.gateway");
    }
    let spec = json!({"vpc": vpc, "cidr": "10.0.2.0/24", "gateway": "10.0.2.254"});
    let id = world.create_as(alice, Kind::Subnet, "s", spec).unwrap();
    let stays = [
        (json!({"cidr": "10.0.2.0/25"}), "spec.cidr"),
        (json!({"public": true}), "spec.public"),
    ];
    for (change, at) in stays {
        let error = world.patch(alice, Kind::Subnet, id, change).unwrap_err();
        assert_eq!(field(&error), at);
    }
    let change = json!({"gateway": "10.0.2.1", "auto_assign": false});
    world.patch(alice, Kind::Subnet, id, change).unwrap();
    let error = world.delete(alice, Kind::Vpc, vpc).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    world
        .patch(alice, Kind::Vpc, vpc, json!({"state": "disabled"}))
        .unwrap();
    let error = world
        .create_as(alice, Kind::Subnet, "s2", subnet(vpc, "10.0.3.0/24"))
        .unwrap_err();
    assert!(error.message.contains("takes nothing new"), "{error}");
}

#[test]
fn public_subnets_are_the_clouds_matter() {
    let (mut world, alice, bob) = world();
    let [a, b] = [alice, bob].map(|user| {
        let spec = json!({"cidr": "203.0.113.0/24"});
        world.create_as(user, Kind::Vpc, "v1", spec).unwrap()
    });
    let public = |vpc: ObjectId, cidr: &str| json!({"vpc": vpc, "cidr": cidr, "public": true});
    let error = world
        .create_as(alice, Kind::Subnet, "p", public(a, "203.0.113.0/25"))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(error.message.contains("subnet.manage"), "{error}");
    world.create(Kind::Subnet, "p", public(a, "203.0.113.0/25"));
    let admin = world.admin;
    let error = world
        .create_as(admin, Kind::Subnet, "p", public(b, "203.0.113.32/27"))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    world
        .create_as(bob, Kind::Subnet, "own", subnet(b, "203.0.113.32/27"))
        .unwrap();
    world.create(Kind::Subnet, "p", public(b, "203.0.113.128/25"));
}

#[test]
fn a_place_has_a_subnet_and_a_subnet_a_place() {
    let (mut world, alice, bob) = world();
    let spec = json!({"cidr": "10.0.0.0/16"});
    let vpc = world.create_as(alice, Kind::Vpc, "v1", spec).unwrap();
    let [s1, s2] = ["10.0.1.0/24", "10.0.2.0/24"].map(|cidr| {
        let name = format!("s{}", &cidr[5..6]);
        world
            .create_as(alice, Kind::Subnet, &name, subnet(vpc, cidr))
            .unwrap()
    });
    let at = |subnet: ObjectId| json!({"subnet": subnet});
    world.create_as(alice, Kind::Place, "hq", at(s1)).unwrap();
    let error = world
        .create_as(alice, Kind::Place, "branch", at(s1))
        .unwrap_err();
    assert_eq!(error.message, "that subnet is another place's");
    let branch = world
        .create_as(alice, Kind::Place, "branch", at(s2))
        .unwrap();
    let error = world.delete(alice, Kind::Subnet, s2).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    world
        .patch(alice, Kind::Place, branch, json!({"subnet": null}))
        .unwrap();
    let [first, second] = ["p1", "p2"].map(|name| (alice, making(Kind::Place, name, at(s2))));
    assert_eq!(
        world.race_told(first, second),
        "that subnet is another place's"
    );
    let error = world.create_as(bob, Kind::Place, "hq", at(s1)).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let error = world
        .create_as(bob, Kind::Subnet, "s3", subnet(vpc, "10.0.3.0/24"))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

/// A tenant that could take any number would learn which are taken, and leave none to the others.
#[test]
fn a_tenant_has_its_own_vlan_and_no_other() {
    let (mut world, alice, bob) = world();
    let admin = world.admin;
    let (acme, globex) = (
        world.named(Kind::Tenant, "acme").id,
        world.named(Kind::Tenant, "globex").id,
    );
    let vlan = |id: u16| json!({"cidr": "10.0.0.0/16", "vlan_id": id});
    world
        .patch(admin, Kind::Tenant, acme, json!({"vlan_id": 88}))
        .unwrap();
    for (user, id) in [(alice, 89), (bob, 88), (bob, 90)] {
        let error = world.create_as(user, Kind::Vpc, "v", vlan(id)).unwrap_err();
        assert_eq!(field(&error), "spec.vlan_id");
        assert!(error.message.contains("is not your tenant's"), "{error}");
    }
    let vpc = world.create_as(alice, Kind::Vpc, "v", vlan(88)).unwrap();
    let theirs = create(Kind::Vpc, "w", Some("globex"), vlan(88));
    let error = world.ask(admin, &theirs).unwrap_err();
    assert!(error.message.contains("is another tenant's"), "{error}");
    world.delete(alice, Kind::Vpc, vpc).unwrap();

    // And the other way round.
    let given = create(Kind::Vpc, "w", Some("globex"), vlan(90));
    world.ask(admin, &given).unwrap();
    let error = world
        .patch(admin, Kind::Tenant, acme, json!({"vlan_id": 90}))
        .unwrap_err();
    assert!(
        error
            .message
            .contains("carries the VPC `w` of another tenant"),
        "{error}"
    );
    world
        .patch(admin, Kind::Tenant, globex, json!({"vlan_id": 90}))
        .unwrap();
    world.verify();
}
