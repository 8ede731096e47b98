//! The leader's clock against the other voters': its time becomes the label on every change, so a
//! leader whose clock is off hands over.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use virtflow_raft::MemberRole;
use virtflow_types::Timestamp;

use super::{Leader, Outcome};
use crate::app::App;
use crate::daemon::peer_calls;

/// How often clocks are compared.
const PERIOD: Duration = Duration::from_secs(10);
/// How far off the voters' median a leader's clock may be.
const OFFSET_MAX_MS: i64 = 2000;

pub(super) async fn run(app: App, leader: Arc<Leader>) {
    loop {
        let began = Instant::now();
        let mut outcome = Outcome::default();
        if let Some(offset) = offset_ms(&app).await {
            app.metrics().clock_offset_ms.set(offset);
            if offset.abs() > OFFSET_MAX_MS {
                tracing::error!(
                    offset_ms = offset,
                    "this clock is off the voters' median; handing over the lead"
                );
                if let Err(error) = app.node().hand_over().await {
                    outcome.error = Some(format!("handing over: {error}"));
                }
            }
        }
        leader.note_pass(&app, "clock", began, &outcome);
        tokio::time::sleep(PERIOD).await;
    }
}

/// This clock minus the median of all voters' that answer; `None` if too few do.
async fn offset_ms(app: &App) -> Option<i64> {
    let me = app.node().node_id();
    let voters: Vec<u64> = app
        .node()
        .members()
        .into_iter()
        .filter(|member| member.role == MemberRole::Voter)
        .map(|member| member.node_id)
        .collect();
    let others = voters
        .iter()
        .filter(|id| **id != me)
        .map(|id| measure(app, *id));
    let mut offsets: Vec<i64> = join_all(others).await.into_iter().flatten().collect();
    offsets.push(0);
    (offsets.len() * 2 > voters.len()).then(|| -median(&mut offsets))
}

/// That member's clock minus this one, assuming that both ways take as long.
async fn measure(app: &App, node_id: u64) -> Option<i64> {
    let asked = Timestamp::now().ms();
    let reply = peer_calls::live(app, node_id, false).await.ok()?;
    let answered = Timestamp::now().ms();
    let here = asked + answered.saturating_sub(asked) / 2;
    i64::try_from(i128::from(reply.now_ms) - i128::from(here)).ok()
}

fn median(offsets: &mut [i64]) -> i64 {
    offsets.sort_unstable();
    offsets
        .get((offsets.len().max(1) - 1) / 2)
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_clock_that_is_off() {
        assert_eq!(median(&mut [0]), 0);
        assert_eq!(median(&mut [0, 5000]), 0);
        assert_eq!(median(&mut [0, -3, 90_000]), 0);
        assert_eq!(median(&mut [0, 60_000, 60_004]), 60_000);
    }
}
