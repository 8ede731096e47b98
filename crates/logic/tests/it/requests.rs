//! What every request has in common: keys, generations, fields, the record.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::{
    Create, Delete, Idempotency, Refusal, Request, Update, decide, refusals_summary,
};
use virtflow_model::Kind;
use virtflow_state::Op;
use virtflow_types::{ErrorCode, RequestId};

use crate::world::World;

fn create(name: &str, spec: Value) -> Request {
    Request::Create(Create::new(Kind::VirtualMachine, name, spec))
}

fn key(text: &str, hash: &str) -> Option<Idempotency> {
    Some(Idempotency {
        key: text.into(),
        request_hash: hash.into(),
    })
}

#[test]
fn a_repeated_key_gives_the_first_answer_and_does_nothing() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let request = create("web-1", json!({"specification": "small"}));
    let mut cx = world.cx(alice);
    cx.idempotency = key("order-1", "aa");
    let first = world.ask_with(&cx, &request).unwrap();
    assert!(!first.replayed);
    let objects = world.state.object_count();
    let mut again = world.cx(alice);
    again.idempotency = key("order-1", "aa");
    let second = world.ask_with(&again, &request).unwrap();
    assert!(second.replayed);
    assert_eq!(second.http_status, 202);
    assert_eq!(
        (second.object_id, second.operation_id),
        (first.object_id, first.operation_id)
    );
    assert_eq!(second.object.unwrap()["name"], "web-1");
    assert_eq!(world.state.object_count(), objects);

    again.idempotency = key("order-1", "bb");
    assert_eq!(
        world.ask_with(&again, &request).unwrap_err().code,
        ErrorCode::Conflict
    );
    // Another's key is another key.
    let mut others = world.cx(world.admin);
    others.idempotency = key("order-1", "bb");
    let spec = Request::Create(Create::new(Kind::DataCenter, "dc2", json!({})));
    assert!(!world.ask_with(&others, &spec).unwrap().replayed);
    for bad in ["", "with space", &"x".repeat(129)] {
        again.idempotency = key(bad, "aa");
        assert_eq!(
            world.ask_with(&again, &request).unwrap_err().code,
            ErrorCode::Invalid
        );
    }
}

#[test]
fn a_key_is_free_again_after_its_time() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let mut cx = world.cx(alice);
    cx.idempotency = key("k", "aa");
    world
        .ask_with(&cx, &create("a", json!({"specification": "small"})))
        .unwrap();
    world.wait(Duration::from_secs(24 * 3600));
    let mut cx = world.cx(alice);
    cx.idempotency = key("k", "bb");
    let reply = world
        .ask_with(&cx, &create("b", json!({"specification": "small"})))
        .unwrap();
    assert!(!reply.replayed);
    world.wait(Duration::from_secs(25 * 3600));
    world.loops();
    assert_eq!(
        world
            .state
            .of_kind(Kind::IdempotencyKey.name(), None)
            .count(),
        0
    );
    assert_eq!(world.used(alice, "idempotency_keys"), 0);
}

#[test]
fn a_generation_that_moved_on_is_told() {
    let (mut world, _host) = World::furnished();
    let patch = |description: &str| {
        Request::Update(Update {
            kind: Kind::DataCenter,
            target: "dc1".into(),
            tenant: None,
            spec: json!({"description": description}),
            merge: true,
        })
    };
    let mut cx = world.cx(world.admin);
    cx.if_match = Some(virtflow_logic::IfMatch::generation(1));
    let reply = world.ask_with(&cx, &patch("first")).unwrap();
    assert_eq!(reply.generation, Some(2));
    let spec = &reply.object.unwrap()["spec"];
    assert_eq!(
        (&spec["description"], &spec["region"]),
        (&json!("first"), &json!("eu-north"))
    );
    let error = world.ask_with(&cx, &patch("second")).unwrap_err();
    assert_eq!(error.code, ErrorCode::PreconditionFailed);
    let same = decide(&world.state, &world.cx(world.admin), &patch("first")).unwrap();
    assert!(same.0.ops.is_empty(), "nothing changes, nothing is written");
    assert_eq!(same.1.generation, Some(2));
}

#[test]
fn wrong_fields_are_named() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let cases = [
        (
            json!({"specification": "small", "colour": "red"}),
            "spec.colour",
        ),
        (
            json!({"cpu_cores": "two", "memory_mib": 128}),
            "spec.cpu_cores",
        ),
        (json!({"cpu_cores": 0, "memory_mib": 128}), "spec.cpu_cores"),
        (
            json!({"cpu_cores": 1, "memory_mib": 128, "labels": {"a": 1}}),
            "spec.labels.a",
        ),
        (
            json!({"specification": "small", "memory_mib": 64}),
            "spec.memory_mib",
        ),
        (
            json!({"specification_id": "not-an-id"}),
            "spec.specification_id",
        ),
        (json!({"specification": 7}), "spec.specification"),
        (json!([]), "spec"),
    ];
    for (spec, field) in cases {
        let error = world.vm(alice, "a", spec.clone()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid, "{spec}");
        assert_eq!(error.fields[0].field, field, "{spec}: {error}");
    }
    let error = world
        .ask(
            alice,
            &create("Bad Name", json!({"specification": "small"})),
        )
        .unwrap_err();
    assert_eq!(error.fields[0].field, "name");
    let error = world
        .ask(world.admin, &create("a", json!({"specification": "small"})))
        .unwrap_err();
    assert_eq!(
        error.fields[0].field, "tenant",
        "an administrator belongs to none"
    );
    let error = world
        .vm(alice, "a", json!({"specification": "tiny"}))
        .unwrap_err();
    assert_eq!(error.message, "no virtual_machine_specification `tiny`");
}

#[test]
fn a_name_is_taken_once() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    let error = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert_eq!(
        error.message,
        "a virtual_machine named `web-1` exists already"
    );
}

#[test]
fn what_is_needed_says_by_whom() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    world.place();
    let mut refused = |kind: Kind, target: &str| {
        let delete = Delete {
            kind,
            target: target.into(),
            tenant: None,
            force: false,
        };
        let error = world
            .ask(world.admin, &Request::Delete(delete))
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::InUse, "{kind:?}: {error}");
        error.message
    };
    let message = refused(Kind::VirtualMachineSpecification, "small");
    assert_eq!(
        message,
        "virtual_machine_specification `small` is still needed by virtual_machine `web-1`"
    );
    refused(Kind::DataCenter, "dc1");
    refused(Kind::BaremetalGroup, "g1");
    refused(Kind::Tenant, "acme");
}

#[test]
fn every_change_has_its_record_in_the_same_changeset() {
    let (world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let mut cx = world.cx(alice);
    cx.source = "198.51.100.7".into();
    let (changeset, reply) = decide(
        &world.state,
        &cx,
        &create("web-1", json!({"specification": "small"})),
    )
    .unwrap();
    let record = audit_of(&changeset);
    assert_eq!(record["actor"], alice.to_string());
    assert_eq!(record["actor_name"], "alice");
    assert_eq!(record["action"], "virtual_machine.create");
    assert_eq!(record["object"], reply.object_id.unwrap().to_string());
    assert_eq!(
        record["tenant"],
        world.named(Kind::Tenant, "acme").id.to_string()
    );
    assert_eq!(record["source"], "198.51.100.7");
    assert_eq!(record["outcome"], "success");
    assert_eq!(record["request_id"], cx.request_id.to_string());

    let patch = Request::Update(Update {
        kind: Kind::Tenant,
        target: "acme".into(),
        tenant: None,
        spec: json!({"quota": {"memory_mib": 8192}}),
        merge: true,
    });
    let (changeset, _) = decide(&world.state, &world.cx(world.admin), &patch).unwrap();
    assert_eq!(
        audit_of(&changeset)["changes"],
        json!([{"field": "quota.memory_mib", "from": 4096, "to": 8192}])
    );
}

#[test]
fn refusals_are_told_in_a_summary_that_counts_once() {
    let mut world = World::new();
    let refusal = Refusal {
        actor: "mallory".into(),
        action: "login".into(),
        object: "mallory".into(),
        source: "203.0.113.5".into(),
        code: ErrorCode::Unauthenticated,
        count: 42,
        first: world.now,
        last: world.now,
    };
    let before = world.state.stream("audit").count;
    let changeset = refusals_summary(&world.state, RequestId::generate(), world.now, &[refusal]);
    world.commit(&changeset).unwrap();
    assert_eq!(world.state.stream("audit").count, before + 1);
    let record = audit_of(&changeset);
    assert_eq!(
        (&record["outcome"], &record["count"]),
        (&json!("denied"), &json!(42))
    );
    let none = refusals_summary(&world.state, RequestId::generate(), world.now, &[]);
    assert!(none.ops.is_empty());
}

#[test]
fn a_refusal_is_told_in_the_words_of_changes() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let acme = world.named(Kind::Tenant, "acme").id;
    let vm = world.vm(alice, "web", json!({"specification": "small"}));
    let vm = vm.unwrap().object_id.unwrap();
    let refused = |action: &str, object: &str| {
        let refusal = Refusal {
            actor: alice.to_string(),
            action: action.into(),
            object: object.into(),
            source: "203.0.113.5".into(),
            code: ErrorCode::Forbidden,
            count: 1,
            first: world.now,
            last: world.now,
        };
        let summary = refusals_summary(&world.state, RequestId::generate(), world.now, &[refusal]);
        audit_of(&summary)
    };
    let told = refused("DELETE /api/v1/tenants/{id}", "/api/v1/tenants/acme");
    for (field, value) in [
        ("action", "tenant.delete".to_owned()),
        ("kind", "tenant".to_owned()),
        ("object", acme.to_string()),
        ("name", "acme".to_owned()),
        ("tenant", acme.to_string()),
        ("actor", alice.to_string()),
        ("actor_name", "alice".to_owned()),
        ("request", "DELETE /api/v1/tenants/{id}".to_owned()),
    ] {
        assert_eq!(told[field], value, "{field}");
    }
    for (action, object, words) in [
        (
            "POST /api/v1/virtual_machines/{id}/start",
            format!("/api/v1/virtual_machines/{vm}/start"),
            "virtual_machine.start",
        ),
        (
            "PATCH /api/v1/virtual_machines/{id}",
            "/api/v1/virtual_machines/web".to_owned(),
            "virtual_machine.update",
        ),
    ] {
        let told = refused(action, &object);
        assert_eq!(
            (&told["action"], &told["object"]),
            (&json!(words), &json!(vm))
        );
        assert_eq!(told["tenant"], json!(acme));
    }
    // Of what nothing is, it is who asked that tells whose it is.
    let told = refused("POST /api/v1/racks", "/api/v1/racks");
    assert_eq!(
        (&told["action"], &told["object"]),
        (&json!("rack.create"), &json!("/api/v1/racks"))
    );
    assert_eq!(told["tenant"], json!(acme));
    let told = refused("GET /api/v1/audit", "/api/v1/audit");
    assert_eq!(told["action"], "GET /api/v1/audit");
}

fn audit_of(changeset: &virtflow_state::Changeset) -> Value {
    let record = changeset.ops.iter().find_map(|op| match op {
        Op::Record(record) => Some(&record.body),
        _ => None,
    });
    serde_json::from_slice(record.unwrap()).unwrap()
}
