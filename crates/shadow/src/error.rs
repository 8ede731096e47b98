//! Why a store cannot be opened, read or written.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use virtflow_state::ClusterVersionTooNew;
use virtflow_state::port::ShadowError;

/// Why a store could not be opened, read, copied or replaced.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder.
    #[error("{} is in use by another process; stop that controller first", .0.display())]
    Locked(PathBuf),
    /// Not one of our files.
    #[error("{} is not a VirtFlow store: {why}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it lacks.
        why: String,
    },
    /// Written by a newer controller.
    #[error(
        "{} has schema {found}, newer than {known}, the newest this controller reads; upgrade it",
        file.display()
    )]
    TooNew {
        /// The file.
        file: PathBuf,
        /// The schema it names.
        found: i64,
        /// The newest known here.
        known: i64,
    },
    /// Of a cluster version that this controller does not support.
    #[error("{} cannot be used", file.display())]
    ClusterVersion {
        /// The file.
        file: PathBuf,
        /// What it needs.
        #[source]
        source: ClusterVersionTooNew,
    },
    /// State files without the pointer that says which one counts.
    #[error(
        "{} has state files but no CURRENT; write the name of the newest intact one into it, or restore a backup",
        .0.display()
    )]
    PointerMissing(PathBuf),
    /// The content is not what was written.
    #[error("{} is damaged: {why}; wipe this member and add it anew, or restore a backup", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A file that is sound, but not for here.
    #[error("{what} refused: {why}")]
    Refused {
        /// What was offered.
        what: String,
        /// Why it does not fit.
        why: String,
    },
    /// It was given so much time and needs more.
    #[error("{what} takes longer than {} ms", after.as_millis())]
    TooLong {
        /// What was tried.
        what: String,
        /// The time it was given.
        after: std::time::Duration,
    },
    /// The database answered with an error.
    #[error("{doing}")]
    Sql {
        /// What was tried, on which file.
        doing: String,
        /// Its answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system answered with an error.
    #[error("{doing}")]
    Io {
        /// What was tried, on which file.
        doing: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// The shadow had failed or was closed before.
    #[error(transparent)]
    Stopped(#[from] ShadowError),
}

impl StoreError {
    pub(crate) fn damaged(file: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            why: why.into(),
        }
    }
    pub(crate) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            why: why.into(),
        }
    }

    /// The words of the port: the failure with its causes in one line.
    pub(crate) fn into_shadow_error(self, doing: impl Into<String>) -> ShadowError {
        if let Self::Stopped(error) = self {
            return error;
        }
        let mut cause = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors repeat their source in their own words.
            if !cause.ends_with(&text) {
                // Writing to a String cannot fail.
                let _ = write!(cause, ": {text}");
            }
            source = error.source();
        }
        ShadowError {
            doing: doing.into(),
            cause,
        }
    }
}

/// Adds what was being done to a bare error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sql {
            doing: what(),
            source: Box::new(source),
        })
    }
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io {
            doing: what(),
            source,
        })
    }
}
