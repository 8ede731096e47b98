//! Who may do what, to whose objects; and that a stranger's object and none read the same.

use serde_json::json;
use virtflow_logic::{
    Create, Delete, ListQuery, Power, Request, Update, audit_scope, can_i, capacity, get, list,
    usage,
};
use virtflow_model::kinds::RoleBinding;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_model::{Kind, Resource};
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{refuses, spec};
use crate::world::World;

fn twins() -> (World, ObjectId, ObjectId, ObjectId) {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let alice = world.named(Kind::User, "alice").id;
    let bob = world.named(Kind::User, "bob").id;
    let vm = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world
        .vm(bob, "web-1", json!({"specification": "small"}))
        .unwrap();
    (world, alice, bob, vm)
}

#[test]
fn another_tenants_object_reads_as_one_that_does_not_exist() {
    let (mut world, _alice, bob, vm) = twins();
    let missing = ObjectId::generate();
    let requests = |target: String| {
        vec![
            Request::Update(Update {
                kind: Kind::VirtualMachine,
                target: target.clone(),
                tenant: None,
                spec: json!({}),
                merge: true,
            }),
            Request::Delete(Delete {
                kind: Kind::VirtualMachine,
                target: target.clone(),
                tenant: None,
                force: false,
            }),
            Request::Power(Power {
                target: target.clone(),
                tenant: None,
                act: PowerAct::Stop,
            }),
            Request::Create(Create::new(
                Kind::VirtualMachine,
                "x",
                json!({"cpu_cores": 1, "memory_mib": 128, "group_id": target}),
            )),
            Request::Create(Create::new(
                Kind::RoleBinding,
                "",
                json!({"subject": "bob", "role": "viewer", "scope_id": target}),
            )),
        ]
    };
    for (theirs, nobodys) in requests(vm.to_string())
        .iter()
        .zip(requests(missing.to_string()))
    {
        let theirs = world.ask(bob, theirs).unwrap_err();
        let nobodys = world.ask(bob, &nobodys).unwrap_err();
        assert_eq!(theirs.code, ErrorCode::NotFound);
        let text = |error: &virtflow_types::Error| serde_json::to_string(error).unwrap();
        assert_eq!(
            text(&theirs).replace(&vm.to_string(), "ID"),
            text(&nobodys).replace(&missing.to_string(), "ID")
        );
    }
    let read = |id: ObjectId| {
        let error = get(
            &world.state,
            &world.cx(bob),
            Kind::VirtualMachine,
            &id.to_string(),
            None,
        );
        error.unwrap_err().message.replace(&id.to_string(), "ID")
    };
    assert_eq!(read(vm), read(missing));
    let by_tenant = get(
        &world.state,
        &world.cx(bob),
        Kind::VirtualMachine,
        "web-1",
        Some("acme"),
    );
    assert_eq!(by_tenant.unwrap_err().message, "no tenant `acme`");
}

#[test]
fn each_twin_sees_its_own_under_the_same_name() {
    let (world, alice, bob, vm) = twins();
    let of = |user: ObjectId| {
        get(
            &world.state,
            &world.cx(user),
            Kind::VirtualMachine,
            "web-1",
            None,
        )
        .unwrap()
        .id
    };
    assert_eq!(of(alice), vm);
    assert_ne!(of(bob), vm);
    let both = get(
        &world.state,
        &world.cx(world.admin),
        Kind::VirtualMachine,
        "web-1",
        None,
    );
    assert_eq!(
        both.unwrap_err().code,
        ErrorCode::Conflict,
        "ambiguous for who sees both"
    );
    let one = get(
        &world.state,
        &world.cx(world.admin),
        Kind::VirtualMachine,
        "web-1",
        Some("acme"),
    );
    assert_eq!(one.unwrap().id, vm);

    let count = |user: ObjectId, kind: Kind| {
        list(&world.state, &world.cx(user), &ListQuery::of(kind))
            .unwrap()
            .objects
            .len()
    };
    assert_eq!(count(alice, Kind::VirtualMachine), 1);
    assert_eq!(count(world.admin, Kind::VirtualMachine), 2);
    assert_eq!(count(alice, Kind::Tenant), 1);
    assert_eq!(count(alice, Kind::User), 1, "only herself");
    assert_eq!(
        count(alice, Kind::BaremetalGroup),
        1,
        "she has a quota in it"
    );
    assert_eq!(
        count(alice, Kind::BaremetalGroupTenantQuota),
        1,
        "her own tenant's"
    );
    assert_eq!(count(alice, Kind::Baremetal), 0);
    assert_eq!(count(alice, Kind::VirtualMachineSpecification), 1);
    assert_eq!(count(alice, Kind::JoinToken), 0);
    assert_eq!(count(alice, Kind::Operation), 1);
    assert_eq!(count(alice, Kind::RoleBinding), 1, "her own");
}

#[test]
fn what_a_developer_may_not_do() {
    let (mut world, alice, _bob, _vm) = twins();
    let create = |kind, name: &str, spec| Request::Create(Create::new(kind, name, spec));
    let forbidden = [
        create(Kind::DataCenter, "dc9", json!({})),
        create(Kind::Tenant, "mine", json!({})),
        create(
            Kind::VirtualMachineSpecification,
            "huge",
            json!({"cpu_cores": 64, "memory_mib": 1024, "storage_gib": 1}),
        ),
        create(
            Kind::RoleBinding,
            "",
            json!({"subject": "alice", "role": "developer", "scope": "system"}),
        ),
        create(Kind::User, "friend", json!({})),
        Request::Update(Update {
            kind: Kind::Tenant,
            target: "acme".into(),
            tenant: None,
            spec: json!({"quota": {}}),
            merge: true,
        }),
        Request::Update(Update {
            kind: Kind::BaremetalGroup,
            target: "g1".into(),
            tenant: None,
            spec: json!({"cpu_overcommit_percent": 3200}),
            merge: true,
        }),
        Request::Delete(Delete {
            kind: Kind::Tenant,
            target: "acme".into(),
            tenant: None,
            force: false,
        }),
        Request::Delete(Delete {
            kind: Kind::User,
            target: "alice".into(),
            tenant: None,
            force: false,
        }),
    ];
    for request in &forbidden {
        let error = world.ask(alice, request).unwrap_err();
        assert_eq!(error.code, ErrorCode::Forbidden, "{request:?}: {error}");
    }
    let invisible = Request::Delete(Delete {
        kind: Kind::Baremetal,
        target: "host-sn-1".into(),
        tenant: None,
        force: false,
    });
    assert_eq!(
        world.ask(alice, &invisible).unwrap_err().code,
        ErrorCode::NotFound
    );
    assert!(audit_scope(&world.state, &world.cx(alice), None).is_err());
    assert_eq!(
        audit_scope(&world.state, &world.cx(world.admin), None),
        Ok(None)
    );
    let gone = ObjectId::from_u128(7);
    let of_gone = |user| audit_scope(&world.state, &world.cx(user), Some(&gone.to_string()));
    assert_eq!(of_gone(world.admin), Ok(Some(gone)));
    assert_eq!(of_gone(alice).unwrap_err().code, ErrorCode::NotFound);
    assert!(usage(&world.state, &world.cx(alice), "globex").is_err());
    assert_eq!(
        usage(&world.state, &world.cx(alice), "acme").unwrap()["accounts"]["vms"],
        json!({"limit": 5, "used": 1, "available": 4})
    );
    let groups = capacity(&world.state, &world.cx(alice)).unwrap();
    assert_eq!(
        groups["groups"][0]["hosts"],
        json!([]),
        "hosts are not a tenant's to count"
    );
    assert!(groups["groups"][0].get("total").is_none());
}

#[test]
fn can_i_answers_as_the_verbs_do() {
    let (world, alice, _bob, vm) = twins();
    let ask = |permission: &str, target: Option<&str>| {
        can_i(&world.state, &world.cx(alice), permission, target, None).unwrap()
    };
    assert!(ask("virtual_machine.execute", Some(&vm.to_string())));
    assert!(
        !ask("virtual_machine.execute", None),
        "not over everybody's"
    );
    assert!(!ask("tenant.admin", Some("acme")));
    assert!(can_i(&world.state, &world.cx(alice), "moon.fly", None, None).is_err());
}

#[test]
fn a_binding_over_one_object_reaches_it_alone_and_goes_with_it() {
    let (mut world, alice, _bob, vm) = twins();
    let carol = world.user("carol", Some("acme"));
    let other = world
        .vm(alice, "web-2", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    let scope = format!("vm/{vm}");
    let binding = world.bind("carol", "user", &scope);
    let sees = |world: &World, id: ObjectId| {
        get(
            &world.state,
            &world.cx(carol),
            Kind::VirtualMachine,
            &id.to_string(),
            None,
        )
        .is_ok()
    };
    assert!(sees(&world, vm));
    assert!(!sees(&world, other));
    let stop = Request::Power(Power {
        target: vm.to_string(),
        tenant: None,
        act: PowerAct::Stop,
    });
    world.ask(carol, &stop).unwrap();
    let gone = Request::Delete(Delete {
        kind: Kind::VirtualMachine,
        target: vm.to_string(),
        tenant: None,
        force: false,
    });
    assert_eq!(
        world.ask(carol, &gone).unwrap_err().code,
        ErrorCode::Forbidden
    );
    world.ask(alice, &gone).unwrap();
    assert!(world.state.get(binding).is_none());
}

#[test]
fn rights_end_at_once_with_role_binding_user_and_credential() {
    let (mut world, alice, _bob, _vm) = twins();
    let suspend = Update {
        kind: Kind::User,
        target: "alice".into(),
        tenant: None,
        spec: json!({"state": "suspended"}),
        merge: true,
    };
    world.ask(world.admin, &Request::Update(suspend)).unwrap();
    let read = get(
        &world.state,
        &world.cx(alice),
        Kind::VirtualMachine,
        "web-1",
        None,
    );
    assert_eq!(read.unwrap_err().code, ErrorCode::Unauthenticated);
}

#[test]
fn a_suspended_tenant_is_read_only() {
    let (mut world, alice, _bob, vm) = twins();
    let state = |word: &str| {
        Request::Update(Update {
            kind: Kind::Tenant,
            target: "acme".into(),
            tenant: None,
            spec: json!({"state": word}),
            merge: true,
        })
    };
    world.ask(world.admin, &state("suspended")).unwrap();
    assert!(
        get(
            &world.state,
            &world.cx(alice),
            Kind::VirtualMachine,
            "web-1",
            None
        )
        .is_ok()
    );
    for (user, what) in [(alice, "a"), (world.admin, "b")] {
        let mut create = Create::new(
            Kind::VirtualMachine,
            what,
            json!({"specification": "small"}),
        );
        create.tenant = Some("acme".into());
        let error = world.ask(user, &Request::Create(create)).unwrap_err();
        assert_eq!(
            error.message,
            "tenant `acme` is suspended: it can be read, not changed"
        );
    }
    let stop = Request::Power(Power {
        target: vm.to_string(),
        tenant: None,
        act: PowerAct::Stop,
    });
    assert_eq!(
        world.ask(alice, &stop).unwrap_err().code,
        ErrorCode::Conflict
    );
    world.place();
    assert_eq!(world.vm_status(vm).reason, "tenant_not_active");
    world.ask(world.admin, &state("active")).unwrap();
    world.ask(alice, &stop).unwrap();
}

/// What is a tenant's is neither changed nor removed meanwhile, of whatever kind; what gives rights in it is.
#[test]
fn nothing_of_a_suspended_tenant_is_changed_or_removed_but_who_has_rights() {
    let (mut world, alice, _bob, _vm) = twins();
    let bound = RoleBinding::KIND.name();
    let bindings: Vec<ObjectId> = world.state.of_kind(bound, None).map(|it| it.id).collect();
    let things = [
        (Kind::Template, "t1", json!({})),
        (Kind::QaQuestion, "", json!({"title": "Why?"})),
    ];
    let ids = things.map(|(kind, name, spec)| {
        let id = world.create_as(alice, kind, name, spec).unwrap();
        (kind, id)
    });
    let admin = world.admin;
    let acme = world.named(Kind::Tenant, "acme").id;
    let suspended = json!({"state": "suspended"});
    world.patch(admin, Kind::Tenant, acme, suspended).unwrap();
    for (kind, id) in ids {
        let says = "tenant `acme` is suspended: it can be read, not changed";
        let edit = world.patch(admin, kind, id, json!({}));
        refuses(edit, ErrorCode::Conflict, says);
        refuses(world.delete(admin, kind, id), ErrorCode::Conflict, says);
    }
    let hers = bindings
        .into_iter()
        .find(|id| spec(&world, *id)["subject_id"] == json!(alice))
        .unwrap();
    world.delete(admin, Kind::RoleBinding, hers).unwrap();
    let away = json!({"state": "suspended"});
    world.patch(admin, Kind::User, alice, away).unwrap();
}
