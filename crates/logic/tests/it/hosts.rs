//! Joining, epochs, loss and removal of hosts; controllers.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::{
    Delete, HostAct, HostVerb, Request, controller_admitted, host_admitted, host_of_key,
    host_quarantine, hosts_touched, public,
};
use virtflow_model::Kind;
use virtflow_model::kinds::Baremetal;
use virtflow_model::kinds::baremetal::Liveness;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_types::{ErrorCode, ObjectId, RequestId};

use crate::world::World;

fn liveness(world: &World, host: ObjectId) -> Liveness {
    let object = world.state.get(host).unwrap();
    virtflow_logic::decoded::<Baremetal>(object)
        .unwrap()
        .status
        .liveness
}

fn act(target: ObjectId, act: HostVerb) -> Request {
    Request::Host(HostAct {
        target: target.to_string(),
        act,
    })
}

fn remove(target: ObjectId, force: bool) -> Request {
    Request::Delete(Delete {
        kind: Kind::Baremetal,
        target: target.to_string(),
        tenant: None,
        force,
    })
}

#[test]
fn a_join_token_works_once_or_again_for_the_same_key() {
    let (mut world, _host) = World::furnished();
    let token = world.invite(json!({"group": "g1", "serial_number": "SN-7", "host_name": "seven"}));
    let wrong = world.enrol(&token, "SN-8", "key-7").unwrap_err();
    assert_eq!(
        wrong.code,
        ErrorCode::Unauthenticated,
        "bound to another serial number"
    );
    let mut forged = token.clone();
    forged.hash = "00".into();
    assert!(world.enrol(&forged, "SN-7", "key-7").is_err());

    let host = world.enrol(&token, "SN-7", "key-7").unwrap();
    assert_eq!(world.named(Kind::Baremetal, "seven").id, host);
    assert_eq!(host_of_key(&world.state, "key-7"), Some(host));
    assert_eq!(
        world.enrol(&token, "SN-7", "key-7"),
        Ok(host),
        "the same key, again"
    );
    assert!(world.enrol(&token, "SN-7", "key-8").is_err(), "another key");
    world.wait(Duration::from_secs(3600));
    assert_eq!(
        world.enrol(&token, "SN-7", "key-7"),
        Ok(host),
        "also when it is late"
    );
    let late = world.invite(json!({"group": "g1", "ttl_s": 60}));
    world.wait(Duration::from_secs(60));
    assert!(world.enrol(&late, "SN-9", "key-9").is_err(), "expired");

    world.ask(world.admin, &remove(host, false)).unwrap();
    assert!(
        world.enrol(&token, "SN-7", "key-7").is_err(),
        "a removed host does not come back by itself"
    );
    assert!(host_admitted(&world.state, host, "key-7").is_err());
}

#[test]
fn a_known_machine_gets_a_new_key_only_by_a_token_made_for_it() {
    let (mut world, host) = World::furnished();
    let error = world
        .join("SN-1", "new-key", json!({"group": "g1"}))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    let again = world.join(
        "SN-1",
        "new-key",
        json!({"group": "g1", "serial_number": "SN-1"}),
    );
    assert_eq!(again, Ok(host.id));
    assert!(
        host_admitted(&world.state, host.id, &host.key).is_err(),
        "the old key is worth nothing"
    );
    assert!(host_admitted(&world.state, host.id, "new-key").is_ok());
    assert_eq!(liveness(&world, host.id), Liveness::Offline);
    let stolen = world
        .join("SN-3", "new-key", json!({"group": "g1"}))
        .unwrap_err();
    assert_eq!(stolen.code, ErrorCode::AlreadyExists, "one key, one host");
    let twin = world
        .join("sn-1", "third-key", json!({"group": "g1"}))
        .unwrap();
    let name = &world.state.get(twin).unwrap().name;
    assert_eq!(name, "host-sn-1-2", "names are labels");
}

#[test]
fn the_host_epoch_grows_with_each_grant_after_loss_or_reboot() {
    let (mut world, mut host) = World::furnished();
    assert_eq!(host.epoch, 1);
    let (changeset, epoch) = world.hello(&host, "boot-1", [4000, 8192, 100]).unwrap();
    assert!(changeset.ops.is_empty(), "the same boot, still online");
    assert_eq!(epoch, 1);
    world.online(&mut host, "boot-1", [4000, 9000, 100]);
    assert_eq!(host.epoch, 1, "it only grew");
    assert_eq!(
        world
            .state
            .limit_of(&virtflow_state::AccountKey::new(host.id, "memory_mib")),
        Some(9000)
    );
    world.online(&mut host, "boot-2", [4000, 9000, 100]);
    assert_eq!(host.epoch, 2, "rebooted");
    world.offline(&host);
    assert_eq!(liveness(&world, host.id), Liveness::Offline);
    world.online(&mut host, "boot-2", [4000, 9000, 100]);
    assert_eq!(host.epoch, 3, "lost and found");
}

#[test]
fn a_lost_hosts_vms_are_unknown_until_it_speaks_again() {
    let (mut world, mut host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    world.settle(&host);
    let old = host.epoch;
    world.offline(&host);
    assert_eq!(world.phase(vm), VmPhase::Unknown);
    assert_eq!(
        world.used(host.id, "memory_mib"),
        128,
        "it may still run there"
    );
    world.loops();
    let start = Request::Power(virtflow_logic::Power {
        target: "web-1".into(),
        tenant: None,
        act: virtflow_model::kinds::virtual_machine::PowerAct::Stop,
    });
    let stop = world.ask(alice, &start).unwrap();
    assert_eq!(world.phase(vm), VmPhase::Unknown, "nobody to tell");
    world.online(&mut host, "boot-1", [4000, 8192, 100]);
    assert_eq!(host.epoch, old + 1);
    let unheard = crate::world::seen(vm, 1, virtflow_logic::ObservedPhase::Running);
    world.report(&host, &crate::world::one(unheard));
    assert_eq!(world.phase(vm), VmPhase::Stopping, "it is told now");
    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Stopped);
    assert_eq!(world.operation(stop.operation_id.unwrap()).0, "completed");
}

#[test]
fn a_cordoned_host_keeps_its_vms_and_takes_no_new_ones() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let first = world
        .vm(alice, "a", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    world.settle(&host);
    // Decided before the cordon, proposed after it: the binding is refused where it is applied.
    let late = world
        .vm(alice, "b", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    let stale = virtflow_logic::loops::place(&world.state, world.now, &Default::default());
    world
        .ask(world.admin, &act(host.id, HostVerb::Cordon))
        .unwrap();
    let refused = world.commit(&stale[0]).unwrap_err();
    assert!(matches!(
        refused,
        virtflow_state::Refused::LinkClosed { .. }
    ));
    world.place();
    assert_eq!(world.phase(late), VmPhase::Pending);
    assert_eq!(world.phase(first), VmPhase::Running);
    world.offline(&host);
    world
        .ask(
            alice,
            &Request::Delete(Delete {
                kind: Kind::VirtualMachine,
                target: "a".into(),
                tenant: None,
                force: false,
            }),
        )
        .unwrap();
    assert_eq!(
        world.state.of_kind(Kind::Residue.name(), None).count(),
        1,
        "a residue on a cordoned host"
    );
    world
        .ask(world.admin, &act(host.id, HostVerb::Uncordon))
        .unwrap();
}

#[test]
fn a_host_goes_when_it_is_empty_or_given_up() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    world.place();
    world.settle(&host);
    let error = world.ask(world.admin, &remove(host.id, false)).unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert!(error.message.contains("virtual_machine `web-1`"), "{error}");
    let error = world.ask(world.admin, &remove(host.id, true)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict, "it is online");
    world.offline(&host);
    world.ask(world.admin, &remove(host.id, true)).unwrap();
    assert!(world.state.get(host.id).is_none());
    let status = world.vm_status(vm);
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (VmPhase::Error, "host_removed")
    );
    assert!(status.placement.is_none());
    let next = world.host("SN-2", 4000, 8192, 100);
    let start = virtflow_logic::Power {
        target: "web-1".into(),
        tenant: None,
        act: virtflow_model::kinds::virtual_machine::PowerAct::Start,
    };
    world.ask(alice, &Request::Power(start)).unwrap();
    world.place();
    world.settle(&next);
    assert_eq!(world.phase(vm), VmPhase::Running);
    assert_eq!(world.vm_status(vm).placement_epoch, 2);
}

#[test]
fn two_boots_under_one_key_quarantine_the_host() {
    let (mut world, host) = World::furnished();
    let changesets = host_quarantine(&world.state, RequestId::generate(), world.now, host.id);
    world.commit_all(&changesets);
    assert_eq!(liveness(&world, host.id), Liveness::Quarantined);
    assert_eq!(
        world
            .hello(&host, "boot-1", [4000, 8192, 100])
            .unwrap_err()
            .code,
        ErrorCode::Forbidden
    );
    world
        .ask(world.admin, &act(host.id, HostVerb::ReleaseQuarantine))
        .unwrap();
    assert_eq!(
        world.hello(&host, "boot-1", [4000, 8192, 100]).unwrap().1,
        2
    );
    let error = world
        .ask(world.admin, &act(host.id, HostVerb::ReleaseQuarantine))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
}

#[test]
fn a_change_tells_which_hosts_to_tell() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    let changesets = virtflow_logic::loops::place(&world.state, world.now, &Default::default());
    let applied = world.state.clone().apply(&changesets[0]).unwrap();
    let touched: Vec<_> = applied.changes.iter().flat_map(hosts_touched).collect();
    assert_eq!(touched, [host.id]);
}

#[test]
fn a_removed_controller_is_nobody_and_keeps_its_number() {
    let mut world = World::new();
    world.announce(78, 2).unwrap();
    world.announce(78, 2).unwrap();
    assert!(controller_admitted(&world.state, ObjectId::from_u128(78), "controller-key-2").is_ok());
    assert!(controller_admitted(&world.state, ObjectId::from_u128(78), "other").is_err());
    let delete = Request::Delete(Delete {
        kind: Kind::Controller,
        target: "c2".into(),
        tenant: None,
        force: false,
    });
    world.ask(world.admin, &delete).unwrap();
    assert!(
        controller_admitted(&world.state, ObjectId::from_u128(78), "controller-key-2").is_err()
    );
    assert_eq!(
        world.announce(78, 2).unwrap_err().code,
        ErrorCode::Unauthenticated
    );
    assert!(
        world.announce(79, 2).is_err(),
        "the number is never given twice"
    );
    world.announce(79, 3).unwrap();
}

#[test]
fn only_who_may_make_a_controller_may_invite_one() {
    let (mut world, _host) = World::furnished();
    let op = world.user("op", None);
    world.bind("op", "operator", "system");
    let invite = |role: &str| {
        let mut spec = json!({"role": role});
        if role == "agent" {
            spec["group"] = json!("g1");
        }
        let mut create = virtflow_logic::Create::new(Kind::JoinToken, "", spec);
        create.secret = Some(virtflow_logic::NewSecret {
            id: ObjectId::generate(),
            hash: "aa".into(),
        });
        Request::Create(create)
    };
    world.ask(op, &invite("agent")).unwrap();
    assert_eq!(
        world.ask(op, &invite("controller")).unwrap_err().code,
        ErrorCode::Forbidden
    );
    world.ask(world.admin, &invite("controller")).unwrap();
}

#[test]
fn an_invitation_that_was_used_holds_nothing_up() {
    let (mut world, _host) = World::furnished();
    world.create(Kind::BaremetalGroup, "g2", json!({}));
    let open = world.invite(json!({"group": "g2"}));
    let delete = |target: &str| {
        Request::Delete(Delete {
            kind: Kind::BaremetalGroup,
            target: target.into(),
            tenant: None,
            force: false,
        })
    };
    let error = world.ask(world.admin, &delete("g2")).unwrap_err();
    assert!(
        error.message.contains("still needed by join_token"),
        "{error}"
    );
    let host = world.enrol(&open, "SN-5", "key-5").unwrap();
    world.ask(world.admin, &remove(host, false)).unwrap();
    world.ask(world.admin, &delete("g2")).unwrap();
    world.create(Kind::BaremetalGroup, "g3", json!({}));
    world.invite(json!({"group": "g3", "ttl_s": 60}));
    world.wait(Duration::from_secs(60));
    world.loops();
    world.ask(world.admin, &delete("g3")).unwrap();
}

/// Data centres number their machines alike.
#[test]
fn addresses_of_hosts_are_unique_in_their_data_centre() {
    let (mut world, first) = World::furnished();
    let admin = world.admin;
    world.create(Kind::DataCenter, "dc2", json!({}));
    world.create(Kind::Rack, "r2", json!({"data_center": "dc2"}));
    let second = world.host("SN-2", 1000, 1024, 10).id;
    let set = |world: &mut World, id: ObjectId, change: Value| {
        world.patch(admin, Kind::Baremetal, id, change)
    };
    let stands_in = |world: &World, id: ObjectId| {
        let shown = public(&world.state, world.state.get(id).unwrap());
        shown["names"]["data_center"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    assert_eq!(stands_in(&world, second), "dc1", "as its group");
    let both = json!({"management_address": "10.0.0.11", "business_address": "10.1.0.11"});
    set(&mut world, first.id, both.clone()).unwrap();
    for (field, what) in [
        ("management_address", "management"),
        ("business_address", "business"),
    ] {
        let taken = set(&mut world, second, json!({field: both[field]})).unwrap_err();
        assert_eq!(taken.code, ErrorCode::AlreadyExists, "{taken}");
        let told = format!("another host in that data centre has the {what} address");
        assert!(taken.message.starts_with(&told), "{taken}");
    }
    let there =
        json!({"rack": "r2", "management_address": "10.0.0.11", "business_address": "10.1.0.11"});
    set(&mut world, second, there).unwrap();
    assert_eq!(stands_in(&world, second), "dc2");
    // It cannot come where the address is taken, by its own rack's change nor by its rack's move.
    let back = set(&mut world, second, json!({"rack": "r1"})).unwrap_err();
    assert_eq!(back.code, ErrorCode::AlreadyExists);
    let rack = world.named(Kind::Rack, "r2").id;
    let moved = json!({"data_center": "dc1"});
    world.patch(admin, Kind::Rack, rack, moved).unwrap();
    world.loops();
    assert_eq!(
        stands_in(&world, second),
        "dc2",
        "as long as the other one has the address"
    );
    set(
        &mut world,
        first.id,
        json!({"management_address": null, "business_address": null}),
    )
    .unwrap();
    world.loops();
    assert_eq!(stands_in(&world, second), "dc1");
    world.verify();
}
