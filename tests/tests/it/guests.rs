//! Real guests of a real libvirtd, under everything that can happen to a host: its agent forgets, its
//! libvirtd dies, its cable is pulled, its plug too.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use virtflow_testkit::cloud::json::{number, status, text};
use virtflow_testkit::cloud::{AGENT, Cloud, Plan, SPECIFICATION, TENANT};
use virtflow_testkit::command::{printed, run};
use virtflow_testkit::poll;
use virtflow_testkit::rig::{Process, hypervisor, is_alive, lan};

use crate::support;

const HOST: &str = "h1";
const RUNNING_TIMEOUT: Duration = Duration::from_secs(60);
const GONE_TIMEOUT: Duration = Duration::from_secs(30);

fn plan() -> Plan {
    Plan {
        controllers: 1,
        hosts: 1,
        ..Plan::default()
    }
}

/// Makes a VM and waits until it runs; returns its id and its QEMU.
fn make(cloud: &Cloud, name: &str, restart: &str) -> Result<(String, Process)> {
    cloud.operator.json(&[
        "vm",
        "create",
        name,
        "--tenant",
        TENANT,
        "--spec",
        SPECIFICATION,
        "--restart",
        restart,
        "--wait",
    ])?;
    let vm = cloud
        .operator
        .json(&["vm", "get", name, "--tenant", TENANT])?;
    let id = text(&vm, "/id")?.to_owned();
    let qemu = qemu(cloud, &id)?.context("it runs, but there is no QEMU")?;
    Ok((id, qemu))
}

fn qemu(cloud: &Cloud, id: &str) -> Result<Option<Process>> {
    cloud.place.node(HOST)?.qemu_mentioning(id)
}

fn act(cloud: &Cloud, verb: &str, name: &str) -> Result<()> {
    cloud
        .operator
        .json(&["vm", verb, name, "--tenant", TENANT, "--wait"])?;
    Ok(())
}

/// How often the guest has said that it is up.
fn boots(cloud: &Cloud, name: &str) -> Result<usize> {
    let log = cloud
        .operator
        .text(&["vm", "console", name, "--tenant", TENANT, "--log"])?;
    Ok(log.matches(": up, Linux ").count())
}

fn wait_boots(cloud: &Cloud, name: &str, at_least: usize) -> Result<()> {
    poll::until(
        format_args!("{name} to have booted {at_least} times"),
        RUNNING_TIMEOUT,
        || Ok((boots(cloud, name)? >= at_least).then_some(())),
    )
}

fn wait_phase(cloud: &Cloud, id: &str, phase: &str) -> Result<serde_json::Value> {
    cloud.wait_phase(cloud.address("c1")?, id, phase)
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn guests_do_not_notice_what_happens_around_them() -> Result<()> {
    let (folder, cloud) = support::start(plan())?;
    let node = cloud.place.node(HOST)?;
    let check = cloud.place.run(HOST, &["check"])?;
    println!("{check}");
    let (id, first) = make(&cloud, "a", "never")?;
    wait_boots(&cloud, "a", 1)?;

    // The agent forgets everything but who it is.
    support::restart_forgetful(&cloud, HOST)?;
    back_in_session(&cloud)?;
    let vm = wait_phase(&cloud, &id, "running")?;
    ensure!(number(status(&vm), "/restarts")? == 0, "{vm}");
    expect_same(&cloud, &id, &first)?;

    // libvirtd dies and comes back.
    node.service_process(hypervisor::SERVICE)?.kill()?;
    poll::until("libvirtd to come back", GONE_TIMEOUT, || {
        Ok(node.virsh(&["list"]).is_ok().then_some(()))
    })?;
    expect_same(&cloud, &id, &first)?;

    // A domain of somebody else's is nobody's business but theirs.
    let foreign = node.directory().join("foreign.xml");
    fs::write(
        &foreign,
        "<domain type='qemu'><name>foreign</name><memory unit='MiB'>64</memory>
         <os><type arch='x86_64'>hvm</type></os></domain>",
    )?;
    node.virsh(&["create", &foreign.to_string_lossy()])?;

    act(&cloud, "stop", "a")?;
    ensure!(qemu(&cloud, &id)?.is_none(), "a is stopped and still runs");
    let log = cloud
        .operator
        .text(&["vm", "console", "a", "--tenant", TENANT, "--log"])?;
    ensure!(
        log.contains("power button pressed"),
        "a was not asked to go: {log}"
    );
    let boots_before = boots(&cloud, "a")?;
    act(&cloud, "start", "a")?;
    wait_boots(&cloud, "a", boots_before + 1)?;
    act(&cloud, "reboot", "a")?;
    wait_boots(&cloud, "a", boots_before + 2)?;
    act(&cloud, "delete", "a")?;
    ensure!(
        node.virsh(&["list", "--all", "--name"])?.trim() == "foreign",
        "only the foreign domain should be left"
    );

    // Without a libvirtd the agent's check says what is wrong.
    node.stop_service(hypervisor::SERVICE, GONE_TIMEOUT)?;
    let check = run(&mut cloud.place.command(HOST, &["check"])?)?;
    let said = printed(&check).to_lowercase();
    ensure!(
        !check.status.success() && said.contains("libvirt"),
        "{said}"
    );
    support::end(folder, cloud)
}

fn back_in_session(cloud: &Cloud) -> Result<()> {
    poll::until("the agent to be ready", GONE_TIMEOUT, || {
        let status = cloud.place.status(HOST);
        Ok(status
            .is_ok_and(|status| status["ready"] == true)
            .then_some(()))
    })
}

fn expect_same(cloud: &Cloud, id: &str, first: &Process) -> Result<()> {
    let now = qemu(cloud, id)?.context("its QEMU is gone")?;
    ensure!(
        now.pid == first.pid && is_alive(first.pid),
        "its QEMU was {}, is {}",
        first.pid,
        now.pid
    );
    Ok(())
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn a_host_that_was_away_comes_back_as_it_should_be() -> Result<()> {
    let (folder, mut cloud) = support::start(plan())?;
    let (kept, kept_qemu) = make(&cloud, "kept", "always")?;
    let (deleted, _) = make(&cloud, "deleted", "never")?;

    // The cable is pulled: nothing is known of its guests, and they go on.
    let node = cloud.place.node(HOST)?;
    lan::set_connected(cloud.place.rig.lan(), node, false)?;
    cloud.wait_liveness(HOST, "offline")?;
    wait_phase(&cloud, &kept, "unknown")?;
    expect_same(&cloud, &kept, &kept_qemu)?;
    // The tenant is rid of what it deletes now; the host's share stays taken until it confirms.
    act(&cloud, "delete", "deleted")?;
    let address = cloud.address("c1")?;
    ensure!(cloud.tenant_usage(address)?["vms"] == 1);
    ensure!(
        qemu(&cloud, &deleted)?.is_some(),
        "nobody could tell the host"
    );
    ensure!(allocated_mib(&cloud)? == 256, "the host's share is gone");
    lan::set_connected(cloud.place.rig.lan(), node, true)?;
    cloud.wait_liveness(HOST, "online")?;
    poll::until("the deleted VM to be gone", GONE_TIMEOUT, || {
        Ok((qemu(&cloud, &deleted)?.is_none() && allocated_mib(&cloud)? == 128).then_some(()))
    })?;
    wait_phase(&cloud, &kept, "running")?;
    expect_same(&cloud, &kept, &kept_qemu)?;

    // The plug is pulled.
    let before = cloud.place.node(HOST)?.boot_id()?;
    cloud.place.rig.power_cycle(HOST)?;
    ensure!(!is_alive(kept_qemu.pid));
    cloud.place.start(HOST)?;
    let host = poll::until("the host's new boot id", GONE_TIMEOUT, || {
        let host = cloud.operator.json(&["host", "get", HOST])?;
        let seen = text(status(&host), "/boot_id")?.to_owned();
        let online = text(status(&host), "/liveness")? == "online";
        Ok((online && seen != before).then_some(host))
    })?;
    ensure!(text(status(&host), "/boot_id")? == cloud.place.node(HOST)?.boot_id()?);
    let again = poll::until("the VM to be started again", RUNNING_TIMEOUT, || {
        qemu(&cloud, &kept)
    })?;
    wait_phase(&cloud, &kept, "running")?;
    ensure!(again.pid != kept_qemu.pid);
    ensure!(cloud.place.node(HOST)?.service(AGENT)?.starts == 1);
    act(&cloud, "delete", "kept")?;
    ensure!(allocated_mib(&cloud)? == 0, "something is still allocated");
    support::end(folder, cloud)
}

/// What all hosts' guests are charged, in MiB.
fn allocated_mib(cloud: &Cloud) -> Result<u64> {
    let capacity = cloud.operator.json(&["capacity"])?;
    number(&capacity, "/groups/0/allocated/memory_mib")
}
