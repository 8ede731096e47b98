//! Whatever bytes come as a changeset, a log entry or a row: refused, or read as what it says.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use virtflow_state::{Batch, Changeset, Object, Op, State, verify};
use virtflow_testkit::fuzz::{Format, Target, memory::Counting};

#[global_allocator]
static MEMORY: Counting = Counting;

const CHANGESET: &[u8] = include_bytes!("fixtures/changeset-1.bin");
const BATCH: &[u8] = include_bytes!("fixtures/batch-1.bin");
const WORDS: &[&str] = &["audit", "memory_mib", "virtual_machine", "{}"];

/// A changeset of one op of each kind, so that mutants of one are often taken.
fn single_ops() -> impl Iterator<Item = Bytes> {
    let whole = Changeset::decode(Bytes::from_static(CHANGESET)).unwrap();
    let ops = whole.ops.clone();
    ops.into_iter().map(move |op| {
        let mut changeset = whole.clone();
        changeset.ops = vec![op];
        changeset.encode()
    })
}

/// A state that the fixture's row may be put into.
fn state() -> State {
    let mut state = State::empty();
    let whole = Changeset::decode(Bytes::from_static(CHANGESET)).unwrap();
    let mut first = whole.clone();
    first
        .ops
        .retain(|op| matches!(op, Op::Genesis(..) | Op::Record(_)));
    state.apply(&first).unwrap();
    for id in [0x22, 0x33, 0x44, 0x55, 0x66] {
        let mut owner = Object::new("owner", virtflow_types::ObjectId::from_u128(id), "");
        owner.footprint.accounts = ["memory_mib", "cpu_milli"]
            .map(|dimension| virtflow_state::AccountDef {
                dimension: dimension.into(),
                parent: None,
                limit: virtflow_state::Limit::Unlimited,
            })
            .into();
        let mut changeset = whole.clone();
        changeset.ops = vec![Op::Put(Box::new(owner))];
        state.apply(&changeset).unwrap();
    }
    state
}

#[test]
fn changeset() {
    let state = state();
    let mut first = Changeset::decode(Bytes::from_static(CHANGESET)).unwrap();
    first.ops.retain(|op| matches!(op, Op::Put(_)));
    if let Op::Put(object) = &mut first.ops[0] {
        object.version = 1;
    }
    assert!(state.clone().apply(&first).is_ok());
    let mut target = Target::new("changeset", Format::Proto)
        .seed(CHANGESET)
        .seed(first.encode())
        .words(WORDS)
        .memory(300, 64 * 1024);
    for seed in single_ops() {
        target = target.seed(seed);
    }
    target.run(|input| {
        let read = Changeset::decode(Bytes::copy_from_slice(input)).map_err(|e| e.to_string())?;
        let written = read.encode();
        let again = Changeset::decode(written.clone()).unwrap();
        assert_eq!(again, read);
        assert_eq!(again.encode(), written);
        // A replica that panics here panics on every controller.
        let mut state = state.clone();
        let digest = state.digest();
        if state.apply(&read).is_err() {
            assert_eq!(state.digest(), digest);
        } else {
            assert_eq!(verify(&state), vec![]);
        }
        Ok(())
    });
}

#[test]
fn batch() {
    Target::new("batch", Format::Proto)
        .seed(BATCH)
        .memory(128, 64 * 1024)
        .sizes(4096, 512 * 1024)
        .run(|input| {
            let read = Batch::decode(Bytes::copy_from_slice(input)).map_err(|e| e.to_string())?;
            let written = read.encode();
            assert_eq!(Batch::decode(written.clone()).unwrap(), read);
            for changeset in read.changesets {
                let _ = Changeset::decode(changeset);
            }
            Ok(())
        });
}

#[test]
fn row() {
    let whole = Changeset::decode(Bytes::from_static(CHANGESET)).unwrap();
    let put = whole.ops.iter().find_map(|op| match op {
        Op::Put(object) => Some(object.encode()),
        _ => None,
    });
    Target::new("row", Format::Proto)
        .seed(put.unwrap())
        .seed(Object::new("thing", virtflow_types::ObjectId::from_u128(1), "").encode())
        .words(WORDS)
        .memory(300, 64 * 1024)
        .run(|input| {
            let read = Object::decode(Bytes::copy_from_slice(input)).map_err(|e| e.to_string())?;
            let written = read.encode();
            let again = Object::decode(written.clone().into()).unwrap();
            assert_eq!(again, read);
            assert_eq!(again.encode(), written);
            assert_eq!(again.hash(), read.hash());
            Ok(())
        });
}
