//! The configuration: one TOML file, overridden by the environment, checked as a whole.
//!
//! Every key is described in `controller.example.toml`. A key that is not known, or that contradicts
//! another, is refused with its file, line and name: a mistyped key that is silently ignored is worse
//! than a controller that does not start.

#[cfg(test)]
mod fuzz;
mod read;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use virtflow_settings::{ConfigError, Place};

/// Default place of the file.
pub const DEFAULT_PATH: &str = "/etc/virtflow/controller.toml";
/// Environment variables that override a key: this, the section, `_`, the key, in capitals.
pub const ENV_PREFIX: &str = "VIRTFLOW_CONTROLLER_";

/// What the file and the environment say. No secret is in it: those are in files that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This controller's name, unique in the cluster.
    pub name: String,
    /// Where the store lies.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// The key that seals what must not lie about in clear. Outside the data folder.
    #[serde(default = "seal_key_file")]
    pub seal_key_file: PathBuf,
    /// Where to listen.
    #[serde(default)]
    pub listen: Listen,
    /// Where others reach the listeners.
    #[serde(default)]
    pub advertise: Advertise,
    /// Replication.
    #[serde(default)]
    pub raft: Raft,
    /// Hosts and their leases.
    #[serde(default)]
    pub hosts: Hosts,
    /// Certificates this controller signs.
    #[serde(default)]
    pub certificates: Certificates,
    /// The status listener.
    #[serde(default)]
    pub status: Status,
    /// What one user and one tenant may ask for.
    #[serde(default)]
    pub limits: Limits,
    /// What is kept for how long.
    #[serde(default)]
    pub retention: Retention,
    /// Logging.
    #[serde(default)]
    pub log: Log,
}

/// Addresses that the controller listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// REST and enrolment.
    pub api: SocketAddr,
    /// Sessions of agents.
    pub agent: SocketAddr,
    /// Other controllers.
    pub peer: SocketAddr,
    /// Monitoring: plain HTTP on loopback, TLS beyond.
    pub status: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            api: any(8443),
            agent: any(8444),
            peer: any(8445),
            status: SocketAddr::from(([127, 0, 0, 1], 9440)),
        }
    }
}

/// Addresses as others see them, `host:port`. Absent: the listening address, if it is one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Advertise {
    /// Of the API.
    pub api: Option<String>,
    /// For agents.
    pub agent: Option<String>,
    /// For controllers.
    pub peer: Option<String>,
    /// For monitoring. Absent: the host of the API's address, with the port of the status listener.
    pub status: Option<String>,
}

/// Replication. Absent timing is measured at start from how fast the disk flushes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// Between two signs of life of a leader, in milliseconds.
    pub heartbeat_ms: Option<u64>,
    /// Shortest silence after which a follower stands for election, in milliseconds.
    pub election_min_ms: Option<u64>,
    /// Longest, in milliseconds.
    pub election_max_ms: Option<u64>,
    /// Entries after which a snapshot is made.
    pub snapshot_entries: Option<u64>,
    /// Entries kept in the log behind a snapshot, for members that lag.
    pub log_keep_entries: Option<u64>,
}

/// Hosts and their leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hosts {
    /// Seconds of silence after which a host is offline.
    pub lease_s: u64,
    /// Milliseconds between two heartbeats of an agent.
    pub heartbeat_ms: u64,
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            lease_s: 10,
            heartbeat_ms: 2000,
        }
    }
}

/// Lives of certificates; all are renewed at a third of their life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// Of agents, in seconds.
    pub agent_lifetime_s: u64,
    /// Of controllers, in seconds.
    pub controller_lifetime_s: u64,
    /// Names and addresses, besides the advertised ones, that this controller's certificate carries.
    pub names: Vec<String>,
}

const DAY_S: u64 = 24 * 60 * 60;

impl Default for Certificates {
    fn default() -> Self {
        Self {
            agent_lifetime_s: 7 * DAY_S,
            controller_lifetime_s: 30 * DAY_S,
            names: Vec::new(),
        }
    }
}

/// The status listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// File with the token that monitoring sends as `Authorization: Bearer`; needed beyond loopback
    /// unless monitoring has a client certificate.
    pub token_file: Option<PathBuf>,
}

/// What one API token, one user, and all users of one tenant together, may ask of this controller; beyond it requests are
/// refused with the time to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests a second with one API token, in the long run; 0: no more limited than its user.
    pub token_requests_per_s: u32,
    /// Its requests at once, after a pause.
    pub token_requests_burst: u32,
    /// Requests a second of one user, in the long run, whatever they sign in with.
    pub user_requests_per_s: u32,
    /// Theirs at once, after a pause.
    pub user_requests_burst: u32,
    /// Requests a second of all users of one tenant together, in the long run; 0: not limited.
    pub tenant_requests_per_s: u32,
    /// Theirs at once, after a pause.
    pub tenant_requests_burst: u32,
}

impl Default for Limits {
    /// Far above what a person or a program that waits makes. A token has half of its user's, so that a program that
    /// runs wild does not keep its user from stopping it.
    fn default() -> Self {
        Self {
            token_requests_per_s: 250,
            token_requests_burst: 1000,
            user_requests_per_s: 500,
            user_requests_burst: 2000,
            tenant_requests_per_s: 2000,
            tenant_requests_burst: 8000,
        }
    }
}

/// What is kept for how long outside the live state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Audit records, in days.
    pub audit_days: u64,
    /// Former versions of objects, in days.
    pub history_days: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            audit_days: 400,
            history_days: 90,
        }
    }
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level, or directives such as `info,virtflow_raft=debug`.
    pub level: String,
    /// Text for people or JSON for collectors.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn data_dir() -> PathBuf {
    "/var/lib/virtflow/controller".into()
}
fn seal_key_file() -> PathBuf {
    "/etc/virtflow/seal.key".into()
}

impl Config {
    /// Reads the file and the process's environment.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = virtflow_settings::text(path)?;
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        read::read(path, &text, variables)
    }

    /// Where others reach the API, `host:port`.
    pub fn api_address(&self) -> String {
        advertised(self.advertise.api.as_deref(), self.listen.api)
    }
    /// Where agents reach this controller, `host:port`.
    pub fn agent_address(&self) -> String {
        advertised(self.advertise.agent.as_deref(), self.listen.agent)
    }
    /// Where other controllers reach this one, `host:port`.
    pub fn peer_address(&self) -> String {
        advertised(self.advertise.peer.as_deref(), self.listen.peer)
    }
    /// Where monitoring reaches this controller, `host:port`; `None` on the loopback.
    pub fn status_address(&self) -> Option<String> {
        let listen = self.listen.status;
        if listen.ip().is_loopback() {
            return None;
        }
        let given = self.advertise.status.clone();
        Some(given.unwrap_or_else(|| match listen.ip().is_unspecified() {
            false => listen.to_string(),
            true => {
                let api = self.api_address();
                let host = api.rsplit_once(':').map_or(api.as_str(), |(host, _)| host);
                format!("{host}:{}", listen.port())
            }
        }))
    }
    /// Silence after which a host is offline.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.hosts.lease_s)
    }
    /// Time between two heartbeats of an agent.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.hosts.heartbeat_ms)
    }
    /// The store's folders.
    pub fn folders(&self) -> Folders {
        Folders {
            root: self.data_dir.clone(),
        }
    }
}

fn advertised(given: Option<&str>, listen: SocketAddr) -> String {
    given.map_or_else(|| listen.to_string(), str::to_owned)
}

/// Where what lies in the data folder.
#[derive(Debug, Clone)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// The data folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// SQLite files.
    pub fn shadow(&self) -> PathBuf {
        self.root.join("shadow")
    }
    /// The Raft log.
    pub fn raft(&self) -> PathBuf {
        self.root.join("raft")
    }
    /// Key, certificate, sealed CA.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    /// The cluster's CA, its key sealed.
    pub fn sealed_ca(&self) -> PathBuf {
        self.pki().join("ca.sealed")
    }
    /// Which store this is.
    pub fn store_file(&self) -> PathBuf {
        self.root.join("store.json")
    }
    /// The root-only socket of a running controller.
    pub fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }
}

#[cfg(test)]
mod tests;
