//! Reading: file, then environment, then what no single key can say.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, ENV_PREFIX};

/// Largest number of seconds that a certificate may live: what the CA signs at most.
const CERTIFICATE_LIFETIME_S_MAX: u64 = 90 * super::DAY_S;
/// Smallest: a renewal must fit in a third of it.
const CERTIFICATE_LIFETIME_S_MIN: u64 = 6;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
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
        /// Line, from 1; `None` if the key is absent.
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
const KEYS: &[(&str, &str, Reads)] = &[
    ("", "name", Reads::Text),
    ("", "data_dir", Reads::Text),
    ("", "seal_key_file", Reads::Text),
    ("listen", "api", Reads::Text),
    ("listen", "agent", Reads::Text),
    ("listen", "peer", Reads::Text),
    ("listen", "status", Reads::Text),
    ("advertise", "api", Reads::Text),
    ("advertise", "agent", Reads::Text),
    ("advertise", "peer", Reads::Text),
    ("raft", "heartbeat_ms", Reads::Number),
    ("raft", "election_min_ms", Reads::Number),
    ("raft", "election_max_ms", Reads::Number),
    ("raft", "snapshot_entries", Reads::Number),
    ("raft", "log_keep_entries", Reads::Number),
    ("hosts", "lease_s", Reads::Number),
    ("hosts", "heartbeat_ms", Reads::Number),
    ("certificates", "agent_lifetime_s", Reads::Number),
    ("certificates", "controller_lifetime_s", Reads::Number),
    ("certificates", "names", Reads::Texts),
    ("status", "token_file", Reads::Text),
    ("retention", "audit_days", Reads::Number),
    ("retention", "history_days", Reads::Number),
    ("log", "level", Reads::Text),
    ("log", "format", Reads::Text),
];

fn variable_of(section: &str, key: &str) -> String {
    let name = if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}_{key}")
    };
    format!("{ENV_PREFIX}{}", name.to_uppercase())
}

pub(super) fn read(
    path: &Path,
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let overrides = overrides(variables)?;
    let mut table: Table = toml::from_str(text).map_err(|error| in_file(path, text, &error))?;
    for (variable, section, key, value) in overrides {
        let target = if section.is_empty() {
            &mut table
        } else {
            let entry = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            match entry {
                Value::Table(section) => section,
                _ => {
                    return Err(ConfigError::Wrong {
                        place: Place::Variable(variable),
                        problem: format!("the file has `{section}`, which is no section"),
                    });
                }
            }
        };
        // Alone first, so that a wrong value is reported where it came from.
        target.insert(key.to_owned(), value);
    }
    // With the text, errors know their line; a key that only the environment gives has none.
    let merged = toml::to_string(&table).unwrap_or_default();
    let config = match toml::from_str::<Config>(&merged) {
        Ok(config) => config,
        Err(error) => {
            let key = key_at(&merged, error.span().map_or(0, |span| span.start));
            return Err(ConfigError::Wrong {
                place: place_of(path, text, &key),
                problem: one_line(error.message()),
            });
        }
    };
    check(&config).map_err(|(key, problem)| ConfigError::Wrong {
        place: place_of(path, text, key),
        problem,
    })?;
    Ok(config)
}

type Override = (String, &'static str, &'static str, Value);

fn overrides(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (variable, text) in variables.filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
        let wrong = |problem: String| ConfigError::Wrong {
            place: Place::Variable(variable.clone()),
            problem,
        };
        let Some((section, key, reads)) = KEYS
            .iter()
            .find(|(section, key, _)| variable_of(section, key) == variable)
        else {
            return Err(wrong("names no key; see controller.example.toml".into()));
        };
        let value = match reads {
            Reads::Text => Value::String(text),
            Reads::Number => Value::Integer(
                text.parse()
                    .map_err(|_| wrong(format!("`{text}` is not a whole number")))?,
            ),
            Reads::Texts => Value::Array(
                text.split(',')
                    .map(|part| Value::String(part.trim().to_owned()))
                    .collect(),
            ),
        };
        found.push((variable, *section, *key, value));
    }
    Ok(found)
}

/// Contradictions: the key at fault and what to do.
fn check(config: &Config) -> Result<(), (&'static str, String)> {
    virtflow_types::Name::new(&config.name).map_err(|error| ("name", error.to_string()))?;
    if config.seal_key_file.starts_with(&config.data_dir) {
        return Err((
            "seal_key_file",
            "lies in the data folder, where whoever copies the data copies the key along; put it elsewhere".into(),
        ));
    }
    for (key, listen, advertise) in [
        ("advertise.api", config.listen.api, &config.advertise.api),
        (
            "advertise.agent",
            config.listen.agent,
            &config.advertise.agent,
        ),
        ("advertise.peer", config.listen.peer, &config.advertise.peer),
    ] {
        match advertise {
            None if listen.ip().is_unspecified() => {
                return Err((
                    key,
                    format!("is needed, for others cannot dial {listen}; write \"host:port\""),
                ));
            }
            Some(address) if !is_host_port(address) => {
                return Err((key, format!("`{address}` is not host:port")));
            }
            _ => {}
        }
    }
    let listens = [
        ("listen.api", config.listen.api),
        ("listen.agent", config.listen.agent),
        ("listen.peer", config.listen.peer),
        ("listen.status", config.listen.status),
    ];
    for (at, (key, address)) in listens.iter().enumerate() {
        if address.port() != 0
            && let Some((other, _)) = listens[..at].iter().find(|(_, earlier)| {
                earlier.port() == address.port()
                    && (earlier.ip() == address.ip()
                        || earlier.ip().is_unspecified()
                        || address.ip().is_unspecified())
            })
        {
            return Err((
                key,
                format!("{address} is taken by `{other}`; each needs its own port"),
            ));
        }
    }
    check_raft(config)?;
    let (lease_ms, beat_ms) = (
        config.hosts.lease_s.saturating_mul(1000),
        config.hosts.heartbeat_ms,
    );
    if beat_ms < 100 {
        return Err(("hosts.heartbeat_ms", "must be at least 100".into()));
    }
    if lease_ms < beat_ms.saturating_mul(3) {
        return Err((
            "hosts.lease_s",
            format!(
                "must be at least three heartbeats ({beat_ms} ms each), or one lost message makes a host offline"
            ),
        ));
    }
    for (key, life) in [
        (
            "certificates.agent_lifetime_s",
            config.certificates.agent_lifetime_s,
        ),
        (
            "certificates.controller_lifetime_s",
            config.certificates.controller_lifetime_s,
        ),
    ] {
        if !(CERTIFICATE_LIFETIME_S_MIN..=CERTIFICATE_LIFETIME_S_MAX).contains(&life) {
            return Err((
                key,
                format!(
                    "must be between {CERTIFICATE_LIFETIME_S_MIN} and {CERTIFICATE_LIFETIME_S_MAX}"
                ),
            ));
        }
    }
    if config.retention.audit_days == 0 || config.retention.history_days == 0 {
        return Err((
            "retention.audit_days",
            "and history_days must be at least 1".into(),
        ));
    }
    crate::daemon::log::filter(&config.log.level).map_err(|problem| ("log.level", problem))?;
    Ok(())
}

fn check_raft(config: &Config) -> Result<(), (&'static str, String)> {
    let raft = &config.raft;
    match (
        raft.heartbeat_ms,
        raft.election_min_ms,
        raft.election_max_ms,
    ) {
        (None, None, None) => {}
        (Some(beat), Some(min), Some(max)) => {
            if beat < 10 {
                return Err(("raft.heartbeat_ms", "must be at least 10".into()));
            }
            if min < beat.saturating_mul(2) {
                return Err((
                    "raft.election_min_ms",
                    "must be at least two heartbeats".into(),
                ));
            }
            if max <= min {
                return Err((
                    "raft.election_max_ms",
                    "must be larger than election_min_ms".into(),
                ));
            }
        }
        _ => {
            return Err((
                "raft.heartbeat_ms",
                "give heartbeat_ms, election_min_ms and election_max_ms together, or none and they are measured".into(),
            ));
        }
    }
    if raft.snapshot_entries.is_some_and(|n| n < 10) {
        return Err(("raft.snapshot_entries", "must be at least 10".into()));
    }
    Ok(())
}

fn is_host_port(text: &str) -> bool {
    let port = text
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    matches!(port, Some((host, Ok(1..))) if !host.is_empty() && !host.contains('/'))
}

fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    ConfigError::Wrong {
        place: Place::File {
            path: path.to_owned(),
            line: Some(line_number(text, at)),
            key: String::new(),
        },
        problem: one_line(error.message()),
    }
}

fn line_number(text: &str, at: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(at)
        .filter(|b| **b == b'\n')
        .count()
        + 1
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The section and key of each line, as far as a line has one.
fn keys_by_line(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    let mut section = String::new();
    text.lines().enumerate().filter_map(move |(at, line)| {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            section = name.trim().to_owned();
            return Some((at + 1, section.clone()));
        }
        let (key, _) = line.split_once('=')?;
        let key = key.trim();
        if key.is_empty() || key.starts_with('#') {
            return None;
        }
        Some((
            at + 1,
            if section.is_empty() {
                key.to_owned()
            } else {
                format!("{section}.{key}")
            },
        ))
    })
}

/// The key on the line that holds byte `at`.
fn key_at(text: &str, at: usize) -> String {
    let line = line_number(text, at);
    keys_by_line(text)
        .find(|(number, _)| *number == line)
        .map(|(_, key)| key)
        .unwrap_or_default()
}

fn place_of(path: &Path, text: &str, key: &str) -> Place {
    let line = keys_by_line(text)
        .find(|(_, found)| found == key)
        .map(|(line, _)| line);
    let variable = KEYS
        .iter()
        .find(|(section, name, _)| {
            key == *name && section.is_empty() || key == format!("{section}.{name}")
        })
        .map(|(section, name, _)| variable_of(section, name));
    match (line, variable) {
        (_, Some(variable)) if std::env::var_os(&variable).is_some() => Place::Variable(variable),
        (line, _) => Place::File {
            path: path.to_owned(),
            line,
            key: key.to_owned(),
        },
    }
}

/// Section and name of every key.
#[cfg(test)]
pub(super) fn all_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().map(|(section, key, _)| (*section, *key))
}
