//! Snapshots, and what happens when one is installed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use virtflow_state::port::{Shadow as _, SnapshotFile};
use virtflow_state::{AccountKey, CLUSTER_VERSION, Op};
use virtflow_types::{Incarnation, ObjectId};

use super::crash::copy_dir;
use super::machine::{Machine, assert_same, open, open_newer};
use crate::crash::CrashPoint;
use crate::{Moment, SqliteShadow, Then};

/// A shadow that has everything, and a snapshot of it.
async fn leader(dir: &Path, entries: u64) -> (Machine, Arc<SqliteShadow>, SnapshotFile) {
    let (shadow, _) = open(dir).await;
    let mut machine = Machine::new();
    machine.fill(entries);
    machine.submit_after(&shadow, 0);
    let snapshot = shadow.snapshot(machine.index()).await.unwrap();
    (machine, shadow, snapshot)
}

/// A shadow that has the first ten entries and no more.
async fn lagging(dir: &Path, machine: &Machine) -> Arc<SqliteShadow> {
    let (shadow, _) = open(dir).await;
    for entry in &machine.entries[..10] {
        shadow.submit(entry.clone());
    }
    shadow.log_flushed(10);
    shadow.wait_durable(10).await.unwrap();
    shadow
}

/// What a transfer does: the bytes, in a file that the receiver names.
async fn send(snapshot: &SnapshotFile, to: &SqliteShadow) -> PathBuf {
    let path = to.receive_path().await.unwrap();
    std::fs::copy(&snapshot.path, &path).unwrap();
    path
}

#[tokio::test]
async fn a_snapshot_holds_its_index_and_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, shadow, snapshot) = leader(dir.path(), 60).await;
    assert_eq!(snapshot.index, 61);
    assert_eq!(snapshot.digest, machine.state.digest());
    assert_eq!(snapshot.raft_meta, b"raft meta at 61".as_slice());
    assert!(shadow.progress().durable >= 61);
    let content = crate::load::examine(&snapshot.path, CLUSTER_VERSION)
        .await
        .unwrap();
    assert_same(&content.loaded(), &machine.state);

    let again = shadow.snapshot(30).await.unwrap();
    assert_eq!(again.path, snapshot.path);
    machine.fill(5);
    machine.submit_after(&shadow, 61);
    let newer = shadow.snapshot(66).await.unwrap();
    assert_eq!(newer.index, 66);
    assert!(snapshot.path.exists(), "it is still held");
    drop((snapshot, again));
    machine.fill(1);
    machine.submit_after(&shadow, 66);
    let newest = shadow.snapshot(67).await.unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join("snapshots"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["snapshot.66.db", "snapshot.67.db"]);
    shadow.close().await.unwrap();
    drop(shadow);
    let (shadow, _) = open(dir.path()).await;
    let found = shadow.current_snapshot().await.unwrap().unwrap();
    assert_eq!((found.index, found.digest), (67, newest.digest));
    assert_eq!(names(), ["snapshot.67.db"]);
}

#[tokio::test]
async fn an_install_replaces_the_state_and_notes_what_it_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, leader, snapshot) = leader(&dir.path().join("a"), 80).await;
    let shadow = lagging(&dir.path().join("b"), &machine).await;
    let received = send(&snapshot, &shadow).await;
    let loaded = shadow.install(received).await.unwrap();
    assert_same(&loaded, &machine.state);
    assert_eq!(shadow.progress().durable, 81);

    // It goes on from there.
    machine.fill(10);
    machine.submit_after(&shadow, 81);
    machine.submit_after(&leader, 81);
    shadow.wait_durable(91).await.unwrap();
    leader.wait_durable(91).await.unwrap();

    // What it skipped is known, and comes from the leader, proved, from the top downward.
    let before = machine.entries[9].image.stream("audit").count;
    let skipped = machine.entries[80].image.stream("audit");
    let missing = shadow.missing_records().await.unwrap();
    assert_eq!(missing.len(), 1);
    assert_eq!((missing[0].first, missing[0].last), (before + 1, skipped));
    let history = shadow.missing_history().await.unwrap();
    assert_eq!((history[0].first_index, history[0].last_index), (11, 81));
    // What was in that time is not guessed: the leader knows it.
    let mut refused = 0;
    for object in machine.entries[79].image.objects() {
        let at = Moment::Index(80);
        let newest = machine.state.get(object.id).map(|object| object.version);
        let (then, _) = leader.was(object.id, newest, at).await.unwrap();
        assert!(matches!(then, Then::Was(row) if row.version == object.version));
        match shadow.was(object.id, newest, at).await {
            Ok((then, _)) => {
                assert!(matches!(then, Then::Was(row) if row.version == object.version));
            }
            Err(error) => {
                assert!(error.to_string().contains("11 to 81"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "nothing was changed in that time");
    let report = shadow.verify_stream("audit").await.unwrap();
    assert_eq!((report.broken, report.missing.len()), (None, 1));

    let middle = before + 20;
    let last = skipped.count;
    let chunk = leader.record_range("audit", middle, last).await.unwrap();
    let mut forged = chunk.clone();
    forged.rows[3].body = "{}".into();
    shadow.fill_records(forged).await.unwrap_err();
    let mut forged = chunk.clone();
    forged.before.head[0] ^= 1;
    shadow.fill_records(forged).await.unwrap_err();
    // Another past, hashed through with care: it does not lead to what the state has.
    let mut forged = chunk.clone();
    forged.rows[3].body = "{}".into();
    let mut head = forged.before;
    for row in &mut forged.rows {
        head = head.append(&row.body);
        row.head = head.head;
    }
    let error = shadow.fill_records(forged).await.unwrap_err().to_string();
    assert!(
        error.ends_with("do not lead to the head that the state has"),
        "{error}"
    );
    shadow.fill_records(chunk).await.unwrap();
    let missing = shadow.missing_records().await.unwrap();
    assert_eq!(
        missing[0].last,
        machine_head(&machine, missing[0].last.count)
    );
    let low = leader
        .record_range("audit", missing[0].first, missing[0].last.count)
        .await
        .unwrap();
    shadow.fill_records(low).await.unwrap();
    assert_eq!(shadow.missing_records().await.unwrap(), vec![]);
    let report = shadow.verify_stream("audit").await.unwrap();
    assert_eq!(report.broken, None);
    assert_eq!(report.verified, machine.state.stream("audit").count);

    shadow.close().await.unwrap();
    drop(shadow);
    let (_, loaded) = open(&dir.path().join("b")).await;
    assert_same(&loaded, &machine.state);
}

fn machine_head(machine: &Machine, count: u64) -> virtflow_state::StreamHead {
    machine
        .entries
        .iter()
        .flat_map(|entry| &entry.records)
        .find(|record| record.stream == "audit" && record.count == count)
        .map(|record| virtflow_state::StreamHead {
            count,
            head: record.head,
        })
        .unwrap()
}

#[tokio::test]
async fn a_crash_at_any_step_of_an_install_leaves_the_old_or_the_new() {
    for (point, new) in [
        (CrashPoint::InstallVerified, false),
        (CrashPoint::InstallNamed, false),
        (CrashPoint::InstallOpened, false),
        (CrashPoint::PointerTemp, false),
        (CrashPoint::Pointed, true),
        (CrashPoint::RecordsReconciled, true),
        (CrashPoint::OldRemoved, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (machine, _leader, snapshot) = leader(&dir.path().join("a"), 40).await;
        let (shadow, _) = open(&dir.path().join("b")).await;
        for entry in &machine.entries[..12] {
            shadow.submit(entry.clone());
        }
        shadow.log_flushed(12);
        shadow.wait_durable(12).await.unwrap();
        let received = send(&snapshot, &shadow).await;
        shadow.shared.crash.arm(point, 0);
        tokio::select! {
            () = shadow.shared.crash.reached() => {}
            result = shadow.install(received) => panic!("{point:?} was not reached: {result:?}"),
        }
        copy_dir(&dir.path().join("b"), &dir.path().join("c"));
        drop(shadow);

        let (shadow, loaded) = open(&dir.path().join("c")).await;
        let at = if new { 41 } else { 12 };
        assert_same(&loaded, &machine.entries[at - 1].image);
        machine.submit_after(&shadow, loaded.state.index());
        shadow.wait_durable(41).await.unwrap();
        let missing = shadow.missing_records().await.unwrap();
        assert_eq!(missing.len(), usize::from(new), "{point:?}");
        assert_eq!(shadow.verify_stream("audit").await.unwrap().broken, None);
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join("c"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
            .collect();
        names.sort();
        let state = if new { "state.2.db" } else { "state.1.db" };
        let expected = ["CURRENT", "LOCK", "records.db", "snapshots", state];
        assert_eq!(names, expected, "{point:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, leader, snapshot) = leader(&dir.path().join("a"), 30).await;
    let (shadow, _) = open(&dir.path().join("b")).await;
    for entry in &machine.entries[..8] {
        shadow.submit(entry.clone());
    }
    shadow.log_flushed(8);
    shadow.wait_durable(8).await.unwrap();

    // Cut short, then with one byte of a row changed.
    let received = send(&snapshot, &shadow).await;
    let bytes = std::fs::read(&received).unwrap();
    std::fs::write(&received, &bytes[..bytes.len() - 4096]).unwrap();
    shadow.install(received.clone()).await.unwrap_err();
    assert!(!received.exists());
    let mut edited = bytes.clone();
    let at = edited
        .windows(10)
        .position(|window| window == b"memory_mib")
        .unwrap();
    edited[at] ^= 1;
    let received = shadow.receive_path().await.unwrap();
    std::fs::write(&received, &edited).unwrap();
    let error = shadow.install(received).await.unwrap_err().to_string();
    assert!(error.contains("digest"), "{error}");

    // Of another cluster.
    let mut foreign = Machine::new();
    foreign.state = virtflow_state::State::empty();
    foreign.entries.clear();
    let mut genesis = foreign.changeset();
    genesis.ops.push(Op::Genesis(
        Incarnation::from_u128(0xA11),
        ObjectId::from_u128(0xC2),
    ));
    foreign.entry(vec![genesis]);
    foreign.fill(20);
    let (other, _) = open(&dir.path().join("c")).await;
    foreign.submit_after(&other, 0);
    let theirs = other.snapshot(21).await.unwrap();
    let received = send(&theirs, &shadow).await;
    let error = shadow.install(received).await.unwrap_err().to_string();
    assert!(error.contains("cluster"), "{error}");

    // Older than what is here.
    machine.fill(5);
    machine.submit_after(&leader, 31);
    leader.wait_durable(36).await.unwrap();
    let received = send(&snapshot, &leader).await;
    let error = leader.install(received).await.unwrap_err().to_string();
    assert!(error.contains("at 36 already"), "{error}");

    // Both go on as if nothing had been.
    machine.submit_after(&shadow, 8);
    shadow.wait_durable(36).await.unwrap();
    shadow.close().await.unwrap();
    drop(shadow);
    let (_, loaded) = open(&dir.path().join("b")).await;
    assert_same(&loaded, &machine.state);
    let account = AccountKey::new(ObjectId::from_u128(1), "memory_mib");
    assert_eq!(
        loaded.state.account(&account),
        machine.state.account(&account)
    );
}

#[tokio::test]
async fn writing_goes_on_while_a_snapshot_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, shadow, _) = leader(dir.path(), 50).await;
    machine.fill(200);
    let middle = machine.index() - 100;
    let feeding = async {
        for entry in machine.entries.iter().filter(|entry| entry.index > 51) {
            shadow.submit(entry.clone());
            shadow.log_flushed(entry.index);
            tokio::task::yield_now().await;
        }
    };
    let (snapshot, ()) = tokio::join!(shadow.snapshot(middle), feeding);
    let snapshot = snapshot.unwrap();
    assert!(snapshot.index >= middle);
    let image = &machine.entries[usize::try_from(snapshot.index).unwrap() - 1].image;
    assert_eq!(snapshot.digest, image.digest());
    let content = crate::load::examine(&snapshot.path, CLUSTER_VERSION)
        .await
        .unwrap();
    assert_same(&content.loaded(), image);
}

#[tokio::test]
async fn a_snapshot_of_a_newer_cluster_version_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, _) = open_newer(&dir.path().join("a")).await;
    let mut machine = Machine::new();
    machine.fill(20);
    machine.raise_to(2);
    machine.submit_after(&leader, 0);
    let snapshot = leader.snapshot(machine.index()).await.unwrap();
    let shadow = lagging(&dir.path().join("b"), &machine).await;
    let received = send(&snapshot, &shadow).await;
    let error = shadow.install(received).await.unwrap_err().to_string();
    assert!(
        error.contains("the cluster is at version 2, this controller supports 1 at most"),
        "{error}"
    );
    shadow.close().await.unwrap();
    drop(shadow);
    let (_, loaded) = open(&dir.path().join("b")).await;
    assert_same(&loaded, &machine.entries[9].image);
}
