//! What a person does with this workspace beside editing it: `cargo xtask demo`, `ci`, `fix`,
//! `bench`, `exhaust`, `fuzz`, `install-test`, `mutants`, `package`, `rig`, `setup`, `sim`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod ci;
mod demo;
mod exhaust;
mod fuzz;
mod install;
mod mutants;
mod package;
mod rig;
mod setup;
mod sim;
mod stages;

/// Builds, checks and shows VirtFlow.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Options),
    Ci(ci::Options),
    Bench(bench::Options),
    Exhaust(exhaust::Options),
    Fuzz(fuzz::Options),
    /// Formats the workspace and applies what clippy can mend by itself.
    ///
    /// The twin of `ci`: it changes source files, in the working tree, even if it has uncommitted
    /// changes.
    Fix,
    Rig(rig::Options),
    Sim(sim::Options),
    Package(package::Options),
    InstallTest(install::Options),
    Mutants(mutants::Options),
    /// Installs the Debian packages that building, the demo and the tests need.
    ///
    /// Runs `apt-get update` and `apt-get install --no-install-recommends` for those that are
    /// missing, with sudo unless it is root. None of them starts a service.
    Setup,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Ci(options) => ci::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Exhaust(options) => exhaust::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Fix => ci::fix(),
        Command::Rig(options) => rig::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Package(options) => package::run(&options),
        Command::InstallTest(options) => install::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Setup => setup::packages(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nfailed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
