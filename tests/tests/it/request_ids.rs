//! One id follows a request through every log on its way: the controllers that handled it, the one that sent the order,
//! the agent that got it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use virtflow_testkit::cloud::json::{list, text};
use virtflow_testkit::cloud::{Cloud, Hypervisor, Plan};
use virtflow_testkit::poll;

use crate::support;

const LOGGED_TIMEOUT: Duration = Duration::from_secs(30);

/// The lines of these machines' logs that have all of these words.
fn lines(cloud: &Cloud, names: &[String], words: &[&str]) -> Result<usize> {
    let mut found = 0;
    for name in names {
        let log = fs::read_to_string(cloud.place.log(name)?)?;
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        found += log.lines().filter(has).count();
    }
    Ok(found)
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_requests_id_is_in_the_logs_from_the_first_controller_to_the_agent() -> Result<()> {
    let (folder, cloud) = support::start(Plan {
        hosts: 1,
        hypervisor: Hypervisor::Simulated,
        ..Plan::default()
    })?;
    // Asked of one that does not lead, which passes it on.
    let follower = cloud.followers()?.remove(0);
    let body = Cloud::create_vm_body("web");
    let address = cloud.address(&follower)?;
    let made = cloud
        .api
        .request(address, "POST", "/vms", &[], Some(&body))?;
    made.data()?;
    let request_id = text(&made.body, "/meta/request_id")?;

    let operations = cloud.operator.json(&["operation", "list"])?;
    let kept = |row: &&serde_json::Value| row["status"]["request_id"] == request_id;
    let operation = list(&operations)?.iter().find(kept);
    operation.with_context(|| format!("no operation of {request_id}: {operations}"))?;

    let controllers = cloud.place.controllers();
    let hosts = cloud.place.hosts();
    for (names, words, what) in [
        (&controllers, ["virtflow::access", "POST"], "the request"),
        (&controllers, ["an order was sent", "h"], "the order"),
        (&hosts, ["an order came", "vm="], "its arrival"),
    ] {
        let words = [words[0], words[1], request_id];
        let least = if what == "the request" { 2 } else { 1 };
        poll::until(format_args!("{what} to be logged"), LOGGED_TIMEOUT, || {
            Ok((lines(&cloud, names, &words)? >= least).then_some(()))
        })?;
    }
    ensure!(
        lines(&cloud, &hosts, &["an order came", request_id])? == 1,
        "it came once"
    );
    support::end(folder, cloud)
}
