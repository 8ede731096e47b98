//! Somebody who may do everything remains, and nobody shuts out those who may do more than they.

use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, refuses};
use crate::world::World;

const NOBODY: &str = "nobody would be left who may do everything";

fn user(world: &mut World, name: &str) -> ObjectId {
    let admin = world.admin;
    let mut create = virtflow_logic::Create::new(Kind::User, name, json!({}));
    create.password_hash = Some("$argon2id$x".into());
    world
        .made(admin, &virtflow_logic::Request::Create(create))
        .unwrap()
}

fn binding_of(world: &World, field: &str, subject: ObjectId) -> ObjectId {
    let mut bindings = world.state.of_kind(Kind::RoleBinding.name(), None);
    let is_theirs = |spec: Value| spec[field] == json!(subject);
    let found = bindings.find(|binding| is_theirs(serde_json::from_str(&binding.spec).unwrap()));
    found.unwrap().id
}

#[test]
fn the_last_administrator_stays_whatever_it_is_that_would_go() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let binding = binding_of(&world, "subject_id", admin);
    let suspended = json!({"state": "suspended"});
    let conflict = ErrorCode::Conflict;
    refuses(
        world.patch(admin, Kind::User, admin, suspended.clone()),
        conflict,
        NOBODY,
    );
    refuses(
        world.delete(admin, Kind::RoleBinding, binding),
        conflict,
        NOBODY,
    );

    // A group stands in, but only while there is an active member.
    let group = create(Kind::UserGroup, "wheel", Some("acme"), json!({}));
    let group = world.made(admin, &group).unwrap();
    let bind = json!({"subject_group": group, "role": "admin"});
    world.create(Kind::RoleBinding, "", bind);
    refuses(
        world.delete(admin, Kind::RoleBinding, binding),
        conflict,
        NOBODY,
    );
    let bob = world.named(Kind::User, "alice").id;
    let member = json!({"user_group": group, "user": "alice"});
    let member = world.create(Kind::UserGroupMember, "", member);
    world
        .patch(bob, Kind::User, admin, suspended.clone())
        .unwrap();
    refuses(
        world.patch(bob, Kind::User, bob, suspended),
        conflict,
        NOBODY,
    );
    refuses(
        world.delete(bob, Kind::UserGroupMember, member),
        conflict,
        NOBODY,
    );
    refuses(world.delete(bob, Kind::UserGroup, group), conflict, NOBODY);
    let of_group = binding_of(&world, "subject_group_id", group);
    refuses(
        world.delete(bob, Kind::RoleBinding, of_group),
        conflict,
        NOBODY,
    );

    // With another one all of that may be.
    world
        .patch(bob, Kind::User, admin, json!({"state": "active"}))
        .unwrap();
    world.delete(bob, Kind::RoleBinding, of_group).unwrap();
}

#[test]
fn who_may_do_more_is_not_suspended_by_who_may_do_less() {
    let mut world = World::new();
    let admin = world.admin;
    let [sec, bob, eve] = ["sec", "bob", "eve"].map(|name| user(&mut world, name));
    for (name, role) in [("sec", "security_admin"), ("bob", "admin")] {
        world.create(
            Kind::RoleBinding,
            "",
            json!({"subject": name, "role": role}),
        );
    }
    let suspended = json!({"state": "suspended"});
    for above in [admin, bob] {
        let shut = world.patch(sec, Kind::User, above, suspended.clone());
        refuses(
            shut,
            ErrorCode::Forbidden,
            "that user may do things that you may not",
        );
    }
    world
        .patch(sec, Kind::User, eve, suspended.clone())
        .unwrap();
    world.patch(admin, Kind::User, bob, suspended).unwrap();
}

#[test]
fn a_role_that_is_bound_stays() {
    let mut world = World::new();
    let admin = world.admin;
    user(&mut world, "bob");
    let role = world.create(Kind::Role, "porter", json!({"permissions": ["rack.read"]}));
    let binding = json!({"subject": "bob", "role": "porter"});
    let binding = world.create(Kind::RoleBinding, "", binding);
    // A binding over the role itself is no use of it.
    world.create(
        Kind::RoleBinding,
        "",
        json!({"subject": "bob", "role": "viewer", "scope": role}),
    );
    let refused = world.delete(admin, Kind::Role, role);
    refuses(refused, ErrorCode::InUse, "role_binding");
    world.delete(admin, Kind::RoleBinding, binding).unwrap();
    world.delete(admin, Kind::Role, role).unwrap();
    world.verify();
}

#[test]
fn a_parent_is_not_taken_and_forgotten() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    for kind in [Kind::VirtualMachine, Kind::Template, Kind::Vpc] {
        let mut create = virtflow_logic::Create::new(kind, "x", json!({}));
        create.parent = Some(ObjectId::from_u128(7).to_string());
        let refused = world.ask(alice, &virtflow_logic::Request::Create(create));
        let error = refused.unwrap_err();
        assert_eq!(error.fields[0].field, "parent", "{error:?}");
    }
}
