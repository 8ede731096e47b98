//! Lists narrowed by what objects name: every declared reference is a filter.

use std::time::Duration;

use serde_json::json;
use virtflow_logic::{ListQuery, Request, Update, list, lock_user};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, ObjectId, RequestId};

use crate::world::World;

fn by(kind: Kind, filters: &[(&str, &str)]) -> ListQuery {
    let references = filters
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    ListQuery {
        references: references.collect(),
        ..ListQuery::of(kind)
    }
}

fn found(world: &World, user: ObjectId, query: &ListQuery) -> Vec<String> {
    let page = list(&world.state, &world.cx(user), query).unwrap();
    assert_eq!(page.next_cursor, None);
    let names = page.objects.iter().map(|object| object["name"].as_str());
    names.map(|name| name.unwrap().to_owned()).collect()
}

fn change(world: &mut World, kind: Kind, target: &str, spec: serde_json::Value) {
    let update = Update {
        kind,
        target: target.into(),
        tenant: None,
        spec,
        merge: true,
    };
    let admin = world.admin;
    world.ask(admin, &Request::Update(update)).unwrap();
}

#[test]
fn a_word_that_no_object_can_have_is_refused_and_the_others_are_told() {
    let (world, _host) = World::furnished();
    let of = |kind, state: &str| {
        let query = ListQuery {
            state: Some(state.into()),
            ..ListQuery::of(kind)
        };
        list(&world.state, &world.cx(world.admin), &query)
    };
    let error = of(Kind::Tenant, "activ").unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    assert_eq!(
        error.message,
        "`state`: `activ` is none of active, inactive, suspended"
    );
    // Where a host is said to be, and where it was seen.
    for state in ["cordoned", "offline", "quarantined"] {
        assert!(
            of(Kind::Baremetal, state).unwrap().objects.is_empty(),
            "{state}"
        );
    }
    for state in ["active", "online"] {
        assert_eq!(
            of(Kind::Baremetal, state).unwrap().objects.len(),
            1,
            "{state}"
        );
    }
    let query = ListQuery {
        phase: Some("runing".into()),
        ..ListQuery::of(Kind::VirtualMachine)
    };
    let refused = list(&world.state, &world.cx(world.admin), &query).unwrap_err();
    assert!(
        refused.message.contains("is none of pending, "),
        "{refused:?}"
    );
}

/// What a field holds in a word or a short text, and what is among tags.
#[test]
fn users_are_listed_by_being_locked_as_long_as_they_are() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let admin = world.admin;
    let locked = ListQuery {
        state: Some("locked".into()),
        ..ListQuery::of(Kind::User)
    };
    assert!(found(&world, admin, &locked).is_empty());
    let until = world.now.plus(Duration::from_secs(60));
    let changeset = lock_user(
        &world.state,
        RequestId::generate(),
        world.now,
        alice,
        until,
        10,
    );
    world.commit(&changeset).unwrap();
    assert_eq!(found(&world, admin, &locked), ["alice"]);
    world.wait(Duration::from_secs(61));
    assert!(found(&world, admin, &locked).is_empty());
}

#[test]
fn ontologies_are_listed_by_type_name_and_tag() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    for (of, name, version, tags) in [
        ("domain", "shop", "1.0.0", json!(["retail", "eu"])),
        ("domain", "shop", "1.1.0", json!(["retail"])),
        ("base", "core", "1.0.0", json!([])),
    ] {
        let spec = json!({
            "type": of, "name": name, "version": version, "tags": tags,
            "entity_classes": [], "object_properties": [],
        });
        world.create_as(alice, Kind::Ontology, "", spec).unwrap();
    }
    let of = |words: &[(&str, &str)]| {
        let words = words.iter();
        let query = ListQuery {
            words: words
                .map(|(name, word)| ((*name).to_owned(), (*word).to_owned()))
                .collect(),
            ..ListQuery::of(Kind::Ontology)
        };
        let page = list(&world.state, &world.cx(alice), &query);
        page.map(|page| {
            let objects = page.objects.iter();
            objects
                .map(|object| object["spec"]["version"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(of(&[("name", "shop")]).unwrap(), ["1.0.0", "1.1.0"]);
    assert_eq!(of(&[("type", "base")]).unwrap(), ["1.0.0"]);
    assert_eq!(of(&[("tag", "eu")]).unwrap(), ["1.0.0"]);
    assert_eq!(
        of(&[("tag", "retail"), ("name", "shop"), ("type", "domain")])
            .unwrap()
            .len(),
        2
    );
    assert!(of(&[("tag", "retai")]).unwrap().is_empty());
    assert!(
        of(&[("type", "base"), ("name", "shop")])
            .unwrap()
            .is_empty()
    );
    let slip = of(&[("type", "domian")]).unwrap_err();
    assert_eq!(
        slip.message,
        "`type`: `domian` is none of base, domain, major"
    );
    assert_eq!(
        of(&[("severity", "high")]).unwrap_err().code,
        ErrorCode::Invalid
    );
}

#[test]
fn clusters_are_listed_by_tags_that_have_values() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    for (name, tags) in [
        ("shop", json!({"stage": "live", "team": "eu"})),
        ("trial", json!({"stage": "test"})),
        ("bare", json!({})),
    ] {
        let spec = json!({"version": "1.31.0", "tags": tags});
        world
            .create_as(alice, Kind::K8sCluster, name, spec)
            .unwrap();
    }
    for (tag, expected) in [
        ("stage", vec!["shop", "trial"]),
        ("stage=live", vec!["shop"]),
        ("team=eu", vec!["shop"]),
        ("team=", vec![]),
        ("stag", vec![]),
        ("live", vec![]),
        ("stage=live=", vec![]),
    ] {
        let query = ListQuery {
            words: vec![("tag".into(), tag.into())],
            ..ListQuery::of(Kind::K8sCluster)
        };
        assert_eq!(found(&world, alice, &query), expected, "{tag}");
    }
}

#[test]
fn what_names_an_object_is_listed_by_it() {
    let (mut world, host) = World::furnished();
    let admin = world.admin;
    let dc2 = world.create(Kind::DataCenter, "dc2", json!({}));
    world.create(Kind::Rack, "r2", json!({"data_center": "dc2"}));
    world.create(Kind::Rack, "r3", json!({"data_center": "dc2"}));
    world.create(Kind::Rack, "r4", json!({}));
    let racks = |text: &str| found(&world, admin, &by(Kind::Rack, &[("data_center", text)]));
    assert_eq!(racks("dc1"), ["r1"]);
    assert_eq!(racks("dc2"), ["r2", "r3"]);
    assert_eq!(racks(&dc2.to_string()), ["r2", "r3"]);
    // What names the same and is of another kind is not among them.
    let groups = by(Kind::BaremetalGroup, &[("data_center", "dc1")]);
    assert_eq!(found(&world, admin, &groups), ["g1"]);

    let hosts = by(Kind::Baremetal, &[("rack", "r2")]);
    assert!(found(&world, admin, &hosts).is_empty());
    change(
        &mut world,
        Kind::Baremetal,
        &host.id.to_string(),
        json!({"rack": "r2"}),
    );
    assert_eq!(found(&world, admin, &hosts), ["host-sn-1"]);
    let in_state = |state: &str| ListQuery {
        state: Some(state.into()),
        ..hosts.clone()
    };
    assert_eq!(found(&world, admin, &in_state("online")), ["host-sn-1"]);
    assert!(found(&world, admin, &in_state("offline")).is_empty());
}

/// A tenant's administrator is named without a link; so is the group of an invitation that was used.
#[test]
fn what_is_named_without_a_link_is_found_too() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    world.create(Kind::Tenant, "globex", json!({}));
    let tenants = by(Kind::Tenant, &[("admin_user", "alice")]);
    assert!(found(&world, admin, &tenants).is_empty());
    change(
        &mut world,
        Kind::Tenant,
        "acme",
        json!({"admin_user": "alice"}),
    );
    assert_eq!(found(&world, admin, &tenants), ["acme"]);
    world.invite(json!({"group": "g1"}));
    let invitations = ListQuery {
        group: Some("g1".into()),
        ..ListQuery::of(Kind::JoinToken)
    };
    // The one that the host of the furniture used, and the new one.
    assert_eq!(found(&world, admin, &invitations).len(), 2);
}

#[test]
fn filters_are_resolved_with_the_askers_eyes_and_all_must_hold() {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let alice = world.named(Kind::User, "alice").id;
    let bob = world.named(Kind::User, "bob").id;
    let large = json!({"cpu_cores": 2, "memory_mib": 256, "storage_gib": 2});
    world.create(Kind::VirtualMachineSpecification, "large", large);
    for (user, name, spec) in [
        (alice, "a", "small"),
        (alice, "b", "large"),
        (bob, "c", "small"),
    ] {
        world
            .vm(
                user,
                name,
                json!({"specification": spec, "labels": {"n": name}}),
            )
            .unwrap();
    }
    let small = by(Kind::VirtualMachine, &[("specification", "small")]);
    assert_eq!(found(&world, world.admin, &small), ["a", "c"]);
    assert_eq!(found(&world, alice, &small), ["a"]);
    let of = |tenant: &str, label: Option<&str>| ListQuery {
        tenant: Some(tenant.into()),
        label: label.map(Into::into),
        ..small.clone()
    };
    assert_eq!(found(&world, world.admin, &of("globex", None)), ["c"]);
    assert_eq!(found(&world, world.admin, &of("acme", Some("n=a"))), ["a"]);
    assert!(found(&world, world.admin, &of("acme", Some("n=b"))).is_empty());
    let bindings = by(Kind::RoleBinding, &[("role", "developer")]);
    let of_bob = ListQuery {
        subject: Some("bob".into()),
        ..bindings.clone()
    };
    assert_eq!(found(&world, world.admin, &bindings).len(), 2);
    assert_eq!(found(&world, world.admin, &of_bob).len(), 1);
    // Somebody who may not know of an object does not learn of it by a filter.
    let hidden = by(Kind::Tenant, &[("admin_user", "bob")]);
    let error = list(&world.state, &world.cx(alice), &hidden).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

/// The labels of VMs are indexed: the index leads to some requirements, and the others hold as well.
#[test]
fn requirements_on_labels_hold_together() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    for (name, labels) in [
        ("a", json!({"env": "prod", "tier": "web"})),
        ("b", json!({"env": "prod", "tier": "db"})),
        ("c", json!({"env": "test", "tier": "db"})),
        ("d", json!({})),
    ] {
        world
            .vm(
                alice,
                name,
                json!({"specification": "small", "labels": labels}),
            )
            .unwrap();
    }
    for (labels, expected) in [
        ("env=prod", vec!["a", "b"]),
        ("env=prod,tier!=db", vec!["a"]),
        ("tier!=db", vec!["a", "d"]),
        ("env in (prod,test),tier=db", vec!["b", "c"]),
        ("!env", vec!["d"]),
        ("env=prod,env=test", vec![]),
    ] {
        let query = ListQuery {
            labels: Some(labels.into()),
            ..ListQuery::of(Kind::VirtualMachine)
        };
        assert_eq!(found(&world, alice, &query), expected, "{labels}");
        let and = ListQuery {
            label: Some("tier=db".into()),
            ..query
        };
        let expected: Vec<&str> = expected
            .into_iter()
            .filter(|name| matches!(*name, "b" | "c"))
            .collect();
        assert_eq!(found(&world, alice, &and), expected, "{labels} and tier=db");
    }
}

#[test]
fn pages_of_a_filtered_list_join_up() {
    let (mut world, _host) = World::furnished();
    world.create(Kind::DataCenter, "dc2", json!({}));
    for n in 0..5 {
        let dc = if n % 2 == 0 { "dc1" } else { "dc2" };
        world.create(Kind::Rack, &format!("k{n}"), json!({"data_center": dc}));
    }
    let mut query = by(Kind::Rack, &[("data_center", "dc1")]);
    query.limit = 1;
    let mut names = Vec::new();
    loop {
        let page = list(&world.state, &world.cx(world.admin), &query).unwrap();
        names.extend(page.objects.iter().map(|object| object["name"].to_string()));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
        // A cursor belongs to its question.
        let other = ListQuery {
            references: vec![("data_center".into(), "dc2".into())],
            ..query.clone()
        };
        let error = list(&world.state, &world.cx(world.admin), &other).unwrap_err();
        assert_eq!(error.fields[0].field, "cursor");
    }
    assert_eq!(names, [r#""r1""#, r#""k0""#, r#""k2""#, r#""k4""#]);
}

#[test]
fn a_filter_that_says_nothing_about_the_kind_is_refused_with_those_that_do() {
    let (world, _host) = World::furnished();
    let admin = world.cx(world.admin);
    let colour = by(Kind::Rack, &[("colour", "red")]);
    let host = ListQuery {
        host: Some("host-sn-1".into()),
        ..ListQuery::of(Kind::Rack)
    };
    for (query, field) in [(colour, "colour"), (host, "host")] {
        let error = list(&world.state, &admin, &query).unwrap_err();
        assert_eq!(
            (error.code, error.fields[0].field.as_str()),
            (ErrorCode::Invalid, field)
        );
        assert_eq!(
            error.fields[0].problem,
            "says nothing about a rack; its lists know name, data_center"
        );
    }
}

#[test]
fn hosts_are_listed_by_what_they_are_and_operations_by_what_they_are_about() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let admin = world.admin;
    let words = |kind, name: &str, word: &str| ListQuery {
        words: vec![(name.to_owned(), word.to_owned())],
        ..ListQuery::of(kind)
    };
    world.host("SN-2", 1000, 1024, 10);
    let by_serial = words(Kind::Baremetal, "serial_number", "SN-2");
    assert_eq!(found(&world, admin, &by_serial), ["host-sn-2"]);
    assert_eq!(
        found(&world, admin, &words(Kind::Baremetal, "rental", "shared")).len(),
        2
    );
    let rented = json!({"rental": "exclusive"});
    world
        .patch(admin, Kind::Baremetal, host.id, rented)
        .unwrap();
    assert_eq!(
        found(
            &world,
            admin,
            &words(Kind::Baremetal, "rental", "exclusive")
        ),
        ["host-sn-1"]
    );
    let [web, db] = ["web", "db"].map(|name| {
        let made = world.vm(alice, name, json!({"specification": "small"}));
        made.unwrap().object_id.unwrap()
    });
    for vm in [web, db] {
        let query = by(Kind::Operation, &[("target", &vm.to_string())]);
        let page = list(&world.state, &world.cx(alice), &query).unwrap();
        let about: Vec<_> = page
            .objects
            .iter()
            .map(|it| it["spec"]["target_id"].clone())
            .collect();
        assert_eq!(about, [json!(vm)]);
    }
    let query = by(Kind::Operation, &[("target", "virtual_machine/web")]);
    assert_eq!(
        list(&world.state, &world.cx(alice), &query)
            .unwrap()
            .objects
            .len(),
        1
    );
}

#[test]
fn groups_that_something_is_shown_to_are_named() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let eng = crate::asking::create(Kind::UserGroup, "eng", Some("acme"), json!({}));
    let eng = world.made(admin, &eng).unwrap();
    let spec = json!({"visibility": "group_specific", "user_group_ids": ["eng"]});
    let made = crate::asking::create(Kind::Template, "t", Some("acme"), spec);
    let made = world.made(admin, &made).unwrap();
    assert_eq!(
        crate::asking::spec(&world, made)["user_group_ids"],
        json!([eng])
    );
    let spec = json!({"visibility": "group_specific", "user_group_ids": ["nobody"]});
    let none = crate::asking::create(Kind::Template, "u", Some("acme"), spec);
    assert_eq!(
        world.made(admin, &none).unwrap_err().code,
        ErrorCode::NotFound
    );
}
