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
#[cfg(test)]
mod inputs;
mod interrupt;
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
use std::io::{self, Write};
use std::process::ExitCode;

use crate::failure::{Failure, exit};
use crate::output::Output;
use crate::run::Run;

/// Longest line of what the grammar says of a command line, in characters.
const GRAMMAR_LINE_MAX: usize = 400;

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
    interrupt::listen();
    let ending = carry_out(arguments);
    interrupt::before_the_end();
    ExitCode::from(ending.tell())
}

/// How a command line ended.
#[derive(Debug)]
enum Ending {
    Done,
    /// Its grammar is wrong, or asked for help.
    Grammar(clap::Error),
    Failed(Output, Failure),
}

impl Ending {
    /// Says what is left to say, and gives the exit code.
    fn tell(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Grammar(error) if error.use_stderr() => {
                // Nobody is left to be told if standard error is gone.
                let _ = said(&error);
                exit::USAGE
            }
            Self::Grammar(error) => match said(&error) {
                // Help that nobody reads any more is no failure.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    let failure =
                        Failure::local(format!("cannot write to standard output: {error}"));
                    let output = Output::PLAIN;
                    output.failure(&failure);
                    failure.exit
                }
                _ => 0,
            },
            Self::Failed(output, failure) => {
                output.failure(&failure);
                failure.exit
            }
        }
    }
}

/// Prints what the grammar has to say. It repeats what was typed: that is shown, not obeyed, and not at length.
fn said(error: &clap::Error) -> io::Result<()> {
    let text = error.render().to_string();
    let shown = safe::block(&safe::short(&text, GRAMMAR_LINE_MAX));
    if shown == text {
        error.print()?;
        return io::stdout().flush();
    }
    write!(io::stderr(), "{shown}")
}

fn carry_out(arguments: Vec<OsString>) -> Ending {
    let matches = match grammar::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return Ending::Grammar(error),
    };
    let globals = match grammar::globals(&matches) {
        Ok(globals) => globals,
        Err(error) => return Ending::Grammar(error),
    };
    let output = Output {
        format: globals.output,
    };
    interrupt::tells(output);
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
        Ok(()) => Ending::Done,
        Err(failure) => Ending::Failed(output, failure),
    }
}

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
