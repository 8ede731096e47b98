//! Versions of ontologies, of a tenant or of all.

use serde_json::{Value, json};
use virtflow_logic::{MergeQuery, OntologyQuery, merged, ontology};
use virtflow_model::Kind;
use virtflow_model::kinds::ontology::OntologyType;
use virtflow_state::Refused;
use virtflow_types::{Error, ErrorCode, ObjectId};

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
fn what_is_inherited_from_may_be_told_by_name_the_tenants_own_first() {
    let (mut world, alice, bob) = world();
    let of_all = world.create(Kind::Ontology, "", of("base", "core", "1.0.0"));
    world
        .create_as(bob, Kind::Ontology, "", of("base", "own", "1.0.0"))
        .unwrap();
    let mut number = 0;
    let mut make = |world: &mut World, who: ObjectId, from: &str| {
        number += 1;
        let mut spec = of("domain", &format!("shop-{number}"), "1.0.0");
        spec["inherits_from"] = json!([from]);
        world.create_as(who, Kind::Ontology, "", spec)
    };
    let inherited = |world: &World, id: ObjectId| spec(world, id)["inherits_from"].clone();

    let first = make(&mut world, alice, "base/core@1.0.0").unwrap();
    assert_eq!(inherited(&world, first), json!([of_all]));
    let own = world
        .create_as(alice, Kind::Ontology, "", of("base", "core", "1.0.0"))
        .unwrap();
    let second = make(&mut world, alice, "base/core@1.0.0").unwrap();
    assert_eq!(inherited(&world, second), json!([own]));
    let third = make(&mut world, bob, "base/core@1.0.0").unwrap();
    assert_eq!(inherited(&world, third), json!([of_all]));
    // The same document once more.
    let same = json!({"inherits_from": ["base/core@1.0.0"], "tags": ["trade"]});
    world.patch(alice, Kind::Ontology, second, same).unwrap();
    assert_eq!(inherited(&world, second), json!([own]));

    for unknown in [
        "base/own@1.0.0",
        "base/core@2.0.0",
        "domain/core@1.0.0",
        "base/core",
        "core@1.0.0",
        "odd/core@1.0.0",
        "",
    ] {
        let refused = make(&mut world, alice, unknown);
        refuses_field(refused, "spec.inherits_from");
    }
    make(&mut world, bob, "base/own@1.0.0").unwrap();
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

fn found(
    world: &World,
    who: ObjectId,
    name: &str,
    version: Option<&str>,
) -> Result<ObjectId, Error> {
    let query = OntologyQuery {
        ontology_type: OntologyType::Domain,
        name: name.into(),
        version: version.map(Into::into),
        tenant: None,
    };
    ontology(&world.state, &world.cx(who), &query).map(|object| object.id)
}

#[test]
fn the_tenants_own_is_found_before_the_one_for_all() {
    let (mut world, alice, bob) = world();
    let admin = world.admin;
    let for_all = world.create(Kind::Ontology, "", of("domain", "shop", "1.0.0"));
    let newer_for_all = world.create(Kind::Ontology, "", of("domain", "shop", "3.0.0"));
    let shop = |world: &World, version: Option<&str>| found(world, alice, "shop", version);
    assert_eq!(shop(&world, None), Ok(for_all), "nothing of its own yet");
    let own = world
        .create_as(alice, Kind::Ontology, "", of("domain", "shop", "1.0.0"))
        .unwrap();
    let newer = world
        .create_as(alice, Kind::Ontology, "", of("domain", "shop", "2.0.0"))
        .unwrap();
    assert_eq!(shop(&world, None), Ok(own), "its default");
    assert_eq!(shop(&world, Some("2.0.0")), Ok(newer));
    assert_eq!(shop(&world, Some("1.0.0")), Ok(own), "both have it");
    assert_eq!(shop(&world, Some("3.0.0")), Ok(newer_for_all));
    refuses(
        shop(&world, Some("4.0.0")),
        ErrorCode::NotFound,
        "domain/shop@4.0.0",
    );
    refuses(
        found(&world, alice, "shops", None),
        ErrorCode::NotFound,
        "domain/shops",
    );
    assert_eq!(
        found(&world, bob, "shop", None),
        Ok(for_all),
        "another tenant"
    );
    refuses(
        found(&world, bob, "shop", Some("2.0.0")),
        ErrorCode::NotFound,
        "shop",
    );
    assert_eq!(found(&world, admin, "shop", None), Ok(for_all));
    let in_acme = OntologyQuery {
        ontology_type: OntologyType::Domain,
        name: "shop".into(),
        version: None,
        tenant: Some("acme".into()),
    };
    let of_acme = |world: &World, who| ontology(&world.state, &world.cx(who), &in_acme);
    assert_eq!(of_acme(&world, admin).unwrap().id, own);
    refuses(of_acme(&world, bob), ErrorCode::NotFound, "acme");
    // What is not in use is not found.
    let off = json!({"active": false});
    world.patch(alice, Kind::Ontology, own, off).unwrap();
    assert_eq!(shop(&world, None), Ok(for_all));
    assert_eq!(shop(&world, Some("2.0.0")), Ok(newer));
}

fn class(name: &str, description: &str) -> Value {
    json!({"name": name, "description": description})
}

fn property(name: &str, domain: &[&str], range: &[&str]) -> Value {
    json!({"name": name, "domain": domain, "range": range})
}

/// A base for all, two domains of `acme`'s of which the first builds on it, and a major one for both.
fn merging() -> (World, ObjectId, ObjectId) {
    let (mut world, alice, bob) = world();
    let mut core = of("base", "core", "1.0.0");
    core["entity_classes"] = json!([class("thing", "anything"), class("person", "")]);
    core["object_properties"] = json!([property("has", &["person"], &["thing"])]);
    let core = world.create(Kind::Ontology, "", core);
    let mut shop = of("domain", "shop", "1.0.0");
    shop["inherits_from"] = json!([core]);
    shop["entity_classes"] = json!([class("person", "who buys"), class("good", "what is sold")]);
    shop["object_properties"] = json!([property("has", &["person", "shop"], &["good"])]);
    world.create_as(alice, Kind::Ontology, "", shop).unwrap();
    let mut law = of("domain", "law", "1.0.0");
    law["entity_classes"] = json!([
        class("person", "who can be sued"),
        class("thing", "anything")
    ]);
    world.create_as(alice, Kind::Ontology, "", law).unwrap();
    let mut trade = of("major", "trade", "1.0.0");
    trade["compatible_domains"] = json!(["shop", "law"]);
    trade["entity_classes"] = json!([class("good", ""), class("contract", "two promises")]);
    world.create_as(alice, Kind::Ontology, "", trade).unwrap();
    (world, alice, bob)
}

fn merge_of(domains: &[&str], major: Option<&str>) -> MergeQuery {
    MergeQuery {
        base: None,
        domains: domains.iter().map(|name| (*name).to_owned()).collect(),
        major: major.map(Into::into),
        tenant: None,
    }
}

fn together(world: &World, who: ObjectId, query: &MergeQuery) -> Result<Value, Error> {
    merged(&world.state, &world.cx(who), query)
}

#[test]
fn merged_each_comes_after_what_it_builds_on_and_the_later_is_taken() {
    let (world, alice, _) = merging();
    let query = merge_of(&["shop", "law@1.0.0"], Some("trade"));
    let found = together(&world, alice, &query).unwrap();
    let parts: Vec<&str> = found["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["name"].as_str().unwrap())
        .collect();
    assert_eq!(parts, ["core", "shop", "law", "trade"]);
    let classes = json!([
        class("thing", "anything"),
        class("person", "who can be sued"),
        class("good", "what is sold"),
        class("contract", "two promises"),
    ]);
    assert_eq!(found["entity_classes"], classes);
    let properties = json!([property("has", &["person", "shop"], &["thing", "good"])]);
    assert_eq!(found["object_properties"], properties);
    assert_eq!(found["missing_classes"], json!(["shop"]));
    let conflicts = json!([{
        "entity_class": "person",
        "taken": {"from": "domain/law@1.0.0", "description": "who can be sued"},
        "left_out": {"from": "domain/shop@1.0.0", "description": "who buys"},
    }]);
    assert_eq!(found["conflicts"], conflicts);
    let other = together(&world, alice, &merge_of(&["law", "shop"], None)).unwrap();
    assert_eq!(other["entity_classes"][0], class("person", "who buys"));
    let mut with_base = merge_of(&["shop"], None);
    with_base.base = Some("core".into());
    let with_base = together(&world, alice, &with_base).unwrap();
    assert_eq!(
        with_base["parts"].as_array().unwrap().len(),
        2,
        "the base once"
    );
}

#[test]
fn what_does_not_go_together_is_not_merged() {
    let (mut world, alice, bob) = merging();
    let other = world
        .create_as(alice, Kind::Ontology, "", of("domain", "art", "1.0.0"))
        .unwrap();
    let art = together(&world, alice, &merge_of(&["shop", "art"], Some("trade")));
    let error = art.unwrap_err();
    assert_eq!(error.fields[0].field, "domains");
    assert!(error.fields[0].problem.contains("`art`"), "{error:?}");
    together(&world, alice, &merge_of(&["art"], None)).unwrap();
    let by_id = merge_of(&[&other.to_string()], Some("trade"));
    refuses_field(together(&world, alice, &by_id), "domains");
    let as_base = MergeQuery {
        base: Some(other.to_string()),
        ..MergeQuery::default()
    };
    refuses_field(together(&world, alice, &as_base), "base");
    let nothing = together(&world, alice, &MergeQuery::default());
    refuses_field(nothing, "domains");
    let missing = together(&world, alice, &merge_of(&["shop@9.0.0"], None));
    refuses(missing, ErrorCode::NotFound, "shop@9.0.0");
    let theirs = together(&world, bob, &merge_of(&["shop"], None));
    refuses(theirs, ErrorCode::NotFound, "domain/shop");
    let theirs = together(&world, bob, &merge_of(&[&other.to_string()], None));
    refuses(theirs, ErrorCode::NotFound, &other.to_string());
}

#[test]
fn no_more_than_32_ontologies_are_merged() {
    let (mut world, alice, _) = world();
    let (mut before, mut last) = (Vec::new(), None);
    for n in 0..33 {
        let mut spec = of("domain", &format!("d{n}"), "1.0.0");
        spec["inherits_from"] = json!(before);
        let id = world.create_as(alice, Kind::Ontology, "", spec).unwrap();
        before = vec![id];
        if n >= 31 {
            let query = merge_of(&[&format!("d{n}")], None);
            last = Some(together(&world, alice, &query));
            assert_eq!(last.as_ref().unwrap().is_ok(), n == 31, "{n}");
        }
    }
    refuses(last.unwrap(), ErrorCode::LimitExceeded, "32 ontologies");
}
