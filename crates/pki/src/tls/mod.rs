//! TLS configurations: version 1.3, *ring*, chain and signature checks by webpki. What we add to
//! rustls' own verifiers is thin: after the chain is good, role, cluster and (where asked) subject
//! must be what this end expects.
//!
//! Sessions are never resumed. A resumed session carries the certificate of its first handshake past
//! the verifier, and with it past expiry and past the admission check.
//!
//! In TLS 1.3 a client has finished its handshake before the server judges the client's
//! certificate: a client that is refused learns it from its first read.

mod client_side;
mod server_side;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, OtherError, ServerConfig};
use uuid::Uuid;
use virtflow_types::Timestamp;

use crate::certificate::{key_of, validity_of};
use crate::identity::parse_certificate;
use crate::{CaFingerprint, CertStore, Identity, KeyFingerprint, PkiError, Role, Trust};

use client_side::ServerVerifier;
use server_side::ClientVerifier;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

/// The one clock of this process.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = Duration::from_millis(Timestamp::now().ms());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

/// The intermediate certificates that count: none. The CA signs every certificate itself, and
/// webpki doesn't look at the length that a root allows its paths.
const DIRECTLY_SIGNED: &[CertificateDer<'static>] = &[];

/// The answer of an [`AdmissionCheck`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Admit,
    /// The peer gets the TLS alert `certificate_revoked`; the reason goes to our log.
    Refuse(&'static str),
}

/// Asked in each handshake after the certificate was found good: is this subject, with this key,
/// still wanted? It runs on the connection's task: a look into an image in memory, no waiting.
///
/// It sees new connections only. Whoever removes a subject also closes what is open, and checks
/// again where a request is authorised.
pub type AdmissionCheck = Arc<dyn Fn(&Identity, &KeyFingerprint) -> Admission + Send + Sync>;

/// Whether callers must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    Required,
    /// None is fine; a wrong one is not.
    Optional,
}

/// What to do with a peer's certificate that has expired but is good otherwise.
#[derive(Clone, Debug)]
pub enum ExpiredPeers {
    Refuse,
    /// Take it if the key is pinned. For controllers among themselves only: after a long darkness
    /// nobody may be left with a living certificate, and one that was started with its clock ahead
    /// has one whose time has not come; the members know each other's keys.
    AcceptPinned(Arc<PinnedKeys>),
}

/// The keys of the members; follows the membership while connections are made.
#[derive(Debug, Default)]
pub struct PinnedKeys {
    keys: ArcSwap<HashSet<KeyFingerprint>>,
}

impl PinnedKeys {
    pub fn replace(&self, keys: impl IntoIterator<Item = KeyFingerprint>) {
        self.keys.store(Arc::new(keys.into_iter().collect()));
    }

    pub fn contains(&self, key: &KeyFingerprint) -> bool {
        self.keys.load().contains(key)
    }
}

/// Application protocols to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// gRPC only.
    H2,
    H2AndHttp11,
    None,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Alpn::H2 => vec![b"h2".to_vec()],
            Alpn::H2AndHttp11 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Alpn::None => Vec::new(),
        }
    }
}

/// Whom a listener takes.
#[derive(Clone)]
pub struct ServerPolicy {
    pub accept: Role,
    pub client_certificate: ClientCertificate,
    pub admission: Option<AdmissionCheck>,
    pub expired: ExpiredPeers,
    pub alpn: Alpn,
}

impl ServerPolicy {
    /// The API: a user's certificate if there is one; HTTP/2 and HTTP/1.1.
    pub fn api(admission: AdmissionCheck) -> Self {
        Self {
            accept: Role::Client,
            client_certificate: ClientCertificate::Optional,
            admission: Some(admission),
            expired: ExpiredPeers::Refuse,
            alpn: Alpn::H2AndHttp11,
        }
    }

    /// The status of an agent: monitoring shows a token, nobody a certificate; HTTP/1.1.
    pub fn agent_status() -> Self {
        Self {
            accept: Role::Client,
            client_certificate: ClientCertificate::Optional,
            admission: Some(Arc::new(|_, _| {
                Admission::Refuse("a host takes no certificates of clients")
            })),
            expired: ExpiredPeers::Refuse,
            alpn: Alpn::None,
        }
    }

    /// Sessions of agents.
    pub fn agents(admission: AdmissionCheck) -> Self {
        Self {
            accept: Role::Agent,
            client_certificate: ClientCertificate::Required,
            admission: Some(admission),
            expired: ExpiredPeers::Refuse,
            alpn: Alpn::H2,
        }
    }

    /// Controllers among themselves.
    pub fn peers(admission: AdmissionCheck, pinned: Arc<PinnedKeys>) -> Self {
        Self {
            accept: Role::Controller,
            client_certificate: ClientCertificate::Required,
            admission: Some(admission),
            expired: ExpiredPeers::AcceptPinned(pinned),
            alpn: Alpn::H2,
        }
    }
}

impl fmt::Debug for ServerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerPolicy")
            .field("accept", &self.accept)
            .field("client_certificate", &self.client_certificate)
            .field("admission", &self.admission.is_some())
            .field("expired", &self.expired)
            .field("alpn", &self.alpn)
            .finish()
    }
}

/// What a client believes before it dials.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// The CA of the own cluster.
    Cluster(Trust),
    /// Only the CA's fingerprint, at the very first contact. The server sends its CA along; the
    /// chain is then verified with that CA as the root.
    PinnedCa(CaFingerprint),
}

/// Whom a client expects to reach. Names and addresses are deliberately no part of it: peers and
/// agents dial by address, hosts get renumbered, and the CA signs for this cluster alone, so role
/// and subject in the certificate say more than a name would.
#[derive(Clone, Debug)]
pub struct ServerExpectation {
    pub anchor: Anchor,
    pub role: Role,
    /// One particular server, or any of that role.
    pub subject_id: Option<Uuid>,
    pub expired: ExpiredPeers,
}

impl ServerExpectation {
    /// Any controller of our cluster.
    pub fn controller(trust: Trust) -> Self {
        Self {
            anchor: Anchor::Cluster(trust),
            role: Role::Controller,
            subject_id: None,
            expired: ExpiredPeers::Refuse,
        }
    }

    /// One member, from another member.
    pub fn peer(trust: Trust, member_id: Uuid, pinned: Arc<PinnedKeys>) -> Self {
        Self {
            anchor: Anchor::Cluster(trust),
            role: Role::Controller,
            subject_id: Some(member_id),
            expired: ExpiredPeers::AcceptPinned(pinned),
        }
    }

    /// Any controller of the cluster whose CA has this fingerprint.
    pub fn first_contact(fingerprint: CaFingerprint) -> Self {
        Self {
            anchor: Anchor::PinnedCa(fingerprint),
            role: Role::Controller,
            subject_id: None,
            expired: ExpiredPeers::Refuse,
        }
    }
}

/// TLS for a listener that shows the certificate in `own` and takes whom `policy` says.
pub fn server_config(
    own: &Arc<CertStore>,
    policy: ServerPolicy,
) -> Result<Arc<ServerConfig>, PkiError> {
    let builder =
        WebPkiClientVerifier::builder_with_provider(own.trust().ca().roots()?, provider());
    let builder = match policy.client_certificate {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    let chain = builder.build().map_err(PkiError::mismatch)?;
    let alpn = policy.alpn.protocols();
    let verifier = ClientVerifier::new(chain, own.trust().cluster_id(), policy);
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(own.clone());
    config.alpn_protocols = alpn;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// TLS for a client that shows the certificate in `own`, if any, and wants to reach `expected`.
pub fn client_config(
    own: Option<&Arc<CertStore>>,
    expected: ServerExpectation,
    alpn: Alpn,
) -> Result<Arc<ClientConfig>, PkiError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(expected)?));
    let mut config = match own {
        Some(store) => builder.with_client_cert_resolver(store.clone()),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.protocols();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Runs `verify` for now. If the certificate's time is over or has not come, and its key is pinned, runs it
/// once more for a moment of the certificate's life: all else must hold.
fn verify_chain(
    leaf: &CertificateDer<'_>,
    now: UnixTime,
    expired: &ExpiredPeers,
    verify: impl Fn(UnixTime) -> Result<(), rustls::Error>,
) -> Result<(), rustls::Error> {
    let Err(error) = verify(now) else {
        return Ok(());
    };
    let ExpiredPeers::AcceptPinned(pinned) = expired else {
        return Err(error);
    };
    let premature = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => false,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => true,
        _ => return Err(error),
    };
    let parsed = parse_certificate(leaf).map_err(refused)?;
    if !pinned.contains(&key_of(&parsed)) {
        return Err(error);
    }
    let validity = validity_of(&parsed).map_err(refused)?;
    let within_ms = match premature {
        true => validity.not_before_ms,
        false => validity.not_after_ms,
    };
    verify(UnixTime::since_unix_epoch(Duration::from_millis(within_ms)))
}

/// The identity of a verified certificate, if it is of this cluster and role.
fn expect_identity(
    leaf: &CertificateDer<'_>,
    cluster_id: Uuid,
    role: Role,
) -> Result<Identity, rustls::Error> {
    let identity = Identity::from_certificate(leaf).map_err(refused)?;
    if identity.cluster_id != cluster_id {
        return Err(refused(PkiError::mismatch(format!(
            "the peer is of cluster {}, this is cluster {cluster_id}",
            identity.cluster_id
        ))));
    }
    if identity.role != role {
        return Err(refused(PkiError::mismatch(format!(
            "the peer has role {}, here only role {role} is taken",
            identity.role
        ))));
    }
    Ok(identity)
}

/// A handshake's error as its cause tells it: rustls shows ours as nested debug text.
pub(crate) fn plain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) => {
            io::Error::new(error.kind(), cause.clone())
        }
        _ => error,
    }
}

fn refused(error: PkiError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
