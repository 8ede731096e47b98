//! `virtflow`: the command line of a VirtFlow cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    virtflow_cli::main(std::env::args_os())
}
