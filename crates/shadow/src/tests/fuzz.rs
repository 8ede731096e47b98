//! Whatever lies in a file that is given as a snapshot, a state or a backup's manifest.
#![expect(unsafe_code, reason = "SQLite alone knows what it allocated")]

use libsqlite3_sys as ffi;
use virtflow_state::CLUSTER_VERSION;
use virtflow_state::port::Shadow as _;
use virtflow_testkit::fuzz::{Format, Target};

use super::machine::{Machine, open};
use crate::BackupManifest;
use crate::load::examine;

/// What SQLite may hold for a file of a hundred pages, its page cache first of all.
const SQLITE_BYTES_MAX: i64 = 32 * 1024 * 1024;

/// The most bytes that SQLite held since the last call.
fn sqlite_peak() -> i64 {
    // SAFETY: two counters behind SQLite's own lock.
    unsafe { ffi::sqlite3_memory_highwater(1) }
}

#[test]
fn state_file() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (good, digest) = runtime.block_on(async {
        let (shadow, _) = open(dir.path()).await;
        let mut machine = Machine::new();
        machine.fill(20);
        machine.submit_after(&shadow, 0);
        let snapshot = shadow.snapshot(machine.index()).await.unwrap();
        let bytes = std::fs::read(&snapshot.path).unwrap();
        shadow.close().await.unwrap();
        (bytes, machine.state.digest())
    });
    let path = dir.path().join("received.db");
    Target::new("state_file", Format::Bytes)
        .seed(good.clone())
        .iterations(250)
        .sizes(good.len() * 2, good.len() * 4)
        .offsets(100)
        .memory(24, 1024 * 1024)
        .run(|input| {
            std::fs::write(&path, input).unwrap();
            sqlite_peak();
            // What is taken has the digest that it was written with, so it is the same state.
            let verdict = runtime
                .block_on(examine(&path, CLUSTER_VERSION))
                .map_err(|error| error.to_string());
            assert!(sqlite_peak() < SQLITE_BYTES_MAX);
            let content = verdict?;
            assert_eq!(content.state.digest(), digest);
            assert_eq!(virtflow_state::verify(&content.state), vec![]);
            Ok(())
        });
}

#[test]
fn backup_manifest() {
    let good = r#"{"format":1,"cluster_id":"00000000-0000-0000-0000-0000000000c1","incarnation":null,"cluster_version":1,"index":7,"term":2,"digest":"00000000000000000000000000000001","made_at":"2026-11-23T18:00:00Z","files":[{"name":"state.db","bytes":1,"blake3":"00"}]}"#;
    Target::new("backup_manifest", Format::Text)
        .seed(good)
        .words(&["null", "\"files\"", "{}", "[]", "\"../state.db\""])
        .iterations(2000)
        .memory(32, 64 * 1024)
        .run(|input| {
            let read: BackupManifest = serde_json::from_slice(input).map_err(|e| e.to_string())?;
            let written = serde_json::to_vec(&read).unwrap();
            assert_eq!(
                serde_json::from_slice::<BackupManifest>(&written).unwrap(),
                read
            );
            Ok(())
        });
}
