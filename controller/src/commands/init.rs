//! `init`: a new cluster with this controller as its only member.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use virtflow_logic::{Genesis, NewSecret};
use virtflow_model::kinds::controller::ControllerSpec;
use virtflow_pki::{CaFingerprint, CertificateAuthority, SealKey, Token, TokenPrefix};
use virtflow_raft::offline;
use virtflow_types::{Incarnation, Name, ObjectId, RequestId, Timestamp};

use super::owner::Owner;
use super::{ConfigFile, Output, print_json};
use crate::app::{Parts, VERSION, cluster_version_supported};
use crate::config::Config;
use crate::daemon::{self, load_seal_key};
use crate::off_loop::off_loop;
use crate::store::{StoreFile, make_folder, write_file};

/// The first member's number, by convention.
const FIRST_NODE_ID: u64 = 1;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    config: ConfigFile,
    /// Name of the first administrator.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    admin_user: String,
    /// A new file for the first administrator's password (mode 0600).
    #[arg(long, value_name = "FILE")]
    admin_password_file: Option<PathBuf>,
    /// A new file for an API token of the first administrator (mode 0600).
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// What came to be.
#[derive(Debug, Clone)]
pub struct Initialized {
    /// The new cluster.
    pub cluster_id: ObjectId,
    /// What agents and clients pin.
    pub ca_fingerprint: CaFingerprint,
}

pub(super) async fn command(init: Init) -> anyhow::Result<ExitCode> {
    let config = init.config.load()?;
    let _owner = Owner::of(&config);
    if init.admin_password_file.is_none() && init.admin_token_file.is_none() {
        bail!("name a file for the first administrator's password: --admin-password-file FILE");
    }
    for path in [&init.admin_password_file, &init.admin_token_file]
        .into_iter()
        .flatten()
    {
        if path.exists() {
            bail!(
                "{} exists already and is not replaced; name a new file",
                path.display()
            );
        }
    }
    let password = crate::api::password::generate();
    let token_id = ObjectId::generate();
    let token = Token::generate(TokenPrefix::Api, token_id.uuid())?;
    let secret = init.admin_token_file.as_ref().map(|_| NewSecret {
        id: token_id,
        hash: token.hash().to_string(),
    });
    // Before anything is made: a credential that cannot be written is lost for ever.
    if let Some(path) = &init.admin_password_file {
        write_file(path, format!("{password}\n").as_bytes(), 0o600)?;
    }
    if let Some(path) = &init.admin_token_file {
        write_file(path, format!("{}\n", *token.text()).as_bytes(), 0o600)?;
    }
    let made = initialize(config, &init.admin_user, &password, secret).await;
    if made.is_err() {
        for path in [&init.admin_password_file, &init.admin_token_file]
            .into_iter()
            .flatten()
        {
            let _ = std::fs::remove_file(path);
        }
    }
    let made = made?;
    match init.output {
        Output::Json => print_json(&json!({
            "cluster_id": made.cluster_id,
            "ca_fingerprint": made.ca_fingerprint.to_string(),
            "admin_user": init.admin_user,
        })),
        Output::Text => {
            println!(
                "cluster {} is made; start it with `systemctl start virtflow-controller`",
                made.cluster_id
            );
            println!("CA fingerprint: {}", made.ca_fingerprint);
            if let Some(path) = &init.admin_password_file {
                println!("password of {}: in {}", init.admin_user, path.display());
            }
            if let Some(path) = &init.admin_token_file {
                println!("API token of {}: in {}", init.admin_user, path.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a cluster in the configured folders, which must not hold one.
pub async fn initialize(
    config: Config,
    admin: &str,
    password: &str,
    admin_token: Option<NewSecret>,
) -> anyhow::Result<Initialized> {
    Name::new(admin).with_context(|| format!("`{admin}` as the administrator's name"))?;
    let password = password.to_owned();
    let admin_password_hash = off_loop(move || crate::api::password::hash(&password)).await??;
    let (store, initialized) = lay_out(&config)?;
    let folders = config.folders();
    offline::create(
        &folders.raft(),
        store.cluster_id,
        store.node_id,
        store.store_id,
    )
    .await?;
    store.save(&folders)?;
    let parts = daemon::open_parts(config, None).await?;
    let founded = found(&parts, admin, admin_password_hash, admin_token).await;
    parts.node.shutdown().await;
    founded?;
    Ok(initialized)
}

/// Makes the folders, the seal key and the CA of a new cluster. Its store is not saved yet.
pub fn lay_out(config: &Config) -> anyhow::Result<(StoreFile, Initialized)> {
    let folders = config.folders();
    if let Some(store) = StoreFile::load(&folders)? {
        bail!(
            "{} holds a store of cluster {} already; use another data folder, or remove this one if nothing in it is needed",
            folders.root().display(),
            store.cluster_id
        );
    }
    if folders.raft().exists() || folders.sealed_ca().exists() {
        bail!(
            "{} holds the remains of an interrupted init; remove the folder and repeat",
            folders.root().display()
        );
    }
    for folder in [folders.root().to_owned(), folders.pki(), folders.shadow()] {
        make_folder(&folder)?;
    }
    let seal_key = if config.seal_key_file.exists() {
        load_seal_key(config)?
    } else {
        if let Some(folder) = config.seal_key_file.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("making the folder {}", folder.display()))?;
        }
        match load_seal_key(config) {
            // From a systemd credential.
            Ok(key) => key,
            Err(_) => SealKey::create_file(&config.seal_key_file)?,
        }
    };
    let cluster_id = ObjectId::random();
    let authority = CertificateAuthority::create(cluster_id.uuid(), Timestamp::now().ms())?;
    write_file(&folders.sealed_ca(), &authority.sealed(&seal_key)?, 0o600)?;
    let store = StoreFile {
        cluster_id,
        store_id: ObjectId::generate(),
        node_id: FIRST_NODE_ID,
        learner: false,
        peers: Vec::new(),
    };
    let initialized = Initialized {
        cluster_id,
        ca_fingerprint: authority.certificate().fingerprint(),
    };
    Ok((store, initialized))
}

/// Begins the group with this store as its only member, and writes its first entry.
pub async fn found(
    parts: &Parts,
    admin: &str,
    admin_password_hash: String,
    admin_token: Option<NewSecret>,
) -> anyhow::Result<()> {
    let store = &parts.store;
    let me = parts.member_info();
    let genesis = virtflow_logic::genesis(&Genesis {
        cluster_id: store.cluster_id,
        incarnation: Incarnation::generate(),
        request_id: RequestId::generate(),
        now: Timestamp::now(),
        admin_name: admin.to_owned(),
        admin_password_hash,
        admin_token,
        store_id: store.store_id,
        controller_name: me.name.clone(),
        controller: ControllerSpec {
            node_id: store.node_id,
            key_fingerprint: me.key_fingerprint.to_string(),
            peer_address: me.peer_address.clone(),
            api_address: me.api_address.clone(),
            agent_address: me.agent_address.clone(),
        },
        version: VERSION.to_owned(),
        supports: cluster_version_supported(),
    })?;
    parts
        .node
        .bootstrap(genesis, me)
        .await
        .context("writing the first entry of the store")?;
    Ok(())
}
