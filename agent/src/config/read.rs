//! Reading: file, then environment, then what no single key can say.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, ENV_PREFIX, Written};

/// The largest configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
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

/// What an environment variable's text is read as.
#[derive(Clone, Copy)]
enum Reads {
    Text,
    Number,
    /// Separated by commas.
    Texts,
}

/// All keys: section, key, how its variable is read.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("", "controllers"),
    ("", "data_dir"),
    ("", "guests_dir"),
    ("", "libvirt_uri"),
    ("", "libvirt_pid_dir"),
    ("", "hypervisor"),
    ("", "machine"),
    ("", "emulator"),
    ("", "bridge"),
    ("", "serial"),
    ("", "name"),
    ("", "management_address"),
    ("reserve", "cpu_milli"),
    ("reserve", "memory_mib"),
    ("reserve", "storage_gib"),
    ("capacity", "cpu_milli"),
    ("capacity", "memory_mib"),
    ("capacity", "storage_gib"),
    ("boot", "kernel"),
    ("boot", "initrd"),
    ("boot", "cmdline"),
    ("status", "listen"),
    ("log", "level"),
    ("log", "format"),
];

fn reads(section: &str, key: &str) -> Reads {
    match (section, key) {
        ("", "controllers") => Reads::Texts,
        ("reserve" | "capacity", _) => Reads::Number,
        _ => Reads::Text,
    }
}

pub(super) fn variable_of(section: &str, key: &str) -> String {
    let name = if section.is_empty() {
        key.to_owned()
    } else {
        [section, "_", key].concat()
    };
    [ENV_PREFIX, &name.to_uppercase()].concat()
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |problem: String| ConfigError::Unreadable {
        path: path.to_owned(),
        problem,
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    let mut limited = file.take(FILE_BYTES_MAX + 1);
    let read = limited.read_to_end(&mut bytes);
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!(
            "it is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))
}

pub(super) fn read(
    path: &Path,
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    // The file by itself first: its errors know their line.
    let written: Written = toml::from_str(text).map_err(|error| in_file(path, text, &error))?;
    let overrides = overrides(variables)?;
    let written = if overrides.is_empty() {
        written
    } else {
        with_overrides(text, overrides)?
    };
    written
        .checked()
        .map_err(|(key, problem)| ConfigError::Wrong {
            place: Place::File {
                path: path.to_owned(),
                line: line_of_key(text, key),
                key: key.to_owned(),
            },
            problem,
        })
}

struct Override {
    variable: String,
    section: &'static str,
    key: &'static str,
    value: Value,
}

fn overrides(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (variable, text) in variables.filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
        let wrong = |problem: String| ConfigError::Wrong {
            place: Place::Variable(variable.clone()),
            problem,
        };
        let Some((section, key)) = KEYS
            .iter()
            .find(|(section, key)| variable_of(section, key) == variable)
        else {
            return Err(wrong("names no key; see agent.example.toml".to_owned()));
        };
        let value = match reads(section, key) {
            Reads::Text => Value::String(text),
            Reads::Number => {
                let number = text.parse();
                Value::Integer(
                    number.map_err(|_| wrong(format!("`{text}` is not a whole number")))?,
                )
            }
            Reads::Texts => {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
            }
        };
        found.push(Override {
            variable,
            section,
            key,
            value,
        });
    }
    Ok(found)
}

fn with_overrides(text: &str, overrides: Vec<Override>) -> Result<Written, ConfigError> {
    // The text was read already, so it is a table of what is known.
    let mut table: Table = toml::from_str(text).unwrap_or_default();
    let mut written = Written::default();
    for change in overrides {
        let section = if change.section.is_empty() {
            Some(&mut table)
        } else {
            let empty = || Value::Table(Table::new());
            let entry = table.entry(change.section).or_insert_with(empty);
            entry.as_table_mut()
        };
        if let Some(section) = section {
            section.insert(change.key.to_owned(), change.value);
        }
        // One by one, so that a value of the wrong kind is laid at its variable's door.
        written =
            table
                .clone()
                .try_into()
                .map_err(|error: toml::de::Error| ConfigError::Wrong {
                    place: Place::Variable(change.variable.clone()),
                    problem: one_line(error.message()),
                })?;
    }
    Ok(written)
}

fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map(|span| span.start);
    ConfigError::Wrong {
        place: Place::File {
            path: path.to_owned(),
            line: at.map(|at| line_at(text, at)),
            key: at.and_then(|at| key_at(text, at)).unwrap_or_default(),
        },
        problem: one_line(error.message()),
    }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

/// The line that a byte is on, from 1.
fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// Each `key = value` of the text with its section and line, as it is written.
fn written_keys(text: &str) -> impl Iterator<Item = (String, usize)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            section = name.trim().to_owned();
            keys.push((section.clone(), number + 1));
        } else if let Some((key, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let key = key.trim().trim_matches('"');
            let full = if section.is_empty() {
                key.to_owned()
            } else {
                [&section, ".", key].concat()
            };
            keys.push((full, number + 1));
        }
    }
    keys.into_iter()
}

fn line_of_key(text: &str, key: &str) -> Option<usize> {
    written_keys(text)
        .find(|(written, _)| written == key)
        .map(|(_, line)| line)
}

fn key_at(text: &str, at: usize) -> Option<String> {
    let line = line_at(text, at);
    let mut on_or_before = written_keys(text).filter(|(_, key_line)| *key_line <= line);
    let mut last = on_or_before.next()?;
    for next in on_or_before {
        last = next;
    }
    Some(last.0)
}
