//! Clusters and what lives under them.

use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_state::Refused;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, refuses, refuses_field, spec, status};
use crate::world::World;

fn world() -> (World, ObjectId, ObjectId) {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let alice = world.named(Kind::User, "alice").id;
    let bob = world.named(Kind::User, "bob").id;
    (world, alice, bob)
}

fn cluster(world: &mut World, user: ObjectId, name: &str) -> ObjectId {
    world
        .create_as(user, Kind::K8sCluster, name, json!({"version": "1.31.0"}))
        .unwrap()
}

fn pool(count: u32, min: u32, max: u32) -> Value {
    json!({
        "cluster": "k", "specification": "small",
        "node_count": count, "min_nodes": min, "max_nodes": max,
    })
}

#[test]
fn a_cluster_is_recorded_with_sound_networks_and_a_version() {
    let (mut world, alice, _) = world();
    let made = cluster(&mut world, alice, "k");
    assert_eq!(
        status(&world, made),
        json!({"phase": "pending", "reason": "not_available", "charged_user_id": alice})
    );
    let mut try_with = |spec: Value| world.create_as(alice, Kind::K8sCluster, "other", spec);
    refuses_field(try_with(json!({"version": "latest"})), "spec.version");
    let networks = |pods: &str, services: &str| json!({"version": "1.31.0", "networking": {"pod_cidr": pods, "service_cidr": services}});
    let overlapping = networks("10.0.0.0/8", "10.96.0.0/12");
    refuses_field(try_with(overlapping), "spec.networking.service_cidr");
    let bits = networks("10.244.0.1/16", "10.96.0.0/12");
    refuses_field(try_with(bits), "spec.networking.pod_cidr");
    try_with(networks("10.80.0.0/16", "10.96.0.0/12")).unwrap();
    let moved = json!({"networking": {"pod_cidr": "10.1.0.0/16"}});
    let moved = world.patch(alice, Kind::K8sCluster, made, moved);
    refuses_field(moved, "spec.networking");
    world
        .patch(alice, Kind::K8sCluster, made, json!({"version": "1.32.0"}))
        .unwrap();
}

#[test]
fn a_pool_has_between_least_and_most_nodes() {
    let (mut world, alice, _) = world();
    cluster(&mut world, alice, "k");
    let mut try_with = |spec: Value| world.create_as(alice, Kind::NodePool, "p", spec);
    refuses_field(try_with(pool(0, 1, 3)), "spec.node_count");
    refuses_field(try_with(pool(4, 1, 3)), "spec.node_count");
    refuses_field(try_with(pool(3, 4, 3)), "spec.min_nodes");
    let made = try_with(pool(3, 1, 3)).unwrap();
    let fewer = world.patch(alice, Kind::NodePool, made, json!({"max_nodes": 2}));
    refuses_field(fewer, "spec.node_count");
    let admin = world.admin;
    let small = world.named(Kind::VirtualMachineSpecification, "small").id;
    let needed = world.delete(admin, Kind::VirtualMachineSpecification, small);
    refuses(needed, ErrorCode::InUse, "node_pool `p`");
}

#[test]
fn what_lives_under_a_cluster_goes_with_it() {
    let (mut world, alice, bob) = world();
    let k = cluster(&mut world, alice, "k");
    let p = world
        .create_as(alice, Kind::NodePool, "p", pool(1, 1, 1))
        .unwrap();
    let ns =
        json!({"cluster": "k", "labels": {"app.example/team": "shop"}, "quotas": {"pods": 10}});
    let ns = world.create_as(alice, Kind::Namespace, "shop", ns).unwrap();
    let spaced = json!({"cluster": "k", "labels": {"a b": "c"}});
    let spaced = world.create_as(alice, Kind::Namespace, "x", spaced);
    refuses_field(spaced, "spec.labels");
    let plugin = |version: &str| json!({"cluster": "k", "version": version});
    let bad = world.create_as(alice, Kind::K8sClusterPlugin, "m", plugin("new"));
    refuses_field(bad, "spec.version");
    let info =
        json!({"cluster": "k", "version": "0.7.2", "additional_info": {"x": "y".repeat(20_000)}});
    let large = world.create_as(alice, Kind::K8sClusterPlugin, "m", info);
    refuses_field(large, "spec.additional_info");
    let plugin = world
        .create_as(alice, Kind::K8sClusterPlugin, "m", plugin("0.7.2"))
        .unwrap();

    let strange = json!({"cluster_id": k});
    let strange = world.create_as(bob, Kind::Namespace, "theirs", strange);
    refuses(strange, ErrorCode::NotFound, "k8s_cluster");
    world.delete(alice, Kind::K8sCluster, k).unwrap();
    for id in [k, p, ns, plugin] {
        assert!(world.state.get(id).is_none());
    }
}

#[test]
fn a_bastion_is_a_vm_of_the_clusters_tenant() {
    let (mut world, alice, bob) = world();
    let k = cluster(&mut world, alice, "k");
    let small = json!({"specification": "small"});
    let vm = world
        .vm(alice, "jump", small.clone())
        .unwrap()
        .object_id
        .unwrap();
    let theirs = world.vm(bob, "jump", small).unwrap().object_id.unwrap();
    let admin = world.admin;
    let crossing = json!({"cluster_id": k, "vm_id": theirs});
    let crossing = world.create_as(admin, Kind::BastionClusterAssociation, "", crossing);
    refuses(crossing, ErrorCode::NotFound, "virtual_machine");
    let own = json!({"cluster": "k", "vm": "jump"});
    let join = || {
        (
            alice,
            create(Kind::BastionClusterAssociation, "", None, own.clone()),
        )
    };
    let refused = world.race(join(), join()).unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
    let needed = world.delete(alice, Kind::VirtualMachine, vm);
    refuses(needed, ErrorCode::InUse, "bastion_cluster_association");
    world.delete(alice, Kind::K8sCluster, k).unwrap();
    world.delete(alice, Kind::VirtualMachine, vm).unwrap();
}

#[test]
fn a_cluster_has_at_most_one_primary_mesh() {
    let (mut world, alice, _) = world();
    cluster(&mut world, alice, "k");
    for mesh in ["m1", "m2", "m3"] {
        world.create(Kind::ServiceMesh, mesh, json!({"type": "cilium"}));
    }
    let join = |mesh: &str, role: &str| {
        let spec = json!({"cluster": "k", "service_mesh": mesh, "role": role});
        (alice, create(Kind::K8sClusterToServiceMesh, "", None, spec))
    };
    let refused = world
        .race(join("m1", "primary"), join("m2", "primary"))
        .unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
    let (_, again) = join("m1", "secondary");
    refuses(world.ask(alice, &again), ErrorCode::AlreadyExists, "pair");
    let (_, second) = join("m2", "secondary");
    let second = world.ask(alice, &second).unwrap().object_id.unwrap();
    let kind = Kind::K8sClusterToServiceMesh;
    let up = world.patch(alice, kind, second, json!({"role": "primary"}));
    refuses(up, ErrorCode::AlreadyExists, "another one is primary");
    let other = world.patch(alice, kind, second, json!({"service_mesh": "m3"}));
    refuses_field(other, "spec.service_mesh_id");

    let admin = world.admin;
    let m3 = world.named(Kind::ServiceMesh, "m3").id;
    world
        .patch(admin, Kind::ServiceMesh, m3, json!({"state": "inactive"}))
        .unwrap();
    let (_, late) = join("m3", "secondary");
    refuses(
        world.ask(alice, &late),
        ErrorCode::Conflict,
        "takes nothing new",
    );
    let m1 = world.named(Kind::ServiceMesh, "m1").id;
    let needed = world.delete(admin, Kind::ServiceMesh, m1);
    refuses(needed, ErrorCode::InUse, "k8s_cluster_to_service_mesh");
}

/// A machine of a cluster is its tenant's, and the cluster stays as long as it has machines.
#[test]
fn a_vm_names_the_cluster_that_it_is_a_machine_of() {
    let (mut world, alice, bob) = world();
    let k = cluster(&mut world, alice, "k");
    let foreign = cluster(&mut world, bob, "k");
    let machine =
        |cluster: Value| json!({"specification": "small", "type": "worker", "cluster": cluster});
    let vm = world.vm(alice, "n1", machine(json!("k"))).unwrap();
    let vm = vm.object_id.unwrap();
    assert_eq!(spec(&world, vm)["cluster_id"], json!(k));
    // Who sees both.
    let admin = world.admin;
    let acme = Some("acme");
    let made = create(Kind::VirtualMachine, "n2", acme, machine(json!(foreign)));
    refuses(
        world.made(admin, &made),
        ErrorCode::NotFound,
        "no k8s_cluster",
    );
    let moved = world.patch(
        admin,
        Kind::VirtualMachine,
        vm,
        json!({"cluster_id": foreign}),
    );
    refuses(moved, ErrorCode::NotFound, "no k8s_cluster");
    let gone = world.delete(alice, Kind::K8sCluster, k);
    refuses(gone, ErrorCode::InUse, "n1");
    world
        .patch(alice, Kind::VirtualMachine, vm, json!({"cluster_id": null}))
        .unwrap();
    world.delete(alice, Kind::K8sCluster, k).unwrap();
}
