//! A store of some size: how long it takes to load, and that its log stays short.

use std::time::{Duration, Instant};

use virtflow_state::port::Shadow as _;
use virtflow_state::{Changeset, Object, Op};
use virtflow_types::{ObjectId, RequestId, Timestamp};

use super::machine::{Machine, assert_same, open};
use crate::connect::WAL_BYTES_KEPT;

const OBJECTS: u64 = 100_000;
const IN_ENTRY: u64 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_objects() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    shadow.submit(machine.entries[0].clone());
    let began = Instant::now();
    for entry in 0..OBJECTS / IN_ENTRY {
        let mut changeset = Changeset::new(
            RequestId::from_u128(u128::from(entry)),
            Timestamp::from_ms(entry),
            "loader",
        );
        for n in entry * IN_ENTRY..(entry + 1) * IN_ENTRY {
            let mut object = Object::new("disk", ObjectId::from_u128(u128::from(n) + 1), "");
            object.spec = format!(r#"{{"size_mib":{n},"pool":"{}"}}"#, "p".repeat(200)).into();
            changeset.ops.push(Op::Put(Box::new(object)));
        }
        let entry = machine.entry(vec![changeset]);
        assert_eq!(entry.outcomes[0].result, Ok(()));
        shadow.submit(entry.clone());
        shadow.log_flushed(entry.index);
        // As the layer above does: it slows down when the shadow lags.
        shadow
            .wait_written(entry.index.saturating_sub(8))
            .await
            .unwrap();
        assert!(shadow.stats().state_wal_bytes < WAL_BYTES_KEPT * 3);
    }
    shadow.wait_durable(machine.index()).await.unwrap();
    let written = began.elapsed();
    let began = Instant::now();
    let snapshot = shadow.snapshot(machine.index()).await.unwrap();
    let copied = began.elapsed();
    assert_eq!(snapshot.digest, machine.state.digest());
    shadow.close().await.unwrap();
    drop(shadow);
    let began = Instant::now();
    let (shadow, loaded) = open(dir.path()).await;
    let opened = began.elapsed();
    assert_same(&loaded, &machine.state);
    println!(
        "{OBJECTS} objects, {} MiB: written in {written:?}, copied in {copied:?}, opened in {opened:?}",
        shadow.stats().state_bytes >> 20
    );
    assert!(opened < Duration::from_secs(60), "{opened:?}");
}
