//! `virtflow-controller`.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Parser;
use virtflow_controller::commands::{self, Arguments, Command};

/// Threads that run tasks. More would cost memory that an idle controller should not take.
const WORKERS_MIN: usize = 2;
const WORKERS_MAX: usize = 4;
/// How the C allocator is to behave. By default it has eight arenas a core, each of which keeps what it
/// was given; and once a large block was freed (a password hash takes 19 MiB) it keeps blocks of
/// that size too. A fixed threshold, in bytes, gives them back.
const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "262144"),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = ALLOCATOR
        .iter()
        .all(|(name, _)| std::env::var_os(name).is_some());
    if matches!(arguments.command, Command::Run { .. }) && !told {
        // The allocator reads it once, before main: begin again with it, as the same process.
        if let Ok(this) = std::env::current_exe() {
            let error = std::process::Command::new(this)
                .args(std::env::args_os().skip(1))
                .envs(ALLOCATOR)
                .exec();
            eprintln!("cannot set up the allocator: {error}; going on without");
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
