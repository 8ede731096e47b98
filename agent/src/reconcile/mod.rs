//! Makes the guests of this host what they should be.
//!
//! One task owns each VM (`task`); what it does next is decided by a pure function (`decide`).
//! Tasks look at the hypervisor when kicked: by a new order, by an event of the hypervisor, or by
//! the survey that is made each interval and compared with what each task saw last. So an event that
//! is lost costs an interval, nothing else.
//!
//! Invariants:
//! - An order is on disk before any task can see it.
//! - A domain is removed for a tombstone of its own or a later placement, and for nothing else.
//! - Nothing new starts while no controller holds a session.
//! - A domain that isn't ours is touched by one step only, and only for an order that names its UUID:
//!   it is marked as a VM's. Of a domain that was adopted nothing is ever made anew.

pub mod decide;
pub mod files;
mod observed;
pub mod plan;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use virtflow_types::ObjectId;

use self::plan::GuestSettings;
use self::task::VmTask;
use crate::desired::Desired;
use crate::hypervisor::{
    Capabilities, Domain, DomainChange, Hypervisor, HypervisorError, PowerState, Survey, Usage,
};
use crate::local::{LocalStore, Refused, StoredVm};
use crate::metrics::Metrics;
use crate::off_loop::off_loop;
use crate::xml::DomainStamp;

pub use observed::{HASH_BYTES, Observations, Report};

/// How often all domains are surveyed.
pub const SURVEY_INTERVAL: Duration = Duration::from_secs(2);
/// How long a survey may take.
const SURVEY_DEADLINE: Duration = Duration::from_secs(10);
/// How long the sizes of a domain's disks may take.
const DISK_SIZES_DEADLINE: Duration = Duration::from_secs(5);
/// How often console logs are looked at for their size.
pub const CONSOLE_TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// What a task saw of its domain; another picture in a survey kicks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    power: PowerState,
    run_id: Option<u32>,
    stamp: DomainStamp,
}

impl Seen {
    fn of(domain: &Domain) -> Self {
        Self {
            power: domain.power,
            run_id: domain.run_id,
            stamp: domain.stamp,
        }
    }
}

#[derive(Debug)]
struct TaskEntry {
    kick: Arc<Notify>,
    handle: JoinHandle<()>,
    seen: Option<Seen>,
}

/// The last survey, for load and status.
#[derive(Debug, Clone)]
pub struct LastSurvey {
    /// When.
    pub at: Instant,
    /// What.
    pub survey: Arc<Survey>,
    /// Share of one processor that each domain, ours or not, used since the survey before, in
    /// millionths.
    pub cpu_ppm: BTreeMap<ObjectId, u32>,
}

/// What all tasks share.
#[derive(Debug)]
struct Context {
    hypervisor: Arc<dyn Hypervisor>,
    store: Arc<LocalStore>,
    settings: GuestSettings,
    observations: Observations,
    metrics: Arc<Metrics>,
    session: AtomicBool,
    capabilities: tokio::sync::Mutex<Option<Capabilities>>,
    tasks: Mutex<BTreeMap<ObjectId, TaskEntry>>,
    last_survey: Mutex<Option<LastSurvey>>,
    survey_problem: Mutex<Option<String>>,
    last_attempt: Mutex<Option<Instant>>,
    started: Instant,
    orders_not_stored: AtomicBool,
}

/// An order that wasn't obeyed.
#[derive(Debug, thiserror::Error)]
pub enum ObeyError {
    /// It is older than what is known.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It couldn't be stored, so it isn't acted on.
    #[error("the order can't be stored")]
    NotStored(#[source] std::io::Error),
}

/// The guests of this host.
#[derive(Debug, Clone)]
pub struct Reconciler {
    context: Arc<Context>,
    _watch: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop {
    watch: JoinHandle<()>,
    context: Arc<Context>,
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.watch.abort();
        for entry in self.context.tasks().values() {
            entry.handle.abort();
        }
    }
}

impl Reconciler {
    /// Takes up what is on disk and in the hypervisor, and goes on from there. Ends with the last
    /// clone; guests go on.
    #[must_use]
    pub fn start(
        hypervisor: Arc<dyn Hypervisor>,
        store: Arc<LocalStore>,
        settings: GuestSettings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let context = Arc::new(Context {
            hypervisor,
            store,
            settings,
            observations: Observations::default(),
            metrics,
            session: AtomicBool::new(false),
            capabilities: tokio::sync::Mutex::new(None),
            tasks: Mutex::default(),
            last_survey: Mutex::default(),
            survey_problem: Mutex::default(),
            last_attempt: Mutex::default(),
            started: Instant::now(),
            orders_not_stored: AtomicBool::new(false),
        });
        context.publish_confirmed();
        context.wake_all_ordered();
        let watch = tokio::spawn(watch(Arc::clone(&context)));
        let watch = Arc::new(AbortOnDrop {
            watch,
            context: Arc::clone(&context),
        });
        Self {
            context,
            _watch: watch,
        }
    }

    /// Takes an order: stores it, then wakes whom it concerns.
    ///
    /// # Errors
    /// If it is older than what is known, or can't be stored. Then nothing is done.
    pub async fn obey(&self, order: &Desired) -> Result<(), ObeyError> {
        let context = &self.context;
        context.store.read(|state| state.admits(order.stamp))?;
        let stored = context.store.commit(|state| {
            let before: BTreeSet<_> = state.vms.keys().copied().collect();
            state.accept(order)?;
            // Those left out become orphans and want to know.
            let left_out = before.iter().filter(|id| !state.vms.contains_key(id));
            Ok::<_, Refused>(left_out.copied().collect::<Vec<_>>())
        });
        let stored = stored.await;
        context
            .orders_not_stored
            .store(stored.is_err(), Ordering::Relaxed);
        let left_out = stored.map_err(ObeyError::NotStored)??;
        context.publish_confirmed();
        let named = order.vms.iter().map(|vm| vm.vm_id);
        let buried = order.tombstones.iter().map(|tombstone| tombstone.vm_id);
        for vm_id in named.chain(buried).chain(left_out) {
            context.wake(vm_id);
        }
        Ok(())
    }

    /// Tells whether a controller holds a session.
    pub fn set_session(&self, present: bool) {
        if self.context.session.swap(present, Ordering::SeqCst) != present && present {
            self.context.wake_all_ordered();
        }
    }

    /// What is seen of the VMs.
    #[must_use]
    pub fn observations(&self) -> &Observations {
        &self.context.observations
    }

    /// The last survey; `None` before the first.
    #[must_use]
    pub fn last_survey(&self) -> Option<LastSurvey> {
        lock(&self.context.last_survey).clone()
    }

    /// When a survey was last begun, answered or not.
    #[must_use]
    pub fn last_attempt(&self) -> Option<Instant> {
        *lock(&self.context.last_attempt)
    }

    /// Why the last survey failed, if it did.
    #[must_use]
    pub fn survey_problem(&self) -> Option<String> {
        lock(&self.context.survey_problem).clone()
    }

    /// How long the hypervisor has told nothing of its domains; zero if it did when it was last asked.
    #[must_use]
    pub fn hypervisor_silence(&self) -> Duration {
        if self.survey_problem().is_none() {
            return Duration::ZERO;
        }
        let last = lock(&self.context.last_survey).as_ref().map(|last| last.at);
        last.unwrap_or(self.context.started).elapsed()
    }

    /// True if the last order couldn't be stored.
    #[must_use]
    pub fn orders_not_stored(&self) -> bool {
        self.context.orders_not_stored.load(Ordering::Relaxed)
    }

    /// The orders and how far they are.
    #[must_use]
    pub fn store(&self) -> &Arc<LocalStore> {
        &self.context.store
    }

    /// How guests are made here.
    #[must_use]
    pub fn settings(&self) -> &GuestSettings {
        &self.context.settings
    }

    /// What the hypervisor can, once it was reached.
    ///
    /// # Errors
    /// If it can't be reached.
    pub async fn capabilities(&self) -> Result<Capabilities, String> {
        self.context.capabilities().await
    }

    /// Sizes of a domain's disks in bytes, by their targets.
    ///
    /// # Errors
    /// If the hypervisor doesn't tell within a while: one that waits for a disk takes its time.
    pub async fn disk_sizes(
        &self,
        domain_id: ObjectId,
    ) -> Result<BTreeMap<String, u64>, HypervisorError> {
        let ask = self.context.hypervisor.disk_sizes(domain_id);
        let answered = timeout(DISK_SIZES_DEADLINE, ask).await;
        answered.unwrap_or_else(|_| {
            Err(HypervisorError::Query {
                action: "ask for the sizes of a domain's disks",
                message: format!("no answer within {DISK_SIZES_DEADLINE:?}"),
            })
        })
    }

    /// How many tasks there are.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.context.tasks().len()
    }
}

impl Context {
    fn has_session(&self) -> bool {
        self.session.load(Ordering::SeqCst)
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<ObjectId, TaskEntry>> {
        lock(&self.tasks)
    }

    /// Kicks the task of a VM, or starts it.
    fn wake(self: &Arc<Self>, vm_id: ObjectId) {
        let mut tasks = self.tasks();
        if let Some(entry) = tasks.get(&vm_id) {
            if !entry.handle.is_finished() {
                entry.kick.notify_one();
                return;
            }
            // A task ends by retiring, which removes it here: this one panicked.
            tracing::error!(vm = %vm_id, "the VM's task died and is started again");
        }
        let kick = Arc::new(Notify::new());
        let task = VmTask::new(vm_id, Arc::clone(self), Arc::clone(&kick));
        let entry = TaskEntry {
            kick,
            handle: tokio::spawn(task.run()),
            seen: None,
        };
        tasks.insert(vm_id, entry);
    }

    fn wake_all_ordered(self: &Arc<Self>) {
        let ordered = self.store.read(|state| {
            let buried = state.tombstones.keys();
            state
                .vms
                .keys()
                .chain(buried)
                .copied()
                .collect::<BTreeSet<_>>()
        });
        for vm_id in ordered {
            self.wake(vm_id);
        }
    }

    /// Lets a task end, unless an order for its VM has come meanwhile. Orders are stored before
    /// [`Self::wake`] takes the lock, so either this sees the order or `wake` starts a new task.
    fn retire(&self, vm_id: ObjectId) -> bool {
        let mut tasks = self.tasks();
        let ordered = self
            .store
            .read(|state| state.vms.contains_key(&vm_id) || state.tombstones.contains_key(&vm_id));
        if ordered {
            return false;
        }
        tasks.remove(&vm_id);
        self.observations.remove(vm_id);
        true
    }

    fn note_seen(&self, vm_id: ObjectId, seen: Option<Seen>) {
        if let Some(entry) = self.tasks().get_mut(&vm_id) {
            entry.seen = seen;
        }
    }

    fn publish_confirmed(&self) {
        let confirmed = self.store.read(|state| {
            let done = state.confirmed.iter();
            done.map(|(id, tombstone)| (*id, tombstone.to_wire()))
                .collect()
        });
        self.observations.set_confirmed(confirmed);
    }

    /// What the hypervisor can; asked once, then remembered.
    async fn capabilities(&self) -> Result<Capabilities, String> {
        let mut known = self.capabilities.lock().await;
        if let Some(capabilities) = &*known {
            return Ok(capabilities.clone());
        }
        let asked = timeout(SURVEY_DEADLINE, self.hypervisor.capabilities()).await;
        let capabilities = asked
            .map_err(|_| format!("the hypervisor gave no answer within {SURVEY_DEADLINE:?}"))?
            .map_err(|error| error.to_string())?;
        tracing::info!(?capabilities, "the hypervisor is there");
        *known = Some(capabilities.clone());
        Ok(capabilities)
    }

    async fn survey(self: &Arc<Self>) {
        let began = Instant::now();
        *lock(&self.last_attempt) = Some(began);
        let result = match timeout(SURVEY_DEADLINE, self.hypervisor.survey()).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "the hypervisor gave no answer within {SURVEY_DEADLINE:?}"
            )),
        };
        let survey = match result {
            Ok(survey) => Arc::new(survey),
            Err(problem) => {
                let mut known = lock(&self.survey_problem);
                if known.as_ref() != Some(&problem) {
                    tracing::warn!(problem, "can't survey the domains");
                }
                *known = Some(problem);
                return;
            }
        };
        self.metrics.surveys.observe(began.elapsed().as_secs_f64());
        if lock(&self.survey_problem).take().is_some() {
            tracing::info!("the hypervisor answers again");
        }
        for vm_id in self.differences(&survey) {
            self.wake(vm_id);
        }
        let mut last = lock(&self.last_survey);
        let at = Instant::now();
        let cpu_ppm = cpu_shares(last.as_ref(), &survey, at);
        *last = Some(LastSurvey {
            at,
            survey,
            cpu_ppm,
        });
    }

    /// VMs that look different from what their task saw, or have none.
    fn differences(&self, survey: &Survey) -> Vec<ObjectId> {
        let tasks = self.tasks();
        let mut different = Vec::new();
        let mut present = BTreeSet::new();
        for (domain, _) in &survey.domains {
            present.insert(domain.vm_id);
            let seen = tasks.get(&domain.vm_id).map(|entry| entry.seen);
            if seen != Some(Some(Seen::of(domain))) {
                different.push(domain.vm_id);
            }
        }
        // Somebody else's domain has changed perhaps, and is as its adoption needs it by now.
        let foreign = survey.foreign.iter().map(|(domain, _)| domain.domain_id);
        different.extend(self.adopters(&foreign.collect()));
        for (vm_id, entry) in tasks.iter() {
            let vanished = entry.seen.is_some() && !present.contains(vm_id);
            if vanished || entry.handle.is_finished() {
                different.push(*vm_id);
            }
        }
        different
    }

    /// VMs that shall adopt one of these domains.
    fn adopters(&self, domains: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        self.store.read(|state| {
            let adopts = |vm: &StoredVm| {
                let adopted = vm.desired.adopted_domain;
                adopted.is_some_and(|domain_id| domains.contains(&domain_id))
            };
            let adopters = state.vms.iter().filter(|(_, vm)| adopts(vm));
            adopters.map(|(vm_id, _)| *vm_id).collect()
        })
    }

    fn trim_consoles(&self) -> JoinHandle<()> {
        let survey = lock(&self.last_survey).clone();
        let guests_dir = self.settings.guests_dir.clone();
        off_loop(move || {
            let domains = survey.iter().flat_map(|last| &last.survey.domains);
            for (domain, _) in domains {
                match files::trim_console(&guests_dir, domain.vm_id) {
                    Ok(true) => tracing::info!(vm = %domain.vm_id, "the console log was cut"),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(vm = %domain.vm_id, %error),
                }
            }
        })
    }
}

/// Turns events and surveys into kicks.
async fn watch(context: Arc<Context>) {
    let mut events = context.hypervisor.events();
    let mut interval = tokio::time::interval(SURVEY_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trimmed_at = Instant::now();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) if event.change == DomainChange::Resynchronise => {
                    // Another hypervisor may have come up in the place of the former.
                    *context.capabilities.lock().await = None;
                    context.survey().await;
                    // Asked now rather than under the next VM; a failure is told by surveys.
                    let _ = context.capabilities().await;
                }
                Ok(event) => {
                    // Domains without a task are foreign, or the next survey finds them.
                    if let Some(entry) = context.tasks().get(&event.domain_id) {
                        entry.kick.notify_one();
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "events came faster than they were read");
                    context.survey().await;
                }
                // The hypervisor is gone for good; surveys go on.
                Err(RecvError::Closed) => {
                    interval.tick().await;
                    context.survey().await;
                }
            },
            _ = interval.tick() => {
                context.survey().await;
                if trimmed_at.elapsed() >= CONSOLE_TRIM_INTERVAL {
                    trimmed_at = Instant::now();
                    // Failures are logged within; a panic there must not end the watch.
                    let _ = context.trim_consoles().await;
                }
            }
        }
    }
}

fn cpu_shares(
    before: Option<&LastSurvey>,
    survey: &Survey,
    at: Instant,
) -> BTreeMap<ObjectId, u32> {
    let Some(before) = before else {
        return BTreeMap::new();
    };
    let elapsed_ns = (at - before.at).as_nanos().max(1);
    let runs = |survey: &Survey| -> BTreeMap<(ObjectId, Option<u32>), Usage> {
        let ours = survey.domains.iter();
        let ours = ours.map(|(domain, usage)| ((domain.vm_id, domain.run_id), *usage));
        let foreign = survey.foreign.iter();
        ours.chain(foreign.map(|(domain, usage)| ((domain.domain_id, None), *usage)))
            .collect()
    };
    let former = runs(&before.survey);
    let mut shares = BTreeMap::new();
    for ((id, run), usage) in runs(survey) {
        if let Some(was) = former.get(&(id, run)) {
            let used_ns = u128::from(usage.cpu_time_ns.saturating_sub(was.cpu_time_ns));
            let ppm = used_ns * 1_000_000 / elapsed_ns;
            shares.insert(id, u32::try_from(ppm).unwrap_or(u32::MAX));
        }
    }
    shares
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
