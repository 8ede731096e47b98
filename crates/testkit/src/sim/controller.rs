//! A controller as it runs in a simulation: the product's own, on a simulated disk and network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use virtflow_controller::app::App;
use virtflow_controller::commands::{admitted, found, lay_out};
use virtflow_controller::config::{
    Advertise, Certificates, Config, Hosts, Limits, Listen, Log, Raft, Retention, Status,
};
use virtflow_controller::daemon;
use virtflow_logic::NewSecret;
use virtflow_pki::{CaFingerprint, Token, TokenPrefix};
use virtflow_raft::{ChangeEvent, Node, SimulatedDisk};
use virtflow_state::State;
use virtflow_types::{ObjectId, chance};

use super::api::PORT;
use super::shadow::{Observer, ShadowDisk, SimulatedShadow};
use super::witness::{PREFIX, value_of};
use super::{skew, trace};
use crate::history::watch::{Event, Stream};

/// Ports of the agent, peer and status listeners.
const AGENT_PORT: u16 = 8444;
const PEER_PORT: u16 = 8445;
const STATUS_PORT: u16 = 9440;

/// Follows the changes as a watch does, and writes down what it was told.
async fn follow(app: App, name: String, streams: Shared<Vec<Stream>>) {
    let (image, mut changes) = app.node().changes();
    let whole = |image: &State| Event::Resync {
        index: image.index(),
        state: image.objects().filter_map(|row| value_of(row)).collect(),
    };
    let number = {
        let mut streams = lock(&streams);
        let number = streams.len();
        streams.push(Stream {
            watcher: format!("{name}, stream {number}"),
            prefix: PREFIX.to_owned(),
            events: vec![whole(&image)],
        });
        number
    };
    while let Some(event) = changes.next().await {
        let events = match event {
            ChangeEvent::Resync(image) => vec![whole(&image)],
            ChangeEvent::Entry(entry) => {
                let told = entry.changes.iter().filter_map(|change| {
                    let row = change.after.as_ref().or(change.before.as_ref())?;
                    let (key, value) = value_of(row)?;
                    Some(Event::Changed {
                        index: entry.index,
                        key,
                        version: change.after.is_some().then_some(value),
                    })
                });
                let mut told: Vec<Event> = told.collect();
                told.push(Event::Progress { index: entry.index });
                told
            }
        };
        lock(&streams)[number].events.extend(events);
    }
}

/// What new machines need to know of the cluster, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Invitations {
    pub(crate) ca: Option<CaFingerprint>,
    pub(crate) admin_token: Option<String>,
    /// Join tokens by machine.
    pub(crate) tokens: std::collections::BTreeMap<String, String>,
}

pub(crate) type Shared<T> = Arc<Mutex<T>>;

pub(crate) fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One controller's machine: what outlives its process.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) log: SimulatedDisk,
    pub(crate) shadow: ShadowDisk,
    pub(crate) invitations: Shared<Invitations>,
    /// The running process.
    pub(crate) app: Shared<Option<App>>,
    /// Why the last process stopped by itself.
    pub(crate) stopped: Shared<Option<String>>,
    pub(crate) observer: Observer,
    /// What those who follow its changes are told.
    pub(crate) streams: Shared<Vec<Stream>>,
    /// All controllers' names.
    pub(crate) peers: Vec<String>,
    pub(crate) founds: bool,
    pub(crate) snapshot_entries: u64,
    pub(crate) lease_s: u64,
}

impl Machine {
    fn config(&self) -> Config {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let at = |port: u16| Some(format!("{}:{port}", self.name));
        Config {
            name: self.name.clone(),
            data_dir: self.folder.join("data"),
            seal_key_file: self.folder.join("seal.key"),
            listen: Listen {
                api: any(PORT),
                agent: any(AGENT_PORT),
                peer: any(PEER_PORT),
                status: SocketAddr::from(([127, 0, 0, 1], STATUS_PORT)),
            },
            advertise: Advertise {
                api: at(PORT),
                agent: at(AGENT_PORT),
                peer: at(PEER_PORT),
                status: None,
            },
            raft: Raft {
                heartbeat_ms: Some(100),
                election_min_ms: Some(300),
                election_max_ms: Some(600),
                snapshot_entries: Some(self.snapshot_entries),
                log_keep_entries: Some(self.snapshot_entries / 6),
            },
            hosts: Hosts {
                lease_s: self.lease_s,
                ..Hosts::default()
            },
            certificates: Certificates::default(),
            status: Status::default(),
            retention: Retention::default(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }

    async fn open(&self, config: Config) -> anyhow::Result<virtflow_controller::app::Parts> {
        let (shadow, loaded) = SimulatedShadow::open(self.shadow.clone(), self.observer.clone());
        let disk = self.log.clone();
        daemon::open_parts_on(config, None, shadow, loaded, |raft, loaded, shadow, tls| {
            Node::start_simulated(raft, loaded, shadow, tls, disk)
        })
        .await
    }

    /// Makes the cluster, or joins it; nothing if that was done before.
    async fn settle(&self, config: &Config) -> anyhow::Result<()> {
        let folders = config.folders();
        if virtflow_controller::store::StoreFile::load(&folders)?.is_some() {
            return Ok(());
        }
        if self.founds {
            let (store, made) = lay_out(config)?;
            store.save(&folders)?;
            let id = ObjectId::generate();
            let token = Token::generate(TokenPrefix::Api, id.uuid())?;
            let parts = self.open(config.clone()).await?;
            let secret = NewSecret {
                id,
                hash: token.hash().to_string(),
            };
            let founded = found(&parts, "admin", "nobody logs in".into(), Some(secret)).await;
            parts.node.shutdown().await;
            founded?;
            let mut invitations = lock(&self.invitations);
            invitations.ca = Some(made.ca_fingerprint);
            invitations.admin_token = Some(token.text().to_string());
            return Ok(());
        }
        loop {
            let invited = {
                let invitations = lock(&self.invitations);
                let token = invitations.tokens.get(&self.name).cloned();
                invitations.ca.zip(token)
            };
            let Some((ca, token)) = invited else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let mut doors: Vec<_> = self.peers.iter().filter(|p| **p != self.name).collect();
            chance::shuffle(&mut doors);
            let door = format!("{}:{PORT}", doors.first().map_or("c1", |door| door));
            let joined = admitted(config, &door, ca, &token, false).await;
            match joined {
                Ok(store) => return store.save(&folders),
                Err(error) => {
                    trace::note(format!("cannot join yet: {error:#}"));
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// One life of the process.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = self.config();
        self.settle(&config).await.context("settling")?;
        let app = App::new(self.open(config).await?)?;
        let bound = daemon::listeners::bind(&app).await?;
        daemon::spawn_tasks(&app);
        tokio::spawn(follow(app.clone(), self.name.clone(), self.streams.clone()));
        tokio::spawn(skew::raise(app.clone()));
        trace::note("serves");
        *lock(&self.app) = Some(app.clone());
        let serving = daemon::listeners::serve(&app, bound, Duration::from_secs(1));
        let reason = tokio::select! {
            reason = app.node().fatal() => reason,
            () = serving => "stopped serving".into(),
        };
        trace::note(format!("stops: {reason}"));
        *lock(&self.stopped) = Some(reason);
        *lock(&self.app) = None;
        app.stop();
        app.node().stop().await;
        Ok(())
    }
}
