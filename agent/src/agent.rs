//! The agent put together: guests, meters, session, status.

use std::fs::File;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until, timeout};
use virtflow_proto::agent::v1;

use crate::config::{Config, HypervisorChoice};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::simulated::SimulatedMachine;
use crate::identity::HostIdentity;
use crate::inventory::{ForeignReporter, Machine, ThisMachine};
use crate::local::LocalStore;
use crate::memory;
use crate::metrics::Metrics;
use crate::off_loop::off_loop;
use crate::reconcile::{Reconciler, SURVEY_INTERVAL};
use crate::session::{self, SessionContext};
use crate::status;

/// How often load is measured.
const LOAD_INTERVAL: Duration = Duration::from_secs(2);
/// How often the machine is looked at for changes.
const INVENTORY_INTERVAL: Duration = Duration::from_secs(60);
/// The same while the hypervisor can't be reached: its facts are still missing.
const INVENTORY_RETRY: Duration = Duration::from_secs(2);
/// How often it is looked whether domains that aren't ours came, went or changed. A guest that starts
/// and ends all the time makes no more news than this.
const FOREIGN_INTERVAL: Duration = Duration::from_secs(10);
/// How long the start waits for the hypervisor to say what it can.
const CAPABILITIES_WAIT: Duration = Duration::from_secs(3);
/// Surveys that may be missed before the agent is thought to hang.
const SURVEYS_MISSED_MAX: u32 = 15;

/// A running agent. Dropping it ends it as a crash would; guests go on either way.
#[derive(Debug)]
pub struct Agent {
    context: Arc<SessionContext>,
    status_address: SocketAddr,
    tasks: JoinSet<()>,
    started: Instant,
    /// Locked as long as the agent runs; the kernel unlocks it however the agent ends.
    _lock: File,
}

impl Agent {
    /// Starts an agent with the hypervisor that its configuration names.
    ///
    /// # Errors
    /// If the host hasn't joined, its identity can't be used, or the status address is taken.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let hypervisor: Arc<dyn Hypervisor> = match config.hypervisor {
            HypervisorChoice::Simulated => SimulatedMachine::new().hypervisor(),
            HypervisorChoice::Auto | HypervisorChoice::Kvm | HypervisorChoice::Qemu => {
                Arc::new(Libvirt::new(&config.libvirt_uri, &config.libvirt_pid_dir))
            }
        };
        Self::start_with(config, hypervisor, Arc::new(ThisMachine)).await
    }

    /// Starts an agent with this hypervisor, on this machine.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        config: Config,
        hypervisor: Arc<dyn Hypervisor>,
        machine: Arc<dyn Machine>,
    ) -> anyhow::Result<Self> {
        let Some(identity) = HostIdentity::load(&config)? else {
            anyhow::bail!(
                "this host has not joined a cluster (nothing in {}); run `virtflow-agent join`",
                config.identity_dir().display()
            );
        };
        let lock = lock_folder(&config.data_dir)?;
        let metrics = Arc::new(Metrics::default());
        let store = LocalStore::open(&config.data_dir);
        let settings = config.guests.clone();
        let reconciler = Reconciler::start(hypervisor, store, settings, Arc::clone(&metrics));

        let listener = status::Listener::bind(&config.status, identity.certificates()).await?;
        let status_address = listener.local_addr()?;
        let told_address = config.status.reached_at(status_address);

        let mut tasks = JoinSet::new();
        let (load_sender, load) = watch::channel(v1::Load::default());
        tasks.spawn(measure_load(
            config.clone(),
            Arc::clone(&machine),
            reconciler.clone(),
            load_sender,
        ));
        // Worth a moment: the first hello then tells the hypervisor too.
        let capabilities = timeout(CAPABILITIES_WAIT, reconciler.capabilities()).await;
        let capabilities = capabilities.ok().and_then(Result::ok);
        let mut first = machine.inventory(
            &config.guests,
            config.capacity,
            config.reserve,
            capabilities.as_ref(),
        )?;
        for (at, found) in config.guests.gpus.look() {
            if let Err(obstacle) = found {
                let advice = obstacle.advice();
                tracing::error!(gpu = %at, problem = %obstacle, advice, "a GPU is not handed out");
            }
        }
        first.status_address = told_address.unwrap_or_default();
        let mut foreign = ForeignReporter::default();
        first.foreign = foreign.report(&reconciler, &config.guests).await;
        let (inventory_sender, inventory) = watch::channel(first);
        tasks.spawn(take_inventory(
            config.clone(),
            Arc::clone(&machine),
            reconciler.clone(),
            foreign,
            inventory_sender,
        ));
        let context = Arc::new(SessionContext::new(
            config, identity, machine, reconciler, load, inventory, metrics,
        ));
        tasks.spawn(session::run(Arc::clone(&context)));
        tasks.spawn(status::serve(listener, Arc::clone(&context)));
        Ok(Self {
            context,
            status_address,
            tasks,
            started: Instant::now(),
            _lock: lock,
        })
    }

    /// Where the status is told.
    #[must_use]
    pub fn status_address(&self) -> SocketAddr {
        self.status_address
    }

    /// What the agent works with.
    #[must_use]
    pub fn context(&self) -> &Arc<SessionContext> {
        &self.context
    }

    /// Whether surveys are still attempted and every part still runs; what a watchdog wants to know.
    /// A hypervisor that doesn't answer doesn't count: restarting the agent wouldn't mend it.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        if self.tasks.try_join_next().is_some() {
            return false;
        }
        let last = self
            .context
            .reconciler
            .last_attempt()
            .unwrap_or(self.started);
        last.elapsed() <= SURVEY_INTERVAL * SURVEYS_MISSED_MAX
    }

    /// Runs until `end`, or until a part of the agent fails, telling systemd meanwhile.
    ///
    /// # Errors
    /// If a part of the agent failed.
    pub async fn run_until(mut self, end: impl Future<Output = ()>) -> anyhow::Result<()> {
        let watchdog = sd_notify::watchdog_enabled();
        notify(&[sd_notify::NotifyState::Ready]);
        let every = watchdog.map_or(Duration::from_secs(5), |limit| limit / 3);
        let mut tick = interval(every.max(Duration::from_millis(100)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut release = interval_at(Instant::now() + memory::FIRST_AFTER, memory::EVERY);
        release.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                _ = release.tick() => match memory::release_file_pages() {
                    Ok(kib) => tracing::debug!(kib, "pages of program files were let go"),
                    Err(error) => tracing::debug!(%error, "no pages were let go"),
                },
                _ = tick.tick() => {
                    anyhow::ensure!(self.is_alive(), "a part of the agent hangs or has failed");
                    let state = self.context.state();
                    let text = match (&state.controller, state.number) {
                        (Some(controller), Some(_)) => format!("connected to {controller}"),
                        _ => "no controller; guests go on".to_owned(),
                    };
                    notify(&[
                        sd_notify::NotifyState::Watchdog,
                        sd_notify::NotifyState::Status(&text),
                    ]);
                }
            }
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("the agent ends; guests go on");
        Ok(())
    }
}

/// Two agents over one folder would undo each other's work.
fn lock_folder(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another agent runs with {} already", data_dir.display()))?;
    Ok(file)
}

/// Without systemd there is nobody to tell, which is fine.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "can't notify systemd");
    }
}

async fn measure_load(
    config: Config,
    machine: Arc<dyn Machine>,
    reconciler: Reconciler,
    load: watch::Sender<v1::Load>,
) {
    let mut meter = machine.meter(&config.guests.guests_dir);
    let mut tick = interval(LOAD_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let survey = reconciler.last_survey();
        // A filesystem that hangs must hang this thread and not the agent.
        let measured = off_loop(move || {
            let now = meter(survey.as_ref());
            (meter, now)
        });
        match measured.await {
            Ok((returned, now)) => {
                meter = returned;
                load.send_replace(now);
            }
            Err(error) => {
                tracing::warn!(%error, "load can't be measured");
                meter = machine.meter(&config.guests.guests_dir);
            }
        }
    }
}

async fn take_inventory(
    config: Config,
    machine: Arc<dyn Machine>,
    reconciler: Reconciler,
    mut foreign: ForeignReporter,
    inventory: watch::Sender<v1::Inventory>,
) {
    loop {
        let capabilities = reconciler.capabilities().await.ok();
        let pause = match capabilities {
            Some(_) => INVENTORY_INTERVAL,
            None => INVENTORY_RETRY,
        };
        let guests = config.guests.clone();
        let (capacity, reserve) = (config.capacity, config.reserve);
        let machine = Arc::clone(&machine);
        let collect =
            off_loop(move || machine.inventory(&guests, capacity, reserve, capabilities.as_ref()));
        match collect.await {
            Ok(Ok(now)) => tell(&inventory, |known| v1::Inventory {
                status_address: known.status_address.clone(),
                foreign: known.foreign.clone(),
                ..now
            }),
            Ok(Err(error)) => tracing::warn!(%error, "the inventory can't be taken"),
            Err(error) => tracing::warn!(%error, "the inventory can't be taken"),
        }
        let again_at = Instant::now() + pause;
        while Instant::now() < again_at {
            tell_foreign(&config, &reconciler, &mut foreign, &inventory).await;
            let known = inventory.borrow().foreign.is_some();
            let next = if known {
                FOREIGN_INTERVAL
            } else {
                SURVEY_INTERVAL
            };
            sleep_until(again_at.min(Instant::now() + next)).await;
        }
    }
}

async fn tell_foreign(
    config: &Config,
    reconciler: &Reconciler,
    foreign: &mut ForeignReporter,
    inventory: &watch::Sender<v1::Inventory>,
) {
    let now = foreign.report(reconciler, &config.guests).await;
    // Not to know them is no news: it must not look as if they had gone.
    if let Some(now) = now {
        tell(inventory, |known| v1::Inventory {
            foreign: Some(now),
            ..known.clone()
        });
    }
}

/// Tells what is there now, if it is news.
fn tell(
    inventory: &watch::Sender<v1::Inventory>,
    now: impl FnOnce(&v1::Inventory) -> v1::Inventory,
) {
    inventory.send_if_modified(|known| {
        let now = now(known);
        let news = lasting(known) != lasting(&now);
        *known = now;
        news
    });
}

/// The inventory without what changes all the time; that is in the load.
fn lasting(inventory: &v1::Inventory) -> v1::Inventory {
    let mut lasting = inventory.clone();
    for filesystem in &mut lasting.filesystems {
        filesystem.available_mib = 0;
    }
    for pages in &mut lasting.hugepages {
        pages.free = 0;
    }
    lasting
}
