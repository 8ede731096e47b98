//! `virtflow-controller`.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Parser;
use virtflow_controller::commands::{self, Arguments, Command};

/// Threads that run tasks. More would cost memory that an idle controller should not take.
const WORKERS_MIN: usize = 2;
const WORKERS_MAX: usize = 4;
/// Arenas of the C allocator: by default eight a core, each of which keeps what it was given.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::Run { .. }) && std::env::var_os(ARENAS.0).is_none() {
        // The allocator reads it once, before main: begin again with it, as the same process.
        if let Ok(this) = std::env::current_exe() {
            let error = std::process::Command::new(this)
                .args(std::env::args_os().skip(1))
                .env(ARENAS.0, ARENAS.1)
                .exec();
            eprintln!("cannot set {}: {error}; going on without", ARENAS.0);
        }
    }
    let workers = std::thread::available_parallelism().map_or(WORKERS_MIN, |n| n.get());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.clamp(WORKERS_MIN, WORKERS_MAX))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("virtflow-controller: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("virtflow-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}
