//! The handle on a running node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use virtflow_proto::raft::v1::raft_server::RaftServer;
use virtflow_state::port::Shadow;
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, Incarnation, ObjectId};

use crate::config::{RaftConfig, RaftLimits};
use crate::desk::Desk;
use crate::digest::Digests;
use crate::error::{BootstrapError, Committed, DecideError, ReadError};
use crate::feed::ChangeStream;
use crate::leadership::Leadership;
use crate::link::Link;
use crate::log::LogGauge;
use crate::machine::Published;
use crate::member::MemberInfo;
use crate::reads::Reads;
use crate::service::RaftService;
use crate::types::{Raft, StoredMember};

/// A new group's only member comes to lead within this.
const BOOTSTRAP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running member of the group. A clone is another handle on it; when the last one is dropped the
/// node stops without handing over.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) raft: Raft,
    pub(crate) link: Arc<Link>,
    pub(crate) log: Arc<dyn LogGauge>,
    pub(crate) shadow: Arc<dyn Shadow>,
    pub(crate) published: Arc<Published>,
    pub(crate) digests: Arc<Digests>,
    pub(crate) reads: Reads,
    pub(crate) desk: Desk,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) admitting: watch::Sender<bool>,
    pub(crate) settled: watch::Receiver<bool>,
    /// One change of the membership at a time.
    pub(crate) changing: Mutex<()>,
    /// One hand-over at a time.
    pub(crate) handing_over: Mutex<()>,
    /// Whether this node stands for election at all.
    pub(crate) stands: AtomicBool,
    pub(crate) config: RaftConfig,
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("node_id", &self.inner.config.node_id)
            .field("store_id", &self.inner.config.store_id)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.published.hub.close();
        // The library's tasks outlive its handles.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let raft = self.raft.clone();
            runtime.spawn(async move { drop(raft.shutdown().await) });
        }
    }
}

impl Node {
    /// The service to mount on the peer listener.
    pub fn grpc_service(&self) -> RaftServer<RaftService> {
        let inner = &self.inner;
        RaftService::new(
            inner.raft.clone(),
            inner.link.clone(),
            inner.shadow.clone(),
            inner.digests.clone(),
        )
        .into_server()
    }

    /// This member's number.
    pub fn node_id(&self) -> u64 {
        self.inner.config.node_id
    }
    /// This member's store.
    pub fn store_id(&self) -> ObjectId {
        self.inner.config.store_id
    }
    /// The life of the store; `None` before genesis.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.inner.link.incarnation()
    }
    pub(crate) fn limits(&self) -> &RaftLimits {
        &self.inner.config.limits
    }

    /// Whether this store belongs to a group.
    pub fn is_initialized(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.last_log_index.is_some() || metrics.current_term > 0
    }

    /// Begins a group with this node as its only member and decides its first changeset. Called again
    /// after a crash in between, it goes on where it stopped.
    pub async fn bootstrap(
        &self,
        genesis: Changeset,
        me: MemberInfo,
    ) -> Result<Committed<()>, BootstrapError> {
        if self.incarnation().is_some() {
            return Err(BootstrapError::AlreadyInitialized);
        }
        if !self.is_initialized() {
            let members = BTreeMap::from([(self.node_id(), StoredMember(Some(me)))]);
            let begun = self.inner.raft.initialize(members).await;
            begun.map_err(|error| BootstrapError::Failed(error.to_string()))?;
        }
        let mut leadership = self.leadership();
        let ready = leadership.wait_for(|leadership| leadership.is_leader_ready);
        match tokio::time::timeout(BOOTSTRAP_TIMEOUT, ready).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(BootstrapError::Failed("the node has stopped".into())),
            Err(_) => {
                return Err(BootstrapError::Failed(
                    "it does not come to lead itself".into(),
                ));
            }
        }
        self.propose(genesis).await.map_err(BootstrapError::Genesis)
    }

    /// The newest image applied here. May be behind what others have acknowledged.
    pub fn image(&self) -> Arc<State> {
        self.inner.published.image()
    }

    /// The image, and a stream of what follows it without a gap.
    pub fn changes(&self) -> (Arc<State>, ChangeStream) {
        self.inner.published.hub.follow()
    }

    /// Decides on the leader's head: `decide` sees all that was decided before, committed or not, and
    /// returns what to change. It may be called where the state it saw never comes true; then its
    /// answer does not leave. A changeset without operations proposes nothing and answers the value
    /// once what it rests on is confirmed.
    pub async fn decide<T, F>(&self, decide: F) -> Result<Committed<T>, DecideError>
    where
        T: Send + 'static,
        F: FnMut(&State) -> Result<(Changeset, T), Error> + Send + 'static,
    {
        self.inner
            .desk
            .decide(decide)
            .await
            .map_err(|error| match error {
                DecideError::NotLeader { leader: None } => DecideError::NotLeader {
                    leader: Some(*self.inner.leadership.borrow())
                        .filter(|leadership| !leadership.is_leader)
                        .and_then(|leadership| leadership.leader),
                },
                other => other,
            })
    }

    /// Proposes a changeset that needs no look at the head.
    pub async fn propose(&self, changeset: Changeset) -> Result<Committed<()>, DecideError> {
        self.decide(move |_| Ok((changeset.clone(), ()))).await
    }

    /// The index that shows all that was acknowledged before this call, confirmed by a quorum.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        self.inner.reads.index().await
    }

    /// An image that shows all that was acknowledged before this call.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        let index = self.read_index().await?;
        self.wait_applied(index).await
    }

    /// An image at or above `index`, once it is applied here.
    pub async fn wait_applied(&self, index: u64) -> Result<Arc<State>, ReadError> {
        let mut applied = self.inner.published.applied();
        let reached = applied.wait_for(|applied| applied.index >= index);
        match tokio::time::timeout(self.limits().read_timeout, reached).await {
            Ok(Ok(_)) => Ok(self.image()),
            Ok(Err(_)) => Err(ReadError::Stopped {
                reason: "shutting down".into(),
            }),
            Err(_) => Err(ReadError::Lagging {
                index,
                applied: self.inner.published.applied().borrow().index,
            }),
        }
    }

    /// Who leads, from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Waits until the node must stop; the reason. Pending for ever otherwise.
    pub async fn fatal(&self) -> String {
        self.inner.published.fatal.wait().await
    }

    /// Stops cleanly: passes leadership on, answers all that wait, flushes and closes the shadow.
    pub async fn shutdown(&self) {
        self.inner.admitting.send_replace(false);
        if let Err(error) = self.hand_over().await {
            tracing::warn!("stopping without handing leadership over: {error}");
        }
        self.inner.admitting.send_replace(false);
        self.stop().await;
        if let Err(error) = self.inner.shadow.close().await {
            tracing::error!("closing the shadow: {error}");
        }
    }

    /// Stops at once, as if the process had died: nothing is handed over or flushed.
    pub async fn stop(&self) {
        drop(self.inner.raft.shutdown().await);
        self.inner.published.hub.close();
        for task in &self.inner.tasks {
            task.abort();
        }
    }
}
