//! Versions of ontologies, of a tenant or of all.

use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_state::Refused;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, refuses, refuses_field, spec};
use crate::world::World;

fn world() -> (World, ObjectId, ObjectId) {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let alice = world.named(Kind::User, "alice").id;
    let bob = world.named(Kind::User, "bob").id;
    (world, alice, bob)
}

fn of(kind: &str, name: &str, version: &str) -> Value {
    json!({"type": kind, "name": name, "version": version, "entity_classes": [], "object_properties": []})
}

#[test]
fn one_version_of_a_name_is_the_default() {
    let (mut world, alice, bob) = world();
    let first = world
        .create_as(alice, Kind::Ontology, "", of("domain", "shop", "1.0.0"))
        .unwrap();
    assert_eq!(
        spec(&world, first)["default_version"],
        true,
        "the first, unasked"
    );
    let mut newer = of("domain", "shop", "1.1.0");
    newer["default_version"] = true.into();
    let second = world.create_as(alice, Kind::Ontology, "", newer).unwrap();
    assert_eq!(
        spec(&world, first)["default_version"],
        false,
        "it stepped back"
    );
    let none = json!({"default_version": false});
    let none = world.patch(alice, Kind::Ontology, second, none);
    refuses_field(none, "spec.default_version");
    let gone = world.delete(alice, Kind::Ontology, second);
    refuses(gone, ErrorCode::Conflict, "default of its name");
    let theirs = world
        .create_as(bob, Kind::Ontology, "", of("domain", "shop", "1.0.0"))
        .unwrap();
    assert_eq!(
        spec(&world, theirs)["default_version"],
        true,
        "each tenant for itself"
    );
    world.delete(alice, Kind::Ontology, first).unwrap();
    world.delete(alice, Kind::Ontology, second).unwrap();
    let again = |version: &str| {
        (
            alice,
            create(Kind::Ontology, "", None, of("base", "b", version)),
        )
    };
    let refused = world.race(again("1.0.0"), again("2.0.0")).unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
}

#[test]
fn a_version_is_there_once_and_stays_what_it_is() {
    let (mut world, alice, _) = world();
    let shop = of("domain", "shop", "1.0.0");
    let first = world
        .create_as(alice, Kind::Ontology, "", shop.clone())
        .unwrap();
    let twice = world.create_as(alice, Kind::Ontology, "", shop);
    refuses(twice, ErrorCode::AlreadyExists, "version");
    let odd = world.create_as(alice, Kind::Ontology, "", of("domain", "shop", "v2"));
    refuses_field(odd, "spec.version");
    let renamed = world.patch(alice, Kind::Ontology, first, json!({"version": "1.0.1"}));
    refuses_field(renamed, "spec.version");
    world
        .patch(alice, Kind::Ontology, first, json!({"tags": ["trade"]}))
        .unwrap();
    let mut missing = of("domain", "other", "1.0.0");
    missing.as_object_mut().unwrap().remove("entity_classes");
    let missing = world.create_as(alice, Kind::Ontology, "", missing);
    refuses_field(missing, "spec.entity_classes");
}

#[test]
fn what_is_inherited_from_exists_and_stays() {
    let (mut world, alice, bob) = world();
    let admin = world.admin;
    let base = world.create(Kind::Ontology, "", of("base", "core", "1.0.0"));
    let theirs = world
        .create_as(bob, Kind::Ontology, "", of("domain", "x", "1.0.0"))
        .unwrap();
    let from = |id: ObjectId| {
        let mut spec = of("domain", "shop", "1.0.0");
        spec["inherits_from"] = json!([id]);
        spec
    };
    for nothing in [ObjectId::generate(), theirs, alice] {
        let refused = world.create_as(alice, Kind::Ontology, "", from(nothing));
        refuses_field(refused, "spec.inherits_from");
    }
    let shop = world
        .create_as(alice, Kind::Ontology, "", from(base))
        .unwrap();
    let needed = world.delete(admin, Kind::Ontology, base);
    refuses(needed, ErrorCode::InUse, "ontology");
    let turned = world.patch(alice, Kind::Ontology, shop, json!({"inherits_from": []}));
    refuses_field(turned, "spec.version");
    world.delete(alice, Kind::Ontology, shop).unwrap();
    world.delete(admin, Kind::Ontology, base).unwrap();
}

#[test]
fn only_a_tenants_major_names_compatible_domains() {
    let (mut world, alice, _) = world();
    let admin = world.admin;
    let with = |kind: &str| {
        let mut spec = of(kind, "m", "1.0.0");
        spec["compatible_domains"] = json!(["shop"]);
        spec
    };
    let domain = world.create_as(alice, Kind::Ontology, "", with("domain"));
    refuses_field(domain, "spec.compatible_domains");
    let global = world.create_as(admin, Kind::Ontology, "", with("major"));
    refuses_field(global, "spec.type");
    world
        .create_as(alice, Kind::Ontology, "", with("major"))
        .unwrap();
}
