//! Secrets at rest: one key per cluster, outside the data folder, and boxes that open only where
//! they belong.
//!
//! A box is `version (1) | key id (8) | nonce (12) | ciphertext and tag`, ChaCha20-Poly1305. The
//! header and the context (kind, id, field) are authenticated, so a box that is moved to another
//! row opens as little as one that was altered. Nonces are random: good for 2^32 boxes per key,
//! far beyond the secrets of a cluster.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::files::{self, Privacy, Replace};
use crate::fingerprint::sha256;
use crate::{PkiError, hex};

/// Name of the systemd credential that holds the seal key.
pub const SEAL_CREDENTIAL: &str = "virtflow-seal-key";

const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const BOX_VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;
const DERIVE_SALT: &[u8] = b"virtflow derived key, version 1";
const WRAP_INFO: &[u8] = b"virtflow seal key for a joining controller, version 1";

/// Which key sealed a box: the first 8 bytes of its SHA-256. Safe to show.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Where a sealed value belongs. It opens only with the very same three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub field: &'a str,
}

impl fmt::Display for SealContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind, self.id, self.field)
    }
}

/// The cluster's seal key: 32 random bytes, the same on every controller.
pub struct SealKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl SealKey {
    pub fn generate() -> Result<Self, PkiError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill(bytes.as_mut())?;
        Ok(Self { bytes })
    }

    /// Makes a key and writes it to a new file of mode 0600, flushed. Never replaces a file.
    pub fn create_file(path: &Path) -> Result<Self, PkiError> {
        let key = Self::generate()?;
        key.save_new(path)?;
        Ok(key)
    }

    /// Writes the key to a new file of mode 0600, flushed. Never replaces a file.
    pub fn save_new(&self, path: &Path) -> Result<(), PkiError> {
        files::write(path, self.bytes.as_ref(), files::PRIVATE, Replace::No)
    }

    /// Loads the key from the systemd credential [`SEAL_CREDENTIAL`] in `credentials` if it is
    /// there, else from `file`, which must not be open to others (mode 0600 or narrower).
    pub fn load(file: &Path, credentials: Option<&Path>) -> Result<Self, PkiError> {
        if let Some(folder) = credentials {
            let path = folder.join(SEAL_CREDENTIAL);
            if let Some(bytes) = files::read_secret(&path, Privacy::GuardedFolder)? {
                return Self::from_slice(&bytes, &path);
            }
        }
        match files::read_secret(file, Privacy::OwnerOnly)? {
            Some(bytes) => Self::from_slice(&bytes, file),
            None => Err(PkiError::NoSealKey {
                path: file.to_path_buf(),
            }),
        }
    }

    fn from_slice(bytes: &[u8], path: &Path) -> Result<Self, PkiError> {
        if bytes.len() != KEY_BYTES {
            return Err(PkiError::SealKeySize {
                what: path.display().to_string(),
                found: bytes.len() as u64,
                expected: KEY_BYTES,
            });
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(bytes);
        Ok(Self { bytes: key })
    }

    pub fn key_id(&self) -> KeyId {
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&sha256(self.bytes.as_ref())[..KEY_ID_BYTES]);
        KeyId(id)
    }

    /// Encrypts `plaintext` so that it opens only under this key and this context.
    pub fn seal(&self, context: &SealContext<'_>, plaintext: &[u8]) -> Result<Vec<u8>, PkiError> {
        let mut sealed = vec![BOX_VERSION];
        sealed.extend_from_slice(&self.key_id().0);
        let aad = authenticated(&sealed, &[context.kind, context.id, context.field]);
        append_encrypted(self.bytes.as_ref(), &aad, plaintext, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made. Says which key is needed if it is another one.
    pub fn open(
        &self,
        context: &SealContext<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        let altered = || PkiError::Unsealing {
            context: context.to_string(),
        };
        let (header, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or_else(altered)?;
        if header[0] != BOX_VERSION {
            return Err(altered());
        }
        let mut needed = [0; KEY_ID_BYTES];
        needed.copy_from_slice(&header[1..]);
        if KeyId(needed) != self.key_id() {
            return Err(PkiError::WrongSealKey {
                needed: KeyId(needed),
                at_hand: self.key_id(),
            });
        }
        let aad = authenticated(header, &[context.kind, context.id, context.field]);
        decrypt(self.bytes.as_ref(), &aad, rest).ok_or_else(altered)
    }

    /// A key for another purpose that every holder of this key derives alike; `purpose` names it.
    pub fn derive(&self, purpose: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, PkiError> {
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, DERIVE_SALT)
            .extract(self.bytes.as_ref())
            .expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(derived.as_mut()))
            .map_err(|_| PkiError::Random)?;
        Ok(derived)
    }

    /// The key for a controller that joins, readable only with the secret of its one-time token.
    pub fn wrap_with_secret(
        &self,
        secret: &[u8; 32],
        cluster_id: Uuid,
    ) -> Result<Vec<u8>, PkiError> {
        let mut wrapped = vec![BOX_VERSION];
        let aad = authenticated(&wrapped, &[&cluster_id.to_string()]);
        let key = wrapping_key(secret, cluster_id)?;
        append_encrypted(key.as_ref(), &aad, self.bytes.as_ref(), &mut wrapped)?;
        Ok(wrapped)
    }

    /// Opens what [`Self::wrap_with_secret`] made for the same secret and cluster.
    pub fn unwrap_with_secret(
        secret: &[u8; 32],
        cluster_id: Uuid,
        wrapped: &[u8],
    ) -> Result<Self, PkiError> {
        let (header, rest) = wrapped.split_at_checked(1).ok_or(PkiError::Unwrapping)?;
        if header != [BOX_VERSION] {
            return Err(PkiError::Unwrapping);
        }
        let aad = authenticated(header, &[&cluster_id.to_string()]);
        let key = wrapping_key(secret, cluster_id)?;
        let bytes = decrypt(key.as_ref(), &aad, rest).ok_or(PkiError::Unwrapping)?;
        if bytes.len() != KEY_BYTES {
            return Err(PkiError::Unwrapping);
        }
        let mut unwrapped = Zeroizing::new([0; KEY_BYTES]);
        unwrapped.copy_from_slice(&bytes);
        Ok(Self { bytes: unwrapped })
    }
}

/// Shows the key's id, never the key.
impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey")
            .field("key_id", &self.key_id())
            .finish_non_exhaustive()
    }
}

/// The folder in which systemd hands credentials to a service, if this process has one.
pub fn credentials_directory_from_env() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

#[cfg(not(virtflow_sim))]
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), PkiError> {
    use ring::rand::{SecureRandom, SystemRandom};

    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| PkiError::Random)
}

#[cfg(virtflow_sim)]
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), PkiError> {
    virtflow_types::chance::fill(bytes);
    Ok(())
}

/// Each part after its length: no two lists of parts give the same bytes.
fn authenticated(header: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn wrapping_key(secret: &[u8; 32], cluster_id: Uuid) -> Result<Zeroizing<[u8; 32]>, PkiError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, cluster_id.as_bytes())
        .extract(secret)
        .expand(&[WRAP_INFO], hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(key.as_mut()))
        .map_err(|_| PkiError::Crypto)?;
    Ok(key)
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, PkiError> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .map(LessSafeKey::new)
        .map_err(|_| PkiError::Crypto)
}

fn append_encrypted(
    key: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    sealed: &mut Vec<u8>,
) -> Result<(), PkiError> {
    let mut nonce = [0; NONCE_BYTES];
    fill(&mut nonce)?;
    let mut ciphertext = plaintext.to_vec();
    cipher(key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut ciphertext,
        )
        .map_err(|_| PkiError::Crypto)?;
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(())
}

fn decrypt(key: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = cipher(key)
        .ok()?
        .open_in_place(nonce, Aad::from(aad), &mut buffer)
        .ok()?
        .len();
    buffer.truncate(length);
    Some(buffer)
}
