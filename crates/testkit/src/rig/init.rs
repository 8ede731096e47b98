//! Process 1 of a node: lays the node's files over the machine's, keeps its services running, and
//! reaps every orphan at once (libvirt waits for a destroyed QEMU to be gone).
//!
//! Invariant: a node never outlives the rig unless it was told to. The init's standard input is a
//! pipe that only the rig holds open; when it closes, however the rig ended, the init exits, and
//! with process 1 the kernel kills everything else in the node, network and mounts included.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::control::{Answer, Layout, Request, Service, ServiceStatus};

/// How long the reaper rests when there is nothing to wait for.
const NO_CHILDREN_PAUSE: Duration = Duration::from_millis(20);

/// The longest request line that is read.
const REQUEST_LIMIT_BYTES: u64 = 1 << 20;

/// Runs as process 1 of a new node until the rig lets go of it.
///
/// # Errors
/// When the node cannot be set up. It never returns otherwise.
pub fn run(layout_file: &Path) -> Result<()> {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        bail!("this program is process 1 of a test node; the rig starts it");
    }
    let text = fs::read_to_string(layout_file)
        .with_context(|| format!("reading {}", layout_file.display()))?;
    let layout: Layout = serde_json::from_str(&text)
        .with_context(|| format!("understanding {}", layout_file.display()))?;
    lay_out(&layout)?;

    let keep = Arc::new(AtomicBool::new(false));
    let supervisor = Arc::new(Supervisor::default());
    let listener = UnixListener::bind(&layout.control_socket)
        .with_context(|| format!("listening on {}", layout.control_socket.display()))?;
    {
        let keep = keep.clone();
        std::thread::spawn(move || watch_lifeline(&keep));
    }
    {
        let supervisor = supervisor.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A broken connection is its other end's trouble: it sees no answer.
                let _ = answer(&supervisor, &keep, &stream);
            }
        });
    }
    supervisor.reap()
}

fn lay_out(layout: &Layout) -> Result<()> {
    rustix::system::sethostname(layout.name.as_bytes()).context("setting the host name")?;
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, target, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {target}"))?;
    }
    for (source, target) in &layout.binds {
        mount_bind(source, target)
            .with_context(|| format!("laying {} over {}", source.display(), target.display()))?;
    }
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("starting `ip`")?;
    if !status.success() {
        bail!("`ip link set lo up` ended with {status}");
    }
    Ok(())
}

/// Exits, and so ends the node, when the rig closes its end of the pipe.
fn watch_lifeline(keep: &AtomicBool) {
    let mut byte = [0];
    while matches!(std::io::stdin().read(&mut byte), Ok(n) if n > 0) {}
    if !keep.load(Ordering::SeqCst) {
        std::process::exit(0);
    }
}

fn answer(supervisor: &Arc<Supervisor>, keep: &AtomicBool, stream: &UnixStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_LIMIT_BYTES)).read_line(&mut line)?;
    let result = serde_json::from_str(&line)
        .map_err(anyhow::Error::from)
        .and_then(|request| match request {
            Request::Start { service } => supervisor.start(service),
            Request::Stop { name } => supervisor.stop(&name),
            Request::SetRestart {
                name,
                restart_after_ms,
            } => supervisor.set_restart(&name, restart_after_ms),
            Request::Status => Ok(()),
            Request::Keep => {
                keep.store(true, Ordering::SeqCst);
                Ok(())
            }
        });
    let answer = match result {
        Ok(()) => Answer::Services(supervisor.status()),
        Err(error) => Answer::Refused(format!("{error:#}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    let mut stream = stream;
    stream.write_all(text.as_bytes())?;
    Ok(())
}

#[derive(Debug)]
struct Supervised {
    service: Service,
    /// Whether it is to be running.
    wanted: bool,
    pid: Option<Pid>,
    starts: u64,
    last_end: Option<String>,
}

#[derive(Debug, Default)]
struct Supervisor {
    services: Mutex<BTreeMap<String, Supervised>>,
}

impl Supervisor {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Supervised>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, service: Service) -> Result<()> {
        let mut services = self.lock();
        let (starts, last_end) = match services.get(&service.name) {
            Some(old) if old.wanted || old.pid.is_some() => {
                bail!("service {} is already running", service.name)
            }
            Some(old) => (old.starts, old.last_end.clone()),
            None => (0, None),
        };
        let mut supervised = Supervised {
            service,
            wanted: true,
            pid: None,
            starts,
            last_end,
        };
        supervised.spawn()?;
        services.insert(supervised.service.name.clone(), supervised);
        Ok(())
    }

    fn stop(&self, name: &str) -> Result<()> {
        let mut services = self.lock();
        let supervised = find(&mut services, name)?;
        supervised.wanted = false;
        if let Some(pid) = supervised.pid {
            kill_process(pid, Signal::TERM)?;
        }
        Ok(())
    }

    fn set_restart(&self, name: &str, restart_after_ms: Option<u64>) -> Result<()> {
        find(&mut self.lock(), name)?.service.restart_after_ms = restart_after_ms;
        Ok(())
    }

    fn status(&self) -> Vec<ServiceStatus> {
        self.lock()
            .values()
            .map(|supervised| ServiceStatus {
                name: supervised.service.name.clone(),
                pid: supervised.pid.map(|pid| pid.as_raw_nonzero().get()),
                starts: supervised.starts,
                last_end: supervised.last_end.clone(),
            })
            .collect()
    }

    /// Waits for every child there ever is: services, and orphans that only this process can
    /// reap.
    fn reap(self: Arc<Self>) -> ! {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Ok(None) => {}
                Err(_) => std::thread::sleep(NO_CHILDREN_PAUSE),
            }
        }
    }

    /// A child's id is entered under the lock that also covers its start, so one that ends at
    /// once is found here all the same.
    fn ended(self: &Arc<Self>, pid: Pid, status: WaitStatus) {
        let mut services = self.lock();
        let Some(supervised) = services.values_mut().find(|s| s.pid == Some(pid)) else {
            return;
        };
        supervised.pid = None;
        supervised.last_end = Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exited {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        });
        if !supervised.wanted {
            return;
        }
        let Some(pause_ms) = supervised.service.restart_after_ms else {
            supervised.wanted = false;
            return;
        };
        let name = supervised.service.name.clone();
        let this = self.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(pause_ms));
            if let Some(supervised) = this.lock().get_mut(&name)
                && supervised.wanted
                && supervised.pid.is_none()
                && let Err(error) = supervised.spawn()
            {
                supervised.wanted = false;
                supervised.last_end = Some(format!("not started again: {error:#}"));
            }
        });
    }
}

fn find<'a>(
    services: &'a mut BTreeMap<String, Supervised>,
    name: &str,
) -> Result<&'a mut Supervised> {
    services
        .get_mut(name)
        .with_context(|| format!("there is no service {name}"))
}

impl Supervised {
    fn spawn(&mut self) -> Result<()> {
        let service = &self.service;
        let [program, arguments @ ..] = service.argv.as_slice() else {
            bail!("service {} has no program", service.name);
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&service.log)
            .with_context(|| format!("opening {}", service.log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .envs(&service.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        // The reaper collects it, so the handle is of no further use.
        self.pid = Some(Pid::from_child(&child));
        self.starts += 1;
        Ok(())
    }
}
