//! A forge: a CA made with rcgen alone, so that certificates can be wrong in every way that the
//! code under test would never sign.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, ServerConfig, SignatureScheme};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;
use virtflow_pki::{
    Admission, Alpn, CaCertificate, CertStore, Certificate, CertificateAuthority, ClientConnection,
    ConnectError, Csr, KeyPair, LeafRequest, ListenerLimits, PeerIdentity, Role, ServerExpectation,
    ServerPolicy, TlsConnector, TlsListener, Trust, client_config, server_config,
};

pub(crate) const GREETING: &[u8] = b"well met";

pub(crate) fn now_ms() -> u64 {
    u64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap()
}

/// A CA whose key the tests hold.
pub(crate) struct Forge {
    pub(crate) cluster_id: Uuid,
    pub(crate) key: rcgen::KeyPair,
    pub(crate) params: CertificateParams,
    pub(crate) der: CertificateDer<'static>,
}

impl Forge {
    pub(crate) fn new(cluster_id: Uuid) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("forge {cluster_id}"));
        params.subject_alt_names = vec![uri(&format!("virtflow://{cluster_id}"))];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let der = params.self_signed(&key).unwrap().der().clone();
        Self {
            cluster_id,
            key,
            params,
            der,
        }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::new(CaCertificate::from_der(self.der.to_vec()).unwrap())
    }

    pub(crate) fn uri(&self, role: &str) -> String {
        format!("virtflow://{}/{role}/{}", self.cluster_id, Uuid::new_v4())
    }

    /// Parameters of a certificate that is right for `role`, to be spoilt.
    pub(crate) fn leaf(&self, role: &str) -> CertificateParams {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.not_before = now - Duration::from_secs(60);
        params.not_after = now + Duration::from_secs(3600);
        params.subject_alt_names = vec![uri(&self.uri(role))];
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params
    }

    pub(crate) fn sign(&self, params: &CertificateParams) -> Shown {
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = params.signed_by(&key, &issuer).unwrap().der().clone();
        Shown::new(vec![leaf, self.der.clone()], &key)
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A chain and key that one end shows, whatever they are worth.
#[derive(Debug)]
pub(crate) struct Shown(Arc<CertifiedKey>);

impl Shown {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: &rcgen::KeyPair) -> Self {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing_key = rustls::crypto::ring::sign::any_ecdsa_type(&der).unwrap();
        Self(Arc::new(CertifiedKey::new(chain, signing_key)))
    }

    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        &self.0.cert[0]
    }

    /// This chain with another's key: what a thief of a certificate has.
    pub(crate) fn with_key_of(&self, other: &Shown) -> Shown {
        Shown(Arc::new(CertifiedKey::new(
            self.0.cert.clone(),
            other.0.key.clone(),
        )))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A cluster as the code under test makes it.
pub(crate) struct Cluster {
    pub(crate) ca: CertificateAuthority,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::founded_at(now_ms())
    }

    pub(crate) fn founded_at(at_ms: u64) -> Self {
        Self {
            ca: CertificateAuthority::create(Uuid::new_v4(), at_ms).unwrap(),
        }
    }

    pub(crate) fn sign(
        &self,
        key: &KeyPair,
        role: Role,
        at_ms: u64,
        lifetime: Duration,
    ) -> Certificate {
        let request = LeafRequest {
            role,
            subject_id: Uuid::from_u128(7),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            lifetime,
        };
        self.ca
            .sign(
                &Csr::from_der(&key.csr().unwrap()).unwrap(),
                &request,
                at_ms,
            )
            .unwrap()
    }

    pub(crate) fn store(&self, role: Role) -> Arc<CertStore> {
        self.store_from(role, now_ms(), Duration::from_secs(3600))
    }

    pub(crate) fn store_from(&self, role: Role, at_ms: u64, lifetime: Duration) -> Arc<CertStore> {
        let key = KeyPair::generate().unwrap();
        let certificate = self.sign(&key, role, at_ms, lifetime);
        CertStore::new(key, certificate, self.ca.certificate()).unwrap()
    }

    pub(crate) fn agents_port(&self) -> Arc<ServerConfig> {
        server_config(&self.store(Role::Controller), agents_policy()).unwrap()
    }

    pub(crate) fn agent(&self, store: &Arc<CertStore>) -> Arc<ClientConfig> {
        client_config(
            Some(store),
            ServerExpectation::controller(self.ca.trust()),
            Alpn::H2,
        )
        .unwrap()
    }
}

pub(crate) fn agents_policy() -> ServerPolicy {
    ServerPolicy::agents(Arc::new(|_, _| Admission::Admit))
}

/// A listener that greets whom it takes and then keeps the connection until the client goes.
pub(crate) async fn greeter(config: Arc<ServerConfig>, limits: ListenerLimits) -> Greeter {
    let mut listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), config, limits)
        .await
        .unwrap();
    let (port, stats) = (listener.local_addr().port(), listener.stats());
    let (seen, peers) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Some(mut connection) = listener.accept().await {
            seen.send(connection.info().peer.clone()).unwrap();
            tokio::spawn(async move {
                connection.write_all(GREETING).await.unwrap();
                connection.flush().await.unwrap();
                let mut rest = Vec::new();
                // The client may vanish without a word.
                let _ = connection.read_to_end(&mut rest).await;
            });
        }
    });
    Greeter {
        port,
        stats,
        peers,
        task,
    }
}

pub(crate) struct Greeter {
    pub(crate) port: u16,
    pub(crate) stats: Arc<virtflow_pki::ListenerStats>,
    pub(crate) peers: tokio::sync::mpsc::UnboundedReceiver<Option<PeerIdentity>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a client got out of an attempt to be greeted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Greeted,
    /// The server ended it, with this alert.
    Alert(AlertDescription),
    /// The client would not have this server.
    Refused(String),
    /// The connection ended without an alert.
    Closed,
}

pub(crate) async fn attempt(config: Arc<ClientConfig>, port: u16) -> Outcome {
    let connector = TlsConnector::new(config);
    let greeted = match connector.connect("127.0.0.1", port).await {
        Ok(mut connection) => read_greeting(&mut connection).await,
        Err(ConnectError::Tls { source, .. }) => Err(source),
        Err(error) => panic!("{error}"),
    };
    match (greeted, connector.observed().alert) {
        (Ok(()), None) => Outcome::Greeted,
        (_, Some(alert)) => Outcome::Alert(alert),
        (Err(error), None) if error.kind() == io::ErrorKind::InvalidData => {
            Outcome::Refused(error.to_string())
        }
        (Err(_), None) => Outcome::Closed,
    }
}

pub(crate) async fn read_greeting(connection: &mut ClientConnection) -> io::Result<()> {
    let mut greeting = [0; GREETING.len()];
    connection.read_exact(&mut greeting).await?;
    assert_eq!(greeting, GREETING);
    Ok(())
}

/// One handshake between a server and a client.
pub(crate) async fn meet(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Outcome {
    let greeter = greeter(server, ListenerLimits::default()).await;
    attempt(client, greeter.port).await
}

pub(crate) fn showing_to_server(config: Arc<ClientConfig>, shown: Shown) -> Arc<ClientConfig> {
    let mut config = (*config).clone();
    config.client_auth_cert_resolver = Arc::new(shown);
    Arc::new(config)
}

pub(crate) fn showing_to_client(config: Arc<ServerConfig>, shown: Shown) -> Arc<ServerConfig> {
    let mut config = (*config).clone();
    config.cert_resolver = Arc::new(shown);
    Arc::new(config)
}
