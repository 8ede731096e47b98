//! One flipped bit in every byte of a state file: refused, or shown to change no row.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use virtflow_powercut::{every, scratch};
use virtflow_state::port::Shadow as _;

use super::cuts::runtime;
use super::machine::{Machine, assert_same, open, options};
use crate::StoreError;
use crate::state_file::StateFile;

/// Every so manieth byte is looked at in an ordinary run.
const STEP: usize = 211;
/// The smallest file that is looked at.
const FILE_BYTES: usize = 256 * 1024;

/// A closed store whose state file is that large.
async fn closed(dir: &Path) -> Machine {
    let (shadow, _) = open(dir).await;
    let mut machine = Machine::new();
    let path = dir.join("state.1.db");
    loop {
        let after = machine.index();
        machine.grow(10);
        machine.submit_after(&shadow, if after == 1 { 0 } else { after });
        shadow.wait_durable(machine.index()).await.unwrap();
        shadow.snapshot(machine.index()).await.unwrap();
        if fs::metadata(&path).unwrap().len() >= FILE_BYTES as u64 {
            break;
        }
    }
    shadow.close().await.unwrap();
    machine
}

/// What became of one flipped bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Foreign,
    TooNew,
    Damaged,
    Sql,
    Harmless,
}

/// Opens the file as a start does: header, pages and indexes, marks, rows, digest, and a first flush.
async fn outcome(path: &Path, machine: &Machine) -> Outcome {
    let opened = StateFile::open(path.to_owned(), 1, &options(), Some(&[])).await;
    let (file, content) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("state.1.db"), "{text}");
            return match error {
                StoreError::Foreign { .. } => Outcome::Foreign,
                StoreError::TooNew { .. } => Outcome::TooNew,
                StoreError::Damaged { .. } => Outcome::Damaged,
                StoreError::Sql { .. } => Outcome::Sql,
                other => panic!("{other}"),
            };
        }
    };
    assert_same(&content.loaded(), &machine.state);
    assert_eq!(
        content.meta.raft_meta,
        format!("raft meta at {}", machine.index()).as_bytes()
    );
    file.close().await.unwrap();
    Outcome::Harmless
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_state_is_refused_or_changes_no_row() {
    let dir = scratch();
    let machine = runtime().block_on(closed(&dir.path().join("sound")));
    let sound = fs::read(dir.path().join("sound/state.1.db")).unwrap();
    assert!(sound.len() >= FILE_BYTES);
    let (step, from) = every(STEP);
    println!("every byte from {from} in steps of {step}");
    let counts = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (dir, sound, machine) = (dir.path(), &sound, &machine);
            let (counts, next) = (&counts, &next);
            scope.spawn(move || {
                let dir = dir.join(format!("flipped-{thread}"));
                let runtime = runtime();
                let mut flipped = sound.clone();
                loop {
                    let at = from + next.fetch_add(step, Ordering::Relaxed);
                    if at >= sound.len() {
                        break;
                    }
                    // A connection that is just closing removes files by their names: a new folder.
                    let dir = dir.join(at.to_string());
                    fs::create_dir_all(&dir).unwrap();
                    let path = dir.join("state.1.db");
                    flipped[at] ^= 1 << (at % 8);
                    fs::write(&path, &flipped).unwrap();
                    flipped[at] = sound[at];
                    let outcome = runtime.block_on(outcome(&path, machine));
                    fs::remove_dir_all(&dir).unwrap();
                    *counts.lock().unwrap().entry(outcome).or_insert(0) += 1;
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{} bytes: {counts:?}", sound.len());
    let all: usize = counts.values().sum();
    assert_eq!(all, (sound.len() - from).div_ceil(step));
    // Most of the file is rows, and a changed row is found.
    assert!(counts[&Outcome::Damaged] * 2 > all, "{counts:?}");
}
