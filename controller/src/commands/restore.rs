//! `restore`: a new life of a cluster from a backup. The first controller of that life is this one;
//! others join it anew. Whatever still runs of the former life belongs to another incarnation and is
//! refused.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use virtflow_pki::{CertificateAuthority, IdentityFolder};
use virtflow_raft::{MemberInfo, offline};
use virtflow_shadow::{restore_into, verify_backup};
use virtflow_types::{Incarnation, ObjectId};

use super::owner::Owner;
use super::{ConfigFile, Output, print_json};
use crate::app::cluster_version_supported;
use crate::config::Config;
use crate::daemon::admin::SEALED_CA;
use crate::daemon::load_seal_key;
use crate::store::{StoreFile, make_folder, write_file};

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    config: ConfigFile,
    /// A backup's folder.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn command(restore: Restore) -> anyhow::Result<ExitCode> {
    let config = restore.config.load()?;
    let _owner = Owner::of(&config);
    let (store, incarnation) = bring_back(&config, &restore.from).await?;
    match restore.output {
        Output::Json => print_json(&json!({
            "cluster_id": store.cluster_id,
            "incarnation": incarnation,
            "node_id": store.node_id,
        })),
        Output::Text => println!(
            "cluster {} begins a new life ({incarnation}) with this controller; start it with `systemctl start virtflow-controller`, then add the others anew",
            store.cluster_id
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// Fills the configured folders, which must hold nothing, from the backup.
pub async fn bring_back(
    config: &Config,
    backup: &std::path::Path,
) -> anyhow::Result<(StoreFile, Incarnation)> {
    let folders = config.folders();
    if StoreFile::load(&folders)?.is_some() || folders.raft().exists() || folders.shadow().exists()
    {
        bail!(
            "{} holds a store already; move it away first, it is not replaced",
            folders.root().display()
        );
    }
    let supports = cluster_version_supported();
    let manifest = verify_backup(backup, supports)
        .await
        .with_context(|| format!("the backup {}", backup.display()))?;
    let Some(cluster_id) = manifest.cluster_id else {
        bail!(
            "{} is a backup of a store that was never begun",
            backup.display()
        );
    };
    let seal_key = load_seal_key(config)?;
    let path = backup.join(SEALED_CA);
    let sealed = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let authority = CertificateAuthority::open(&sealed, &seal_key)
        .with_context(|| format!("opening the CA in {}", path.display()))?;
    if authority.cluster_id() != cluster_id.uuid() {
        bail!("{} is of another cluster than the backup", path.display());
    }
    for folder in [folders.root().to_owned(), folders.pki(), folders.shadow()] {
        make_folder(&folder)?;
    }
    write_file(&folders.sealed_ca(), &sealed, 0o600)?;
    let me = MemberInfo {
        name: config.name.clone(),
        store_id: ObjectId::generate(),
        key_fingerprint: IdentityFolder::new(folders.pki()).key()?.fingerprint(),
        peer_address: config.peer_address(),
        api_address: config.api_address(),
        agent_address: config.agent_address(),
    };
    let incarnation = Incarnation::generate();
    let mut node_id = None;
    let mut problem = None;
    let loaded = restore_into(&folders.shadow(), backup, supports, incarnation, |loaded| {
        let marks = offline::fresh_node_id(loaded).and_then(|id| {
            node_id = Some(id);
            offline::sole_member_marks(loaded, id, &me)
        });
        marks.unwrap_or_else(|error| {
            problem = Some(error);
            bytes::Bytes::new()
        })
    })
    .await?;
    if let Some(problem) = problem {
        return Err(problem).context("beginning a new life of the cluster");
    }
    let node_id = node_id.context("the backup names no member")?;
    offline::begin_new_life(&folders.raft(), cluster_id, node_id, &me, &loaded).await?;
    let store = StoreFile {
        cluster_id,
        store_id: me.store_id,
        node_id,
        learner: false,
        peers: Vec::new(),
    };
    store.save(&folders)?;
    Ok((store, incarnation))
}
