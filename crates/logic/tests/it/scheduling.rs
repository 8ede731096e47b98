//! How hosts are chosen: by the policy of their group, by the mode of a cluster, by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_logic::decoded;
use virtflow_model::Kind;
use virtflow_model::kinds::VirtualMachine;
use virtflow_types::ObjectId;

use crate::asking::{create, refuses, refuses_field};
use crate::world::{Host, World};

/// Five hosts in `g1`: two in rack `r1`, two in `r2`, one in none.
struct Hall {
    world: World,
    hosts: Vec<Host>,
    alice: ObjectId,
}

impl Hall {
    fn new(policy: &str) -> Self {
        let (mut world, first) = World::furnished();
        let admin = world.admin;
        world.create(Kind::Rack, "r2", json!({"data_center": "dc1"}));
        let group = world.named(Kind::BaremetalGroup, "g1").id;
        let policy = json!({"scheduling_policy": policy});
        world
            .patch(admin, Kind::BaremetalGroup, group, policy)
            .unwrap();
        let mut hosts = vec![first];
        for n in 2..=5 {
            hosts.push(world.host(&format!("SN-{n}"), 4000, 8192, 100));
        }
        for (host, rack) in hosts.iter().zip(["r1", "r1", "r2", "r2"]) {
            world
                .patch(admin, Kind::Baremetal, host.id, json!({"rack": rack}))
                .unwrap();
        }
        let acme = world.named(Kind::Tenant, "acme").id;
        let more = json!({"quota": {"cpu_cores": 100, "memory_mib": 65536, "storage_gib": 1000, "vms": 100}});
        world.patch(admin, Kind::Tenant, acme, more).unwrap();
        let alice = world.named(Kind::User, "alice").id;
        Self {
            world,
            hosts,
            alice,
        }
    }

    fn vms(&mut self, names: &[&str], more: &Value) -> Vec<ObjectId> {
        let made = names.iter().map(|name| {
            let mut spec = json!({"specification": "small"});
            for (field, value) in more.as_object().unwrap() {
                spec[field] = value.clone();
            }
            let reply = self.world.vm(self.alice, name, spec).unwrap();
            reply.object_id.unwrap()
        });
        let made = made.collect();
        self.world.place();
        made
    }

    /// Which host a VM is on, counted from 1; 0 for none.
    fn host_of(&self, vm: ObjectId) -> usize {
        let vm = decoded::<VirtualMachine>(self.world.state.get(vm).unwrap()).unwrap();
        let Some(at) = &vm.status.placement else {
            return 0;
        };
        let mut hosts = self.hosts.iter();
        hosts.position(|host| host.id == at.host_id).unwrap() + 1
    }

    /// How many of these VMs are in the first rack, in the second, and in none.
    fn by_rack(&self, vms: &[ObjectId]) -> [usize; 3] {
        let mut racks = [0; 3];
        for vm in vms {
            racks[[0, 0, 1, 1, 2][self.host_of(*vm) - 1]] += 1;
        }
        racks
    }

    fn by_host(&self, vms: &[ObjectId]) -> Vec<usize> {
        let mut hosts: BTreeMap<usize, usize> = BTreeMap::new();
        for vm in vms {
            *hosts.entry(self.host_of(*vm)).or_default() += 1;
        }
        hosts.into_values().collect()
    }
}

#[test]
fn zone_spread_fills_racks_evenly_and_then_their_hosts() {
    let mut hall = Hall::new("zone_spread");
    // The host without a rack is emptier than all others by far, and has the zone of its own that it is due.
    let first = hall.vms(&["a", "b", "c"], &json!({}));
    assert_eq!(hall.by_rack(&first), [1, 1, 1]);
    let next = hall.vms(&["d", "e", "f"], &json!({}));
    assert_eq!(hall.by_rack(&next), [1, 1, 1], "what was there counts");
    let all: Vec<ObjectId> = first.into_iter().chain(next).collect();
    assert_eq!(hall.by_host(&all), [1, 1, 1, 1, 2], "hosts of a rack share");
    // Another tenant's VMs are no kin.
    hall.world.tenant("globex", "bob");
    let bob = hall.world.named(Kind::User, "bob").id;
    let theirs: Vec<ObjectId> = ["a", "b", "c"]
        .map(|name| {
            let made = hall.world.vm(bob, name, json!({"specification": "small"}));
            made.unwrap().object_id.unwrap()
        })
        .into();
    hall.world.place();
    assert_eq!(hall.by_rack(&theirs), [1, 1, 1]);
    hall.world.verify();
}

#[test]
fn a_cluster_says_how_its_machines_are_laid_whatever_the_group_does() {
    let mut hall = Hall::new("pack");
    let alice = hall.alice;
    for (name, mode) in [
        ("wide", "spread"),
        ("zoned", "zone_spread"),
        ("tight", "pack"),
    ] {
        let spec = json!({"version": "1.31.0", "scheduling_mode": mode});
        hall.world
            .create_as(alice, Kind::K8sCluster, name, spec)
            .unwrap();
    }
    let alone = hall.vms(&["a", "b"], &json!({}));
    assert_eq!(hall.by_host(&alone), [2], "the group packs");
    let wide = hall.vms(&["w1", "w2", "w3", "w4", "w5"], &json!({"cluster": "wide"}));
    assert_eq!(hall.by_host(&wide), [1; 5], "one on each host");
    let zoned = hall.vms(&["z1", "z2", "z3"], &json!({"cluster": "zoned"}));
    assert_eq!(hall.by_rack(&zoned), [1, 1, 1]);
    let tight = hall.vms(&["t1", "t2"], &json!({"cluster": "tight"}));
    assert_eq!(hall.by_host(&tight), [2]);
}

#[test]
fn a_manual_group_gets_what_is_pinned_and_nothing_else() {
    let mut hall = Hall::new("manual");
    let waits = hall.vms(&["a"], &json!({}))[0];
    assert_eq!(hall.host_of(waits), 0);
    let message = hall.world.vm_status(waits).message;
    assert!(
        message.contains("take only VMs that are pinned to one host"),
        "{message}"
    );
    // Hosts are none of a tenant's business.
    let third = hall.hosts[2].id;
    let pinned = json!({"specification": "small", "pinned_host": third});
    let made = hall.world.vm(hall.alice, "b", pinned.clone());
    refuses(made, virtflow_types::ErrorCode::NotFound, "baremetal");
    let admin = hall.world.admin;
    let made = create(Kind::VirtualMachine, "b", Some("acme"), pinned);
    let made = hall.world.ask(admin, &made).unwrap();
    let vm = made.object_id.unwrap();
    hall.world.place();
    assert_eq!(hall.host_of(vm), 3);
    let moved = json!({"pinned_host": hall.hosts[0].id});
    let moved = hall.world.patch(admin, Kind::VirtualMachine, vm, moved);
    refuses_field(moved, "spec.pinned_host_id");
    // A host that takes nothing new is nobody's to be pinned to.
    let cordoned = json!({"state": "cordoned"});
    hall.world
        .patch(admin, Kind::Baremetal, hall.hosts[3].id, cordoned)
        .unwrap();
    let spec = json!({"specification": "small", "pinned_host": hall.hosts[3].id});
    let made = create(Kind::VirtualMachine, "c", Some("acme"), spec);
    let error = hall.world.ask(admin, &made).unwrap_err();
    assert!(error.message.contains("takes nothing new"), "{error}");
}

#[test]
fn what_is_pinned_waits_for_its_host_and_says_so() {
    let mut hall = Hall::new("spread");
    let admin = hall.world.admin;
    let second = hall.hosts[1].id;
    hall.world
        .patch(admin, Kind::Baremetal, second, json!({"rack": null}))
        .unwrap();
    let epoch = Host {
        id: second,
        key: hall.hosts[1].key.clone(),
        epoch: hall.hosts[1].epoch,
    };
    hall.world.offline(&epoch);
    let spec = json!({"specification": "small", "pinned_host": second});
    let made = create(Kind::VirtualMachine, "p", Some("acme"), spec);
    let vm = hall.world.ask(admin, &made).unwrap().object_id.unwrap();
    hall.world.place();
    assert_eq!(hall.host_of(vm), 0);
    let message = hall.world.vm_status(vm).message;
    assert_eq!(message, "no host has room: 1 is offline");
}
