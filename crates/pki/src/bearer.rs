//! The token with which monitoring reads the numbers of a daemon.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

/// A token shorter than this is accepted from nobody.
pub const BEARER_BYTES_MIN: usize = 16;
/// A longer file is no token.
const BEARER_BYTES_MAX: u64 = 4096;

/// A file with a token. It is read each time: small, local, and changed without a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerFile {
    path: PathBuf,
}

/// A file that holds no token that could be shown.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// It cannot be read.
    #[error("the monitoring token cannot be read from {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it would be guessed, or is no token.
    #[error(
        "the monitoring token in {path} has {bytes} bytes; it is accepted with {BEARER_BYTES_MIN} to {BEARER_BYTES_MAX}"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// How long what it holds is, without white space around it; one more than the most for all that is longer.
        bytes: usize,
    },
}

impl BearerFile {
    /// The token in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The token as it is now.
    ///
    /// # Errors
    /// If the file cannot be read, or holds nothing that is accepted.
    pub fn read(&self) -> Result<String, BearerError> {
        let path = || self.path.clone();
        let mut text = String::new();
        File::open(&self.path)
            .and_then(|file| file.take(BEARER_BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(|source| BearerError::Unreadable {
                path: path(),
                source,
            })?;
        let is_whole = text.len() as u64 <= BEARER_BYTES_MAX;
        let token = text.trim();
        if !is_whole || token.len() < BEARER_BYTES_MIN {
            let bytes = if is_whole { token.len() } else { text.len() };
            return Err(BearerError::Length {
                path: path(),
                bytes,
            });
        }
        Ok(token.to_owned())
    }

    /// Whether this is the token.
    ///
    /// # Errors
    /// As [`Self::read`]: then nothing is the token.
    pub fn is(&self, presented: &str) -> Result<bool, BearerError> {
        Ok(self.read()?.as_bytes().ct_eq(presented.as_bytes()).into())
    }
}

/// The token that a request shows in `Authorization: Bearer`; empty if it shows none.
pub fn bearer_of(headers: &HeaderMap) -> &str {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &str) -> (tempfile::TempDir, BearerFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        (folder, BearerFile::new(path))
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let (_folder, file) = file_with(" 0123456789abcdef\n");
        assert!(file.is("0123456789abcdef").unwrap());
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
        ] {
            assert!(!file.is(wrong).unwrap(), "{wrong}");
        }
    }

    #[test]
    fn what_is_short_long_or_missing_is_accepted_from_nobody() {
        for (text, shown) in [
            ("0123456789abcde\n", "has 15 bytes"),
            ("", "has 0 bytes"),
            (&"x".repeat(5000), "has 4097 bytes"),
        ] {
            let (_folder, file) = file_with(text);
            let error = file.is(text.trim()).unwrap_err().to_string();
            assert!(error.contains(shown), "{error}");
        }
        let missing = BearerFile::new("/nowhere/token").is("").unwrap_err();
        assert!(
            matches!(missing, BearerError::Unreadable { .. }),
            "{missing}"
        );
    }

    #[test]
    fn the_token_of_a_request_stands_behind_its_scheme() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer_of(&headers).to_owned()
        };
        assert_eq!(of("Bearer abc "), "abc");
        assert_eq!(of("Basic abc"), "");
        assert_eq!(bearer_of(&HeaderMap::new()), "");
    }
}
