//! One machine of a rig, seen from outside.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::control::{self, Layout, Request, Service, ServiceStatus};
use super::{KILL_TIMEOUT, hypervisor, process};
use super::{PRIVATE_FOLDERS, Process};
use crate::{command, poll};

/// The program that is process 1 of every node.
pub(super) const INIT_PROGRAM: &str = "virtflow-rig-init";

/// How long a node may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What a machine of the rig is to be.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Its name: host name, folder, and the name of its cable; at most 12 letters and digits.
    pub name: String,
    /// Its address on the rig's network.
    pub address: Ipv4Addr,
    /// Whether it has a libvirtd.
    pub hypervisor: bool,
}

/// A running machine of the rig. Dropping it ends it, with all that runs in it.
#[derive(Debug)]
pub struct Node {
    spec: NodeSpec,
    directory: PathBuf,
    /// The process that waits for the init; its standard input is the init's lifeline.
    launcher: Child,
    init: i32,
    kept: bool,
}

impl Node {
    pub(super) fn start(rig: &Path, spec: NodeSpec) -> Result<Self> {
        if spec.name.is_empty()
            || spec.name.len() > 12
            || !spec.name.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            bail!(
                "`{}` is no name for a node: 1 to 12 letters and digits",
                spec.name
            );
        }
        let directory = rig.join("nodes").join(&spec.name);
        let layout = write_files(&spec, &directory)
            .with_context(|| format!("making the files of node {}", spec.name))?;
        let layout_file = directory.join("layout.json");
        fs::write(&layout_file, serde_json::to_vec_pretty(&layout)?)?;

        let log = File::create(directory.join("init.log"))?;
        let mut launcher = command::system("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--net"])
            .args(["--uts", "--ipc", "--propagation", "private"])
            .arg(crate::packages::own_binary(INIT_PROGRAM)?)
            .arg(&layout_file)
            // Its own group, so that Ctrl-C reaches the rig alone, which then lets go of it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting `unshare`")?;
        let up = poll::until(
            format_args!("node {} to come up", spec.name),
            START_TIMEOUT,
            || {
                if let Some(status) = launcher.try_wait()? {
                    let log = fs::read_to_string(directory.join("init.log")).unwrap_or_default();
                    bail!("node {} ended with {status}: {}", spec.name, log.trim());
                }
                Ok(control::ask(&layout.control_socket, &Request::Status).ok())
            },
        );
        if let Err(error) = up {
            let _ = launcher.kill();
            let _ = launcher.wait();
            return Err(error);
        }
        let init = only_child(launcher.id())?;
        let node = Self {
            spec,
            directory,
            launcher,
            init,
            kept: false,
        };
        if node.spec.hypervisor {
            hypervisor::start(&node)?;
        }
        Ok(node)
    }

    /// What the machine was to be.
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its address on the rig's network.
    pub fn address(&self) -> Ipv4Addr {
        self.spec.address
    }

    /// Its folder: `etc`, `run` and `var/...` are what the node sees as its own, from outside.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The id, on the machine, of its process 1.
    pub fn init_pid(&self) -> i32 {
        self.init
    }

    /// The boot id that the node shows.
    ///
    /// # Errors
    /// When its file can't be read.
    pub fn boot_id(&self) -> Result<String> {
        let path = self.directory.join("boot_id");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// A command that will run inside the node.
    pub fn command(&self, program: &str) -> Command {
        let mut command = command::system("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"])
            .arg(program);
        command
    }

    /// Runs a command inside the node; see [`command::output_of`].
    ///
    /// # Errors
    /// As there.
    pub fn call(&self, program: &str, arguments: &[&str]) -> Result<String> {
        command::output_of(self.command(program).args(arguments))
    }

    /// Where libvirt's socket of this node is, as a connection address for use from outside.
    pub fn libvirt_uri(&self) -> String {
        let socket = self.directory.join("run/libvirt/libvirt-sock");
        format!("qemu+unix:///system?socket={}", socket.display())
    }

    /// Runs `virsh` against the node's libvirtd.
    ///
    /// # Errors
    /// As [`command::output_of`].
    pub fn virsh(&self, arguments: &[&str]) -> Result<String> {
        command::output_of(
            command::system("virsh")
                .args(["--quiet", "--connect", &self.libvirt_uri()])
                .args(arguments),
        )
    }

    /// Starts a service and keeps it running as it says.
    ///
    /// # Errors
    /// When it is running already or cannot be started.
    pub fn start_service(&self, service: Service) -> Result<()> {
        let name = service.name.clone();
        self.ask(&Request::Start { service })
            .with_context(|| format!("starting {name} on node {}", self.spec.name))?;
        Ok(())
    }

    /// Asks a service to end (SIGTERM), for good, and waits until it has.
    ///
    /// # Errors
    /// When it is unknown or goes on for longer than `limit`.
    pub fn stop_service(&self, name: &str, limit: Duration) -> Result<()> {
        self.ask(&Request::Stop {
            name: name.to_owned(),
        })?;
        let what = format!("{name} on node {} to stop", self.spec.name);
        poll::until(what, limit, || {
            Ok(self.service(name)?.pid.is_none().then_some(()))
        })
    }

    /// Changes after which pause a service is started again when it ends; `None`: not at all.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn set_restart(&self, name: &str, pause: Option<Duration>) -> Result<()> {
        self.ask(&Request::SetRestart {
            name: name.to_owned(),
            restart_after_ms: pause.map(|p| u64::try_from(p.as_millis()).unwrap_or(u64::MAX)),
        })?;
        Ok(())
    }

    /// How a service is.
    ///
    /// # Errors
    /// When it is unknown or the node does not answer.
    pub fn service(&self, name: &str) -> Result<ServiceStatus> {
        self.ask(&Request::Status)?
            .into_iter()
            .find(|service| service.name == name)
            .with_context(|| format!("node {} has no service {name}", self.spec.name))
    }

    /// The process of a running service.
    ///
    /// # Errors
    /// When the service is unknown or down.
    pub fn service_process(&self, name: &str) -> Result<Process> {
        let inner = self
            .service(name)?
            .pid
            .with_context(|| format!("{name} on node {} is down", self.spec.name))?;
        self.processes()?
            .into_iter()
            .find(|process| process.inner_pid == inner)
            .with_context(|| format!("{name} on node {} has just ended", self.spec.name))
    }

    /// Everything that runs in the node.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn processes(&self) -> Result<Vec<Process>> {
        process::in_namespace_of(self.init)
    }

    /// The QEMU whose command line mentions `text`, such as a virtual machine's id.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn qemu_mentioning(&self, text: &str) -> Result<Option<Process>> {
        Ok(self.processes()?.into_iter().find(|process| {
            process.program.starts_with("qemu-system")
                && process.arguments.iter().any(|a| a.contains(text))
        }))
    }

    pub(super) fn keep(mut self) -> Result<()> {
        self.ask(&Request::Keep)?;
        self.kept = true;
        Ok(())
    }

    /// Kills the init, and so the node, and waits until the kernel is through with it.
    pub(super) fn end(mut self) -> Result<()> {
        process::kill(self.init)?;
        poll::until(
            format_args!("node {} to end", self.spec.name),
            KILL_TIMEOUT,
            || Ok(self.launcher.try_wait()?.map(|_| ())),
        )
    }

    fn ask(&self, request: &Request) -> Result<Vec<ServiceStatus>> {
        control::ask(&self.directory.join("control.sock"), request)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.launcher.kill();
            let _ = self.launcher.wait();
        }
    }
}

fn write_files(spec: &NodeSpec, directory: &Path) -> Result<Layout> {
    fs::create_dir_all(directory.join("etc"))?;
    let control_socket = directory.join("control.sock");
    // A socket of the node's last life would refuse connections for ever.
    let _ = fs::remove_file(&control_socket);
    let run = directory.join("run");
    if run.exists() {
        fs::remove_dir_all(&run)?;
    }
    let mut binds = Vec::new();
    for private in PRIVATE_FOLDERS {
        let own = directory.join(private.trim_start_matches('/'));
        fs::create_dir_all(&own)?;
        binds.push((own, private.into()));
    }
    fs::create_dir_all(run.join("lock"))?;

    let boot_id = directory.join("boot_id");
    fs::write(&boot_id, format!("{}\n", Uuid::new_v4()))?;
    binds.push((boot_id, "/proc/sys/kernel/random/boot_id".into()));
    let machine_id = directory.join("etc/machine-id");
    if !machine_id.exists() {
        fs::write(&machine_id, format!("{}\n", Uuid::new_v4().simple()))?;
    }
    // A machine without one has nothing to lay it over, and nothing that reads it either.
    if Path::new("/etc/machine-id").exists() {
        binds.push((machine_id, "/etc/machine-id".into()));
    }
    if spec.hypervisor {
        binds.extend(hypervisor::write_files(directory)?);
    }
    Ok(Layout {
        name: spec.name.clone(),
        control_socket,
        binds,
    })
}

fn only_child(parent: u32) -> Result<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("expected one child of process {parent}, found `{text}`"))
}
