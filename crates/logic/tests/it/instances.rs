//! Templates and their versions, instances and the VMs that realise them, sets and snapshots.

use serde_json::json;
use virtflow_logic::{ListQuery, Past, list};
use virtflow_model::Kind;
use virtflow_state::Refused;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, refuses, refuses_field, removal, spec, status};
use crate::world::{Host, World};

fn world() -> (World, Host, ObjectId, ObjectId) {
    let (mut world, host) = World::furnished();
    world.tenant("globex", "bob");
    let alice = world.named(Kind::User, "alice").id;
    let bob = world.named(Kind::User, "bob").id;
    (world, host, alice, bob)
}

fn template(world: &mut World, user: ObjectId, name: &str) -> ObjectId {
    world
        .create_as(user, Kind::Template, name, json!({}))
        .unwrap()
}

fn sizes(template: ObjectId) -> serde_json::Value {
    json!({"template_id": template, "cpu_cores": 2, "memory_mib": 256, "storage_gib": 3})
}

fn version(world: &mut World, user: ObjectId, template: ObjectId, name: &str) -> ObjectId {
    world
        .create_as(user, Kind::TemplateVersion, name, sizes(template))
        .unwrap()
}

#[test]
fn one_version_of_a_template_is_always_the_latest() {
    let (mut world, _host, alice, _) = world();
    let web = template(&mut world, alice, "web");
    let first = version(&mut world, alice, web, "1.0.0");
    let second = version(&mut world, alice, web, "1.1.0");
    assert_eq!(spec(&world, first)["latest"], true, "the first, unasked");
    assert_eq!(spec(&world, second)["latest"], false);

    world
        .patch(
            alice,
            Kind::TemplateVersion,
            second,
            json!({"latest": true}),
        )
        .unwrap();
    assert_eq!(spec(&world, first)["latest"], false, "it stepped back");
    let back = world.patch(
        alice,
        Kind::TemplateVersion,
        second,
        json!({"latest": false}),
    );
    refuses_field(back, "spec.latest");
    let gone = world.delete(alice, Kind::TemplateVersion, second);
    refuses(gone, ErrorCode::Conflict, "its template's latest");
    world.delete(alice, Kind::TemplateVersion, first).unwrap();
    world.delete(alice, Kind::TemplateVersion, second).unwrap();

    let other = template(&mut world, alice, "db");
    let own = version(&mut world, alice, other, "1.0.0");
    assert_eq!(
        spec(&world, own)["latest"],
        true,
        "each template for itself"
    );
}

#[test]
fn two_versions_cannot_both_become_the_latest() {
    let (mut world, _host, alice, _) = world();
    let web = template(&mut world, alice, "web");
    let first = |name: &str| (alice, create(Kind::TemplateVersion, name, None, sizes(web)));
    let refused = world.race(first("1.0.0"), first("2.0.0")).unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
}

/// Versions of two templates have the same names; what they lie under tells which is meant.
#[test]
fn a_version_is_named_with_its_template() {
    let (mut world, _host, alice, bob) = world();
    let web = template(&mut world, alice, "web");
    let db = template(&mut world, alice, "db");
    let hidden = template(&mut world, bob, "hidden");
    version(&mut world, alice, web, "1.0.0");
    let of_db = version(&mut world, alice, db, "1.0.0");
    version(&mut world, bob, hidden, "1.0.0");
    let by = |named: &str| {
        let spec = json!({"template_version": named});
        create(Kind::Instance, "i", None, spec)
    };
    let error = world.made(alice, &by("1.0.0")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert_eq!(
        error.advice.as_deref(),
        Some("name the template that it lies under, too, `TEMPLATE/1.0.0`, or use the id")
    );
    // Byte for byte, whether there is such a template or it is another tenant's.
    let unknown = world.made(alice, &by("nowhere/1.0.0")).unwrap_err();
    let unseen = world.made(alice, &by("hidden/1.0.0")).unwrap_err();
    assert_eq!(unknown.message, "no template_version `nowhere/1.0.0`");
    assert_eq!(unseen.message, "no template_version `hidden/1.0.0`");
    assert_eq!(
        (unknown.code, &unknown.advice),
        (unseen.code, &unseen.advice)
    );
    let made = world.made(alice, &by("db/1.0.0")).unwrap();
    assert_eq!(spec(&world, made)["template_version_id"], json!(of_db));
}

#[test]
fn a_version_never_changes() {
    let (mut world, _host, alice, _) = world();
    let web = template(&mut world, alice, "web");
    let first = version(&mut world, alice, web, "1.0.0");
    let larger = world.patch(alice, Kind::TemplateVersion, first, json!({"cpu_cores": 3}));
    refuses_field(larger, "spec.cpu_cores");
    let again = world.create_as(alice, Kind::TemplateVersion, "1.0.0", sizes(web));
    refuses(again, ErrorCode::AlreadyExists, "1.0.0");
}

#[test]
fn an_archived_template_gets_no_versions_and_a_deleted_one_takes_them_along() {
    let (mut world, _host, alice, _) = world();
    let web = template(&mut world, alice, "web");
    let first = version(&mut world, alice, web, "1.0.0");
    let archive = json!({"state": "archived"});
    world.patch(alice, Kind::Template, web, archive).unwrap();
    let more = world.create_as(alice, Kind::TemplateVersion, "1.1.0", sizes(web));
    refuses(more, ErrorCode::Conflict, "archived");
    world
        .patch(alice, Kind::Template, web, json!({"state": "deprecated"}))
        .unwrap();
    version(&mut world, alice, web, "1.1.0");
    world.delete(alice, Kind::Template, web).unwrap();
    assert!(world.state.get(first).is_none());
}

#[test]
fn only_a_public_template_is_seen_by_other_tenants() {
    let (mut world, _host, alice, bob) = world();
    let web = template(&mut world, alice, "web");
    let first = version(&mut world, alice, web, "1.0.0");
    let from = json!({"template_version_id": first});
    let theirs = world.create_as(bob, Kind::Instance, "i", from.clone());
    refuses(theirs, ErrorCode::NotFound, "template_version");
    let public = json!({"visibility": "public"});
    world.patch(alice, Kind::Template, web, public).unwrap();
    world.create_as(bob, Kind::Instance, "i", from).unwrap();
    let not_his = world.patch(bob, Kind::Template, web, json!({"state": "archived"}));
    refuses(not_his, ErrorCode::Forbidden, "template.update");
    let under_it = world.create_as(bob, Kind::TemplateVersion, "2.0.0", sizes(web));
    refuses(under_it, ErrorCode::Forbidden, "template_version.create");
    // What was made from it does not hold it.
    world.delete(alice, Kind::Template, web).unwrap();
}

#[test]
fn an_instance_is_realised_by_one_vm_and_goes_with_it() {
    let (mut world, host, alice, _) = world();
    let web = template(&mut world, alice, "web");
    version(&mut world, alice, web, "1.0.0");
    let instance = world.create_as(alice, Kind::Instance, "web-1", json!({"template": "web"}));
    let instance = instance.unwrap();
    let vm = world.named(Kind::VirtualMachine, "web-1").id;
    assert_eq!(status(&world, instance)["vm_id"], vm.to_string());
    assert_eq!(spec(&world, vm)["cpu_cores"], 2);
    assert_eq!(spec(&world, vm)["memory_mib"], 256);
    let acme = world.named(Kind::Tenant, "acme").id;
    assert_eq!(world.used(acme, "cpu_cores"), 2);
    world.place();
    world.settle(&host);

    let alone = world.delete(alice, Kind::VirtualMachine, vm);
    refuses(alone, ErrorCode::InUse, "instance `web-1`");
    let reply = world.delete(alice, Kind::Instance, instance).unwrap();
    assert_eq!(reply.http_status, 202);
    assert!(world.state.get(instance).is_some(), "its VM is still there");
    world.settle(&host);
    world.loops();
    assert!(world.state.get(vm).is_none() && world.state.get(instance).is_none());
    assert_eq!(world.operation(reply.operation_id.unwrap()).0, "completed");
    world.assert_ledgers_zero();
}

#[test]
fn an_instance_without_a_host_goes_at_once_and_with_its_tenant() {
    let (mut world, _host, alice, bob) = world();
    let small = json!({"specification": "small"});
    let first = world
        .create_as(alice, Kind::Instance, "a", small.clone())
        .unwrap();
    world.delete(alice, Kind::Instance, first).unwrap();
    assert!(world.state.get(first).is_none());
    let second = world.create_as(bob, Kind::Instance, "b", small).unwrap();
    let admin = world.admin;
    let vm = world.named(Kind::VirtualMachine, "b").id;
    let snapshot = json!({"vm_id": vm});
    world.create_as(bob, Kind::Snapshot, "s", snapshot).unwrap();
    world
        .ask(admin, &crate::instances::cancel_all(&world, vm))
        .unwrap();
    world.ask(admin, &removal(Kind::Tenant, "globex")).unwrap();
    world.loops();
    assert!(world.state.get(second).is_none());
    world.assert_ledgers_zero();
}

/// Gives up the one operation about a VM.
fn cancel_all(world: &World, vm: ObjectId) -> virtflow_logic::Request {
    let key = virtflow_model::key::OPERATION_TARGET;
    let operation = world.state.by_key(key, &vm.to_string(), None).next();
    virtflow_logic::Request::CancelOperation {
        target: operation.unwrap().id.to_string(),
    }
}

#[test]
fn an_instance_is_made_from_exactly_one_thing() {
    let (mut world, _host, alice, _) = world();
    let web = template(&mut world, alice, "web");
    let empty = world.create_as(alice, Kind::Instance, "i", json!({"template": "web"}));
    refuses_field(empty, "spec.template");
    version(&mut world, alice, web, "1.0.0");
    let nothing = world.create_as(alice, Kind::Instance, "i", json!({}));
    refuses_field(nothing, "spec.template_version_id");
    let both = json!({"template": "web", "specification": "small"});
    let both = world.create_as(alice, Kind::Instance, "i", both);
    refuses_field(both, "spec.specification_id");

    let db = template(&mut world, alice, "db");
    let gpu = json!({"template_id": db, "cpu_cores": 1, "memory_mib": 64, "storage_gib": 1, "gpu_count": 1});
    let gpu = world
        .create_as(alice, Kind::TemplateVersion, "1.0.0", gpu)
        .unwrap();
    let mixed = json!({"template": "web", "template_version_id": gpu});
    let mixed = world.create_as(alice, Kind::Instance, "i", mixed);
    refuses_field(mixed, "spec.template_version");
    world
        .patch(alice, Kind::Template, web, json!({"state": "deprecated"}))
        .unwrap();
    let old = world.create_as(alice, Kind::Instance, "i", json!({"template": "web"}));
    refuses(old, ErrorCode::Conflict, "not active");

    let made = world.create_as(
        alice,
        Kind::Instance,
        "i",
        json!({"specification": "small"}),
    );
    let made = made.unwrap();
    let changed = world.patch(
        alice,
        Kind::Instance,
        made,
        json!({"specification_id": null, "template": "web"}),
    );
    refuses_field(changed, "spec.template_version_id");
    world
        .patch(alice, Kind::Instance, made, json!({"description": "mine"}))
        .unwrap();
}

#[test]
fn a_set_holds_its_tenants_vms_once_each() {
    let (mut world, _host, alice, bob) = world();
    let small = json!({"specification": "small"});
    let vm = world
        .vm(alice, "web-1", small.clone())
        .unwrap()
        .object_id
        .unwrap();
    let theirs = world.vm(bob, "web-1", small).unwrap().object_id.unwrap();
    let set = world.create_as(alice, Kind::InstanceSet, "shop", json!({"type": "project"}));
    let set = set.unwrap();
    let member = json!({"set": "shop", "vm_id": vm});
    let stranger = json!({"set": "shop", "vm_id": theirs});
    let stranger = world.create_as(alice, Kind::InstanceSetMember, "", stranger);
    refuses(stranger, ErrorCode::NotFound, "virtual_machine");
    let admin = world.admin;
    let crossing = json!({"set_id": set, "vm_id": theirs});
    let crossing = world.create_as(admin, Kind::InstanceSetMember, "", crossing);
    refuses(crossing, ErrorCode::NotFound, "virtual_machine");

    let join = || {
        (
            alice,
            create(Kind::InstanceSetMember, "", None, member.clone()),
        )
    };
    let refused = world.race(join(), join()).unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
    world
        .patch(alice, Kind::InstanceSet, set, json!({"state": "archived"}))
        .unwrap();
    let late = world.create_as(alice, Kind::InstanceSetMember, "", member.clone());
    refuses(late, ErrorCode::Conflict, "archived");
    world
        .patch(alice, Kind::InstanceSet, set, json!({"state": "active"}))
        .unwrap();

    // The membership does not keep its VM, and goes with the set.
    world.delete(alice, Kind::VirtualMachine, vm).unwrap();
    let members = |world: &World| world.state.of_kind("instance_set_member", None).count();
    assert_eq!(members(&world), 0);
    let vm = world
        .vm(alice, "web-2", json!({"specification": "small"}))
        .unwrap();
    let member = json!({"set": "shop", "vm_id": vm.object_id.unwrap()});
    world
        .create_as(alice, Kind::InstanceSetMember, "", member)
        .unwrap();
    world.delete(alice, Kind::InstanceSet, set).unwrap();
    assert_eq!(members(&world), 0);
}

#[test]
fn a_set_holds_instances_as_themselves_and_as_their_vms_once_each() {
    let (mut world, _host, alice, _bob) = world();
    let instance = world.create_as(
        alice,
        Kind::Instance,
        "web",
        json!({"specification": "small"}),
    );
    let instance = instance.unwrap();
    let vm = status(&world, instance)["vm_id"].clone();
    let other = world
        .vm(alice, "alone", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    for set in ["shop", "course"] {
        world
            .create_as(alice, Kind::InstanceSet, set, json!({}))
            .unwrap();
    }
    let join = |world: &mut World, set: &str, of: serde_json::Value| {
        let mut member = json!({"set": set});
        for (field, id) in of.as_object().unwrap() {
            member[field] = id.clone();
        }
        world.create_as(alice, Kind::InstanceSetMember, "", member)
    };
    let as_both = json!({"instance_id": instance.to_string(), "vm_id": vm});
    for (set, of) in [
        ("shop", json!({"instance": "web"})),
        ("course", json!({"vm": "web"})),
    ] {
        let member = join(&mut world, set, of).unwrap();
        let spec = spec(&world, member);
        for (field, id) in as_both.as_object().unwrap() {
            assert_eq!(spec[field], *id, "{set}");
        }
    }
    let again = join(&mut world, "shop", json!({"vm": "web"}));
    refuses(again, ErrorCode::AlreadyExists, "");
    refuses_field(join(&mut world, "shop", json!({})), "spec.instance_id");
    let apart = json!({"instance": "web", "vm_id": other});
    refuses_field(join(&mut world, "shop", apart), "spec.vm_id");

    // They do not keep it.
    world.delete(alice, Kind::Instance, instance).unwrap();
    assert_eq!(world.state.of_kind("instance_set_member", None).count(), 0);
    assert!(world.state.get(instance).is_none());
}

#[test]
fn a_snapshot_is_recorded_as_not_taken_and_keeps_its_vm() {
    let (mut world, host, alice, bob) = world();
    let small = json!({"specification": "small"});
    let vm = world.vm(alice, "web-1", small).unwrap().object_id.unwrap();
    let of = json!({"vm_id": vm});
    let snapshot = world
        .create_as(alice, Kind::Snapshot, "before", of.clone())
        .unwrap();
    assert_eq!(
        status(&world, snapshot),
        json!({"phase": "pending", "reason": "not_available"})
    );
    let again = world.create_as(alice, Kind::Snapshot, "before", of.clone());
    refuses(again, ErrorCode::AlreadyExists, "before");
    let strange = world.create_as(bob, Kind::Snapshot, "s", of.clone());
    refuses(strange, ErrorCode::NotFound, "virtual_machine");
    let needed = world.delete(alice, Kind::VirtualMachine, vm);
    refuses(needed, ErrorCode::InUse, "snapshot `before`");
    world.delete(alice, Kind::Snapshot, snapshot).unwrap();

    world.place();
    world.settle(&host);
    let late = (alice, create(Kind::Snapshot, "late", None, of.clone()));
    let refused = world.race((alice, removal(Kind::VirtualMachine, "web-1")), late);
    assert!(
        matches!(refused, Err(Refused::LinkClosed { .. })),
        "{refused:?}"
    );
    let late = world.create_as(alice, Kind::Snapshot, "late", of);
    refuses(late, ErrorCode::Conflict, "being deleted");
    world.settle(&host);
    assert!(world.state.get(vm).is_none());
}

#[test]
fn an_instance_is_what_its_vm_or_its_host_is() {
    let (mut world, host, alice, _) = world();
    let ask = json!({"specification": "small"});
    let made = create(Kind::Instance, "web", None, ask);
    let web = world.made(alice, &made).unwrap();
    let state = |world: &World, instance| status(world, instance)["state"].clone();
    assert_eq!(state(&world, web), "pending");
    world.place();
    assert_eq!(state(&world, web), "creating");
    world.settle(&host);
    assert_eq!(state(&world, web), "running");
    let mut running = ListQuery::of(Kind::Instance);
    running.state = Some("running".into());
    let found = |world: &World, query: &ListQuery| {
        let page = list(&world.state, &world.cx(alice), query).unwrap();
        page.objects
            .iter()
            .map(|it| it["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&world, &running), [json!("web")]);
    world.offline(&host);
    world.loops();
    assert_eq!(state(&world, web), "unknown");
    assert!(found(&world, &running).is_empty());
    world.verify();
}

#[test]
fn an_instance_names_its_user_group_and_its_labels_and_its_vm_begins_with_them() {
    let (mut world, _host, alice, _) = world();
    let lab = create(
        Kind::UserGroup,
        "lab",
        Some("acme"),
        json!({"quota": {"cpu_cores": 64}}),
    );
    let lab = world.made(world.admin, &lab).unwrap();
    world.create(
        Kind::UserGroupMember,
        "",
        json!({"user_group": lab, "user": "alice"}),
    );
    let ask = json!({"specification": "small", "user_group": "lab", "labels": {"tier": "web"}});
    let web = world
        .made(alice, &create(Kind::Instance, "web", None, ask))
        .unwrap();
    let vm = world.named(Kind::VirtualMachine, "web").id;
    assert_eq!(spec(&world, vm)["user_group_id"], json!(lab));
    assert_eq!(spec(&world, vm)["labels"], json!({"tier": "web"}));
    assert!(world.used(lab, "cpu_cores") > 0);
    let mut query = ListQuery::of(Kind::Instance);
    query.label = Some("tier=web".into());
    let page = list(&world.state, &world.cx(alice), &query).unwrap();
    assert_eq!(page.objects[0]["id"], json!(web));
    let other = json!({"specification": "small", "user_group": "nobody"});
    assert!(
        world
            .made(alice, &create(Kind::Instance, "x", None, other))
            .is_err()
    );
    world
        .patch(
            alice,
            Kind::Instance,
            web,
            json!({"labels": {"tier": "db"}}),
        )
        .unwrap();
    world.verify();
}

#[test]
fn of_a_template_for_sets_no_single_instance_is_made() {
    let (mut world, _host, alice, _) = world();
    template_of_sets(&mut world, alice);
    let made = world.made(
        alice,
        &create(Kind::Instance, "x", None, json!({"template": "course"})),
    );
    refuses_field(made, "spec.template");
}

/// A template of sets with a version of 2 cores, 256 MiB and 3 GiB.
fn template_of_sets(world: &mut World, user: ObjectId) {
    let of_sets = json!({"type": "instance_set"});
    let sets = world.create_as(user, Kind::Template, "course", of_sets);
    version(world, user, sets.unwrap(), "1.0.0");
}

#[test]
fn a_set_is_made_with_instances_of_a_template_all_or_none() {
    let (mut world, _host, alice, _) = world();
    template_of_sets(&mut world, alice);
    let acme = world.named(Kind::Tenant, "acme").id;
    let of_three = json!({"type": "training", "template": "course", "count": 3});
    let set = world
        .create_as(alice, Kind::InstanceSet, "lesson", of_three.clone())
        .unwrap();
    assert_eq!(spec(&world, set)["count"], 3);
    assert!(spec(&world, set)["template_version_id"].is_string());
    assert_eq!(world.used(acme, "vms"), 3);
    assert_eq!(world.used(acme, "cpu_cores"), 6);
    let mut members = ListQuery::of(Kind::InstanceSetMember);
    members.parent = Some(set.to_string());
    let members = list(&world.state, &world.cx(alice), &members).unwrap();
    let mut names: Vec<String> = Vec::new();
    for member in &members.objects {
        let name = member["names"]["instance"].as_str().unwrap();
        assert_eq!(member["names"]["vm"], name);
        names.push(name.to_owned());
    }
    names.sort();
    assert_eq!(names, ["lesson-1", "lesson-2", "lesson-3"]);
    // Each begins as one that is made alone, its creation can be waited for.
    let operations = ListQuery::of(Kind::Operation);
    let operations = list(&world.state, &world.cx(alice), &operations).unwrap();
    assert_eq!(operations.objects.len(), 3);

    // One name that is taken is one too many.
    let before = world.state.digest();
    let deleted = world.named(Kind::Instance, "lesson-1").id;
    world.delete(alice, Kind::InstanceSet, set).unwrap();
    assert!(
        world.state.get(deleted).is_some(),
        "the set's end is not its instances'"
    );
    let again = world.create_as(alice, Kind::InstanceSet, "lesson", of_three.clone());
    refuses(again, ErrorCode::AlreadyExists, "lesson-1");
    assert_eq!(world.used(acme, "vms"), 3);
    assert_ne!(world.state.digest(), before, "but the set is gone");

    let many = json!({"template": "course", "count": 50});
    let before = world.state.digest();
    let many = world.create_as(alice, Kind::InstanceSet, "crowd", many);
    refuses(many, ErrorCode::QuotaExceeded, "");
    assert_eq!(world.state.digest(), before, "nothing of it was done");
    world.verify();
}

#[test]
fn what_a_set_is_made_of_is_whole_and_stays() {
    let (mut world, _host, alice, _) = world();
    template_of_sets(&mut world, alice);
    let single = template(&mut world, alice, "single");
    version(&mut world, alice, single, "1.0.0");
    for (asked, field) in [
        (json!({"template": "course"}), "spec.count"),
        (json!({"template": "course", "count": 51}), "spec.count"),
        (json!({"count": 2}), "spec.template_version_id"),
        (json!({"template": "single", "count": 2}), "spec.template"),
    ] {
        let made = world.create_as(alice, Kind::InstanceSet, "x", asked);
        refuses_field(made, field);
    }
    let long = "l".repeat(63);
    let two = json!({"template": "course", "count": 2});
    let made = world.create_as(alice, Kind::InstanceSet, &long, two.clone());
    refuses_field(made, "name");
    let set = world
        .create_as(alice, Kind::InstanceSet, "lesson", two)
        .unwrap();
    let more = world.patch(alice, Kind::InstanceSet, set, json!({"count": 3}));
    refuses_field(more, "spec.count");
    let other = json!({"description": "of November"});
    world.patch(alice, Kind::InstanceSet, set, other).unwrap();
}

#[test]
fn who_may_make_sets_makes_no_instances_with_them() {
    let (mut world, _host, alice, _) = world();
    template_of_sets(&mut world, alice);
    let keeper = world.user("keeper", Some("acme"));
    let role = json!({"permissions": ["instance_set.*", "template.read", "template_version.read"]});
    world.create(Kind::Role, "set-keeper", role);
    world.bind("keeper", "set-keeper", "tenant/acme");
    let two = json!({"template": "course", "count": 2});
    let made = world.create_as(keeper, Kind::InstanceSet, "lesson", two);
    refuses(made, ErrorCode::Forbidden, "instance.create");
    world
        .create_as(keeper, Kind::InstanceSet, "lesson", json!({}))
        .unwrap();
}

#[test]
fn of_what_another_tenant_shows_to_everybody_its_people_and_its_past_are_not_told() {
    let (mut world, _host, alice, bob) = world();
    let secret = template(&mut world, alice, "base");
    world
        .patch(
            alice,
            Kind::Template,
            secret,
            json!({"visibility": "public"}),
        )
        .unwrap();
    let seen = |user| {
        let page = list(
            &world.state,
            &world.cx(user),
            &ListQuery::of(Kind::Template),
        )
        .unwrap();
        page.objects
            .into_iter()
            .find(|it| it["id"] == json!(secret))
            .unwrap()
    };
    let own = seen(alice);
    assert_eq!(own["names"]["tenant"], "acme");
    assert_eq!(own["names"]["created_by"], "alice");
    let theirs = seen(bob);
    assert_eq!(theirs["names"], json!({}));
    assert_eq!(
        (&theirs["created_by"], &theirs["updated_by"]),
        (&json!("hidden"), &json!("hidden"))
    );
    assert_eq!(theirs["spec"], own["spec"]);
    let past = |user| {
        let cx = world.cx(user);
        let past = Past::open(&world.state, &cx).unwrap();
        past.meant(Kind::Template, &secret.to_string(), None)
            .map(drop)
    };
    past(alice).unwrap();
    assert_eq!(past(bob).unwrap_err().code, ErrorCode::Forbidden);
}
