//! The shadow after a power cut at any moment of its life, with whatever was not flushed kept, lost or
//! torn, of each file without regard to the others.
//!
//! The life: the folder is made; entries are written, some of them flushed; a snapshot is taken; the
//! process ends cleanly, and starts; it dies, and starts; a snapshot from elsewhere is installed; more
//! entries. Marks in the recording say what was handed over and what was called durable.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virtflow_powercut::{Image, Recorder, State, Stream, sample, scratch};
use virtflow_state::CLUSTER_VERSION;
use virtflow_state::port::Shadow as _;

use super::machine::{Machine, assert_same, options};
use crate::{ShadowOptions, SqliteShadow, Timing, current_state_file};

/// States looked at in an ordinary run.
const STATES: usize = 1300;

/// Flushes happen when somebody waits for them, and else seldom.
fn seldom() -> ShadowOptions {
    ShadowOptions {
        timing: Timing {
            linger: Duration::ZERO,
            durable_every: Duration::from_secs(60),
        },
        ..options()
    }
}

struct Run {
    recorder: Recorder,
    machine: Machine,
    shadow: Arc<SqliteShadow>,
}

impl Run {
    async fn open(recorder: &Recorder) -> Arc<SqliteShadow> {
        let (shadow, loaded) = SqliteShadow::open(&recorder.root().join("shadow"), seldom())
            .await
            .unwrap();
        assert_eq!(loaded.state.index(), shadow.progress().durable);
        recorder.mark("durable", shadow.progress().durable);
        shadow
    }

    async fn entry(&mut self, durable: bool) {
        let index = self.shadow.progress().submitted + 1;
        let entry = &self.machine.entries[usize::try_from(index).unwrap() - 1];
        self.recorder.mark("given", index);
        self.shadow.submit(entry.clone());
        self.shadow.log_flushed(index);
        if durable {
            self.shadow.wait_durable(index).await.unwrap();
        } else {
            self.shadow.wait_written(index).await.unwrap();
        }
        self.recorder
            .mark("durable", self.shadow.progress().durable);
    }

    async fn snapshot(&mut self) {
        let index = self.shadow.progress().written;
        let snapshot = self.shadow.snapshot(index).await.unwrap();
        // The log may be purged up to it now.
        self.recorder.mark("durable", snapshot.index);
        assert_eq!(snapshot.index, index);
    }
}

/// The recording, and what there was to write.
async fn a_life(dir: &Path) -> (Stream, Machine) {
    let mut machine = Machine::new();
    machine.fill(44);
    // What a leader would send.
    let (leader, _) = SqliteShadow::open(&dir.join("leader"), options())
        .await
        .unwrap();
    for entry in &machine.entries[..36] {
        leader.submit(entry.clone());
    }
    leader.log_flushed(36);
    let sent = leader.snapshot(36).await.unwrap();

    let root = dir.join("disk");
    std::fs::create_dir(&root).unwrap();
    let recorder = Recorder::start(&root);
    let shadow = Run::open(&recorder).await;
    let mut run = Run {
        recorder,
        machine,
        shadow,
    };
    for number in 0..10 {
        run.entry(number % 4 == 3).await;
    }
    run.snapshot().await;
    run.entry(false).await;
    run.entry(false).await;
    run.shadow.close().await.unwrap();
    drop(run.shadow);
    run.shadow = Run::open(&run.recorder).await;
    for number in 0..6 {
        run.entry(number == 4).await;
    }
    // It dies: nothing is closed, and the next start finds the write-ahead logs.
    drop(run.shadow);
    run.shadow = Run::open(&run.recorder).await;
    run.entry(false).await;
    run.entry(true).await;
    run.snapshot().await;
    let received = run.shadow.receive_path().await.unwrap();
    std::fs::write(&received, std::fs::read(&sent.path).unwrap()).unwrap();
    run.recorder.mark("given", 36);
    run.shadow.install(received).await.unwrap();
    run.recorder.mark("durable", 36);
    for number in 0..6 {
        run.entry(number % 3 == 1).await;
    }
    run.snapshot().await;
    run.entry(true).await;
    run.entry(false).await;
    drop(run.shadow);
    // Its threads let go of the files.
    tokio::time::sleep(Duration::from_millis(200)).await;
    (run.recorder.finish(), run.machine)
}

/// Opens what a cut left, and replays the tail of the log.
async fn check(dir: &Path, state: &State, image: &Image, machine: &Machine) -> u64 {
    image.write(dir).unwrap();
    let dir = dir.join("shadow");
    let opened = SqliteShadow::open(&dir, options()).await;
    let (shadow, loaded) = opened
        .unwrap_or_else(|error| panic!("{state}: {error} {:?}", std::error::Error::source(&error)));
    let index = loaded.state.index();
    let durable = state.mark("durable").unwrap_or(0);
    let given = state.mark("given").unwrap_or(0);
    assert!(
        (durable..=given).contains(&index),
        "{state}: durable at {durable}, {given} was given, came back at {index}"
    );
    if index > 0 {
        assert_same(
            &loaded,
            &machine.entries[usize::try_from(index).unwrap() - 1].image,
        );
    }
    if let Some(snapshot) = shadow.current_snapshot().await.unwrap() {
        let content = crate::load::examine(&snapshot.path, CLUSTER_VERSION)
            .await
            .unwrap();
        let place = usize::try_from(snapshot.index).unwrap() - 1;
        assert_same(&content.loaded(), &machine.entries[place].image);
    }

    machine.submit_after(&shadow, index);
    shadow.wait_durable(machine.index()).await.unwrap();
    for stream in ["audit", "usage"] {
        let report = shadow.verify_stream(stream).await.unwrap();
        assert_eq!(report.broken, None, "{state}");
        let missing: u64 = report
            .missing
            .iter()
            .map(|range| range.last.count + 1 - range.first)
            .sum();
        assert_eq!(
            report.verified + missing,
            machine.state.stream(stream).count,
            "{state}"
        );
        // Only what an install skipped.
        assert!(missing == 0 || given >= 36, "{state}: {:?}", report.missing);
    }
    shadow.close().await.unwrap();
    drop(shadow);
    let content = crate::load::examine(&current_state_file(&dir).unwrap(), CLUSTER_VERSION)
        .await
        .unwrap();
    assert_same(&content.loaded(), &machine.state);
    index
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_shadow_opens_after_a_power_cut_at_any_moment() {
    let dir = scratch();
    let (stream, machine) = runtime().block_on(a_life(dir.path()));
    let all = stream.states();
    let states = sample(&all, STATES);
    let left = Mutex::new(BTreeSet::new());
    let number = AtomicUsize::new(0);
    stream.visit_on(2, &states, |_, state, image| {
        // Each its own folder: a connection that is just closing removes files by their names.
        let number = number.fetch_add(1, Ordering::Relaxed);
        let dir = dir.path().join(format!("cut-{number}"));
        let index = runtime().block_on(check(&dir, state, &image, &machine));
        std::fs::remove_dir_all(&dir).unwrap();
        left.lock().unwrap().insert(index);
    });
    let left = left.into_inner().unwrap();
    println!(
        "{} changes, {} states, {} of them opened, which were left at {left:?}",
        stream.changes(),
        all.len(),
        states.len(),
    );
    assert!(states.len() > STATES / 2, "{}", states.len());
    // Between what is durable and what was given there is room, and the cuts were in it.
    assert!(left.len() > 15, "{left:?}");
}
