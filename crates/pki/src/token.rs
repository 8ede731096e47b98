//! Bearer tokens: `vfj1.<id>.<secret>` to join, `vft1.<id>.<secret>` for the API.
//!
//! The id is public and finds the row; the secret is 256 random bits, and only a hash of the whole
//! token is kept. With that much chance in it a plain SHA-256 is enough: there is nothing to guess.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::fingerprint::sha256;
use crate::seal::fill;
use crate::{PkiError, hex};

const SECRET_BYTES: usize = 32;
/// `vfj1` + `.` + 32 hexadecimal digits + `.` + 43 base64url characters.
const TEXT_BYTES: usize = 4 + 1 + 32 + 1 + 43;

/// What a token is for. A hash is bound to it: a join token never passes as an API token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenPrefix {
    /// Admits one machine, once.
    Join,
    /// Speaks for a user.
    Api,
}

impl TokenPrefix {
    fn as_str(self) -> &'static str {
        match self {
            TokenPrefix::Join => "vfj1",
            TokenPrefix::Api => "vft1",
        }
    }
}

/// A token with its secret. Only [`Self::text`] shows it.
#[derive(Clone)]
pub struct Token {
    prefix: TokenPrefix,
    id: Uuid,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl Token {
    pub fn generate(prefix: TokenPrefix, id: Uuid) -> Result<Self, PkiError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        fill(secret.as_mut())?;
        Ok(Self { prefix, id, secret })
    }

    /// Reads the one spelling of a token, with nothing around it: trim what came from a file. The
    /// error doesn't repeat the text.
    pub fn parse(text: &str) -> Result<Self, PkiError> {
        Self::read(text).ok_or_else(|| {
            PkiError::malformed(
                "token",
                "expected vfj1.… or vft1.… as it was shown at creation; copy it whole",
            )
        })
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() != TEXT_BYTES {
            return None;
        }
        let (prefix, rest) = text.split_once('.')?;
        let (id, secret) = rest.split_once('.')?;
        let prefix = [TokenPrefix::Join, TokenPrefix::Api]
            .into_iter()
            .find(|known| known.as_str() == prefix)?;
        let id_bytes = hex::decode::<16>(id).filter(|bytes| hex::encode(bytes) == id)?;
        let decoded = Zeroizing::new(BASE64URL.decode(secret).ok()?);
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        if decoded.len() != SECRET_BYTES {
            return None;
        }
        bytes.copy_from_slice(&decoded);
        Some(Self {
            prefix,
            id: Uuid::from_bytes(id_bytes),
            secret: bytes,
        })
    }

    /// The token as its holder keeps it.
    pub fn text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(BASE64URL.encode(self.secret.as_ref()));
        Zeroizing::new(format!(
            "{}.{}.{}",
            self.prefix.as_str(),
            self.id.simple(),
            *secret
        ))
    }

    pub fn prefix(&self) -> TokenPrefix {
        self.prefix
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The secret alone, from which [`crate::SealKey::wrap_with_secret`] derives its key.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What may be stored.
    pub fn hash(&self) -> TokenHash {
        TokenHash(sha256(self.text().as_bytes()))
    }
}

/// Shows what the token is for and its id.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("prefix", &self.prefix)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of a token's text. Deliberately without `==`: [`Self::matches`] takes the same time
/// whatever differs.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub fn matches(&self, token: &Token) -> bool {
        self.0.ct_eq(&token.hash().0).into()
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({self})")
    }
}

impl FromStr for TokenHash {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        hex::decode(text).map(Self).ok_or_else(|| {
            PkiError::malformed(
                "token hash",
                "expected the 64 hexadecimal digits of a SHA-256",
            )
        })
    }
}

impl serde::Serialize for TokenHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for TokenHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
