//! Log lines on standard error, with a level that changes at run time.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt as lines, reload};

use crate::config::{Log, LogFormat};

/// What libraries say is for those who debug them: less of it unless the directives name them.
const QUIET: &[&str] = &[
    "openraft=warn",
    "chunked_wal=error",
    "raft_log=warn",
    "h2=warn",
    "hyper=warn",
];

/// Reads a level (`debug`) or directives (`info,virtflow_raft=trace`).
pub fn filter(directives: &str) -> Result<EnvFilter, String> {
    if directives.trim().is_empty() {
        return Err("must not be empty; write `info`".into());
    }
    let mut all = directives.to_owned();
    for quiet in QUIET {
        let (target, _) = quiet.split_once('=').unwrap_or((quiet, ""));
        if !directives
            .split(',')
            .any(|directive| directive.trim().starts_with(target))
        {
            all.push(',');
            all.push_str(quiet);
        }
    }
    EnvFilter::builder()
        .parse(&all)
        .map_err(|error| format!("`{directives}`: {error}"))
}

/// Changes the level of a running process.
pub struct LogControl {
    reload: reload::Handle<EnvFilter, Registry>,
    directives: Mutex<String>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl")
            .field("directives", &self.directives)
            .finish_non_exhaustive()
    }
}

impl LogControl {
    /// The directives in force.
    pub fn directives(&self) -> String {
        self.directives
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes other directives into force, or says what is wrong with them.
    pub fn set(&self, directives: &str) -> Result<(), String> {
        let filter = filter(directives)?;
        self.reload
            .reload(filter)
            .map_err(|error| format!("cannot change the level: {error}"))?;
        directives.clone_into(
            &mut self
                .directives
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        tracing::info!(directives, "log level changed");
        Ok(())
    }
}

/// Starts logging. Once a process.
pub fn start(log: &Log) -> anyhow::Result<LogControl> {
    let filter = filter(&log.level).map_err(anyhow::Error::msg)?;
    let (filter, reload) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => registry
            .with(lines::layer().with_writer(std::io::stderr).with_ansi(false))
            .try_init()?,
        LogFormat::Json => registry
            .with(lines::layer().json().with_writer(std::io::stderr))
            .try_init()?,
    }
    Ok(LogControl {
        reload,
        directives: Mutex::new(log.level.clone()),
    })
}
