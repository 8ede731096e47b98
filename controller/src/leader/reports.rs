//! What agents saw of their VMs, turned into changes of the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use virtflow_proto::agent::v1::ObservedState;
use virtflow_types::{ObjectId, RequestId, Timestamp};

use super::{Leader, Outcome, propose_all};
use crate::agents::report_of;
use crate::app::App;

/// Reports taken in one pass.
const REPORTS_PER_PASS: usize = 256;
/// Hosts worked on at once.
const HOSTS_AT_ONCE: usize = 32;
/// How often a report is judged again when the state moved on meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// One report of one host.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) host: ObjectId,
    pub(super) session: u64,
    pub(super) host_epoch: u64,
    pub(super) observed: ObservedState,
}

pub(super) async fn run(app: App, leader: Arc<Leader>, mut queue: mpsc::Receiver<Report>) {
    let mut batch = Vec::with_capacity(REPORTS_PER_PASS);
    while queue.recv_many(&mut batch, REPORTS_PER_PASS).await > 0 {
        let began = Instant::now();
        // Hosts beside each other, the reports of one in their order.
        let mut by_host: BTreeMap<ObjectId, Vec<Report>> = BTreeMap::new();
        for report in batch.drain(..) {
            by_host.entry(report.host).or_default().push(report);
        }
        let outcomes: Vec<Outcome> = futures::stream::iter(by_host.into_values())
            .map(|reports| take_all(&app, &leader, reports))
            .buffer_unordered(HOSTS_AT_ONCE)
            .collect()
            .await;
        let mut total = Outcome::default();
        for outcome in outcomes {
            total.committed += outcome.committed;
            total.error = outcome.error.or(total.error);
        }
        leader.note_pass(&app, "reports", began, &total);
    }
}

async fn take_all(app: &App, leader: &Leader, reports: Vec<Report>) -> Outcome {
    let mut total = Outcome::default();
    for report in reports {
        let outcome = take(app, &report).await;
        let taken = outcome.error.is_none();
        app.metrics().report(match (taken, outcome.committed) {
            (false, _) => "failed",
            (true, 0) => "unchanged",
            (true, _) => "applied",
        });
        // What could not be taken in is asked for again: its hash stays unknown.
        let hash = taken.then_some(report.observed.hash);
        leader.hosts().settled(report.host, report.session, hash);
        total.committed += outcome.committed;
        total.error = outcome.error.or(total.error);
    }
    total
}

async fn take(app: &App, report: &Report) -> Outcome {
    let observed = report_of(&report.observed);
    let mut total = Outcome::default();
    for _ in 0..ATTEMPTS_MAX {
        let changesets = virtflow_logic::observed(
            &app.node().image(),
            RequestId::generate(),
            Timestamp::now(),
            report.host,
            report.host_epoch,
            &observed,
        );
        if changesets.iter().all(|changeset| changeset.ops.is_empty()) {
            total.error = None;
            return total;
        }
        let outcome = propose_all(app, changesets).await;
        total.committed += outcome.committed;
        total.error = outcome.error;
        if total.error.is_none() {
            return total;
        }
    }
    total
}
