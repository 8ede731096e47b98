//! Power cuts while the writer keeps its own time: of each file only what was flushed is left.

use std::collections::BTreeSet;
use std::time::Duration;

use virtflow_powercut::{Recorder, State, sample, scratch};
use virtflow_state::port::Shadow as _;

use super::cuts::runtime;
use super::machine::{Machine, assert_same, open, options};
use crate::{ShadowOptions, SqliteShadow, Timing};

/// Cuts that are looked at.
const CUTS: usize = 120;

#[test]
fn a_power_cut_at_any_moment_keeps_what_was_durable() {
    let dir = scratch();
    let mut machine = Machine::new();
    machine.fill(120);
    let root = dir.path().join("disk");
    std::fs::create_dir(&root).unwrap();
    let recorder = Recorder::start(&root);
    let live = recorder.root().join("shadow");
    let options = ShadowOptions {
        timing: Timing {
            linger: Duration::ZERO,
            durable_every: Duration::from_millis(5),
        },
        ..options()
    };
    runtime().block_on(async {
        let (shadow, _) = SqliteShadow::open(&live, options).await.unwrap();
        for entry in &machine.entries {
            shadow.submit(entry.clone());
            shadow.log_flushed(entry.index);
            if entry.index % 3 == 0 {
                shadow.wait_written(entry.index).await.unwrap();
            }
            let progress = shadow.progress();
            recorder.mark("durable", progress.durable);
            recorder.mark("written", progress.written);
        }
        shadow.close().await.unwrap();
    });
    let stream = recorder.finish();
    let mut states = stream.states();
    states.retain(State::is_flushed_only);
    let (mut found, mut lost) = (BTreeSet::new(), 0);
    let mut number = 0;
    stream.visit(&sample(&states, CUTS), |state, image| {
        number += 1;
        let left = dir.path().join(format!("left-{number}"));
        image.write(&left).unwrap();
        runtime().block_on(async {
            let (shadow, loaded) = open(&left.join("shadow")).await;
            let index = loaded.state.index();
            let durable = state.mark("durable").unwrap_or(0);
            assert!(
                index >= durable,
                "{state}: {durable} was durable, {index} is left"
            );
            found.insert(index);
            lost += u32::from(index < state.mark("written").unwrap_or(0));
            if index > 0 {
                let image = &machine.entries[usize::try_from(index).unwrap() - 1].image;
                assert_same(&loaded, image);
            }
            machine.submit_after(&shadow, index);
            shadow.wait_durable(machine.index()).await.unwrap();
            assert_eq!(shadow.missing_records().await.unwrap(), vec![]);
            let report = shadow.verify_stream("audit").await.unwrap();
            assert_eq!(report.broken, None);
            assert_eq!(report.verified, machine.state.stream("audit").count);
        });
    });
    // The cuts did cut something off, at several places.
    assert!(
        lost > 5 && found.len() > 3,
        "{lost} cuts lost something; left: {found:?}"
    );
}
