//! What the rig and a node's init say to each other: the node's description, handed over as a
//! file, and one JSON line each way per connection on the node's control socket.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How long the rig waits for an init's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What an init needs to know to make its node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    /// Host name inside the node.
    pub name: String,
    /// Where the control socket is made; seen from inside the node.
    pub control_socket: PathBuf,
    /// Files and folders of the node that are laid over the machine's: (from, over).
    pub binds: Vec<(PathBuf, PathBuf)>,
}

/// A program that a node's init keeps running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    /// What it is called on the control socket.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment in addition to the init's own.
    pub environment: BTreeMap<String, String>,
    /// Where its standard output and error are appended.
    pub log: PathBuf,
    /// After which pause it is started again when it ends by itself or is killed, in
    /// milliseconds, as systemd would; `None`: it stays down.
    pub restart_after_ms: Option<u64>,
}

/// One request to an init.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Start a service; refused while one of that name is wanted.
    Start { service: Service },
    /// Ask a service to end (SIGTERM) and don't start it again.
    Stop { name: String },
    /// Change after which pause a service is started again.
    SetRestart {
        name: String,
        restart_after_ms: Option<u64>,
    },
    /// Tell what every service is doing.
    Status,
    /// Outlive the rig.
    Keep,
}

/// An init's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done; how every service is now.
    Services(Vec<ServiceStatus>),
    /// Not done, and why.
    Refused(String),
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: String,
    /// Its process id inside the node, while it runs.
    pub pid: Option<i32>,
    /// How often it was started.
    pub starts: u64,
    /// How it ended last: `exited 0`, `killed by signal 9`.
    pub last_end: Option<String>,
}

/// Asks the init behind `socket`.
///
/// # Errors
/// When nothing listens there, it does not answer in time, or it refuses.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Vec<ServiceStatus>> {
    let attempt = || -> Result<Answer> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        (&stream).write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    };
    match attempt().with_context(|| format!("asking the init behind {}", socket.display()))? {
        Answer::Services(services) => Ok(services),
        Answer::Refused(why) => bail!("the init behind {} refused: {why}", socket.display()),
    }
}
