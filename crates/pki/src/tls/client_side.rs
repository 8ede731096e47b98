//! How a client judges its server.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use uuid::Uuid;

use super::{
    Anchor, DIRECTLY_SIGNED, ExpiredPeers, ServerExpectation, expect_identity, provider, refused,
    verify_chain,
};
use crate::{CaCertificate, CaFingerprint, PkiError, Role};

/// webpki's chain check (with the server's extended key usage), then cluster, role and subject in
/// place of a name.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    anchor: Root,
    role: Role,
    subject_id: Option<Uuid>,
    expired: ExpiredPeers,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Root {
    Known {
        roots: Arc<RootCertStore>,
        cluster_id: Uuid,
    },
    Pinned(CaFingerprint),
}

impl ServerVerifier {
    pub(super) fn new(expected: ServerExpectation) -> Result<Self, PkiError> {
        let anchor = match expected.anchor {
            Anchor::Cluster(trust) => Root::Known {
                roots: trust.ca().roots()?,
                cluster_id: trust.cluster_id(),
            },
            Anchor::PinnedCa(fingerprint) => Root::Pinned(fingerprint),
        };
        Ok(Self {
            anchor,
            role: expected.role,
            subject_id: expected.subject_id,
            expired: expected.expired,
            algorithms: provider().signature_verification_algorithms,
        })
    }

    /// The root to verify with, and the cluster it stands for.
    fn root(&self, sent: &[CertificateDer<'_>]) -> Result<(Arc<RootCertStore>, Uuid), Error> {
        match &self.anchor {
            Root::Known { roots, cluster_id } => Ok((roots.clone(), *cluster_id)),
            Root::Pinned(fingerprint) => {
                let ca = pinned_ca(sent, fingerprint)?;
                Ok((ca.roots().map_err(refused)?, ca.cluster_id()))
            }
        }
    }
}

/// The CA among the certificates that the server sent after its own.
fn pinned_ca(
    sent: &[CertificateDer<'_>],
    fingerprint: &CaFingerprint,
) -> Result<CaCertificate, Error> {
    let ca = sent
        .iter()
        .find(|certificate| CaFingerprint::of(certificate) == *fingerprint)
        .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
    CaCertificate::from_der(ca.to_vec()).map_err(refused)
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (roots, cluster_id) = self.root(sent)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_chain(end_entity, now, &self.expired, |at| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &roots,
                DIRECTLY_SIGNED,
                at,
                self.algorithms.all,
            )
        })?;
        let identity = expect_identity(end_entity, cluster_id, self.role)?;
        match self.subject_id {
            Some(expected) if expected != identity.subject_id => {
                Err(refused(PkiError::mismatch(format!(
                    "the server is {identity}, expected subject {expected}; is the address right?"
                ))))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
