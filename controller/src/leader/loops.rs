//! Runs the loops that work on the state alone: deadlines, retirement, what overcommit changed, deletions
//! under way, references that dangle.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_logic::Limits;
use virtflow_logic::loops::{Agenda, Watching};
use virtflow_raft::ChangeEvent;
use virtflow_state::{Changeset, State};
use virtflow_types::Timestamp;

use super::{Leader, propose_all};
use crate::app::App;
use crate::off_loop::off_loop;

/// Without a change, each looks so often: deadlines pass by themselves.
const PERIOD: Duration = Duration::from_secs(1);
/// Two passes are at least so far apart, however much changes.
const PAUSE: Duration = Duration::from_millis(200);

/// A loop rests so many times as long as its pass took: one that has to look at much takes a twentieth of a core.
const REST: u32 = 20;
/// But never longer than this: a deadline is noticed that late at worst.
const REST_MAX: Duration = Duration::from_secs(10);

/// One pass: what should be proposed now.
pub(super) type Pass = fn(&State, Timestamp, &Limits) -> Vec<Changeset>;

pub(super) async fn run(app: App, leader: Arc<Leader>, name: &'static str, pass: Pass) {
    let limits = Limits::default();
    loop {
        let changed = leader.changed.notified();
        let began = Instant::now();
        let (image, limits) = (app.node().image(), limits.clone());
        let work = move || pass(&image, Timestamp::now(), &limits);
        let changesets = match off_loop(work).await {
            Ok(changesets) => changesets,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The process ends.
            Err(_) => return,
        };
        let worked = began.elapsed();
        let outcome = propose_all(&app, changesets).await;
        if let Some(error) = &outcome.error {
            tracing::debug!(name, error, "a loop's proposal failed; it is decided anew");
        }
        leader.note_pass(&app, name, began, &outcome);
        tokio::time::sleep((worked * REST).clamp(PAUSE, REST_MAX)).await;
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Runs a loop that knows from the changes what it has to look at.
pub(super) async fn watch(app: App, leader: Arc<Leader>, watching: Watching) {
    let limits = Limits::default();
    let (mut image, mut changes) = app.node().changes();
    let mut agenda = Agenda::new(watching, &image);
    let mut next = Instant::now();
    // What the last pass committed has been taken in once the image is this new.
    let mut rests_on = 0;
    loop {
        let mut wanted = false;
        while !wanted || image.index() < rests_on {
            tokio::select! {
                event = changes.next() => match event {
                    Some(ChangeEvent::Entry(entry)) => {
                        image = Arc::new(entry.image.clone());
                        agenda.absorb(&image, &entry.changes);
                        // What is waited for may have come, whatever it was.
                        wanted |= !entry.changes.is_empty() && !agenda.is_empty();
                    }
                    Some(ChangeEvent::Resync(whole)) => {
                        image = whole;
                        agenda.resync(&image);
                        wanted = true;
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(next), if !wanted => wanted = true,
            }
        }
        let began = Instant::now();
        let changesets = agenda.pass(&image, Timestamp::now(), &limits);
        let outcome = propose_all(&app, changesets).await;
        if let Some(error) = &outcome.error {
            tracing::debug!(
                name = agenda.name(),
                error,
                "a loop's proposal failed; it is decided anew"
            );
        }
        leader.note_pass(&app, agenda.name(), began, &outcome);
        rests_on = outcome.index;
        next = Instant::now() + PERIOD;
        tokio::time::sleep(PAUSE).await;
    }
}
