//! Groups of nodes on loopback, over real mutual TLS.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

pub mod shadow;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status};
use virtflow_pki::{
    Admission, CertStore, CertificateAuthority, KeyPair, LeafRequest, ListenerLimits, PinnedKeys,
    Role, ServerPolicy, TlsListener, require_role, server_config,
};
use virtflow_proto::raft::v1::peer_server::{Peer, PeerServer};
use virtflow_proto::raft::v1::*;
use virtflow_raft::{
    Leadership, MESSAGE_BYTES_MAX, MemberInfo, Node, PeerTls, RaftConfig, RaftLimits, Timing,
    offline,
};
use virtflow_shadow::{ShadowOptions, SqliteShadow};
use virtflow_state::port::{Loaded, Shadow};
use virtflow_state::{Changeset, Claim, Object, Op, State};
use virtflow_types::{Incarnation, ObjectId, RequestId, Timestamp};

use shadow::TestShadow;

pub const KIND: &str = "thing";
/// Nothing here takes that long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate authority and the addresses of a group's members.
pub struct World {
    pub dir: TempDir,
    pub cluster_id: ObjectId,
    authority: CertificateAuthority,
    pub limits: RaftLimits,
    pub timing: Timing,
    /// The real shadow instead of the one made for tests.
    pub sqlite: bool,
    /// What members that are started from now on support.
    pub supports: u32,
}

/// The data folder of a member: what a restart finds.
pub struct Home {
    pub node_id: u64,
    pub store_id: ObjectId,
    pub dir: PathBuf,
    pub tls: PeerTls,
    address: std::net::SocketAddr,
    pub info: MemberInfo,
}

/// A running member, on a runtime of its own: dropping that ends all it does at once, connections
/// too, as the death of a process would.
pub struct Runner {
    pub node: Node,
    shadow: Shadows,
    runtime: Option<Runtime>,
}

enum Shadows {
    Test(Arc<TestShadow>),
    Sqlite(Arc<SqliteShadow>),
}

impl Shadows {
    async fn open(sqlite: bool, dir: &Path) -> (Self, Loaded) {
        if !sqlite {
            let (shadow, loaded) = TestShadow::open(dir);
            return (Self::Test(shadow), loaded);
        }
        std::fs::create_dir_all(dir).unwrap();
        // The threads of a shadow that was just dropped may hold its lock for a moment.
        let began = Instant::now();
        loop {
            match SqliteShadow::open(dir, ShadowOptions::default()).await {
                Ok((shadow, loaded)) => return (Self::Sqlite(shadow), loaded),
                Err(error) if began.elapsed() > PATIENCE => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn get(&self) -> Arc<dyn Shadow> {
        match self {
            Self::Test(shadow) => shadow.clone(),
            Self::Sqlite(shadow) => shadow.clone(),
        }
    }
}

struct PeerService(Node);

type RecordStream =
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<RecordsChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type RecordsStream = RecordStream;

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexReply>, Status> {
        let peer = require_role(request.extensions(), Role::Controller)?.clone();
        Ok(Response::new(
            self.0
                .answer_read_index(request.into_inner(), &peer)
                .await?,
        ))
    }
    async fn forward(&self, _: Request<ForwardRequest>) -> Result<Response<ForwardReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn relay(&self, _: Request<RelayRequest>) -> Result<Response<RelayReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn console(
        &self,
        _: Request<PeerConsoleRequest>,
    ) -> Result<Response<PeerConsoleReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn enrol(
        &self,
        _: Request<PeerEnrolRequest>,
    ) -> Result<Response<PeerEnrolReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn note(&self, _: Request<NoteRequest>) -> Result<Response<NoteReply>, Status> {
        Err(Status::unimplemented("note"))
    }
    async fn live(&self, _: Request<LiveRequest>) -> Result<Response<LiveReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn records(&self, _: Request<RecordsRequest>) -> Result<Response<RecordStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

impl World {
    pub fn new() -> Self {
        let filter =
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let cluster_id = ObjectId::generate();
        let limits = RaftLimits {
            decide_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5),
            digest_interval: Duration::from_millis(300),
            ..RaftLimits::default()
        };
        Self {
            dir: tempfile::tempdir().unwrap(),
            cluster_id,
            authority: CertificateAuthority::create(cluster_id.uuid(), Timestamp::now().ms())
                .unwrap(),
            limits,
            // Many nodes share few cores with other tests: a leader is missed later than usual.
            timing: Timing {
                heartbeat_ms: 100,
                election_min_ms: 700,
                election_max_ms: 1400,
            },
            sqlite: false,
            supports: virtflow_state::CLUSTER_VERSION,
        }
    }

    /// A new, empty data folder with a certificate for its store.
    pub fn home(&self, name: &str) -> Home {
        let store_id = ObjectId::generate();
        let key = KeyPair::generate().unwrap();
        let csr = virtflow_pki::Csr::from_der(&key.csr().unwrap()).unwrap();
        let request = LeafRequest {
            role: Role::Controller,
            subject_id: store_id.uuid(),
            dns_names: vec!["localhost".into()],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            lifetime: Duration::from_secs(3600),
        };
        let certificate = self
            .authority
            .sign(&csr, &request, Timestamp::now().ms())
            .unwrap();
        let key_fingerprint = key.fingerprint();
        let certificates = CertStore::new(key, certificate, self.authority.certificate()).unwrap();
        let address = free_address();
        Home {
            node_id: 0,
            store_id,
            dir: self.dir.path().join(name),
            tls: PeerTls {
                certificates,
                pinned: Arc::new(PinnedKeys::default()),
            },
            address,
            info: MemberInfo {
                name: name.into(),
                store_id,
                key_fingerprint,
                peer_address: address.to_string(),
                api_address: "127.0.0.1:1".into(),
                agent_address: "127.0.0.1:2".into(),
            },
        }
    }

    /// Makes the log and starts.
    pub async fn found(&self, home: &mut Home, node_id: u64) -> Runner {
        home.node_id = node_id;
        offline::create(
            &home.dir.join("raft"),
            self.cluster_id,
            node_id,
            home.store_id,
        )
        .await
        .unwrap();
        self.start(home).await
    }

    /// Starts on what the folder holds.
    pub async fn start(&self, home: &Home) -> Runner {
        // The threads of a node that was just killed may hold its log's lock for a moment.
        let began = Instant::now();
        loop {
            match self.try_start(home).await {
                Ok(runner) => return runner,
                Err(virtflow_raft::StartError::Log(why))
                    if why.contains("locked") && began.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub async fn try_start(&self, home: &Home) -> Result<Runner, virtflow_raft::StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut config = RaftConfig::new(
            home.dir.join("raft"),
            home.node_id,
            home.store_id,
            self.cluster_id,
        );
        config.limits = self.limits.clone();
        config.timing = self.timing;
        config.supports = self.supports;
        let started = runtime
            .spawn(run(
                config,
                self.sqlite,
                home.dir.join("shadow"),
                home.tls.clone(),
                home.address,
            ))
            .await;
        match started.unwrap() {
            Ok((node, shadow)) => Ok(Runner {
                node,
                shadow,
                runtime: Some(runtime),
            }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }
}

async fn run(
    config: RaftConfig,
    sqlite: bool,
    shadow_dir: PathBuf,
    tls: PeerTls,
    address: std::net::SocketAddr,
) -> Result<(Node, Shadows), virtflow_raft::StartError> {
    let (shadow, loaded) = Shadows::open(sqlite, &shadow_dir).await;
    let node = Node::start(config, loaded, shadow.get(), tls.clone()).await?;
    let policy = ServerPolicy::peers(Arc::new(|_, _| Admission::Admit), tls.pinned.clone());
    let config = server_config(&tls.certificates, policy).unwrap();
    // A port that was just given up may need a moment.
    let began = Instant::now();
    let listener = loop {
        match TlsListener::bind(address, config.clone(), ListenerLimits::default()).await {
            Ok(listener) => break listener,
            Err(error) if began.elapsed() > PATIENCE => panic!("{address}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let peer =
        PeerServer::new(PeerService(node.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let serving = tonic::transport::Server::builder()
        .add_service(node.grpc_service())
        .add_service(peer)
        .serve_with_incoming(listener);
    tokio::spawn(async move { drop(serving.await) });
    Ok((node, shadow))
}

impl Home {
    /// The same member, on a copy of its data.
    pub fn at(&self, dir: PathBuf) -> Self {
        Self {
            node_id: self.node_id,
            store_id: self.store_id,
            dir,
            tls: self.tls.clone(),
            address: self.address,
            info: self.info.clone(),
        }
    }

    /// Takes over another's address.
    pub fn address_of(&mut self, other: &Self) {
        self.address = other.address;
        self.info.peer_address.clone_from(&other.info.peer_address);
    }
}

fn free_address() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Runner {
    /// As if the process had died: nothing is answered, handed over or flushed any more. The shadow
    /// keeps on its disk what it was last told to.
    pub async fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
        let alive = Arc::downgrade(&self.shadow.get());
        drop(self);
        until("the node's tasks to end", || alive.strong_count() == 0).await;
    }

    /// The shadow with the knobs.
    pub fn shadow(&self) -> &TestShadow {
        match &self.shadow {
            Shadows::Test(shadow) => shadow,
            Shadows::Sqlite(_) => panic!("the real shadow has no knobs"),
        }
    }

    /// Holds up all that the node does, as a process that is stopped and goes on later.
    pub fn pause(&self, span: Duration) {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(async move { std::thread::sleep(span) });
    }

    pub fn leads(&self) -> bool {
        self.node.leadership().borrow().is_leader_ready
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Fails a test that hangs.
pub async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(150), test)
        .await
        .expect("the test hangs")
}

pub async fn leadership_where(
    node: &Node,
    what: &str,
    so: impl FnMut(&Leadership) -> bool,
) -> Leadership {
    let mut leadership = node.leadership();
    let found = tokio::time::timeout(PATIENCE, leadership.wait_for(so)).await;
    *found
        .unwrap_or_else(|_| panic!("waited too long for {what}"))
        .unwrap()
}

pub fn genesis(cluster_id: ObjectId) -> Changeset {
    let mut changeset = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
    changeset
        .ops
        .push(Op::Genesis(Incarnation::generate(), cluster_id));
    changeset
}

/// Raises the cluster version.
#[allow(dead_code, reason = "only tests of versions raise it")]
pub fn raise_to(version: u32) -> Changeset {
    let mut changeset = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
    changeset.ops.push(Op::ClusterVersion(version));
    changeset
}

/// Makes a thing whose name nobody else has.
pub fn make(name: &str) -> Changeset {
    make_with(name, "{}")
}

pub fn make_with(name: &str, spec: &str) -> Changeset {
    let mut object = Object::new(KIND, ObjectId::generate(), name);
    object.spec = spec.into();
    object.footprint.claims = vec![Claim::point("thing.name", name.as_bytes())].into();
    let mut changeset = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
    changeset.ops.push(Op::Put(Box::new(object)));
    changeset
}

pub fn has(state: &State, name: &str) -> bool {
    state.holder("thing.name", name.as_bytes()).is_some()
}

pub fn count(state: &State) -> usize {
    state.of_kind(KIND, None).count()
}

/// A group of `n` voters, made by joining one after another.
pub struct Group {
    pub world: World,
    pub homes: BTreeMap<u64, Home>,
    pub runners: BTreeMap<u64, Runner>,
}

impl Group {
    pub async fn of(n: usize) -> Self {
        Self::with(n, World::new()).await
    }

    pub async fn with(n: usize, world: World) -> Self {
        let mut home = world.home("node-1");
        let runner = world.found(&mut home, 1).await;
        runner
            .node
            .bootstrap(genesis(world.cluster_id), home.info.clone())
            .await
            .unwrap();
        let mut group = Self {
            world,
            homes: BTreeMap::from([(1, home)]),
            runners: BTreeMap::from([(1, runner)]),
        };
        for number in 2..=n {
            let id = group.join(&format!("node-{number}")).await;
            group.leader().await.node.promote(id).await.unwrap();
        }
        group
    }

    /// A new member, still a learner.
    pub async fn join(&mut self, name: &str) -> u64 {
        let mut home = self.world.home(name);
        let id = self
            .leader()
            .await
            .node
            .add_learner(home.info.clone())
            .await
            .unwrap();
        let runner = self.world.found(&mut home, id).await;
        self.homes.insert(id, home);
        self.runners.insert(id, runner);
        id
    }

    pub async fn leader_id(&self) -> u64 {
        let began = Instant::now();
        loop {
            // Of two that believe so, the one with the higher term does.
            let leads = self.runners.iter().filter(|(_, runner)| runner.leads());
            let newest = leads.max_by_key(|(_, runner)| runner.node.leadership().borrow().term);
            if let Some((id, _)) = newest {
                return *id;
            }
            assert!(began.elapsed() < PATIENCE, "waited too long for a leader");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn leader(&self) -> &Runner {
        &self.runners[&self.leader_id().await]
    }

    pub async fn follower_id(&self) -> u64 {
        let leader = self.leader_id().await;
        *self.runners.keys().find(|id| **id != leader).unwrap()
    }

    pub async fn kill(&mut self, id: u64) {
        self.runners.remove(&id).unwrap().kill().await;
    }

    pub async fn restart(&mut self, id: u64) {
        let runner = self.world.start(&self.homes[&id]).await;
        self.runners.insert(id, runner);
    }

    /// Proposes on whoever leads, through changes of leadership, until it is decided. Once-only: an
    /// unknown outcome that came true is seen by the refusal of the second try.
    pub async fn surely(&self, name: &str) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "{name} is never decided");
            let leader = self.leader().await;
            match leader.node.propose(make(name)).await {
                Ok(_) => return,
                Err(virtflow_raft::DecideError::Conflict(_)) => return,
                Err(error) => {
                    tracing::info!("{name}: {error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// All nodes have applied the same and hold the same.
    pub async fn converge(&self) {
        let index = self.leader().await.node.read_index().await.unwrap();
        let mut digests = Vec::new();
        for (id, runner) in &self.runners {
            let image = runner.node.wait_applied(index).await;
            let image = image.unwrap_or_else(|error| panic!("node {id}: {error}"));
            assert_eq!(virtflow_state::verify(&image), [], "node {id}");
            digests.push(image.digest());
        }
        assert!(
            digests.windows(2).all(|pair| pair[0] == pair[1]),
            "digests differ"
        );
    }
}

pub fn folder_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len());
    files.sum()
}
