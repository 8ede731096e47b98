//! `cargo xtask bench`: what the daemons weigh, and how much time they add to libvirt's own. Each
//! figure stands beside its goal and what it is compared with, measured in the same run.

mod api;
mod beats;
mod creation;
mod scale;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use virtflow_testkit::cloud::{AGENT, CONTROLLER, Cloud, Plan};
use virtflow_testkit::command::{call, output_of};
use virtflow_testkit::rig::Node;

use self::beats::Beats;
use crate::setup;
use crate::stages::{cargo, show};

/// Measures release builds on real machines of the rig.
///
/// What it does to this machine is what `demo` does, with a release build in `target/release`; its
/// folder is removed at its end.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    other: Option<Other>,
    /// How many virtual machines are created for the latency.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=200))]
    samples: u32,
    /// Measures creations only; the daemons log each phase of them, and their logs stay.
    #[arg(long)]
    phases: bool,
    /// The release build is done: this is its program.
    #[arg(long, hide = true)]
    built: bool,
}

#[derive(Debug, Subcommand)]
enum Other {
    Scale(scale::Options),
    Api(api::Options),
}

const FOLDER: &str = "/var/tmp/virtflow-bench";
const IMAGE_FOLDER: &str = "/var/tmp/virtflow-guest-image";

/// How long the daemons are left alone before they are weighed.
const IDLE: Duration = Duration::from_secs(10);
/// How many guests a host has when its agent is weighed for the second time.
const GUESTS: usize = 10;
/// How many virtual machines the state is filled with to see what one takes.
const FILL: usize = 2000;

pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.other {
        Some(Other::Scale(options)) => return scale::run(options),
        Some(Other::Api(options)) if options.built => return api::run(options),
        Some(Other::Api(options)) => {
            let mut arguments = vec!["api".to_owned(), "--built".to_owned()];
            arguments.extend(options.arguments());
            return released(&arguments);
        }
        None => {}
    }
    if !options.built {
        let mut arguments = vec!["--built".to_owned()];
        arguments.extend(["--samples".to_owned(), options.samples.to_string()]);
        if options.phases {
            arguments.push("--phases".to_owned());
        }
        return released(&arguments);
    }
    let mut plan = Plan::default();
    plan.environment.insert(
        "VIRTFLOW_CONTROLLER_HOSTS_HEARTBEAT_MS".to_owned(),
        beats::INTERVAL_MS.to_string(),
    );
    if options.phases {
        for daemon in ["CONTROLLER", "AGENT"] {
            let level = "info,virtflow::phase=debug".to_owned();
            let variable = format!("VIRTFLOW_{daemon}_LOG_LEVEL");
            plan.environment.insert(variable, level);
        }
    }
    let mut cloud = Cloud::start(Path::new(FOLDER), Path::new(IMAGE_FOLDER), plan)?;
    let mut table = Table::default();
    let result = if options.phases {
        creation::measure(&mut cloud, options.samples, &mut table).and_then(|()| keep_logs(&cloud))
    } else {
        measure(&mut cloud, options, &mut table)
    };
    table.print();
    result?;
    cloud.end()?;
    if !options.phases {
        fs::remove_dir_all(FOLDER)?;
    }
    Ok(())
}

/// Goes on as the release build of this program, with these arguments after `bench`.
fn released(arguments: &[String]) -> Result<()> {
    setup::packages()?;
    show(&mut cargo(&[
        "build",
        "--locked",
        "--release",
        "--workspace",
        "--bins",
    ]))?;
    let program = crate::stages::workspace().join("target/release/xtask");
    let mut command = crate::stages::as_root(&program.to_string_lossy());
    command.arg("bench").args(arguments);
    Err(command.exec()).context("starting the release build")
}

/// The machines' folders go with them; the logs are for who looks for lost time.
fn keep_logs(cloud: &Cloud) -> Result<()> {
    let folder = Path::new(FOLDER);
    for name in cloud.place.controllers().iter().chain(&cloud.place.hosts()) {
        fs::copy(cloud.place.log(name)?, folder.join(format!("{name}.log")))?;
    }
    println!("logs: {FOLDER}/*.log");
    Ok(())
}

fn measure(cloud: &mut Cloud, options: &Options, table: &mut Table) -> Result<()> {
    println!("idle for {} s", IDLE.as_secs());
    let idle = Beats::begin(cloud)?;
    std::thread::sleep(IDLE);
    idle.end(cloud, "idle", table)?;
    table.add("agent, resident, no guest", agent_mib(cloud)?, "MiB", 20.0);
    let leader = cloud.leader()?;
    for name in cloud.place.controllers() {
        let role = if name == leader { "leader" } else { "follower" };
        let mib = resident_mib(cloud.place.node(&name)?, CONTROLLER)?;
        table.add(
            &format!("controller, resident, idle {role}"),
            mib,
            "MiB",
            60.0,
        );
    }

    let creating = Beats::begin(cloud)?;
    creation::measure(cloud, options.samples, table)?;
    creating.end(cloud, "VMs created one by one", table)?;

    println!("{GUESTS} guests on two hosts");
    for number in 0..GUESTS {
        cloud.create_vm(&format!("guest-{number}"))?;
    }
    std::thread::sleep(IDLE);
    table.add(
        &format!("agent, resident, {GUESTS} guests on both hosts"),
        agent_mib(cloud)?,
        "MiB",
        20.0,
    );
    per_vm(cloud, table)
}

/// The heavier of the two agents.
fn agent_mib(cloud: &Cloud) -> Result<f64> {
    let mut most = 0.0_f64;
    for name in cloud.place.hosts() {
        most = most.max(resident_mib(cloud.place.node(&name)?, AGENT)?);
    }
    Ok(most)
}

fn resident_mib(node: &Node, service: &str) -> Result<f64> {
    let pid = node.service_process(service)?.pid;
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("{path} has no VmRSS"))?
        .parse()?;
    Ok(kib / 1024.0)
}

/// What a stopped VM takes in the leader's memory, everything included, and in its row.
fn per_vm(cloud: &Cloud, table: &mut Table) -> Result<()> {
    println!("filling the state with {FILL} VMs");
    for arguments in [
        &["tenant", "create", "many"][..],
        &[
            "quota",
            "create",
            "--group",
            "general",
            "--tenant",
            "many",
            "--cpu-percent",
            "100",
            "--memory",
            "1024GiB",
            "--storage",
            "10240GiB",
        ],
    ] {
        // Without limits of its own; the hosts have no room for them all, so they stay pending.
        cloud.operator.json(arguments)?;
    }
    let leader = cloud.leader()?;
    let address = cloud.address(&leader)?;
    let node = cloud.place.node(&leader)?;
    let before = resident_mib(node, CONTROLLER)?;
    let mut bodies = String::new();
    for number in 0..FILL {
        bodies.push_str(&format!(
            "next\nsilent\noutput = /dev/null\nrequest = POST\ncacert = {ca}\nheader = @{credential}\nheader = \"Content-Type: application/json\"\ndata = \"{{\\\"name\\\":\\\"many-{number}\\\",\\\"tenant\\\":\\\"many\\\",\\\"spec\\\":{{\\\"specification\\\":\\\"small\\\",\\\"power\\\":\\\"stopped\\\"}}}}\"\nurl = https://{address}:8443/api/v1/vms\n",
            ca = cloud.api.ca().display(),
            credential = cloud.api.credential().display(),
        ));
    }
    let config = PathBuf::from(FOLDER).join("many.curl");
    fs::write(&config, bodies.trim_start_matches("next\n"))?;
    let filling = Beats::begin(cloud)?;
    let start = Instant::now();
    let mut command = Command::new("nsenter");
    command
        .args([
            "--target",
            &cloud.place.rig.lan().init_pid().to_string(),
            "--net",
            "--",
        ])
        .args(["curl", "--config"])
        .arg(&config);
    output_of(&mut command)?;
    let took = start.elapsed();
    filling.end(cloud, "VMs created without a pause", table)?;
    let copy = cloud.place.copy_of_shadow(&leader)?;
    let rows = call(
        "sqlite3",
        [
            copy.to_string_lossy().as_ref(),
            "SELECT count(*) || ' ' || avg(length(name)+length(spec)+length(status)+length(footprint)) FROM object WHERE kind='virtual_machine' AND name LIKE 'many-%'",
        ],
    )?;
    let (count, bytes) = rows
        .trim()
        .split_once(' ')
        .context("sqlite3 told nothing")?;
    let count: f64 = count.parse()?;
    ensure!(count > 0.0, "no VM was made");
    let after = resident_mib(node, CONTROLLER)?;
    table.row(
        "bytes of a VM's row",
        &format!("{:.0} B", bytes.parse::<f64>()?),
        "-",
        "goal 4096 B",
        bytes.parse::<f64>()? <= 4096.0,
    );
    let each = (after - before) * 1024.0 * 1024.0 / count;
    table.row(
        "leader, resident, per VM (with its operation, audit, caches)",
        &format!("{each:.0} B"),
        &format!("{count:.0} VMs, {before:.0} -> {after:.0} MiB"),
        "goal of the state alone 4096 B",
        each <= 4096.0,
    );
    table.row(
        "creates accepted, one client",
        &format!("{:.0}/s", count / took.as_secs_f64()),
        "-",
        "-",
        true,
    );
    Ok(())
}

/// The least value that so many percent of all do not exceed.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values[rank - 1]
}

#[derive(Debug, Default)]
struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    /// A figure that is to be at most `goal`.
    fn add(&mut self, what: &str, value: f64, unit: &str, goal: f64) {
        self.row(
            what,
            &format!("{value:.1} {unit}"),
            &format!("{:.2} x the goal", value / goal),
            &format!("goal {goal:.0} {unit}"),
            value <= goal,
        );
    }

    fn row(&mut self, what: &str, value: &str, beside: &str, goal: &str, met: bool) {
        let met = if met { "met" } else { "MISSED" };
        self.rows
            .push([what, value, beside, goal, met].map(str::to_owned));
    }

    fn print(&self) {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..5).map(width).collect();
        println!();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            println!("   {}", cells.join("   ").trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 50), 2.0);
        assert_eq!(percentile(&mut [4.0, 1.0, 2.0, 3.0], 50), 2.0);
        let mut ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(percentile(&mut ten, 90), 9.0);
        assert_eq!(percentile(&mut ten, 100), 10.0);
        assert_eq!(percentile(&mut [7.0], 90), 7.0);
    }
}
