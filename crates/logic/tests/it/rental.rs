//! Hosts that are rented out as a whole.

use serde_json::{Value, json};
use virtflow_logic::{Delete, Limits, Reply, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_state::Refused;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::asking::{create, refuses, status};
use crate::world::{Host, World};

/// A cloud with the shared host `SN-1`, and `SN-2` for rent: 1 core overcommitted four times, 1 GiB, 10 GiB.
struct Rental {
    world: World,
    shared: Host,
    host: Host,
    alice: ObjectId,
}

impl Rental {
    fn new() -> Self {
        let (mut world, shared) = World::furnished();
        let host = world.host("SN-2", 1000, 1024, 10);
        let admin = world.admin;
        world
            .patch(
                admin,
                Kind::Baremetal,
                host.id,
                json!({"rental": "exclusive"}),
            )
            .unwrap();
        let alice = world.named(Kind::User, "alice").id;
        Self {
            world,
            shared,
            host,
            alice,
        }
    }

    fn whole(name: &str) -> Request {
        let spec = json!({"specification": "small", "rental": "exclusive"});
        create(Kind::Instance, name, None, spec)
    }

    fn rent(&mut self, name: &str) -> Result<ObjectId, Error> {
        self.world.made(self.alice, &Self::whole(name))
    }

    /// A VM that waits for a host.
    fn vm(&mut self) -> ObjectId {
        let vm = self
            .world
            .vm(self.alice, "web", json!({"specification": "small"}));
        vm.unwrap().object_id.unwrap()
    }

    /// The shared host takes nothing, so that only the other is left.
    fn close_shared(&mut self) {
        let admin = self.world.admin;
        let cordoned = json!({"state": "cordoned"});
        self.world
            .patch(admin, Kind::Baremetal, self.shared.id, cordoned)
            .unwrap();
    }

    fn set(&mut self, host: ObjectId, spec: Value) -> Result<Reply, Error> {
        let admin = self.world.admin;
        self.world.patch(admin, Kind::Baremetal, host, spec)
    }
}

#[test]
fn a_whole_host_is_had_by_one_instance_and_counts_with_all_it_has() {
    let mut it = Rental::new();
    let acme = it.world.named(Kind::Tenant, "acme").id;
    let one = it.rent("one").unwrap();
    let rented = status(&it.world, one)["rented"].clone();
    assert_eq!(rented["host_id"], json!(it.host.id));
    assert_eq!(status(&it.world, it.host.id)["instance_id"], json!(one));
    for (owner, dimension, amount) in [
        (it.host.id, "cpu_milli", 4000),
        (it.host.id, "memory_mib", 1024),
        (it.host.id, "storage_gib", 10),
        (acme, "cpu_cores", 4),
        (acme, "memory_mib", 1024),
        (acme, "vms", 0),
        (it.alice, "storage_gib", 10),
    ] {
        assert_eq!(it.world.used(owner, dimension), amount, "{dimension}");
    }
    let more = it.rent("two");
    refuses(more, ErrorCode::NoCapacity, "1 rented already");
    assert_eq!(status(&it.world, one)["state"], "running");
    it.world.offline(&it.host);
    assert_eq!(status(&it.world, one)["state"], "unknown");
    it.world.online(&mut it.host, "boot-1", [1000, 1024, 10]);
    assert_eq!(status(&it.world, one)["state"], "running");

    it.world.delete(it.alice, Kind::Instance, one).unwrap();
    it.world.assert_ledgers_zero();
    assert_eq!(status(&it.world, it.host.id)["instance_id"], Value::Null);
    it.rent("two").unwrap();
}

#[test]
fn what_has_a_host_for_itself_is_in_sets_like_others() {
    let mut it = Rental::new();
    let one = it.rent("one").unwrap();
    let alice = it.alice;
    it.world
        .create_as(alice, Kind::InstanceSet, "shop", json!({}))
        .unwrap();
    let join = create(
        Kind::InstanceSetMember,
        "",
        None,
        json!({"set": "shop", "instance": "one"}),
    );
    let member = it.world.made(alice, &join).unwrap();
    refuses(
        it.world.made(alice, &join),
        ErrorCode::AlreadyExists,
        "one already for this pair",
    );
    // It does not keep the instance, nor the host.
    it.world.delete(alice, Kind::Instance, one).unwrap();
    assert!(it.world.state.get(member).is_none());
    it.world.assert_ledgers_zero();
    it.rent("two").unwrap();
}

#[test]
fn of_the_hosts_that_are_large_enough_the_smallest_is_taken() {
    let mut it = Rental::new();
    let larger = it.world.host("SN-3", 1000, 2048, 20);
    let smallest = it.world.host("SN-4", 1000, 100, 10);
    for host in [larger.id, smallest.id] {
        it.set(host, json!({"rental": "exclusive"})).unwrap();
    }
    let [first, second] = ["one", "two"].map(|name| it.rent(name).unwrap());
    let host_of = |instance| status(&it.world, instance)["rented"]["host_id"].clone();
    // `small` asks for 128 MiB, and `SN-4` has but 100.
    assert_eq!(host_of(first), json!(it.host.id));
    assert_eq!(host_of(second), json!(larger.id));
    refuses(
        it.rent("three"),
        ErrorCode::NoCapacity,
        "2 rented already, 1 too small",
    );
}

#[test]
fn a_host_for_rent_takes_no_vm_before_or_while_it_is_rented_however_it_grows() {
    let mut it = Rental::new();
    it.close_shared();
    let vm = it.vm();
    it.world.place();
    assert_eq!(it.world.phase(vm), VmPhase::Pending);
    let message = it.world.vm_status(vm).message;
    assert!(message.contains("rented out as a whole only"), "{message}");

    it.rent("one").unwrap();
    it.world.online(&mut it.host, "boot-1", [8000, 8192, 100]);
    it.world.loops();
    it.world.place();
    assert_eq!(it.world.phase(vm), VmPhase::Pending);
    assert_eq!(it.world.used(it.host.id, "cpu_milli"), 4000);
}

#[test]
fn a_vm_that_was_being_placed_does_not_come_onto_a_host_that_was_rented_meanwhile() {
    let mut it = Rental::new();
    it.set(it.host.id, json!({"rental": "shared"})).unwrap();
    it.close_shared();
    it.vm();
    let placing = virtflow_logic::loops::place(&it.world.state, it.world.now, &Limits::default());
    assert_eq!(placing.len(), 1);
    it.set(it.host.id, json!({"rental": "exclusive"})).unwrap();
    it.rent("one").unwrap();
    let refused = it.world.commit(&placing[0]).unwrap_err();
    assert!(matches!(refused, Refused::LinkClosed { .. }), "{refused:?}");
}

#[test]
fn two_who_want_the_same_host_do_not_both_get_it() {
    let mut it = Rental::new();
    let requests = ["one", "two"].map(|name| (it.alice, Rental::whole(name)));
    let [first, second] = requests;
    let refused = it.world.race(first, second).unwrap_err();
    assert!(matches!(refused, Refused::Version { .. }), "{refused:?}");
}

#[test]
fn who_finds_no_host_to_rent_is_told_why() {
    let mut it = Rental::new();
    it.set(it.host.id, json!({"rental": "shared"})).unwrap();
    refuses(
        it.rent("i"),
        ErrorCode::NoCapacity,
        "none in the groups that may be used is for rent",
    );

    it.close_shared();
    let vm = it.vm();
    it.world.place();
    it.set(it.host.id, json!({"rental": "exclusive"})).unwrap();
    refuses(it.rent("i"), ErrorCode::NoCapacity, "1 still used by VMs");
    it.world.delete(it.alice, Kind::VirtualMachine, vm).unwrap();
    it.world.settle(&it.host);

    it.world.offline(&it.host);
    refuses(it.rent("i"), ErrorCode::NoCapacity, "1 not ready");
    it.world.online(&mut it.host, "boot-2", [1000, 5000, 10]);
    it.world.loops();
    let error = it.rent("i").unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    assert_eq!(
        error.message,
        "the quota of tenant `acme` in the group `g1` is exceeded in memory_mib: limit 4096, used 0, asked 5000"
    );

    it.world.create(Kind::Tenant, "bare", json!({}));
    let whole = |tenant| {
        let spec = json!({"specification": "small", "rental": "exclusive"});
        create(Kind::Instance, "i", Some(tenant), spec)
    };
    let admin = it.world.admin;
    let without = it.world.made(admin, &whole("bare"));
    refuses(
        without,
        ErrorCode::QuotaExceeded,
        "no quota in any group of hosts",
    );
}

#[test]
fn a_rented_host_stays_for_rent_and_stays_there() {
    let mut it = Rental::new();
    let one = it.rent("one").unwrap();
    let shared = it.set(it.host.id, json!({"rental": "shared"}));
    refuses(shared, ErrorCode::InUse, "is rented by instance `one`");
    it.world.offline(&it.host);
    for force in [false, true] {
        let removal = Request::Delete(Delete {
            kind: Kind::Baremetal,
            target: it.host.id.to_string(),
            tenant: None,
            force,
        });
        let gone = it.world.ask(it.world.admin, &removal);
        refuses(gone, ErrorCode::InUse, "is rented by instance `one`");
    }
    // Nothing of it runs by our hand, so it can be given back while the host is silent.
    it.world.delete(it.alice, Kind::Instance, one).unwrap();
    it.set(it.host.id, json!({"rental": "shared"})).unwrap();
}

#[test]
fn a_tenant_that_goes_gives_its_hosts_back() {
    let mut it = Rental::new();
    it.rent("one").unwrap();
    let admin = it.world.admin;
    let acme = it.world.named(Kind::Tenant, "acme").id;
    let going = Request::Delete(Delete {
        kind: Kind::Tenant,
        target: acme.to_string(),
        tenant: None,
        force: true,
    });
    it.world.ask(admin, &going).unwrap();
    it.world.loops();
    assert!(it.world.state.get(acme).is_none());
    assert_eq!(status(&it.world, it.host.id)["instance_id"], Value::Null);
    assert!(!it.world.state.get(it.host.id).unwrap().closed);
}
