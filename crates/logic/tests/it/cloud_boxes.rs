//! Cloud boxes: to whom they were given, and what is bound to them for a while.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::{
    CloudBoxTells, Limits, Request, cloud_boxes_heard, cloud_boxes_silent, decide, get,
};
use virtflow_model::Kind;
use virtflow_model::kinds::cloud_box::CloudBoxStatus;
use virtflow_state::{Op, Refused};
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, delete, field_of, patch, status};
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
        json!({"phase": "initializing"})
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

/// What a box tells, sent by a user.
fn tell(
    world: &mut World,
    user: ObjectId,
    target: ObjectId,
    report: Value,
) -> Result<usize, virtflow_types::Error> {
    let request = Request::CloudBox(CloudBoxTells {
        target: target.to_string(),
        tenant: None,
        report: serde_json::from_value(report).unwrap(),
    });
    let cx = world.cx(user);
    let (changeset, _) = decide(&world.state, &cx, &request)?;
    let records = changeset.ops.iter();
    let records = records.filter(|op| matches!(op, Op::Record(_))).count();
    let written = changeset.ops.len();
    if written > 0 {
        world.commit(&changeset).unwrap();
    }
    // 0: nothing was written; 1: figures alone; 2: and a record.
    Ok(usize::from(written > 0) + records)
}

#[test]
fn what_a_box_tells_is_written_when_it_is_news_and_figures_once_in_a_while() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let spec = json!({"serial_number": "CB-1"});
    let id = world.create(Kind::CloudBox, "desk", spec);
    assert_eq!(status(&world, id)["phase"], "initializing");
    let usual = json!({"firmware_version": "1.0", "cpu_used_percent": 12.5, "uptime_s": 100});
    assert_eq!(tell(&mut world, admin, id, usual.clone()).unwrap(), 2);
    let first = status(&world, id);
    assert_eq!(
        (&first["phase"], &first["report"]),
        (&json!("online"), &usual)
    );
    let generation = world.state.get(id).unwrap().generation;

    // The same again, and other figures: nothing is written.
    world.wait(Duration::from_secs(30));
    let busier = json!({"firmware_version": "1.0", "cpu_used_percent": 99.0, "uptime_s": 130});
    assert_eq!(tell(&mut world, admin, id, busier.clone()).unwrap(), 0);
    assert_eq!(status(&world, id), first);
    world.wait(Duration::from_secs(15 * 60));
    let later = json!({"firmware_version": "1.0", "cpu_used_percent": 50.0, "uptime_s": 1030});
    assert_eq!(tell(&mut world, admin, id, later.clone()).unwrap(), 1);
    assert_eq!(status(&world, id)["report"], later);
    assert_eq!(status(&world, id)["booted_at"], first["booted_at"]);

    // Another firmware, a start, trouble: at once.
    world.wait(Duration::from_secs(30));
    for news in [
        json!({"firmware_version": "1.1", "uptime_s": 1060}),
        json!({"firmware_version": "1.1", "uptime_s": 5}),
        json!({"firmware_version": "1.1", "uptime_s": 5, "error": "the fan stands still"}),
    ] {
        assert_eq!(
            tell(&mut world, admin, id, news.clone()).unwrap(),
            2,
            "{news}"
        );
    }
    let trouble = status(&world, id);
    assert_eq!(trouble["phase"], "error");
    assert_ne!(trouble["booted_at"], first["booted_at"]);
    assert_eq!(world.state.get(id).unwrap().generation, generation);

    // Silent, and heard again; what it told stays.
    assert_eq!(cloud_boxes_heard(&world.state), [id]);
    let silent = cloud_boxes_silent(&world.state, world.now, &Limits::default(), &[id]);
    world.commit_all(&silent);
    let gone = status(&world, id);
    assert_eq!(
        (&gone["phase"], &gone["report"]),
        (&json!("offline"), &trouble["report"])
    );
    assert_eq!(cloud_boxes_heard(&world.state), []);
    assert!(cloud_boxes_silent(&world.state, world.now, &Limits::default(), &[id]).is_empty());
    let well = json!({"firmware_version": "1.1", "uptime_s": 5});
    assert_eq!(tell(&mut world, admin, id, well).unwrap(), 2);
    assert_eq!(status(&world, id)["phase"], "online");
}

#[test]
fn who_may_read_and_execute_one_box_tells_of_that_one_only() {
    let (mut world, _host) = World::furnished();
    let [mine, other] = ["CB-1", "CB-2"].map(|serial| {
        let spec = json!({"serial_number": serial});
        world.create(Kind::CloudBox, &serial.to_lowercase(), spec)
    });
    let role = json!({"permissions": ["cloud_box.read", "cloud_box.execute"]});
    world.create(Kind::Role, "box", role);
    let device = world.user("device", None);
    world.bind("device", "box", "cloud_box/cb-1");
    assert_eq!(tell(&mut world, device, mine, json!({})).unwrap(), 2);
    let error = tell(&mut world, device, other, json!({})).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    // The one it was given to reads it and is not it.
    let alice = world.named(Kind::User, "alice").id;
    let admin = world.admin;
    world
        .patch(
            admin,
            Kind::CloudBox,
            mine,
            json!({"assigned_user": "alice"}),
        )
        .unwrap();
    let error = tell(&mut world, alice, mine, json!({})).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    for (wrong, field) in [
        (json!({"cpu_used_percent": 101.0}), "cpu_used_percent"),
        (
            json!({"temperature_celsius": -273.0}),
            "temperature_celsius",
        ),
        (json!({"mac": "52:54:00:ab:cd"}), "mac"),
        (json!({"mac": "52:54:00:ab:cd:eg"}), "mac"),
        (json!({"error": "x".repeat(257)}), "error"),
        (json!({"uptime_s": u64::MAX}), "uptime_s"),
    ] {
        let error = tell(&mut world, device, mine, wrong).unwrap_err();
        assert_eq!(
            (error.code, error.fields[0].field.as_str()),
            (ErrorCode::Invalid, format!("report.{field}").as_str())
        );
    }
}

#[test]
fn a_box_of_before_reads_as_one_that_was_never_heard() {
    let stored = json!({"phase": "pending", "reason": "not_available"});
    let status: CloudBoxStatus = serde_json::from_value(stored).unwrap();
    assert_eq!(status, CloudBoxStatus::default());
}
