//! Domains that hosts have already: what they take, and how they become VMs.

use serde_json::{Value, json};
use virtflow_logic::{
    Adopt, Delete, HostAct, HostInventory, HostVerb, ObservedPhase, Power, Reply, Request, Update,
    decide, desired_of, foreign_domains, inventory_changed,
};
use virtflow_model::Kind;
use virtflow_model::kinds::baremetal::{Foreign, ForeignDisk, ForeignDomain, ForeignState};
use virtflow_model::kinds::virtual_machine::{PowerAct, VmPhase};
use virtflow_state::AccountKey;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId};

use crate::world::{Host, World, one, seen};

const OLD: ObjectId = ObjectId::from_u128(0xd0);

/// Two vCPUs, 512 MiB and 10 GiB, running.
fn domain(id: ObjectId, name: &str) -> ForeignDomain {
    ForeignDomain {
        domain_id: id,
        name: name.into(),
        state: ForeignState::Running,
        autostart: false,
        cpu_cores: 2,
        memory_mib: 512,
        storage_gib: 10,
        gpus: 0,
        disks: Vec::new(),
        obstacles: Vec::new(),
    }
}

fn of(domains: Vec<ForeignDomain>) -> Foreign {
    Foreign {
        domains,
        ..Foreign::default()
    }
}

/// The host tells what else is on it; it is as large as the furnished one.
fn tells(world: &mut World, host: &Host, foreign: Option<Foreign>) {
    let inventory = HostInventory {
        cpu_milli: 4000,
        memory_mib: 8192,
        storage_gib: 100,
        gpus: 0,
        foreign,
        facts: json!({"cpu_model": "test"}),
    };
    let request = RequestId::generate();
    let changeset = inventory_changed(&world.state, request, world.now, host.id, &inventory);
    let changeset = changeset.unwrap();
    if !changeset.ops.is_empty() {
        world.commit(&changeset).unwrap();
    }
}

/// What a host, or a group, can hand out: thousandths of CPUs, MiB, GiB.
fn limits(world: &World, owner: ObjectId) -> [u64; 3] {
    ["cpu_milli", "memory_mib", "storage_gib"].map(|dimension| {
        let key = AccountKey::new(owner, dimension);
        world.state.limit_of(&key).unwrap()
    })
}

fn adopt(host: &Host, domain: &str) -> Adopt {
    Adopt {
        host: host.id.to_string(),
        domain: domain.into(),
        name: None,
        tenant: Some("acme".into()),
        spec: json!({}),
    }
}

fn ask(world: &mut World, adopt: Adopt) -> Result<Reply, Error> {
    world.ask(world.admin, &Request::Adopt(adopt))
}

fn shown(world: &World, host: &Host) -> Value {
    let cx = world.cx(world.admin);
    foreign_domains(&world.state, &cx, &host.id.to_string()).unwrap()
}

fn update(kind: Kind, target: String, spec: Value) -> Request {
    Request::Update(Update {
        kind,
        target,
        tenant: None,
        spec,
        merge: true,
    })
}

fn delete(kind: Kind, target: ObjectId, force: bool) -> Request {
    Request::Delete(Delete {
        kind,
        target: target.to_string(),
        tenant: None,
        force,
    })
}

/// The VM that a domain has become.
fn adopted(world: &mut World, host: &Host, domain: &str) -> ObjectId {
    ask(world, adopt(host, domain)).unwrap().object_id.unwrap()
}

#[test]
fn what_others_domains_take_is_not_there_for_vms() {
    let (mut world, host) = World::furnished();
    let group = world.named(Kind::BaremetalGroup, "g1").id;
    // The group hands out four times its CPUs.
    assert_eq!(limits(&world, host.id), [16_000, 8192, 100]);
    let mut off = domain(ObjectId::from_u128(2), "off");
    off.state = ForeignState::Off;
    let mut starts = off.clone();
    starts.domain_id = ObjectId::from_u128(3);
    starts.autostart = true;
    let mut all = of(vec![domain(OLD, "old"), off, starts]);
    all.unlisted = 7;
    all.unlisted_take.memory_mib = 100;
    tells(&mut world, &host, Some(all));
    // What is off has its disks; what starts with the host has its memory and processors too.
    let left = [16_000 - 2 * 2000, 8192 - 2 * 512 - 100, 100 - 3 * 10];
    assert_eq!(limits(&world, host.id), left);
    assert_eq!(limits(&world, group), left);
    let told = shown(&world, &host);
    assert_eq!(told["unlisted"], 7);
    assert_eq!(
        told["take"],
        json!({"cpu_cores": 4, "memory_mib": 1124, "storage_gib": 30})
    );
    assert_eq!(told["domains"][1]["takes"]["memory_mib"], 0);

    // A host that does not tell may not know.
    tells(&mut world, &host, None);
    assert_eq!(limits(&world, host.id), left);

    // More than there is leaves nothing, and a VM waits until it is gone.
    let mut huge = domain(OLD, "huge");
    huge.memory_mib = 10_000;
    tells(&mut world, &host, Some(of(vec![huge])));
    assert_eq!(limits(&world, host.id)[1], 0);
    let alice = world.named(Kind::User, "alice").id;
    let reply = world.vm(alice, "web-1", json!({"specification": "small"}));
    let vm = reply.unwrap().object_id.unwrap();
    world.place();
    assert_eq!(world.phase(vm), VmPhase::Pending);
    tells(&mut world, &host, Some(Foreign::default()));
    assert_eq!(limits(&world, host.id), [16_000, 8192, 100]);
    world.place();
    assert_eq!(world.phase(vm), VmPhase::Creating);
}

#[test]
fn what_a_host_tells_is_bounded() {
    let (mut world, host) = World::furnished();
    let mut many: Vec<ForeignDomain> = (1..=130)
        .map(|n| domain(ObjectId::from_u128(n), "d"))
        .collect();
    for many in &mut many {
        (many.memory_mib, many.storage_gib) = (1, 0);
    }
    many[0].name = "\u{1b}[2J".repeat(100);
    many[0].obstacles = vec!["x".repeat(200); 20];
    let disk = ForeignDisk {
        target: "vda".into(),
        capacity_mib: None,
        elsewhere: false,
    };
    many[0].disks = vec![disk; 40];
    // Sums of an agent that lies do not overflow.
    many[129].memory_mib = u64::MAX;
    tells(&mut world, &host, Some(of(many)));
    let told = shown(&world, &host);
    assert_eq!(told["domains"].as_array().unwrap().len(), 128);
    assert_eq!(told["unlisted"], 2);
    let first = &told["domains"][0];
    let name = first["name"].as_str().unwrap();
    assert!(name.len() <= 128 && name.starts_with("[2J[2J"), "{name}");
    assert_eq!(first["disks"].as_array().unwrap().len(), 16);
    assert_eq!(first["obstacles"].as_array().unwrap().len(), 8);
    assert_eq!(first["obstacles"][7], "x".repeat(128));
    assert_eq!(limits(&world, host.id)[1], 0);
}

#[test]
fn a_domain_becomes_a_vm_once_and_is_charged_as_its_host_told() {
    let (mut world, host) = World::furnished();
    let acme = world.named(Kind::Tenant, "acme").id;
    tells(&mut world, &host, Some(of(vec![domain(OLD, "old")])));
    let twins = [None, Some("twin")].map(|name| {
        let cx = world.cx(world.admin);
        let mut adopt = adopt(&host, "old");
        adopt.name = name.map(Into::into);
        decide(&world.state, &cx, &Request::Adopt(adopt)).unwrap()
    });
    world.commit(&twins[0].0).unwrap();
    // Decided on one state by two leaders, it would still be one VM.
    assert!(world.state.check(&twins[1].0).is_err());
    let reply = &twins[0].1;
    assert_eq!(reply.http_status, 202);
    let (vm, operation) = (reply.object_id.unwrap(), reply.operation_id.unwrap());
    let spec = &reply.object.as_ref().unwrap()["spec"];
    assert_eq!(
        [
            &spec["cpu_cores"],
            &spec["memory_mib"],
            &spec["storage_gib"]
        ],
        [2, 512, 10]
    );
    assert_eq!(reply.object.as_ref().unwrap()["name"], "old");
    assert_eq!(world.phase(vm), VmPhase::Creating);
    // What the domain took is what the VM is charged, on the host too.
    for (owner, dimension, amount) in [
        (acme, "memory_mib", 512),
        (acme, "storage_gib", 10),
        (acme, "cpu_cores", 2),
        (acme, "vms", 1),
        (host.id, "memory_mib", 512),
        (host.id, "cpu_milli", 2000),
    ] {
        assert_eq!(world.used(owner, dimension), amount, "{dimension}");
    }
    assert_eq!(limits(&world, host.id), [16_000, 8192, 100]);
    let desired = desired_of(&world.state, host.id);
    assert_eq!(desired.vms.len(), 1);
    assert_eq!(desired.vms[0].adopted_domain, Some(OLD));
    assert_eq!(desired.vms[0].placement_epoch, 1);

    // The host tells what it knew before it heard of it: that counts nothing twice.
    tells(&mut world, &host, Some(of(vec![domain(OLD, "old")])));
    assert_eq!(limits(&world, host.id), [16_000, 8192, 100]);
    assert_eq!(shown(&world, &host)["domains"], json!([]));
    for named in ["old".to_owned(), OLD.to_string()] {
        let mut again = adopt(&host, &named);
        again.name = Some("again".into());
        let error = ask(&mut world, again).unwrap_err();
        assert_eq!(error.code, ErrorCode::AlreadyExists, "{}", error.message);
    }
    tells(&mut world, &host, Some(Foreign::default()));
    let mut again = adopt(&host, &OLD.to_string());
    again.name = Some("again".into());
    let error = ask(&mut world, again).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists, "{}", error.message);

    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Running);
    assert_eq!(world.operation(operation).0, "completed");
    let end = delete(Kind::VirtualMachine, vm, false);
    world.ask(world.admin, &end).unwrap();
    assert_eq!(desired_of(&world.state, host.id).tombstones, [(vm, 1)]);
    world.settle(&host);
    assert!(world.state.get(vm).is_none());
    world.assert_ledgers_zero();
}

#[test]
fn one_that_is_off_becomes_a_vm_that_is_stopped() {
    let (mut world, host) = World::furnished();
    let mut off = domain(OLD, "Old Server");
    off.state = ForeignState::Off;
    tells(&mut world, &host, Some(of(vec![off])));
    let error = ask(&mut world, adopt(&host, "Old Server")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    let advice = error.advice.unwrap();
    assert!(advice.contains("another name"), "{advice}");
    let mut named = adopt(&host, "Old Server");
    named.name = Some("old-server".into());
    named.spec = json!({"labels": {"from": "hand"}, "restart_policy": "always", "group": "g1"});
    let reply = ask(&mut world, named).unwrap();
    let spec = reply.object.unwrap()["spec"].clone();
    assert_eq!(
        (&spec["power"], &spec["labels"]["from"]),
        (&json!("stopped"), &json!("hand"))
    );
    world.settle(&host);
    assert_eq!(world.phase(reply.object_id.unwrap()), VmPhase::Stopped);
}

#[test]
fn a_vm_that_goes_before_its_host_took_the_domain_gives_it_back() {
    let (mut world, host) = World::furnished();
    tells(&mut world, &host, Some(of(vec![domain(OLD, "old")])));
    let vm = adopted(&mut world, &host, "old");
    let mut refused = seen(vm, 1, ObservedPhase::Error);
    refused.reason = "adoption_refused".into();
    refused.carried_out = false;
    world.report(&host, &one(refused));
    assert_eq!(world.phase(vm), VmPhase::Error);
    let end = delete(Kind::VirtualMachine, vm, false);
    world.ask(world.admin, &end).unwrap();
    assert_eq!(limits(&world, host.id), [16_000, 8192, 100]);
    world.settle(&host);
    // It is somebody else's as before, and its host has nothing new to tell.
    assert_eq!(limits(&world, host.id), [14_000, 7680, 90]);
    assert_eq!(shown(&world, &host)["domains"][0]["name"], "old");
    ask(&mut world, adopt(&host, "old")).unwrap();
}

#[test]
fn an_adoption_ends_with_its_host() {
    let (mut world, host) = World::furnished();
    tells(&mut world, &host, Some(of(vec![domain(OLD, "old")])));
    let vm = adopted(&mut world, &host, "old");
    world.settle(&host);
    let kept = world.ask(world.admin, &delete(Kind::Baremetal, host.id, false));
    assert_eq!(kept.unwrap_err().code, ErrorCode::InUse);
    world.offline(&host);
    let lost = delete(Kind::Baremetal, host.id, true);
    world.ask(world.admin, &lost).unwrap();
    let start = Request::Power(Power {
        target: vm.to_string(),
        tenant: None,
        act: PowerAct::Start,
    });
    world.ask(world.admin, &start).unwrap();
    let other = world.host("SN-2", 4000, 8192, 100);
    world.place();
    let desired = desired_of(&world.state, other.id);
    // Made anew there, it is a VM like others.
    assert_eq!(desired.vms[0].adopted_domain, None);
    assert_eq!(desired.vms[0].placement_epoch, 2);
}

#[test]
fn what_cannot_be_adopted_is_refused_and_nothing_changes() {
    let (mut world, host) = World::furnished();
    world.create(Kind::Tenant, "poor", json!({}));
    let mut large = domain(ObjectId::from_u128(2), "large");
    large.memory_mib = 5000;
    let mut odd = domain(ObjectId::from_u128(3), "odd");
    odd.obstacles = vec!["transient".into(), "passthrough".into()];
    let mut tiny = domain(ObjectId::from_u128(4), "tiny");
    tiny.memory_mib = 8;
    let all = vec![domain(OLD, "old"), large, odd, tiny];
    tells(&mut world, &host, Some(of(all.clone())));
    let with = |change: &dyn Fn(&mut Adopt)| {
        let mut adopt = adopt(&host, "old");
        change(&mut adopt);
        adopt
    };
    let digest = world.state.digest();
    use ErrorCode as C;
    let cases: [(Adopt, C, &str); 11] = [
        (adopt(&host, "new"), C::NotFound, "`new`"),
        (
            adopt(&host, &ObjectId::from_u128(9).to_string()),
            C::NotFound,
            "domain",
        ),
        (adopt(&host, "odd"), C::Conflict, "no definition"),
        (adopt(&host, "odd"), C::Conflict, "device of the host"),
        (adopt(&host, "large"), C::QuotaExceeded, "memory_mib"),
        (adopt(&host, "tiny"), C::Invalid, "16"),
        (
            with(&|a| a.tenant = Some("poor".into())),
            C::QuotaExceeded,
            "has no quota in the group `g1`",
        ),
        (with(&|a| a.tenant = None), C::Invalid, "name one"),
        (
            with(&|a| a.spec = json!({"memory_mib": 1})),
            C::Invalid,
            "is what the host tells",
        ),
        (
            with(&|a| a.spec = json!({"power": "stopped"})),
            C::Invalid,
            "is what the host tells",
        ),
        (
            with(&|a| a.spec = json!({"colour": "red"})),
            C::Invalid,
            "colour",
        ),
    ];
    for (adopt, code, says) in cases {
        let error = ask(&mut world, adopt).unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
        let told = format!("{error:?}");
        assert!(told.contains(says), "{says}: {told}");
        assert!(error.advice.is_some() || code == C::Invalid, "{told}");
    }
    assert_eq!(world.state.digest(), digest, "nothing was done");

    // Another host has no such domain, whatever its UUID.
    let other = world.host("SN-2", 4000, 2048, 100);
    let error = ask(&mut world, adopt(&other, &OLD.to_string())).unwrap_err();
    assert_eq!(error.code, C::NotFound);

    // More than the host can hand out, with what else is on it, is nothing that a VM can be charged.
    let inventory = HostInventory {
        cpu_milli: 4000,
        memory_mib: 2048,
        storage_gib: 100,
        gpus: 0,
        foreign: Some(of(["a", "b"]
            .map(|name| {
                let mut one = domain(ObjectId::from_u128(name.as_bytes()[0].into()), name);
                one.memory_mib = 1500;
                one
            })
            .to_vec())),
        facts: json!({}),
    };
    let request = RequestId::generate();
    let told = inventory_changed(&world.state, request, world.now, other.id, &inventory);
    world.commit(&told.unwrap()).unwrap();
    let error = ask(&mut world, adopt(&other, "a")).unwrap_err();
    assert_eq!(error.code, C::NoCapacity, "{}", error.message);

    // Where the host stands.
    let state = |state: &str| {
        update(
            Kind::Baremetal,
            host.id.to_string(),
            json!({"state": state}),
        )
    };
    for (word, code) in [("draining", C::Conflict), ("maintenance", C::Conflict)] {
        world.ask(world.admin, &state(word)).unwrap();
        let error = ask(&mut world, adopt(&host, "old")).unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(word), "{}", error.message);
    }
    world.ask(world.admin, &state("active")).unwrap();
    world.offline(&host);
    let error = ask(&mut world, adopt(&host, "old")).unwrap_err();
    assert!(error.message.contains("offline"), "{}", error.message);
    let mut host = host;
    world.online(&mut host, "boot-2", [4000, 8192, 100]);
    let exclusive = json!({"rental": "exclusive"});
    let rental = update(Kind::Baremetal, host.id.to_string(), exclusive);
    world.ask(world.admin, &rental).unwrap();
    let error = ask(&mut world, adopt(&host, "old")).unwrap_err();
    assert!(
        error.message.contains("rented as a whole"),
        "{}",
        error.message
    );
    let shared = json!({"rental": "shared"});
    let rental = update(Kind::Baremetal, host.id.to_string(), shared);
    world.ask(world.admin, &rental).unwrap();

    // Cordoned is fine: what is there is there.
    let cordon = Request::Host(HostAct {
        target: host.id.to_string(),
        act: HostVerb::Cordon,
    });
    world.ask(world.admin, &cordon).unwrap();
    let vm = adopted(&mut world, &host, "old");
    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Running);
}

#[test]
fn who_adopts_operates_the_host_and_may_make_vms() {
    let (mut world, host) = World::furnished();
    tells(&mut world, &host, Some(of(vec![domain(OLD, "old")])));
    let ask_as = |world: &mut World, name: &str| {
        let user = world.named(Kind::User, name).id;
        world.ask(user, &Request::Adopt(adopt(&host, "old")))
    };
    // A developer of the tenant does not see the host at all.
    let error = ask_as(&mut world, "alice").unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "{}", error.message);
    assert!(error.message.contains("baremetal"), "{}", error.message);
    // Who operates the group's hosts, and reads in the tenant, makes no VMs in it.
    world.user("olga", Some("acme"));
    world.bind("olga", "admin", "baremetal_group/g1");
    world.bind("olga", "viewer", "tenant/acme");
    let error = ask_as(&mut world, "olga").unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden, "{}", error.message);
    assert!(
        error.message.contains("virtual_machine.create"),
        "{}",
        error.message
    );
    world.bind("olga", "developer", "tenant/acme");
    let reply = ask_as(&mut world, "olga").unwrap();
    let olga = world.named(Kind::User, "olga").id;
    assert_eq!(world.used(olga, "memory_mib"), 512);
    assert_eq!(reply.http_status, 202);
}
