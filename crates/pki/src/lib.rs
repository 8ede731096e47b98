//! The cluster's public key infrastructure: who a peer is, how it proves it, and how secrets rest.
//!
//! - [`CertificateAuthority`]: one per cluster, ECDSA P-256. It signs a [`Csr`] for an [`Identity`]
//!   (cluster, role, subject) that becomes the certificate's only `virtflow:` URI.
//! - [`server_config`], [`client_config`]: TLS 1.3 configurations in which the role and the cluster
//!   are part of the handshake. A port takes one role and nothing else.
//! - [`CertStore`]: the certificate in use; a renewed one serves the next handshake.
//! - [`TlsListener`], [`TlsConnector`]: bounded TLS connections for tonic and hyper.
//! - [`SealKey`]: encrypts what must not lie about in clear, the CA's key first of all.
//! - [`Token`]: one-time join tokens and API tokens, of which only a hash is kept.
//!
//! Times are milliseconds since the Unix epoch and come in as arguments (`now_ms`), except inside a
//! handshake, where rustls asks [`virtflow_types::Timestamp::now`]. No process-wide rustls provider is needed or installed.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod bearer;
mod certificate;
mod connector;
mod error;
mod files;
mod fingerprint;
mod folder;
#[cfg(test)]
mod fuzz;
mod hex;
mod identity;
mod key;
mod listener;
pub mod net;
mod peer;
mod seal;
mod store;
mod tls;
mod token;

pub use authority::{
    AGENT_SERVER_NAME, CA_LIFETIME, CertificateAuthority, LEAF_LIFETIME_MAX, LEAF_NAMES_MAX,
    LeafRequest,
};
pub use bearer::{BEARER_BYTES_MIN, BearerError, BearerFile, bearer_of};
pub use certificate::{BACKDATE, CaCertificate, Certificate, Trust, Validity, key_fingerprint};
pub use connector::{CONNECT_TIMEOUT, ClientConnection, ConnectError, Observed, TlsConnector};
pub use error::PkiError;
pub use fingerprint::{CaFingerprint, KeyFingerprint};
pub use folder::{IdentityFolder, StoredIdentity};
pub use identity::{Identity, Role};
pub use key::{CSR_BYTES_MAX, Csr, KeyPair};
pub use listener::{ListenerLimits, ListenerStats, TlsConnection, TlsListener};
pub use peer::{ConnectInfo, PeerIdentity, peer_of, require_role};
pub use seal::{KeyId, SEAL_CREDENTIAL, SealContext, SealKey, credentials_directory_from_env};
pub use store::CertStore;
pub use tls::{
    Admission, AdmissionCheck, Alpn, Anchor, ClientCertificate, ExpiredPeers, PinnedKeys,
    ServerExpectation, ServerPolicy, client_config, server_config,
};
pub use token::{Token, TokenHash, TokenPrefix};

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
