//! Reading a daemon's configuration: one TOML file, overridden by environment variables, refused as a
//! whole if any of it is unknown or wrong.
//!
//! Every refusal names the file, line and key, or the variable, that it is about: a mistyped key that
//! is silently ignored is worse than a daemon that does not start. What the keys mean, and how they may
//! contradict each other, only the daemon knows; it gives its types and its check.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod place;
mod read;

pub use error::{ConfigError, Place};
pub use read::{FILE_BYTES_MAX, read, text};

/// What an environment variable's text is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Text, as it is.
    Text,
    /// A whole number.
    Number,
    /// Texts, separated by commas.
    Texts,
}

/// The keys of one daemon's configuration.
#[derive(Debug, Clone, Copy)]
pub struct Scheme {
    /// What the names of its environment variables begin with.
    pub prefix: &'static str,
    /// The file that describes every key.
    pub example: &'static str,
    /// Section and name of every key; the section of those above all sections is empty.
    pub keys: &'static [(&'static str, &'static str)],
    /// How the variable of a key is read.
    pub reads: fn(section: &str, key: &str) -> Reads,
}

impl Scheme {
    /// The variable that overrides a key: prefix, section, `_`, key, in capitals.
    #[must_use]
    pub fn variable_of(&self, section: &str, key: &str) -> String {
        let name = if section.is_empty() {
            key.to_owned()
        } else {
            [section, "_", key].concat()
        };
        [self.prefix, &name.to_uppercase()].concat()
    }
}

/// A key with its section, as errors name it.
fn full_key(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        [section, ".", key].concat()
    }
}
