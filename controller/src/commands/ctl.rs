//! `ctl`: speaks with the controller that runs on this machine.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigFile, print_json};
use crate::daemon::admin::{Request, ask};

/// Arguments of `ctl`.
#[derive(Debug, Args)]
pub struct Ctl {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// What the controller says of itself, without quorum or credentials.
    Status,
    /// Change the log level until the next start.
    LogLevel {
        /// `info`, `debug`, or directives such as `info,virtflow_raft=debug`.
        level: String,
    },
    /// Give the lead to another controller.
    HandOver,
}

pub(super) async fn command(ctl: Ctl) -> anyhow::Result<ExitCode> {
    let config = ctl.config.load()?;
    let request = match ctl.act {
        Act::Status => Request::Status,
        Act::LogLevel { level } => Request::LogLevel { level },
        Act::HandOver => Request::HandOver,
    };
    print_json(&ask(&config.folders().admin_socket(), &request).await?);
    Ok(ExitCode::SUCCESS)
}
