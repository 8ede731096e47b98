//! Backups, and the two ways into another life of the store.

use std::fs;

use bytes::Bytes;
use virtflow_state::CLUSTER_VERSION;
use virtflow_state::port::Shadow as _;
use virtflow_types::Incarnation;

use super::machine::{Machine, assert_same, open, open_newer};
use crate::{StoreError, restore_into, set_incarnation, verify_backup};

#[tokio::test]
async fn a_backup_restores_into_another_life() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(&dir.path().join("a")).await;
    let mut machine = Machine::new();
    machine.fill(70);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(71).await.unwrap();
    let backup = dir.path().join("backup");
    let manifest = shadow.backup(&backup).await.unwrap();
    assert_eq!(manifest.index, 71);
    assert_eq!(manifest.digest, format!("{:032x}", machine.state.digest()));
    assert_eq!(
        verify_backup(&backup, CLUSTER_VERSION).await.unwrap(),
        manifest
    );
    let error = shadow.backup(&backup).await.unwrap_err().to_string();
    assert!(
        error.ends_with("it exists already; name a new folder"),
        "{error}"
    );

    // The cluster goes on; the backup does not.
    let saved = machine.state.clone();
    machine.fill(10);
    machine.submit_after(&shadow, 71);
    shadow.wait_durable(81).await.unwrap();

    let life = Incarnation::from_u128(0xB22);
    let restored = dir.path().join("b");
    let loaded = restore_into(&restored, &backup, CLUSTER_VERSION, life, |loaded| {
        assert_eq!(loaded.raft_meta, b"raft meta at 71".as_slice());
        Bytes::from_static(b"a group of one")
    })
    .await
    .unwrap();
    assert_eq!(loaded.state.incarnation(), Some(life));
    let again = restore_into(&restored, &backup, CLUSTER_VERSION, life, |_| Bytes::new()).await;
    assert!(matches!(again, Err(StoreError::Refused { .. })));

    let (shadow, opened) = open(&restored).await;
    assert_same(&opened, &loaded.state);
    assert_eq!(opened.raft_meta, b"a group of one".as_slice());
    assert!(opened.state.objects().eq(saved.objects()));
    assert_eq!(opened.state.cluster_id(), saved.cluster_id());
    assert_ne!(opened.state.digest(), saved.digest());
    let report = shadow.verify_stream("audit").await.unwrap();
    assert_eq!(report.broken, None);
    assert_eq!(report.verified, saved.stream("audit").count);

    // Its streams and history go on from the backup's index, on a way of their own.
    machine.state = opened.state;
    machine.entries.clear();
    machine.fill(5);
    machine.submit_after(&shadow, 71);
    shadow.wait_durable(76).await.unwrap();
    assert_eq!(shadow.verify_stream("audit").await.unwrap().broken, None);
}

#[tokio::test]
async fn a_backup_that_was_touched_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(&dir.path().join("a")).await;
    let mut machine = Machine::new();
    machine.fill(20);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(21).await.unwrap();
    let backup = dir.path().join("backup");
    shadow.backup(&backup).await.unwrap();
    for name in ["state.db", "records.db"] {
        let path = backup.join(name);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = verify_backup(&backup, CLUSTER_VERSION).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let target = dir.path().join("never");
        restore_into(
            &target,
            &backup,
            CLUSTER_VERSION,
            Incarnation::from_u128(1),
            |_| Bytes::new(),
        )
        .await
        .unwrap_err();
        assert!(!target.exists());
        fs::write(&path, sound).unwrap();
    }
    verify_backup(&backup, CLUSTER_VERSION).await.unwrap();
    let manifest = backup.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"index\": 21", "\"index\": 22")).unwrap();
    verify_backup(&backup, CLUSTER_VERSION).await.unwrap_err();
}

#[tokio::test]
async fn a_survivor_begins_another_life_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(25);
    machine.submit_after(&shadow, 0);
    shadow.wait_durable(26).await.unwrap();
    shadow.close().await.unwrap();
    drop(shadow);
    let life = Incarnation::from_u128(0xB33);
    set_incarnation(dir.path(), CLUSTER_VERSION, life, |_| {
        Bytes::from_static(b"alone")
    })
    .await
    .unwrap();
    let (shadow, loaded) = open(dir.path()).await;
    assert_eq!(loaded.state.incarnation(), Some(life));
    assert_eq!(loaded.raft_meta, b"alone".as_slice());
    assert!(loaded.state.objects().eq(machine.state.objects()));
    machine.state = loaded.state;
    machine.entries.clear();
    machine.fill(3);
    machine.submit_after(&shadow, 26);
    shadow.wait_durable(29).await.unwrap();
    assert_eq!(shadow.verify_stream("audit").await.unwrap().broken, None);
    assert_eq!(shadow.missing_records().await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_backup_of_a_newer_cluster_version_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open_newer(&dir.path().join("a")).await;
    let mut machine = Machine::new();
    machine.raise_to(2);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(2).await.unwrap();
    let backup = dir.path().join("backup");
    let manifest = shadow.backup(&backup).await.unwrap();
    assert_eq!(manifest.cluster_version, 2);
    assert_eq!(verify_backup(&backup, 2).await.unwrap(), manifest);
    let needed = |error: StoreError| match error {
        StoreError::ClusterVersion { file, source } => {
            // It is known before the rest is read.
            assert!(file.ends_with("manifest.json"), "{}", file.display());
            (source.needed, source.supports)
        }
        other => panic!("{other}"),
    };
    let refused = verify_backup(&backup, 1).await.unwrap_err();
    assert_eq!(needed(refused), (2, 1));
    let life = Incarnation::from_u128(0xB22);
    let target = dir.path().join("b");
    let refused = restore_into(&target, &backup, 1, life, |_| Bytes::new()).await;
    assert_eq!(needed(refused.unwrap_err()), (2, 1));
    assert!(!target.exists());
    restore_into(&target, &backup, 2, life, |_| Bytes::new())
        .await
        .unwrap();
}
