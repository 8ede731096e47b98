//! The command line.

mod backup;
mod ctl;
mod init;
mod join;
mod owner;
mod recover;
mod restore;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::config::{Config, DEFAULT_PATH};
use crate::daemon::{self, Ended};

pub use init::{Init, Initialized, found, initialize, lay_out};
pub use join::{Join, admitted, enter};
pub use recover::go_on_alone;
pub use restore::bring_back;

/// Exit code of a controller that must not go on: a supervisor that restarts it at once would not help.
const EXIT_FATAL: u8 = 70;

/// The controller of a VirtFlow cloud.
#[derive(Debug, Parser)]
#[command(name = "virtflow-controller", version, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config)?)
    }
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new cluster: its id, its CA, its seal key, its first administrator, its first controller.
    Init(Init),
    /// Join a cluster with a one-time token, from VIRTFLOW_JOIN_TOKEN, a file or standard input.
    Join(Join),
    /// Run the controller.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Only check the configuration.
        #[arg(long)]
        check_config: bool,
    },
    /// Check a configuration file without starting anything.
    CheckConfig(ConfigFile),
    /// Make a backup into a new folder, while the controller runs.
    Backup(backup::Backup),
    /// Begin a new life of the cluster from a backup, in an empty data folder.
    Restore(restore::Restore),
    /// Begin a new life of the cluster with this controller alone, after a majority was lost for good.
    Recover(recover::Recover),
    /// Derive all ledgers and indexes from the stored rows alone and compare.
    Verify(verify::Verify),
    /// Speak with the controller that runs here.
    Ctl(ctl::Ctl),
}

/// Does what was asked.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Init(init) => init::command(init).await,
        Command::Join(join) => join::command(join).await,
        Command::Run {
            config,
            check_config: false,
        } => serve(config).await,
        Command::Run { config, .. } | Command::CheckConfig(config) => {
            config.load()?;
            println!("{}: good", config.config.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Backup(backup) => backup::command(backup).await,
        Command::Restore(restore) => restore::command(restore).await,
        Command::Recover(recover) => recover::command(recover).await,
        Command::Verify(verify) => verify::command(verify).await,
        Command::Ctl(ctl) => ctl::command(ctl).await,
    }
}

async fn serve(file: ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let log = Arc::new(daemon::log::start(&config.log)?);
    match daemon::run(config, file.config, log).await? {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        Ended::Fatal(reason) => {
            eprintln!("virtflow-controller: {reason}");
            Ok(ExitCode::from(EXIT_FATAL))
        }
        Ended::NoRoom(reason) => {
            eprintln!("virtflow-controller: {reason}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

fn print_json(value: &Value) {
    println!("{value:#}");
}
