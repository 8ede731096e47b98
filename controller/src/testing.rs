//! Controllers for tests: real ones, in this process, on loopback, with ports from the system.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::app::App;
use crate::commands;
use crate::config::{Advertise, Certificates, Config, Hosts, Listen, Log, Raft, Retention, Status};
use crate::daemon;

/// Name of the administrator of a test's cluster.
pub const ADMIN: &str = "admin";
/// Its password.
pub const ADMIN_PASSWORD: &str = "correct horse battery";
/// How long a test waits for a controller to lead.
const LEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// An address of loopback that was free a moment ago.
fn free_address() -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    TcpListener::bind(any)
        .and_then(|listener| listener.local_addr())
        .unwrap_or(any)
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
        retention: Retention::default(),
        log: Log::default(),
    }
}

/// A cluster of one, leading, whose listeners are not served: for tests of the routes.
pub async fn single_node(dir: &Path) -> anyhow::Result<App> {
    let config = config(dir);
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
