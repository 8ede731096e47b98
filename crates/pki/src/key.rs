//! Key pairs (ECDSA P-256) and certificate requests.

use std::path::Path;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use zeroize::Zeroizing;

use crate::files::{self, Privacy, Replace};
use crate::{KeyFingerprint, PkiError};

/// What every key of a cluster is of.
#[cfg(not(virtflow_sim))]
const ALGORITHM: &SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
/// In a simulation keys follow from its seed, and so must signatures.
#[cfg(virtflow_sim)]
const ALGORITHM: &SignatureAlgorithm = &rcgen::PKCS_ED25519;

/// A request for a P-256 key is about 250 bytes.
pub const CSR_BYTES_MAX: usize = 4096;

/// The private key of a controller, an agent or a client. It outlives its certificates: renewal
/// keeps the key, because the key is the identity.
#[derive(Debug)]
pub struct KeyPair {
    inner: rcgen::KeyPair,
}

impl KeyPair {
    #[cfg(not(virtflow_sim))]
    pub fn generate() -> Result<Self, PkiError> {
        let inner = rcgen::KeyPair::generate_for(ALGORITHM).map_err(|_| PkiError::Random)?;
        Ok(Self { inner })
    }

    #[cfg(virtflow_sim)]
    pub fn generate() -> Result<Self, PkiError> {
        // RFC 8410: a PKCS #8 private key of Ed25519 is this and the 32 bytes of its seed.
        let mut der = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        der.extend(virtflow_types::chance::bytes::<32>());
        Self::from_pkcs8(&der)
    }

    /// Reads a PKCS #8 PEM file that only its owner can read.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        Self::load_if_there(path)?.ok_or_else(|| {
            PkiError::io("open", path)(std::io::Error::from(std::io::ErrorKind::NotFound))
        })
    }

    /// Reads the key, or makes one and flushes it to disk before it is used for anything.
    pub fn load_or_create(path: &Path) -> Result<Self, PkiError> {
        if let Some(key) = Self::load_if_there(path)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        key.save_new(path)?;
        Ok(key)
    }

    pub(crate) fn load_if_there(path: &Path) -> Result<Option<Self>, PkiError> {
        let Some(bytes) = files::read_secret(path, Privacy::OwnerOnly)? else {
            return Ok(None);
        };
        Self::from_pem(&bytes).map(Some)
    }

    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, PkiError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|error| PkiError::malformed("private key", format!("{error:?}")))?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, PkiError> {
        let inner =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), ALGORITHM)
                .map_err(|error| PkiError::malformed("private key", error))?;
        Ok(Self { inner })
    }

    /// Writes the key to a file of mode 0600, flushed. An existing file is never replaced.
    pub fn save_new(&self, path: &Path) -> Result<(), PkiError> {
        files::write(path, self.pem().as_bytes(), files::PRIVATE, Replace::No)
    }

    /// The private key as PKCS #8 PEM.
    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.inner.serialize_pem())
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.inner.serialized_der()
    }

    pub(crate) fn rcgen(&self) -> &rcgen::KeyPair {
        &self.inner
    }

    pub(crate) fn signing_key(&self) -> Result<Arc<dyn SigningKey>, PkiError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8()));
        Ok(rustls::crypto::ring::sign::any_supported_type(&der)?)
    }

    pub fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint::of(&self.inner.subject_public_key_info())
    }

    /// A certificate request (DER). It carries the public key and the proof that we hold the private
    /// one, no names: those are the signer's to give.
    pub fn csr(&self) -> Result<Vec<u8>, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&self.inner)
            .map_err(PkiError::signing)?;
        Ok(request.der().to_vec())
    }
}

/// A certificate request whose sender has proved to hold the key. Of its content only the key counts.
#[derive(Debug)]
pub struct Csr {
    pub(crate) public_key: rcgen::PublicKey,
    fingerprint: KeyFingerprint,
}

impl Csr {
    /// Checks size, key type (P-256) and self-signature.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > CSR_BYTES_MAX {
            return Err(PkiError::request(format!(
                "it has {} bytes, at most {CSR_BYTES_MAX} are taken",
                der.len()
            )));
        }
        let (rest, parsed) = X509CertificationRequest::from_der(der)
            .map_err(|_| PkiError::request("not a PKCS #10 request"))?;
        if !rest.is_empty() {
            return Err(PkiError::request("bytes follow its end"));
        }
        let checked =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(PkiError::request)?;
        let spki = checked.public_key.subject_public_key_info();
        // rcgen takes the algorithm from the signature; the key must be of it, in the one encoding
        // that will stand in the certificate. Otherwise request and certificate would have
        // different fingerprints.
        if PublicKeyData::algorithm(&checked.public_key) != ALGORITHM
            || spki != parsed.certification_request_info.subject_pki.raw
        {
            return Err(PkiError::request(
                "the key must be ECDSA P-256 with SHA-256",
            ));
        }
        Ok(Self {
            fingerprint: KeyFingerprint::of(&spki),
            public_key: checked.public_key,
        })
    }

    /// As [`Self::from_der`], from a `CERTIFICATE REQUEST` PEM block.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes())
            .map_err(|error| PkiError::request(format!("{error:?}")))?;
        Self::from_der(&der)
    }

    pub fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }
}
