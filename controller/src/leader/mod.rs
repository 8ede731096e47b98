//! What only the leader does, listed once.
//!
//! A [`Leader`] exists while this controller leads and is ready; it is dropped whole when it loses the
//! lead, and with it everything that its memory says about hosts. Its loops have no input but the state
//! and that memory, may run twice without harm, are woken by changes and by a timer, do a bounded amount
//! of work a pass, and tell how they fare in `/status`.

mod alone;
mod boxes;
mod clock;
mod health;
mod hosts;
mod leases;
mod loops;
mod members;
mod placer;
mod reports;
mod table;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use virtflow_pki::KeyFingerprint;
use virtflow_proto::agent::v1::{AgentMessage, ControllerMessage};
use virtflow_raft::{ChangeEvent, DecideError, MemberRole};
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, ObjectId, Timestamp};

pub use alone::HostTable;

use crate::app::{App, HostLive};
use reports::Report;
use table::Hosts;

/// Reports that wait to be judged; more are dropped, and asked for again by their hash.
const REPORTS_QUEUED_MAX: usize = 4096;
/// Age at which a quorum's confirmation of the lead is too old to acknowledge a heartbeat by.
const CONFIRMED_AGE_MAX: Duration = Duration::from_millis(500);
/// How long a reading of that age is used.
const CONFIRMED_READ_EVERY: Duration = Duration::from_millis(50);
/// Changesets of one pass that are proposed at once.
const PROPOSALS_MAX: usize = 64;
/// Sessions numbered by one leadership.
const SESSION_BITS: u32 = 32;

/// The leadership of one term.
#[derive(Debug)]
pub struct Leader {
    term: u64,
    began: Instant,
    hosts: Mutex<Hosts>,
    boxes: Mutex<boxes::Heard>,
    reports: mpsc::Sender<Report>,
    sessions: AtomicU64,
    /// Wakes the loops that work on the state alone.
    changed: Notify,
    loops: Mutex<BTreeMap<&'static str, LoopStatus>>,
    confirmed: Mutex<Confirmed>,
}

#[derive(Debug)]
struct Confirmed {
    read: Instant,
    good: bool,
}

/// How a loop fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoopStatus {
    /// Passes since this leadership began.
    pub passes: u64,
    /// Changesets that it proposed and that were committed.
    pub committed: u64,
    /// Microseconds of the last pass.
    pub last_pass_us: u64,
    /// When the last pass ended.
    pub last_at: Timestamp,
    /// Why its last proposal failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Leader {
    fn new(app: &App, term: u64) -> (Arc<Self>, mpsc::Receiver<Report>) {
        let (reports, queue) = mpsc::channel(REPORTS_QUEUED_MAX);
        let now = Instant::now();
        let leader = Self {
            term,
            began: now,
            hosts: Mutex::new(Hosts::from_state(&app.node().image(), now)),
            boxes: Mutex::new(boxes::Heard::new(now)),
            reports,
            sessions: AtomicU64::new(0),
            changed: Notify::new(),
            loops: Mutex::new(BTreeMap::new()),
            confirmed: Mutex::new(Confirmed {
                read: now,
                good: true,
            }),
        };
        (Arc::new(leader), queue)
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn boxes(&self) -> std::sync::MutexGuard<'_, boxes::Heard> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cloud box that there is told of itself.
    pub(crate) fn heard(&self, cloud_box: ObjectId) {
        self.boxes().hear(cloud_box, Instant::now());
    }

    /// A number that no session of this or an earlier leadership has.
    fn next_session(&self) -> u64 {
        (self.term << SESSION_BITS) + self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// True if a quorum confirmed this leadership a moment ago.
    fn is_confirmed(&self, app: &App) -> bool {
        let mut confirmed = self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if confirmed.read.elapsed() >= CONFIRMED_READ_EVERY || !confirmed.good {
            let status = app.node().status();
            let voters = status
                .members
                .iter()
                .filter(|m| m.role == MemberRole::Voter)
                .count();
            // Alone it needs nobody's word.
            confirmed.good = status.is_leader_ready
                && (voters == 1
                    || status
                        .quorum_ack_ms_ago
                        .is_some_and(|ms| Duration::from_millis(ms) <= CONFIRMED_AGE_MAX));
            confirmed.read = Instant::now();
        }
        confirmed.good
    }

    /// Takes what an agent said, from the controller that holds its session. The answer is for the agent.
    pub async fn receive(
        &self,
        app: &App,
        host: ObjectId,
        key: &KeyFingerprint,
        message: AgentMessage,
        received: Instant,
        holder: ObjectId,
    ) -> Result<Option<ControllerMessage>, Error> {
        hosts::receive(self, app, host, key, message, received, holder).await
    }

    /// What heartbeats said of the hosts.
    pub fn live(&self, app: &App) -> BTreeMap<ObjectId, HostLive> {
        let names: BTreeMap<ObjectId, String> = app
            .node()
            .members()
            .into_iter()
            .map(|member| (member.info.store_id, member.info.name))
            .collect();
        self.hosts().live(&names)
    }

    /// How the loops fare.
    pub fn loop_statuses(&self) -> BTreeMap<&'static str, LoopStatus> {
        self.loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How long this leadership has lasted.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn note_pass(&self, app: &App, name: &'static str, began: Instant, outcome: &Outcome) {
        let label = crate::metrics::LoopLabel { name: name.into() };
        let metrics = app.metrics();
        metrics
            .reconcile_seconds
            .get_or_create(&label)
            .observe(began.elapsed().as_secs_f64());
        metrics
            .reconcile_changesets
            .get_or_create(&label)
            .inc_by(outcome.committed);
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let status = loops.entry(name).or_default();
        status.passes += 1;
        status.committed += outcome.committed;
        status.last_pass_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        status.last_at = Timestamp::now();
        status.last_error.clone_from(&outcome.error);
    }
}

/// What became of a pass's proposals.
#[derive(Debug, Default)]
struct Outcome {
    committed: u64,
    error: Option<String>,
    /// Highest index that the committed ones have.
    index: u64,
}

/// Proposes changesets, many at once. One that is refused was decided on an older state: the next pass
/// sees the newer one.
async fn propose_all(app: &App, changesets: Vec<Changeset>) -> Outcome {
    use futures::StreamExt;

    let mut outcome = Outcome::default();
    let mut results = futures::stream::iter(
        changesets
            .into_iter()
            .filter(|changeset| !changeset.ops.is_empty())
            .map(|changeset| app.node().propose(changeset)),
    )
    .buffer_unordered(PROPOSALS_MAX);
    while let Some(result) = results.next().await {
        match result {
            Ok(committed) => {
                outcome.committed += 1;
                outcome.index = outcome.index.max(committed.index);
            }
            Err(error @ DecideError::Conflict(_)) => {
                tracing::debug!(%error, "a loop's changeset was refused; the next pass decides anew");
                outcome.error = Some(error.to_string());
            }
            Err(error) => outcome.error = Some(error.to_string()),
        }
    }
    outcome
}

/// Follows the leadership: starts a [`Leader`] when ready, drops it when not. Runs until the node stops.
pub async fn follow(app: App) {
    let mut leadership = app.node().leadership();
    let mut running: Option<(u64, JoinSet<()>)> = None;
    loop {
        let now = *leadership.borrow_and_update();
        let term = now.is_leader_ready.then_some(now.term);
        if running.as_ref().map(|(term, _)| *term) != term {
            if let Some((term, mut loops)) = running.take() {
                app.set_leader(None);
                loops.abort_all();
                while loops.join_next().await.is_some() {}
                tracing::info!(term, "does not lead any more");
            }
            if let Some(term) = term {
                tracing::info!(term, "leads");
                running = Some((term, start(&app, term)));
            }
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { break },
            () = app.stopping().cancelled() => break,
        }
    }
    app.set_leader(None);
    if let Some((_, mut loops)) = running {
        loops.abort_all();
        while loops.join_next().await.is_some() {}
    }
}

/// Starts everything that a leader runs: the list.
fn start(app: &App, term: u64) -> JoinSet<()> {
    let (leader, reports) = Leader::new(app, term);
    app.set_leader(Some(leader.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(watch(app.clone(), leader.clone()));
    tasks.spawn(reports::run(app.clone(), leader.clone(), reports));
    tasks.spawn(leases::run(app.clone(), leader.clone()));
    tasks.spawn(boxes::run(app.clone(), leader.clone()));
    tasks.spawn(health::run(app.clone(), leader.clone()));
    tasks.spawn(placer::run(app.clone(), leader.clone()));
    tasks.spawn(clock::run(app.clone(), leader.clone()));
    tasks.spawn(members::run(app.clone(), leader.clone()));
    for watching in virtflow_logic::loops::WATCHING {
        tasks.spawn(loops::watch(app.clone(), leader.clone(), *watching));
    }
    for (name, pass) in virtflow_logic::loops::TIMED {
        tasks.spawn(loops::run(app.clone(), leader.clone(), name, *pass));
    }
    tasks
}

/// Wakes the loops when the state changes, and forgets hosts that were removed.
async fn watch(app: App, leader: Arc<Leader>) {
    let (image, mut changes) = app.node().changes();
    leader.hosts().keep_known(&image);
    while let Some(event) = changes.next().await {
        match event {
            ChangeEvent::Entry(entry) if entry.changes.is_empty() => continue,
            ChangeEvent::Entry(entry) => {
                let removed = entry.changes.iter().any(|change| change.after.is_none());
                if removed {
                    leader.hosts().keep_known(&entry.image);
                }
            }
            ChangeEvent::Resync(image) => leader.hosts().keep_known(&image),
        }
        leader.changed.notify_waiters();
    }
}

/// The typed row of a host, if there is one.
fn host_row(
    state: &State,
    host: ObjectId,
) -> Option<Arc<virtflow_logic::Typed<virtflow_model::kinds::Baremetal>>> {
    virtflow_logic::decoded::<virtflow_model::kinds::Baremetal>(state.get(host)?).ok()
}
