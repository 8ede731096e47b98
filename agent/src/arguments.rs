//! The command line, as it is parsed and as its manual is made.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use virtflow_pki::CaFingerprint;

use crate::config::FILE_DEFAULT;

/// Where the join token is looked for.
pub const TOKEN_VARIABLE: &str = "VIRTFLOW_JOIN_TOKEN";

/// Runs VirtFlow's virtual machines on this host.
#[derive(Debug, Parser)]
#[command(name = "virtflow-agent", version)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, default_value = FILE_DEFAULT)]
    pub config: PathBuf,
    /// Only check the configuration: the same as the command `check-config`.
    #[arg(long)]
    pub check_config: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent (this is what the systemd unit does).
    Run,
    /// Join a cluster with a one-time token.
    ///
    /// The token is read from --token-file, else from the environment variable VIRTFLOW_JOIN_TOKEN,
    /// else from standard input; it is never given on the command line, which anybody can read.
    Join {
        /// The API address of a controller, https://host:port; several may be given.
        #[arg(long, required = true)]
        controller: Vec<String>,
        /// SHA-256 fingerprint of the cluster's CA, in hexadecimal.
        #[arg(long, value_name = "HEX")]
        ca_fingerprint: CaFingerprint,
        /// File that holds the token.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Say in plain words what this host lacks and how to mend it.
    ///
    /// Ends with 1 if the agent could not do its work.
    Check,
    /// Check the configuration and say what is wrong with it.
    CheckConfig,
}
