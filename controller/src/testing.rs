//! Controllers for tests: real ones, in this process, on loopback, with ports from the system.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::app::App;
use crate::commands;
use crate::config::{
    Advertise, Certificates, Config, Hosts, Limits, Listen, Log, Raft, Retention, Status,
};
use crate::daemon;
pub use crate::leader::HostTable;

/// Name of the administrator of a test's cluster.
pub const ADMIN: &str = "admin";
/// Its password.
pub const ADMIN_PASSWORD: &str = "correct horse battery";
/// How long a test waits for a controller to lead.
const LEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Ports below those that the system gives to outgoing connections, so that none of these takes one
/// between the moment it is chosen and the moment it is listened on.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// An address of loopback that nobody listens on, and that this process gives to nobody else.
fn free_address() -> SocketAddr {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin far apart.
    let span = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(977) % span;
    loop {
        let given = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((first + given) % span).unwrap_or(0);
        let address = SocketAddr::from(([127, 0, 0, 1], PORTS.start + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A configuration whose folders lie below `dir`.
pub fn config(dir: &Path) -> Config {
    Config {
        name: "c1".into(),
        data_dir: dir.join("data"),
        seal_key_file: dir.join("seal.key"),
        listen: Listen {
            api: free_address(),
            agent: free_address(),
            peer: free_address(),
            status: free_address(),
        },
        advertise: Advertise::default(),
        raft: Raft {
            heartbeat_ms: Some(100),
            election_min_ms: Some(300),
            election_max_ms: Some(600),
            ..Raft::default()
        },
        hosts: Hosts::default(),
        certificates: Certificates::default(),
        status: Status::default(),
        limits: Limits::default(),
        retention: Retention::default(),
        log: Log::default(),
    }
}

/// A cluster of one, leading, whose listeners are not served: for tests of the routes.
pub async fn single_node(dir: &Path, change: impl FnOnce(&mut Config)) -> anyhow::Result<App> {
    let mut config = config(dir);
    change(&mut config);
    commands::initialize(config.clone(), ADMIN, ADMIN_PASSWORD, None).await?;
    let app = daemon::open(config, None).await?;
    daemon::spawn_tasks(&app);
    wait_until_leading(&app).await?;
    Ok(app)
}

/// Serves all listeners of an app in the background until it stops.
pub async fn serve(app: &App) -> anyhow::Result<()> {
    let bound = daemon::listeners::bind(app).await?;
    let app = app.clone();
    tokio::spawn(async move {
        daemon::listeners::serve(&app, bound, Duration::from_secs(1)).await;
    });
    Ok(())
}

/// Waits until this controller leads.
pub async fn wait_until_leading(app: &App) -> anyhow::Result<()> {
    let mut leadership = app.node().leadership();
    let ready = leadership.wait_for(|now| now.is_leader_ready);
    match tokio::time::timeout(LEAD_TIMEOUT, ready).await {
        Ok(ready) => ready.map(drop).context("the node stopped"),
        Err(_) => bail!("the controller does not lead after {LEAD_TIMEOUT:?}"),
    }
}
