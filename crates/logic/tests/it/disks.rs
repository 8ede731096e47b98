//! Storage pools, disks and what they are attached to.

use serde_json::{Value, json};
use virtflow_logic::{Create, Power, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::world::{Host, World};

/// `acme` with two VMs of `alice`'s, `globex` with one of `bob`'s.
fn world() -> (World, Host, ObjectId, ObjectId) {
    let (mut world, host) = World::furnished();
    world.tenant("globex", "bob");
    let [alice, bob] = ["alice", "bob"].map(|name| world.named(Kind::User, name).id);
    for (user, name) in [(alice, "web-1"), (alice, "web-2"), (bob, "other-1")] {
        let spec = json!({"specification": "small"});
        world.vm(user, name, spec).unwrap();
    }
    (world, host, alice, bob)
}

fn refused_at(error: &Error, field: &str) {
    assert_eq!(error.code, ErrorCode::Invalid, "{error}");
    assert_eq!(error.fields[0].field, field, "{error}");
}

fn attaching(disk: &str, vm: &str) -> Value {
    json!({"disk": disk, "vm": vm})
}

#[test]
fn a_storage_pool_has_what_its_backend_needs_and_nothing_else() {
    let (mut world, _host, alice, _) = world();
    let admin = world.admin;
    let mut make = |name: &str, spec: Value| {
        let mut whole = json!({"data_center": "dc1"});
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        world.create_as(admin, Kind::StoragePool, name, whole)
    };
    let wrong = [
        (json!({}), "spec.backend"),
        (json!({"backend": "nfs"}), "spec.backend"),
        (json!({"backend": "directory"}), "spec.path"),
        (
            json!({"backend": "directory", "path": "srv/vms"}),
            "spec.path",
        ),
        (
            json!({"backend": "directory", "path": "/srv/../etc"}),
            "spec.path",
        ),
        (
            json!({"backend": "directory", "path": "/srv", "volume_group": "vg0"}),
            "spec.volume_group",
        ),
        (json!({"backend": "lvm"}), "spec.volume_group"),
        (
            json!({"backend": "lvm", "volume_group": ""}),
            "spec.volume_group",
        ),
        (
            json!({"backend": "ceph_rbd", "ceph_pool": "disks"}),
            "spec.ceph_monitors",
        ),
        (
            json!({"backend": "ceph_rbd", "ceph_monitors": ["c1"]}),
            "spec.ceph_pool",
        ),
        (
            json!({"backend": "ceph_rbd", "ceph_pool": "p", "ceph_monitors": vec!["c1"; 10]}),
            "spec.ceph_monitors",
        ),
        (
            json!({"backend": "ceph_rbd", "ceph_pool": "p", "ceph_monitors": ["c 1"]}),
            "spec.ceph_monitors",
        ),
    ];
    for (spec, field) in wrong {
        refused_at(&make("s", spec).unwrap_err(), field);
    }
    let folder = make("s1", json!({"backend": "directory", "path": "/srv/vms"})).unwrap();
    make("s2", json!({"backend": "lvm", "volume_group": "vg0"})).unwrap();
    make(
        "s3",
        json!({"backend": "ceph_rbd", "ceph_pool": "p", "ceph_monitors": vec!["c1"; 9]}),
    )
    .unwrap();
    let change = json!({"backend": "lvm", "path": null, "volume_group": "vg0"});
    let error = world
        .patch(admin, Kind::StoragePool, folder, change)
        .unwrap_err();
    refused_at(&error, "spec.backend");
    let on = |pool: &str| json!({"size_gib": 1, "storage_pool": pool});
    world
        .create_as(alice, Kind::PrivateDataDisk, "d1", on("s1"))
        .unwrap();
    let error = world.delete(admin, Kind::StoragePool, folder).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    let change = json!({"state": "maintenance"});
    world
        .patch(admin, Kind::StoragePool, folder, change)
        .unwrap();
    let error = world
        .create_as(alice, Kind::PrivateDataDisk, "d2", on("s1"))
        .unwrap_err();
    assert!(error.message.contains("takes nothing new"), "{error}");
    let shown = virtflow_logic::public(&world.state, world.state.get(folder).unwrap());
    assert_eq!(
        shown["status"],
        json!({"phase": "pending", "reason": "not_available"})
    );
}

#[test]
fn a_disk_only_grows_within_the_tenants_storage() {
    let (mut world, _host, alice, _) = world();
    let acme = world.named(Kind::Tenant, "acme").id;
    let before = world.used(acme, "storage_gib");
    let wrong = [
        (json!({"size_gib": 0}), "spec.size_gib"),
        (json!({"size_gib": 65_537}), "spec.size_gib"),
        (
            json!({"size_gib": 1, "max_attachments": 2}),
            "spec.max_attachments",
        ),
        (
            json!({"size_gib": 1, "share_mode": "shared", "max_attachments": 65}),
            "spec.max_attachments",
        ),
    ];
    for (spec, field) in wrong {
        let made = world.create_as(alice, Kind::PrivateDataDisk, "d1", spec);
        refused_at(&made.unwrap_err(), field);
    }
    let disk = world
        .create_as(alice, Kind::PrivateDataDisk, "d1", json!({"size_gib": 50}))
        .unwrap();
    assert_eq!(world.used(acme, "storage_gib"), before + 50);
    let error = world
        .create_as(alice, Kind::PrivateDataDisk, "d2", json!({"size_gib": 50}))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    let mut grow = |gib: u64| {
        let change = json!({"size_gib": gib});
        world.patch(alice, Kind::PrivateDataDisk, disk, change)
    };
    refused_at(&grow(49).unwrap_err(), "spec.size_gib");
    assert_eq!(grow(100).unwrap_err().code, ErrorCode::QuotaExceeded);
    grow(60).unwrap();
    assert_eq!(world.used(acme, "storage_gib"), before + 60);
    let change = json!({"type": "nvme"});
    let error = world
        .patch(alice, Kind::PrivateDataDisk, disk, change)
        .unwrap_err();
    refused_at(&error, "spec.type");
    world.delete(alice, Kind::PrivateDataDisk, disk).unwrap();
    assert_eq!(world.used(acme, "storage_gib"), before);
}

#[test]
fn an_exclusive_disk_has_one_vm_and_a_shared_one_as_many_as_it_says() {
    let (mut world, _host, alice, _) = world();
    let disk = |world: &mut World, name: &str, spec: Value| {
        world
            .create_as(alice, Kind::PrivateDataDisk, name, spec)
            .unwrap()
    };
    let own = disk(&mut world, "own", json!({"size_gib": 1}));
    let shared = json!({"size_gib": 1, "share_mode": "shared", "max_attachments": 2});
    let shared = disk(&mut world, "shared", shared);
    let mut attach = |disk: &str, vm: &str| {
        let spec = attaching(disk, vm);
        world.create_as(alice, Kind::DiskAttachment, "", spec)
    };
    let first = attach("own", "web-1").unwrap();
    let error = attach("own", "web-2").unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(
        error.message.contains("limit 1, used 1, asked 1"),
        "{error}"
    );
    attach("shared", "web-1").unwrap();
    let error = attach("shared", "web-1").unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    attach("shared", "web-2").unwrap();
    let change = json!({"max_attachments": 1});
    let error = world
        .patch(alice, Kind::PrivateDataDisk, shared, change)
        .unwrap_err();
    refused_at(&error, "spec.max_attachments");
    let error = world.delete(alice, Kind::PrivateDataDisk, own).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    world.delete(alice, Kind::DiskAttachment, first).unwrap();
    let racing = ["web-1", "web-2"].map(|vm| {
        let create = Create::new(Kind::DiskAttachment, "", attaching("own", vm));
        (alice, Request::Create(create))
    });
    let [first, second] = racing;
    let told = world.race_told(first, second);
    assert!(
        told.contains("attached to as many VMs as it may be"),
        "{told}"
    );
}

#[test]
fn an_attachment_joins_a_vm_and_a_disk_of_one_tenant() {
    let (mut world, _host, alice, bob) = world();
    for (user, name) in [(alice, "d1"), (bob, "b1")] {
        let spec = json!({"size_gib": 1});
        world
            .create_as(user, Kind::PrivateDataDisk, name, spec)
            .unwrap();
    }
    let other = world.named(Kind::VirtualMachine, "other-1").id;
    let admin = world.admin;
    for (user, vm) in [
        (alice, "other-1".to_owned()),
        (alice, other.to_string()),
        (admin, other.to_string()),
    ] {
        let error = world
            .create_as(user, Kind::DiskAttachment, "", attaching("d1", &vm))
            .unwrap_err();
        assert_eq!(error.message, format!("no virtual_machine `{vm}`"));
    }
    let error = world
        .create_as(alice, Kind::DiskAttachment, "", attaching("b1", "web-1"))
        .unwrap_err();
    assert_eq!(error.message, "no private_data_disk `b1`");
    let mut spec = attaching("d1", "web-1");
    spec["mount_path_hint"] = json!("data");
    let made = world.create_as(alice, Kind::DiskAttachment, "", spec.clone());
    refused_at(&made.unwrap_err(), "spec.mount_path_hint");
    spec["mount_path_hint"] = json!("/data");
    spec["mode"] = json!("read_only");
    let id = world
        .create_as(alice, Kind::DiskAttachment, "", spec)
        .unwrap();
    let change = json!({"vm": "web-2"});
    let error = world
        .patch(alice, Kind::DiskAttachment, id, change)
        .unwrap_err();
    refused_at(&error, "spec.vm_id");
    let change = json!({"mode": "read_write"});
    world
        .patch(alice, Kind::DiskAttachment, id, change)
        .unwrap();
}

#[test]
fn a_vm_goes_when_its_disks_are_detached_and_then_takes_none() {
    let (mut world, host, alice, _) = world();
    world.place();
    world.settle(&host);
    let spec = json!({"size_gib": 1});
    world
        .create_as(alice, Kind::PrivateDataDisk, "d1", spec)
        .unwrap();
    let attachment = world
        .create_as(alice, Kind::DiskAttachment, "", attaching("d1", "web-1"))
        .unwrap();
    let vm = world.named(Kind::VirtualMachine, "web-1").id;
    let error = world.delete(alice, Kind::VirtualMachine, vm).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert_eq!(
        error.message,
        "virtual_machine `web-1` still has a disk attached"
    );
    world
        .delete(alice, Kind::DiskAttachment, attachment)
        .unwrap();
    world.delete(alice, Kind::VirtualMachine, vm).unwrap();
    let error = world
        .create_as(alice, Kind::DiskAttachment, "", attaching("d1", "web-1"))
        .unwrap_err();
    assert_eq!(error.message, "the VM is being deleted");
    world.settle(&host);
    assert!(world.state.get(vm).is_none());
}

#[test]
fn what_ends_without_being_asked_detaches_its_disks() {
    let (mut world, host, alice, _) = world();
    let [d1, d2] = ["d1", "d2"].map(|name| {
        let spec = json!({"size_gib": 1});
        world
            .create_as(alice, Kind::PrivateDataDisk, name, spec)
            .unwrap()
    });
    for (disk, vm) in [("d1", "web-1"), ("d2", "web-2")] {
        world
            .create_as(alice, Kind::DiskAttachment, "", attaching(disk, vm))
            .unwrap();
    }
    let vm = world.named(Kind::VirtualMachine, "web-1").id;
    let value = vm.to_string();
    let making = world.state.by_key("operation.target", &value, None).next();
    let target = making.unwrap().id.to_string();
    world
        .ask(alice, &Request::CancelOperation { target })
        .unwrap();
    assert!(world.state.get(vm).is_none());
    assert_eq!(world.state.count_of_kind("disk_attachment"), 1);
    world
        .delete(alice, Kind::PrivateDataDisk, d1)
        .expect("nothing has it any more");

    world.place();
    world.settle(&host);
    let stop = Power {
        target: "web-2".into(),
        tenant: None,
        act: PowerAct::Stop,
    };
    world.ask(alice, &Request::Power(stop)).unwrap();
    world.settle(&host);
    let acme = world.named(Kind::Tenant, "acme").id;
    let admin = world.admin;
    world.delete(admin, Kind::Tenant, acme).unwrap();
    world.loops();
    world.settle(&host);
    world.loops();
    assert!(world.state.get(acme).is_none() && world.state.get(d2).is_none());
}

#[test]
fn a_snapshot_is_of_a_vm_or_of_a_disk_that_it_has() {
    let (mut world, _host, alice, _) = world();
    for disk in ["data", "spare"] {
        world
            .create_as(alice, Kind::PrivateDataDisk, disk, json!({"size_gib": 1}))
            .unwrap();
    }
    let attachment = world
        .create_as(alice, Kind::DiskAttachment, "", attaching("data", "web-1"))
        .unwrap();
    let mut take = |name: &str, spec: Value| world.create_as(alice, Kind::Snapshot, name, spec);
    take("whole", json!({"vm": "web-1"})).unwrap();
    let of_disk = take("one", json!({"vm": "web-1", "disk": "data"})).unwrap();
    for other in [
        json!({"vm": "web-1", "disk": "spare"}),
        json!({"vm": "web-2", "disk": "data"}),
    ] {
        refused_at(&take("x", other).unwrap_err(), "spec.disk_id");
    }
    let twice = take("one", json!({"vm": "web-1"})).unwrap_err();
    assert_eq!(
        twice.code,
        ErrorCode::AlreadyExists,
        "a name is of one of a VM's"
    );
    let moved = json!({"disk": "spare"});
    let moved = world.patch(alice, Kind::Snapshot, of_disk, moved);
    refused_at(&moved.unwrap_err(), "spec.disk_id");
    // What it is of stays, attached or not.
    world
        .delete(alice, Kind::DiskAttachment, attachment)
        .unwrap();
    let data = world.named(Kind::PrivateDataDisk, "data").id;
    let needed = world
        .delete(alice, Kind::PrivateDataDisk, data)
        .unwrap_err();
    assert_eq!(needed.code, ErrorCode::InUse);
    world.delete(alice, Kind::Snapshot, of_disk).unwrap();
    world.delete(alice, Kind::PrivateDataDisk, data).unwrap();
}
