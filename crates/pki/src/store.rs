//! The certificate in use. Handshakes take what is current; a renewal needs no restart.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};

use crate::{CaCertificate, Certificate, Identity, KeyFingerprint, KeyPair, PkiError, Trust};

/// One key and its newest certificate, shared by every TLS configuration of a process.
#[derive(Debug)]
pub struct CertStore {
    key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    trust: Trust,
    identity: Identity,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    certificate: Arc<Certificate>,
    chain: Arc<CertifiedKey>,
}

impl CertStore {
    /// The certificate must be for `key` and signed by `ca`. It may have expired: a cold start
    /// begins so.
    pub fn new(
        key: KeyPair,
        certificate: Certificate,
        ca: &CaCertificate,
    ) -> Result<Arc<Self>, PkiError> {
        let (signing_key, trust) = (key.signing_key()?, Trust::new(ca.clone()));
        let identity = certificate.identity();
        let current = current(&key, &signing_key, &trust, identity, certificate)?;
        let current = ArcSwap::from_pointee(current);
        Ok(Arc::new(Self {
            key,
            signing_key,
            trust,
            identity,
            current,
        }))
    }

    /// Takes a renewed certificate for the same key and identity into use: from the next handshake
    /// on. Connections that exist go on.
    pub fn replace(&self, certificate: Certificate) -> Result<(), PkiError> {
        let current = current(
            &self.key,
            &self.signing_key,
            &self.trust,
            self.identity,
            certificate,
        )?;
        self.current.store(Arc::new(current));
        Ok(())
    }

    pub fn certificate(&self) -> Arc<Certificate> {
        self.current.load().certificate.clone()
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    pub fn key_fingerprint(&self) -> KeyFingerprint {
        self.key.fingerprint()
    }

    /// A certificate request (DER) for the same key, to renew with.
    pub fn csr(&self) -> Result<Vec<u8>, PkiError> {
        self.key.csr()
    }

    fn chain_for(&self, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.signing_key.choose_scheme(offered)?;
        Some(self.current.load().chain.clone())
    }
}

fn current(
    key: &KeyPair,
    signing_key: &Arc<dyn SigningKey>,
    trust: &Trust,
    identity: Identity,
    certificate: Certificate,
) -> Result<Current, PkiError> {
    if certificate.key() != key.fingerprint() {
        return Err(PkiError::mismatch("it is for another key"));
    }
    if certificate.identity() != identity {
        return Err(PkiError::mismatch(format!(
            "it is for {}, this is {identity}",
            certificate.identity()
        )));
    }
    trust.verify(&certificate, certificate.validity().not_after_ms)?;
    // The CA goes along: a machine that joins knows only its fingerprint.
    let chain = vec![certificate.der().clone(), trust.ca().der().clone()];
    let chain = Arc::new(CertifiedKey::new(chain, signing_key.clone()));
    Ok(Current {
        certificate: Arc::new(certificate),
        chain,
    })
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.chain_for(hello.signature_schemes())
    }
}

impl ResolvesClientCert for CertStore {
    fn resolve(
        &self,
        // There is one certificate to show; a server that trusts another CA will refuse it.
        _authorities: &[&[u8]],
        offered: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.chain_for(offered)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
