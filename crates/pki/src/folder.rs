//! An identity on disk: `key.pem` (0600), `ca.pem`, `certificate.pem`.
//!
//! The key comes first and stays; an enrolment that was interrupted is repeated with the same key.
//! The certificate is written last, so a folder with a certificate is complete.

use std::path::{Path, PathBuf};

use crate::files::{self, Replace};
use crate::{CaCertificate, Certificate, KeyPair, PkiError, Trust};

#[derive(Clone, Debug)]
pub struct IdentityFolder {
    path: PathBuf,
}

/// What [`IdentityFolder::load`] found. The certificate fits the key and the CA; it may have expired.
#[derive(Debug)]
pub struct StoredIdentity {
    pub key: KeyPair,
    pub certificate: Certificate,
    pub trust: Trust,
}

impl IdentityFolder {
    /// The folder itself must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn key_path(&self) -> PathBuf {
        self.path.join("key.pem")
    }

    pub fn ca_path(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    pub fn certificate_path(&self) -> PathBuf {
        self.path.join("certificate.pem")
    }

    /// The key of this folder, made and flushed if there is none yet.
    pub fn key(&self) -> Result<KeyPair, PkiError> {
        KeyPair::load_or_create(&self.key_path())
    }

    pub fn save_ca(&self, ca: &CaCertificate) -> Result<(), PkiError> {
        files::write(
            &self.ca_path(),
            ca.pem().as_bytes(),
            files::PUBLIC,
            Replace::Yes,
        )
    }

    pub fn save_certificate(&self, certificate: &Certificate) -> Result<(), PkiError> {
        let pem = certificate.pem();
        files::write(
            &self.certificate_path(),
            pem.as_bytes(),
            files::PUBLIC,
            Replace::Yes,
        )
    }

    /// The CA that this folder trusts, if it was ever told one.
    pub fn load_trust(&self) -> Result<Option<Trust>, PkiError> {
        match files::read_public(&self.ca_path())? {
            Some(pem) => CaCertificate::from_pem(&pem).map(|ca| Some(Trust::new(ca))),
            None => Ok(None),
        }
    }

    /// `None` unless key, CA and certificate are all there: then enrolment is (still) to be done.
    pub fn load(&self) -> Result<Option<StoredIdentity>, PkiError> {
        let Some(pem) = files::read_public(&self.certificate_path())? else {
            return Ok(None);
        };
        let Some(trust) = self.load_trust()? else {
            return Ok(None);
        };
        let Some(key) = KeyPair::load_if_there(&self.key_path())? else {
            return Ok(None);
        };
        let certificate = Certificate::from_pem(&pem)?;
        if certificate.key() != key.fingerprint() {
            return Err(PkiError::mismatch(format!(
                "{} is for another key than {}; remove it and enrol again",
                self.certificate_path().display(),
                self.key_path().display()
            )));
        }
        // Judged at the end of its life: whether it has expired is the caller's question.
        trust.verify(&certificate, certificate.validity().not_after_ms)?;
        Ok(Some(StoredIdentity {
            key,
            certificate,
            trust,
        }))
    }
}
