//! The group's membership is brought to its end: a change that a former leader left half done is ended, and members
//! that the state says are removed are taken out.
//!
//! A removal takes a controller out of the membership first and marks it in the state after that. In between, the
//! removed one, which still runs, may say who it is and be taken in again: then it would be a member that nobody can
//! name, holding its name and address against whoever replaces it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_model::kinds::Controller;
use virtflow_types::ObjectId;

use super::{Leader, Outcome};
use crate::app::App;

/// How often the two are compared.
const PERIOD: Duration = Duration::from_secs(1);

pub(super) async fn run(app: App, leader: Arc<Leader>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        if let Err(error) = app.node().settle_membership().await {
            tracing::warn!(%error, "a change of the membership that was left half done is not ended yet");
        }
        let removed = removed_members(&app);
        if removed.is_empty() {
            continue;
        }
        let began = Instant::now();
        let mut outcome = Outcome::default();
        for (node_id, store_id) in removed {
            tracing::warn!(node_id, %store_id, "a removed controller is still a member; taking it out");
            match app.node().remove(node_id).await {
                Ok(()) => outcome.committed += 1,
                Err(error) => outcome.error = Some(error.to_string()),
            }
        }
        leader.note_pass(&app, "removed_members", began, &outcome);
    }
}

fn removed_members(app: &App) -> Vec<(u64, ObjectId)> {
    let image = app.node().image();
    let is_removed = |store_id: ObjectId| {
        image
            .get(store_id)
            .and_then(|row| virtflow_logic::decoded::<Controller>(row).ok())
            .is_some_and(|controller| controller.status.removed)
    };
    app.node()
        .members()
        .into_iter()
        .filter(|member| is_removed(member.info.store_id))
        .map(|member| (member.node_id, member.info.store_id))
        .collect()
}
