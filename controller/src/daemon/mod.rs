//! A running controller: how it comes up, what it runs, how it stops.
//!
//! Up: configuration, seal key, CA, own certificate, store, Raft member, listeners. Each step needs the
//! one before, and says what to do if it fails. Down: the lead is handed over, agents are told to look
//! elsewhere, what was acknowledged is flushed.

pub mod admin;
pub mod identity;
pub mod listeners;
pub mod log;
pub mod members;
pub mod peer_calls;
pub mod peers;
mod records;
mod room;
pub mod status;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use virtflow_pki::{CertificateAuthority, SealKey, credentials_directory_from_env};
use virtflow_raft::{Node, PeerTls, RaftConfig, StartError, Timing};
use virtflow_shadow::{Archive, Part, Retention, ShadowOptions, SqliteShadow, ViewColumn, ViewDef};
use virtflow_state::ClusterVersionTooNew;
use virtflow_state::port::{Loaded, Shadow};

use crate::app::{App, Parts, cluster_version_supported};
use crate::config::{Config, Folders};
use crate::store::{StoreFile, make_folder};
use log::LogControl;

/// How long requests under way may take once the controller was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the store may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How the shadow is kept.
pub fn shadow_options(config: &Config) -> ShadowOptions {
    let days = |n: u64| DAY.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
    ShadowOptions {
        views: views(),
        retention: Retention {
            records_age: days(config.retention.audit_days),
            history_age: days(config.retention.history_days),
            ..Retention::default()
        },
        supports: cluster_version_supported(),
        ..ShadowOptions::default()
    }
}

/// The typed views of the kinds, as the shadow wants them.
fn views() -> Vec<ViewDef> {
    virtflow_logic::views()
        .into_iter()
        .map(|view| ViewDef {
            kind: view.kind,
            view: view.view,
            columns: view
                .columns
                .into_iter()
                .map(|column| ViewColumn {
                    column: column.column,
                    part: match column.part {
                        virtflow_logic::ViewPart::Spec => Part::Spec,
                        virtflow_logic::ViewPart::Status => Part::Status,
                    },
                    path: column.path,
                })
                .collect(),
        })
        .collect()
}

/// The key that seals the CA's.
pub fn load_seal_key(config: &Config) -> anyhow::Result<SealKey> {
    SealKey::load(&config.seal_key_file, credentials_directory_from_env().as_deref()).with_context(
        || {
            format!(
                "the seal key {}: without it nothing that is sealed can be read; bring it back from another controller or a backup",
                config.seal_key_file.display()
            )
        },
    )
}

/// The cluster's CA from its sealed file.
pub fn open_authority(
    folders: &Folders,
    seal_key: &SealKey,
) -> anyhow::Result<CertificateAuthority> {
    let path = folders.sealed_ca();
    let sealed = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    CertificateAuthority::open(&sealed, seal_key)
        .with_context(|| format!("opening the CA in {}", path.display()))
}

fn timing(config: &Config, folders: &Folders) -> anyhow::Result<Timing> {
    let raft = &config.raft;
    if let (Some(heartbeat_ms), Some(election_min_ms), Some(election_max_ms)) = (
        raft.heartbeat_ms,
        raft.election_min_ms,
        raft.election_max_ms,
    ) {
        return Ok(Timing {
            heartbeat_ms,
            election_min_ms,
            election_max_ms,
        });
    }
    let probe = folders.root();
    Timing::measured(probe).with_context(|| format!("timing flushes in {}", probe.display()))
}

/// Opens the store and starts its member of the group. Nothing is served yet.
pub async fn open(config: Config, log: Option<Arc<LogControl>>) -> anyhow::Result<App> {
    Ok(App::new(open_parts(config, log).await?)?)
}

/// The same, before it is put together.
pub async fn open_parts(config: Config, log: Option<Arc<LogControl>>) -> anyhow::Result<Parts> {
    let folder = config.folders().shadow();
    let opened = SqliteShadow::open(&folder, shadow_options(&config)).await;
    let (shadow, loaded) = opened.with_context(|| match room::advice(&folder) {
        Some(advice) => format!("opening the store ({advice})"),
        None => "opening the store".to_owned(),
    })?;
    open_parts_on(config, log, shadow, loaded, Node::start).await
}

/// The same on any shadow and log: a simulation has its own.
pub async fn open_parts_on<S, F>(
    config: Config,
    log: Option<Arc<LogControl>>,
    shadow: Arc<dyn Archive>,
    loaded: Loaded,
    start: S,
) -> anyhow::Result<Parts>
where
    S: FnOnce(RaftConfig, Loaded, Arc<dyn Shadow>, PeerTls) -> F,
    F: Future<Output = Result<Node, StartError>>,
{
    let folders = config.folders();
    let store = StoreFile::require(&folders)?;
    let seal_key = load_seal_key(&config)?;
    let authority = open_authority(&folders, &seal_key)?;
    if authority.cluster_id() != store.cluster_id.uuid() {
        bail!(
            "{} is of cluster {}, the store of {}; restore the right one",
            folders.sealed_ca().display(),
            authority.cluster_id(),
            store.cluster_id
        );
    }
    let tls = PeerTls {
        certificates: identity::begin(&config, store.store_id, &authority)?,
        pinned: Arc::default(),
    };
    let mut raft = RaftConfig::new(
        folders.raft(),
        store.node_id,
        store.store_id,
        store.cluster_id,
    );
    raft.supports = cluster_version_supported();
    raft.timing = timing(&config, &folders)?;
    if let Some(entries) = config.raft.snapshot_entries {
        raft.limits.snapshot_entries = entries;
    }
    if let Some(entries) = config.raft.log_keep_entries {
        raft.limits.keep_log_entries = entries;
    }
    let node = start(raft, loaded, shadow.clone(), tls.clone())
        .await
        .context("starting the member of the Raft group")?;
    Ok(Parts {
        config,
        store,
        seal_key,
        authority,
        tls,
        shadow,
        node,
        log,
    })
}

/// Starts what runs beside the listeners.
pub fn spawn_tasks(app: &App) {
    // This one ends by itself, after it has ended what the leader runs.
    tokio::spawn(crate::leader::follow(app.clone()));
    until_stopped(app, crate::agents::feed(app.clone()));
    until_stopped(app, identity::renew(app.clone()));
    until_stopped(app, members::introduce(app.clone()));
    until_stopped(app, records::fill(app.clone()));
}

fn until_stopped(app: &App, task: impl Future<Output = ()> + Send + 'static) {
    let stopping = app.stopping().clone();
    tokio::spawn(async move {
        stopping.run_until_cancelled(task).await;
    });
}

/// Why a controller ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// It must not go on, and says why.
    Fatal(String),
    /// Its disk is full. Once there is room it may be started again.
    NoRoom(String),
}

/// Runs until a signal or until it must stop.
pub async fn run(config: Config, path: PathBuf, log: Arc<LogControl>) -> anyhow::Result<Ended> {
    let folder = config.folders().shadow();
    make_folder(&folder)?;
    let app = match open(config, Some(log.clone())).await {
        Ok(app) => app,
        Err(error) if is_final(&error) => return Ok(fatal(&folder, format!("{error:#}"))),
        Err(error) => return Err(error),
    };
    let bound = listeners::bind(&app).await?;
    tracing::info!(
        name = app.name(),
        cluster_id = %app.cluster_id(),
        node_id = app.node().node_id(),
        api = %bound.api_addr(),
        agents = %bound.agent_addr(),
        peers = %bound.peer_addr(),
        "controller started"
    );
    admin::serve(app.clone()).await?;
    spawn_tasks(&app);
    let serving = tokio::spawn({
        let app = app.clone();
        async move { listeners::serve(&app, bound, STOP_GRACE).await }
    });
    tell_supervisor(&[NotifyState::Ready]);
    until_stopped(&app, watchdog(app.clone()));
    tokio::spawn(reload(path, log));
    let ended = tokio::select! {
        () = told_to_stop()? => Ended::Stopped,
        reason = app.node().fatal() => fatal(&folder, reason),
    };
    tell_supervisor(&[NotifyState::Stopping]);
    match &ended {
        Ended::Stopped => {
            tracing::info!("told to stop");
            // First the lead, while everything is served still; what it costs is bounded within.
            if app.leads()
                && let Err(error) = app.node().hand_over().await
            {
                tracing::warn!(%error, "the lead could not be handed over; the others will notice");
            }
        }
        Ended::Fatal(reason) | Ended::NoRoom(reason) => {
            tracing::error!(reason, "this controller must not go on; it stops");
        }
    }
    app.stop();
    let _ = serving.await;
    if tokio::time::timeout(CLOSE_TIMEOUT, app.node().shutdown())
        .await
        .is_err()
    {
        tracing::warn!("closing the store took too long; it recovers at the next start");
    }
    Ok(ended)
}

/// Why it must not go on, with what is to be done if that is no more than its disk.
fn fatal(folder: &Path, reason: String) -> Ended {
    match room::advice(folder) {
        Some(advice) => Ended::NoRoom(format!("{reason}; {advice}")),
        None if room::is_wanting(&reason) => Ended::NoRoom(reason),
        None => Ended::Fatal(reason),
    }
}

/// True for what starting again would not mend: an operator has to do something.
fn is_final(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_node = cause.downcast_ref::<StartError>();
        cause.is::<ClusterVersionTooNew>()
            || of_node.is_some_and(|error| {
                matches!(error, StartError::ClusterVersion(_) | StartError::Fatal(_))
            })
    })
}

fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn tell_supervisor(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

/// Tells systemd that this process still works: that its runtime schedules and its node is sound.
async fn watchdog(app: App) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        tokio::time::sleep(limit / 3).await;
        if app.node().status().fatal.is_none() {
            tell_supervisor(&[NotifyState::Watchdog]);
        }
    }
}

/// On SIGHUP takes the log level of the file into force; everything else needs a restart.
async fn reload(path: PathBuf, log: Arc<LogControl>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        match Config::load(&path) {
            Ok(config) => {
                if let Err(problem) = log.set(&config.log.level) {
                    tracing::error!(problem, "the log level stays as it was");
                }
            }
            Err(error) => {
                tracing::error!(%error, "the configuration is refused; nothing was changed")
            }
        }
    }
}
