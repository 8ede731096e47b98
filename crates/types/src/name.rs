//! Names that people give to objects.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};
use smol_str::SmolStr;

use crate::ObjectId;

/// The longest name: a DNS label, so that every name may become a host name.
pub const NAME_BYTES_MAX: usize = 63;

/// A name that people give: 1 to 63 of `a-z 0-9 . _ -`, beginning and ending with a letter or digit.
///
/// Narrow on purpose: it is safe in a path, a domain definition, a file name and a shell.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(SmolStr);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} characters, this one has {0} bytes")]
    TooLong(usize),
    /// A character outside the allowed ones.
    #[error("`{0}` is not allowed in a name; use a-z, 0-9, `.`, `_` and `-`")]
    Character(char),
    /// An id: where a name or an id may stand, it would be taken for one.
    #[error("a name must not have the form of an id")]
    Id,
    /// Begins or ends with punctuation.
    #[error("a name must begin and end with a letter or a digit")]
    Edge,
}

impl Name {
    /// Checks and wraps.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        if let Some(bad) = text
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-'))
        {
            return Err(NameError::Character(bad));
        }
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        if !edge(text.as_bytes().first()) || !edge(text.as_bytes().last()) {
            return Err(NameError::Edge);
        }
        if text.parse::<ObjectId>().is_ok() {
            return Err(NameError::Id);
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}
impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "web-1", "db.prod_2", "0", &"x".repeat(63)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new(&"x".repeat(64)), Err(NameError::TooLong(64)));
        assert_eq!(Name::new("Web"), Err(NameError::Character('W')));
        assert_eq!(Name::new("a/b"), Err(NameError::Character('/')));
        assert_eq!(Name::new("a\0b"), Err(NameError::Character('\0')));
        assert_eq!(Name::new("-a"), Err(NameError::Edge));
        assert_eq!(Name::new("a."), Err(NameError::Edge));
        assert_eq!(Name::new(".."), Err(NameError::Edge));
    }
}
