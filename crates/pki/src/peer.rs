//! What a handshake proved about the other side, as handlers see it.

use std::net::SocketAddr;

use rustls::CommonState;
use rustls::pki_types::CertificateDer;
use tonic::Status;

use crate::certificate::{key_of, validity_of};
use crate::identity::parse_certificate;
use crate::{Identity, KeyFingerprint, PkiError, Role};

/// A peer whose certificate the handshake accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    pub identity: Identity,
    /// Fingerprint of the key that the peer proved to hold.
    pub key: KeyFingerprint,
    /// End of the certificate's life. May be past on the peer port, where keys are pinned.
    pub not_after_ms: u64,
}

impl PeerIdentity {
    /// Reads a certificate that the handshake has verified.
    pub fn from_certificate(der: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let certificate = parse_certificate(der)?;
        Ok(Self {
            identity: Identity::from_parsed(&certificate)?,
            key: key_of(&certificate),
            not_after_ms: validity_of(&certificate)?.not_after_ms,
        })
    }

    /// The peer of a connection whose handshake is complete; `None` if it showed no certificate.
    pub fn from_tls(connection: &CommonState) -> Result<Option<Self>, PkiError> {
        match connection.peer_certificates().and_then(<[_]>::first) {
            Some(leaf) => Self::from_certificate(leaf).map(Some),
            None => Ok(None),
        }
    }
}

/// What a listener knows about a connection. tonic puts it into the extensions of each request;
/// other servers insert a clone themselves.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    /// `None` for a caller without a certificate, where the listener allows that.
    pub peer: Option<PeerIdentity>,
    pub remote_addr: SocketAddr,
    pub local_addr: SocketAddr,
}

/// The certified peer of a request, if it has one.
pub fn peer_of(extensions: &http::Extensions) -> Option<&PeerIdentity> {
    extensions.get::<ConnectInfo>()?.peer.as_ref()
}

/// The certified peer of a request, which must have `role`.
///
/// Listeners enforce the role already; each method says it again, so that a service that is mounted
/// on the wrong port refuses instead of trusting.
pub fn require_role(extensions: &http::Extensions, role: Role) -> Result<&PeerIdentity, Status> {
    let peer = peer_of(extensions).ok_or_else(|| {
        Status::unauthenticated(format!("this method needs a certificate of role {role}"))
    })?;
    if peer.identity.role != role {
        return Err(Status::permission_denied(format!(
            "this method is for role {role}, the certificate has role {}",
            peer.identity.role
        )));
    }
    Ok(peer)
}
