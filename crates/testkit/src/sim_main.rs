//! The command line of the simulator.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use crate::sim::{Faults, Options, Report, run};

/// Runs seeds of the simulation, one after the other, and says which broke a promise.
#[derive(Debug, Parser)]
#[command(name = "virtflow-sim")]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Controllers: 3 to 5. Absent: by the seed.
    #[arg(long)]
    controllers: Option<usize>,
    /// Hosts. Absent: by the seed.
    #[arg(long)]
    hosts: Option<usize>,
    /// Clients. Absent: in proportion to the hosts.
    #[arg(long)]
    clients: Option<usize>,
    /// Virtual seconds of work and faults.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Nothing breaks.
    #[arg(long)]
    calm: bool,
    /// Each seed twice; the traces must be equal.
    #[arg(long)]
    twice: bool,
    /// Writes the trace of the (last) run there.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// A folder for files that go with the run.
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Arguments {
    fn options(&self, seed: u64) -> Options {
        let folder = self.folder.clone().unwrap_or_else(|| {
            // Flushes cost nothing there.
            let memory = PathBuf::from("/dev/shm");
            let base = if memory.is_dir() {
                memory
            } else {
                std::env::temp_dir()
            };
            base.join(format!("virtflow-sim-{}", std::process::id()))
        });
        let hosts = self.hosts.unwrap_or_else(|| hosts_of(seed));
        Options {
            seed,
            controllers: self
                .controllers
                .unwrap_or(if seed.is_multiple_of(3) { 5 } else { 3 }),
            hosts,
            clients: self.clients.unwrap_or(4 + hosts.saturating_sub(7) / 5),
            storm: Duration::from_secs(self.seconds),
            faults: if self.calm { Faults::None } else { Faults::All },
            trace: self.trace.clone(),
            folder,
        }
    }
}

/// Most clouds of a run are small; every eighth has dozens of hosts.
fn hosts_of(seed: u64) -> usize {
    let hosts = match seed % 8 {
        5 => 20 + seed / 8 % 21,
        _ => 3 + seed % 5,
    };
    usize::try_from(hosts).unwrap_or(3)
}

fn show(seed: u64, report: &Report, took: Duration) {
    let [answered, refused, unknown, not_sent] = report.requests;
    println!(
        "seed {seed}: {} · {} hosts, {} entries, {} elections, requests {answered} answered {refused} refused {unknown} unknown {not_sent} not sent · \
         pause {:.2} s, recovery {:.1} s · {:.0} s virtual in {:.1} s · {} lines, {} packets, {}",
        if report.violations.is_empty() {
            "ok"
        } else {
            "BROKEN"
        },
        report.hosts,
        report.entries,
        report.elections,
        report.longest_pause.as_secs_f64(),
        report.recovery.as_secs_f64(),
        report.virtual_time.as_secs_f64(),
        took.as_secs_f64(),
        report.trace.lines,
        report.trace.packets,
        report.trace.hash,
    );
    for violation in &report.violations {
        println!("    {violation}");
    }
}

/// Runs what the arguments say. The exit code is 1 if a promise was broken or two traces differ.
pub fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut broken = Vec::new();
    for seed in arguments.seed..arguments.seed + arguments.runs {
        let options = arguments.options(seed);
        let began = Instant::now();
        let report = run(&options).with_context(|| format!("seed {seed}"))?;
        show(seed, &report, began.elapsed());
        let mut is_broken = !report.violations.is_empty();
        if is_broken {
            println!("    the trace ends with");
            for line in &report.trace.tail {
                println!("      {line}");
            }
        }
        if arguments.twice {
            let again = run(&Options {
                trace: options
                    .trace
                    .as_ref()
                    .map(|path| path.with_added_extension("again")),
                ..options.clone()
            })?;
            if again.trace.hash != report.trace.hash {
                println!("    the second run differs: {}", again.trace.hash);
                is_broken = true;
            }
        }
        if is_broken {
            broken.push(seed);
            println!(
                "    again: cargo xtask sim --seed {seed} --seconds {}",
                arguments.seconds
            );
        }
        drop(std::fs::remove_dir_all(&options.folder));
    }
    println!(
        "{} seeds, {} broken{}",
        arguments.runs,
        broken.len(),
        if broken.is_empty() {
            String::new()
        } else {
            format!(": {broken:?}")
        }
    );
    Ok(if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
