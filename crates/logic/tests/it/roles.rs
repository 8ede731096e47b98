//! Built-in roles of a cluster that another version began: they get what this version gives, and lose nothing.

use serde_json::{Value, json};
use virtflow_logic::Limits;
use virtflow_logic::loops::built_in_roles;
use virtflow_model::Kind;
use virtflow_state::{Changeset, Op};
use virtflow_types::RequestId;

use crate::world::World;

/// Writes a role as another version would have.
fn rewrite(world: &mut World, name: &str, change: impl FnOnce(&mut Vec<String>)) {
    let role = world.named(Kind::Role, name);
    let mut spec: Value = serde_json::from_str(&role.spec).unwrap();
    let mut permissions: Vec<String> = serde_json::from_value(spec["permissions"].take()).unwrap();
    change(&mut permissions);
    spec["permissions"] = json!(permissions);
    let mut next = role.next();
    next.generation += 1;
    next.spec = ordered(&spec).into();
    let mut changeset = Changeset::new(RequestId::generate(), world.now, "system");
    changeset.ops.push(Op::Put(Box::new(next)));
    world.commit(&changeset).unwrap();
}

/// A role's spec with its fields in the order in which they are stored.
fn ordered(spec: &Value) -> String {
    format!(
        r#"{{"description":{},"permissions":{},"active":{},"built_in":{}}}"#,
        spec["description"], spec["permissions"], spec["active"], spec["built_in"]
    )
}

fn permissions(world: &World, name: &str) -> Vec<String> {
    let spec: Value = serde_json::from_str(&world.named(Kind::Role, name).spec).unwrap();
    serde_json::from_value(spec["permissions"].clone()).unwrap()
}

fn pass(world: &World) -> Vec<Changeset> {
    built_in_roles(&world.state, world.now, &Limits::default())
}

#[test]
fn a_built_in_role_gets_what_this_version_gives_and_it_is_told() {
    let (mut world, _host) = World::furnished();
    assert!(pass(&world).is_empty(), "a new cluster has what there is");
    rewrite(&mut world, "developer", |entries| {
        entries.retain(|entry| entry != "virtual_machine.create");
    });
    let alice = world.named(Kind::User, "alice").id;
    let small = json!({"specification": "small"});
    assert!(world.vm(alice, "a", small.clone()).is_err());
    let changesets = pass(&world);
    assert_eq!(changesets.len(), 1);
    let records: Vec<Value> = changesets[0]
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Record(record) => Some(serde_json::from_slice(record.body.as_ref()).unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (
            &records[0]["actor"],
            &records[0]["action"],
            &records[0]["name"]
        ),
        (&json!("system"), &json!("role.update"), &json!("developer"))
    );
    world.commit_all(&changesets);
    assert!(pass(&world).is_empty());
    world.vm(alice, "a", small).unwrap();
}

/// An older controller may lead after a newer one: what it does not know stays.
#[test]
fn nothing_is_taken_from_a_built_in_role() {
    let mut world = World::new();
    let given = ["flux_capacitor.read", "rack.read", "*.execute"];
    rewrite(&mut world, "user", |entries| {
        entries.extend(given.map(str::to_owned));
        entries.retain(|entry| entry != "tenant.read");
    });
    let before = permissions(&world, "user");
    world.loops();
    let after = permissions(&world, "user");
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(after[before.len()..], ["tenant.read"]);
}

/// What is there in another form, as `*.read` is, is not lacking.
#[test]
fn what_a_role_has_by_a_wider_entry_is_not_given_again() {
    let mut world = World::new();
    rewrite(&mut world, "user", |entries| {
        *entries = vec!["*.read".into(), "virtual_machine.*".into()];
    });
    assert!(pass(&world).is_empty());
}

#[test]
fn a_role_that_is_built_in_since_this_version_is_made_unless_people_have_one_of_its_name() {
    let mut world = World::new();
    for name in ["namespace_admin", "viewer"] {
        let role = world.named(Kind::Role, name);
        let mut changeset = Changeset::new(RequestId::generate(), world.now, "system");
        changeset.ops.push(Op::Delete(role.id, role.version));
        world.commit(&changeset).unwrap();
    }
    world.create(
        Kind::Role,
        "viewer",
        json!({"permissions": ["virtual_machine.read"]}),
    );
    world.loops();
    assert_eq!(
        permissions(&world, "namespace_admin"),
        [
            "namespace.read",
            "namespace.update",
            "namespace.manage",
            "virtual_machine.read",
            "operation.read",
            "tenant.read"
        ]
    );
    assert_eq!(permissions(&world, "viewer"), ["virtual_machine.read"]);
    let made = world.named(Kind::Role, "namespace_admin");
    assert!(made.spec.contains(r#""built_in":true"#));
}
