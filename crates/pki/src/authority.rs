//! The cluster's certificate authority.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::seal::fill;
use crate::{
    BACKDATE, CaCertificate, Certificate, Csr, Identity, KeyPair, PkiError, Role, SealContext,
    SealKey, Trust,
};

/// Life of the CA. Verifiers in a handshake take the CA as a trust anchor and don't look at it;
/// tools such as curl do.
pub const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Longest life of what the CA signs. There is no revocation list: a certificate that is no longer
/// wanted is refused by the admission check, and dies soon.
pub const LEAF_LIFETIME_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// The one name in every host's certificate, under which its status listener is known to monitoring. It is the same for
/// all of them: none can pass for a controller, nor choose a name for itself.
pub const AGENT_SERVER_NAME: &str = "agent.virtflow.internal";

/// Most names and addresses in one certificate.
pub const LEAF_NAMES_MAX: usize = 32;

const SEALED_FORMAT: u32 = 1;
const SERIAL_BYTES: usize = 16;

/// What to write into a certificate.
#[derive(Clone, Debug)]
pub struct LeafRequest {
    pub role: Role,
    pub subject_id: Uuid,
    /// Names and addresses under which the REST API of a controller is reached: only controllers
    /// may ask for any. An agent's certificate has [`AGENT_SERVER_NAME`] and no other.
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    /// From now on, at most [`LEAF_LIFETIME_MAX`]; whole seconds.
    pub lifetime: Duration,
}

/// The CA with its private key in memory. At rest it exists only as [`Self::sealed`].
#[derive(Debug)]
pub struct CertificateAuthority {
    certificate: CaCertificate,
    key: KeyPair,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    format: u32,
    certificate_pem: String,
    sealed_key: String,
}

impl CertificateAuthority {
    pub fn create(cluster_id: Uuid, now_ms: u64) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params(
            &format!("VirtFlow cluster {cluster_id}"),
            &format!("virtflow://{cluster_id}"),
            now_ms,
            CA_LIFETIME,
        )?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let signed = params.self_signed(key.rcgen()).map_err(PkiError::signing)?;
        Ok(Self {
            certificate: CaCertificate::from_der(signed.der().to_vec())?,
            key,
        })
    }

    /// The certificate, and the private key under `seal_key`, as JSON text: for a file, and for the
    /// replicated state.
    pub fn sealed(&self, seal_key: &SealKey) -> Result<Vec<u8>, PkiError> {
        let fingerprint = self.certificate.fingerprint().to_string();
        let boxed = seal_key.seal(&key_context(&fingerprint), self.key.pkcs8())?;
        let sealed = Sealed {
            format: SEALED_FORMAT,
            certificate_pem: self.certificate.pem(),
            sealed_key: BASE64.encode(boxed),
        };
        serde_json::to_vec(&sealed).map_err(|error| PkiError::malformed("sealed CA", error))
    }

    /// Opens what [`Self::sealed`] made. The key opens only beside the very certificate it was sealed
    /// with.
    pub fn open(sealed: &[u8], seal_key: &SealKey) -> Result<Self, PkiError> {
        let malformed = |reason: String| PkiError::malformed("sealed CA", reason);
        let parsed: Sealed =
            serde_json::from_slice(sealed).map_err(|error| malformed(error.to_string()))?;
        if parsed.format != SEALED_FORMAT {
            return Err(malformed(format!(
                "its format is {}, this program reads {SEALED_FORMAT}; run a newer one",
                parsed.format
            )));
        }
        let certificate = CaCertificate::from_pem(&parsed.certificate_pem)?;
        let boxed = BASE64
            .decode(&parsed.sealed_key)
            .map_err(|error| malformed(error.to_string()))?;
        let fingerprint = certificate.fingerprint().to_string();
        let key = KeyPair::from_pkcs8(&seal_key.open(&key_context(&fingerprint), &boxed)?)?;
        Ok(Self { certificate, key })
    }

    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    pub fn cluster_id(&self) -> Uuid {
        self.certificate.cluster_id()
    }

    pub fn trust(&self) -> Trust {
        Trust::new(self.certificate.clone())
    }

    /// Signs a certificate for the key of `csr`. Names and extensions that the CSR asks for are
    /// ignored. Who may have which identity is the caller's to decide before.
    pub fn sign(
        &self,
        csr: &Csr,
        request: &LeafRequest,
        now_ms: u64,
    ) -> Result<Certificate, PkiError> {
        check(request)?;
        let identity = Identity {
            cluster_id: self.cluster_id(),
            role: request.role,
            subject_id: request.subject_id,
        };
        let mut params = params(
            &format!("VirtFlow {} {}", request.role, request.subject_id),
            &identity.to_string(),
            now_ms,
            request.lifetime,
        )?;
        let agents = (request.role == Role::Agent).then_some(AGENT_SERVER_NAME);
        for name in request.dns_names.iter().map(String::as_str).chain(agents) {
            let name = name.try_into().map_err(PkiError::request)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let addresses = request.ip_addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.role {
            // Controllers dial each other; agents are asked by monitoring.
            Role::Controller | Role::Agent => {
                vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ]
            }
            Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(self.certificate.der(), self.key.rcgen())
            .map_err(PkiError::signing)?;
        let signed = params
            .signed_by(&csr.public_key, &issuer)
            .map_err(PkiError::signing)?;
        Certificate::from_der(signed.der().to_vec())
    }
}

fn key_context(fingerprint: &str) -> SealContext<'_> {
    SealContext {
        kind: "certificate_authority",
        id: fingerprint,
        field: "private_key",
    }
}

fn check(request: &LeafRequest) -> Result<(), PkiError> {
    if request.lifetime < Duration::from_secs(1) || request.lifetime > LEAF_LIFETIME_MAX {
        return Err(PkiError::request(format!(
            "the lifetime must be from 1 s to {} days",
            LEAF_LIFETIME_MAX.as_secs() / 86_400
        )));
    }
    let names = request.dns_names.len() + request.ip_addresses.len();
    if names > LEAF_NAMES_MAX {
        return Err(PkiError::request(format!(
            "{names} names, at most {LEAF_NAMES_MAX}"
        )));
    }
    if names > 0 && request.role != Role::Controller {
        return Err(PkiError::request(format!(
            "role {} carries no names",
            request.role
        )));
    }
    match request.dns_names.iter().find(|name| !is_host_name(name)) {
        Some(name) => Err(PkiError::request(format!("`{name}` is not a host name"))),
        None => Ok(()),
    }
}

/// Letters, digits and hyphens in labels. No wildcards.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn params(
    common_name: &str,
    uri: &str,
    now_ms: u64,
    lifetime: Duration,
) -> Result<CertificateParams, PkiError> {
    let now = i64::try_from(now_ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| PkiError::signing("the clock is beyond the year 9999; set it"))?;
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::from_secs(lifetime.as_secs());
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let uri = uri.try_into().map_err(PkiError::signing)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

/// 126 random bits below a fixed one: positive, never zero, always of one length.
fn serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; SERIAL_BYTES];
    fill(&mut bytes)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
