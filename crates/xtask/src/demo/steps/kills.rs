//! What happens when processes are killed with SIGKILL: a controller, an agent, a QEMU.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use uuid::Uuid;
use virtflow_testkit::cloud::json::{list, number, phase_of, status, text};
use virtflow_testkit::cloud::{AGENT, CONTROLLER};
use virtflow_testkit::command::printed;
use virtflow_testkit::poll;
use virtflow_testkit::rig::is_alive;

use super::people::SMALL;
use super::{Demo, RUNNING_TIMEOUT, guests};
use crate::demo::report::Report;

/// The virtual machine that is being created when the leader dies.
pub(crate) const MEANWHILE: &str = "db-1";

/// Between the request and the kill: long enough for the request to have begun, too short for the
/// guest to run.
const KILL_DELAY: Duration = Duration::from_millis(30);

const ELECTION_TIMEOUT: Duration = Duration::from_secs(15);
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Within which time the end of a QEMU is to be known.
const FAILURE_SEEN_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn leader(demo: &Demo, report: &Report) -> Result<()> {
    let before = leader_name(demo)?;
    let node = demo.place.node(&before)?;
    let process = node.service_process(CONTROLLER)?;
    let known = ids(demo)?;

    // The key makes it one request, however often it is sent.
    let key = Uuid::new_v4().to_string();
    let arguments = [
        "vm",
        "create",
        MEANWHILE,
        "--spec",
        SMALL.0,
        "--no-wait",
        "--idempotency-key",
        &key,
    ];
    report.line(demo.user.shown(&arguments));
    let request = demo.user.begin(&arguments)?;
    std::thread::sleep(KILL_DELAY);
    process.kill()?;
    let killed_at = Instant::now();
    report.line(format_args!(
        "killed {before}, the leader (process {} on the machine)",
        process.pid
    ));

    let output = request.wait_with_output()?;
    if output.status.success() {
        report.line("the request was answered all the same");
    } else {
        report.line(format_args!(
            "the request ended with: {}",
            printed(&output).lines().next().unwrap_or_default()
        ));
        report.line("it is repeated under its key");
        poll::until("the repeated request", ELECTION_TIMEOUT, || {
            Ok(demo.user.json(&arguments).ok())
        })?;
    }
    let after = poll::until("a new leader", ELECTION_TIMEOUT, || {
        Ok(leader_name(demo).ok().filter(|name| *name != before))
    })?;
    report.line(format_args!(
        "{after} leads, known {:.1} s after the kill",
        killed_at.elapsed().as_secs_f32()
    ));
    report.quote(&demo.user_status()?);

    let vm = demo.wait_phase(MEANWHILE, "running", RUNNING_TIMEOUT)?;
    ensure!(
        demo.qemu(&vm)?.is_some(),
        "{MEANWHILE} counts as running without a QEMU"
    );
    report.line(format_args!("{MEANWHILE} runs"));
    let now = ids(demo)?;
    ensure!(
        known.iter().all(|id| now.contains(id)) && now.len() == known.len() + 1,
        "acknowledged before: {known:?}, there now: {now:?}"
    );
    guests::all_running(demo, &["web-1", "web-2", "web-3"])?;

    let caught_up = poll::until(
        format_args!("{before} to catch up"),
        CATCH_UP_TIMEOUT,
        || caught_up(demo, &before, &after),
    )?;
    ensure!(
        demo.place.node(&before)?.service(CONTROLLER)?.starts == 2,
        "{before} was not started exactly once more"
    );
    report.line(format_args!(
        "{before} is back as a follower, with everything up to {caught_up}"
    ));
    let api = demo.user_api("reader")?;
    for name in demo.place.controllers() {
        let address = demo.place.node(&name)?.address();
        for id in &now {
            let answer = api.get(address, &format!("/vms/{id}"))?;
            ensure!(
                text(answer.data()?, "/id")? == id,
                "{name} does not know VM {id}: {answer:?}"
            );
        }
    }
    report.line(format_args!(
        "each of the {} acknowledged VMs reads back from each controller",
        now.len()
    ));
    Ok(())
}

pub(crate) fn agent(demo: &Demo, report: &Report) -> Result<()> {
    let vm = demo.vm("web-1")?;
    let (host, qemu) = demo.qemu(&vm)?.context("web-1 has no QEMU")?;
    let node = demo.place.node(&host)?;
    let agent = node.service_process(AGENT)?;
    agent.kill()?;
    report.line(format_args!(
        "killed the agent on {host} (process {})",
        agent.pid
    ));
    poll::until("the agent to be back in session", ADOPTION_TIMEOUT, || {
        let back = node.service(AGENT)?.starts >= 2;
        let connected = demo
            .place
            .status(&host)
            .is_ok_and(|status| status["ready"] == Value::Bool(true));
        Ok((back && connected).then_some(()))
    })?;
    let vm = demo.wait_phase("web-1", "running", ADOPTION_TIMEOUT)?;
    let (_, adopted) = demo.qemu(&vm)?.context("web-1 lost its QEMU")?;
    ensure!(
        adopted.pid == qemu.pid,
        "web-1 ran as process {}, now as {}",
        qemu.pid,
        adopted.pid
    );
    ensure!(
        number(status(&vm), "/restarts")? == 0,
        "web-1 was restarted: {vm}"
    );
    report.line(format_args!(
        "it is back and has adopted web-1: same QEMU, process {}",
        adopted.pid
    ));
    Ok(())
}

pub(crate) fn qemu(demo: &Demo, report: &Report) -> Result<()> {
    // One that is to be started again, one that is not.
    let vm = demo.vm("web-1")?;
    let (_, first) = demo.qemu(&vm)?.context("web-1 has no QEMU")?;
    let start = Instant::now();
    first.kill()?;
    let again = poll::until("web-1 to run again", RUNNING_TIMEOUT, || {
        let vm = demo.vm("web-1")?;
        let restarted = number(status(&vm), "/restarts")? == 1 && phase_of(&vm)? == "running";
        Ok(if restarted { demo.qemu(&vm)? } else { None })
    })?;
    ensure!(
        again.1.pid != first.pid && !is_alive(first.pid),
        "web-1 runs as the process that was killed"
    );
    report.line(format_args!(
        "killed the QEMU of web-1 (restart: always): runs again after {:.1} s",
        start.elapsed().as_secs_f32()
    ));

    let vm = demo.vm("web-2")?;
    let (_, process) = demo.qemu(&vm)?.context("web-2 has no QEMU")?;
    let start = Instant::now();
    process.kill()?;
    let failed = demo.wait_phase("web-2", "error", FAILURE_SEEN_LIMIT)?;
    report.line(format_args!(
        "killed the QEMU of web-2 (restart: never): seen as failed after {:.1} s, `{}`",
        start.elapsed().as_secs_f32(),
        text(status(&failed), "/reason")?
    ));
    if demo.qemu(&failed)?.is_some() {
        bail!("web-2 was started again without being asked");
    }
    demo.user.json(&["vm", "start", "web-2"])?;
    demo.wait_phase("web-2", "running", RUNNING_TIMEOUT)?;
    report.line("started again when asked");
    Ok(())
}

impl Demo {
    fn user_status(&self) -> Result<String> {
        self.operator.text(&["status"])
    }
}

fn leader_name(demo: &Demo) -> Result<String> {
    let status = demo.operator.json(&["status"])?;
    Ok(text(&status, "/leader")?.to_owned())
}

/// The ids of all the user's virtual machines.
fn ids(demo: &Demo) -> Result<Vec<String>> {
    let vms = demo.user.json(&["vm", "list"])?;
    list(&vms)?
        .iter()
        .map(|vm| Ok(text(vm, "/id")?.to_owned()))
        .collect()
}

/// The index up to which a controller has applied, once that is no less than the leader's and both
/// then hold the same.
fn caught_up(demo: &Demo, name: &str, leader: &str) -> Result<Option<u64>> {
    // Until it answers again there is nothing to compare.
    let Ok(status) = demo.place.status(name) else {
        return Ok(None);
    };
    let leader = demo.place.status(leader)?;
    let (mine, leaders) = (
        number(&status, "/applied_index")?,
        number(&leader, "/applied_index")?,
    );
    if mine != leaders {
        return Ok(None);
    }
    ensure!(
        text(&status, "/digest")? == text(&leader, "/digest")?,
        "{name} differs from the leader at the same index: {status} against {leader}"
    );
    Ok(Some(mine))
}
