//! Who a certificate speaks for: exactly one URI `virtflow://<cluster>/<role>/<subject>` in its
//! subject alternative names. Everything else in a certificate is a label.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::PkiError;

pub(crate) const URI_SCHEME: &str = "virtflow:";

/// What a certificate may be used for. Each listener takes one role.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A member of the Raft group; its subject is the member's store id.
    Controller,
    /// The agent of a host; its subject is the host's id.
    Agent,
    /// A person or program that calls the API; its subject is the user's id.
    Client,
}

impl Role {
    const ALL: [Role; 3] = [Role::Controller, Role::Agent, Role::Client];

    fn as_str(self) -> &'static str {
        match self {
            Role::Controller => "controller",
            Role::Agent => "agent",
            Role::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| {
                PkiError::malformed(
                    "role",
                    format!("`{text}` is none of controller, agent, client"),
                )
            })
    }
}

/// The subject of a certificate. Written as `virtflow://<cluster>/<role>/<subject>`, the ids as
/// hyphenated lower-case UUIDs; no other spelling is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub cluster_id: Uuid,
    pub role: Role,
    pub subject_id: Uuid,
}

impl Identity {
    /// Reads the identity of a certificate. It proves nothing by itself: the chain must have been
    /// verified. Fails unless exactly one `virtflow:` URI is there, well-formed.
    pub fn from_certificate(der: &CertificateDer<'_>) -> Result<Self, PkiError> {
        Self::from_parsed(&parse_certificate(der)?)
    }

    pub(crate) fn from_parsed(certificate: &X509Certificate<'_>) -> Result<Self, PkiError> {
        only_uri(certificate)?.parse()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "virtflow://{}/{}/{}",
            self.cluster_id, self.role, self.subject_id
        )
    }
}

impl FromStr for Identity {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        let malformed = || PkiError::malformed("identity", format!("`{text}`"));
        let mut parts = text
            .strip_prefix("virtflow://")
            .ok_or_else(malformed)?
            .split('/');
        let (Some(cluster), Some(role), Some(subject), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        Ok(Self {
            cluster_id: canonical_uuid(cluster).ok_or_else(malformed)?,
            role: role.parse()?,
            subject_id: canonical_uuid(subject).ok_or_else(malformed)?,
        })
    }
}

/// One spelling per id: two certificates with one identity must compare equal as text too.
pub(crate) fn canonical_uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.hyphenated().to_string() == text).then_some(id)
}

pub(crate) fn parse_certificate<'a>(
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, PkiError> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|error| PkiError::malformed("certificate", error))?;
    if !rest.is_empty() {
        return Err(PkiError::malformed("certificate", "bytes follow its end"));
    }
    Ok(certificate)
}

/// The one `virtflow:` URI among the subject alternative names. Two would let two readers of one
/// certificate disagree about who it is.
pub(crate) fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, PkiError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| PkiError::malformed("subject alternative name", error))?;
    let mut ours = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) if is_ours(uri) => Some(*uri),
            _ => None,
        });
    match (ours.next(), ours.next()) {
        (Some(uri), None) => Ok(uri),
        (None, _) => Err(PkiError::malformed(
            "certificate",
            "it names no virtflow identity",
        )),
        (Some(_), Some(_)) => Err(PkiError::malformed(
            "certificate",
            "it names more than one virtflow identity",
        )),
    }
}

/// Schemes are case-insensitive: `VirtFlow:` counts as ours, and is then refused as misspelt.
fn is_ours(uri: &str) -> bool {
    uri.get(..URI_SCHEME.len())
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(URI_SCHEME))
}
