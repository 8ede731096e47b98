//! GPUs: whole ones, counted on hosts and in every quota, each given once.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::{HostInventory, Power, Request, decoded, desired_of, inventory_changed};
use virtflow_model::Kind;
use virtflow_model::kinds::VirtualMachine;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::{ErrorCode, ObjectId, RequestId, Timestamp};

use crate::asking::{create, refuses, refuses_field};
use crate::world::{Host, World};

/// The furnished world, and a second host with two GPUs.
struct Lab {
    world: World,
    plain: Host,
    with: Host,
    alice: ObjectId,
}

impl Lab {
    fn new() -> Self {
        let (mut world, plain) = World::furnished();
        let with = world.host("SN-2", 8000, 8192, 100);
        let alice = world.named(Kind::User, "alice").id;
        let size = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1, "gpu_count": 1});
        world.create(Kind::VirtualMachineSpecification, "ai", size);
        let mut lab = Self {
            world,
            plain,
            with,
            alice,
        };
        lab.report(2);
        lab
    }

    /// Its agent tells how many GPUs the second host hands out.
    fn report(&mut self, gpus: u64) {
        let inventory = HostInventory {
            cpu_milli: 8000,
            memory_mib: 8192,
            storage_gib: 100,
            gpus,
            foreign: None,
            facts: json!({}),
        };
        let world = &mut self.world;
        let request = RequestId::generate();
        let changed = inventory_changed(&world.state, request, world.now, self.with.id, &inventory);
        world.commit(&changed.unwrap()).unwrap();
    }

    fn vm(&mut self, name: &str) -> Result<ObjectId, virtflow_types::Error> {
        let made = self
            .world
            .vm(self.alice, name, json!({"specification": "ai"}))?;
        self.world.place();
        Ok(made.object_id.unwrap())
    }

    fn host_of(&self, vm: ObjectId) -> Option<ObjectId> {
        let vm = decoded::<VirtualMachine>(self.world.state.get(vm).unwrap()).unwrap();
        vm.status.placement.as_ref().map(|at| at.host_id)
    }

    fn limit(&mut self, kind: Kind, id: ObjectId, quota: Value) {
        let admin = self.world.admin;
        self.world.patch(admin, kind, id, quota).unwrap();
    }
}

#[test]
fn each_is_given_to_one_vm_and_free_again_when_that_is_gone() {
    let mut lab = Lab::new();
    let [first, second, third] = ["a", "b", "c"].map(|name| lab.vm(name).unwrap());
    for vm in [first, second] {
        assert_eq!(lab.host_of(vm), Some(lab.with.id));
    }
    assert_eq!(lab.world.used(lab.with.id, "gpus"), 2);
    assert_eq!(lab.host_of(third), None);
    let message = lab.world.vm_status(third).message;
    assert!(message.contains("2 are short of gpus"), "{message}");
    let desired = desired_of(&lab.world.state, lab.with.id);
    assert!(desired.vms.iter().all(|vm| vm.gpu_count == 1));

    // A silent host keeps what its VM had until it confirms.
    lab.world.settle(&lab.with);
    let with = Host {
        id: lab.with.id,
        key: lab.with.key.clone(),
        epoch: lab.with.epoch,
    };
    lab.world.offline(&with);
    let alice = lab.alice;
    lab.world
        .delete(alice, Kind::VirtualMachine, first)
        .unwrap();
    assert_eq!(lab.world.used(lab.with.id, "gpus"), 2);
    let mut with = with;
    lab.world.online(&mut with, "boot-1", [8000, 8192, 100]);
    lab.with = with;
    lab.world.settle(&lab.with);
    lab.world.place();
    assert_eq!(lab.host_of(third), Some(lab.with.id));
    assert_eq!(lab.world.used(lab.with.id, "gpus"), 2);
    lab.world.verify();
}

#[test]
fn a_host_whose_agent_tells_of_none_hands_out_none() {
    let mut lab = Lab::new();
    lab.report(0);
    let vm = lab.vm("a").unwrap();
    assert_eq!(lab.host_of(vm), None);
    lab.report(1);
    lab.world.place();
    assert_eq!(lab.host_of(vm), Some(lab.with.id));
}

#[test]
fn every_quota_counts_them() {
    let mut lab = Lab::new();
    let acme = lab.world.named(Kind::Tenant, "acme").id;
    let alice = lab.alice;
    lab.vm("a").unwrap();
    for (kind, id, whose) in [
        (Kind::Tenant, acme, "tenant `acme`"),
        (Kind::User, alice, "user `alice`"),
    ] {
        lab.limit(kind, id, json!({"quota": {"gpus": 1}}));
        let error = lab.vm("b").unwrap_err();
        assert_eq!(error.code, ErrorCode::QuotaExceeded);
        assert_eq!(
            error.message,
            format!("the quota of {whose} is exceeded in gpus: limit 1, used 1, asked 1")
        );
        lab.limit(kind, id, json!({"quota": {"gpus": null}}));
    }
    let mut quotas = lab
        .world
        .state
        .of_kind("baremetal_group_tenant_quota", None);
    let quota = quotas.next().unwrap().id;
    drop(quotas);
    lab.limit(Kind::BaremetalGroupTenantQuota, quota, json!({"gpus": 1}));
    let waits = lab.vm("b").unwrap();
    assert_eq!(lab.host_of(waits), None);
    let message = lab.world.vm_status(waits).message;
    assert!(
        message.contains("barred by the quota in the group, short of gpus"),
        "{message}"
    );
    let named = json!({"specification": "ai", "group": "g1"});
    let error = lab.world.vm(alice, "c", named).unwrap_err();
    assert_eq!(
        error.message,
        "the quota of tenant `acme` in the group `g1` is exceeded in gpus: limit 1, used 1, asked 1"
    );
    lab.limit(
        Kind::BaremetalGroupTenantQuota,
        quota,
        json!({"gpus": null}),
    );
    lab.world.place();
    assert_eq!(lab.host_of(waits), Some(lab.with.id));
}

#[test]
fn templates_and_specifications_say_how_many_and_sizes_stay() {
    let mut lab = Lab::new();
    let alice = lab.alice;
    let lab_host = lab.with.id;
    let world = &mut lab.world;
    let template = world
        .create_as(alice, Kind::Template, "ai", json!({}))
        .unwrap();
    let size = json!({"template_id": template, "cpu_cores": 1, "memory_mib": 64, "storage_gib": 1, "gpu_count": 2});
    world
        .create_as(alice, Kind::TemplateVersion, "1.0.0", size)
        .unwrap();
    let made = create(Kind::Instance, "i", None, json!({"template": "ai"}));
    let instance = world.ask(alice, &made).unwrap().object_id.unwrap();
    let vm = world.named(Kind::VirtualMachine, "i").id;
    assert_ne!(vm, instance);
    world.place();
    assert_eq!(world.used(lab_host, "gpus"), 2);
    let more = world.patch(alice, Kind::VirtualMachine, vm, json!({"gpu_count": 1}));
    refuses_field(more, "spec.cpu_cores");
    let other = json!({"specification": "ai", "gpu_count": 2});
    refuses_field(world.vm(alice, "x", other), "spec.gpu_count");
    let many = json!({"cpu_cores": 1, "memory_mib": 64, "storage_gib": 1, "gpu_count": 17});
    refuses_field(world.vm(alice, "x", many), "spec.gpu_count");
}

#[test]
fn a_bill_counts_them_as_long_as_they_are_kept_for_the_vm() {
    let mut lab = Lab::new();
    let noon: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
    let world = &mut lab.world;
    world.now = noon;
    let price = json!({"dimension": "gpu_hours", "currency": "EUR", "amount": "1.5", "valid_from": "2026-01-01T00:00:00Z"});
    world.create(Kind::Price, "", price);
    let month = json!({"period": "2026-11", "currency": "EUR"});
    let make = create(Kind::BillingPeriod, "", Some("acme"), month);
    let period = world.ask(world.admin, &make).unwrap().object_id.unwrap();
    let half_an_hour = Duration::from_secs(1800);
    let vm = lab.vm("a").unwrap();
    lab.world.wait(half_an_hour);
    lab.world.settle(&lab.with);
    lab.world.wait(half_an_hour);
    let bill = |world: &World| {
        let cx = world.cx(world.admin);
        virtflow_logic::bill(&world.state, &cx, &period.to_string()).unwrap()
    };
    let hour = json!({"total": "1.5", "lines": [{"dimension": "gpu_hours", "quantity": "1", "amount": "1.5"}]});
    assert_eq!(bill(&lab.world)["unbilled"], hour);

    // It stands still for an hour, and then it is gone.
    let power = Power {
        target: vm.to_string(),
        tenant: None,
        act: PowerAct::Stop,
    };
    lab.world.ask(lab.alice, &Request::Power(power)).unwrap();
    lab.world.settle(&lab.with);
    lab.world.wait(2 * half_an_hour);
    let alice = lab.alice;
    lab.world.delete(alice, Kind::VirtualMachine, vm).unwrap();
    lab.world.settle(&lab.with);
    assert!(lab.world.state.get(vm).is_none());
    let two = json!({"total": "3", "lines": [{"dimension": "gpu_hours", "quantity": "2", "amount": "3"}]});
    assert_eq!(bill(&lab.world)["billed"], two);
    assert_eq!(bill(&lab.world)["unbilled"]["lines"], json!([]));
    lab.world.verify();
}

#[test]
fn a_host_that_is_rented_whole_comes_with_its_gpus() {
    let mut lab = Lab::new();
    let admin = lab.world.admin;
    for host in [lab.plain.id, lab.with.id] {
        let rental = json!({"rental": "exclusive"});
        lab.world
            .patch(admin, Kind::Baremetal, host, rental)
            .unwrap();
    }
    let acme = lab.world.named(Kind::Tenant, "acme").id;
    let more =
        json!({"quota": {"cpu_cores": 64, "memory_mib": 65536, "storage_gib": 1000, "gpus": 1}});
    lab.limit(Kind::Tenant, acme, more);
    let mut quotas = lab
        .world
        .state
        .of_kind("baremetal_group_tenant_quota", None);
    let quota = quotas.next().unwrap().id;
    drop(quotas);
    let more = json!({"cpu_quota_percentage": 100.0, "memory_mib": 65536, "storage_gib": 1000});
    lab.limit(Kind::BaremetalGroupTenantQuota, quota, more);
    let alice = lab.alice;
    let asks = json!({"specification": "ai", "rental": "exclusive"});
    let made = lab
        .world
        .create_as(alice, Kind::Instance, "whole", asks.clone());
    refuses(
        made,
        ErrorCode::QuotaExceeded,
        "exceeded in gpus: limit 1, used 0, asked 2",
    );
    lab.limit(Kind::Tenant, acme, json!({"quota": {"gpus": 2}}));
    lab.world
        .create_as(alice, Kind::Instance, "whole", asks)
        .unwrap();
    assert_eq!(lab.world.used(acme, "gpus"), 2);
    assert_eq!(lab.world.used(lab.with.id, "gpus"), 2);
    lab.world.verify();
}
