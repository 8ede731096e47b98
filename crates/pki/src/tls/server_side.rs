//! How a server judges its clients.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use uuid::Uuid;

use super::{Admission, DIRECTLY_SIGNED, ServerPolicy, expect_identity, refused, verify_chain};

/// webpki's verifier, then role and cluster, then admission.
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    cluster_id: Uuid,
    policy: ServerPolicy,
}

impl ClientVerifier {
    pub(super) fn new(
        chain: Arc<dyn ClientCertVerifier>,
        cluster_id: Uuid,
        policy: ServerPolicy,
    ) -> Self {
        Self {
            chain,
            cluster_id,
            policy,
        }
    }

    fn admit(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let identity = expect_identity(leaf, self.cluster_id, self.policy.accept)?;
        let Some(admission) = &self.policy.admission else {
            return Ok(());
        };
        let key = crate::key_fingerprint(leaf).map_err(refused)?;
        match admission(&identity, &key) {
            Admission::Admit => Ok(()),
            Admission::Refuse(reason) => {
                tracing::info!(%identity, %key, reason, "certificate not admitted");
                Err(Error::InvalidCertificate(CertificateError::Revoked))
            }
        }
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier")
            .field("cluster_id", &self.cluster_id)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verify_chain(end_entity, now, &self.policy.expired, |at| {
            self.chain
                .verify_client_cert(end_entity, DIRECTLY_SIGNED, at)
                .map(drop)
        })?;
        self.admit(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
