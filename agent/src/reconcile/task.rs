//! The task that owns one VM: look, decide, do one step, look again.
//!
//! Nothing is remembered of a step but that it failed: what it did is seen in the hypervisor at the
//! next look. So a step may time out, be carried out twice, or be cut short by the end of the agent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use virtflow_proto::agent::v1::{ObservedVm, Phase};
use virtflow_types::ObjectId;

use super::decide::{
    Decision, Failure, RESTART_PAUSE_FORGIVEN, RESTART_PAUSE_MAX, RESTART_PAUSE_MIN, Step,
    Stopping, View, Volatile, decide,
};
use super::{Context, Seen, files};
use crate::desired::{DesiredVm, Tombstone};
use crate::hypervisor::{Adoption, Domain, ForeignDomain, HypervisorError};
use crate::local::{LocalState, StoredVm};
use crate::metrics::{Outcome, StepLabels};
use crate::off_loop::off_loop;

/// How long the hypervisor may take to tell about one domain.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long files may take to be made or removed.
const FILES_DEADLINE: Duration = Duration::from_secs(60);
/// How long a definition may take; the first one after libvirtd started takes seconds.
const DEFINE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a guest may take to start, waiting its turn behind others included.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long asking a guest to shut down may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(15);
/// How long ending a guest process may take; libvirt tries gently first.
const DESTROY_DEADLINE: Duration = Duration::from_secs(45);
/// How long removing a definition may take.
const UNDEFINE_DEADLINE: Duration = Duration::from_secs(30);
/// First pause after a step failed; doubles with each failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Pause before a running domain is marked again after that failed.
const RESTAMP_RETRY: Duration = Duration::from_secs(60);
/// Failed looks in a row after which the VM is reported as unknown.
const BLIND_LOOKS_MAX: u32 = 3;

/// A step that failed: a word and the cause.
struct StepError {
    reason: &'static str,
    message: String,
}

fn step_error(reason: &'static str) -> impl Fn(String) -> StepError {
    move |message| StepError { reason, message }
}

/// What is on disk about one VM.
struct Orders {
    wanted: Option<StoredVm>,
    tombstone: Option<Tombstone>,
    incarnation: Option<virtflow_types::Incarnation>,
}

impl Orders {
    fn read(state: &LocalState, vm_id: ObjectId) -> Self {
        Self {
            wanted: state.vms.get(&vm_id).cloned(),
            tombstone: state.tombstones.get(&vm_id).copied(),
            incarnation: state.highest.map(|stamp| stamp.incarnation),
        }
    }
}

/// One VM's task.
pub(super) struct VmTask {
    vm_id: ObjectId,
    context: Arc<Context>,
    kick: Arc<Notify>,
    volatile: Volatile,
    /// The order that `volatile` is about; another one begins afresh.
    about: Option<(DesiredVm, Option<Tombstone>)>,
    /// When the present run was first seen, for forgiving quick ends.
    running_since: Option<Instant>,
    blind_looks: u32,
}

impl VmTask {
    pub(super) fn new(vm_id: ObjectId, context: Arc<Context>, kick: Arc<Notify>) -> Self {
        Self {
            vm_id,
            context,
            kick,
            volatile: Volatile::default(),
            about: None,
            running_since: None,
            blind_looks: 0,
        }
    }

    /// Runs until nobody wants the VM and nothing of it is there.
    pub(super) async fn run(mut self) {
        loop {
            let orders = self.context.store.read(|s| Orders::read(s, self.vm_id));
            self.notice_new_orders(&orders);
            let Some((domain, foreign)) = self.look(&orders).await else {
                continue;
            };
            self.notice_guest(orders.wanted.as_ref(), domain.as_ref());
            let decision = decide(&View {
                wanted: orders.wanted.as_ref(),
                tombstone: orders.tombstone,
                incarnation: orders.incarnation,
                domain: domain.as_ref(),
                foreign: foreign.as_ref(),
                volatile: &self.volatile,
                session: self.context.has_session(),
                now: Instant::now(),
            });
            if decision.step == Step::Forget {
                if self.context.retire(self.vm_id) {
                    return;
                }
                continue;
            }
            self.report(&orders, domain.as_ref(), &decision);
            match decision.step {
                Step::Rest => self.kick.notified().await,
                Step::WaitUntil(at) => self.kicked_or(at).await,
                step => {
                    let began = Instant::now();
                    let result = self.perform(step, &orders, domain.as_ref()).await;
                    self.count(step, began, result.is_ok());
                    self.mark(step.name(), began);
                    self.note_result(step, result).await;
                }
            }
        }
    }

    fn count(&self, step: Step, began: Instant, done: bool) {
        let metrics = &self.context.metrics;
        let outcome = if done { Outcome::Done } else { Outcome::Failed };
        let labels = StepLabels {
            step: step.name(),
            outcome,
        };
        let seconds = began.elapsed().as_secs_f64();
        metrics.steps.get_or_create(&labels).observe(seconds);
        if done && step == Step::Restart {
            metrics.restarts.inc();
        }
    }

    /// Tells how long a part of the work took, to who looks for lost time.
    fn mark(&self, phase: &'static str, began: Instant) {
        tracing::debug!(target: "virtflow::phase", phase, vm_id = %self.vm_id, took = ?began.elapsed());
    }

    async fn kicked_or(&self, at: Instant) {
        // Either way the next thing is to look again.
        let _ = tokio::time::timeout_at(at, self.kick.notified()).await;
    }

    /// What was tried for an earlier order says nothing about a new one.
    fn notice_new_orders(&mut self, orders: &Orders) {
        let about = orders
            .wanted
            .as_ref()
            .map(|wanted| (wanted.desired.clone(), orders.tombstone));
        if self.about != about {
            self.volatile = Volatile {
                quick_ends: self.volatile.quick_ends,
                ..Volatile::default()
            };
            self.about = about;
        }
    }

    /// Keeps count of how long guests run, for the pause before a restart.
    fn notice_guest(&mut self, wanted: Option<&StoredVm>, domain: Option<&Domain>) {
        let now = Instant::now();
        if domain.is_some_and(|domain| domain.power.is_active()) {
            self.running_since.get_or_insert(now);
            self.volatile.restart_at = None;
            return;
        }
        self.volatile.stopping = None;
        let ended = wanted.is_some_and(|w| w.progress.done_serial == Some(w.desired.power_serial));
        if ended && self.volatile.restart_at.is_none() {
            let ran = self
                .running_since
                .map_or(Duration::ZERO, |since| now - since);
            if ran >= RESTART_PAUSE_FORGIVEN {
                self.volatile.quick_ends = 0;
            }
            let pause = doubled(
                RESTART_PAUSE_MIN,
                self.volatile.quick_ends,
                RESTART_PAUSE_MAX,
            );
            self.volatile.quick_ends = self.volatile.quick_ends.saturating_add(1);
            self.volatile.restart_at = Some(now + pause);
        }
        self.running_since = None;
    }

    /// The domain as it is, or else the one to adopt; `None` if that couldn't be found out (then it
    /// has waited a while).
    async fn look(&mut self, orders: &Orders) -> Option<(Option<Domain>, Option<ForeignDomain>)> {
        let began = Instant::now();
        let wanted = orders.wanted.as_ref();
        let to_adopt = wanted.and_then(|wanted| wanted.desired.adopted_domain);
        let look = async {
            let hypervisor = &self.context.hypervisor;
            let domain = hypervisor.inspect(self.vm_id).await?;
            let foreign = match (&domain, to_adopt) {
                (None, Some(domain_id)) => hypervisor.inspect_foreign(domain_id).await?,
                _ => None,
            };
            Ok((domain, foreign))
        };
        let problem = match timeout(INSPECT_DEADLINE, look).await {
            Ok(Ok((domain, foreign))) => {
                self.mark("looked", began);
                self.blind_looks = 0;
                let seen = domain.as_ref().map(Seen::of);
                self.context.note_seen(self.vm_id, seen);
                return Some((domain, foreign));
            }
            Ok(Err(error @ HypervisorError::Failed { .. })) => {
                ("domain_not_ours", error.to_string())
            }
            Ok(Err(error)) => ("hypervisor_unavailable", error.to_string()),
            Err(_) => ("hypervisor_unavailable", no_answer(INSPECT_DEADLINE)),
        };
        let (reason, problem) = problem;
        self.blind_looks = self.blind_looks.saturating_add(1);
        tracing::warn!(vm = %self.vm_id, problem, "can't look at the domain");
        let new = self.context.observations.get(self.vm_id).is_none();
        if new || self.blind_looks >= BLIND_LOOKS_MAX {
            let decision = Decision {
                step: Step::Rest,
                phase: Phase::Unknown,
                reason,
                message: problem,
                carried_out: false,
            };
            self.report(orders, None, &decision);
        }
        let pause = doubled(RETRY_MIN, self.blind_looks - 1, RETRY_MAX);
        self.kicked_or(Instant::now() + pause).await;
        None
    }

    fn report(&self, orders: &Orders, domain: Option<&Domain>, decision: &Decision) {
        let wanted = orders.wanted.as_ref();
        let epoch = wanted
            .map(|wanted| wanted.desired.placement_epoch)
            .or(orders.tombstone.map(|tombstone| tombstone.placement_epoch))
            .or(domain.map(|domain| domain.stamp.placement_epoch));
        let progress = wanted.map(|wanted| wanted.progress).unwrap_or_default();
        // An error speaks of what was tried last; told under an older act, it would pass for old news.
        let power_serial = match (decision.phase, wanted) {
            (Phase::Error, Some(wanted)) => wanted.desired.power_serial,
            _ => progress.done_serial.unwrap_or(0),
        };
        self.context.observations.publish(
            self.vm_id,
            ObservedVm {
                vm_id: self.vm_id.as_bytes().to_vec(),
                placement_epoch: epoch.unwrap_or(0),
                phase: decision.phase.into(),
                reason: decision.reason.to_owned(),
                message: decision.message.clone(),
                since_ms: 0,
                pid: domain.and_then(|domain| domain.process_id).unwrap_or(0),
                generation: wanted.map_or(0, |wanted| wanted.desired.generation),
                restarts: progress.restarts,
                power_serial,
                carried_out: decision.carried_out,
            },
        );
    }

    async fn perform(
        &mut self,
        step: Step,
        orders: &Orders,
        domain: Option<&Domain>,
    ) -> Result<(), StepError> {
        let wanted = orders.wanted.as_ref();
        let adopted = domain.and_then(|domain| domain.adopted);
        match step {
            Step::Rest | Step::WaitUntil(_) | Step::Forget => Ok(()),
            Step::Begin(acting) => self.store(|vm| vm.progress.acting = Some(acting)).await,
            Step::Done(serial) => {
                self.store(|vm| {
                    vm.progress.done_serial = Some(serial);
                    vm.progress.acting = None;
                })
                .await
            }
            Step::Create => self.create(wanted, adopted).await,
            Step::Restart => {
                // Counted first: a restart that isn't counted is worse than one counted twice.
                self.store(|vm| vm.progress.restarts += 1).await?;
                self.create(wanted, adopted).await
            }
            Step::Restamp => match (wanted, adopted) {
                (Some(wanted), Some(domain_id)) => self.adopt(wanted, domain_id).await,
                (Some(wanted), None) => self.define(wanted).await,
                (None, _) => Ok(()),
            },
            Step::Adopt => {
                match wanted.and_then(|wanted| Some((wanted, wanted.desired.adopted_domain?))) {
                    Some((wanted, domain_id)) => self.adopt(wanted, domain_id).await,
                    None => Ok(()),
                }
            }
            Step::Shutdown => {
                let now = Instant::now();
                let since = self
                    .volatile
                    .stopping
                    .map_or(now, |stopping| stopping.since);
                self.volatile.stopping = Some(Stopping {
                    since,
                    asked_at: now,
                });
                let ask = self.context.hypervisor.shutdown(self.vm_id);
                let asked = within(SHUTDOWN_DEADLINE, "stop_failed", ask).await;
                if let Err(error) = asked {
                    // The hard way follows after the grace time; until then this is no failure.
                    tracing::warn!(vm = %self.vm_id, problem = error.message,
                        "can't ask the guest to shut down");
                }
                Ok(())
            }
            Step::Destroy => {
                let destroy = self.context.hypervisor.destroy(self.vm_id);
                within(DESTROY_DEADLINE, "stop_failed", destroy).await
            }
            Step::Undefine => {
                let undefine = self.context.hypervisor.undefine(self.vm_id);
                within(UNDEFINE_DEADLINE, "delete_failed", undefine).await
            }
            Step::Bury(tombstone) => {
                if !tombstone.keep_files {
                    let folder = self.context.settings.guests_dir.clone();
                    let vm_id = self.vm_id;
                    on_files("delete_failed", move || files::remove(&folder, vm_id)).await?;
                }
                self.confirm(tombstone).await
            }
            Step::Confirm(tombstone) => self.confirm(tombstone).await,
        }
    }

    /// Makes what the guest needs and starts it; an adopted domain has it all.
    async fn create(
        &self,
        wanted: Option<&StoredVm>,
        adopted: Option<ObjectId>,
    ) -> Result<(), StepError> {
        let Some(wanted) = wanted else {
            return Ok(());
        };
        if adopted.is_none() {
            self.make(wanted).await?;
        }
        let start = self.context.hypervisor.start(self.vm_id);
        within(START_DEADLINE, "start_failed", start).await
    }

    /// Makes files and definition.
    async fn make(&self, wanted: &StoredVm) -> Result<(), StepError> {
        let folder = self.context.settings.guests_dir.clone();
        let (vm_id, storage_gib) = (self.vm_id, wanted.desired.storage_gib);
        let began = Instant::now();
        on_files("create_failed", move || {
            files::prepare(&folder, vm_id, storage_gib)
        })
        .await?;
        self.mark("files_made", began);
        let began = Instant::now();
        self.define(wanted).await?;
        self.mark("defined", began);
        Ok(())
    }

    /// Marks a domain that was there as this VM's, in its present binding.
    async fn adopt(&self, wanted: &StoredVm, domain_id: ObjectId) -> Result<(), StepError> {
        let adoption = Adoption {
            domain_id,
            vm_id: self.vm_id,
            vm_name: wanted.desired.name.clone(),
            stamp: wanted.domain_stamp(),
        };
        let adopt = self.context.hypervisor.adopt(&adoption);
        within(DEFINE_DEADLINE, "adopt_failed", adopt).await
    }

    async fn define(&self, wanted: &StoredVm) -> Result<(), StepError> {
        let failed = step_error("create_failed");
        let can = self.context.capabilities().await.map_err(&failed)?;
        let (context, wanted) = (Arc::clone(&self.context), wanted.clone());
        let plan = off_loop(move || context.settings.plan(&wanted, &can)).await;
        let spec = plan.map_err(|error| failed(error.to_string()))?;
        let spec = spec.map_err(|error| failed(error.to_string()))?;
        let define = self.context.hypervisor.define(&spec);
        match timeout(DEFINE_DEADLINE, define).await {
            Ok(Err(error @ HypervisorError::TooFewGpus { .. })) => {
                Err(step_error("gpu_missing")(error.to_string()))
            }
            Ok(defined) => defined.map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed(no_answer(DEFINE_DEADLINE))),
        }
    }

    async fn confirm(&self, tombstone: Tombstone) -> Result<(), StepError> {
        let vm_id = self.vm_id;
        let confirmed = self.context.store.commit(|state| {
            // Only what was carried out; a later order may have come meanwhile.
            if state.tombstones.get(&vm_id) == Some(&tombstone) {
                state.tombstones.remove(&vm_id);
                state.confirmed.insert(vm_id, tombstone);
            }
        });
        confirmed
            .await
            .map_err(|error| step_error("state_not_stored")(error.to_string()))?;
        self.context.publish_confirmed();
        Ok(())
    }

    async fn store(&self, change: impl FnOnce(&mut StoredVm)) -> Result<(), StepError> {
        let vm_id = self.vm_id;
        let stored = self.context.store.commit(|state| {
            if let Some(vm) = state.vms.get_mut(&vm_id) {
                change(vm);
            }
        });
        stored
            .await
            .map_err(|error| step_error("state_not_stored")(error.to_string()))
    }

    async fn note_result(&mut self, step: Step, result: Result<(), StepError>) {
        let Err(error) = result else {
            self.volatile.failure = None;
            return;
        };
        tracing::warn!(vm = %self.vm_id, ?step, problem = error.message, "a step failed");
        let now = Instant::now();
        if step == Step::Restamp {
            self.volatile.restamp_at = Some(now + RESTAMP_RETRY);
            return;
        }
        let count = self.volatile.failure.as_ref().map_or(0, |f| f.count);
        self.volatile.failure = Some(Failure {
            reason: error.reason,
            message: error.message,
            count: count.saturating_add(1),
            retry_at: now + doubled(RETRY_MIN, count, RETRY_MAX),
        });
        // Steps that store have no pause of their own in the decision; keep them from spinning.
        if matches!(step, Step::Begin(_) | Step::Done(_)) {
            self.kicked_or(now + doubled(RETRY_MIN, count, RETRY_MAX))
                .await;
        }
    }
}

async fn within<E: std::fmt::Display>(
    deadline: Duration,
    reason: &'static str,
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), StepError> {
    match timeout(deadline, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(step_error(reason)(error.to_string())),
        Err(_) => Err(step_error(reason)(no_answer(deadline))),
    }
}

fn no_answer(deadline: Duration) -> String {
    format!("the hypervisor gave no answer within {deadline:?}")
}

async fn on_files(
    reason: &'static str,
    work: impl FnOnce() -> Result<(), files::FileError> + Send + 'static,
) -> Result<(), StepError> {
    let failed = step_error(reason);
    match timeout(FILES_DEADLINE, off_loop(work)).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(failed(error.to_string())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!(
            "the file system gave no answer within {FILES_DEADLINE:?}"
        ))),
    }
}

/// `first`, twice that, four times that …, at most `most`.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}
