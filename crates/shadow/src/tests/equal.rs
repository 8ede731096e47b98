//! What is in the files is what is in the state.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use virtflow_state::port::Shadow as _;

use super::machine::{Machine, assert_same, open, script};
use crate::shared::QUEUE_ENTRIES_MAX;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn any_changesets_come_back_as_the_same_state() {
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let runtime = runtime();
    runner
        .run(&(script(20), 1_usize..6), |(script, pieces)| {
            runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let (shadow, loaded) = open(dir.path()).await;
                assert_eq!(loaded.state.index(), 0);
                let mut machine = Machine::new();
                machine.play(&script);
                // In several transactions, so that rows are updated and deleted in the file too.
                let size = machine.entries.len().div_ceil(pieces);
                for piece in machine.entries.chunks(size) {
                    let last = piece.last().unwrap().index;
                    piece.iter().for_each(|entry| shadow.submit(entry.clone()));
                    shadow.log_flushed(last);
                    shadow.wait_written(last).await.unwrap();
                }
                shadow.wait_durable(machine.index()).await.unwrap();
                check_records(&shadow, &machine).await;
                shadow.close().await.unwrap();
                drop(shadow);
                let (shadow, loaded) = open(dir.path()).await;
                assert_same(&loaded, &machine.state);
                let meta = format!("raft meta at {}", machine.index());
                assert_eq!(loaded.raft_meta, meta.as_bytes());
                drop(shadow);
            });
            Ok(())
        })
        .unwrap();
}

/// Records and history, counted from the entries.
async fn check_records(shadow: &crate::SqliteShadow, machine: &Machine) {
    let mut versions: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    let mut bodies: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in &machine.entries {
        for change in &entry.changes {
            let version = match (&change.before, &change.after) {
                (_, Some(after)) => after.version,
                (Some(before), None) => before.version + 1,
                (None, None) => unreachable!("a change of nothing"),
            };
            versions.entry(change.id).or_default().push(version);
        }
        for record in &entry.records {
            bodies
                .entry(record.stream.clone())
                .or_default()
                .push(record.clone());
        }
    }
    for (id, expected) in versions {
        let page = shadow.history(id, None, 1000).await.unwrap();
        let found: Vec<u64> = page.rows.iter().rev().map(|row| row.version).collect();
        assert_eq!(found, expected, "history of {id}");
    }
    for (stream, expected) in bodies {
        let page = shadow.records(&stream, 1, 1000, false).await.unwrap();
        assert_eq!(page.rows, expected);
        let report = shadow.verify_stream(&stream).await.unwrap();
        assert_eq!(report.broken, None);
        assert_eq!(report.verified, u64::try_from(expected.len()).unwrap());
    }
}

#[tokio::test]
async fn nothing_above_the_flushed_log_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(20);
    for entry in &machine.entries {
        shadow.submit(entry.clone());
    }
    shadow.log_flushed(9);
    shadow.wait_durable(9).await.unwrap();
    let soon = std::time::Duration::from_millis(150);
    tokio::time::timeout(soon, shadow.wait_written(10))
        .await
        .unwrap_err();
    let progress = shadow.progress();
    assert_eq!((progress.submitted, progress.written), (21, 9));
    assert_eq!((progress.durable, progress.queued), (9, 12));
    shadow.close().await.unwrap();
    drop(shadow);
    let (shadow, loaded) = open(dir.path()).await;
    assert_same(&loaded, &machine.entries[8].image);
    machine.submit_after(&shadow, 9);
    shadow.wait_durable(21).await.unwrap();
    shadow.close().await.unwrap();
}

#[tokio::test]
async fn durable_follows_without_anybody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(3);
    machine.submit_after(&shadow, 0);
    let mut progress = shadow.shared.progress.subscribe();
    let reached = progress.wait_for(|progress| progress.durable == 4);
    tokio::time::timeout(std::time::Duration::from_secs(10), reached)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_gap_ends_the_shadow() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(2);
    shadow.submit(machine.entries[0].clone());
    shadow.submit(machine.entries[2].clone());
    let error = shadow.failed().await;
    assert_eq!(
        error.to_string(),
        "taking an applied entry: entry 3 with the image of 3 came, 2 was next"
    );
    shadow.wait_durable(1).await.unwrap_err();
    shadow.snapshot(0).await.unwrap_err();
}

#[tokio::test]
async fn one_entry_too_many_ends_the_shadow() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let first = Machine::new().entries[0].clone();
    for index in 1..=QUEUE_ENTRIES_MAX as u64 {
        let mut entry = (*first).clone();
        entry.index = index;
        entry.image.set_index(index);
        shadow.submit(std::sync::Arc::new(entry));
    }
    assert_eq!(shadow.progress().queued, 200_000);
    let mut entry = (*first).clone();
    entry.index = QUEUE_ENTRIES_MAX as u64 + 1;
    entry.image.set_index(entry.index);
    shadow.submit(std::sync::Arc::new(entry));
    assert_eq!(
        shadow.failed().await.cause,
        "200000 entries wait to be written already"
    );
}

#[tokio::test]
async fn another_writer_of_the_file_ends_the_shadow() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(2);
    shadow.submit(machine.entries[0].clone());
    shadow.log_flushed(1);
    shadow.wait_durable(1).await.unwrap();
    let path = dir.path().join("state.1.db");
    let mut stranger = crate::connect::connect(crate::connect::writing(&path, false), &path)
        .await
        .unwrap();
    crate::connect::run(&mut stranger, "UPDATE meta SET applied_index = 7", &path)
        .await
        .unwrap();
    machine.submit_after(&shadow, 1);
    let error = shadow.failed().await.to_string();
    assert!(error.contains("somebody else wrote to it"), "{error}");
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]
    #[test]
    fn an_object_comes_back_from_its_columns(script in script(4)) {
        let mut machine = Machine::new();
        machine.play(&script);
        for object in machine.state.objects() {
            let bytes = crate::load::footprint_bytes(object);
            let mut back = virtflow_state::Object::decode(bytes.into()).unwrap();
            prop_assert_eq!(&back.footprint, &object.footprint);
            back.footprint = virtflow_state::Footprint::default();
            prop_assert!(back.spec.is_empty() && back.status.is_empty());
        }
    }
}
