//! Who belongs to the group, and who may lead it: a learner that is promoted and removed, a leader whose
//! clock is off.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use virtflow_testkit::cloud::json::{list, text};
use virtflow_testkit::cloud::{CONTROLLER, Cloud, Hypervisor, Plan};
use virtflow_testkit::poll;

use crate::support;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian puts the library that shows a program another time of day.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

fn plan() -> Plan {
    Plan {
        hosts: 1,
        hypervisor: Hypervisor::Simulated,
        ..Plan::default()
    }
}

/// The role of a controller in the group; `None` if it has none.
fn role_of(cloud: &Cloud, name: &str) -> Result<Option<String>> {
    let controllers = cloud.operator.json(&["controller", "list"])?;
    Ok(list(&controllers)?
        .iter()
        .find(|controller| controller["name"] == name)
        .and_then(|controller| controller["member"]["role"].as_str())
        .map(str::to_owned))
}

fn wait_role(cloud: &Cloud, name: &str, role: Option<&str>) -> Result<()> {
    poll::until(format_args!("{name} to be {role:?}"), PATIENCE, || {
        Ok((role_of(cloud, name)?.as_deref() == role).then_some(()))
    })
}

fn write(cloud: &Cloud, by: &str, name: &str) -> Result<u16> {
    let body = json!({"name": name, "spec": {"data_center": "attic"}});
    let address = cloud.address(by)?;
    let answer = cloud
        .api
        .request(address, "POST", "/racks", &[], Some(&body))?;
    Ok(answer.http_status)
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_learner_learns_votes_when_promoted_and_goes_when_removed() -> Result<()> {
    let (folder, mut cloud) = support::start(plan())?;
    cloud.place.add_controller("c4")?;
    cloud.place.join_with(
        "c4",
        &cloud.operator,
        &cloud.cluster,
        &["controller", "add", "c4"],
        &["--learner"],
    )?;
    wait_role(&cloud, "c4", Some("learner"))?;
    cloud.wait_caught_up("c4", PATIENCE)?;
    ensure!(write(&cloud, "c4", "asked-of-the-learner")? == 201);
    ensure!(cloud.members_with_role("voter")? == 3);

    // Two of three voters are down: the learner's copy is worth no vote.
    let leader = cloud.leader()?;
    let followers = cloud.followers()?;
    for name in &followers {
        cloud.place.stop(name)?;
    }
    ensure!(write(&cloud, &leader, "without-a-quorum")? == 503);
    for name in &followers {
        cloud.place.start(name)?;
    }
    for name in &followers {
        cloud.place.wait_ready(name)?;
    }
    cloud.wait_caught_up("c4", PATIENCE)?;

    cloud.operator.json(&["controller", "promote", "c4"])?;
    wait_role(&cloud, "c4", Some("voter"))?;
    ensure!(cloud.members_with_role("voter")? == 4);
    // Now one of the others may be down, and one more vote than before is needed and there.
    let away = cloud.followers()?.remove(0);
    cloud.place.stop(&away)?;
    poll::until("a write by three of four", PATIENCE, || {
        let leader = cloud.leader()?;
        Ok((write(&cloud, &leader, "three-of-four")? == 201).then_some(()))
    })?;
    cloud.place.start(&away)?;
    cloud.place.wait_ready(&away)?;

    cloud.operator.json(&["controller", "remove", "c4"])?;
    wait_role(&cloud, "c4", None)?;
    cloud.wait_voters(3)?;
    // What it still has of the cluster opens nothing.
    let refused = poll::until("the removed one to answer for itself", PATIENCE, || {
        let status = write(&cloud, "c4", "by-the-removed")?;
        Ok((status != 201).then_some(status))
    })?;
    println!("a removed controller answers {refused}");
    let names = cloud.operator.json(&["rack", "list"])?;
    let names = names.to_string();
    for (name, there) in [
        ("asked-of-the-learner", true),
        ("three-of-four", true),
        ("by-the-removed", false),
    ] {
        ensure!(names.contains(name) == there, "{name}: {names}");
    }
    let unknown = cloud.operator.json(&["controller", "promote", "c9"]);
    ensure!(unknown.is_err(), "{unknown:?}");
    support::end(folder, cloud)
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_leader_whose_clock_is_off_hands_over() -> Result<()> {
    // The first controller leads at first; its time of day is behind, its other clocks are right.
    let off = [
        ("LD_PRELOAD", FAKETIME),
        ("FAKETIME", "-5s"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let off: BTreeMap<String, String> = off
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    ensure!(
        fs::exists(FAKETIME)?,
        "{FAKETIME} is missing: install libfaketime"
    );
    let (folder, cloud) = support::start(Plan {
        own_environment: BTreeMap::from([("c1".to_owned(), off)]),
        ..plan()
    })?;
    poll::until("another leader", PATIENCE, || {
        Ok((cloud.leader()? != "c1").then_some(()))
    })?;
    let log = fs::read_to_string(cloud.place.log("c1")?)?;
    ensure!(
        log.contains("this clock is off the voters' median; handing over the lead"),
        "{log}"
    );
    // It goes on as a follower, and nobody went down.
    let status = cloud.place.status("c1")?;
    let offset = status["clock_offset_ms"].as_i64().context("no offset")?;
    ensure!((-5500..=-4500).contains(&offset), "{status}");
    ensure!(write(&cloud, "c1", "by-the-follower")? == 201);
    for name in cloud.place.controllers() {
        let service = cloud.place.node(&name)?.service(CONTROLLER)?;
        ensure!(service.starts == 1, "{name} went down: {service:?}");
        cloud.wait_caught_up(&name, PATIENCE)?;
    }
    let host: Value = cloud.wait_liveness("h1", "online")?;
    ensure!(text(&host, "/name")? == "h1", "{host}");
    support::end(folder, cloud)
}
