//! Killed at any point between two writes: what is on the disk then opens, and with the log's tail gives
//! the same state.

use std::fs;
use std::path::Path;

use proptest::test_runner::{Config, TestRunner};
use virtflow_state::port::Shadow as _;

use super::machine::{Machine, assert_same, open, script};
use crate::crash::CrashPoint;

/// The folder as a killed process leaves it. The writer stands still meanwhile.
pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            // The index of a write-ahead log is rebuilt after a crash.
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_crash_anywhere_loses_nothing_with_the_tail_of_the_log() {
    let mut runner = TestRunner::new(Config {
        cases: 120,
        failure_persistence: None,
        ..Config::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let points = proptest::sample::select(vec![
        CrashPoint::RecordsWritten,
        CrashPoint::RecordsCommitted,
        CrashPoint::StateWritten,
        CrashPoint::StateCommitted,
    ]);
    runner
        .run(
            &(script(16), points, 0_u32..6),
            |(script, point, passes)| {
                runtime.block_on(async {
                    let dir = tempfile::tempdir().unwrap();
                    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
                    let (shadow, _) = open(&first).await;
                    let mut machine = Machine::new();
                    machine.play(&script);
                    shadow.shared.crash.arm(point, passes);
                    let mut durable = 0;
                    for entry in &machine.entries {
                        shadow.submit(entry.clone());
                        shadow.log_flushed(entry.index);
                        let crashed = tokio::select! {
                            () = shadow.shared.crash.reached() => true,
                            result = shadow.wait_durable(entry.index) => { result.unwrap(); false }
                        };
                        if crashed {
                            break;
                        }
                        durable = entry.index;
                    }
                    assert!(shadow.progress().durable >= durable);
                    copy_dir(&first, &second);
                    drop(shadow);

                    let (shadow, loaded) = open(&second).await;
                    let index = loaded.state.index();
                    assert!(
                        index >= durable,
                        "durable at {durable}, came back at {index}"
                    );
                    if let Some(entry) = machine.entries.iter().find(|entry| entry.index == index) {
                        assert_same(&loaded, &entry.image);
                    } else {
                        assert_eq!(index, 0);
                    }
                    machine.submit_after(&shadow, index);
                    shadow.wait_durable(machine.index()).await.unwrap();
                    for stream in ["audit", "usage"] {
                        let report = shadow.verify_stream(stream).await.unwrap();
                        assert_eq!(report.broken, None);
                        assert_eq!(report.verified, machine.state.stream(stream).count);
                    }
                    assert_eq!(shadow.missing_records().await.unwrap(), vec![]);
                    shadow.close().await.unwrap();
                    drop(shadow);
                    let (_, loaded) = open(&second).await;
                    assert_same(&loaded, &machine.state);
                });
                Ok(())
            },
        )
        .unwrap();
}
