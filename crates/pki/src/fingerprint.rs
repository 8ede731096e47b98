//! SHA-256 fingerprints. Two types, so that a key's cannot be compared with a certificate's.

use std::fmt;
use std::str::FromStr;

use ring::digest;

use crate::{PkiError, hex};

macro_rules! fingerprint {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            pub(crate) fn of(der: &[u8]) -> Self {
                Self(sha256(der))
            }

            /// The 32 bytes of the digest.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        /// 64 lower-case hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        /// Takes either case, and pairs parted by colons as `openssl x509 -fingerprint` prints them.
        impl FromStr for $name {
            type Err = PkiError;

            fn from_str(text: &str) -> Result<Self, PkiError> {
                parse(text).map(Self).ok_or_else(|| {
                    PkiError::malformed($what, "expected the 64 hexadecimal digits of a SHA-256")
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fingerprint!(
    /// SHA-256 of the CA certificate's DER: what a joining machine is told to believe.
    CaFingerprint,
    "CA fingerprint"
);
fingerprint!(
    /// SHA-256 of a public key's SubjectPublicKeyInfo (DER): the identity that outlives certificates.
    /// The same from a [`crate::KeyPair`], a [`crate::Csr`] and a certificate of one key.
    KeyFingerprint,
    "key fingerprint"
);

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    array
}

fn parse(text: &str) -> Option<[u8; 32]> {
    if !text.contains(':') {
        return hex::decode(text);
    }
    let pairs: Vec<&str> = text.split(':').collect();
    if pairs.iter().any(|pair| pair.len() != 2) {
        return None;
    }
    hex::decode(&pairs.concat())
}
