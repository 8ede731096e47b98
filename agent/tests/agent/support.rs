//! A controller played by the test: real listeners, real mutual TLS, and every word by hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use virtflow_agent::config::Config;
use virtflow_agent::identity;
use virtflow_pki::{
    Admission, CertStore, CertificateAuthority, Csr, KeyPair, LeafRequest, ListenerLimits, Role,
    ServerPolicy, TlsListener, require_role, server_config,
};
use virtflow_proto::agent::v1;
use virtflow_proto::agent::v1::agent_message::Body as Said;
use virtflow_proto::agent::v1::agent_session_server::{AgentSession, AgentSessionServer};
use virtflow_proto::agent::v1::controller_message::Body as Tell;
use virtflow_proto::agent::v1::enrolment_server::{Enrolment, EnrolmentServer};
use virtflow_types::{ObjectId, Timestamp};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TOKEN: &str = "a-token";
pub(crate) const CLUSTER: ObjectId = ObjectId::from_u128(0xc1);
pub(crate) const HOST: ObjectId = ObjectId::from_u128(0x40);
pub(crate) const LIFE: ObjectId = ObjectId::from_u128(0x11);

/// A cluster's CA and any number of controllers.
pub(crate) struct Cluster {
    authority: Arc<CertificateAuthority>,
    pub(crate) certificate_life_s: Arc<AtomicU64>,
    pub(crate) renewals: Arc<AtomicU64>,
    pub(crate) reenrolments: Arc<AtomicU64>,
}

/// One controller; ends with its value.
pub(crate) struct Controller {
    pub(crate) agent_address: SocketAddr,
    pub(crate) api_address: SocketAddr,
    sessions: Mutex<mpsc::Receiver<Session>>,
    _tasks: JoinSet<()>,
}

/// A session as the controller has it.
pub(crate) struct Session {
    pub(crate) incoming: Streaming<v1::AgentMessage>,
    pub(crate) out: mpsc::Sender<Result<v1::ControllerMessage, Status>>,
}

#[derive(Clone)]
struct Service {
    authority: Arc<CertificateAuthority>,
    life_s: Arc<AtomicU64>,
    renewals: Arc<AtomicU64>,
    reenrolments: Arc<AtomicU64>,
    sessions: mpsc::Sender<Session>,
    addresses: (SocketAddr, SocketAddr),
}

impl Service {
    fn certificate(&self, csr: &[u8]) -> Result<Response<v1::EnrolReply>, Status> {
        let invalid = |error: virtflow_pki::PkiError| Status::invalid_argument(error.to_string());
        let csr = Csr::from_der(csr).map_err(invalid)?;
        let leaf = LeafRequest {
            role: Role::Agent,
            subject_id: HOST.uuid(),
            dns_names: vec![],
            ip_addresses: vec![],
            lifetime: Duration::from_secs(self.life_s.load(Ordering::SeqCst)),
        };
        let now = Timestamp::now().ms();
        let certificate = self.authority.sign(&csr, &leaf, now).map_err(invalid)?;
        Ok(Response::new(v1::EnrolReply {
            certificate_der: certificate.der().to_vec(),
            ca_der: self.authority.certificate().der().to_vec(),
            host_id: HOST.to_string(),
            cluster_id: CLUSTER.to_string(),
            agent_endpoints: vec![self.addresses.0.to_string()],
            api_endpoints: vec![self.addresses.1.to_string()],
            ..v1::EnrolReply::default()
        }))
    }
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(
        &self,
        request: Request<v1::EnrolRequest>,
    ) -> Result<Response<v1::EnrolReply>, Status> {
        if request.get_ref().token != TOKEN {
            return Err(Status::unauthenticated("the token is not known"));
        }
        self.certificate(&request.get_ref().csr_der)
    }

    async fn reenrol(
        &self,
        request: Request<v1::ReenrolRequest>,
    ) -> Result<Response<v1::EnrolReply>, Status> {
        self.reenrolments.fetch_add(1, Ordering::SeqCst);
        self.certificate(&request.get_ref().csr_der)
    }
}

#[tonic::async_trait]
impl AgentSession for Service {
    type SessionStream = ReceiverStream<Result<v1::ControllerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = require_role(request.extensions(), Role::Agent)?;
        assert_eq!(peer.identity.subject_id, HOST.uuid());
        let (out, queue) = mpsc::channel(64);
        let session = Session {
            incoming: request.into_inner(),
            out,
        };
        // A test that is over takes no sessions.
        let _ = self.sessions.send(session).await;
        Ok(Response::new(ReceiverStream::new(queue)))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::EnrolReply>, Status> {
        require_role(request.extensions(), Role::Agent)?;
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.certificate(&request.get_ref().csr_der)
    }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let now = Timestamp::now().ms();
        let authority = CertificateAuthority::create(CLUSTER.uuid(), now).unwrap();
        Self {
            authority: Arc::new(authority),
            certificate_life_s: Arc::new(AtomicU64::new(3600)),
            renewals: Arc::default(),
            reenrolments: Arc::default(),
        }
    }

    pub(crate) fn fingerprint(&self) -> virtflow_pki::CaFingerprint {
        self.authority.certificate().fingerprint()
    }

    pub(crate) async fn controller(&self) -> Controller {
        let key = KeyPair::generate().unwrap();
        let leaf = LeafRequest {
            role: Role::Controller,
            subject_id: ObjectId::generate().uuid(),
            dns_names: vec![],
            ip_addresses: vec![],
            lifetime: Duration::from_secs(3600),
        };
        let csr = Csr::from_der(&key.csr().unwrap()).unwrap();
        let now = Timestamp::now().ms();
        let certificate = self.authority.sign(&csr, &leaf, now).unwrap();
        let store = CertStore::new(key, certificate, self.authority.certificate()).unwrap();
        let anybody: virtflow_pki::AdmissionCheck = Arc::new(|_, _| Admission::Admit);
        let listen = async |policy| {
            let config = server_config(&store, policy).unwrap();
            let limits = ListenerLimits::default();
            TlsListener::bind("127.0.0.1:0".parse().unwrap(), config, limits)
                .await
                .unwrap()
        };
        let agents = listen(ServerPolicy::agents(anybody.clone())).await;
        let api = listen(ServerPolicy::api(anybody)).await;
        let (agent_address, api_address) = (agents.local_addr(), api.local_addr());
        let (sender, sessions) = mpsc::channel(16);
        let service = Service {
            authority: self.authority.clone(),
            life_s: self.certificate_life_s.clone(),
            renewals: self.renewals.clone(),
            reenrolments: self.reenrolments.clone(),
            sessions: sender,
            addresses: (agent_address, api_address),
        };
        let mut tasks = JoinSet::new();
        let on_agents = tonic::transport::Server::builder()
            .add_service(AgentSessionServer::new(service.clone()))
            .serve_with_incoming(agents);
        let on_api = tonic::transport::Server::builder()
            .add_service(EnrolmentServer::new(service))
            .serve_with_incoming(api);
        tasks.spawn(async move { on_agents.await.unwrap() });
        tasks.spawn(async move { on_api.await.unwrap() });
        Controller {
            agent_address,
            api_address,
            sessions: Mutex::new(sessions),
            _tasks: tasks,
        }
    }
}

impl Controller {
    /// The next session, after its hello.
    pub(crate) async fn accept(&self) -> (Session, v1::Hello) {
        let mut sessions = self.sessions.lock().await;
        let session = timeout(PATIENCE, sessions.recv()).await.expect("a session");
        let mut session = session.unwrap();
        match session.hear().await {
            Said::Hello(hello) => (session, hello),
            other => panic!("a session begins with a hello, not {other:?}"),
        }
    }

    /// Accepts and welcomes.
    pub(crate) async fn welcome(&self, host_epoch: u64) -> (Session, v1::Hello) {
        let (session, hello) = self.accept().await;
        session
            .tell(Tell::Welcome(v1::Welcome {
                session: 7,
                host_epoch,
                heartbeat_interval_ms: 100,
                stamp: None,
            }))
            .await;
        (session, hello)
    }
}

impl Session {
    pub(crate) async fn tell(&self, body: Tell) {
        let message = v1::ControllerMessage { body: Some(body) };
        self.out.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Said {
        let message = timeout(PATIENCE, self.incoming.message())
            .await
            .expect("a word");
        message.unwrap().expect("the session goes on").body.unwrap()
    }

    /// Hears on until something is as wanted.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Said) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = wanted(&self.hear().await) {
                    return found;
                }
            }
        };
        let found = timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("never heard {what}"))
    }

    /// Whether the agent ends the session.
    pub(crate) async fn ends(&mut self) {
        let end = async { while let Ok(Some(_)) = self.incoming.message().await {} };
        timeout(PATIENCE, end).await.expect("the session ends");
    }
}

/// A configuration with everything in one folder.
pub(crate) fn config(folder: &Path, more: &str) -> Config {
    let root = folder.display();
    let text = format!(
        "data_dir = \"{root}/agent\"\nguests_dir = \"{root}/guests\"\n\
         hypervisor = \"simulated\"\nserial = \"test-1\"\nname = \"host-1\"\n{more}\n\
         [status]\nlisten = \"127.0.0.1:0\"\n"
    );
    let path = folder.join("agent.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path).unwrap()
}

pub(crate) async fn join(config: &Config, cluster: &Cluster, controller: &Controller) {
    let addresses = [format!("https://{}", controller.api_address)];
    identity::join(config, &addresses, &cluster.fingerprint(), TOKEN)
        .await
        .unwrap();
}

pub(crate) fn stamp(index: u64) -> Option<v1::Stamp> {
    Some(v1::Stamp {
        incarnation: LIFE.as_bytes().to_vec(),
        index,
    })
}

pub(crate) fn vm(number: u128) -> v1::DesiredVm {
    v1::DesiredVm {
        vm_id: ObjectId::from_u128(number).as_bytes().to_vec(),
        placement_epoch: 1,
        generation: 1,
        name: format!("web-{number}"),
        tenant_id: vec![],
        cpu_cores: 1,
        memory_mib: 128,
        storage_gib: 1,
        gpu_count: 0,
        power: v1::Power::Running.into(),
        power_serial: 1,
        grace_s: 1,
        ..v1::DesiredVm::default()
    }
}

pub(crate) fn desired(index: u64, host_epoch: u64, vms: Vec<v1::DesiredVm>) -> Tell {
    Tell::Desired(v1::Desired {
        stamp: stamp(index),
        host_epoch,
        complete: true,
        vms,
        ..v1::Desired::default()
    })
}
