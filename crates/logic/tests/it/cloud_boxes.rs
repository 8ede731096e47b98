//! Cloud boxes: to whom they were given, and what is bound to them for a while.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::get;
use virtflow_model::Kind;
use virtflow_state::Refused;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, delete, field_of, patch};
use crate::world::World;

const DAY: Duration = Duration::from_secs(86_400);

/// Two boxes of the cloud, and a VM of `acme`.
struct Boxes {
    world: World,
    alice: ObjectId,
    first: ObjectId,
    second: ObjectId,
    vm: ObjectId,
}

impl Boxes {
    fn new() -> Self {
        let (mut world, _host) = World::furnished();
        let alice = world.named(Kind::User, "alice").id;
        let first = world.create(Kind::CloudBox, "b1", json!({"serial_number": "CB-1"}));
        let second = world.create(Kind::CloudBox, "b2", json!({"serial_number": "CB-2"}));
        let vm = world.vm(alice, "web-1", json!({"specification": "small"}));
        let vm = vm.unwrap().object_id.unwrap();
        Self {
            world,
            alice,
            first,
            second,
            vm,
        }
    }

    fn bound(&self, span: Duration) -> Value {
        json!({"bound_vm_id": self.vm, "bound_until": self.world.now.plus(span).to_string()})
    }

    fn spec(&self, id: ObjectId) -> Value {
        serde_json::from_str(&self.world.state.get(id).unwrap().spec).unwrap()
    }
}

#[test]
fn a_serial_number_is_one_boxs() {
    let mut boxes = Boxes::new();
    let admin = boxes.world.admin;
    let again = create(
        Kind::CloudBox,
        "b3",
        Some("acme"),
        json!({"serial_number": "CB-1"}),
    );
    let error = boxes.world.ask(admin, &again).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert!(error.message.contains("CB-1"), "{}", error.message);
    let one = create(Kind::CloudBox, "b4", None, json!({"serial_number": "X"}));
    let two = create(Kind::CloudBox, "b5", None, json!({"serial_number": "X"}));
    let refused = boxes.world.contest(admin, [&one, &two]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
    for (spec, field) in [
        (json!({"serial_number": ""}), "spec.serial_number"),
        (
            json!({"serial_number": "Y", "network": {"mode": "static"}}),
            "spec.network.address",
        ),
        (
            json!({"serial_number": "Y", "network": {"mode": "static", "address": "192.0.2.1"}}),
            "spec.network.prefix_length",
        ),
        (
            json!({"serial_number": "Y",
                   "network": {"mode": "static", "address": "192.0.2.1", "prefix_length": 33}}),
            "spec.network.prefix_length",
        ),
        (
            json!({"serial_number": "Y", "network": {"address": "192.0.2.1"}}),
            "spec.network.mode",
        ),
        (
            json!({"serial_number": "Y", "network": {"dns_servers": vec!["192.0.2.1"; 9]}}),
            "spec.network.dns_servers",
        ),
    ] {
        let request = create(Kind::CloudBox, "b6", None, spec);
        let error = boxes.world.ask(admin, &request).unwrap_err();
        assert_eq!(field_of(&error), field);
    }
    let network = json!({"mode": "static", "address": "2001:db8::7", "prefix_length": 64,
                         "dns_servers": ["2001:db8::1"]});
    let good = json!({"serial_number": "Y", "network": network});
    boxes.world.create(Kind::CloudBox, "b6", good);
    assert_eq!(
        serde_json::from_str::<Value>(&boxes.world.state.get(boxes.first).unwrap().status).unwrap()
            ["status"],
        json!({"phase": "pending", "reason": "not_available"})
    );
}

#[test]
fn a_binding_has_a_vm_and_an_end_within_bounds() {
    let mut boxes = Boxes::new();
    let admin = boxes.world.admin;
    let halves = [
        json!({"bound_vm_id": boxes.vm}),
        json!({"bound_until": boxes.world.now.plus(DAY).to_string()}),
        json!({"bound_vm_id": boxes.vm, "bound_until": boxes.world.now.to_string()}),
        boxes.bound(31 * DAY),
    ];
    for spec in halves {
        let request = patch(Kind::CloudBox, boxes.first, spec);
        let error = boxes.world.ask(admin, &request).unwrap_err();
        assert_eq!(field_of(&error), "spec.bound_until");
    }
    let request = patch(Kind::CloudBox, boxes.first, boxes.bound(30 * DAY));
    boxes.world.ask(admin, &request).unwrap();
}

#[test]
fn a_binding_ends_by_itself_and_only_then() {
    let mut boxes = Boxes::new();
    let admin = boxes.world.admin;
    let bind = patch(Kind::CloudBox, boxes.first, boxes.bound(DAY));
    boxes.world.ask(admin, &bind).unwrap();
    boxes.world.wait(DAY - Duration::from_millis(1));
    boxes.world.loops();
    assert_eq!(boxes.spec(boxes.first)["bound_vm_id"], boxes.vm.to_string());
    boxes.world.wait(Duration::from_millis(1));
    boxes.world.loops();
    assert_eq!(boxes.spec(boxes.first)["bound_vm_id"], Value::Null);
    assert_eq!(boxes.spec(boxes.first)["bound_until"], Value::Null);
    let bind = patch(Kind::CloudBox, boxes.second, boxes.bound(DAY));
    boxes.world.ask(admin, &bind).unwrap();
}

#[test]
fn a_vm_is_bound_to_one_box_at_a_time() {
    let mut boxes = Boxes::new();
    let admin = boxes.world.admin;
    let binds = [boxes.first, boxes.second].map(|id| patch(Kind::CloudBox, id, boxes.bound(DAY)));
    let refused = boxes.world.contest(admin, [&binds[0], &binds[1]]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
    let error = boxes.world.ask(admin, &binds[1]).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert!(error.message.contains("box"), "{}", error.message);
}

#[test]
fn a_box_keeps_neither_its_vm_nor_its_user() {
    let mut boxes = Boxes::new();
    let admin = boxes.world.admin;
    let carol = boxes.world.user("carol", Some("acme"));
    let mut spec = boxes.bound(DAY);
    spec["assigned_user"] = json!("carol");
    let bind = patch(Kind::CloudBox, boxes.first, spec);
    boxes.world.ask(admin, &bind).unwrap();
    let (alice, vm) = (boxes.alice, boxes.vm);
    boxes
        .world
        .ask(alice, &delete(Kind::VirtualMachine, vm))
        .unwrap();
    boxes.world.loops();
    let spec = boxes.spec(boxes.first);
    assert_eq!(
        (&spec["bound_vm_id"], &spec["bound_until"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(spec["assigned_user_id"], carol.to_string());
    boxes.world.ask(admin, &delete(Kind::User, carol)).unwrap();
    boxes.world.loops();
    assert_eq!(boxes.spec(boxes.first)["assigned_user_id"], Value::Null);
}

#[test]
fn who_binds_a_vm_may_use_it_and_its_user_is_of_its_tenant() {
    let mut boxes = Boxes::new();
    let admin = boxes.world.admin;
    boxes.world.tenant("globex", "bob");
    let keeper = boxes.world.user("keeper", None);
    let role = json!({"permissions": ["cloud_box.*", "virtual_machine.read"]});
    boxes.world.create(Kind::Role, "box-keeper", role);
    let spec = json!({"subject": "keeper", "role": "box-keeper"});
    boxes.world.create(Kind::RoleBinding, "", spec);
    let bind = patch(Kind::CloudBox, boxes.first, boxes.bound(DAY));
    let error = boxes.world.ask(keeper, &bind).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(error.message.contains("virtual_machine.execute"));

    let give = patch(Kind::CloudBox, boxes.first, json!({"assigned_user": "bob"}));
    boxes.world.ask(admin, &give).unwrap();
    let error = boxes.world.ask(admin, &bind).unwrap_err();
    assert_eq!(field_of(&error), "spec.bound_vm_id");
    let give = patch(
        Kind::CloudBox,
        boxes.first,
        json!({"assigned_user": "alice"}),
    );
    boxes.world.ask(admin, &give).unwrap();
    boxes.world.ask(admin, &bind).unwrap();
}

#[test]
fn a_tenants_box_refers_to_its_own_and_its_user_reads_it() {
    let mut boxes = Boxes::new();
    let admin = boxes.world.admin;
    boxes.world.tenant("globex", "bob");
    let bob = boxes.world.named(Kind::User, "bob").id;
    let theirs = create(
        Kind::CloudBox,
        "b1",
        Some("globex"),
        json!({"serial_number": "G-1", "assigned_user": "bob"}),
    );
    let theirs = boxes.world.made(admin, &theirs).unwrap();
    let bind = patch(Kind::CloudBox, theirs, boxes.bound(DAY));
    let error = boxes.world.ask(admin, &bind).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "of another tenant");
    let read = |id: ObjectId| {
        get(
            &boxes.world.state,
            &boxes.world.cx(bob),
            Kind::CloudBox,
            &id.to_string(),
            None,
        )
    };
    assert!(read(theirs).is_ok());
    assert_eq!(read(boxes.first).unwrap_err().code, ErrorCode::NotFound);
}
