//! An agent, played word for word.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use virtflow_pki::{
    Alpn, CaCertificate, CertStore, Certificate, KeyPair, ServerExpectation, TlsConnector, Trust,
    client_config,
};
use virtflow_proto::agent::v1::agent_message::Body as Say;
use virtflow_proto::agent::v1::agent_session_client::AgentSessionClient;
use virtflow_proto::agent::v1::controller_message::Body as Hear;
use virtflow_proto::agent::v1::enrolment_client::EnrolmentClient;
use virtflow_proto::agent::v1::*;
use virtflow_types::ObjectId;

use super::support::*;

/// A host's identity, as an agent would keep it.
pub(crate) struct Host {
    pub(crate) id: ObjectId,
    pub(crate) key: KeyPair,
    pub(crate) certificate: Certificate,
    ca: CaCertificate,
    pub(crate) serial: String,
}

impl Host {
    pub(crate) async fn enrol(
        controller: &Controller,
        token: &str,
        serial: &str,
    ) -> Result<Self, tonic::Status> {
        let key = KeyPair::generate().unwrap();
        let reply = enrolment(controller)
            .await
            .enrol(EnrolRequest {
                token: token.into(),
                csr_der: key.csr().unwrap(),
                serial_number: serial.into(),
                hostname: format!("h-{serial}"),
                agent_version: "test".into(),
            })
            .await?
            .into_inner();
        Ok(Self {
            id: reply.host_id.parse().unwrap(),
            certificate: Certificate::from_der(reply.certificate_der).unwrap(),
            ca: CaCertificate::from_der(reply.ca_der).unwrap(),
            key,
            serial: serial.into(),
        })
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        let pem = tempfile::NamedTempFile::new().unwrap();
        std::fs::remove_file(pem.path()).unwrap();
        self.key.save_new(pem.path()).unwrap();
        let key = KeyPair::load(pem.path()).unwrap();
        let store = CertStore::new(key, self.certificate.clone(), &self.ca).unwrap();
        let expected = ServerExpectation::controller(Trust::new(self.ca.clone()));
        TlsConnector::new(client_config(Some(&store), expected, Alpn::H2).unwrap())
    }

    pub(crate) async fn connect(&self, address: &str) -> AgentSessionClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        let channel = endpoint.connect_with_connector(self.connector()).await;
        AgentSessionClient::new(channel.unwrap())
    }

    /// A client that connects when it is used.
    pub(crate) fn connect_lazily(&self, address: &str) -> AgentSessionClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        AgentSessionClient::new(endpoint.connect_with_connector_lazy(self.connector()))
    }

    /// A new certificate for the key on record.
    pub(crate) async fn reenrol(&mut self, controller: &Controller) {
        let request = ReenrolRequest {
            csr_der: self.key.csr().unwrap(),
            serial_number: self.serial.clone(),
        };
        let reply = enrolment(controller).await.reenrol(request).await.unwrap();
        self.certificate = Certificate::from_der(reply.into_inner().certificate_der).unwrap();
    }

    /// True if a controller serves this host with the certificate it has.
    pub(crate) async fn is_taken(&self, controller: &Controller) -> bool {
        let request = RenewRequest {
            csr_der: self.key.csr().unwrap(),
        };
        let mut client = self.connect_lazily(&controller.config.agent_address());
        client.renew_certificate(request).await.is_ok()
    }

    pub(crate) fn hello(&self, boot: &str, highest: Option<Stamp>) -> Hello {
        Hello {
            boot_id: boot.into(),
            serial_number: self.serial.clone(),
            serial_source: "configured".into(),
            hostname: format!("h-{}", self.serial),
            agent_version: "test".into(),
            highest,
            inventory: Some(Inventory {
                threads: 4,
                memory_mib: 8192,
                schedulable_cpu_milli: 4000,
                schedulable_memory_mib: 8192,
                schedulable_storage_gib: 100,
                ..Inventory::default()
            }),
            protocol: 1,
            management_address: String::new(),
        }
    }

    /// Introduces itself to the controller at `address`; the reason if it is turned away.
    pub(crate) async fn try_session(&self, address: &str, boot: &str) -> Result<Session, String> {
        let mut session = Session::open(self, address).await;
        session.say(Say::Hello(self.hello(boot, None))).await;
        let turned_away = session
            .hear_until("a welcome or a goodbye", |heard| match heard {
                Hear::Welcome(welcome) => Some(Ok((welcome.session, welcome.host_epoch))),
                Hear::Goodbye(goodbye) => Some(Err(goodbye.reason.clone())),
                _ => None,
            })
            .await;
        (session.number, session.host_epoch) = turned_away?;
        Ok(session)
    }

    /// Begins a session with the controller at `address`; hears until the first desired state.
    pub(crate) async fn session(&self, address: &str, boot: &str) -> Session {
        let mut session = Session::open(self, address).await;
        session.say(Say::Hello(self.hello(boot, None))).await;
        session.begin().await;
        session
    }
}

pub(crate) async fn enrolment(controller: &Controller) -> EnrolmentClient<Channel> {
    let expected = ServerExpectation::first_contact(controller.app.ca().fingerprint());
    let tls = client_config(None, expected, Alpn::H2).unwrap();
    let channel = Endpoint::from_shared(format!("https://{}", controller.config.api_address()))
        .unwrap()
        .connect_with_connector(TlsConnector::new(tls))
        .await
        .unwrap();
    EnrolmentClient::new(channel)
}

pub(crate) struct Session {
    out: mpsc::Sender<AgentMessage>,
    incoming: Streaming<ControllerMessage>,
    pub(crate) number: u64,
    pub(crate) host_epoch: u64,
    pub(crate) desired: Desired,
    sequence: u64,
}

impl Session {
    pub(crate) async fn open(host: &Host, address: &str) -> Self {
        let (out, stream) = mpsc::channel(16);
        let incoming = host
            .connect(address)
            .await
            .session(ReceiverStream::new(stream))
            .await
            .unwrap()
            .into_inner();
        Self {
            out,
            incoming,
            number: 0,
            host_epoch: 0,
            desired: Desired::default(),
            sequence: 0,
        }
    }

    pub(crate) async fn say(&mut self, body: Say) {
        self.out
            .send(AgentMessage { body: Some(body) })
            .await
            .unwrap();
    }

    /// The next message; `None` if the session is over.
    pub(crate) async fn hear(&mut self) -> Option<Hear> {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message()).await;
        message.expect("heard nothing").ok()??.body
    }

    pub(crate) async fn begin(&mut self) {
        loop {
            match self
                .hear()
                .await
                .expect("the session ended before it began")
            {
                Hear::Welcome(welcome) => {
                    self.number = welcome.session;
                    self.host_epoch = welcome.host_epoch;
                }
                Hear::Desired(desired) => {
                    self.desired = desired;
                    return;
                }
                Hear::Goodbye(goodbye) => panic!("no session: {}", goodbye.reason),
                _ => {}
            }
        }
    }

    /// Hears until something fits.
    pub(crate) async fn hear_until<T>(
        &mut self,
        what: &str,
        fits: impl Fn(&Hear) -> Option<T>,
    ) -> T {
        loop {
            let heard = self
                .hear()
                .await
                .unwrap_or_else(|| panic!("ended before {what}"));
            if let Some(found) = fits(&heard) {
                return found;
            }
        }
    }

    pub(crate) async fn beat(&mut self) {
        self.beat_with(Condition::default()).await;
    }

    /// A heartbeat that tells how the host fares.
    pub(crate) async fn beat_with(&mut self, condition: Condition) {
        self.sequence += 1;
        let heartbeat = Heartbeat {
            session: self.number,
            sequence: self.sequence,
            host_epoch: self.host_epoch,
            load: Some(Load {
                cpu_used_ppm: 1000,
                memory_used_mib: 100,
                ..Load::default()
            }),
            condition: Some(condition),
            ..Heartbeat::default()
        };
        self.say(Say::Heartbeat(heartbeat)).await;
    }

    pub(crate) async fn goodbye(&mut self) -> Goodbye {
        self.hear_until("a goodbye", |heard| match heard {
            Hear::Goodbye(goodbye) => Some(goodbye.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn desired_with(&mut self, vms: usize, tombstones: usize) -> Desired {
        self.hear_until("that desired state", |heard| match heard {
            Hear::Desired(d) if d.vms.len() == vms && d.tombstones.len() == tombstones => {
                Some(d.clone())
            }
            _ => None,
        })
        .await
    }
}
