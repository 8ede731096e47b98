//! The command line of a VirtFlow cluster.
//!
//! `grammar` is what may be written, made for all kinds from the survey in `nouns`; `generic` carries
//! out what is the same for all kinds, `special` what only some have, `cluster` and `account` what is
//! about no kind. No rule of the cloud is here: what is refused, the controllers refuse.
//!
//! Standard output carries data and nothing else; progress, remarks and errors go to standard error.
//! Secrets come from files, prompts or the environment, never from arguments.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod account;
mod amount;
mod apply;
mod audit;
mod bulk;
mod cluster;
mod columns;
mod config;
mod confirm;
mod contexts;
mod diff;
mod doctor;
mod edit;
mod explain;
mod failure;
#[cfg(test)]
mod fuzz;
mod generic;
mod grammar;
mod names;
mod noun;
mod nouns;
mod output;
mod past;
mod run;
mod safe;
mod schema;
mod secret;
mod spec;
mod special;
mod support;
mod table;
mod upgrade;
mod wait;
mod watch;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::failure::{Failure, exit};
use crate::output::Output;
use crate::run::Run;

/// The grammar of the command line, for manuals and completions.
#[must_use]
pub fn command() -> clap::Command {
    grammar::command()
}

/// Carries out one command line, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match names::complete(&arguments) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        // A shell shows what a completion says: nothing.
        Err(_) => return ExitCode::FAILURE,
    }
    let matches = match grammar::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help that nobody reads any more is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let globals = match grammar::globals(&matches) {
        Ok(globals) => globals,
        Err(error) => error.exit(),
    };
    let output = Output {
        format: globals.output,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(Run::new(output, globals.context).carry_out(&matches));
            // A prompt or a read that still waits must not keep the process.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Failure::local(format!("cannot start: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
