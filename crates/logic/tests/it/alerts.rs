//! Alerts come and go by the controllers' rules; users are told, and may only say that they have read it.

use std::time::Duration;

use serde_json::json;
use virtflow_logic::limits::{ALERT_KEPT, HOST_LOST_ALERT_AFTER, NOTIFICATION_KEPT};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, refuses, refuses_field, removal, spec, status};
use crate::world::{Host, World};

fn all(world: &World, kind: Kind) -> Vec<ObjectId> {
    let objects = world.state.of_kind(kind.name(), None);
    objects.map(|object| object.id).collect()
}

/// A host with one VM of alice's that has been silent for long enough.
fn lost() -> (World, Host, ObjectId) {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    world.place();
    world.settle(&host);
    world.offline(&host);
    world.wait(HOST_LOST_ALERT_AFTER);
    world.loops();
    (world, host, alice)
}

#[test]
fn a_host_that_is_lost_for_long_raises_one_alert_until_it_is_heard() {
    let (mut world, mut host) = World::furnished();
    world.offline(&host);
    world.wait(HOST_LOST_ALERT_AFTER.saturating_sub(Duration::from_millis(1)));
    world.loops();
    assert_eq!(all(&world, Kind::Alert), [], "it may only be restarting");
    world.wait(Duration::from_millis(1));
    world.loops();
    world.wait(HOST_LOST_ALERT_AFTER);
    world.loops();
    let alerts = all(&world, Kind::Alert);
    assert_eq!(alerts.len(), 1);
    let alert = spec(&world, alerts[0]);
    assert_eq!(alert["rule"], "host_lost");
    assert_eq!(alert["source_id"], host.id.to_string());
    assert_eq!(status(&world, alerts[0])["state"], "active");

    world.online(&mut host, "boot-1", [4000, 8192, 100]);
    world.loops();
    let over = status(&world, alerts[0]);
    assert_eq!(over["state"], "resolved");
    assert_eq!(over["resolved_at"], world.now.to_string());
    world.offline(&host);
    world.wait(HOST_LOST_ALERT_AFTER);
    world.loops();
    assert_eq!(
        all(&world, Kind::Alert).len(),
        2,
        "lost again, raised again"
    );
    world.online(&mut host, "boot-1", [4000, 8192, 100]);
    world.loops();
    world.wait(ALERT_KEPT);
    world.loops();
    assert_eq!(all(&world, Kind::Alert), [], "long over");
}

#[test]
fn an_alert_ends_with_its_host() {
    let (mut world, host) = World::furnished();
    world.offline(&host);
    world.wait(HOST_LOST_ALERT_AFTER);
    world.loops();
    let alert = all(&world, Kind::Alert)[0];
    let admin = world.admin;
    let out = json!({"state": "decommissioned"});
    world.patch(admin, Kind::Baremetal, host.id, out).unwrap();
    world.loops();
    assert_eq!(status(&world, alert)["state"], "resolved");
}

#[test]
fn people_silence_an_alert_and_do_nothing_else_to_it() {
    let (mut world, _host, alice) = lost();
    let admin = world.admin;
    let alert = all(&world, Kind::Alert)[0];
    let until = json!({"silenced_until": "2026-12-24T18:00:00Z"});
    world
        .patch(admin, Kind::Alert, alert, until.clone())
        .unwrap();
    assert_eq!(
        spec(&world, alert)["silenced_until"],
        "2026-12-24T18:00:00Z"
    );
    let softer = world.patch(admin, Kind::Alert, alert, json!({"severity": "info"}));
    refuses_field(softer, "spec.message");
    let gone = world.delete(admin, Kind::Alert, alert);
    refuses(gone, ErrorCode::Invalid, "not deleted by people");
    let made = world.ask(admin, &create(Kind::Alert, "", None, json!({})));
    refuses(made, ErrorCode::Invalid, "not created");
    let theirs = world.patch(alice, Kind::Alert, alert, until);
    refuses(theirs, ErrorCode::NotFound, "alert");
}

#[test]
fn a_notification_is_its_users_and_only_read_changes() {
    let (mut world, _host, alice) = lost();
    world.tenant("globex", "bob");
    let bob = world.named(Kind::User, "bob").id;
    let told = all(&world, Kind::Notification);
    assert_eq!(told.len(), 1);
    assert_eq!(spec(&world, told[0])["user_id"], alice.to_string());
    let message = world.patch(alice, Kind::Notification, told[0], json!({"message": "x"}));
    refuses_field(message, "spec.message");
    let stranger = world.patch(bob, Kind::Notification, told[0], json!({"read": true}));
    refuses(stranger, ErrorCode::NotFound, "notification");
    world
        .patch(alice, Kind::Notification, told[0], json!({"read": true}))
        .unwrap();
    let made = world.ask(alice, &create(Kind::Notification, "", None, json!({})));
    refuses(made, ErrorCode::Invalid, "not created");
    world.wait(NOTIFICATION_KEPT);
    world.loops();
    assert_eq!(all(&world, Kind::Notification), []);
}

#[test]
fn a_notification_goes_with_its_user_and_is_not_written_to_who_is_shut_out() {
    let (mut world, mut host, alice) = lost();
    let admin = world.admin;
    world.online(&mut host, "boot-1", [4000, 8192, 100]);
    world.settle(&host);
    world.loops();
    let suspend = json!({"state": "suspended"});
    let acme = world.named(Kind::Tenant, "acme").id;
    world.patch(admin, Kind::Tenant, acme, suspend).unwrap();
    world.offline(&host);
    world.wait(HOST_LOST_ALERT_AFTER);
    world.loops();
    assert_eq!(
        all(&world, Kind::Alert).len(),
        2,
        "the alert is raised all the same"
    );
    assert_eq!(all(&world, Kind::Notification).len(), 1, "the first one");
    world
        .patch(admin, Kind::Tenant, acme, json!({"state": "active"}))
        .unwrap();
    world
        .ask(admin, &removal(Kind::VirtualMachine, "web-1"))
        .unwrap();
    world.loops();
    world.delete(admin, Kind::User, alice).unwrap();
    assert_eq!(all(&world, Kind::Notification), []);
}
