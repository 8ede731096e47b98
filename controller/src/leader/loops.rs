//! Runs the loops that work on the state alone: deadlines, retirement, what overcommit changed, deletions
//! under way, references that dangle.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_logic::Limits;
use virtflow_state::{Changeset, State};
use virtflow_types::Timestamp;

use super::{Leader, propose_all};
use crate::app::App;

/// Without a change, each looks so often: deadlines pass by themselves.
const PERIOD: Duration = Duration::from_secs(1);
/// Two passes are at least so far apart, however much changes.
const PAUSE: Duration = Duration::from_millis(200);

/// One pass: what should be proposed now.
pub(super) type Pass = fn(&State, Timestamp, &Limits) -> Vec<Changeset>;

pub(super) async fn run(app: App, leader: Arc<Leader>, name: &'static str, pass: Pass) {
    let limits = Limits::default();
    loop {
        let changed = leader.changed.notified();
        let began = Instant::now();
        let changesets = pass(&app.node().image(), Timestamp::now(), &limits);
        let outcome = propose_all(&app, changesets).await;
        if let Some(error) = &outcome.error {
            tracing::debug!(name, error, "a loop's proposal failed; it is decided anew");
        }
        leader.note_pass(&app, name, began, &outcome);
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}
