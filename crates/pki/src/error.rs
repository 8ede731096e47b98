use std::path::PathBuf;

use crate::{CaFingerprint, KeyId};

/// What went wrong with a key, a certificate, a sealed value or a token. `Display` says what to do;
/// causes are in `source()`. Secrets never appear in it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is open to other users (mode {mode:04o}); run `chmod 600` on it, and replace the key if others could have read it", path.display())]
    FileMode { path: PathBuf, mode: u32 },
    #[error("{} is owned by uid {owner}, which is neither root nor this process; run `chown` on it", path.display())]
    FileOwner { path: PathBuf, owner: u32 },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} exists already and is not replaced; move it away first if a new one is really wanted", path.display())]
    AlreadyExists { path: PathBuf },
    #[error("no seal key: neither the systemd credential `virtflow-seal-key` nor the file {} exists; copy the key from another controller or from its safe place", path.display())]
    NoSealKey { path: PathBuf },
    #[error(
        "{what} holds {found} bytes, a seal key has exactly {expected}; restore the right file"
    )]
    SealKeySize {
        what: String,
        found: u64,
        expected: usize,
    },
    #[error(
        "the value is sealed under key {needed}, but the key at hand is {at_hand}; load the seal key it was sealed with"
    )]
    WrongSealKey { needed: KeyId, at_hand: KeyId },
    #[error(
        "the sealed value of {context} cannot be opened: it was altered, or belongs to something else; restore it from a backup"
    )]
    Unsealing { context: String },
    #[error(
        "the wrapped seal key cannot be opened with this token for this cluster; ask for a new join token"
    )]
    Unwrapping,
    #[error("malformed {what}: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error("certificate request refused: {reason}")]
    Request { reason: String },
    #[error(
        "the CA's fingerprint is {found}, expected {expected}: this is another cluster, or someone in between; compare it with the one shown on a controller of the right cluster"
    )]
    PinMismatch {
        expected: CaFingerprint,
        found: CaFingerprint,
    },
    #[error("the certificate does not fit: {reason}")]
    Mismatch { reason: String },
    #[error("cannot sign: {reason}")]
    Signing { reason: String },
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
    #[error("the system's random number generator failed")]
    Random,
    /// Sizes and lengths are fixed in the code: this is a defect, not something a user caused.
    #[error("a cryptographic primitive refused its input; report this")]
    Crypto,
}

impl PkiError {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed {
            what,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn request(reason: impl ToString) -> Self {
        Self::Request {
            reason: reason.to_string(),
        }
    }

    pub(crate) fn signing(reason: impl ToString) -> Self {
        Self::Signing {
            reason: reason.to_string(),
        }
    }

    pub(crate) fn mismatch(reason: impl ToString) -> Self {
        Self::Mismatch {
            reason: reason.to_string(),
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
