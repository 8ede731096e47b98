//! `virtflow-controller`.

use std::process::ExitCode;

use clap::Parser;
use tikv_jemallocator::Jemalloc;
use virtflow_controller::commands::{self, Arguments};

/// Threads that run tasks. More would cost memory that an idle controller should not take.
const WORKERS_MIN: usize = 2;
const WORKERS_MAX: usize = 4;
/// For SQLite, too: the feature puts it in the place of the C library's. That one consolidates a heap of
/// gigabytes while every thread waits, and has two arenas at most if an idle controller is to be small.
#[global_allocator]
static MEMORY: Jemalloc = Jemalloc;

/// How the allocator behaves, by the names of its manual page: few arenas for few threads, and what was
/// freed goes back to the system a second later, also while nothing is allocated.
#[expect(
    unsafe_code,
    reason = "this is the name under which the allocator looks for its settings"
)]
#[unsafe(export_name = "malloc_conf")]
static SETTINGS: &[u8; 70] =
    b"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true\0";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
