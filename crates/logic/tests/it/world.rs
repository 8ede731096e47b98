//! A cloud in a value: every change is applied, applied again in vain, and everything is verified after.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::loops::{Agenda, WATCHING};
use virtflow_logic::{
    Announce, Create, Cx, Enrol, Genesis, HostHello, HostInventory, Limits, NewSecret,
    ObservedPhase, ObservedReport, ObservedVm, Principal, Reply, Request, Seal, SecretAt, Via,
    controller_announce, decide, decoded, enrol, genesis, host_offline, host_online, observed,
    public, public_text, verify_footprints,
};
use virtflow_model::Kind;
use virtflow_model::kinds::controller::ControllerSpec;
use virtflow_model::kinds::virtual_machine::{VirtualMachineStatus, VmPhase};
use virtflow_model::kinds::{Baremetal, VirtualMachine};
use virtflow_state::{Changeset, Object, Refused, State, verify};
use virtflow_types::{Error, Incarnation, ObjectId, RequestId, Timestamp};

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    pub(crate) admin: ObjectId,
    /// What the loops know from changes alone; compared with all there is after each one.
    agendas: Vec<Agenda>,
}

/// A key that hides nothing from who knows it: what is in a box stands there backwards.
#[derive(Debug)]
struct Boxes;

impl Seal for Boxes {
    fn seal(&self, at: SecretAt<'_>, secret: &str) -> Result<String, Error> {
        let hidden: String = secret.chars().rev().collect();
        Ok(format!("{}/{}/{}:{hidden}", at.kind, at.id, at.field))
    }
}

pub(crate) struct Host {
    pub(crate) id: ObjectId,
    pub(crate) key: String,
    pub(crate) epoch: u64,
}

impl World {
    /// A new cluster with its administrator and one controller.
    pub(crate) fn new() -> Self {
        Self::begun_with(1)
    }

    /// A new cluster whose first controller supports this cluster version.
    pub(crate) fn begun_with(supports: u32) -> Self {
        let mut world = Self {
            state: State::empty(),
            now: Timestamp::from_ms(1_795_456_800_000),
            admin: ObjectId::NIL,
            agendas: WATCHING
                .iter()
                .map(|watching| Agenda::new(*watching, &State::empty()))
                .collect(),
        };
        let changeset = genesis(&Genesis {
            cluster_id: ObjectId::generate(),
            incarnation: Incarnation::generate(),
            request_id: RequestId::generate(),
            now: world.now,
            admin_name: "admin".into(),
            admin_password_hash: "$argon2id$admin".into(),
            admin_token: None,
            store_id: ObjectId::from_u128(77),
            controller_name: "c1".into(),
            controller: controller(1),
            version: "0.1.0".into(),
            supports,
        })
        .unwrap();
        world.commit(&changeset).unwrap();
        world.admin = world.named(Kind::User, "admin").id;
        world
    }

    /// The same with a data centre, a group, a tenant `acme` with a quota and a developer `alice`, a
    /// specification `small` and one online host.
    pub(crate) fn furnished() -> (Self, Host) {
        let mut world = Self::new();
        world.create(Kind::DataCenter, "dc1", json!({"region": "eu-north"}));
        world.create(Kind::Rack, "r1", json!({"data_center": "dc1"}));
        world.create(
            Kind::BaremetalGroup,
            "g1",
            json!({"data_center": "dc1", "cpu_overcommit_percent": 400}),
        );
        let small = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1});
        world.create(Kind::VirtualMachineSpecification, "small", small);
        world.tenant("acme", "alice");
        let host = world.host("SN-1", 4000, 8192, 100);
        (world, host)
    }

    /// A tenant with limits, a quota in `g1`, and one developer.
    pub(crate) fn tenant(&mut self, tenant: &str, user: &str) {
        let quota = json!({"cpu_cores": 8, "memory_mib": 4096, "storage_gib": 100, "vms": 5});
        self.create(Kind::Tenant, tenant, json!({"quota": quota}));
        self.create(
            Kind::BaremetalGroupTenantQuota,
            "",
            json!({"group": "g1", "tenant": tenant, "cpu_quota_percentage": 50.0, "memory_mib": 4096, "storage_gib": 50}),
        );
        self.user(user, Some(tenant));
        let scope = format!("tenant/{tenant}");
        self.bind(user, "developer", &scope);
    }

    pub(crate) fn user(&mut self, name: &str, tenant: Option<&str>) -> ObjectId {
        let mut create = Create::new(Kind::User, name, json!({}));
        create.tenant = tenant.map(Into::into);
        create.password_hash = Some("$argon2id$secret".into());
        let reply = self.ask(self.admin, &Request::Create(create)).unwrap();
        reply.object_id.unwrap()
    }

    pub(crate) fn bind(&mut self, subject: &str, role: &str, scope: &str) -> ObjectId {
        let spec = json!({"subject": subject, "role": role, "scope": scope});
        self.create(Kind::RoleBinding, "", spec)
    }

    /// Made by the administrator.
    pub(crate) fn create(&mut self, kind: Kind, name: &str, spec: Value) -> ObjectId {
        let reply = self.ask(self.admin, &Request::Create(Create::new(kind, name, spec)));
        reply.unwrap().object_id.unwrap()
    }

    /// A host that joined by a token and is online.
    pub(crate) fn host(
        &mut self,
        serial: &str,
        cpu_milli: u64,
        memory_mib: u64,
        storage_gib: u64,
    ) -> Host {
        let key = format!("key-of-{serial}");
        let id = self.join(serial, &key, json!({"group": "g1"})).unwrap();
        let mut host = Host { id, key, epoch: 0 };
        self.online(&mut host, "boot-1", [cpu_milli, memory_mib, storage_gib]);
        host
    }

    pub(crate) fn join(
        &mut self,
        serial: &str,
        key: &str,
        token: Value,
    ) -> Result<ObjectId, Error> {
        let secret = self.invite(token);
        self.enrol(&secret, serial, key)
    }

    pub(crate) fn invite(&mut self, spec: Value) -> NewSecret {
        let secret = NewSecret {
            id: ObjectId::generate(),
            hash: "5ec7e7".into(),
        };
        let mut create = Create::new(Kind::JoinToken, "", spec);
        create.secret = Some(secret.clone());
        self.ask(self.admin, &Request::Create(create)).unwrap();
        secret
    }

    pub(crate) fn enrol(
        &mut self,
        token: &NewSecret,
        serial: &str,
        key: &str,
    ) -> Result<ObjectId, Error> {
        let (changeset, enrolled) = enrol(
            &self.state,
            RequestId::generate(),
            self.now,
            &Enrol {
                token_id: token.id,
                secret_hash: token.hash.clone(),
                key_fingerprint: key.into(),
                serial_number: serial.into(),
                hostname: format!("host-{}", serial.to_lowercase()),
                agent_version: "0.1.0".into(),
                source: "192.0.2.1".into(),
                new_id: ObjectId::generate(),
            },
        )?;
        if !changeset.ops.is_empty() {
            self.commit(&changeset).unwrap();
        }
        Ok(enrolled.subject_id)
    }

    pub(crate) fn online(&mut self, host: &mut Host, boot: &str, capacity: [u64; 3]) {
        let (changeset, epoch) = self.hello(host, boot, capacity).unwrap();
        if !changeset.ops.is_empty() {
            self.commit(&changeset).unwrap();
        }
        host.epoch = epoch;
    }

    pub(crate) fn hello(
        &self,
        host: &Host,
        boot: &str,
        [cpu_milli, memory_mib, storage_gib]: [u64; 3],
    ) -> Result<(Changeset, u64), Error> {
        let hello = HostHello {
            host_id: host.id,
            key_fingerprint: host.key.clone(),
            boot_id: boot.into(),
            agent_version: "0.1.0".into(),
            management_address: Some("10.0.0.11".into()),
            inventory: HostInventory {
                cpu_milli,
                memory_mib,
                storage_gib,
                // As many as it told last: no test takes a host's GPUs away by the way.
                gpus: self.gpus_of(host.id),
                foreign: None,
                facts: json!({"cpu_model": "test"}),
            },
        };
        host_online(&self.state, RequestId::generate(), self.now, &hello)
    }

    fn gpus_of(&self, host: ObjectId) -> u64 {
        let host = self.state.get(host).unwrap();
        virtflow_logic::decoded::<Baremetal>(host)
            .unwrap()
            .status
            .gpus
    }

    pub(crate) fn offline(&mut self, host: &Host) {
        let request_id = RequestId::generate();
        let changesets = host_offline(&self.state, request_id, self.now, host.id, host.epoch);
        self.commit_all(&changesets);
    }

    /// What the host's agent would report once it has done what it was told.
    pub(crate) fn settle(&mut self, host: &Host) {
        let desired = virtflow_logic::desired_of(&self.state, host.id);
        let report = ObservedReport {
            complete: true,
            vms: desired
                .vms
                .iter()
                .map(|vm| ObservedVm {
                    power_serial: vm.power_serial,
                    generation: vm.generation,
                    ..seen(
                        vm.vm_id,
                        vm.placement_epoch,
                        match vm.power {
                            virtflow_model::kinds::virtual_machine::Power::Running => {
                                ObservedPhase::Running
                            }
                            virtflow_model::kinds::virtual_machine::Power::Stopped => {
                                ObservedPhase::Stopped
                            }
                        },
                    )
                })
                .collect(),
            confirmed: desired.tombstones,
        };
        self.report(host, &report);
    }

    pub(crate) fn report(&mut self, host: &Host, report: &ObservedReport) -> usize {
        let request_id = RequestId::generate();
        let changesets = observed(
            &self.state,
            request_id,
            self.now,
            host.id,
            host.epoch,
            report,
        );
        self.commit_all(&changesets);
        changesets.len()
    }

    pub(crate) fn place(&mut self) {
        let changesets = virtflow_logic::loops::place(&self.state, self.now, &Limits::default());
        self.commit_all(&changesets);
    }

    /// Every loop but the placer, until none finds anything to do.
    pub(crate) fn loops(&mut self) {
        for _ in 0..50 {
            let mut idle = true;
            for (_, pass) in virtflow_logic::loops::ALL {
                let changesets = pass(&self.state, self.now, &Limits::default());
                idle &= changesets.is_empty();
                self.commit_all(&changesets);
            }
            if idle {
                return;
            }
        }
        panic!("the loops never come to rest");
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    pub(crate) fn cx(&self, user: ObjectId) -> Cx {
        Cx {
            request_id: RequestId::generate(),
            now: self.now,
            principal: Principal::User {
                user_id: user,
                via: Via::Certificate,
            },
            source: "192.0.2.9".into(),
            user_agent: "test/1".into(),
            idempotency: None,
            if_match: None,
            seal: Some(Arc::new(Boxes)),
        }
    }

    pub(crate) fn ask(&mut self, user: ObjectId, request: &Request) -> Result<Reply, Error> {
        let cx = self.cx(user);
        self.ask_with(&cx, request)
    }

    pub(crate) fn ask_with(&mut self, cx: &Cx, request: &Request) -> Result<Reply, Error> {
        let (changeset, reply) = decide(&self.state, cx, request)?;
        if !changeset.ops.is_empty() {
            self.commit(&changeset).unwrap();
        }
        Ok(reply)
    }

    pub(crate) fn vm(&mut self, user: ObjectId, name: &str, spec: Value) -> Result<Reply, Error> {
        self.ask(
            user,
            &Request::Create(Create::new(Kind::VirtualMachine, name, spec)),
        )
    }

    pub(crate) fn vm_status(&self, id: ObjectId) -> VirtualMachineStatus {
        let object = self.state.get(id).unwrap();
        decoded::<VirtualMachine>(object).unwrap().status.clone()
    }

    pub(crate) fn phase(&self, id: ObjectId) -> VmPhase {
        self.vm_status(id).phase
    }

    /// State and message of an operation.
    pub(crate) fn operation(&self, id: ObjectId) -> (String, String) {
        let object = self.state.get(id).unwrap();
        let typed = decoded::<virtflow_model::kinds::Operation>(object).unwrap();
        (
            typed.status.state.name().into(),
            typed.status.message.clone(),
        )
    }

    pub(crate) fn named(&self, kind: Kind, name: &str) -> std::sync::Arc<Object> {
        let value = format!("{}/{name}", kind.name());
        self.state
            .by_key(virtflow_model::key::NAME, &value, None)
            .next()
            .unwrap()
            .clone()
    }

    pub(crate) fn used(&self, owner: ObjectId, dimension: &str) -> u64 {
        let key = virtflow_state::AccountKey::new(owner, dimension);
        self.state.account(&key).unwrap().used
    }

    /// Nothing is counted anywhere.
    pub(crate) fn assert_ledgers_zero(&self) {
        for (key, account) in self.state.accounts() {
            assert_eq!(account.used, 0, "{key}");
        }
    }

    pub(crate) fn announce(&mut self, store: u128, n: u64) -> Result<(), Error> {
        self.announce_supporting(store, n, 1)
    }

    /// A controller says what it supports.
    pub(crate) fn announce_supporting(
        &mut self,
        store: u128,
        n: u64,
        supports: u32,
    ) -> Result<(), Error> {
        self.announce_with(store, n, |announce| {
            announce.version = format!("0.{supports}.0");
            announce.supports = supports;
        })
    }

    /// A controller introduces itself, with something that is otherwise.
    pub(crate) fn announce_with(
        &mut self,
        store: u128,
        n: u64,
        change: impl FnOnce(&mut Announce),
    ) -> Result<(), Error> {
        let mut announce = Announce {
            store_id: ObjectId::from_u128(store),
            name: format!("c{n}"),
            spec: controller(n),
            version: "0.1.0".into(),
            supports: 1,
            status_address: String::new(),
        };
        change(&mut announce);
        let request_id = RequestId::generate();
        let changeset = controller_announce(&self.state, request_id, self.now, &announce)?;
        if !changeset.ops.is_empty() {
            self.commit(&changeset).unwrap();
        }
        Ok(())
    }

    /// Proposes what a pass gave, one by one. One that rests on what another of them has just changed is
    /// dropped, as a leader drops it; any other refusal is a mistake of the pass.
    pub(crate) fn commit_all(&mut self, changesets: &[Changeset]) {
        for changeset in changesets {
            match self.commit(changeset) {
                Ok(()) | Err(Refused::Version { .. }) => {}
                Err(refused) => panic!("{refused}: {changeset:?}"),
            }
        }
    }

    /// Applies, through the stored bytes; then checks that a second time is refused and that every index,
    /// ledger and footprint is what the rows give.
    pub(crate) fn commit(&mut self, changeset: &Changeset) -> Result<(), Refused> {
        let bytes = changeset.encode();
        let changeset = Changeset::decode(bytes).unwrap();
        // One that has followed from the beginning, and one that begins with what there was to do just before.
        let whole = WATCHING.iter();
        let mut begun: Vec<_> = whole
            .map(|watching| Agenda::new(*watching, &self.state))
            .collect();
        let applied = self.state.apply(&changeset)?;
        let agendas = self.agendas.iter_mut().zip(begun.iter_mut());
        for ((followed, begun), whole) in agendas.zip(WATCHING) {
            let due = Agenda::new(*whole, &self.state).due(&self.state);
            for agenda in [followed, begun] {
                agenda.absorb(&self.state, &applied.changes);
                assert_eq!(
                    agenda.due(&self.state),
                    due,
                    "{} has lost sight of something after {changeset:?}",
                    agenda.name()
                );
            }
        }
        let mut again = self.state.clone();
        assert!(
            again.apply(&changeset).is_err(),
            "applied twice: {changeset:?}"
        );
        // What is written without being read is what is read and written.
        for object in applied
            .changes
            .iter()
            .filter_map(|change| change.after.as_ref())
        {
            let text = public_text(&self.state, object);
            let written: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(written, public(&self.state, object), "{text}");
        }
        self.verify();
        Ok(())
    }

    pub(crate) fn verify(&self) {
        assert_eq!(verify(&self.state), []);
        assert_eq!(verify_footprints(&self.state), []);
        for (key, account) in self.state.accounts() {
            let limit = self.state.limit_of(key).unwrap();
            assert!(
                account.used <= limit,
                "{key}: {} used of {limit}",
                account.used
            );
        }
    }
}

pub(crate) fn seen(vm_id: ObjectId, placement_epoch: u64, phase: ObservedPhase) -> ObservedVm {
    ObservedVm {
        vm_id,
        placement_epoch,
        phase,
        reason: String::new(),
        message: String::new(),
        pid: 4711,
        generation: 1,
        restarts: 0,
        power_serial: 0,
        carried_out: true,
    }
}

pub(crate) fn one(vm: ObservedVm) -> ObservedReport {
    ObservedReport {
        complete: false,
        vms: vec![vm],
        confirmed: Vec::new(),
    }
}

fn controller(n: u64) -> ControllerSpec {
    ControllerSpec {
        node_id: n,
        key_fingerprint: format!("controller-key-{n}"),
        peer_address: format!("10.0.0.{n}:8445"),
        api_address: format!("10.0.0.{n}:8443"),
        agent_address: format!("10.0.0.{n}:8444"),
    }
}
