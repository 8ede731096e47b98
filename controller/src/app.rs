//! What the parts of a running controller share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use axum::Router;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use virtflow_pki::{CaCertificate, CertStore, CertificateAuthority, Identity, SealKey};
use virtflow_raft::{MemberInfo, Node, PeerTls};
use virtflow_shadow::Archive;
use virtflow_types::{Error, ObjectId};
use zeroize::Zeroizing;

use crate::agents::Agents;
use crate::config::Config;
use crate::daemon::{log::LogControl, status};
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::store::StoreFile;

/// This software's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The highest cluster version that this controller supports. Programs built with debug assertions can be told to say
/// another one (`VIRTFLOW_SUPPORTS=2`), so that a test can make a group of unlike members; release builds don't know
/// the variable. In a simulation each start is given its own.
pub fn cluster_version_supported() -> u32 {
    #[cfg(virtflow_sim)]
    if let Some(told) = crate::simulated::supports() {
        return told;
    }
    #[cfg(debug_assertions)]
    if let Some(told) = std::env::var("VIRTFLOW_SUPPORTS")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        return told;
    }
    virtflow_state::CLUSTER_VERSION
}

/// A running controller. Clones share everything.
#[derive(Clone, Debug)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    jwt_key: Zeroizing<[u8; 32]>,
    hash_key: Zeroizing<[u8; 32]>,
    metrics: Metrics,
    agents: Agents,
    leader: ArcSwapOption<Leader>,
    /// The routes hold the app: taken out when it stops, or neither would ever be dropped.
    router: Mutex<Option<Router>>,
    stopping: CancellationToken,
}

/// What a controller is made of, in the order in which it comes to be.
#[derive(Debug)]
pub struct Parts {
    /// Its configuration.
    pub config: Config,
    /// Which store it holds.
    pub store: StoreFile,
    /// Seals secrets.
    pub seal_key: SealKey,
    /// Signs certificates.
    pub authority: CertificateAuthority,
    /// The own certificate, and whom it trusts.
    pub tls: PeerTls,
    /// The durable shadow.
    pub shadow: Arc<dyn Archive>,
    /// The member of the Raft group.
    pub node: Node,
    /// The log level, where this process owns it.
    pub log: Option<Arc<LogControl>>,
}

impl Parts {
    /// How this controller is known to the others.
    pub fn member_info(&self) -> MemberInfo {
        MemberInfo {
            name: self.config.name.clone(),
            store_id: self.store.store_id,
            key_fingerprint: self.tls.certificates.key_fingerprint(),
            peer_address: self.config.peer_address(),
            api_address: self.config.api_address(),
            agent_address: self.config.agent_address(),
        }
    }
}

/// Where a request came from. On every request that reaches the API's router.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The caller's address as the controller that took the connection saw it.
    pub remote_address: String,
    /// A certified client.
    pub client: Option<Identity>,
    /// How many controllers passed it on; a request with any is never passed on again.
    pub hops: u32,
}

/// A request to be passed to the leader.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// Its method.
    pub method: http::Method,
    /// Path and query.
    pub path_and_query: String,
    /// Headers, credentials included.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Where it came from.
    pub caller: Caller,
}

/// The end of a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// The last bytes.
    pub data: Bytes,
    /// How many there ever were.
    pub total_bytes: u64,
}

/// What the leader knows of a host from its heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostLive {
    /// Milliseconds since its last heartbeat.
    pub last_heartbeat_ms_ago: u64,
    /// Parts per million of all its CPUs.
    pub cpu_used_ppm: u32,
    /// MiB.
    pub memory_used_mib: u64,
    /// MiB of the filesystem that holds its VMs.
    pub storage_used_mib: u64,
    /// MiB free there.
    pub storage_available_mib: u64,
    /// Load average over a minute, in thousandths.
    pub load1_milli: u32,
    /// The controller that holds its session.
    pub controller: String,
    /// Domains on it that are not ours.
    pub foreign_domains: u32,
    /// The agent's clock ahead of the leader's, in milliseconds.
    pub clock_offset_ms: i64,
    /// Its VMs.
    pub guests: Vec<GuestLive>,
}

/// What a guest takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLive {
    /// The VM.
    pub vm_id: ObjectId,
    /// Parts per million of all CPUs of its host.
    pub cpu_used_ppm: u32,
    /// MiB.
    pub memory_used_mib: u64,
    /// Bytes since it started.
    pub disk_read_bytes: u64,
    /// Bytes since it started.
    pub disk_write_bytes: u64,
}

impl App {
    /// Puts the parts together. Nothing runs yet.
    pub fn new(parts: Parts) -> Result<Self, virtflow_pki::PkiError> {
        let jwt_key = parts.seal_key.derive("jwt")?;
        let hash_key = parts.seal_key.derive("request hashes")?;
        let metrics = Metrics::default();
        metrics.watch(parts.node.clone(), parts.shadow.clone());
        let app = Self(Arc::new(Inner {
            parts,
            jwt_key,
            hash_key,
            metrics,
            agents: Agents::default(),
            leader: ArcSwapOption::empty(),
            router: Mutex::new(None),
            stopping: CancellationToken::new(),
        }));
        let router = crate::api::router(app.clone());
        *app.0.router.lock().unwrap_or_else(PoisonError::into_inner) = Some(router);
        Ok(app)
    }

    /// The member of the Raft group.
    pub fn node(&self) -> &Node {
        &self.0.parts.node
    }
    /// The durable shadow.
    pub fn shadow(&self) -> &Arc<dyn Archive> {
        &self.0.parts.shadow
    }
    /// The cluster.
    pub fn cluster_id(&self) -> ObjectId {
        self.0.parts.store.cluster_id
    }
    /// This member's store, which is also its id as a controller.
    pub fn store_id(&self) -> ObjectId {
        self.0.parts.store.store_id
    }
    /// What `store.json` says.
    pub fn store(&self) -> &StoreFile {
        &self.0.parts.store
    }
    /// This controller's name.
    pub fn name(&self) -> &str {
        &self.0.parts.config.name
    }
    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.0.parts.config
    }
    /// The cluster's CA.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.0.parts.authority
    }
    /// The CA's certificate.
    pub fn ca(&self) -> &CaCertificate {
        self.0.parts.authority.certificate()
    }
    /// The own certificate.
    pub fn certificates(&self) -> &Arc<CertStore> {
        &self.0.parts.tls.certificates
    }
    /// For connections with other controllers.
    pub fn peer_tls(&self) -> &PeerTls {
        &self.0.parts.tls
    }
    /// Seals what must not lie about in clear.
    pub fn seal_key(&self) -> &SealKey {
        &self.0.parts.seal_key
    }
    /// Signs access tokens; the same on every controller.
    pub fn jwt_key(&self) -> &[u8; 32] {
        &self.0.jwt_key
    }
    /// Hashes requests that may hold secrets; the same on every controller.
    pub fn hash_key(&self) -> &[u8; 32] {
        &self.0.hash_key
    }
    /// Numbers for monitoring.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
    /// Registers more metrics.
    pub fn registry<T>(&self, f: impl FnOnce(&mut Registry) -> T) -> T {
        self.0.metrics.with_registry(f)
    }
    /// Sessions of agents held here.
    pub fn agents(&self) -> &Agents {
        &self.0.agents
    }
    /// The log level of this process, if it may be changed.
    pub fn log(&self) -> Option<&Arc<LogControl>> {
        self.0.parts.log.as_ref()
    }
    /// The REST routes; `None` once the controller stops.
    pub fn router(&self) -> Option<Router> {
        self.0
            .router
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
    /// Cancelled when the controller stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }
    /// Tells everything that runs to end.
    pub fn stop(&self) {
        self.0.stopping.cancel();
        *self.0.router.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What runs while this controller leads.
    pub fn leader(&self) -> Option<Arc<Leader>> {
        self.0.leader.load_full()
    }
    pub(crate) fn set_leader(&self, leader: Option<Arc<Leader>>) {
        self.0.leader.store(leader);
    }
    /// True if decisions are taken here.
    pub fn leads(&self) -> bool {
        self.node().leadership().borrow().is_leader_ready
    }

    /// How this controller is known to the others.
    pub fn member_info(&self) -> MemberInfo {
        self.0.parts.member_info()
    }

    /// Passes a request to the leader. `Unavailable`: nothing was done; `OutcomeUnknown`: it was sent
    /// and there was no answer.
    pub async fn forward(&self, request: Forwarded) -> Result<http::Response<Bytes>, Error> {
        crate::daemon::peer_calls::forward(self, request).await
    }

    /// The last bytes of a VM's console, from whichever controller holds its host's session.
    pub async fn console(
        &self,
        host: ObjectId,
        vm: ObjectId,
        placement_epoch: u64,
        max_bytes: u64,
    ) -> Result<Console, Error> {
        crate::agents::console::read(self, host, vm, placement_epoch, max_bytes).await
    }

    /// What the leader knows of the hosts from their heartbeats; empty if it cannot be asked.
    pub async fn live(&self) -> BTreeMap<ObjectId, HostLive> {
        match self.leader() {
            Some(leader) => leader.live(self),
            None => crate::daemon::peer_calls::live_hosts(self).await,
        }
    }

    /// What `/status` says of this controller.
    pub async fn cluster_status(&self) -> serde_json::Value {
        status::report(self)
    }
}
