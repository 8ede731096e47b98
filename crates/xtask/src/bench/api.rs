//! `cargo xtask bench api`: what the REST API bears with many VMs in the state, beside nginx and in one run with it. Three
//! controllers, eight hosts whose guests are simulated; rights are looked up and a quorum is asked for each request, as ever.

mod nginx;
mod watchers;
mod wrk;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use virtflow_testkit::cloud::json::{list, text};
use virtflow_testkit::cloud::{CONTROLLER, Cloud, GROUP, Hypervisor, Plan};
use virtflow_testkit::{packages, poll};

use self::watchers::Watchers;
use self::wrk::{Load, What, Wrk};
use super::{FOLDER, IMAGE_FOLDER, Table, resident_mib};
use crate::setup;

/// Measures the REST API with many VMs.
///
/// What it does to this machine is what `demo` does, with a release build in `target/release`; it installs wrk, and
/// runs nginx from Debian's package without installing it. With the defaults it takes about ten minutes and 8 GiB of memory.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// VMs in all.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(2_000..=1_000_000))]
    vms: u32,
    /// For how many seconds each figure is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Streams that are open at once.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    watchers: u32,
    /// The release build is done: this is its program.
    #[arg(long, hide = true)]
    pub(super) built: bool,
}

impl Options {
    /// These options as arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        [
            ("--vms", u64::from(self.vms)),
            ("--seconds", self.seconds),
            ("--watchers", u64::from(self.watchers)),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value.to_string()])
        .collect()
    }
}

const PROGRAMS: &str = "/var/tmp/virtflow-bench-programs";

const HOSTS: u8 = 8;
/// VMs that run, on all hosts together; the others wait for one.
const RUNNING: usize = 1_000;
/// A group without hosts.
const SHELF: &str = "shelf";
/// VMs are of so many tenants.
const TENANTS: usize = 20;
/// VMs made by one request.
const TOGETHER: usize = 100;
/// Objects that change while many watch.
const CHANGES: usize = 20;

const SETTLE_TIMEOUT: Duration = Duration::from_secs(900);
/// How long everything is left alone before it is weighed.
const IDLE: Duration = Duration::from_secs(10);
/// Connections at once.
const FEW: usize = 1;
const MANY: usize = 64;

pub(super) fn run(options: &Options) -> Result<()> {
    setup::install(&packages::missing_of(&[wrk::PACKAGE])?)?;
    let mut cloud = Cloud::start(Path::new(FOLDER), Path::new(IMAGE_FOLDER), plan())?;
    let mut table = Table::default();
    let result = measure(&mut cloud, options, &mut table);
    table.print();
    result?;
    cloud.end()?;
    fs::remove_dir_all(FOLDER)?;
    Ok(())
}

/// Hosts with room for a million small VMs, and nobody asks more often than they may.
fn plan() -> Plan {
    let environment = [
        ("CONTROLLER_LIMITS_TOKEN_REQUESTS_PER_S", "0"),
        ("CONTROLLER_LIMITS_USER_REQUESTS_PER_S", "1000000"),
        ("CONTROLLER_LIMITS_TENANT_REQUESTS_PER_S", "0"),
        ("AGENT_CAPACITY_CPU_MILLI", "20000000"),
        ("AGENT_CAPACITY_MEMORY_MIB", "20000000"),
        ("AGENT_CAPACITY_STORAGE_GIB", "200000"),
        ("AGENT_RESERVE_MEMORY_MIB", "0"),
        ("AGENT_RESERVE_CPU_MILLI", "0"),
    ];
    Plan {
        hosts: HOSTS,
        hypervisor: Hypervisor::Simulated,
        environment: environment
            .into_iter()
            .map(|(name, value)| (format!("VIRTFLOW_{name}"), value.to_owned()))
            .collect(),
        ..Plan::default()
    }
}

/// Where requests come from and go to.
struct Bench<'a> {
    cloud: &'a Cloud,
    wrk: Wrk,
    lasting: Duration,
    leader: String,
    follower: String,
}

impl Bench<'_> {
    fn origin(&self, controller: &str) -> Result<String> {
        Ok(format!("https://{}:8443", self.cloud.address(controller)?))
    }

    fn load(&self, controller: &str, connections: usize, what: What<'_>) -> Result<Load> {
        let origin = self.origin(controller)?;
        let now = self.cloud.leader()?;
        ensure!(now == self.leader, "leadership moved to {now}");
        self.wrk.load(&origin, connections, self.lasting, what)
    }

    /// Objects of a list that the leader is asked for once.
    fn asked(&self, path: &str) -> Result<Vec<Value>> {
        let address = self.cloud.address(&self.leader)?;
        let answer = self.cloud.api.get(address, path)?;
        Ok(list(answer.data().with_context(|| path.to_owned())?)?.to_vec())
    }
}

fn measure(cloud: &mut Cloud, options: &Options, table: &mut Table) -> Result<()> {
    nginx::add(&mut cloud.place)?;
    let cloud = &*cloud;
    let place = cloud.place.rig.lan().init_pid();
    let folder = cloud.place.people().join("wrk");
    let authorization = cloud.api.credential();
    let header = fs::read_to_string(authorization)?;
    let header = header
        .trim()
        .strip_prefix("Authorization: ")
        .context("what the credential's file holds is no header")?
        .to_owned();
    let wrk = Wrk::new(place, folder, authorization.to_owned())?;
    let leader = cloud.leader()?;
    let follower = cloud.followers()?.pop().context("there is no follower")?;
    let lasting = Duration::from_secs(options.seconds);

    let vms = usize::try_from(options.vms)?;
    let bench = Bench {
        cloud,
        wrk,
        lasting,
        leader,
        follower,
    };
    let before = weigh(&bench)?;
    fill(&bench, vms, table)?;
    std::thread::sleep(IDLE);
    let after = weigh(&bench)?;
    for ((role, before), (_, after)) in before.into_iter().zip(after) {
        let each = (after - before) * 1024.0 * 1024.0 / vms as f64;
        table.row(
            &format!("{role}, resident with {vms} VMs"),
            &format!("{after:.0} MiB"),
            &format!("{before:.0} MiB before; {each:.0} B a VM, with operations, history and keys of the last day"),
            "-",
            true,
        );
    }

    let running = bench.asked("/vms?phase=running&limit=1000&fields=id")?;
    ensure!(running.len() == RUNNING, "{} VMs run", running.len());
    let ids: Vec<String> = running
        .iter()
        .map(|vm| Ok(text(vm, "/id")?.to_owned()))
        .collect::<Result<_>>()?;
    let gets: Vec<String> = ids.iter().map(|id| format!("/api/v1/vms/{id}")).collect();
    let address = bench.cloud.address(&bench.leader)?;
    let one = bench.cloud.api.get(address, &format!("/vms/{}", ids[0]))?;
    one.data()?;
    let body = one.body.to_string();
    let nginx = nginx::start(&cloud.place, Path::new(PROGRAMS), &header, &body)?;
    beside_nginx(&bench, &nginx, &gets, table)?;
    lists(&bench, table)?;
    creations(&bench, table)?;
    watching(&bench, options, table)
}

/// What each controller holds in memory, the leader first, in MiB.
fn weigh(bench: &Bench<'_>) -> Result<Vec<(String, f64)>> {
    let place = &bench.cloud.place;
    let mut all = Vec::new();
    let followers = bench.cloud.followers()?;
    for name in std::iter::once(&bench.leader).chain(&followers) {
        let role = if *name == bench.leader {
            "leader"
        } else {
            "follower"
        };
        all.push((
            role.to_owned(),
            resident_mib(place.node(name)?, CONTROLLER)?,
        ));
    }
    Ok(all)
}

/// Makes the VMs, 100 a request, and waits until those that have a host run. The others are of a group without hosts: a
/// host has some tens of VMs, so there would have to be thousands of hosts for all.
fn fill(bench: &Bench<'_>, vms: usize, table: &mut Table) -> Result<()> {
    println!("filling the state with {vms} VMs");
    let operator = &bench.cloud.operator;
    operator.json(&["group", "create", SHELF, "--data-center", "attic"])?;
    let tiny = ["--cpu", "1", "--memory", "64MiB", "--storage", "1GiB"];
    operator.json(&[&["spec", "create", "tiny"][..], &tiny].concat())?;
    let parts: Vec<usize> = (0..TENANTS)
        .map(|number| match number {
            0 => RUNNING,
            _ => (vms - RUNNING) / (TENANTS - 1),
        })
        .collect();
    let began = Instant::now();
    for (number, count) in parts.iter().enumerate() {
        let group = if number == 0 { GROUP } else { SHELF };
        tenant_of(bench, &tenant(number), group)?;
        make(bench, number, *count)?;
    }
    let took = began.elapsed();
    poll::until("VMs that have a host to run", SETTLE_TIMEOUT, || {
        let running = bench.asked("/vms?phase=running&limit=1000&fields=id")?;
        Ok((running.len() == RUNNING).then_some(()))
    })?;
    table.row(
        &format!("VMs made by {TOGETHER} a request, one after the other"),
        &format!(
            "{:.0} /s",
            parts.iter().sum::<usize>() as f64 / took.as_secs_f64()
        ),
        "-",
        "-",
        true,
    );
    Ok(())
}

/// A tenant that may have whatever fits into one group.
fn tenant_of(bench: &Bench<'_>, tenant: &str, group: &str) -> Result<()> {
    let operator = &bench.cloud.operator;
    operator.json(&["tenant", "create", tenant])?;
    let share = [
        "--cpu-percent",
        "100",
        "--memory",
        "100000GiB",
        "--storage",
        "1000000GiB",
    ];
    let quota = ["quota", "create", "--group", group, "--tenant", tenant];
    operator.json(&[&quota[..], &share].concat())?;
    Ok(())
}

/// Makes so many VMs of one tenant.
fn make(bench: &Bench<'_>, number: usize, count: usize) -> Result<()> {
    let tenant = tenant(number);
    let items: Vec<Value> = (0..count)
        .map(|vm| {
            json!({
                "name": format!("vm-{vm}"),
                "tenant": tenant,
                "spec": {
                    "specification": "tiny",
                    "labels": {"batch": format!("b{number}")},
                },
            })
        })
        .collect();
    let bodies: Vec<Value> = items
        .chunks(TOGETHER)
        .map(|items| json!({"items": items}))
        .collect();
    let address = bench.cloud.address(&bench.leader)?;
    let path = "/bulk/vms?atomic=true";
    for answer in bench.cloud.api.post_all(address, path, &bodies)? {
        answer.data()?;
    }
    Ok(())
}

fn tenant(number: usize) -> String {
    format!("bench-{number}")
}

/// One VM by id, beside nginx with the same body, in turn.
fn beside_nginx(bench: &Bench<'_>, nginx: &str, gets: &[String], table: &mut Table) -> Result<()> {
    println!("one VM, beside nginx");
    for connections in [FEW, 8, MANY] {
        let ceiling = bench
            .wrk
            .load(nginx, connections, bench.lasting, What::Gets(gets))?;
        for (role, name) in [("leader", &bench.leader), ("follower", &bench.follower)] {
            let ours = bench.load(name, connections, What::Gets(gets))?;
            let share = ours.rate() / ceiling.rate();
            table.row(
                &format!("get one VM of all, {connections} at once, by the {role}"),
                &told(&ours),
                &format!("nginx {}: {share:.2} of it", told(&ceiling)),
                "0.1 of nginx at 64",
                share >= 0.1 || connections != MANY,
            );
        }
    }
    Ok(())
}

fn lists(bench: &Bench<'_>, table: &mut Table) -> Result<()> {
    println!("lists");
    let list = |what: &str, path: &str, goal_ms: Option<f64>, table: &mut Table| -> Result<()> {
        let found = bench.asked(path)?.len();
        let paths = [format!("/api/v1{path}")];
        for connections in [FEW, 8] {
            let load = bench.load(&bench.follower, connections, What::Gets(&paths))?;
            let met = goal_ms.is_none_or(|goal| connections != FEW || load.half_ms() <= goal);
            table.row(
                &format!("{what}, {connections} at once"),
                &told(&load),
                &format!("{found} objects, {} KiB", load.bytes_each() / 1024),
                &goal_ms.map_or("-".to_owned(), |goal| format!("goal {goal:.0} ms")),
                met,
            );
        }
        Ok(())
    };
    list("list 100 VMs", "/vms?limit=100", None, table)?;
    list(
        "list 100 VMs of a tenant",
        &format!("/vms?limit=100&tenant={}", tenant(7)),
        None,
        table,
    )?;
    list(
        "list 100 VMs of a host",
        "/vms?limit=100&host=h1",
        None,
        table,
    )?;
    list(
        "list 100 VMs that run",
        "/vms?limit=100&phase=running",
        None,
        table,
    )?;
    list(
        "list 100 VMs with a label",
        "/vms?limit=100&label=batch%3Db11",
        None,
        table,
    )?;
    list(
        "list 1000 VMs that run, with their state",
        "/vms?limit=1000&phase=running",
        Some(20.0),
        table,
    )?;
    list(
        "search by words (SQL)",
        "/vms?limit=100&q=vm-777",
        None,
        table,
    )?;
    list(
        "newest 100 (SQL)",
        "/vms?limit=100&sort=-created_at",
        None,
        table,
    )
}

/// VMs made one a request.
fn creations(bench: &Bench<'_>, table: &mut Table) -> Result<()> {
    println!("creations");
    for (connections, round) in [(FEW, "few"), (MANY, "many")] {
        let body = json!({
            "name": format!("one-{round}-{{n}}"),
            "tenant": tenant(3),
            "spec": {"specification": "tiny"},
        });
        let what = What::Posts {
            path: "/api/v1/vms",
            body: &body.to_string(),
        };
        let load = bench.load(&bench.leader, connections, what)?;
        table.row(
            &format!("create a VM, {connections} at once, by the leader"),
            &told(&load),
            "-",
            "-",
            true,
        );
    }
    Ok(())
}

/// Many who watch the VMs of one tenant while some are made.
fn watching(bench: &Bench<'_>, options: &Options, table: &mut Table) -> Result<()> {
    let count = usize::try_from(options.watchers)?;
    println!("{count} streams");
    tenant_of(bench, "watched", SHELF)?;
    let urls: Vec<String> = [&bench.leader, &bench.follower]
        .into_iter()
        .map(|name| {
            let origin = bench.origin(name)?;
            Ok(format!("{origin}/api/v1/vms?watch=true&tenant=watched"))
        })
        .collect::<Result<_>>()?;
    let folder: PathBuf = bench.cloud.place.people().join("watchers");
    let place = bench.cloud.place.rig.lan().init_pid();
    let began = Instant::now();
    let watchers = Watchers::open(
        place,
        &folder,
        bench.cloud.api.ca(),
        bench.cloud.api.credential(),
        &urls,
        count,
    )?;
    let opened = began.elapsed();
    let began = Instant::now();
    let bodies: Vec<Value> = (0..CHANGES)
        .map(|number| {
            json!({
                "name": format!("watched-{number}"),
                "tenant": "watched",
                "spec": {"specification": "tiny"},
            })
        })
        .collect();
    let address = bench.cloud.address(&bench.leader)?;
    let ids: BTreeSet<String> = bench
        .cloud
        .api
        .post_all(address, "/vms", &bodies)?
        .iter()
        .map(|answer| Ok(text(answer.data()?, "/object/id")?.to_owned()))
        .collect::<Result<_>>()?;
    let made = began.elapsed();
    watchers.told(&ids)?;
    let told = began.elapsed();
    table.row(
        &format!(
            "{} streams over both leader and follower, {CHANGES} VMs made",
            watchers.len()
        ),
        &format!("all told after {:.2} s, none lost", told.as_secs_f64()),
        &format!(
            "made in {:.2} s; opened in {:.1} s",
            made.as_secs_f64(),
            opened.as_secs_f64()
        ),
        "none lost",
        true,
    );
    Ok(())
}

fn told(load: &Load) -> String {
    format!(
        "{:.0} /s, {:.2} / {:.2} ms",
        load.rate(),
        load.half_ms(),
        load.most_ms()
    )
}
