//! A rolling upgrade of a running group, its end, and what happens to an older release after it. The releases are one
//! program that is told to support another cluster version.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use virtflow_testkit::cloud::json::{list, text};
use virtflow_testkit::cloud::{Api, CONTROLLER, Cloud, Hypervisor, Plan};
use virtflow_testkit::command::run;
use virtflow_testkit::poll;

use crate::support;

const PATIENCE: Duration = Duration::from_secs(60);
/// What a controller is told to support.
const SUPPORTS: &str = "VIRTFLOW_SUPPORTS";
/// What an older release says once the cluster has left it behind.
const TOO_NEW: &str =
    "the cluster is at version 2, this controller supports 1 at most; install a release";
/// How many clients write all the time.
const WRITERS: usize = 2;

/// A client that makes tenants one after another until told to end, each at any controller that takes it.
struct Writer {
    api: Api,
    addresses: Vec<Ipv4Addr>,
    number: usize,
}

impl Writer {
    /// The names of what it made, and how often it had to ask again.
    fn write(&self, end: &AtomicBool) -> Result<(Vec<String>, usize)> {
        let (mut names, mut retries) = (Vec::new(), 0);
        while !end.load(Ordering::Relaxed) {
            let name = format!("w{}-{}", self.number, names.len());
            retries += self.make(&name, names.len())?;
            names.push(name);
        }
        Ok((names, retries))
    }

    /// Makes one; a controller that is down or without a leader is passed over, anything else is a failure.
    fn make(&self, name: &str, turn: usize) -> Result<usize> {
        let body = json!({"name": name});
        let key = format!("Idempotency-Key: {name}");
        let mut retries = 0;
        let mut addresses = self.addresses.iter().cycle().skip(turn);
        poll::until(format_args!("{name} to be made"), PATIENCE, || {
            let address = addresses.next().context("no controller is known")?;
            let answer = self
                .api
                .request(address, "POST", "/tenants", &[&key], Some(&body))?;
            match answer.http_status {
                200..=299 => Ok(Some(())),
                0 | 503 => {
                    retries += 1;
                    Ok(None)
                }
                other => bail!("{name} by {address}: {other} {}", answer.body),
            }
        })?;
        Ok(retries)
    }
}

/// `virtflow upgrade status`, as soon as it can be told.
fn status(cloud: &Cloud) -> Result<Value> {
    cloud.operator.json(&["upgrade", "status"])
}

/// What a field of the status's controllers is, by name.
fn of_each<'a>(status: &'a Value, field: &str) -> Result<Vec<(&'a str, &'a Value)>> {
    let controllers = list(&status["controllers"])?;
    let mut each: Vec<_> = controllers
        .iter()
        .map(|it| (it["name"].as_str().unwrap_or_default(), &it[field]))
        .collect();
    each.sort_by_key(|(name, _)| *name);
    Ok(each)
}

/// Waits until a controller is told to be what `field` says.
fn wait_for(cloud: &Cloud, name: &str, field: &str, value: &Value) -> Result<()> {
    let mut last = Value::Null;
    let what = format!("{name}'s {field} to be {value}");
    poll::until(what, PATIENCE, || {
        last = status(cloud)?;
        let each = of_each(&last, field)?;
        Ok(each.contains(&(name, value)).then_some(()))
    })
    .with_context(|| format!("last seen: {last}"))
}

/// Restarts a controller as another release and waits until it has said so.
fn replace(cloud: &mut Cloud, name: &str, supports: u32) -> Result<()> {
    cloud.place.stop(name)?;
    cloud
        .place
        .set_environment(name, SUPPORTS, &supports.to_string());
    cloud.place.start(name)?;
    cloud.place.wait_ready(name)?;
    wait_for(cloud, name, "supports", &json!(supports))?;
    wait_for(cloud, name, "seen", &json!(true))
}

/// The refusal of an end; it must name these and no others.
fn finish_refused(cloud: &Cloud, blocking: &[&str]) -> Result<()> {
    let refusal = cloud.operator.refused(&["upgrade", "finish", "--yes"])?;
    let blocks = list(&refusal.error["details"]["blocks"])?;
    let named: BTreeSet<&str> = blocks
        .iter()
        .filter_map(|block| block["controller"].as_str())
        .collect();
    ensure!(
        named == blocking.iter().copied().collect(),
        "{blocking:?} stand in the way: {refusal:?}"
    );
    ensure!(refusal.exit_code == 5, "{refusal:?}");
    ensure!(status(cloud)?["cluster_version"] == 1);
    Ok(())
}

/// All controllers become the newer release, one after another, with a way back in between; then the upgrade ends.
fn roll(cloud: &mut Cloud) -> Result<()> {
    let leader = cloud.leader()?;
    let [first, second] = <[String; 2]>::try_from(cloud.followers()?)
        .map_err(|names| anyhow::anyhow!("not two followers: {names:?}"))?;
    replace(cloud, &first, 2)?;
    let mixed = status(cloud)?;
    ensure!(mixed["raise_to"].is_null(), "{mixed}");
    finish_refused(cloud, &[&second, &leader])?;
    // Before the end there is a way back.
    replace(cloud, &first, 1)?;
    ensure!(list(&status(cloud)?["blocks"])?.is_empty());
    replace(cloud, &first, 2)?;
    replace(cloud, &second, 2)?;
    finish_refused(cloud, &[&leader])?;
    replace(cloud, &leader, 2)?;

    // One that is away may come back as what it was.
    cloud.place.stop(&first)?;
    wait_for(cloud, &first, "seen", &json!(false))?;
    finish_refused(cloud, &[&first])?;
    cloud.place.start(&first)?;
    cloud.place.wait_ready(&first)?;
    wait_for(cloud, &first, "seen", &json!(true))?;

    let tried = cloud.operator.json(&["upgrade", "finish", "--dry-run"])?;
    ensure!(
        tried == json!({"before": 1, "cluster_version": 2}),
        "{tried}"
    );
    let unsure = cloud.operator.refused(&["upgrade", "finish"])?;
    ensure!(unsure.exit_code == 2, "{unsure:?}");
    ensure!(status(cloud)?["raise_to"] == 2);
    for before in [1, 2] {
        let ended = cloud.operator.json(&["upgrade", "finish", "--yes"])?;
        ensure!(
            ended == json!({"before": before, "cluster_version": 2}),
            "{ended}"
        );
    }
    Ok(())
}

/// An older release is told to go at each door into the cluster.
fn shut_out_the_older(cloud: &mut Cloud, folder: &Path) -> Result<()> {
    // The first controller is the one that newcomers ask.
    let mut followers = cloud.followers()?;
    followers.retain(|name| name != "c1");
    let name = followers.remove(0);
    let backup = folder.join("backup");
    cloud
        .place
        .run("c1", &["backup", "--out", &backup.to_string_lossy()])?;

    cloud.place.stop(&name)?;
    cloud.place.set_environment(&name, SUPPORTS, "1");
    cloud.place.start(&name)?;
    let ended = poll::until("the older release to end", PATIENCE, || {
        let service = cloud.place.node(&name)?.service(CONTROLLER)?;
        Ok(service.pid.is_none().then_some(service.last_end).flatten())
    })?;
    // With this code systemd does not start it again.
    ensure!(ended == "exited 70", "{ended}");
    let log = cloud.place.end_of_log(&name)?;
    ensure!(log.contains(TOO_NEW), "{log}");

    cloud.place.add_controller("c4")?;
    cloud.place.set_environment("c4", SUPPORTS, "1");
    let joined = cloud.place.join(
        "c4",
        &cloud.operator,
        &cloud.cluster,
        &["invite", "create", "--role", "controller", "--name", "c4"],
    );
    let refused = format!("{:#}", joined.err().context("an older release joined")?);
    ensure!(refused.contains(TOO_NEW), "{refused}");
    ensure!(cloud.members_with_role("voter")? == 3);
    ensure!(cloud.members_with_role("learner")? == 0);

    cloud.place.add_controller("c5")?;
    cloud.place.set_environment("c5", SUPPORTS, "1");
    let from = backup.to_string_lossy().into_owned();
    let output = run(&mut cloud.place.command("c5", &["restore", "--from", &from])?)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains(TOO_NEW), "{said}");

    cloud.place.stop(&name)?;
    cloud.place.set_environment(&name, SUPPORTS, "2");
    cloud.place.start(&name)?;
    cloud.place.wait_ready(&name)?;
    cloud.wait_caught_up(&name, PATIENCE)?;
    Ok(())
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_rolling_upgrade_fails_no_request_and_has_no_way_back_once_it_is_ended() -> Result<()> {
    let (folder, mut cloud) = support::start(Plan {
        hosts: 1,
        hypervisor: Hypervisor::Simulated,
        restart_pause: None,
        environment: [(SUPPORTS.to_owned(), "1".to_owned())].into(),
        ..Plan::default()
    })?;
    let before = status(&cloud)?;
    let ones = json!(1);
    ensure!(
        of_each(&before, "supports")? == [("c1", &ones), ("c2", &ones), ("c3", &ones)],
        "{before}"
    );
    ensure!(before["raise_to"].is_null() && list(&before["blocks"])?.is_empty());
    ensure!(before["agents"].as_object().map(serde_json::Map::len) == Some(1));

    let addresses = cloud
        .place
        .controllers()
        .iter()
        .map(|name| cloud.address(name))
        .collect::<Result<Vec<_>>>()?;
    let end = AtomicBool::new(false);
    let writers: Vec<Writer> = (0..WRITERS)
        .map(|number| Writer {
            api: cloud.api.clone(),
            addresses: addresses.clone(),
            number,
        })
        .collect();
    let written = std::thread::scope(|scope| {
        let end = &end;
        let running: Vec<_> = writers
            .iter()
            .map(|writer| scope.spawn(move || writer.write(end)))
            .collect();
        let rolled = roll(&mut cloud);
        end.store(true, Ordering::Relaxed);
        let written: Vec<_> = running
            .into_iter()
            .map(|writer| {
                writer
                    .join()
                    .map_err(|_| anyhow::anyhow!("a writer panicked"))?
            })
            .collect();
        rolled?;
        written.into_iter().collect::<Result<Vec<_>>>()
    })?;
    let (mut made, mut retries) = (0, 0);
    let shown = cloud
        .operator
        .json(&["tenant", "list", "--limit", "100000"])?;
    let there: BTreeSet<&str> = list(&shown)?
        .iter()
        .map(|tenant| text(tenant, "/name"))
        .collect::<Result<_>>()?;
    for (names, asked_again) in &written {
        made += names.len();
        retries += asked_again;
        for name in names {
            ensure!(there.contains(name.as_str()), "{name} was acknowledged");
        }
    }
    println!("{made} tenants were made meanwhile, {retries} requests were sent again");
    ensure!(made > 0);

    shut_out_the_older(&mut cloud, folder.path())?;
    for name in cloud.place.controllers() {
        cloud.wait_caught_up(&name, PATIENCE)?;
    }
    support::end(folder, cloud)
}
