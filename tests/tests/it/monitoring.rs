//! A real Prometheus beside a whole cluster, with the configuration and the alert rules that are shipped: it finds who
//! is there, reads them over TLS, and tells when a host dies and when it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use virtflow_testkit::cloud::json::{list, text};
use virtflow_testkit::cloud::{AGENT, Cloud, Hypervisor, Plan};
use virtflow_testkit::command::{output_of, system};
use virtflow_testkit::poll;
use virtflow_testkit::prometheus::{self, Prometheus};
use virtflow_testkit::rig::control::Service;

use crate::support;

/// What is shipped.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/monitoring");
/// Where Debian's package is kept between runs.
const PROGRAMS: &str = "/var/tmp/virtflow-prometheus";
const MONITORING_TOKEN: &str = "what-monitoring-sends-to-all-of-them";
/// How long a change may take until Prometheus has seen it: a lease of 10 s, then some rounds of 1 s.
const SEEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an alert's reason must last here. Shipped are up to ten minutes, which no test waits for; promtool goes
/// through those in a time of its own.
const FOR: &str = "2s";

/// The programs, as promtool sees what is shipped: rules that parse, and hold what their own tests say.
#[test]
#[ignore = "downloads a Debian package; run by `cargo xtask ci`"]
fn promtool_finds_no_fault_with_the_shipped_rules() -> Result<()> {
    let programs = prometheus::fetch(Path::new(PROGRAMS))?;
    for arguments in [
        ["check", "rules", "virtflow.rules.yml"],
        ["test", "rules", "virtflow.rules.test.yml"],
    ] {
        let mut command = system(&programs.tool);
        println!(
            "{}",
            output_of(command.args(arguments).current_dir(SHIPPED))?
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn prometheus_finds_all_there_are_and_tells_of_a_host_that_dies_and_comes_back() -> Result<()> {
    let programs = prometheus::fetch(Path::new(PROGRAMS))?;
    let (folder, mut cloud) = support::start(Plan {
        hosts: 2,
        hypervisor: Hypervisor::Simulated,
        ..Plan::default()
    })?;
    let before = cloud
        .api
        .get(cloud.address("c1")?, "/discovery/prometheus")?;
    ensure!(
        before.body == Value::Array(Vec::new()),
        "who listens on the loopback only is no target: {before:?}"
    );
    open_to_monitoring(&mut cloud)?;
    start_prometheus(&cloud, &folder, &programs)?;

    let expected: BTreeMap<String, [&str; 3]> = [
        (
            "10.86.0.11:9440",
            ["virtflow-controller", "controller", "c1"],
        ),
        (
            "10.86.0.12:9440",
            ["virtflow-controller", "controller", "c2"],
        ),
        (
            "10.86.0.13:9440",
            ["virtflow-controller", "controller", "c3"],
        ),
        ("10.86.0.21:9441", ["virtflow-agent", "host", "h1"]),
        ("10.86.0.22:9441", ["virtflow-agent", "host", "h2"]),
    ]
    .map(|(address, labels)| (address.to_owned(), labels))
    .into();
    wait_targets(&cloud, &expected, &[])?;
    let loaded = loaded_rules(&cloud)?;
    ensure!(loaded == shipped_alerts()?, "loaded were {loaded:?}");
    let quiet = |alert: &str| wait_alert(&cloud, alert, false);
    for alert in [
        "VirtFlowHostOffline",
        "VirtFlowAgentDown",
        "VirtFlowControllerDown",
        "VirtFlowNoLeader",
    ] {
        quiet(alert)?;
    }

    // The agent of a host dies, and nothing starts it again.
    let node = cloud.place.node("h1")?;
    node.set_restart(AGENT, None)?;
    node.service_process(AGENT)?.kill()?;
    wait_alert(&cloud, "VirtFlowHostOffline", true)?;
    wait_alert(&cloud, "VirtFlowAgentDown", true)?;
    // It is still a target: an alert is about who is silent.
    wait_targets(&cloud, &expected, &["10.86.0.21:9441"])?;

    cloud.place.start("h1")?;
    for alert in ["VirtFlowHostOffline", "VirtFlowAgentDown"] {
        quiet(alert)?;
    }
    wait_targets(&cloud, &expected, &[])?;
    support::end(folder, cloud)
}

/// Lets all daemons tell their numbers to the network, as an operator would: one after the other is started again.
fn open_to_monitoring(cloud: &mut Cloud) -> Result<()> {
    let token = cloud.place.rig.directory().join("monitoring.token");
    fs::write(&token, MONITORING_TOKEN)?;
    let token = token.to_string_lossy().into_owned();
    let names = [cloud.place.controllers(), cloud.place.hosts()].concat();
    for name in &names {
        let (daemon, port) = match name.starts_with('c') {
            true => ("CONTROLLER", 9440),
            false => ("AGENT", 9441),
        };
        let listen = format!("{}:{port}", cloud.address(name)?);
        for (key, value) in [("LISTEN", &listen), ("TOKEN_FILE", &token)] {
            let section = match (daemon, key) {
                ("CONTROLLER", "LISTEN") => "LISTEN_STATUS".to_owned(),
                _ => format!("STATUS_{key}"),
            };
            let variable = format!("VIRTFLOW_{daemon}_{section}");
            cloud.place.set_environment(name, &variable, value);
        }
        cloud.place.stop(name)?;
        cloud.place.start(name)?;
        poll::until(
            format_args!("{name} to tell its numbers"),
            SEEN_TIMEOUT,
            || Ok(is_ready(cloud, &listen)?.then_some(())),
        )?;
    }
    Ok(())
}

/// Whether a daemon that listens to the network says that it can do its work; names are none of this.
fn is_ready(cloud: &Cloud, address: &str) -> Result<bool> {
    let header = format!("Authorization: Bearer {MONITORING_TOKEN}");
    let url = format!("https://{address}/readyz");
    let mut curl = cloud.place.rig.lan().command("curl");
    curl.args(["--silent", "--insecure", "--fail", "--max-time", "5"]);
    Ok(output_of(curl.args(["--header", &header, &url])).is_ok())
}

/// Runs Prometheus at the operator's place, with the shipped configuration in this place's words and in a hurry.
fn start_prometheus(cloud: &Cloud, folder: &TempDir, programs: &Prometheus) -> Result<()> {
    let home = folder.path().join("prometheus");
    fs::create_dir_all(&home)?;
    let rules = fs::read_to_string(format!("{SHIPPED}/virtflow.rules.yml"))?;
    fs::write(home.join("virtflow.rules.yml"), in_a_hurry(&rules)?)?;
    fs::write(home.join("virtflow-monitoring.token"), MONITORING_TOKEN)?;
    fs::write(home.join("virtflow-api.token"), token_to_read_hosts(cloud)?)?;
    fs::copy(cloud.api.ca(), home.join("virtflow-ca.pem"))?;
    let shipped = fs::read_to_string(format!("{SHIPPED}/prometheus.example.yml"))?;
    let configuration = shipped
        .replace("/usr/share/doc/virtflow-controller/", "")
        .replace("/etc/prometheus/", "")
        .replace("c1.example.org", &cloud.address("c1")?.to_string())
        .replace("c2.example.org", &cloud.address("c2")?.to_string())
        .replace("interval: 15s", "interval: 1s")
        .replace("interval: 60s", "interval: 1s");
    let file = home.join("prometheus.yml");
    fs::write(&file, configuration)?;
    output_of(system(&programs.tool).args(["check", "config"]).arg(&file))?;
    cloud.place.rig.lan().start_service(Service {
        name: "prometheus".to_owned(),
        argv: vec![
            programs.server.to_string_lossy().into_owned(),
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", home.join("data").display()),
            "--web.listen-address=127.0.0.1:9090".to_owned(),
        ],
        environment: BTreeMap::new(),
        log: home.join("log"),
        restart_after_ms: None,
    })
}

/// The rules with the same conditions, each of which has to last for a moment only.
fn in_a_hurry(rules: &str) -> Result<String> {
    let mut lines = Vec::new();
    let mut shortened = 0;
    for line in rules.lines() {
        match line.split_once("for: ") {
            Some((before, _)) if before.trim().is_empty() => {
                lines.push(format!("{before}for: {FOR}"));
                shortened += 1;
            }
            _ => lines.push(line.to_owned()),
        }
    }
    ensure!(shortened > 5, "the rules do not look as expected");
    Ok(lines.join("\n"))
}

/// An API token of a user who sees all, narrowed to what Prometheus is to read.
fn token_to_read_hosts(cloud: &Cloud) -> Result<String> {
    let password = cloud
        .operator
        .secret("prometheus-password", "never-logged-in-with-it")?;
    let password = password.to_string_lossy();
    for arguments in [
        &["user", "create", "prometheus", "--password-file", &password][..],
        &[
            "role-binding",
            "create",
            "--user",
            "prometheus",
            "--role",
            "viewer",
        ],
    ] {
        cloud.operator.json(arguments)?;
    }
    let made = cloud.operator.json(&[
        "token",
        "create",
        "scrape",
        "--user",
        "prometheus",
        "--permission",
        "baremetal.read",
    ])?;
    Ok(text(&made, "/token")?.to_owned())
}

/// What Prometheus answers under `/api/v1`.
fn ask(cloud: &Cloud, path: &str) -> Result<Value> {
    let url = format!("http://127.0.0.1:9090/api/v1/{path}");
    let arguments = ["--silent", "--show-error", "--max-time", "5", &url];
    let answer = cloud.place.rig.lan().call("curl", &arguments)?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    ensure!(answer["status"] == "success", "{path}: {answer}");
    Ok(answer["data"].clone())
}

/// Waits until Prometheus has these targets and no others, all up but those that are `down`.
fn wait_targets(
    cloud: &Cloud,
    expected: &BTreeMap<String, [&str; 3]>,
    down: &[&str],
) -> Result<()> {
    let mut last = Value::Null;
    let seen = poll::until("the targets", SEEN_TIMEOUT, || {
        let Ok(targets) = ask(cloud, "targets") else {
            return Ok(None);
        };
        last = targets["activeTargets"].clone();
        let told = list(&last)?;
        let as_expected = told.iter().all(|target| is_as(target, expected, down));
        let none_dropped = list(&targets["droppedTargets"])?.is_empty();
        Ok((told.len() == expected.len() && as_expected && none_dropped).then_some(()))
    });
    seen.with_context(|| format!("last seen: {last:#}"))
}

fn is_as(target: &Value, expected: &BTreeMap<String, [&str; 3]>, down: &[&str]) -> bool {
    let labels = &target["labels"];
    let address = labels["instance"].as_str().unwrap_or_default();
    let Some([job, label, name]) = expected.get(address) else {
        return false;
    };
    let role = job.trim_start_matches("virtflow-");
    let health = if down.contains(&address) {
        "down"
    } else {
        "up"
    };
    labels["job"] == *job
        && labels[label] == *name
        && labels["role"] == role
        && target["health"] == health
}

/// The names of the alerts that Prometheus evaluates without a complaint.
fn loaded_rules(cloud: &Cloud) -> Result<BTreeSet<String>> {
    poll::until("all rules to be evaluated", SEEN_TIMEOUT, || {
        let rules = ask(cloud, "rules")?;
        let rules = list(&rules["groups"][0]["rules"])?.to_vec();
        let is_fine = |rule: &Value| rule["health"] == "ok";
        let names = rules.iter().map(|rule| Ok(text(rule, "/name")?.to_owned()));
        match rules.iter().all(is_fine) {
            true => names.collect::<Result<_>>().map(Some),
            false => Ok(None),
        }
    })
}

fn shipped_alerts() -> Result<BTreeSet<String>> {
    let rules = fs::read_to_string(format!("{SHIPPED}/virtflow.rules.yml"))?;
    let names = rules
        .lines()
        .filter_map(|line| line.split_once("- alert: "));
    Ok(names.map(|(_, name)| name.trim().to_owned()).collect())
}

/// Waits until an alert fires, or does no longer.
fn wait_alert(cloud: &Cloud, name: &str, fires: bool) -> Result<()> {
    let mut last = Value::Null;
    let what = format!("{name} {}", if fires { "to fire" } else { "to be quiet" });
    let seen = poll::until(what, SEEN_TIMEOUT, || {
        last = ask(cloud, "alerts")?["alerts"].clone();
        let is_firing = list(&last)?
            .iter()
            .any(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing");
        Ok((is_firing == fires).then_some(()))
    });
    seen.with_context(|| format!("last seen: {last:#}"))
}
