use std::fmt;
use std::path::PathBuf;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A key is wrong.
    #[error("{place}: {problem}")]
    Wrong {
        /// File, line and key, or the environment variable.
        place: Place,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

/// Where a wrong key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// Which file.
        path: PathBuf,
        /// Line, from 1; `None` if the key isn't in the file.
        line: Option<usize>,
        /// The key with its section; empty where the file is no TOML at all.
        key: String,
    },
    /// In the environment.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File { path, line, key } => {
                write!(f, "{}", path.display())?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                if !key.is_empty() {
                    write!(f, ": `{key}`")?;
                }
                Ok(())
            }
        }
    }
}
