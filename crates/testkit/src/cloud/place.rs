//! A data centre with VirtFlow on it: which machines there are, their configuration files, their
//! daemons. What the daemons decide is not known here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::json::text;
use super::person::Person;
use crate::command::output_of;
use crate::guest::{self, Image};
use crate::rig::control::Service;
use crate::rig::{Node, NodeSpec, Rig, lan};
use crate::{packages, poll};

/// The controller's name as a service, and its program's without `virtflow-`.
pub const CONTROLLER: &str = "controller";
/// The agent's name as a service, and its program's without `virtflow-`.
pub const AGENT: &str = "agent";

/// What a host may give to guests of the one machine that all hosts are on, in MiB.
pub const HOST_MEMORY_MIB: u64 = 1024;
/// The same of storage, in GiB.
pub const HOST_STORAGE_GIB: u64 = 20;

/// How long a controller may take until it answers on its status address.
const CONTROLLER_START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a daemon may take to end when asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// What hosts run their guests with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hypervisor {
    /// A libvirtd on each, QEMU without acceleration.
    Qemu,
    /// None: the agent pretends.
    Simulated,
}

/// What a data centre is to be like.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many controllers; they are called c1, c2 ...
    pub controllers: u8,
    /// How many hosts; they are called h1, h2 ...
    pub hosts: u8,
    /// What the hosts run their guests with.
    pub hypervisor: Hypervisor,
    /// Environment of every daemon, such as overrides of its configuration.
    pub environment: BTreeMap<String, String>,
    /// Environment of one machine's daemon beyond that, by the machine's name.
    pub own_environment: BTreeMap<String, BTreeMap<String, String>>,
    /// After which pause a dead daemon is started again; `None`: it stays down.
    pub restart_pause: Option<Duration>,
}

impl Default for Plan {
    /// Three controllers, two hosts with QEMU, daemons that systemd would start again after 2 s.
    fn default() -> Self {
        Self {
            controllers: 3,
            hosts: 2,
            hypervisor: Hypervisor::Qemu,
            environment: BTreeMap::new(),
            own_environment: BTreeMap::new(),
            restart_pause: Some(Duration::from_secs(2)),
        }
    }
}

/// How to reach and recognise the cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The first controller's API, with its scheme.
    pub endpoint: String,
    /// SHA-256 of the CA's certificate, in hex.
    pub ca_fingerprint: String,
}

/// The machines, and where things are on them.
#[derive(Debug)]
pub struct Place {
    /// The machines.
    pub rig: Rig,
    image: Option<Image>,
    plan: Plan,
}

impl Place {
    /// A data centre without machines, whose files are in `directory`. The guests' image is kept in
    /// `images`.
    ///
    /// # Errors
    /// When the rig cannot be started or the image not be made.
    pub fn new(directory: &Path, images: &Path, plan: Plan) -> Result<Self> {
        let rig = Rig::start(directory)?;
        let image = match plan.hypervisor {
            Hypervisor::Qemu => {
                fs::create_dir_all(images)
                    .with_context(|| format!("creating {}", images.display()))?;
                // Its paths are given to libvirtd, which runs elsewhere.
                Some(guest::build(&images.canonicalize()?)?)
            }
            Hypervisor::Simulated => None,
        };
        Ok(Self { rig, image, plan })
    }

    /// The names of the controllers of the plan.
    pub fn controllers(&self) -> Vec<String> {
        (1..=self.plan.controllers)
            .map(|n| format!("c{n}"))
            .collect()
    }

    /// The names of the hosts of the plan.
    pub fn hosts(&self) -> Vec<String> {
        (1..=self.plan.hosts).map(|n| format!("h{n}")).collect()
    }

    /// A folder for files of people, at the operator's place.
    pub fn people(&self) -> PathBuf {
        self.rig.lan().directory().join("people")
    }

    /// Adds the machine of controller `name` (`c` and a number) with its configuration; nothing
    /// runs on it yet.
    ///
    /// # Errors
    /// When the machine cannot be started.
    pub fn add_controller(&mut self, name: &str) -> Result<&Node> {
        let address = lan::address(10 + number_in(name)?);
        let node = self.rig.add(NodeSpec {
            name: name.to_owned(),
            address,
            hypervisor: false,
        })?;
        let text = format!(
            r#"# Controller {name}.
name = "{name}"
data_dir = "/var/lib/virtflow/controller"
seal_key_file = "{etc}/seal.key"

[listen]
api = "{address}:8443"
agent = "{address}:8444"
peer = "{address}:8445"
status = "127.0.0.1:9440"
"#,
            etc = node.directory().join("etc").display(),
        );
        write(&configuration(node), &text)?;
        Ok(node)
    }

    /// Adds the machine of host `name` (`h` and a number) with its configuration; no agent runs on
    /// it yet.
    ///
    /// # Errors
    /// When the machine cannot be started.
    pub fn add_host(&mut self, name: &str) -> Result<&Node> {
        let controllers: Vec<String> = self
            .controllers()
            .iter()
            .map(|name| {
                let address = lan::address(10 + number_in(name)?);
                Ok(format!("\"{address}:8444\""))
            })
            .collect::<Result<_>>()?;
        let image = self.image.clone();
        let node = self.rig.add(NodeSpec {
            name: name.to_owned(),
            address: lan::address(20 + number_in(name)?),
            hypervisor: image.is_some(),
        })?;
        let memory_mib = machine_memory_mib()?.saturating_sub(HOST_MEMORY_MIB);
        let mut text = format!(
            r#"# Agent of host {name}. All hosts are one machine: each is told which serial number is its own,
# and how much of the machine is not for it.
controllers = [{controllers}]
name = "{name}"
serial = "{serial}"
hypervisor = "{hypervisor}"

[reserve]
cpu_milli = {cpu_milli}
memory_mib = {memory_mib}

[capacity]
storage_gib = {HOST_STORAGE_GIB}
"#,
            controllers = controllers.join(", "),
            serial = Self::serial_number(name),
            hypervisor = if image.is_some() { "qemu" } else { "simulated" },
            cpu_milli = machine_cores() * 500,
        );
        if let Some(image) = image {
            text.push_str(&format!(
                "\n[boot]\nkernel = \"{}\"\ninitrd = \"{}\"\ncmdline = \"{}\"\n",
                image.kernel.display(),
                image.initramfs.display(),
                guest::COMMAND_LINE,
            ));
        }
        write(&configuration(node), &text)?;
        Ok(node)
    }

    /// The serial number that a host shows; the machine's own is one for all.
    pub fn serial_number(host: &str) -> String {
        format!("RIG-{}", host.to_uppercase())
    }

    /// The machine of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.rig.node(name)
    }

    /// Makes the cluster on controller `name` and starts it. The administrator's password is left in
    /// the file `admin-password` in the machine's folder.
    ///
    /// # Errors
    /// When `init` fails or the controller doesn't get ready.
    pub fn make_cluster(&self, name: &str, administrator: &str) -> Result<Cluster> {
        let node = self.node(name)?;
        let password = self.administrators_password(name)?;
        let printed = self.run(
            name,
            &[
                "init",
                "--admin-user",
                administrator,
                "--admin-password-file",
                &password.to_string_lossy(),
            ],
        )?;
        let cluster = Cluster {
            endpoint: format!("https://{}:8443", node.address()),
            ca_fingerprint: fingerprint_in(&printed)?.to_owned(),
        };
        self.start(name)?;
        self.wait_ready(name)?;
        Ok(cluster)
    }

    /// Where `init` on that controller left the password.
    ///
    /// # Errors
    /// When there is no such controller.
    pub fn administrators_password(&self, name: &str) -> Result<PathBuf> {
        Ok(self.node(name)?.directory().join("admin-password"))
    }

    /// Has `operator` invite the machine `name` with the arguments `invite`, and lets it join and
    /// start. Returns the CA's certificate, which is part of the invitation.
    ///
    /// # Errors
    /// When it is refused, or a controller doesn't get ready.
    pub fn join(
        &self,
        name: &str,
        operator: &Person,
        cluster: &Cluster,
        invite: &[&str],
    ) -> Result<String> {
        self.join_with(name, operator, cluster, invite, &[])
    }

    /// The same with more arguments for the machine's own `join`.
    ///
    /// # Errors
    /// As [`Place::join`].
    pub fn join_with(
        &self,
        name: &str,
        operator: &Person,
        cluster: &Cluster,
        invite: &[&str],
        more: &[&str],
    ) -> Result<String> {
        let invitation = operator.json(invite)?;
        ensure!(
            text(&invitation, "/ca_fingerprint")? == cluster.ca_fingerprint,
            "the invitation names another CA: {invitation}"
        );
        let token = operator.secret(&format!("join-{name}"), text(&invitation, "/token")?)?;
        let token_file = token.to_string_lossy();
        let mut arguments = vec![
            "join",
            "--controller",
            &cluster.endpoint,
            "--ca-fingerprint",
            &cluster.ca_fingerprint,
            "--token-file",
            &token_file,
        ];
        arguments.extend_from_slice(more);
        self.run(name, &arguments)?;
        fs::remove_file(&token)?;
        self.start(name)?;
        if daemon_of(name) == CONTROLLER {
            self.wait_ready(name)?;
        }
        Ok(text(&invitation, "/ca_pem")?.to_owned())
    }

    /// Starts a machine's daemon as its unit file would.
    ///
    /// # Errors
    /// When it runs already.
    pub fn start(&self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        let daemon = daemon_of(name);
        node.start_service(Service {
            name: daemon.to_owned(),
            argv: vec![
                binary(daemon)?.to_string_lossy().into_owned(),
                "run".to_owned(),
                "--config".to_owned(),
                configuration(node).to_string_lossy().into_owned(),
            ],
            environment: self.environment(name),
            log: self.log(name)?,
            restart_after_ms: self
                .plan
                .restart_pause
                .map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// What a machine's daemon and its other commands find in their environment from their next start on.
    pub fn set_environment(&mut self, name: &str, variable: &str, value: &str) {
        let own = self.plan.own_environment.entry(name.to_owned());
        own.or_default()
            .insert(variable.to_owned(), value.to_owned());
    }

    /// Stops a machine's daemon as systemd would, for good.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.node(name)?.stop_service(daemon_of(name), STOP_TIMEOUT)
    }

    /// Where a machine's daemon writes its log.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn log(&self, name: &str) -> Result<PathBuf> {
        Ok(self
            .node(name)?
            .directory()
            .join(format!("{}.log", daemon_of(name))))
    }

    /// A command of the machine's daemon, to be run on it.
    ///
    /// # Errors
    /// When there is no such machine or the program is not built.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Result<std::process::Command> {
        let node = self.node(name)?;
        let program = binary(daemon_of(name))?;
        let mut command = node.command(&program.to_string_lossy());
        command
            .args(arguments)
            .arg("--config")
            .arg(configuration(node))
            .envs(self.environment(name));
        Ok(command)
    }

    fn environment(&self, name: &str) -> BTreeMap<String, String> {
        let mut environment = self.plan.environment.clone();
        let own = self.plan.own_environment.get(name);
        environment.extend(own.cloned().unwrap_or_default());
        environment
    }

    /// Runs one of the daemons' other commands on its machine.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.command(name, arguments)?)
    }

    /// Waits until a controller says that it is ready.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn wait_ready(&self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        poll::until(
            format_args!("controller {name} to be ready"),
            CONTROLLER_START_TIMEOUT,
            || {
                if node.service(CONTROLLER)?.pid.is_none() && self.plan.restart_pause.is_none() {
                    bail!("controller {name} ended: {}", self.end_of_log(name)?);
                }
                Ok(get(node, "9440/readyz").is_ok().then_some(()))
            },
        )
        .with_context(|| self.end_of_log(name).unwrap_or_default())
    }

    /// The last lines of a machine's daemon's log.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn end_of_log(&self, name: &str) -> Result<String> {
        let text = fs::read(self.log(name)?).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        Ok(format!("end of the log of {name}:\n{}", lines.join("\n")))
    }

    /// What a machine's daemon says on its status address.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self, name: &str) -> Result<Value> {
        let port = match daemon_of(name) {
            CONTROLLER => 9440,
            _ => 9441,
        };
        let text = get(self.node(name)?, &format!("{port}/status"))?;
        serde_json::from_str(&text).with_context(|| format!("{name}'s status: {text}"))
    }

    /// What a controller counts, as monitoring reads it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self, name: &str) -> Result<String> {
        get(self.node(name)?, "9440/metrics")
    }

    /// Where a machine's configuration file is.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn configuration(&self, name: &str) -> Result<PathBuf> {
        Ok(configuration(self.node(name)?))
    }

    /// The folder of a controller's store, seen from outside its machine.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn store(&self, name: &str) -> Result<PathBuf> {
        Ok(self
            .node(name)?
            .directory()
            .join("var/lib/virtflow/controller"))
    }
}

/// Which daemon a machine of that name has.
fn daemon_of(name: &str) -> &'static str {
    if name.starts_with('h') {
        AGENT
    } else {
        CONTROLLER
    }
}

fn number_in(name: &str) -> Result<u8> {
    name.trim_start_matches(|c: char| c.is_ascii_alphabetic())
        .parse()
        .ok()
        .filter(|number| (1..=9).contains(number))
        .with_context(|| format!("`{name}` should be a letter and a number from 1 to 9"))
}

fn get(node: &Node, port_and_path: &str) -> Result<String> {
    let address = format!("http://127.0.0.1:{port_and_path}");
    node.call(
        "curl",
        &[
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "5",
            &address,
        ],
    )
}

fn configuration(node: &Node) -> PathBuf {
    let file = format!("{}.toml", daemon_of(node.name()));
    node.directory().join("etc").join(file)
}

fn binary(daemon: &str) -> Result<PathBuf> {
    packages::own_binary(&format!("virtflow-{daemon}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn machine_memory_mib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .map(|kib| kib / 1024)
        .context("/proc/meminfo has no MemTotal")
}

fn machine_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The SHA-256 among the words that `init` printed.
fn fingerprint_in(printed: &str) -> Result<&str> {
    printed
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))
        .with_context(|| format!("`init` printed no CA fingerprint: {printed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_found_in_what_is_for_people() {
        let hex = "0123456789abcdef".repeat(4);
        let text = format!("Cluster made.\nCA fingerprint (SHA-256): {hex}\n");
        assert_eq!(fingerprint_in(&text).unwrap(), hex);
        assert!(fingerprint_in("Cluster made.").is_err());
    }

    #[test]
    fn a_name_says_daemon_and_address() {
        assert_eq!(number_in("c3").unwrap(), 3);
        assert_eq!((daemon_of("c3"), daemon_of("h1")), (CONTROLLER, AGENT));
        assert!(number_in("lan").is_err());
    }
}
