//! The machines, the network between them, and the loop that turns both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use virtflow_agent::hypervisor::simulated::{Deed, SimulatedMachine};
use virtflow_agent::inventory::ToldMachine;
use virtflow_raft::SimulatedDisk;
use virtflow_types::{ObjectId, chance};

use super::clients::{Client, Notes, Size};
use super::controller::{Invitations, Machine, Shared, lock};
use super::host::Host;
use super::ledger::Ledger;
use super::nemesis::{Faults, Nemesis};
use super::process::Program;
use super::setup::Setup;
use super::shadow::{Observer, ShadowDisk};
use super::watcher::Watcher;
use super::{clock, judge, skew, system, trace};
use crate::history::watch::Stream;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Controllers.
    pub controllers: usize,
    /// Hosts.
    pub hosts: usize,
    /// Clients.
    pub clients: usize,
    /// How long clients work and things break, in virtual time.
    pub storm: Duration,
    /// What breaks.
    pub faults: Faults,
    /// Where the trace is written, line by line.
    pub trace: Option<PathBuf>,
    /// A folder for the machines' files; emptied.
    pub folder: PathBuf,
}

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Broken promises; empty if all were kept.
    pub violations: Vec<String>,
    /// The trace.
    pub trace: Digest,
    /// Virtual time of the whole run.
    pub virtual_time: Duration,
    /// From the end of the faults until everything had come to rest.
    pub recovery: Duration,
    /// Hosts.
    pub hosts: usize,
    /// Log entries.
    pub entries: u64,
    /// Times that a member came to lead.
    pub elections: u64,
    /// Requests answered, refused, without an outcome, not sent.
    pub requests: [u64; 4],
    /// The longest time with a majority able to talk and no leader is not measured here; this is the
    /// longest between two entries while clients worked.
    pub longest_pause: Duration,
}

use trace::Digest;

/// One step of virtual time.
const TICK: Duration = Duration::from_millis(1);
/// The cluster must stand within this.
const SETUP_MAX: Duration = Duration::from_secs(60);
/// For so long, before anything breaks: the last member's promotion is two entries.
const STANDS: Duration = Duration::from_millis(500);
/// Everything must have come to rest so long after the last fault.
const REST_MAX: Duration = Duration::from_secs(150);
/// And must stay so for longer than a host's lease.
const STAYS: Duration = Duration::from_secs(15);
/// How often invariants of machines are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A process that stopped by itself is started again after that, as a supervisor would.
const RESTART: Duration = Duration::from_secs(2);
/// Those who watch over the API.
const WATCHERS: usize = 2;

pub(crate) struct World {
    pub(crate) sim: turmoil::Sim<'static>,
    pub(crate) controllers: Vec<Machine>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) ledger: Shared<Ledger>,
    pub(crate) notes: Shared<Notes>,
    pub(crate) streams: Shared<Vec<Stream>>,
    pub(crate) wipes: Shared<Vec<String>>,
    pub(crate) programs: Vec<Program>,
    pub(crate) down: BTreeSet<String>,
    pub(crate) restarts: Vec<(Duration, String)>,
    deeds_seen: BTreeMap<String, usize>,
    stamps: BTreeMap<(String, ObjectId), u64>,
    entries_seen: (usize, Duration),
    longest_pause: Duration,
}

impl World {
    /// Gives every process its turn; who ended.
    fn turn(&mut self) -> Vec<String> {
        let mut order: Vec<usize> = (0..self.programs.len()).collect();
        chance::shuffle(&mut order);
        let mut ended = Vec::new();
        for at in order {
            let program = &mut self.programs[at];
            let Some(process) = &mut program.process else {
                continue;
            };
            let Some(end) = process.turn(TICK) else {
                continue;
            };
            if let Err(error) = end {
                trace::note(format!("{} ended: {error:#}", program.name));
                if error.to_string().contains("panick") {
                    lock(&self.ledger).violation(format!("a panic: {error}"));
                }
            }
            program.process = None;
            ended.push(program.name.clone());
        }
        ended
    }

    fn step(&mut self) {
        clock::set_elapsed(self.sim.elapsed());
        if let Err(error) = self.sim.step() {
            panic!("a kernel ended: {error}");
        }
        let ended = self.turn();
        let now = self.sim.elapsed();
        clock::set_elapsed(now);
        self.supervise(now, &ended);
        self.wipe();
        let micros = u64::try_from(now.as_micros()).unwrap_or(0);
        let every = u64::try_from(LOOK_EVERY.as_micros()).unwrap_or(1);
        if micros.is_multiple_of(every) {
            self.look(now);
        }
    }

    /// Starts again what stopped by itself.
    fn supervise(&mut self, now: Duration, ended: &[String]) {
        for name in ended {
            if let Some(machine) = self.controller(name) {
                let reason = lock(&machine.stopped).take();
                machine.log.process_died();
                machine.shadow.process_died();
                *lock(&machine.app) = None;
                if let Some(reason) = reason {
                    judge::stopped(&mut lock(&self.ledger), name, &reason);
                }
            }
            self.restarts.push((now + RESTART, name.clone()));
        }
        let mut at = 0;
        while at < self.restarts.len() {
            if self.restarts[at].0 <= now {
                let (_, name) = self.restarts.remove(at);
                trace::note(format!("{name} is started again"));
                self.begin(&name);
            } else {
                at += 1;
            }
        }
    }

    /// What must be true of machines at any moment.
    fn look(&mut self, now: Duration) {
        let mut ledger = lock(&self.ledger);
        for machine in &self.controllers {
            if let Some(app) = lock(&machine.app).as_ref() {
                let leadership = *app.node().leadership().borrow();
                if leadership.is_leader {
                    ledger.leads(&machine.name, leadership.term);
                }
                ledger.is_at_version(&machine.name, app.node().image().cluster_version());
            }
        }
        let mut owners: BTreeMap<(ObjectId, u64), &str> = BTreeMap::new();
        for host in &self.hosts {
            let Some(id) = *lock(&host.id) else { continue };
            let seen = self.deeds_seen.entry(host.name.clone()).or_default();
            let deeds = host.guests.deeds_from(*seen);
            *seen += deeds.len();
            for (vm, deed) in deeds {
                let epoch = self.stamps.get(&(host.name.clone(), vm)).copied();
                if deed != Deed::Undefined {
                    continue;
                }
                let epoch = epoch.unwrap_or(0);
                let ordered = ledger
                    .ordered_away
                    .range((id, vm, epoch)..=(id, vm, u64::MAX))
                    .next()
                    .is_some();
                if !ordered {
                    ledger.violation(format!(
                        "{} removed the domain of VM {vm} (epoch {epoch}) and nobody had ordered it",
                        host.name
                    ));
                }
            }
            for domain in host.guests.domains() {
                let epoch = domain.stamp.placement_epoch;
                self.stamps.insert((host.name.clone(), domain.vm_id), epoch);
                if ledger.graves.hold(domain.vm_id) {
                    ledger.violation(format!(
                        "{} has a domain of VM {}, of which nothing should be left",
                        host.name, domain.vm_id
                    ));
                }
                if let Some(other) = owners.insert((domain.vm_id, epoch), &host.name) {
                    ledger.violation(format!(
                        "VM {} is on {other} and on {} at epoch {epoch}",
                        domain.vm_id, host.name
                    ));
                }
            }
        }
        let (entries, since) = self.entries_seen;
        if ledger.entries.len() > entries {
            self.longest_pause = self.longest_pause.max(now.saturating_sub(since));
            self.entries_seen = (ledger.entries.len(), now);
        }
    }

    fn violated(&self) -> bool {
        !lock(&self.ledger).violations.is_empty()
    }
}

/// Keeps task numbers in step: a runtime drops its tasks in an order that depends on how many tasks this
/// process ever had, modulo its shards.
fn align_task_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        for _ in 0..64 {
            let task = tokio::spawn(async {});
            let id: u64 = task.id().to_string().parse().unwrap_or(0);
            drop(task.await);
            if id % 64 == 63 {
                break;
            }
        }
    });
}

/// Runs one seed.
///
/// # Errors
/// If the files cannot be laid out. Broken promises are in the report.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let report = run_simulated(options);
    system::simulate(false);
    report
}

fn run_simulated(options: &Options) -> anyhow::Result<Report> {
    trace::listen();
    if options.folder.exists() {
        std::fs::remove_dir_all(&options.folder)?;
    }
    std::fs::create_dir_all(&options.folder)?;
    let file = options
        .trace
        .as_ref()
        .map(std::fs::File::create)
        .transpose()?;
    align_task_ids();
    clock::begin(options.seed);
    skew::begin();
    trace::begin(file);
    system::simulate(true);
    let mut world = build(options)?;
    let open = Arc::new(AtomicBool::new(false));
    let changing = Arc::new(AtomicBool::new(false));
    let invitations = world.controllers[0].invitations.clone();
    let controllers = world.controller_names();
    let size = Size::of(options.hosts);
    let setup = Setup {
        controllers: controllers.clone(),
        hosts: world.host_names(),
        invitations: invitations.clone(),
        wipes: world.wipes.clone(),
        tenant_vms: size.tenant_vms,
        open: changing.clone(),
    };
    world.add("operator", move || Box::pin(setup.clone().run()));
    let client = |name: String| Client {
        name,
        controllers: controllers.clone(),
        invitations: invitations.clone(),
        notes: world.notes.clone(),
        open: open.clone(),
        size,
    };
    let clients: Vec<Client> = (1..=options.clients)
        .map(|n| client(format!("u{n}")))
        .collect();
    let watchers: Vec<Client> = (1..=WATCHERS).map(|n| client(format!("w{n}"))).collect();
    for client in clients {
        let name = client.name.clone();
        world.add(&name, move || Box::pin(client.clone().run()));
    }
    for client in watchers {
        let name = client.name.clone();
        let streams = world.streams.clone();
        let watcher = Watcher { client, streams };
        world.add(&name, move || Box::pin(watcher.clone().run()));
    }

    let mut stands_since = None;
    while stands_since.is_none_or(|since| world.sim.elapsed() < since + STANDS) {
        world.step();
        let now = world.sim.elapsed();
        stands_since = judge::stands(&world).then(|| stands_since.unwrap_or(now));
        anyhow::ensure!(
            world.sim.elapsed() < SETUP_MAX,
            "the cluster does not stand after {SETUP_MAX:?} of virtual time; the trace ends with\n{}",
            trace::end().tail.join("\n")
        );
    }
    trace::note("the cluster stands; clients begin");
    open.store(true, Ordering::Relaxed);
    changing.store(options.faults == Faults::All, Ordering::Relaxed);
    let mut nemesis = Nemesis::default();
    let storm_ends = world.sim.elapsed() + options.storm;
    world.entries_seen.1 = world.sim.elapsed();
    world.longest_pause = Duration::ZERO;
    while world.sim.elapsed() < storm_ends && !world.violated() {
        if options.faults == Faults::All {
            let now = world.sim.elapsed();
            clock::set_elapsed(now);
            nemesis.step(&mut world, now);
        }
        world.step();
    }
    let longest_pause = world.longest_pause;
    trace::note("the faults end");
    nemesis.end(&mut world);
    open.store(false, Ordering::Relaxed);
    changing.store(false, Ordering::Relaxed);
    let calm = world.sim.elapsed();
    let mut rests = false;
    let mut rests_since = None;
    while world.sim.elapsed() < calm + REST_MAX + STAYS && !world.violated() {
        world.step();
        let micros = world.sim.elapsed().as_micros();
        if micros % 500_000 != 0 {
            continue;
        }
        match (judge::rests(&world), rests_since) {
            (Err(why), _) => {
                trace::note(format!("not at rest: {why}"));
                rests_since = None;
            }
            (Ok(()), None) => rests_since = Some(world.sim.elapsed()),
            (Ok(()), Some(since)) if world.sim.elapsed() >= since + STAYS => {
                rests = true;
                break;
            }
            (Ok(()), Some(_)) => {}
        }
    }
    let recovery = rests_since.unwrap_or(world.sim.elapsed()) - calm;
    if !rests && !world.violated() {
        let why = judge::rests(&world)
            .err()
            .unwrap_or_else(|| format!("nothing stays as it is for {STAYS:?}"));
        lock(&world.ledger).violation(format!("not at rest after {REST_MAX:?}: {why}"));
    }
    judge::whole_run(&world);
    let trace = trace::end();
    let ledger = lock(&world.ledger);
    let notes = lock(&world.notes);
    Ok(Report {
        violations: ledger.violations.clone(),
        trace,
        virtual_time: world.sim.elapsed(),
        recovery,
        hosts: options.hosts,
        entries: ledger.entries.len() as u64,
        elections: ledger.elections,
        requests: [notes.answered, notes.refused, notes.unknown, notes.not_sent],
        longest_pause,
    })
}

fn build(options: &Options) -> anyhow::Result<World> {
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::EPOCH_MS);
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(chance::number())
        .epoch(epoch)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(100_000))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(Duration::from_millis(4))
        .tcp_capacity(65_536)
        .enable_random_order();
    let sim = builder.build();
    let ledger = Shared::<Ledger>::default();
    let invitations = Shared::<Invitations>::default();
    let streams = Shared::<Vec<Stream>>::default();
    let mut controllers = Vec::new();
    for number in 1..=options.controllers {
        let name = format!("c{number}");
        let folder = options.folder.join(&name);
        std::fs::create_dir_all(&folder)?;
        let (seen, member) = (ledger.clone(), name.clone());
        let observer: Observer = Arc::new(move |entry| lock(&seen).applied(&member, entry));
        controllers.push(Machine {
            name,
            shadow: ShadowDisk::new(folder.clone()),
            folder,
            log: SimulatedDisk::default(),
            invitations: invitations.clone(),
            app: Shared::default(),
            stopped: Shared::default(),
            observer,
            streams: streams.clone(),
            peers: (1..=options.controllers).map(|n| format!("c{n}")).collect(),
            founds: number == 1,
            snapshot_entries: 12 + chance::number() % 48,
            lease_s: 10,
        });
    }
    let names: Vec<String> = controllers.iter().map(|m| m.name.clone()).collect();
    let mut hosts = Vec::new();
    for number in 1..=options.hosts {
        let name = format!("h{number}");
        hosts.push(Host {
            folder: options.folder.join(&name),
            guests: SimulatedMachine::new(),
            machine: Arc::new(ToldMachine::new(&name, 8, 2048, 50)),
            name,
            invitations: invitations.clone(),
            id: Arc::new(Mutex::new(None)),
            controllers: names.clone(),
        });
    }
    let mut world = World {
        sim,
        controllers: controllers.clone(),
        hosts: hosts.clone(),
        ledger,
        notes: Shared::default(),
        streams,
        wipes: Shared::default(),
        programs: Vec::new(),
        down: BTreeSet::new(),
        restarts: Vec::new(),
        deeds_seen: BTreeMap::new(),
        stamps: BTreeMap::new(),
        entries_seen: (0, Duration::ZERO),
        longest_pause: Duration::ZERO,
    };
    for machine in controllers {
        let name = machine.name.clone();
        world.add(&name, move || Box::pin(machine.clone().run()));
    }
    for host in hosts {
        let name = host.name.clone();
        world.add(&name, move || Box::pin(host.clone().run()));
    }
    Ok(world)
}
