//! `recover --sole-survivor`: this controller alone begins a new life of the cluster from what it holds.
//! What only the lost majority had is gone; whatever comes back of the former life is refused.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use virtflow_pki::IdentityFolder;
use virtflow_raft::{MemberInfo, offline};
use virtflow_shadow::{current_state_file, inspect, set_incarnation};
use virtflow_types::Incarnation;

use super::owner::Owner;
use super::{ConfigFile, Output, print_json};
use crate::app::cluster_version_supported;
use crate::config::Config;
use crate::store::StoreFile;

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct Recover {
    #[command(flatten)]
    config: ConfigFile,
    /// The other controllers are lost for good: this one goes on alone.
    #[arg(long, required = true)]
    sole_survivor: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn command(recover: Recover) -> anyhow::Result<ExitCode> {
    let config = recover.config.load()?;
    let _owner = Owner::of(&config);
    if !recover.yes && !confirmed()? {
        bail!("nothing was changed; with --yes it is not asked");
    }
    let (store, incarnation) = go_on_alone(&config).await?;
    match recover.output {
        Output::Json => print_json(&json!({
            "cluster_id": store.cluster_id,
            "incarnation": incarnation,
            "node_id": store.node_id,
        })),
        Output::Text => println!(
            "cluster {} begins a new life ({incarnation}) with this controller alone; start it with `systemctl start virtflow-controller`, then add others with empty data folders",
            store.cluster_id
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!(
        "Changes that only the lost controllers had are lost, and those controllers must never come back.\nGo on? [yes/no] "
    );
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Makes the store in the configured folders the only member of a new life.
pub async fn go_on_alone(config: &Config) -> anyhow::Result<(StoreFile, Incarnation)> {
    let folders = config.folders();
    let store = StoreFile::require(&folders)?;
    let me = MemberInfo {
        name: config.name.clone(),
        store_id: store.store_id,
        key_fingerprint: IdentityFolder::new(folders.pki()).key()?.fingerprint(),
        peer_address: config.peer_address(),
        api_address: config.api_address(),
        agent_address: config.agent_address(),
    };
    // A store that was killed in its first moments holds its beginning in the log alone, and a log's
    // beginning does not fit a later life.
    let file = current_state_file(&folders.shadow())?;
    let inspection = inspect(&file).await?;
    if inspection.cluster_id.is_none() {
        bail!(
            "{} holds nothing yet; run the controller for some seconds, without the others, then repeat",
            file.display()
        );
    }
    let incarnation = Incarnation::generate();
    let mut problem = None;
    let loaded = set_incarnation(
        &folders.shadow(),
        cluster_version_supported(),
        incarnation,
        |loaded| {
            offline::sole_member_marks(loaded, store.node_id, &me).unwrap_or_else(|error| {
                problem = Some(error);
                // As it was: nothing has changed then but the incarnation.
                loaded.raft_meta.clone()
            })
        },
    )
    .await
    .context("giving the store a new incarnation; stop the controller first")?;
    if let Some(problem) = problem {
        return Err(problem).context("beginning a new life of the cluster");
    }
    offline::begin_new_life(
        &folders.raft(),
        store.cluster_id,
        store.node_id,
        &me,
        &loaded,
    )
    .await?;
    Ok((store, incarnation))
}
