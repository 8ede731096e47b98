//! A large state on its way to a member that was away, and what kills the receiver meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use virtflow_testkit::cloud::json::{number, text};
use virtflow_testkit::cloud::{Api, CONTROLLER, Cloud, Hypervisor, Plan};
use virtflow_testkit::poll;

use crate::support;

const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes of text in one page of documentation; the most it may have is 64 KiB.
const PAGE_BYTES: usize = 60_000;
const PAGES: usize = 1_800;
/// Requests that one curl sends.
const AT_ONCE: usize = 100;

/// Where a receiver is when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// This much of the file has come, in bytes.
    Receiving(u64),
    /// The file is whole, and being put in the place of what was there, for this long, in ms.
    Installing(u64),
    /// What was sent is what counts.
    Installed,
}

/// The receiver, seen from outside.
struct Receiver<'a> {
    cloud: &'a Cloud,
    name: String,
}

impl Receiver<'_> {
    fn log_since(&self, from: usize) -> Result<String> {
        let log = fs::read(self.cloud.place.log(&self.name)?)?;
        Ok(String::from_utf8_lossy(log.get(from..).unwrap_or_default()).into_owned())
    }

    fn log_bytes(&self) -> Result<usize> {
        Ok(fs::metadata(self.cloud.place.log(&self.name)?)?
            .len()
            .try_into()?)
    }

    /// Bytes of the snapshot that are on its disk and not yet the state.
    fn received_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.cloud.place.store(&self.name)?.join("shadow"))? {
            let entry = entry?;
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("temp.received")
            {
                // It may have gone since.
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(bytes)
    }

    /// Waits until the moment has come and kills it there; where it was in truth.
    fn kill_at(&self, moment: Moment) -> Result<Moment> {
        let process = poll::until("the receiver to run", PATIENCE, || {
            Ok(self
                .cloud
                .place
                .node(&self.name)?
                .service_process(CONTROLLER)
                .ok())
        })?;
        let from = self.log_bytes()?;
        poll::often_until(format_args!("{moment:?}"), PATIENCE, || {
            let log = self.log_since(from)?;
            let installed = log.contains("installed a snapshot");
            let there = match moment {
                Moment::Receiving(bytes) => self.received_bytes()? >= bytes,
                Moment::Installing(_) => log.contains("received a snapshot"),
                Moment::Installed => installed,
            };
            Ok((there || installed).then_some(()))
        })?;
        if let Moment::Installing(wait_ms) = moment {
            std::thread::sleep(Duration::from_millis(wait_ms));
        }
        process.kill()?;
        let log = self.log_since(from)?;
        Ok(if log.contains("installed a snapshot") {
            Moment::Installed
        } else if log.contains("received a snapshot") {
            moment.max(Moment::Installing(0))
        } else {
            Moment::Receiving(self.received_bytes()?)
        })
    }
}

/// Makes the pages by a controller; their ids.
fn make_pages(cloud: &Cloud, by: &str) -> Result<Vec<String>> {
    let address = cloud.address(by)?;
    let mut ids = Vec::new();
    for first in (0..PAGES).step_by(AT_ONCE) {
        let bodies: Vec<Value> = (first..first + AT_ONCE)
            .map(|number| {
                json!({
                    "name": format!("page-{number}"),
                    "spec": {
                        "title": format!("Page {number}"),
                        "body": format!("{number:07} ").repeat(PAGE_BYTES / 8),
                    },
                })
            })
            .collect();
        for answer in cloud.api.post_all(address, "/docs", &bodies)? {
            ids.push(text(answer.data()?, "/id")?.to_owned());
        }
    }
    Ok(ids)
}

/// Makes racks by the controller at `address` until told to end; the ids of those that were acknowledged.
fn go_on_writing(
    api: &Api,
    address: impl std::fmt::Display,
    end: &AtomicBool,
) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut number = 0;
    while !end.load(Ordering::Relaxed) {
        let body = json!({"name": format!("meanwhile-{number}"), "spec": {"data_center": "attic"}});
        let answer = api.request(&address, "POST", "/racks", &[], Some(&body))?;
        ids.push(text(answer.data()?, "/id")?.to_owned());
        number += 1;
    }
    Ok(ids)
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_large_snapshot_gets_there_however_often_its_receiver_is_killed() -> Result<()> {
    let environment = [
        ("VIRTFLOW_CONTROLLER_RAFT_SNAPSHOT_ENTRIES", "100"),
        ("VIRTFLOW_CONTROLLER_RAFT_LOG_KEEP_ENTRIES", "20"),
    ];
    let (folder, cloud) = support::start(Plan {
        hosts: 1,
        hypervisor: Hypervisor::Simulated,
        restart_pause: Some(Duration::from_millis(200)),
        environment: environment
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        ..Plan::default()
    })?;
    let leader = cloud.leader()?;
    let address = cloud.address(&leader)?;
    let receiver = Receiver {
        cloud: &cloud,
        name: cloud.followers()?.remove(0),
    };
    let behind = number(&cloud.place.status(&receiver.name)?, "/applied_index")?;
    cloud.place.stop(&receiver.name)?;
    let pages = make_pages(&cloud, &leader)?;
    ensure!(pages.iter().collect::<BTreeSet<_>>().len() == PAGES);

    let end = AtomicBool::new(false);
    let (racks, moments) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| go_on_writing(&cloud.api, address, &end));
        let killed = (|| {
            // What it would need is gone: only a snapshot helps.
            poll::until("the log to be purged", PATIENCE, || {
                let status = cloud.place.status(&leader)?;
                Ok((number(&status, "/purged_index")? > behind).then_some(()))
            })?;
            cloud.place.start(&receiver.name)?;
            let mut moments = Vec::new();
            let receiving =
                [1, 1_000_000, 20_000_000, 60_000_000, 100_000_000].map(Moment::Receiving);
            let installing = [0, 0, 5, 10, 20].map(Moment::Installing);
            for aim in receiving.into_iter().chain(installing) {
                let moment = receiver.kill_at(aim)?;
                println!("aimed at {aim:?}, killed at {moment:?}");
                moments.push(moment);
                if moment == Moment::Installed {
                    break;
                }
            }
            cloud.place.wait_ready(&receiver.name)?;
            Ok::<_, anyhow::Error>(moments)
        })();
        end.store(true, Ordering::Relaxed);
        let racks = writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        Ok::<_, anyhow::Error>((racks?, killed?))
    })?;
    let state_bytes = fs::read_dir(cloud.place.store(&leader)?.join("shadow/snapshots"))?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .collect::<Result<Vec<u64>>>()?
        .into_iter()
        .max()
        .context("the leader has no snapshot")?;
    println!(
        "{} racks meanwhile; the leader's snapshot has {state_bytes} bytes",
        racks.len()
    );
    ensure!(state_bytes >= 100_000_000, "only {state_bytes} bytes");
    let half_way = |moment: &Moment| matches!(moment, Moment::Receiving(bytes) if *bytes > 0);
    ensure!(
        moments.iter().filter(|moment| half_way(moment)).count() >= 3,
        "{moments:?}"
    );
    ensure!(
        moments
            .iter()
            .any(|moment| matches!(moment, Moment::Installing(_))),
        "{moments:?}"
    );

    cloud.wait_caught_up(&receiver.name, PATIENCE)?;
    let there = cloud.address(&receiver.name)?;
    for (path, ids) in [("docs", &pages), ("racks", &racks)] {
        let answers = cloud
            .api
            .get_all(there, ids.iter().map(|id| format!("/{path}/{id}")))?;
        for (id, answer) in ids.iter().zip(answers) {
            ensure!(answer.http_status == 200, "{path} {id}: {answer:?}");
        }
    }
    let copy = cloud.place.copy_of_shadow(&receiver.name)?;
    let verdict = virtflow_testkit::cloud::shadow::verify(&copy)?;
    ensure!(verdict.sound, "{}", verdict.text);
    // The others never noticed.
    for name in cloud.place.controllers() {
        let service = cloud.place.node(&name)?.service(CONTROLLER)?;
        ensure!(
            name == receiver.name || service.starts == 1,
            "{name} went down: {service:?}"
        );
    }
    support::end(folder, cloud)
}
