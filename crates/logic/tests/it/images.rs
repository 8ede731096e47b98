//! Images, their versions and tags.

use serde_json::{Value, json};
use virtflow_logic::{Create, Request};
use virtflow_model::Kind;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::world::World;

/// `acme` and `globex`, each with an administrator of its own, and `acme`'s image `app`.
struct Shelf {
    world: World,
    alice: ObjectId,
    bob: ObjectId,
    image: ObjectId,
}

impl Shelf {
    fn new() -> Self {
        let (mut world, _host) = World::furnished();
        world.tenant("globex", "bob");
        for (user, scope) in [("alice", "tenant/acme"), ("bob", "tenant/globex")] {
            world.bind(user, "tenant_admin", scope);
        }
        let [alice, bob] = ["alice", "bob"].map(|name| world.named(Kind::User, name).id);
        let image = world
            .create_as(
                alice,
                Kind::Image,
                "app",
                json!({"type": "application_layer"}),
            )
            .unwrap();
        Self {
            world,
            alice,
            bob,
            image,
        }
    }

    fn version(&mut self, name: &str, more: Value) -> Result<ObjectId, Error> {
        let spec = version(self.image, more);
        self.world
            .create_as(self.alice, Kind::ImageVersion, name, spec)
    }

    fn tag(&mut self, name: &str, version: ObjectId, immutable: bool) -> Result<ObjectId, Error> {
        let spec = json!({"image": self.image, "version": version, "immutable": immutable});
        self.world.create_as(self.alice, Kind::ImageTag, name, spec)
    }

    /// The names of the versions that say they are the latest.
    fn latest(&self) -> Vec<String> {
        let versions = self.world.state.of_kind("image_version", None);
        versions
            .filter(|version| {
                let spec: Value = serde_json::from_str(&version.spec).unwrap();
                spec["latest"] == true
            })
            .map(|version| version.name.to_string())
            .collect()
    }
}

fn version(image: ObjectId, more: Value) -> Value {
    let mut spec = json!({
        "image": image,
        "sha256": "ab".repeat(32),
        "size_bytes": 1024,
        "source_url": "https://images.example/app.qcow2",
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

fn refused_at(error: &Error, field: &str) {
    assert_eq!(error.code, ErrorCode::Invalid, "{error}");
    assert_eq!(error.fields[0].field, field, "{error}");
}

#[test]
fn what_all_tenants_see_is_the_clouds_own() {
    let Shelf {
        mut world,
        alice,
        bob,
        ..
    } = Shelf::new();
    let public = json!({"visibility": "public"});
    let made = world.create_as(alice, Kind::Image, "mine", public.clone());
    refused_at(&made.unwrap_err(), "spec.visibility");
    let debian = world.create(Kind::Image, "debian", public);
    let hidden = world.create(Kind::Image, "hidden", json!({}));
    let [seen, unseen] = [debian, hidden].map(|image| {
        let id = world.create(Kind::ImageVersion, "13", version(image, json!({})));
        world.create(
            Kind::ImageTag,
            "stable",
            json!({"image": image, "version": id}),
        );
        id
    });
    let read = |user: ObjectId, kind: Kind, id: ObjectId| {
        let cx = world.cx(user);
        virtflow_logic::get(&world.state, &cx, kind, &id.to_string(), None).is_ok()
    };
    let tag_of = |version: ObjectId| {
        let mut linking = world.state.linking_to(version);
        linking.next().unwrap()
    };
    for user in [alice, bob] {
        assert!(read(user, Kind::Image, debian) && !read(user, Kind::Image, hidden));
        assert!(read(user, Kind::ImageVersion, seen) && !read(user, Kind::ImageVersion, unseen));
        assert!(read(user, Kind::ImageTag, tag_of(seen)));
        assert!(!read(user, Kind::ImageTag, tag_of(unseen)));
    }
    let app = world.named(Kind::Image, "app").id;
    assert!(read(alice, Kind::Image, app) && !read(bob, Kind::Image, app));
    let made = world.create_as(bob, Kind::ImageVersion, "1", version(app, json!({})));
    assert_eq!(made.unwrap_err().code, ErrorCode::NotFound);
    let made = world.create_as(bob, Kind::ImageVersion, "14", version(debian, json!({})));
    assert_eq!(made.unwrap_err().code, ErrorCode::Forbidden);
}

#[test]
fn recommended_sizes_are_no_smaller_than_the_least() {
    let Shelf {
        mut world, alice, ..
    } = Shelf::new();
    let sizes = |cpu: u64, memory: u64| json!({"min_cpu_cores": 2, "recommended_cpu_cores": cpu, "min_memory_mib": 512, "recommended_memory_mib": memory});
    for (spec, field) in [
        (sizes(1, 512), "spec.recommended_cpu_cores"),
        (sizes(2, 511), "spec.recommended_memory_mib"),
    ] {
        let made = world.create_as(alice, Kind::Image, "i", spec);
        refused_at(&made.unwrap_err(), field);
    }
    world
        .create_as(alice, Kind::Image, "i", sizes(2, 512))
        .unwrap();
}

#[test]
fn a_version_is_told_by_its_bytes_which_never_change() {
    let mut shelf = Shelf::new();
    let wrong = [
        (json!({"sha256": "ab"}), "spec.sha256"),
        (json!({"sha256": "AB".repeat(32)}), "spec.sha256"),
        (json!({"sha256": "xy".repeat(32)}), "spec.sha256"),
        (json!({"md5": "ab".repeat(15)}), "spec.md5"),
        (json!({"size_bytes": 0}), "spec.size_bytes"),
        (
            json!({"source_url": "file:///etc/passwd"}),
            "spec.source_url",
        ),
        (json!({"source_url": "https://"}), "spec.source_url"),
    ];
    for (more, field) in wrong {
        refused_at(&shelf.version("1.0.0", more).unwrap_err(), field);
    }
    let first = shelf
        .version("1.0.0", json!({"md5": "ab".repeat(16)}))
        .unwrap();
    let child = json!({"parent_version": first});
    shelf.version("1.1.0", child).unwrap();
    let error = shelf.version("1.0.0", json!({})).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    let stays = [
        (json!({"sha256": "cd".repeat(32)}), "spec.sha256"),
        (json!({"md5": null}), "spec.md5"),
        (json!({"size_bytes": 1}), "spec.size_bytes"),
        (json!({"parent_version": first}), "spec.parent_version_id"),
    ];
    let (world, alice) = (&mut shelf.world, shelf.alice);
    for (change, field) in stays {
        let changed = world.patch(alice, Kind::ImageVersion, first, change);
        refused_at(&changed.unwrap_err(), field);
    }
    let change =
        json!({"source_url": "http://mirror.example/app", "release_notes": "as before\nmirrored"});
    world
        .patch(alice, Kind::ImageVersion, first, change)
        .unwrap();
    let error = world.delete(alice, Kind::ImageVersion, first).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse, "another was made from it");
    let image = shelf.image;
    let archived = json!({"state": "archived"});
    world.patch(alice, Kind::Image, image, archived).unwrap();
    let error = shelf.version("1.2.0", json!({})).unwrap_err();
    assert!(error.message.contains("takes nothing new"), "{error}");
}

#[test]
fn exactly_one_version_is_the_latest() {
    let mut shelf = Shelf::new();
    let made = shelf.version("1", json!({"latest": false}));
    refused_at(&made.unwrap_err(), "spec.latest");
    let v1 = shelf.version("1", json!({})).unwrap();
    shelf.version("0.9", json!({"latest": false})).unwrap();
    assert_eq!(shelf.latest(), ["1"]);
    let v2 = shelf.version("2", json!({})).unwrap();
    assert_eq!(shelf.latest(), ["2"], "the former one steps back");
    let alice = shelf.alice;
    let mut set = |id: ObjectId, latest: bool| {
        let change = json!({"latest": latest});
        shelf.world.patch(alice, Kind::ImageVersion, id, change)
    };
    refused_at(&set(v2, false).unwrap_err(), "spec.latest");
    set(v1, true).unwrap();
    set(v1, true).unwrap();
    assert_eq!(shelf.latest(), ["1"]);
    let delete = |shelf: &mut Shelf, id| shelf.world.delete(alice, Kind::ImageVersion, id);
    let error = delete(&mut shelf, v1).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert!(error.advice.unwrap().contains("another version the latest"));
    let old = shelf.world.named(Kind::ImageVersion, "0.9").id;
    for id in [v2, old, v1] {
        delete(&mut shelf, id).unwrap();
    }
    let image = shelf.image;
    let making = |name: &str| {
        let create = Create::new(Kind::ImageVersion, name, version(image, json!({})));
        (alice, Request::Create(create))
    };
    assert_eq!(
        shelf.world.race_told(making("3"), making("4")),
        "another version became the image's latest at the same moment"
    );
    let told = shelf.world.race_told(making("5"), making("6"));
    assert!(told.contains("changed at the same moment"), "{told}");
    assert_eq!(shelf.latest(), ["5"]);
}

#[test]
fn a_tag_points_into_its_image_and_never_moves_once_it_is_immutable() {
    let mut shelf = Shelf::new();
    let alice = shelf.alice;
    let [v1, v2] = ["1", "2"].map(|name| shelf.version(name, json!({})).unwrap());
    let other = shelf
        .world
        .create_as(alice, Kind::Image, "other", json!({}))
        .unwrap();
    let foreign = shelf
        .world
        .create_as(alice, Kind::ImageVersion, "1", version(other, json!({})))
        .unwrap();
    refused_at(
        &shelf.tag("stable", foreign, false).unwrap_err(),
        "spec.version_id",
    );
    let moving = shelf.tag("stable", v1, false).unwrap();
    let fixed = shelf.tag("lts", v1, true).unwrap();
    let mut change = |id: ObjectId, spec: Value| shelf.world.patch(alice, Kind::ImageTag, id, spec);
    refused_at(
        &change(moving, json!({"version": foreign})).unwrap_err(),
        "spec.version_id",
    );
    change(moving, json!({"version": v2})).unwrap();
    for at_once in [
        json!({"version": v2}),
        json!({"version": v2, "immutable": false}),
    ] {
        refused_at(&change(fixed, at_once).unwrap_err(), "spec.version_id");
    }
    let world = &mut shelf.world;
    let error = world.delete(alice, Kind::ImageTag, fixed).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert_eq!(error.message, "image_tag `lts` is immutable: it stays");
    let loosened = json!({"immutable": false});
    refused_at(
        &world
            .patch(alice, Kind::ImageTag, fixed, loosened)
            .unwrap_err(),
        "spec.immutable",
    );
    // One that may move keeps its version; one that may not goes with it.
    let error = world.delete(alice, Kind::ImageVersion, v2).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    world
        .patch(alice, Kind::ImageTag, moving, json!({"version": v1}))
        .unwrap();
    let error = world.delete(alice, Kind::ImageVersion, v1).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert!(world.state.get(fixed).is_some());
    world.delete(alice, Kind::ImageTag, moving).unwrap();
    world.delete(alice, Kind::ImageVersion, v1).unwrap();
    assert!(world.state.get(fixed).is_none());
}

/// An image of `acme`'s that needs two vCPUs, 512 MiB and 4 GiB, and its versions `1` and, the latest, `2`.
fn demanding(shelf: &mut Shelf) -> [ObjectId; 3] {
    let least = json!({"min_cpu_cores": 2, "min_memory_mib": 512, "min_storage_gib": 4});
    let change = shelf
        .world
        .patch(shelf.alice, Kind::Image, shelf.image, least);
    change.unwrap();
    let first = shelf.version("1", json!({})).unwrap();
    let second = shelf.version("2", json!({})).unwrap();
    [shelf.image, first, second]
}

fn sized(cpu: u64, memory: u64, storage: u64, image: Value) -> Value {
    let mut spec = json!({"cpu_cores": cpu, "memory_mib": memory, "storage_gib": storage});
    for (field, value) in image.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

#[test]
fn a_vm_is_no_smaller_than_its_image_says() {
    let mut shelf = Shelf::new();
    let [image, first, second] = demanding(&mut shelf);
    let Shelf {
        mut world,
        alice,
        bob,
        ..
    } = shelf;
    let named = json!({"image": "app"});
    for (sizes, field) in [
        ([1, 512, 4], "spec.cpu_cores"),
        ([2, 511, 4], "spec.memory_mib"),
        ([2, 512, 3], "spec.storage_gib"),
    ] {
        let [cpu, memory, storage] = sizes;
        let spec = sized(cpu, memory, storage, named.clone());
        refused_at(&world.vm(alice, "web", spec).unwrap_err(), field);
    }
    let error = world
        .vm(
            alice,
            "web",
            json!({"specification": "small", "image_version": first}),
        )
        .unwrap_err();
    refused_at(&error, "spec.cpu_cores");
    assert_eq!(
        error.message,
        "`spec.cpu_cores`: must be at least 2 for image `app`, not 1"
    );
    let error = world
        .vm(bob, "web", sized(2, 512, 4, named.clone()))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "{error}");

    let latest = world.vm(alice, "web", sized(2, 512, 4, named)).unwrap();
    let older = json!({"image_version": first});
    let older = world.vm(alice, "old", sized(2, 512, 4, older)).unwrap();
    for (vm, version) in [(&latest, second), (&older, first)] {
        let object = &vm.object.as_ref().unwrap();
        assert_eq!(object["spec"]["image_id"], json!(image));
        assert_eq!(object["spec"]["image_version_id"], json!(version));
        let image = &object["status"]["image"];
        assert_eq!(
            *image,
            json!({"phase": "pending", "reason": "not_available"})
        );
    }
    let vm = latest.object_id.unwrap();
    let error = world
        .patch(
            alice,
            Kind::VirtualMachine,
            vm,
            json!({"image_version": first}),
        )
        .unwrap_err();
    refused_at(&error, "spec.image_id");
    // What is there stays when the image asks for more, and keeps its image.
    let more = json!({"min_memory_mib": 1024});
    world.patch(alice, Kind::Image, image, more).unwrap();
    let labels = json!({"labels": {"app": "shop"}});
    world
        .patch(alice, Kind::VirtualMachine, vm, labels)
        .unwrap();
    let error = world.delete(alice, Kind::ImageVersion, second).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
}

#[test]
fn nothing_new_begins_as_what_is_archived() {
    let mut shelf = Shelf::new();
    let empty = shelf
        .world
        .create_as(shelf.alice, Kind::Image, "empty", json!({}));
    empty.unwrap();
    let [image, first, second] = demanding(&mut shelf);
    let other = version(image, json!({}));
    let other = {
        let made = shelf
            .world
            .create_as(shelf.alice, Kind::Image, "other", json!({}));
        let mut spec = other;
        spec["image"] = json!(made.unwrap());
        let made = shelf
            .world
            .create_as(shelf.alice, Kind::ImageVersion, "9", spec);
        made.unwrap()
    };
    let Shelf {
        mut world, alice, ..
    } = shelf;
    let mut n = 0;
    let mut vm = |world: &mut World, image: Value| {
        n += 1;
        world.vm(alice, &format!("vm-{n}"), sized(2, 512, 4, image))
    };
    let state = |world: &mut World, kind, id, state: &str| {
        world
            .patch(alice, kind, id, json!({"state": state}))
            .unwrap();
    };
    state(&mut world, Kind::ImageVersion, first, "deprecated");
    vm(&mut world, json!({"image_version": first})).expect("better use another one");
    state(&mut world, Kind::ImageVersion, first, "archived");
    let error = vm(&mut world, json!({"image_version": first})).unwrap_err();
    assert!(error.message.contains("takes nothing new"), "{error}");
    vm(&mut world, json!({"image_version": second})).unwrap();
    state(&mut world, Kind::Image, image, "archived");
    let error = vm(&mut world, json!({"image_version": second})).unwrap_err();
    assert!(error.message.contains("takes nothing new"), "{error}");
    let error = vm(&mut world, json!({"image": "empty"})).unwrap_err();
    refused_at(&error, "spec.image");
    let error = vm(&mut world, json!({"image": "app", "image_version": other})).unwrap_err();
    refused_at(&error, "spec.image_version");
}

#[test]
fn what_a_template_is_made_from_is_passed_on() {
    let mut shelf = Shelf::new();
    let [image, first, second] = demanding(&mut shelf);
    let Shelf {
        mut world,
        alice,
        bob,
        ..
    } = shelf;
    let public = json!({"visibility": "public"});
    let template = world
        .create_as(alice, Kind::Template, "web", public)
        .unwrap();
    let spec = |cpu, version: Value| {
        let mut spec = sized(cpu, 512, 4, version);
        spec["template"] = json!(template);
        spec
    };
    let small = spec(1, json!({"image": "app"}));
    let error = world
        .create_as(alice, Kind::TemplateVersion, "1", small)
        .unwrap_err();
    refused_at(&error, "spec.cpu_cores");
    let of_latest = spec(2, json!({"image": "app"}));
    let made = world
        .create_as(alice, Kind::TemplateVersion, "1", of_latest)
        .unwrap();
    let stored: Value = serde_json::from_str(&world.state.get(made).unwrap().spec).unwrap();
    assert_eq!(stored["image_version_id"], json!(second));
    let error = world.delete(alice, Kind::ImageVersion, second).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    let older = spec(2, json!({"image_version": first}));
    let older = world
        .create_as(alice, Kind::TemplateVersion, "2", older)
        .unwrap();

    let from = json!({"template": "web", "template_version": older});
    world.create_as(alice, Kind::Instance, "i", from).unwrap();
    let vm = world.named(Kind::VirtualMachine, "i");
    let vm: Value = serde_json::from_str(&vm.spec).unwrap();
    assert_eq!(vm["image_id"], json!(image));
    assert_eq!(vm["image_version_id"], json!(first));
    // The template is there for all tenants; its image is not.
    let from = json!({"template": template});
    let error = world.create_as(bob, Kind::Instance, "i", from).unwrap_err();
    refused_at(&error, "spec.template_version");
}

#[test]
fn an_image_stands_for_its_default_and_else_for_its_latest() {
    let mut shelf = Shelf::new();
    let alice = shelf.alice;
    let v1 = shelf.version("1", json!({"default": true})).unwrap();
    let v2 = shelf.version("2", json!({})).unwrap();
    let mut n = 0;
    let mut stands_for = |world: &mut World| {
        n += 1;
        let spec = sized(1, 128, 1, json!({"image": "app"}));
        let made = world.vm(alice, &format!("vm-{n}"), spec).unwrap();
        made.object.unwrap()["spec"]["image_version_id"].clone()
    };
    assert_eq!(stands_for(&mut shelf.world), json!(v1));
    let set = |world: &mut World, id: ObjectId, default: bool| {
        let change = json!({"default": default});
        world.patch(alice, Kind::ImageVersion, id, change).unwrap();
    };
    set(&mut shelf.world, v2, true);
    let defaults = |world: &World| {
        let versions = world.state.of_kind("image_version", None);
        versions
            .filter(|it| it.spec.contains("\"default\":true"))
            .count()
    };
    assert_eq!(defaults(&shelf.world), 1, "the former one steps back");
    assert_eq!(stands_for(&mut shelf.world), json!(v2));
    let v3 = shelf.version("3", json!({})).unwrap();
    assert_eq!(
        stands_for(&mut shelf.world),
        json!(v2),
        "newer, and no default"
    );
    set(&mut shelf.world, v2, false);
    assert_eq!(stands_for(&mut shelf.world), json!(v3));
    let image = shelf.image;
    let making = |name: &str| {
        let spec = version(image, json!({"default": true, "latest": false}));
        (
            alice,
            Request::Create(Create::new(Kind::ImageVersion, name, spec)),
        )
    };
    let told = shelf.world.race_told(making("4"), making("5"));
    assert!(told.contains("default"), "{told}");
    assert_eq!(defaults(&shelf.world), 1);
    shelf.world.verify();
}

#[test]
fn a_version_is_named_by_a_tag_that_points_to_it() {
    let mut shelf = Shelf::new();
    let alice = shelf.alice;
    let [v1, v2] = ["1", "2"].map(|name| shelf.version(name, json!({})).unwrap());
    let tag = shelf.tag("lts", v1, false).unwrap();
    // Another image has a version and a tag of the same names.
    let other = shelf
        .world
        .create_as(alice, Kind::Image, "other", json!({}))
        .unwrap();
    let theirs = shelf
        .world
        .create_as(alice, Kind::ImageVersion, "1", version(other, json!({})))
        .unwrap();
    let spec = json!({"image": other, "version": "1"});
    let other_tag = shelf.world.create_as(alice, Kind::ImageTag, "lts", spec);
    other_tag.unwrap();
    let mut n = 0;
    let mut vm = |world: &mut World, image: Value| {
        n += 1;
        let made = world.vm(alice, &format!("vm-{n}"), sized(1, 128, 1, image))?;
        Ok::<Value, Error>(made.object.unwrap()["spec"]["image_version_id"].clone())
    };
    let world = &mut shelf.world;
    let by = |image: &str, version: &str| json!({"image": image, "image_version": version});
    assert_eq!(vm(world, by("app", "lts")).unwrap(), json!(v1));
    assert_eq!(vm(world, by("other", "lts")).unwrap(), json!(theirs));
    assert_eq!(vm(world, by("other", "1")).unwrap(), json!(theirs));
    let alone = |version: &str| json!({"image_version": version});
    assert_eq!(vm(world, alone("app/lts")).unwrap(), json!(v1));
    assert_eq!(
        vm(world, alone("lts")).unwrap_err().code,
        ErrorCode::Conflict
    );
    let missing = vm(world, by("app", "beta")).unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
    assert!(missing.message.contains("image_version"), "{missing}");
    // A tag moves; what was made keeps what it had.
    world
        .patch(alice, Kind::ImageTag, tag, json!({"version": v2}))
        .unwrap();
    assert_eq!(vm(world, by("app", "lts")).unwrap(), json!(v2));
    let first = world.named(Kind::VirtualMachine, "vm-1");
    assert!(first.spec.contains(&v1.to_string()));
}
