//! Putting a node together. The log and the network are parameters here and nowhere further out: a
//! simulation brings its own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::RaftNetworkFactory;
use openraft::network::NetSnapshot;
use openraft::storage::RaftLogStorage;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use virtflow_state::ClusterVersionTooNew;
use virtflow_state::port::{Loaded, Shadow};

use crate::config::RaftConfig;
use crate::desk::Desk;
use crate::digest::Digests;
use crate::error::StartError;
use crate::fatal::Fatal;
use crate::leadership::{self, Leadership};
use crate::link::{Link, PeerTls};
use crate::log::{Identity, LogGauge, LogOptions, LogStore};
use crate::machine::{Applied, Machine, Published, SnapshotData};
use crate::measure::Measures;
use crate::network::Network;
use crate::node::{Inner, Node};
use crate::reads::Reads;
use crate::sequencer::Sequencer;
use crate::tasks;
use crate::types::{Raft, Types};
use crate::wire::Meta;

/// Entries sent to a follower in one message, besides the limit in bytes.
const APPEND_ENTRIES_MAX: u64 = 256;
/// A node that must stop still tries that long to pass its leadership on.
const LAST_HAND_OVER: Duration = Duration::from_secs(1);
/// How often the task that waits for a reason to stop looks whether the node is still there.
const GONE_POLL: Duration = Duration::from_secs(1);

fn library_config(config: &RaftConfig) -> Result<Arc<openraft::Config>, StartError> {
    let limits = &config.limits;
    let library = openraft::Config {
        cluster_name: config.cluster_id.to_string(),
        heartbeat_interval: config.timing.heartbeat_ms,
        election_timeout_min: config.timing.election_min_ms,
        election_timeout_max: config.timing.election_max_ms,
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(limits.snapshot_entries),
        max_in_snapshot_log_to_keep: limits.keep_log_entries,
        enable_pre_vote: Some(true),
        // A process that comes back stands for election like any other: whatever it had proposed
        // in the term before is decided by the log, not by its memory of it.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    let library = library.validate();
    library
        .map(Arc::new)
        .map_err(|error| StartError::Config(error.to_string()))
}

fn recovering(error: impl std::fmt::Display) -> StartError {
    StartError::Recover(error.to_string())
}

/// What every part of a node is made with.
pub(crate) struct Parts {
    pub(crate) config: RaftConfig,
    pub(crate) loaded: Loaded,
    pub(crate) shadow: Arc<dyn Shadow>,
    pub(crate) tls: PeerTls,
    pub(crate) measures: Arc<Measures>,
}

impl Node {
    /// Starts the node on its log and the loaded state. An empty store waits to be bootstrapped or to
    /// be spoken to by a leader that knows it as a member.
    pub async fn start(
        config: RaftConfig,
        loaded: Loaded,
        shadow: Arc<dyn Shadow>,
        tls: PeerTls,
    ) -> Result<Self, StartError> {
        let measures = Arc::new(Measures::default());
        let identity = Identity {
            cluster_id: config.cluster_id,
            node_id: config.node_id,
            store_id: config.store_id,
        };
        let options = LogOptions::new(&config.limits, measures.clone());
        let log = LogStore::open(&config.dir, &identity, &options);
        let log = log.map_err(|error| StartError::Log(error.to_string()))?;
        let parts = Parts {
            config,
            loaded,
            shadow,
            tls,
            measures,
        };
        Self::start_on(parts, log, |link| Network { link }).await
    }

    /// Starts on a simulated disk.
    #[cfg(virtflow_sim)]
    pub async fn start_simulated(
        config: RaftConfig,
        loaded: Loaded,
        shadow: Arc<dyn Shadow>,
        tls: PeerTls,
        disk: crate::SimulatedDisk,
    ) -> Result<Self, StartError> {
        let log = crate::log::simulated::SimulatedLog::open(disk);
        let parts = Parts {
            config,
            loaded,
            shadow,
            tls,
            measures: Arc::default(),
        };
        Self::start_on(parts, log, |link| Network { link }).await
    }

    /// Starts on any log and network.
    pub(crate) async fn start_on<L, N>(
        parts: Parts,
        mut log: L,
        network: impl FnOnce(Arc<Link>) -> N,
    ) -> Result<Self, StartError>
    where
        L: RaftLogStorage<Types> + LogGauge + Clone,
        N: RaftNetworkFactory<Types>,
        N::Network: NetSnapshot<Types, SnapshotData = SnapshotData>,
    {
        let Parts {
            config,
            loaded,
            shadow,
            tls,
            measures,
        } = parts;
        ClusterVersionTooNew::check(loaded.state.cluster_version(), config.supports)?;
        let library = library_config(&config)?;
        let held = log.get_log_state().await.map_err(recovering)?;
        let purged = held.last_purged_log_id.map_or(0, |id| id.index);
        let index = loaded.state.index();
        if purged > index {
            return Err(StartError::Gap {
                purged,
                loaded: index,
            });
        }
        // A log that ends below the state, as after a crash in the middle of an install, is purged up to
        // the state when the library starts.
        let ends_below = held.last_log_id.map_or(0, |id| id.index) < index;
        let log_begins_after = if ends_below { index } else { purged };
        let (last, membership) = Meta::read(&loaded.raft_meta).map_err(recovering)?;
        let applied = Applied {
            index: last.map_or(0, |id| id.index),
            term: last.map_or(0, |id| id.leader_id.term),
        };
        let published = Published::new(
            &loaded.state,
            applied,
            config.limits.change_entries_max,
            measures,
            Arc::new(Fatal::default()),
        );
        let link = Arc::new(Link::new(
            config.cluster_id,
            config.node_id,
            config.store_id,
            tls,
            published.clone(),
            &membership,
        ));
        let machine = Machine::new(loaded, shadow.clone(), &config, published.clone());
        let mut machine = machine.map_err(recovering)?;
        machine.log_begins_after(log_begins_after);
        // Replaying the log below needs the shadow to follow.
        let feeding = tokio::spawn(tasks::feed_flushed(
            log.flushed(),
            published.applied(),
            shadow.clone(),
        ));
        let gauge: Arc<dyn LogGauge> = Arc::new(log.clone());
        let raft = Raft::new(config.node_id, library, network(link.clone()), log, machine).await;
        let raft = match raft {
            Ok(raft) => raft,
            Err(error) => {
                feeding.abort();
                let reason = published.fatal.reason();
                return Err(reason.map_or_else(|| recovering(error), StartError::Fatal));
            }
        };
        Ok(Self::assemble(
            config, raft, gauge, shadow, published, link, feeding,
        ))
    }

    fn assemble(
        config: RaftConfig,
        raft: Raft,
        log: Arc<dyn LogGauge>,
        shadow: Arc<dyn Shadow>,
        published: Arc<Published>,
        link: Arc<Link>,
        feeding: JoinHandle<()>,
    ) -> Self {
        let limits = &config.limits;
        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        let digests = Arc::new(Digests::new(published.clone()));
        let (reads, mut tasks) = Reads::start(
            raft.clone(),
            link.clone(),
            published.clone(),
            leadership.clone(),
            limits.read_timeout,
        );
        let (desk, asks) = Desk::new(limits, published.clone());
        let (admitting, admitted) = watch::channel(true);
        let (settled_sender, settled) = watch::channel(false);
        let sequencer = Sequencer {
            raft: raft.clone(),
            published: published.clone(),
            shadow: shadow.clone(),
            digests: digests.clone(),
            reads: reads.clone(),
            leadership: leadership.clone(),
            admitting: admitted,
            asks,
            limits: limits.clone(),
            settled: settled_sender,
        };
        let fatal = published.fatal.clone();
        tasks.push(feeding);
        tasks.push(tokio::spawn(leadership::follow(
            raft.clone(),
            published.applied(),
            leadership_sender,
        )));
        tasks.push(tokio::spawn(sequencer.run()));
        tasks.push(tokio::spawn(tasks::follow_membership(
            raft.clone(),
            link.clone(),
            fatal.clone(),
        )));
        tasks.push(tokio::spawn(tasks::watch_shadow(shadow.clone(), fatal)));
        tasks.push(tokio::spawn(tasks::compare_digests(
            raft.clone(),
            link.clone(),
            digests.clone(),
            published.clone(),
            leadership.clone(),
            limits.digest_interval,
        )));
        tasks.push(tokio::spawn(tasks::snapshot_by_size(
            raft.clone(),
            log.clone(),
            shadow.clone(),
            limits.snapshot_log_bytes,
            config.node_id,
        )));
        let inner = Arc::new(Inner {
            raft,
            link,
            log,
            shadow,
            published,
            digests,
            reads,
            desk,
            leadership,
            admitting,
            settled,
            changing: Mutex::new(()),
            handing_over: Mutex::new(()),
            stands: AtomicBool::new(true),
            config,
            tasks,
        });
        let node = Self { inner };
        node.stop_when_fatal();
        node
    }

    /// A node that must stop passes its leadership on, if it can, and falls silent.
    fn stop_when_fatal(&self) {
        let weak = Arc::downgrade(&self.inner);
        let fatal = self.inner.published.fatal.clone();
        tokio::spawn(async move {
            // Without the node nobody needs this task, and only a stop ends the wait.
            let _reason = tokio::select! {
                reason = fatal.wait() => reason,
                () = async { while weak.strong_count() > 0 { tokio::time::sleep(GONE_POLL).await } } => return,
            };
            if let Some(inner) = weak.upgrade() {
                let node = Self { inner };
                node.inner.admitting.send_replace(false);
                drop(tokio::time::timeout(LAST_HAND_OVER, node.transfer_away()).await);
                drop(node.inner.raft.shutdown().await);
                node.inner.published.hub.close();
            }
        });
    }
}
