//! From the last byte of a request to libvirt's started event, beside the same way with libvirt alone:
//! from its own createXML of the same domain, on an idle machine, to the started event there.
//!
//! Both ends of both ways are read off one clock of this process. (curl's own times of day don't do: it
//! adds the seconds of one clock to the fraction of another, and so is off by up to a second.)

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;
use virtflow_testkit::cloud::{Cloud, TENANT};
use virtflow_testkit::command::system;
use virtflow_testkit::rig::{Node, NodeSpec, lan};

use super::{Table, percentile};

/// The machine whose libvirtd nobody but this measurement talks to.
const RAW_HOST: &str = "h9";
/// How long a started event may take.
const EVENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the hosts' events are looked at; each has its own time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Creates and deletes so many virtual machines, one after the other, by the leader and a follower in
/// turn, and each time one by libvirt alone.
pub(super) fn measure(cloud: &mut Cloud, samples: u32, table: &mut Table) -> Result<()> {
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
    let mut raw = Raw::prepare(cloud)?;
    let mut ours: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut libvirts = Vec::new();
    for number in 0..samples {
        let (role, asked) = if number.is_multiple_of(2) {
            ("leader", &leader)
        } else {
            ("follower", &follower)
        };
        let took = create_and_delete(cloud, asked, number, &events)?;
        let own = raw.create(cloud.place.node(RAW_HOST)?)?;
        println!("sample {number}: by the {role} {took:.0} ms, by libvirt alone {own:.0} ms");
        ours.entry(role).or_default().push(took);
        libvirts.push(own);
    }
    let own = percentile(&mut libvirts, 50);
    let spread = |values: &mut [f64]| {
        format!(
            "90 % within {:.0}, all within {:.0} ms",
            percentile(values, 90),
            percentile(values, 100)
        )
    };
    let beside = spread(&mut libvirts);
    for (role, mut values) in ours {
        let took = percentile(&mut values, 50);
        table.row(
            &format!("VM create by the {role}, to the started event, median"),
            &format!("{took:.0} ms, {}", spread(&mut values)),
            &format!("libvirt alone {own:.0} ms, {beside}"),
            &format!("{:+.0} ms, goal +60 ms", took - own),
            took - own <= 60.0,
        );
    }
    Ok(())
}

fn create_and_delete(cloud: &Cloud, asked: &str, number: u32, events: &[Events]) -> Result<f64> {
    let name = format!("latency-{number}");
    for host in events {
        host.forget();
    }
    let connection = cloud.api.connect(cloud.address(asked)?)?;
    let key = format!("Idempotency-Key: {}", Uuid::new_v4());
    let body = Cloud::create_vm_body(&name);
    let sent = connection.send("POST", "/vms", &[&key], &body)?;
    let started = started_of(events).with_context(|| format!("waiting for {name}"))?;
    let at = sent.at;
    let status = sent.http_status()?;
    ensure!(status == 202, "creating {name} was answered {status}");
    cloud
        .operator
        .json(&["vm", "delete", &name, "--tenant", TENANT, "--wait"])?;
    Ok(ms_between(at, started))
}

fn ms_between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

/// When the next guest started on one of the hosts.
fn started_of(events: &[Events]) -> Result<Instant> {
    let start = Instant::now();
    loop {
        for host in events {
            if let Some(at) = host.started() {
                return Ok(at);
            }
        }
        ensure!(start.elapsed() < EVENT_TIMEOUT, "no guest started");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The lifecycle events of a host's libvirtd, with its own connection.
#[derive(Debug)]
struct Events {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Events {
    fn of(node: &Node) -> Result<Self> {
        let mut child = system("virsh")
            .args(["--connect", &node.libvirt_uri(), "event", "--loop"])
            .args(["--event", "lifecycle"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting `virsh event`")?;
        let output = child.stdout.take().context("virsh has no output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn forget(&self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// When a guest started, if that was told.
    fn started(&self) -> Option<Instant> {
        // event 'lifecycle' for domain 'x': Started Booted
        std::iter::from_fn(|| self.lines.try_recv().ok())
            .find(|(_, line)| line.contains("Started"))
            .map(|(at, _)| at)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// A domain like those that the agent makes, for libvirt alone.
#[derive(Debug)]
struct Raw {
    /// A virsh with an open connection that takes commands.
    virsh: Child,
    commands: ChildStdin,
    create: String,
    events: Events,
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
        let node = cloud.place.node(RAW_HOST)?;
        // The files that it names, as the agent makes them.
        for path in attributes(&pattern, "file").chain(attributes(&pattern, "path")) {
            if path.contains(&id) {
                let folder = Path::new(path).parent().context("a file at the root")?;
                node.call("mkdir", &["-p", &folder.to_string_lossy()])?;
                node.call("truncate", &["--size", "1G", path])?;
            }
        }
        let xml = node.directory().join("raw.xml");
        fs::write(&xml, pattern)?;
        cloud
            .operator
            .json(&["vm", "delete", "pattern", "--tenant", TENANT, "--wait"])?;
        let mut virsh = system("virsh")
            .args(["--quiet", "--connect", &node.libvirt_uri()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("starting virsh")?;
        let commands = virsh.stdin.take().context("virsh takes no commands")?;
        let mut raw = Self {
            virsh,
            commands,
            create: format!("create {}\n", xml.display()),
            events: Events::of(node)?,
        };
        // The first one finds libvirt's caches empty and the connection not made yet.
        raw.create(node)?;
        Ok(raw)
    }

    /// From the command createXML to the started event, in ms.
    fn create(&mut self, node: &Node) -> Result<f64> {
        self.events.forget();
        let sent = Instant::now();
        self.commands.write_all(self.create.as_bytes())?;
        let started = started_of(std::slice::from_ref(&self.events))
            .with_context(|| format!("waiting for libvirt alone on {RAW_HOST}"))?;
        let ids = node.virsh(&["list", "--uuid"])?;
        ensure!(!ids.trim().is_empty(), "what started is gone already");
        for id in ids.split_whitespace() {
            node.virsh(&["destroy", id])?;
        }
        if let Some(status) = self.virsh.try_wait()? {
            bail!("virsh on {RAW_HOST} ended with {status}");
        }
        Ok(ms_between(sent, started))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        end(&mut self.virsh);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found() {
        let xml = "<source file='/a/b'/><x path='/c'/><source file='/d'/>";
        assert_eq!(attributes(xml, "file").collect::<Vec<_>>(), ["/a/b", "/d"]);
    }
}
