//! The connection to the controllers: dial one, talk, and when it goes silent dial another.
//!
//! Any controller will do; which one leads is not the agent's concern. What the agent runs does not
//! depend on a session: without one, guests go on.

mod talk;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use virtflow_proto::agent::v1;
use virtflow_types::chance;

use crate::config::Config;
use crate::identity::{HostIdentity, now_ms};
use crate::inventory::Machine;
use crate::metrics::Metrics;
use crate::reconcile::Reconciler;

/// A controller that says nothing for so long is left for another.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Pause after the first failed attempt; doubles with each, and is spread by half.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Pause between attempts of a host that was removed from its cluster.
const PAUSE_REMOVED: Duration = Duration::from_secs(60);
/// A session that held this long begins anew without a pause.
const SESSION_GOOD: Duration = Duration::from_secs(10);

/// How the connection is, for people and monitoring.
#[derive(Debug, Clone, Default)]
pub struct SessionState {
    /// The controller that is talked to.
    pub controller: Option<String>,
    /// The session's number; `None` before the welcome.
    pub number: Option<u64>,
    /// The host's epoch.
    pub host_epoch: u64,
    /// When the session began.
    pub since: Option<Instant>,
    /// When the controller last said something.
    pub heard_at: Option<Instant>,
    /// Why the last session or attempt ended.
    pub last_problem: Option<String>,
    /// The cluster said that this host was removed.
    pub removed: bool,
}

/// What a session is about.
#[derive(Debug)]
pub struct SessionContext {
    /// The configuration.
    pub config: Config,
    /// Who we are.
    pub identity: HostIdentity,
    /// The machine it is on.
    pub machine: Arc<dyn Machine>,
    /// The guests.
    pub reconciler: Reconciler,
    /// The load, measured each interval.
    pub load: watch::Receiver<v1::Load>,
    /// What the machine has; changes when something lasting does.
    pub inventory: watch::Receiver<v1::Inventory>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    state: Mutex<SessionState>,
    /// Spreads renewals over hosts that joined at once.
    renewal_jitter: u64,
}

impl SessionContext {
    /// A context without a session.
    #[must_use]
    pub fn new(
        config: Config,
        identity: HostIdentity,
        machine: Arc<dyn Machine>,
        reconciler: Reconciler,
        load: watch::Receiver<v1::Load>,
        inventory: watch::Receiver<v1::Inventory>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            config,
            identity,
            machine,
            reconciler,
            load,
            inventory,
            metrics,
            state: Mutex::default(),
            renewal_jitter: chance::number(),
        }
    }

    /// How the connection is.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.with_state(|state| state.clone())
    }

    fn with_state<T>(&self, look: impl FnOnce(&mut SessionState) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everybody who might be dialled, in an order of this attempt's own.
    fn endpoints(&self, first: &[String]) -> Vec<String> {
        let mut others = self.identity.membership().agent_endpoints;
        others.extend(self.config.controllers.iter().cloned());
        chance::shuffle(&mut others);
        let mut all: Vec<String> = Vec::new();
        for endpoint in first.iter().chain(&others) {
            if !all.contains(endpoint) {
                all.push(endpoint.clone());
            }
        }
        all
    }
}

/// Why a session ended, and what that means for the next.
#[derive(Debug)]
struct End {
    problem: anyhow::Error,
    /// The controller said whom to try.
    try_first: Vec<String>,
    removed: bool,
    /// How long the session had held.
    held: Duration,
}

impl End {
    fn attempt(problem: anyhow::Error) -> Self {
        Self {
            problem,
            try_first: Vec::new(),
            removed: false,
            held: Duration::ZERO,
        }
    }
}

/// Holds sessions for ever.
pub async fn run(context: Arc<SessionContext>) {
    let mut failures = 0_u32;
    let mut queue: Vec<String> = Vec::new();
    loop {
        if let Some(why) = certificate_useless(&context) {
            if let Err(error) = context.identity.reenrol().await {
                let problem = format!("{:#}", error.context(why));
                note_end(&context, &problem, false);
                pause(failures, false).await;
                failures = failures.saturating_add(1);
                continue;
            }
            context.metrics.renewals.inc();
            tracing::info!("a certificate that was no use was replaced with the key on record");
        }
        if queue.is_empty() {
            queue = context.endpoints(&[]);
        }
        if queue.is_empty() {
            let problem = "no controller is known; name some in `controllers`";
            note_end(&context, problem, false);
            sleep(PAUSE_MAX).await;
            continue;
        }
        let endpoint = queue.remove(0);
        context.with_state(|state| state.controller = Some(endpoint.clone()));
        let end = talk::talk(&context, &endpoint).await;
        context.reconciler.set_session(false);
        let problem = format!("{endpoint}: {:#}", end.problem);
        note_end(&context, &problem, end.removed);
        if end.held >= SESSION_GOOD {
            failures = 0;
        }
        if queue.is_empty() || !end.held.is_zero() || !end.try_first.is_empty() {
            // Whoever was left goes last.
            queue = context.endpoints(&end.try_first);
            if let Some(at) = queue.iter().position(|other| *other == endpoint) {
                let left = queue.remove(at);
                queue.push(left);
            }
        }
        pause(failures, end.removed).await;
        failures = failures.saturating_add(1);
    }
}

fn certificate_useless(context: &SessionContext) -> Option<&'static str> {
    let validity = context.identity.certificates().certificate().validity();
    let now = now_ms();
    if validity.is_expired(now) {
        Some("the certificate has expired")
    } else if validity.is_premature(now) {
        Some("the certificate is valid only later: this clock, or that of who signed it, is off")
    } else {
        None
    }
}

fn note_end(context: &SessionContext, problem: &str, removed: bool) {
    let new = context.with_state(|state| {
        let new = state.number.is_some() || state.last_problem.as_deref() != Some(problem);
        *state = SessionState {
            last_problem: Some(problem.to_owned()),
            removed,
            ..SessionState::default()
        };
        new
    });
    // The same failure again and again is said once.
    if new {
        tracing::warn!(problem, "no session");
    }
}

async fn pause(failures: u32, removed: bool) {
    let longest = if removed {
        PAUSE_REMOVED
    } else {
        PAUSE_MIN
            .saturating_mul(1 << failures.min(10))
            .min(PAUSE_MAX)
    };
    // From half of it to all of it, so that a thousand agents don't come at once.
    sleep(longest.mul_f64(0.5 + chance::fraction() / 2.0)).await;
}
