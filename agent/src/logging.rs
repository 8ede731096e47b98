//! The log: to standard error, for people or as JSON; its level changes while the agent runs.

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// Changes the level of the log.
#[derive(Debug, Clone)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
}

/// A level that can't be set.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// It makes no sense.
    #[error("`{0}` is no log level")]
    Parse(String, #[source] ParseError),
    /// The log is gone.
    #[error("the log can't be changed any more")]
    Gone(#[source] reload::Error),
}

fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    level
        .parse()
        .map_err(|error| LevelError::Parse(level.to_owned(), error))
}

/// Starts the log of this process.
///
/// # Errors
/// If the level makes no sense.
pub fn start(config: &LogConfig) -> Result<LogLevel, LevelError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let output = fmt::layer().with_writer(std::io::stderr);
    // A log that was started already (by a test, say) stays as it is.
    let _ = match config.format {
        LogFormat::Text => registry.with(output.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(output.json()).try_init(),
    };
    Ok(LogLevel { handle })
}

impl LogLevel {
    /// Sets the level.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn set(&self, level: &str) -> Result<(), LevelError> {
        self.handle.reload(filter(level)?).map_err(LevelError::Gone)
    }
}
