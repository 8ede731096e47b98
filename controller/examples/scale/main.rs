//! One group of controllers with 10,000 hosts and 200,000 VMs, measured in one process by the real code: the
//! state, the rules, the placer, the leader's table of hosts, the shadow.
//!
//! `cargo xtask bench scale` runs it in a release build; `--write` puts the table into `docs/BENCHMARKS.md`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod figures;
mod leader;
mod reads;
mod store;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;

use crate::figures::{Table, machine, ratio, resident, said_by, size, time};
use crate::store::Started;
use crate::world::{Size, World};

/// VMs that wait for a host when the lead changes: one pass of the placer.
const WAITING: usize = 256;

/// Measures one large group.
#[derive(Debug, Parser)]
struct Options {
    /// Hosts.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hosts: u32,
    /// Virtual machines.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    vms: u32,
    /// Puts the table into the marked section of `docs/BENCHMARKS.md`.
    #[arg(long)]
    write: bool,
    /// Starts from the shadow in this folder and tells what it took.
    #[arg(long, hide = true)]
    load: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.load {
        Some(dir) => store::load(dir),
        None => run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let size = Size {
        hosts: usize::try_from(options.hosts)?,
        vms: usize::try_from(options.vms)?,
    };
    let began = Instant::now();
    let mut table = Table::default();
    measure(size, &mut table)?;
    let section = format!(
        "{}, `{}`{}, {}{}; {} hosts, {} VMs, {} to run:\n\n{}",
        said_by("date", &["--utc", "+%Y-%m-%d"]),
        said_by("git", &["rev-parse", "--short", "HEAD"]),
        match said_by("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
            true => "",
            false => " with changes",
        },
        machine(),
        if cfg!(debug_assertions) {
            ", DEVELOPMENT BUILD"
        } else {
            ""
        },
        size.hosts,
        size.vms,
        time(began.elapsed()),
        table.markdown()
    );
    println!("{section}");
    if options.write {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/BENCHMARKS.md");
        figures::write(&file, &section)?;
    }
    Ok(())
}

fn measure(size: Size, table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut world = World::new(World::tenants_for(size.vms))?;
    let nothing = store::stored(&world.image, folder.path(), "nothing", None)?;
    world.add_hosts(size.hosts)?;
    let hosts = store::stored(&world.image, folder.path(), "hosts", None)?;
    world.add_vms(size.vms)?;
    world.check(size)?;
    let leader = resident()?;
    let busy = store::stored(&world.image, folder.path(), "busy", None)?;
    world.retire(Duration::from_secs(26 * 3600))?;
    for n in 0..WAITING {
        world.add_vm(size.vms + n)?;
    }
    let mut rows = Table::default();
    let state = store::rebuilt(&world.image, &mut rows)?;
    let quiet = store::stored(&world.image, folder.path(), "quiet", Some(&mut rows))?;
    memory(size, [nothing, hosts, busy, quiet], leader, table);
    changes(&world, table, leader::bare_pass(&state)?);
    leader::change(&state, world.now, table)?;
    leader::heartbeats(&world, &state, table)?;
    reads::measure(&world, &state, table)?;
    table.append(rows);
    Ok(())
}

fn memory(
    asked: Size,
    [nothing, hosts, busy, quiet]: [Started; 4],
    leader: u64,
    table: &mut Table,
) {
    let each = |one: &Started, other: &Started, count: usize| {
        one.state_bytes().saturating_sub(other.state_bytes()) / (count as u64).max(1)
    };
    table.add(
        "a host in the state, loaded",
        size(each(&hosts, &nothing, asked.hosts)),
        "",
        None,
    );
    let vm = each(&quiet, &hosts, asked.vms);
    table.add(
        "a running VM in the state, loaded",
        size(vm),
        "",
        Some(("4096 B", vm <= 4096)),
    );
    let with = each(&busy, &hosts, asked.vms);
    table.add(
        "the same with its operation and idempotency key, which are kept a day",
        size(with),
        "",
        None,
    );
    table.add(
        "a process that has loaded it, resident",
        size(quiet.resident),
        "",
        None,
    );
    table.add(
        "a process that has decided and applied it all, operations and keys included",
        size(leader),
        "",
        None,
    );
}

fn changes(world: &World, table: &mut Table, bare: Duration) {
    let took = &world.took;
    let create = took.create.percentile(50);
    let goal = Duration::from_micros(100);
    let bytes = format!("{} B in the log", took.bytes);
    table.add(
        "a creation applied, half / 99 of 100",
        took.create.both(),
        &bytes,
        Some((&time(goal), create <= goal)),
    );
    table.add("a creation decided", took.decide.both(), "", None);
    table.add("a creation's bytes read", took.decode.both(), "", None);
    table.add("a placement applied", took.place.both(), "", None);
    table.add(
        "a host's report of one VM applied",
        took.observe.both(),
        "",
        None,
    );
    let pass = took.pass.percentile(50);
    let beside = format!(
        "{} the bare pass over the hosts: {} times that",
        time(bare),
        ratio(pass, bare)
    );
    table.time(
        "a VM placed, in passes of 256",
        pass,
        &beside,
        Duration::from_micros(500),
    );
}
