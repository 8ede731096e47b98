//! A VM's life.

use std::time::Duration;

use serde_json::json;
use virtflow_logic::{
    Create, Delete, ObservedPhase, ObservedVm, Power, Request, causes_of, desired_of,
};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::{PowerAct, VmPhase};
use virtflow_types::{ErrorCode, ObjectId};

use crate::world::{World, one, seen};

fn delete(target: &str) -> Request {
    Request::Delete(Delete {
        kind: Kind::VirtualMachine,
        target: target.into(),
        tenant: None,
        force: false,
    })
}

fn power(target: &str, act: PowerAct) -> Request {
    Request::Power(Power {
        target: target.into(),
        tenant: None,
        act,
    })
}

#[test]
fn created_placed_seen_running_and_deleted_it_leaves_nothing_in_the_ledgers() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let acme = world.named(Kind::Tenant, "acme").id;
    let group = world.named(Kind::BaremetalGroup, "g1").id;

    let reply = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    assert_eq!(reply.http_status, 202);
    let (vm, create) = (reply.object_id.unwrap(), reply.operation_id.unwrap());
    assert_eq!(reply.object.unwrap()["spec"]["memory_mib"], 128);
    assert_eq!(world.phase(vm), VmPhase::Pending);
    assert_eq!(world.used(acme, "memory_mib"), 128);
    assert_eq!(world.used(alice, "vms"), 1);
    assert_eq!(world.used(host.id, "memory_mib"), 0);

    world.place();
    assert_eq!(world.phase(vm), VmPhase::Creating);
    assert_eq!(world.vm_status(vm).placement_epoch, 1);
    assert_eq!(world.used(host.id, "cpu_milli"), 1000);
    assert_eq!(world.used(group, "memory_mib"), 128);
    assert_eq!(world.operation(create).0, "running");
    assert_eq!(desired_of(&world.state, host.id).vms.len(), 1);

    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Running);
    assert_eq!(world.vm_status(vm).pid, 4711);
    assert_eq!(world.operation(create).0, "completed");

    let reply = world.ask(alice, &delete("web-1")).unwrap();
    assert_eq!(world.phase(vm), VmPhase::Deleting);
    assert_eq!(desired_of(&world.state, host.id).tombstones, [(vm, 1)]);
    assert!(desired_of(&world.state, host.id).vms.is_empty());
    assert_eq!(
        world.used(host.id, "memory_mib"),
        128,
        "until the host confirms"
    );
    world.settle(&host);
    assert!(world.state.get(vm).is_none());
    assert_eq!(world.operation(reply.operation_id.unwrap()).0, "completed");
    world.assert_ledgers_zero();
}

#[test]
fn a_report_counts_only_from_the_owner_and_under_its_epoch() {
    let (mut world, host) = World::furnished();
    let other = world.host("SN-2", 4000, 8192, 100);
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    let owner = world.vm_status(vm).placement.unwrap().host_id;
    let (owner, stranger) = if owner == host.id {
        (host, other)
    } else {
        (other, host)
    };

    let running = one(seen(vm, 1, ObservedPhase::Running));
    assert_eq!(world.report(&stranger, &running), 0, "not its VM");
    assert_eq!(
        world.report(&owner, &one(seen(vm, 0, ObservedPhase::Running))),
        0,
        "old binding"
    );
    let stale = crate::world::Host {
        id: owner.id,
        key: owner.key.clone(),
        epoch: owner.epoch - 1,
    };
    assert_eq!(world.report(&stale, &running), 0, "old host epoch");
    assert_eq!(
        world.report(
            &owner,
            &one(seen(ObjectId::generate(), 1, ObservedPhase::Orphan))
        ),
        0
    );
    assert_eq!(world.phase(vm), VmPhase::Creating);
    assert_eq!(world.report(&owner, &running), 1);
    assert_eq!(world.report(&owner, &running), 0, "no news");
    assert_eq!(world.phase(vm), VmPhase::Running);
}

#[test]
fn stop_start_and_reboot_end_when_the_host_has_carried_them_out() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    world.settle(&host);

    let stop = world.ask(alice, &power("web-1", PowerAct::Stop)).unwrap();
    assert_eq!(world.phase(vm), VmPhase::Stopping);
    let unheard = ObservedVm {
        carried_out: true,
        power_serial: 0,
        ..seen(vm, 1, ObservedPhase::Running)
    };
    assert_eq!(
        world.report(&host, &one(unheard)),
        0,
        "it has not heard of the stop yet"
    );
    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Stopped);
    assert_eq!(world.operation(stop.operation_id.unwrap()).0, "completed");
    assert_eq!(
        world.used(host.id, "memory_mib"),
        128,
        "a stopped VM keeps its place"
    );

    let refused = world
        .ask(alice, &power("web-1", PowerAct::Reboot))
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);

    let start = world.ask(alice, &power("web-1", PowerAct::Start)).unwrap();
    let stop = world
        .ask(alice, &power("web-1", PowerAct::ForceStop))
        .unwrap();
    assert_eq!(
        world.operation(start.operation_id.unwrap()).0,
        "cancelled",
        "overtaken"
    );
    world.settle(&host);
    assert_eq!(world.operation(stop.operation_id.unwrap()).0, "completed");
    world.ask(alice, &power("web-1", PowerAct::Start)).unwrap();
    world.settle(&host);
    let again = world.ask(alice, &power("web-1", PowerAct::Start)).unwrap();
    assert_eq!(
        world.operation(again.operation_id.unwrap()).0,
        "completed",
        "it runs already"
    );

    let reboot = world.ask(alice, &power("web-1", PowerAct::Reboot)).unwrap();
    assert_eq!(world.phase(vm), VmPhase::Restarting);
    let serial = world.vm_status(vm).power_serial;
    let midway = ObservedVm {
        carried_out: false,
        power_serial: serial,
        ..seen(vm, 1, ObservedPhase::Running)
    };
    assert_eq!(
        world.report(&host, &one(midway)),
        0,
        "running, but not rebooted yet"
    );
    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Running);
    assert_eq!(world.operation(reboot.operation_id.unwrap()).0, "completed");
}

#[test]
fn a_guest_that_fails_is_seen_and_may_be_started_again() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    world.settle(&host);
    let crashed = ObservedVm {
        reason: "guest_crashed".into(),
        message: "QEMU was killed by signal 9".into(),
        pid: 0,
        carried_out: false,
        ..seen(vm, 1, ObservedPhase::Error)
    };
    world.report(&host, &one(crashed));
    let status = world.vm_status(vm);
    assert_eq!(
        (status.phase, status.reason.as_str(), status.pid),
        (VmPhase::Error, "guest_crashed", 0)
    );
    let restarted = ObservedVm {
        restarts: 1,
        pid: 5000,
        ..seen(vm, 1, ObservedPhase::Running)
    };
    world.report(&host, &one(restarted));
    let status = world.vm_status(vm);
    assert_eq!(
        (status.phase, status.restarts, status.pid),
        (VmPhase::Running, 1, 5000)
    );
}

#[test]
fn a_creation_that_fails_on_the_host_fails_its_operation() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let reply = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    let (vm, create) = (reply.object_id.unwrap(), reply.operation_id.unwrap());
    world.place();
    let failed = ObservedVm {
        reason: "create_failed".into(),
        message: "no space left on device".into(),
        carried_out: false,
        ..seen(vm, 1, ObservedPhase::Error)
    };
    world.report(&host, &one(failed));
    let (state, message) = world.operation(create);
    assert_eq!(state, "failed");
    assert_eq!(
        message,
        "VM `web-1` failed on its host: no space left on device"
    );
    assert_eq!(world.phase(vm), VmPhase::Error);
}

#[test]
fn what_does_not_end_by_itself_is_ended() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let reply = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    let (vm, create) = (reply.object_id.unwrap(), reply.operation_id.unwrap());
    world.place();
    world.loops();
    assert_eq!(world.phase(vm), VmPhase::Creating);
    world.wait(Duration::from_secs(301));
    assert_eq!(virtflow_logic::overdue(&world.state, world.now), [vm]);
    world.loops();
    assert_eq!(world.phase(vm), VmPhase::Error);
    assert_eq!(world.vm_status(vm).reason, "deadline_exceeded");
    assert_eq!(world.operation(create).0, "failed");

    let still = ObservedVm {
        carried_out: false,
        ..seen(vm, 1, ObservedPhase::Creating)
    };
    assert_eq!(world.report(&host, &one(still)), 0, "given up is given up");
    world.settle(&host);
    assert_eq!(
        world.phase(vm),
        VmPhase::Running,
        "until it is proven wrong"
    );

    let gone = world.ask(alice, &delete("web-1")).unwrap();
    world.wait(Duration::from_secs(121));
    world.loops();
    assert!(world.state.get(vm).is_none());
    assert_eq!(world.operation(gone.operation_id.unwrap()).0, "completed");
    assert_eq!(
        world.used(host.id, "memory_mib"),
        128,
        "the host still has it"
    );
    assert_eq!(
        world.used(alice, "memory_mib"),
        0,
        "the user does not pay for it"
    );
    assert_eq!(desired_of(&world.state, host.id).tombstones, [(vm, 1)]);
    world.settle(&host);
    world.assert_ledgers_zero();
}

#[test]
fn deleting_is_legal_in_every_phase() {
    // Unplaced: gone at once.
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(alice, "a", json!({"specification": "small"}))
        .unwrap();
    let reply = world.ask(alice, &delete("a")).unwrap();
    assert!(reply.object.is_none());
    assert_eq!(world.operation(reply.operation_id.unwrap()).0, "completed");
    world.assert_ledgers_zero();

    // Creating, stopping, deleting (the same operation again), and on a silent host.
    let vm = world
        .vm(alice, "b", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    let first = world.ask(alice, &delete("b")).unwrap();
    let second = world.ask(alice, &delete("b")).unwrap();
    assert_eq!(first.operation_id, second.operation_id);
    world.settle(&host);
    assert!(world.state.get(vm).is_none());

    let vm = world
        .vm(alice, "c", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    world.settle(&host);
    world.offline(&host);
    assert_eq!(world.phase(vm), VmPhase::Unknown);
    let reply = world.ask(alice, &delete("c")).unwrap();
    assert!(world.state.get(vm).is_none());
    assert_eq!(world.operation(reply.operation_id.unwrap()).0, "completed");
    assert_eq!(world.used(host.id, "memory_mib"), 128);
    let twin = world.vm(alice, "c", json!({"specification": "small"}));
    assert!(twin.is_ok(), "the name is free at once");
}

#[test]
fn a_vm_on_no_host_is_stopped_and_started_without_one() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    let stop = world.ask(alice, &power("web-1", PowerAct::Stop)).unwrap();
    assert_eq!(world.phase(vm), VmPhase::Stopped);
    assert_eq!(world.operation(stop.operation_id.unwrap()).0, "completed");
    world.place();
    assert_eq!(world.phase(vm), VmPhase::Stopped, "nothing to place");
    let start = world.ask(alice, &power("web-1", PowerAct::Start)).unwrap();
    assert_eq!(world.phase(vm), VmPhase::Pending);
    world.place();
    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Running);
    assert_eq!(world.operation(start.operation_id.unwrap()).0, "completed");
}

#[test]
fn an_operation_is_given_up_only_while_nothing_was_told() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let reply = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    let cancel = Request::CancelOperation {
        target: reply.operation_id.unwrap().to_string(),
    };
    world.ask(alice, &cancel).unwrap();
    assert!(world.state.get(reply.object_id.unwrap()).is_none());
    assert_eq!(world.operation(reply.operation_id.unwrap()).0, "cancelled");
    assert_eq!(
        world.ask(alice, &cancel).unwrap_err().code,
        ErrorCode::Conflict
    );

    let reply = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    world.place();
    let cancel = Request::CancelOperation {
        target: reply.operation_id.unwrap().to_string(),
    };
    assert_eq!(
        world.ask(alice, &cancel).unwrap_err().code,
        ErrorCode::Conflict
    );
    world.settle(&host);
}

#[test]
fn a_start_that_fails_on_the_host_fails_its_operation() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let reply = world.vm(alice, "web-1", json!({"specification": "small"}));
    let vm = reply.unwrap().object_id.unwrap();
    world.place();
    world.settle(&host);
    world.ask(alice, &power("web-1", PowerAct::Stop)).unwrap();
    world.settle(&host);
    let start = world.ask(alice, &power("web-1", PowerAct::Start)).unwrap();
    let failed = |power_serial| ObservedVm {
        reason: "start_failed".into(),
        power_serial,
        carried_out: false,
        ..seen(vm, 1, ObservedPhase::Error)
    };
    assert_eq!(
        world.report(&host, &one(failed(1))),
        0,
        "an error of before the start"
    );
    world.report(&host, &one(failed(2)));
    assert_eq!(world.operation(start.operation_id.unwrap()).0, "failed");
    assert_eq!(world.phase(vm), VmPhase::Error);
}

#[test]
fn a_guest_that_ends_before_it_is_seen_running_ends_the_wait_too() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let reply = world
        .vm(alice, "job-1", json!({"specification": "small"}))
        .unwrap();
    let vm = reply.object_id.unwrap();
    world.place();
    let over = ObservedVm {
        reason: "shutdown_by_guest".into(),
        pid: 0,
        carried_out: false,
        ..seen(vm, 1, ObservedPhase::Stopped)
    };
    world.report(&host, &one(over));
    assert_eq!(world.phase(vm), VmPhase::Stopped);
    assert_eq!(world.vm_status(vm).reason, "shutdown_by_guest");
    assert_eq!(world.operation(reply.operation_id.unwrap()).0, "completed");
}

#[test]
fn behind_an_order_is_the_request_of_the_newest_operation_that_is_not_done() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let cx = world.cx(alice);
    let spec = json!({"specification": "small"});
    let create = Request::Create(Create {
        tenant: Some("acme".into()),
        ..Create::new(Kind::VirtualMachine, "a", spec)
    });
    let vm = world.ask_with(&cx, &create).unwrap().object_id.unwrap();
    let causes = |world: &World| causes_of(&world.state, &desired_of(&world.state, host.id));
    assert_eq!(causes(&world), [], "it is nowhere yet");
    world.place();
    assert_eq!(causes(&world), [(vm, cx.request_id)]);
    world.settle(&host);
    assert_eq!(causes(&world), [], "it runs");

    let cx = world.cx(alice);
    let delete = Request::Delete(Delete {
        kind: Kind::VirtualMachine,
        target: vm.to_string(),
        tenant: None,
        force: false,
    });
    world.ask_with(&cx, &delete).unwrap();
    assert_eq!(causes(&world), [(vm, cx.request_id)]);
}
