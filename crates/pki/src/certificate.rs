//! Certificates as values: the CA's, and those it signed.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use uuid::Uuid;
use x509_parser::prelude::X509Certificate;

use crate::identity::{canonical_uuid, only_uri, parse_certificate};
use crate::{CaFingerprint, Identity, KeyFingerprint, PkiError, hex, tls};

/// How far certificates are dated back, so that a peer whose clock is behind takes a new one.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

const BACKDATE_MS: u64 = 5 * 60 * 1000;
const RESOLUTION_MS: u64 = 1000;

/// The span in which a certificate counts. X.509 keeps whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before_ms: u64,
    /// When it was signed: `not_before` plus [`BACKDATE`]. The life is counted from here, otherwise
    /// a certificate that lives seconds would be due for renewal at birth.
    pub issued_ms: u64,
    pub not_after_ms: u64,
}

impl Validity {
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms > self.not_after_ms
    }

    /// True for one that was signed by a clock far ahead of the one that says `now_ms`: nobody whose
    /// clock is right takes it before its time has come.
    pub fn is_premature(&self, now_ms: u64) -> bool {
        now_ms < self.not_before_ms
    }

    /// When to renew: at a third of the life, spread by ±10 % of that third over the values of
    /// `jitter` (any random number, chosen once per certificate), so that a rack that was enrolled
    /// in one go doesn't come back in one go. Never in the second of signing: certificates know
    /// whole seconds only, and one that lives seconds would seem older than it is.
    pub fn renew_at_ms(&self, jitter: u64) -> u64 {
        let life_ms = self.not_after_ms.saturating_sub(self.issued_ms);
        let spread_ms = life_ms / 15;
        let earliest_ms = life_ms / 3 - spread_ms / 2;
        let age_ms = earliest_ms
            .saturating_add(jitter % (spread_ms + 1))
            .max(RESOLUTION_MS);
        self.issued_ms.saturating_add(age_ms)
    }

    pub fn renewal_due(&self, now_ms: u64, jitter: u64) -> bool {
        now_ms >= self.renew_at_ms(jitter)
    }
}

/// A certificate that names an [`Identity`]. Holding one proves nothing; [`Trust::verify`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    identity: Identity,
    key: KeyFingerprint,
    validity: Validity,
    serial: Vec<u8>,
}

impl Certificate {
    pub fn from_der(der: Vec<u8>) -> Result<Self, PkiError> {
        let der = CertificateDer::from(der);
        let parsed = parse_certificate(&der)?;
        let (identity, key) = (Identity::from_parsed(&parsed)?, key_of(&parsed));
        let (validity, serial) = (validity_of(&parsed)?, parsed.raw_serial().to_vec());
        Ok(Self {
            identity,
            key,
            validity,
            serial,
            der,
        })
    }

    /// Reads the first certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        Self::from_der(first_in_pem(text)?)
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn key(&self) -> KeyFingerprint {
        self.key
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The serial number as hexadecimal digits, as `openssl x509 -serial` shows it but lower-case.
    pub fn serial_hex(&self) -> String {
        hex::encode(&self.serial)
    }
}

/// A cluster's CA certificate: self-signed, P-256, with the URI `virtflow://<cluster>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    der: CertificateDer<'static>,
    cluster_id: Uuid,
    fingerprint: CaFingerprint,
}

impl CaCertificate {
    /// Fails unless it is a CA certificate of a VirtFlow cluster, signed by itself.
    pub fn from_der(der: Vec<u8>) -> Result<Self, PkiError> {
        let der = CertificateDer::from(der);
        let parsed = parse_certificate(&der)?;
        if !parsed.is_ca() {
            return Err(PkiError::malformed(
                "CA certificate",
                "it is not marked as a CA",
            ));
        }
        parsed
            .verify_signature(None)
            .map_err(|_| PkiError::malformed("CA certificate", "it is not signed by itself"))?;
        let uri = only_uri(&parsed)?;
        let cluster_id = uri
            .strip_prefix("virtflow://")
            .and_then(canonical_uuid)
            .ok_or_else(|| {
                PkiError::malformed("CA certificate", format!("`{uri}` names no cluster"))
            })?;
        Ok(Self {
            cluster_id,
            fingerprint: CaFingerprint::of(&der),
            der,
        })
    }

    /// Reads the first certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        Self::from_der(first_in_pem(text)?)
    }

    /// As [`Self::from_der`], for a certificate that came over an untrusted way.
    pub fn from_der_pinned(der: Vec<u8>, expected: &CaFingerprint) -> Result<Self, PkiError> {
        let certificate = Self::from_der(der)?;
        if certificate.fingerprint != *expected {
            return Err(PkiError::PinMismatch {
                expected: *expected,
                found: certificate.fingerprint,
            });
        }
        Ok(certificate)
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    pub fn fingerprint(&self) -> CaFingerprint {
        self.fingerprint
    }

    pub(crate) fn roots(&self) -> Result<Arc<RootCertStore>, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        Ok(Arc::new(roots))
    }
}

/// What a member of a cluster believes: its CA, and with it the cluster's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    ca: CaCertificate,
}

impl Trust {
    pub fn new(ca: CaCertificate) -> Self {
        Self { ca }
    }

    pub fn ca(&self) -> &CaCertificate {
        &self.ca
    }

    pub fn cluster_id(&self) -> Uuid {
        self.ca.cluster_id
    }

    /// Whether this cluster's CA signed the certificate for this cluster, and it counts at `at_ms`.
    pub fn verify(&self, certificate: &Certificate, at_ms: u64) -> Result<(), PkiError> {
        // Every role is a TLS client somewhere, so the client's rules fit all of them.
        WebPkiClientVerifier::builder_with_provider(self.ca.roots()?, tls::provider())
            .build()
            .map_err(PkiError::mismatch)?
            .verify_client_cert(
                &certificate.der,
                &[],
                UnixTime::since_unix_epoch(Duration::from_millis(at_ms)),
            )
            .map_err(PkiError::mismatch)?;
        if certificate.identity.cluster_id != self.cluster_id() {
            return Err(PkiError::mismatch(format!(
                "it is of cluster {}, this is cluster {}",
                certificate.identity.cluster_id,
                self.cluster_id()
            )));
        }
        Ok(())
    }
}

/// The fingerprint of the public key in a certificate.
pub fn key_fingerprint(certificate: &CertificateDer<'_>) -> Result<KeyFingerprint, PkiError> {
    Ok(key_of(&parse_certificate(certificate)?))
}

pub(crate) fn key_of(certificate: &X509Certificate<'_>) -> KeyFingerprint {
    KeyFingerprint::of(certificate.public_key().raw)
}

pub(crate) fn validity_of(certificate: &X509Certificate<'_>) -> Result<Validity, PkiError> {
    let ms = |seconds: i64| {
        u64::try_from(seconds)
            .ok()
            .and_then(|seconds| seconds.checked_mul(1000))
            .ok_or_else(|| PkiError::malformed("certificate", "its validity is before 1970"))
    };
    let not_before_ms = ms(certificate.validity().not_before.timestamp())?;
    let not_after_ms = ms(certificate.validity().not_after.timestamp())?;
    Ok(Validity {
        not_before_ms,
        issued_ms: not_before_ms + BACKDATE_MS,
        not_after_ms,
    })
}

fn first_in_pem(text: &str) -> Result<Vec<u8>, PkiError> {
    CertificateDer::from_pem_slice(text.as_bytes())
        .map(|der| der.to_vec())
        .map_err(|error| PkiError::malformed("PEM certificate", format!("{error:?}")))
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    const LINE: usize = 64;
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}
