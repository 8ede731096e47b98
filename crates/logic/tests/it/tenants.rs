//! The end of a tenant.

use serde_json::json;
use virtflow_logic::{Create, Delete, Power, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::ErrorCode;

use crate::world::World;

#[test]
fn refused_while_it_runs_then_everything_of_it_goes() {
    let (mut world, host) = World::furnished();
    world.tenant("globex", "bob");
    let alice = world.named(Kind::User, "alice").id;
    let acme = world.named(Kind::Tenant, "acme").id;
    world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    world.place();
    world.settle(&host);
    let delete = Request::Delete(Delete {
        kind: Kind::Tenant,
        target: "acme".into(),
        tenant: None,
        force: false,
    });
    let error = world.ask(world.admin, &delete).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert_eq!(
        error.message,
        "tenant `acme` still has virtual_machine `web-1`, which is running"
    );

    let stop = Power {
        target: "web-1".into(),
        tenant: None,
        act: PowerAct::Stop,
    };
    let stop = world.ask(alice, &Request::Power(stop)).unwrap();
    let error = world.ask(world.admin, &delete).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse, "still stopping");
    world.settle(&host);

    let reply = world.ask(world.admin, &delete).unwrap();
    assert_eq!(reply.http_status, 202);
    let again = world.ask(world.admin, &delete).unwrap();
    assert_eq!(
        again.operation_id, reply.operation_id,
        "the one that runs is told, not begun anew"
    );
    let refused = world
        .vm(alice, "web-2", json!({"specification": "small"}))
        .unwrap_err();
    assert_eq!(
        refused.message,
        "tenant `acme` is being deleted: it can be read, not changed"
    );

    world.loops();
    assert!(world.state.get(acme).is_some(), "its VM is still on a host");
    world.settle(&host);
    world.loops();
    assert!(world.state.get(acme).is_none());
    assert!(world.state.get(alice).is_none());
    assert_eq!(world.operation(reply.operation_id.unwrap()).0, "completed");
    assert_eq!(
        world.operation(stop.operation_id.unwrap()).0,
        "completed",
        "its operations can still be looked up"
    );
    assert_eq!(
        world
            .state
            .of_kind(Kind::BaremetalGroupTenantQuota.name(), None)
            .count(),
        1
    );
    assert_eq!(
        world.named(Kind::User, "bob").name,
        "bob",
        "the neighbour is untouched"
    );
    world.assert_ledgers_zero();
    let mut create = Create::new(Kind::Tenant, "acme", json!({}));
    create.tenant = None;
    world.ask(world.admin, &Request::Create(create)).unwrap();
}

#[test]
fn a_tenant_whose_host_is_silent_ends_too() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    world.place();
    world.settle(&host);
    let stop = Power {
        target: "web-1".into(),
        tenant: None,
        act: PowerAct::Stop,
    };
    world.ask(alice, &Request::Power(stop)).unwrap();
    world.settle(&host);
    let delete = Request::Delete(Delete {
        kind: Kind::Tenant,
        target: "acme".into(),
        tenant: None,
        force: false,
    });
    world.ask(world.admin, &delete).unwrap();
    world.offline(&host);
    world.loops();
    assert_eq!(world.state.of_kind(Kind::Tenant.name(), None).count(), 0);
    assert_eq!(world.state.of_kind(Kind::Residue.name(), None).count(), 1);
    assert_eq!(world.used(host.id, "memory_mib"), 128);
}

#[test]
fn an_administrator_who_is_gone_is_no_longer_named() {
    let (mut world, _host) = World::furnished();
    world.user("carol", Some("acme"));
    let patch = virtflow_logic::Update {
        kind: Kind::Tenant,
        target: "acme".into(),
        tenant: None,
        spec: json!({"admin_user": "carol"}),
        merge: true,
    };
    let reply = world.ask(world.admin, &Request::Update(patch)).unwrap();
    assert_eq!(reply.object.unwrap()["names"]["admin_user"], "carol");
    let delete = Delete {
        kind: Kind::User,
        target: "carol".into(),
        tenant: None,
        force: false,
    };
    world.ask(world.admin, &Request::Delete(delete)).unwrap();
    world.loops();
    let spec = &world.named(Kind::Tenant, "acme").spec;
    assert!(!spec.contains("admin_user_id"), "{spec}");
}

/// A tenant is answered for by one of its users or of the cloud's: another tenant's would be shown to its people.
#[test]
fn who_answers_for_a_tenant_is_no_other_tenants() {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let [alice, bob] = ["alice", "bob"].map(|name| world.named(Kind::User, name).id);
    let acme = world.named(Kind::Tenant, "acme").id;
    let admin = world.admin;
    for (user, is_taken) in [(bob, false), (alice, true), (admin, true)] {
        let done = world.patch(admin, Kind::Tenant, acme, json!({"admin_user_id": user}));
        assert_eq!(done.is_ok(), is_taken, "{done:?}");
    }
    let other = json!({"admin_user_id": alice});
    let made = Create::new(Kind::Tenant, "third", other);
    let refused = world.ask(admin, &Request::Create(made)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Invalid);
}
