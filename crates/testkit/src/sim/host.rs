//! A host: the product's own agent above simulated guests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use virtflow_agent::agent::Agent;
use virtflow_agent::config::Config;
use virtflow_agent::hypervisor::simulated::SimulatedMachine;
use virtflow_agent::identity::{self, HostIdentity};
use virtflow_agent::inventory::ToldMachine;

use super::api::PORT;
use super::controller::{Invitations, Shared, lock};
use super::trace;

/// One host's machine: what outlives its agent.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) guests: SimulatedMachine,
    pub(crate) machine: Arc<ToldMachine>,
    pub(crate) invitations: Shared<Invitations>,
    /// Its id in the cluster, once it has joined.
    pub(crate) id: Shared<Option<virtflow_types::ObjectId>>,
    pub(crate) controllers: Vec<String>,
}

impl Host {
    fn config(&self) -> anyhow::Result<Config> {
        let list: Vec<String> = self
            .controllers
            .iter()
            .map(|name| format!("\"{name}:8444\""))
            .collect();
        let data = self.folder.join("data");
        let text = format!(
            "name = \"{}\"\nserial = \"SN-{}\"\ndata_dir = \"{}\"\nhypervisor = \"simulated\"\ncontrollers = [{}]\n\
             guests_dir = \"{}\"\n[status]\nlisten = \"127.0.0.1:9441\"\n",
            self.name,
            self.name,
            data.display(),
            list.join(", "),
            self.folder.join("guests").display(),
        );
        let path = self.folder.join("agent.toml");
        std::fs::create_dir_all(&data)?;
        std::fs::create_dir_all(self.folder.join("guests"))?;
        std::fs::write(&path, text)?;
        Ok(Config::load(&path)?)
    }

    /// One life of the agent.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = self.config()?;
        while HostIdentity::load(&config)?.is_none() {
            let invited = {
                let invitations = lock(&self.invitations);
                let token = invitations.tokens.get(&self.name).cloned();
                invitations.ca.zip(token)
            };
            let Some((ca, token)) = invited else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let doors: Vec<String> = self
                .controllers
                .iter()
                .map(|name| format!("https://{name}:{PORT}"))
                .collect();
            if let Err(error) = identity::join(&config, &doors, &ca, &token).await {
                trace::note(format!("cannot join yet: {error:#}"));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        if let Some(known) = HostIdentity::load(&config)? {
            *lock(&self.id) = Some(known.membership().host_id);
        }
        let agent = Agent::start_with(config, self.guests.hypervisor(), self.machine.clone());
        let mut agent = agent.await?;
        trace::note("agent runs");
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            anyhow::ensure!(agent.is_alive(), "a part of the agent hangs or has failed");
        }
    }
}
