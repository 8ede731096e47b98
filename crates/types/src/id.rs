//! Ids: UUIDs that say what they are the id of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chance;

/// Text that is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UUID such as 0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11")]
pub struct IdParseError(pub String);

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// All bits zero: stands for "none" where a fixed width is needed.
            pub const NIL: Self = Self(Uuid::nil());

            /// Wraps a UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
            /// The UUID within.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
            /// Sixteen bytes, big-endian: their order is the order of the type.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
            /// From sixteen bytes; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
            /// From a number, for tests and derived ids.
            pub const fn from_u128(value: u128) -> Self {
                Self(Uuid::from_u128(value))
            }
            /// True for [`Self::NIL`].
            pub const fn is_nil(&self) -> bool {
                self.0.is_nil()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = IdParseError;
            fn from_str(text: &str) -> Result<Self, IdParseError> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| IdParseError(text.chars().take(64).collect()))
            }
        }
    };
}

uuid_type! {
    /// The id of any object: a UUIDv7, made by a controller, never reused.
    ObjectId
}
uuid_type! {
    /// One request, from the client's call to the record of what it changed.
    RequestId
}
uuid_type! {
    /// One life of the replicated store. A restore from a backup starts another, so that what
    /// was told by the former life is never taken for news.
    Incarnation
}

/// A UUIDv7: later ones sort after earlier ones made here, even within a millisecond.
#[cfg(not(virtflow_sim))]
fn ordered() -> Uuid {
    Uuid::now_v7()
}

#[cfg(virtflow_sim)]
fn ordered() -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(crate::Timestamp::now().ms(), &chance::bytes())
        .into_uuid()
}

impl ObjectId {
    /// A new id from the clock and chance. Call it where decisions are made, never at apply.
    pub fn generate() -> Self {
        Self(ordered())
    }
    /// A UUIDv4, from chance alone: for what is made once and sorted by nobody.
    pub fn random() -> Self {
        Self(uuid::Builder::from_random_bytes(chance::bytes()).into_uuid())
    }
}

impl RequestId {
    /// A new id from the clock and chance.
    pub fn generate() -> Self {
        Self(ordered())
    }
}

impl Incarnation {
    /// A new random incarnation.
    pub fn generate() -> Self {
        Self(uuid::Builder::from_random_bytes(chance::bytes()).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let id: ObjectId = "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11".parse().unwrap();
        assert_eq!(id.to_string(), "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11");
        assert_eq!(ObjectId::from_slice(id.as_bytes()), Some(id));
        assert_eq!(ObjectId::from_slice(&[1, 2, 3]), None);
        assert!("web-1".parse::<ObjectId>().is_err());
    }

    #[test]
    fn ids_made_later_sort_later() {
        let first = ObjectId::generate();
        let second = ObjectId::generate();
        assert!(first < second);
    }
}
