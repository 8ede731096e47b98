//! The leading controller is killed while a VM is being created, at random moments and in each phase
//! that a write goes through. Whatever phase it was: the request has one of three outcomes, and
//! repeated under its key it makes exactly one VM, one domain, one set of charges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt as _;
use uuid::Uuid;
use virtflow_testkit::cloud::json::{list, text};
use virtflow_testkit::cloud::{Answer, Api, CONTROLLER, Cloud, Plan, SMALL_MEMORY_MIB, TENANT};
use virtflow_testkit::poll;

use crate::support;

/// How often the leader is killed at the least.
const ROUNDS: usize = 20;
/// How often at the most, if a phase has not been hit by then.
const ROUNDS_MAX: usize = 40;
/// The latest random moment after the request.
const KILL_WITHIN: Duration = Duration::from_millis(500);
/// How long each phase is held, so that a random moment can fall into any of them. Only programs
/// built with debug assertions know this variable.
const PAUSES: &str = "decided=40,appended=40,committed=40,applied=40,sent=40";
/// The log is quiet when it has had no phase for so long.
const QUIET: Duration = Duration::from_millis(400);

const REPEAT_TIMEOUT: Duration = Duration::from_secs(30);
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(40);

/// How far the write, or what follows from it, had got when the leader died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Not in the leader's log: not arrived, not decided, or decided only.
    BeforeAppend,
    Appended,
    Committed,
    Applied,
    /// The agent has been told.
    Sent,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::BeforeAppend,
        Self::Appended,
        Self::Committed,
        Self::Applied,
        Self::Sent,
    ];

    /// The word in the log.
    fn word(self) -> &'static str {
        match self {
            Self::BeforeAppend => "decided",
            Self::Appended => "appended",
            Self::Committed => "committed",
            Self::Applied => "applied",
            Self::Sent => "sent",
        }
    }
}

/// When the leader is to die.
#[derive(Debug, Clone, Copy)]
enum Aim {
    After(Duration),
    At(Phase),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Created { id: String, operation: String },
    Refused(String),
    Unknown,
}

/// One line of target `virtflow::phase`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    phase: Phase,
    /// Whose write it is; for [`Phase::Sent`] the VM's name instead.
    whose: String,
}

/// The lines of a controller's log from some point on.
struct LogTail {
    file: PathBuf,
    from: usize,
}

impl LogTail {
    fn from_now(file: PathBuf) -> Self {
        let from = fs::read(&file).map_or(0, |text| text.len());
        Self { file, from }
    }

    fn lines(&self) -> Vec<Line> {
        let text = fs::read(&self.file).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(self.from..).unwrap_or_default()).into_owned();
        text.lines().filter_map(parse).collect()
    }
}

/// What the controllers say of one request, made while nothing else was being written.
struct Watch {
    leader: LogTail,
    /// Any of them may hold the session of the host's agent.
    all: Vec<LogTail>,
    vm: String,
}

impl Watch {
    /// How far the request has got; `None` if the leader has not even decided on it.
    fn reached(&self) -> Option<Phase> {
        let lines = self.leader.lines();
        let first = lines.iter().find(|line| line.phase != Phase::Sent)?;
        let own = lines
            .iter()
            .filter(|line| line.phase != Phase::Sent && line.whose == first.whose)
            .map(|line| line.phase)
            .max()?;
        // The agent is told of the placement, which is a write of its own that follows.
        let sent = own == Phase::Applied
            && self.all.iter().any(|log| {
                log.lines()
                    .iter()
                    .any(|line| line.phase == Phase::Sent && line.whose == self.vm)
            });
        Some(if sent { Phase::Sent } else { own })
    }
}

/// `... virtflow::phase: phase="appended" request_id=0192...`, and for the last phase
/// `phase="sent" vm_id=0192... name=web-1`.
fn parse(line: &str) -> Option<Line> {
    let (_, rest) = line.split_once("virtflow::phase")?;
    let field = |name: &str| {
        let (_, value) = rest.split_once(&format!(" {name}="))?;
        Some(
            value
                .split_whitespace()
                .next()?
                .trim_matches('"')
                .to_owned(),
        )
    };
    let word = field("phase")?;
    let phase = Phase::ALL.into_iter().find(|phase| phase.word() == word)?;
    let whose = match phase {
        Phase::Sent => field("name")?,
        _ => field("request_id")?,
    };
    Some(Line { phase, whose })
}

#[test]
fn the_log_is_understood() {
    let time = "2026-01-01T00:00:00Z DEBUG";
    for (line, phase, whose) in [
        (
            "virtflow::phase: phase=\"appended\" request_id=0192-ab",
            Phase::Appended,
            "0192-ab",
        ),
        (
            "virtflow::phase: phase=\"sent\" vm_id=0192-cd name=vm-3",
            Phase::Sent,
            "vm-3",
        ),
    ] {
        let expected = Line {
            phase,
            whose: whose.to_owned(),
        };
        assert_eq!(parse(&format!("{time} {line}")), Some(expected));
    }
    assert_eq!(parse("INFO virtflow_raft: leader"), None);
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn a_killed_leader_costs_nothing_that_was_acknowledged() -> Result<()> {
    let environment = BTreeMap::from([
        (
            "VIRTFLOW_CONTROLLER_LOG_LEVEL".to_owned(),
            "info,virtflow::phase=debug".to_owned(),
        ),
        ("VIRTFLOW_PHASE_PAUSE_MS".to_owned(), PAUSES.to_owned()),
    ]);
    let (folder, cloud) = support::start(Plan {
        environment,
        restart_pause: Some(Duration::from_millis(500)),
        ..Plan::default()
    })?;
    let mut hit: BTreeMap<Phase, usize> = BTreeMap::new();
    let mut acknowledged = BTreeSet::new();
    for round in 1..=ROUNDS_MAX {
        let missing = Phase::ALL
            .into_iter()
            .find(|phase| !hit.contains_key(phase));
        if round > ROUNDS && missing.is_none() {
            break;
        }
        let aim = match missing {
            // Half of them are left to chance; so are all once each phase has been hit.
            Some(phase) if round.is_multiple_of(2) || round > ROUNDS => Aim::At(phase),
            _ => Aim::After(KILL_WITHIN.mul_f64(rand::rng().random())),
        };
        let phase = one_round(&cloud, round, aim, &mut acknowledged).with_context(|| {
            format!(
                "round {round}, {aim:?}; logs in {}",
                folder.path().display()
            )
        })?;
        *hit.entry(phase).or_default() += 1;
    }
    println!("phases hit: {hit:?}");
    for phase in Phase::ALL {
        ensure!(hit.contains_key(&phase), "{phase:?} was never hit: {hit:?}");
    }
    for name in cloud.place.controllers() {
        let address = cloud.address(&name)?;
        for operation in &acknowledged {
            let answer = cloud
                .api
                .get(address, &format!("/operations/{operation}"))?;
            ensure!(
                text(answer.data()?, "/id")? == operation,
                "{name} lost operation {operation}: {answer:?}"
            );
        }
    }
    println!(
        "{} acknowledged operations read back from each controller",
        acknowledged.len()
    );
    support::end(folder, cloud)
}

fn one_round(
    cloud: &Cloud,
    round: usize,
    aim: Aim,
    acknowledged: &mut BTreeSet<String>,
) -> Result<Phase> {
    let leader = cloud.leader()?;
    let followers = cloud.followers()?;
    // Alternately asked of the leader itself and of one that passes it on.
    let asked = if round.is_multiple_of(2) {
        &leader
    } else {
        &followers[0]
    };
    wait_quiet(&cloud.place.log(&leader)?)?;

    let name = format!("vm-{round}");
    let key = format!("Idempotency-Key: {}", Uuid::new_v4());
    let body = Cloud::create_vm_body(&name);
    let process = cloud.place.node(&leader)?.service_process(CONTROLLER)?;
    let watch = Watch {
        leader: LogTail::from_now(cloud.place.log(&leader)?),
        all: cloud
            .place
            .controllers()
            .iter()
            .map(|name| Ok(LogTail::from_now(cloud.place.log(name)?)))
            .collect::<Result<_>>()?,
        vm: name.clone(),
    };
    let start = Instant::now();
    let request = cloud
        .api
        .begin(cloud.address(asked)?, "POST", "/vms", &[&key], Some(&body))?;
    match aim {
        Aim::After(delay) => std::thread::sleep(delay),
        Aim::At(phase) => wait_for(&watch, phase)?,
    }
    process.kill()?;
    let killed_after = start.elapsed();
    let outcome = outcome_of(&Api::finish(request)?)?;
    let phase = watch.reached().unwrap_or(Phase::BeforeAppend);
    println!(
        "round {round:2}: {leader} killed {:3} ms after the request to {asked} ({aim:?}); phase: {phase:?}; outcome: {outcome:?}",
        killed_after.as_millis()
    );

    let again = poll::until("the repeated request", REPEAT_TIMEOUT, || {
        let answer = cloud.api.request(
            cloud.address(&followers[1])?,
            "POST",
            "/vms",
            &[&key],
            Some(&body),
        )?;
        match answer.http_status {
            0 | 503 | 429 => Ok(None),
            _ => answer.data().cloned().map(Some),
        }
    })?;
    let id = text(&again, "/object/id")?.to_owned();
    if let Outcome::Created { id: first, .. } = &outcome {
        ensure!(*first == id, "acknowledged as {first}, repeated as {id}");
    }
    acknowledged.insert(text(&again, "/operation/id")?.to_owned());

    exactly_one(cloud, &followers[1], &name, &id)?;
    cloud.place.wait_ready(&leader)?;
    cloud.wait_caught_up(&leader, CATCH_UP_TIMEOUT)?;
    for controller in cloud.place.controllers() {
        let answer = cloud
            .api
            .get(cloud.address(&controller)?, &format!("/vms/{id}"))?;
        ensure!(
            text(answer.data()?, "/id")? == id,
            "{controller} does not know {id}"
        );
    }
    cloud
        .operator
        .json(&["vm", "delete", &name, "--tenant", TENANT, "--wait"])?;
    Ok(phase)
}

/// One VM of that name, one domain, and what one VM is charged for.
fn exactly_one(cloud: &Cloud, controller: &str, name: &str, id: &str) -> Result<()> {
    let address = cloud.address(controller)?;
    cloud.wait_phase(address, id, "running")?;
    let vms = cloud
        .api
        .get(address, &format!("/vms?tenant={TENANT}&name={name}"))?;
    ensure!(
        list(vms.data()?)?.len() == 1,
        "there should be one {name}: {}",
        vms.body
    );
    let mut domains = Vec::new();
    for host in cloud.place.hosts() {
        let uuids = cloud
            .place
            .node(&host)?
            .virsh(&["list", "--all", "--uuid"])?;
        domains.extend(uuids.split_whitespace().map(str::to_owned));
    }
    ensure!(domains == [id], "domains: {domains:?}, expected {id}");
    let usage = cloud.tenant_usage(address)?;
    let expected = BTreeMap::from(
        [
            ("cpu_cores", 1),
            ("memory_mib", SMALL_MEMORY_MIB),
            ("storage_gib", 1),
            ("vms", 1),
        ]
        .map(|(dimension, used)| (dimension.to_owned(), used)),
    );
    ensure!(usage == expected, "charged: {usage:?}");
    let capacity = cloud.api.get(address, "/capacity")?;
    let allocated = &capacity.data()?["groups"][0]["allocated"]["memory_mib"];
    ensure!(
        allocated.as_u64() == Some(SMALL_MEMORY_MIB),
        "the hosts are charged {allocated} MiB"
    );
    Ok(())
}

fn outcome_of(answer: &Answer) -> Result<Outcome> {
    Ok(match answer.http_status {
        202 => Outcome::Created {
            id: text(answer.data()?, "/object/id")?.to_owned(),
            operation: text(answer.data()?, "/operation/id")?.to_owned(),
        },
        // The connection died with the leader.
        0 => Outcome::Unknown,
        503 if answer.code() == "outcome_unknown" => Outcome::Unknown,
        503 if answer.code() == "unavailable" => Outcome::Refused(answer.code().to_owned()),
        _ => bail!("neither created, refused nor unknown: {answer:?}"),
    })
}

/// Waits until nothing is being written, so that the next phase in the log is the request's.
fn wait_quiet(log: &Path) -> Result<()> {
    let mut since = LogTail::from_now(log.to_owned());
    let mut start = Instant::now();
    poll::until("a quiet cluster", Duration::from_secs(20), || {
        if !since.lines().is_empty() {
            since = LogTail::from_now(log.to_owned());
            start = Instant::now();
        }
        Ok((start.elapsed() >= QUIET).then_some(()))
    })
}

/// Waits until the request is in `phase`, or beyond it, hardly resting.
fn wait_for(watch: &Watch, phase: Phase) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if watch.reached().is_some_and(|reached| reached >= phase) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!(
        "the request did not reach {phase:?}, only {:?}",
        watch.reached()
    )
}
