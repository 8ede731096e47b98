//! The power of all members goes at once: while the log is purged, and between the steps by which a
//! member gets a snapshot. Log and shadow are the real ones; what was not flushed is kept, lost or torn,
//! on each member without regard to the others.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use virtflow_powercut::{Image, Recorder, State, Stream, sample, scratch};
use virtflow_raft::{ChangeEvent, Node, Timing};

/// States in which each member is started by itself.
const ALONE: usize = 70;
/// States in which the group is started.
const TOGETHER: usize = 12;

/// The digest of the state at each index, as one member applied it.
type Digests = Arc<Mutex<BTreeMap<u64, u128>>>;

fn follow(node: Node) -> Digests {
    let digests = Digests::default();
    let found = digests.clone();
    tokio::spawn(async move {
        let (image, mut changes) = node.changes();
        found.lock().unwrap().insert(image.index(), image.digest());
        drop(node);
        while let Some(event) = changes.next().await {
            let image = match event {
                ChangeEvent::Entry(entry) => Arc::new(entry.image.clone()),
                ChangeEvent::Resync(image) => image,
            };
            found.lock().unwrap().insert(image.index(), image.digest());
        }
    });
    digests
}

/// A group whose life was recorded.
struct Life {
    world: World,
    homes: BTreeMap<u64, Home>,
    stream: Stream,
    digests: Digests,
}

struct Writer<'a> {
    recorder: &'a Recorder,
    names: u64,
}

impl Writer<'_> {
    /// One thing after another, each marked when it is acknowledged.
    async fn write(&mut self, node: &Node, things: u64) {
        for _ in 0..things {
            self.recorder.mark("given", self.names + 1);
            let done = node.propose(make(&name(self.names))).await.unwrap();
            self.names += 1;
            self.recorder.mark("acknowledged", done.index);
            self.recorder.mark("names", self.names);
        }
    }
}

fn name(number: u64) -> String {
    format!("thing-{number}")
}

/// Purges on every member; one that is away, a log purged beyond it, and the snapshot it gets.
async fn a_life() -> Life {
    let mut world = World::new();
    world.dir = scratch();
    world.sqlite = true;
    world.limits.snapshot_entries = 25;
    world.limits.keep_log_entries = 4;
    world.limits.log_file_bytes = 2500;
    let root = world.dir.path().to_owned();
    let mut group = Group::with(3, world).await;
    group.converge().await;
    let digests = follow(group.leader().await.node.clone());
    let recorder = Recorder::start(&root);
    let mut writer = Writer {
        recorder: &recorder,
        names: 0,
    };
    let leader = group.leader().await.node.clone();
    let begin = leader.status().purged;
    writer.write(&leader, 32).await;
    for runner in group.runners.values() {
        until("each log to be purged", || {
            runner.node.status().purged > begin
        })
        .await;
    }
    let away = group.follower_id().await;
    let last_seen = group.runners[&away].node.status().last_log;
    group.kill(away).await;
    writer.write(&leader, 35).await;
    until("the log to be purged beyond the one away", || {
        leader.status().purged > last_seen
    })
    .await;
    group.restart(away).await;
    let node = group.runners[&away].node.clone();
    writer.write(&leader, 5).await;
    until("a snapshot to be installed", || {
        node.status().measured.snapshots_installed > 0
    })
    .await;
    writer.write(&leader, 5).await;
    group.converge().await;
    drop((leader, node));
    let Group {
        world,
        homes,
        runners,
    } = group;
    for runner in runners.into_values() {
        runner.kill().await;
    }
    // The databases' threads let go of their files.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Life {
        world,
        homes,
        stream: recorder.finish(),
        digests,
    }
}

impl Life {
    fn homes_in(&self, dir: &Path) -> BTreeMap<u64, Home> {
        let home = |(id, home): (&u64, &Home)| {
            let name = home.dir.file_name().unwrap();
            (*id, home.at(dir.join(name)))
        };
        self.homes.iter().map(home).collect()
    }

    /// Each member starts, without a gap, and what was acknowledged is in a majority of the logs.
    async fn start_alone(&self, dir: &Path, state: &State, image: &Image) {
        image.write(dir).unwrap();
        let acknowledged = state.mark("acknowledged").unwrap_or(0);
        let homes = self.homes_in(dir);
        let starts = homes.iter().map(async |(id, home)| {
            let runner = self.world.try_start(home).await;
            let runner = runner.unwrap_or_else(|error| panic!("{state}, member {id}: {error}"));
            // What it found in its log is told a moment later.
            until("the log's end", || runner.node.status().last_log > 0).await;
            let status = runner.node.status();
            assert!(
                status.purged <= status.shadow.durable,
                "{state}, member {id}: {status:?}"
            );
            let image = runner.node.image();
            let digest = self.digests.lock().unwrap().get(&image.index()).copied();
            if let Some(digest) = digest {
                assert_eq!(
                    image.digest(),
                    digest,
                    "{state}, member {id} at {}",
                    image.index()
                );
            }
            runner.kill().await;
            usize::from(status.last_log >= acknowledged)
        });
        let holding: usize = futures::future::join_all(starts).await.into_iter().sum();
        assert!(holding >= 2, "{state}: {acknowledged} is in {holding} logs");
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// The group starts, and everything acknowledged can be read on each member.
    async fn start_together(self, dir: &Path, state: &State, image: &Image) -> Self {
        image.write(dir).unwrap();
        let homes = self.homes_in(dir);
        let mut runners = BTreeMap::new();
        for (id, home) in &homes {
            runners.insert(*id, self.world.start(home).await);
        }
        let group = Group {
            world: self.world,
            homes,
            runners,
        };
        group.surely("after").await;
        group.converge().await;
        let (names, given) = (
            state.mark("names").unwrap_or(0),
            state.mark("given").unwrap_or(0),
        );
        for (id, runner) in &group.runners {
            let image = runner.node.image();
            for number in 0..names {
                assert!(
                    has(&image, &name(number)),
                    "{state}, member {id}: {number} of {names} is gone"
                );
            }
            let things = count(&image) as u64 - 1;
            assert!(
                things <= given,
                "{state}, member {id}: {given} given, {things} are there"
            );
        }
        let Group { world, runners, .. } = group;
        for runner in runners.into_values() {
            runner.kill().await;
        }
        std::fs::remove_dir_all(dir).unwrap();
        Self { world, ..self }
    }
}

/// What a purge and an install do to files, and all that happens around it.
fn states(stream: &Stream) -> Vec<State> {
    let near = |told: &str| {
        let purge =
            told.contains("/raft/r-") && (told.ends_with("removed") || told.contains("made as"));
        let install = told.contains("temp.received")
            || told.contains("CURRENT")
            || told.contains("state.2.db");
        let snapshot = told.contains("snapshots/") && told.contains("renamed");
        purge || install || snapshot
    };
    stream.states_near(near, 4)
}

#[test]
fn all_members_come_back_from_a_power_cut_at_any_step_of_a_purge_or_an_install() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut life = runtime.block_on(bounded(a_life()));
    let all = states(&life.stream);
    println!("{} changes", life.stream.changes());
    let alone = sample(&all, ALONE);
    // Alone, nobody need stand for election while it is looked at.
    let dir = scratch();
    life.world.timing = Timing {
        heartbeat_ms: 20,
        election_min_ms: 20_000,
        election_max_ms: 40_000,
    };
    let mut number = 0;
    life.stream.visit(&alone, |state, image| {
        number += 1;
        let dir = dir.path().join(format!("cut-{number}"));
        runtime.block_on(bounded(life.start_alone(&dir, state, &image)));
    });

    life.world.timing = Timing {
        heartbeat_ms: 50,
        election_min_ms: 200,
        election_max_ms: 400,
    };
    let together = sample(&all, TOGETHER);
    let mut images = Vec::new();
    life.stream.visit(&together, |state, image| {
        images.push((state.clone(), image))
    });
    for (state, image) in images {
        number += 1;
        let dir = dir.path().join(format!("cut-{number}"));
        life = runtime.block_on(bounded(life.start_together(&dir, &state, &image)));
    }
    assert!(alone.len() > ALONE / 2 && together.len() > TOGETHER / 2);
}
