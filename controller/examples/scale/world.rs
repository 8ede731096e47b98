//! A cloud of any size, made as a real one comes to be: by requests, joins and reports, each decided on the
//! leader's head and applied to the image from its stored bytes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use virtflow_logic::{
    Create, Cx, Enrol, Genesis, HostHello, HostInventory, Idempotency, Limits, NewSecret,
    ObservedPhase, ObservedReport, ObservedVm, Placer, Principal, Request, Via, decide, decoded,
    enrol, genesis, host_online, hosts_touched, observed,
};
use virtflow_model::Kind;
use virtflow_model::kinds::VirtualMachine;
use virtflow_model::kinds::controller::ControllerSpec;
use virtflow_state::{Change, Changeset, State};
use virtflow_types::{Incarnation, ObjectId, RequestId, Timestamp};

use crate::figures::Samples;

/// Schedulable CPU (thousandths), memory (MiB) and storage (GiB) of every host.
const HOST: [u64; 3] = [64_000, 262_144, 4000];
/// VMs of one tenant.
const VMS_PER_TENANT: usize = 1000;
/// VMs that are created before the placer looks.
const BATCH: usize = 256;
/// So many values of the label `role`.
const ROLES: usize = 20;

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) hosts: usize,
    pub(crate) vms: usize,
}

/// What making it took.
#[derive(Debug, Default)]
pub(crate) struct Took {
    /// Deciding on a creation.
    pub(crate) decide: Samples,
    /// Applying a creation on the head.
    pub(crate) create: Samples,
    /// Reading a creation's stored bytes.
    pub(crate) decode: Samples,
    /// Applying a placement on the head.
    pub(crate) place: Samples,
    /// Applying what a host saw of its VMs on the head.
    pub(crate) observe: Samples,
    /// One VM in a full pass of the placer.
    pub(crate) pass: Samples,
    /// Size of a creation's entry in the log, bytes.
    pub(crate) bytes: u64,
}

pub(crate) struct Host {
    pub(crate) id: ObjectId,
    pub(crate) key: String,
    pub(crate) epoch: u64,
}

pub(crate) struct World {
    /// Where the leader decides.
    pub(crate) head: State,
    /// What is committed: another value that has read everything from bytes, as on every member.
    pub(crate) image: State,
    pub(crate) now: Timestamp,
    pub(crate) admin: ObjectId,
    pub(crate) hosts: Vec<Host>,
    /// One user of each tenant.
    pub(crate) users: Vec<ObjectId>,
    pub(crate) took: Took,
}

impl World {
    /// A cluster with its administrator, one group of hosts and a specification; no host yet.
    pub(crate) fn new(tenants: usize) -> Result<Self> {
        let mut world = Self {
            head: State::empty(),
            image: State::empty(),
            now: Timestamp::from_ms(1_795_456_800_000),
            admin: ObjectId::NIL,
            hosts: Vec::new(),
            users: Vec::new(),
            took: Took::default(),
        };
        let changeset = genesis(&Genesis {
            cluster_id: ObjectId::generate(),
            incarnation: Incarnation::generate(),
            request_id: RequestId::generate(),
            now: world.now,
            admin_name: "admin".into(),
            admin_password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into(),
            admin_token: None,
            store_id: ObjectId::from_u128(77),
            controller_name: "c1".into(),
            controller: ControllerSpec {
                node_id: 1,
                key_fingerprint: "controller-key-1".into(),
                peer_address: "10.0.0.1:8445".into(),
                api_address: "10.0.0.1:8443".into(),
                agent_address: "10.0.0.1:8444".into(),
            },
            version: "0.1.0".into(),
            supports: 1,
        })?;
        world.commit(&changeset)?;
        let admin = world.head.of_kind(Kind::User.name(), None).next();
        world.admin = admin.context("genesis made no user")?.id;
        world.create(Kind::DataCenter, "dc1", json!({"region": "north"}))?;
        world.create(Kind::Rack, "r1", json!({"data_center": "dc1"}))?;
        let group = json!({"data_center": "dc1", "cpu_overcommit_percent": 400});
        world.create(Kind::BaremetalGroup, "g1", group)?;
        let small = json!({"cpu_cores": 2, "memory_mib": 4096, "storage_gib": 40});
        world.create(Kind::VirtualMachineSpecification, "small", small)?;
        for n in 0..tenants {
            world.tenant(&format!("tenant-{n}"), &format!("user-{n}"))?;
        }
        Ok(world)
    }

    pub(crate) fn tenants_for(vms: usize) -> usize {
        vms.div_ceil(VMS_PER_TENANT).max(1)
    }

    fn tenant(&mut self, tenant: &str, user: &str) -> Result<()> {
        let quota = json!({"cpu_cores": 100_000, "memory_mib": 100_000_000u64, "storage_gib": 10_000_000, "vms": 100_000});
        self.create(Kind::Tenant, tenant, json!({"quota": quota}))?;
        let share = json!({"group": "g1", "tenant": tenant, "cpu_quota_percentage": 100.0, "memory_mib": 100_000_000u64, "storage_gib": 10_000_000});
        self.create(Kind::BaremetalGroupTenantQuota, "", share)?;
        let mut create = Create::new(Kind::User, user, json!({})).tenant(tenant);
        create.password_hash = Some("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into());
        let id = self.ask(self.admin, &Request::Create(create))?;
        self.users.push(id.context("a user has no id")?);
        let scope = format!("tenant/{tenant}");
        let binding = json!({"subject": user, "role": "developer", "scope": scope});
        self.create(Kind::RoleBinding, "", binding).map(drop)
    }

    fn create(&mut self, kind: Kind, name: &str, spec: Value) -> Result<Option<ObjectId>> {
        let request = Request::Create(Create::new(kind, name, spec));
        self.ask(self.admin, &request)
            .with_context(|| format!("creating {} `{name}`", kind.name()))
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
            seal: None,
        }
    }

    fn ask(&mut self, user: ObjectId, request: &Request) -> Result<Option<ObjectId>> {
        let (changeset, reply) = decide(&self.head, &self.cx(user), request)?;
        self.commit(&changeset)?;
        Ok(reply.object_id)
    }

    /// Hosts join by one token each and say hello.
    pub(crate) fn add_hosts(&mut self, count: usize) -> Result<()> {
        for n in 0..count {
            let secret = NewSecret {
                id: ObjectId::generate(),
                hash: hex(n, 64),
            };
            let mut create = Create::new(Kind::JoinToken, "", json!({"group": "g1", "rack": "r1"}));
            create.secret = Some(secret.clone());
            self.ask(self.admin, &Request::Create(create))?;
            let key = hex(n, 64);
            let (changeset, enrolled) = enrol(
                &self.head,
                RequestId::generate(),
                self.now,
                &Enrol {
                    token_id: secret.id,
                    secret_hash: secret.hash,
                    key_fingerprint: key.clone(),
                    serial_number: format!("CZ{n:08}"),
                    hostname: format!("host-{n}"),
                    agent_version: "0.1.0".into(),
                    source: "192.0.2.1".into(),
                    new_id: ObjectId::generate(),
                },
            )?;
            self.commit(&changeset)?;
            let id = enrolled.subject_id;
            let hello = HostHello {
                host_id: id,
                key_fingerprint: key.clone(),
                boot_id: "2f1c9a86-0c9d-4f0b-9a63-2d5c7be9f0a1".into(),
                agent_version: "0.1.0".into(),
                management_address: Some(format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)),
                inventory: HostInventory {
                    cpu_milli: HOST[0],
                    memory_mib: HOST[1],
                    storage_gib: HOST[2],
                    gpus: 0,
                    foreign: None,
                    facts: facts(n),
                },
            };
            let (changeset, epoch) =
                host_online(&self.head, RequestId::generate(), self.now, &hello)?;
            self.commit(&changeset)?;
            self.hosts.push(Host { id, key, epoch });
        }
        // Tokens that were used go after a day.
        self.retire(Duration::from_secs(26 * 3600 + 7 * 24 * 3600))
    }

    /// VMs are asked for by tenants' users, placed, and reported as running by their hosts.
    pub(crate) fn add_vms(&mut self, count: usize) -> Result<()> {
        let limits = Limits::default();
        let mut placer = Placer::new(&self.image);
        let began = Instant::now();
        for first in (0..count).step_by(BATCH) {
            let batch = BATCH.min(count - first);
            for n in first..first + batch {
                self.add_vm(n)?;
            }
            let start = Instant::now();
            let changesets = placer.pass(&self.image, self.now, &limits);
            if batch == BATCH {
                self.took.pass.add(start.elapsed() / 256);
            }
            let mut placed = Vec::new();
            for changeset in &changesets {
                let start = Instant::now();
                self.head.apply(changeset).map_err(refused)?;
                self.took.place.add(start.elapsed());
                placed.extend(self.apply_bytes(changeset)?);
            }
            placer.absorb(&self.image, &placed);
            self.report(&placed)?;
            if first / BATCH % 100 == 99 {
                eprintln!("{} VMs after {:.0?}", first + batch, began.elapsed());
            }
        }
        Ok(())
    }

    pub(crate) fn add_vm(&mut self, n: usize) -> Result<()> {
        let user = self.users[n % self.users.len()];
        let mut cx = self.cx(user);
        cx.idempotency = Some(Idempotency {
            key: format!("0198f3a2-7c1b-7d55-9a33-{n:012x}"),
            request_hash: hex(n, 64),
        });
        let spec = json!({"specification": "small", "labels": {"app": "web", "role": role(n)}});
        let create = Create::new(Kind::VirtualMachine, &format!("web-{n}"), spec);
        let start = Instant::now();
        let (changeset, _) = decide(&self.head, &cx, &Request::Create(create))?;
        self.took.decide.add(start.elapsed());
        let start = Instant::now();
        self.head.apply(&changeset).map_err(refused)?;
        self.took.create.add(start.elapsed());
        let bytes = changeset.encode();
        self.took.bytes = bytes.len() as u64;
        let start = Instant::now();
        let read = Changeset::decode(bytes)?;
        self.took.decode.add(start.elapsed());
        self.image.apply(&read).map_err(refused)?;
        Ok(())
    }

    /// Each host reports its new VMs as running.
    fn report(&mut self, placed: &[Change]) -> Result<()> {
        for change in placed {
            let Some(object) = change.after.as_ref() else {
                continue;
            };
            let Some(host) = hosts_touched(change).pop() else {
                continue;
            };
            let status = &decoded::<VirtualMachine>(object)?.status;
            let report = ObservedReport {
                vms: vec![ObservedVm {
                    vm_id: object.id,
                    placement_epoch: status.placement_epoch,
                    phase: ObservedPhase::Running,
                    reason: String::new(),
                    message: String::new(),
                    pid: 4711,
                    generation: object.generation,
                    restarts: 0,
                    power_serial: status.power_serial,
                    carried_out: true,
                }],
                ..ObservedReport::default()
            };
            let epoch = self.epoch(host)?;
            let now = self.now;
            let request_id = RequestId::generate();
            for changeset in observed(&self.head, request_id, now, host, epoch, &report) {
                let start = Instant::now();
                self.head.apply(&changeset).map_err(refused)?;
                self.took.observe.add(start.elapsed());
                self.apply_bytes(&changeset)?;
            }
        }
        Ok(())
    }

    fn epoch(&self, host: ObjectId) -> Result<u64> {
        let at = self.hosts.binary_search_by_key(&host, |host| host.id);
        let at = at.map_err(|_| anyhow!("{host} is no host"))?;
        Ok(self.hosts[at].epoch)
    }

    /// Lets time pass until operations and idempotency keys have been removed.
    pub(crate) fn retire(&mut self, span: Duration) -> Result<()> {
        self.now = self.now.plus(span);
        self.hosts.sort_unstable_by_key(|host| host.id);
        loop {
            let changesets =
                virtflow_logic::loops::retire(&self.head, self.now, &Limits::default());
            if changesets.is_empty() {
                return Ok(());
            }
            for changeset in &changesets {
                self.commit(changeset)?;
            }
        }
    }

    pub(crate) fn commit(&mut self, changeset: &Changeset) -> Result<()> {
        if !changeset.ops.is_empty() {
            self.head.apply(changeset).map_err(refused)?;
            self.apply_bytes(changeset)?;
        }
        Ok(())
    }

    /// Applies to the image what a member reads from the log.
    fn apply_bytes(&mut self, changeset: &Changeset) -> Result<Vec<Change>> {
        let read = Changeset::decode(changeset.encode())?;
        Ok(self.image.apply(&read).map_err(refused)?.changes)
    }

    /// Refuses to measure what is not what was asked for.
    pub(crate) fn check(&self, size: Size) -> Result<()> {
        let phase = virtflow_model::key::VM_PHASE;
        let running = self.image.by_key(phase, "running", None).count();
        ensure!(
            running == size.vms,
            "{running} VMs run, {} should",
            size.vms
        );
        ensure!(
            self.head.digest() == self.image.digest(),
            "the head and the image differ"
        );
        Ok(())
    }
}

pub(crate) fn refused(refused: virtflow_state::Refused) -> anyhow::Error {
    anyhow!("a changeset was refused: {refused}")
}

pub(crate) fn role(n: usize) -> String {
    format!("r{}", n % ROLES)
}

/// A text of hexadecimal digits, another for each `n`.
fn hex(n: usize, digits: usize) -> String {
    format!("{:0digits$x}", n + 1)
}

/// As much as an agent tells of a usual server.
fn facts(n: usize) -> Value {
    json!({
        "cpu_model": "AMD EPYC 7543P 32-Core Processor", "kernel": "6.1.0-28-amd64", "os": "Debian GNU/Linux 12",
        "hypervisor": "kvm", "hypervisor_version": "7.2.15", "libvirt_version": "9.0.0",
        "memory_mib": HOST[1], "logical_cpus": 64, "sockets": 1, "cores": 32, "threads": 64,
        "numa": [{"id": 0, "memory_mib": HOST[1] / 2, "cpus": [0, 1, 2, 3]}, {"id": 1, "memory_mib": HOST[1] / 2, "cpus": [4, 5, 6, 7]}],
        "filesystems": [{"mount": "/", "fstype": "ext4", "total_mib": 100_000, "available_mib": 80_000},
            {"mount": "/var/lib/virtflow", "fstype": "xfs", "total_mib": HOST[2] * 1024, "available_mib": HOST[2] * 1000, "holds_guests": true}],
        "nics": [{"name": "eno1", "mac": format!("02:00:00:{:02x}:{:02x}:{:02x}", n >> 16 & 255, n >> 8 & 255, n & 255), "speed_mbps": 25_000, "up": true},
            {"name": "eno2", "mac": format!("02:00:01:{:02x}:{:02x}:{:02x}", n >> 16 & 255, n >> 8 & 255, n & 255), "speed_mbps": 25_000, "up": true}],
    })
}
