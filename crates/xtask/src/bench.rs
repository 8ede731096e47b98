//! `cargo xtask bench`: what the daemons weigh, and how much time they add to libvirt's own. Each
//! figure stands beside its goal and what it is compared with, measured in the same run.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use uuid::Uuid;
use virtflow_testkit::cloud::{AGENT, CONTROLLER, Cloud, Plan, TENANT};
use virtflow_testkit::command::{call, output_of, system};
use virtflow_testkit::rig::{Node, NodeSpec, lan};

use crate::setup;
use crate::stages::{cargo, show};

/// Measures release builds on real machines of the rig.
///
/// What it does to this machine is what `demo` does, with a release build in `target/release`; its
/// folder is removed at its end.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many virtual machines are created for the latency.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=200))]
    samples: u32,
    /// The release build is done: this is its program.
    #[arg(long, hide = true)]
    built: bool,
}

const FOLDER: &str = "/var/tmp/virtflow-bench";
const IMAGE_FOLDER: &str = "/var/tmp/virtflow-guest-image";

/// How long the daemons are left alone before they are weighed.
const IDLE: Duration = Duration::from_secs(10);
/// How long a started event may take.
const EVENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How many guests a host has when its agent is weighed for the second time.
const GUESTS: usize = 10;
/// How many virtual machines the state is filled with to see what one takes.
const FILL: usize = 2000;

/// The machine whose libvirtd nobody but this measurement talks to.
const RAW_HOST: &str = "h9";

pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.built {
        setup::packages()?;
        show(&mut cargo(&[
            "build",
            "--locked",
            "--release",
            "--workspace",
            "--bins",
        ]))?;
        let program = crate::stages::workspace().join("target/release/xtask");
        let samples = options.samples.to_string();
        let mut command = crate::stages::as_root(&program.to_string_lossy());
        command.args(["bench", "--built", "--samples", &samples]);
        return Err(command.exec()).context("starting the release build");
    }
    let mut cloud = Cloud::start(Path::new(FOLDER), Path::new(IMAGE_FOLDER), Plan::default())?;
    let mut table = Table::default();
    let result = measure(&mut cloud, options, &mut table);
    table.print();
    result?;
    cloud.end()?;
    fs::remove_dir_all(FOLDER)?;
    Ok(())
}

fn measure(cloud: &mut Cloud, options: &Options, table: &mut Table) -> Result<()> {
    println!("idle for {} s", IDLE.as_secs());
    std::thread::sleep(IDLE);
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

    latency(cloud, options.samples, table)?;

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

/// From the request's last byte sent to libvirt's started event, beside libvirt's own createXML of
/// the same domain on an idle machine, one after the other.
fn latency(cloud: &mut Cloud, samples: u32, table: &mut Table) -> Result<()> {
    cloud.place.rig.add(NodeSpec {
        name: RAW_HOST.to_owned(),
        address: lan::address(29),
        hypervisor: true,
    })?;
    let leader = cloud.leader()?;
    let follower = cloud.followers()?.remove(0);
    let events: Vec<Events> = cloud
        .place
        .hosts()
        .iter()
        .map(|name| Events::of(cloud.place.node(name)?))
        .collect::<Result<_>>()?;
    let raw = Raw::prepare(cloud)?;
    let mut ours: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut libvirts = Vec::new();
    for number in 0..samples {
        let (role, asked) = if number.is_multiple_of(2) {
            ("leader", &leader)
        } else {
            ("follower", &follower)
        };
        let ms = create_and_delete(cloud, asked, number, &events)?;
        let own = raw.create(cloud.place.node(RAW_HOST)?)?;
        println!("sample {number}: by the {role} {ms:.0} ms, libvirt's createXML {own:.0} ms");
        ours.entry(role).or_default().push(ms);
        libvirts.push(own);
    }
    let own = median(&mut libvirts);
    for (role, mut values) in ours {
        let ms = median(&mut values);
        // Sorted by now. The least is what a busy machine disturbs least.
        let least = (values[0], libvirts[0]);
        table.row(
            &format!("VM create by the {role}, to the started event, median"),
            &format!("{ms:.0} ms"),
            &format!(
                "libvirt's createXML {own:.0} ms, {:.2} x; least {:.0} and {:.0} ms",
                ms / own,
                least.0,
                least.1
            ),
            &format!("{:+.0} ms, goal +60 ms", ms - own),
            ms - own <= 60.0,
        );
    }
    Ok(())
}

fn create_and_delete(cloud: &Cloud, asked: &str, number: u32, events: &[Events]) -> Result<f64> {
    let name = format!("latency-{number}");
    for host in events {
        host.forget();
    }
    let trace = PathBuf::from(FOLDER).join("trace");
    let body = Cloud::create_vm_body(&name);
    let key = format!("Idempotency-Key: {}", Uuid::new_v4());
    let mut command =
        cloud
            .api
            .command(cloud.address(asked)?, "POST", "/vms", &[&key], Some(&body));
    command
        .env("TZ", "UTC")
        .args(["--trace-time", "--trace-ascii"])
        .arg(&trace);
    let printed = output_of(&mut command)?;
    ensure!(printed.trim_end().ends_with("202"), "{printed}");
    let sent = sent_at(&fs::read_to_string(&trace)?)?;
    let start = Instant::now();
    let started = loop {
        if let Some(at) = events.iter().find_map(Events::started) {
            break at;
        }
        ensure!(start.elapsed() < EVENT_TIMEOUT, "no started event: {name}");
    };
    cloud
        .operator
        .json(&["vm", "delete", &name, "--tenant", TENANT, "--wait"])?;
    Ok(span_ms(sent, started))
}

/// The time of day, in ms, at which curl sent the request's body.
fn sent_at(trace: &str) -> Result<f64> {
    let line = trace
        .lines()
        .rfind(|line| line.contains("=> Send data"))
        .context("curl's trace has no `=> Send data`")?;
    time_of_day_ms(line.split_whitespace().next().unwrap_or_default())
}

/// `HH:MM:SS.fff...` as ms since midnight.
fn time_of_day_ms(clock: &str) -> Result<f64> {
    let parts: Vec<f64> = clock
        .split(':')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("`{clock}` is no time of day"))?;
    match parts[..] {
        [hours, minutes, seconds] => Ok(((hours * 60.0 + minutes) * 60.0 + seconds) * 1000.0),
        _ => bail!("`{clock}` is no time of day"),
    }
}

/// From one time of day to a later one, over midnight too.
fn span_ms(from: f64, to: f64) -> f64 {
    const DAY_MS: f64 = 24.0 * 60.0 * 60.0 * 1000.0;
    (to - from).rem_euclid(DAY_MS)
}

/// The lifecycle events of a host's libvirtd, with its own connection.
#[derive(Debug)]
struct Events {
    child: Child,
    lines: Receiver<String>,
}

impl Events {
    fn of(node: &Node) -> Result<Self> {
        let mut child = system("virsh")
            .args(["--connect", &node.libvirt_uri(), "event", "--loop"])
            .args(["--event", "lifecycle", "--timestamp"])
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting `virsh event`")?;
        let output = child.stdout.take().context("virsh has no output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn forget(&self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// The time of day of a started event, if one comes soon.
    fn started(&self) -> Option<f64> {
        match self.lines.recv_timeout(Duration::from_millis(20)) {
            // 2026-01-01 12:00:00.123+0000: event 'lifecycle' for domain 'x': Started Booted
            Ok(line) if line.contains("Started") => line
                .split_whitespace()
                .nth(1)
                .and_then(|clock| clock.split('+').next())
                .and_then(|clock| time_of_day_ms(clock).ok()),
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A domain like those that the agent makes, for libvirt alone.
#[derive(Debug)]
struct Raw {
    xml: PathBuf,
}

impl Raw {
    fn prepare(cloud: &Cloud) -> Result<Self> {
        let id = cloud.create_vm("pattern")?;
        let leader = cloud.leader()?;
        cloud.wait_phase(cloud.address(&leader)?, &id, "running")?;
        let mut pattern = None;
        for name in cloud.place.hosts() {
            let node = cloud.place.node(&name)?;
            if let Ok(xml) = node.virsh(&["dumpxml", "--inactive", &id]) {
                pattern = Some(xml);
            }
        }
        let pattern = pattern.context("no host has the pattern VM's domain")?;
        let raw_host = cloud.place.node(RAW_HOST)?;
        // The files that it names, as the agent makes them.
        for path in attributes(&pattern, "file").chain(attributes(&pattern, "path")) {
            if path.contains(&id) {
                let folder = Path::new(path).parent().context("a file at the root")?;
                raw_host.call("mkdir", &["-p", &folder.to_string_lossy()])?;
                raw_host.call("truncate", &["--size", "1G", path])?;
            }
        }
        let xml = raw_host.directory().join("raw.xml");
        fs::write(&xml, pattern)?;
        cloud
            .operator
            .json(&["vm", "delete", "pattern", "--tenant", TENANT, "--wait"])?;
        let raw = Self { xml };
        // The first one finds libvirt's caches empty.
        raw.create(raw_host)?;
        Ok(raw)
    }

    /// How long createXML takes on an open connection, in ms.
    fn create(&self, node: &Node) -> Result<f64> {
        let script = format!("version; create {}", self.xml.display());
        let printed = output_of(system("virsh").args([
            "--connect",
            &node.libvirt_uri(),
            "--timing",
            &script,
        ]))?;
        let ids = node.virsh(&["list", "--uuid"])?;
        for id in ids.split_whitespace() {
            node.virsh(&["destroy", id])?;
        }
        // (Time: 412.345 ms), one for each command.
        let time = printed
            .rsplit("(Time: ")
            .next()
            .and_then(|rest| rest.split_whitespace().next())
            .with_context(|| format!("virsh told no time: {printed}"))?;
        time.parse()
            .with_context(|| format!("virsh told `{time}` as the time"))
    }
}

/// The values of an attribute wherever it is in an XML text.
fn attributes<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let mark = format!(" {name}='");
    xml.match_indices(&mark)
        .map(|(at, found)| at + found.len())
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|start| xml[start..].split('\'').next())
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
            "next\nsilent\noutput = /dev/null\nrequest = POST\ncacert = {ca}\nheader = @{folder}/authorization\nheader = \"Content-Type: application/json\"\ndata = \"{{\\\"name\\\":\\\"many-{number}\\\",\\\"tenant\\\":\\\"many\\\",\\\"spec\\\":{{\\\"specification\\\":\\\"small\\\",\\\"power\\\":\\\"stopped\\\"}}}}\"\nurl = https://{address}:8443/api/v1/vms\n",
            ca = cloud.api.ca().display(),
            folder = cloud.api.ca().parent().unwrap_or(Path::new("/")).display(),
        ));
    }
    let config = PathBuf::from(FOLDER).join("many.curl");
    fs::write(&config, bodies.trim_start_matches("next\n"))?;
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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    }
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
    fn times_of_day_are_subtracted_over_midnight() {
        assert!((time_of_day_ms("01:00:00.250").unwrap() - 3_600_250.0).abs() < 1e-6);
        let late = time_of_day_ms("23:59:59.900").unwrap();
        let early = time_of_day_ms("00:00:00.100").unwrap();
        assert!((span_ms(late, early) - 200.0).abs() < 1e-6);
        assert!(time_of_day_ms("noon").is_err());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn attributes_are_found() {
        let xml = "<source file='/a/b'/><x path='/c'/><source file='/d'/>";
        assert_eq!(attributes(xml, "file").collect::<Vec<_>>(), ["/a/b", "/d"]);
    }
}
