//! `join`: another controller of an existing cluster.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::json;
use tonic::transport::Endpoint;
use virtflow_pki::{
    Alpn, CaCertificate, CaFingerprint, CertificateAuthority, IdentityFolder, SealKey,
    ServerExpectation, TlsConnector, Token, client_config,
};
use virtflow_proto::agent::v1::enrolment_client::EnrolmentClient;
use virtflow_proto::agent::v1::{EnrolReply, EnrolRequest};
use virtflow_raft::{MemberInfo, PeerTls, offline};
use virtflow_types::{ErrorCode, ObjectId};
use zeroize::Zeroizing;

use super::owner::Owner;
use super::{ConfigFile, Output, print_json};
use crate::app::{VERSION, cluster_version_supported};
use crate::config::Config;
use crate::daemon::identity;
use crate::daemon::members::{Newcomer, ask};
use crate::store::{StoreFile, make_folder, write_file};

/// Where the token may come from, so that it never stands on a command line.
const TOKEN_VARIABLE: &str = "VIRTFLOW_JOIN_TOKEN";
/// A token is far shorter.
const TOKEN_BYTES_MAX: u64 = 4096;
/// How long the cluster may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often, and how long, membership is asked for.
const MEMBERSHIP_ATTEMPTS: u32 = 20;
const MEMBERSHIP_PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `join`.
#[derive(Debug, Args)]
pub struct Join {
    #[command(flatten)]
    config: ConfigFile,
    /// A controller of the cluster: https://host:8443
    #[arg(long, value_name = "URL")]
    controller: String,
    /// SHA-256 of the cluster's CA certificate, as `init` and `virtflow invite create` print it.
    #[arg(long, value_name = "HEX")]
    ca_fingerprint: CaFingerprint,
    /// A file with the join token; without it VIRTFLOW_JOIN_TOKEN, or standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Receive everything, but never vote.
    #[arg(long)]
    learner: bool,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn command(join: Join) -> anyhow::Result<ExitCode> {
    let config = join.config.load()?;
    let _owner = Owner::of(&config);
    let token = read_token(join.token_file.as_deref())?;
    let store = enter(
        &config,
        &join.controller,
        join.ca_fingerprint,
        &token,
        join.learner,
    )
    .await?;
    match join.output {
        Output::Json => print_json(&json!({
            "cluster_id": store.cluster_id,
            "store_id": store.store_id,
            "node_id": store.node_id,
        })),
        Output::Text => println!(
            "joined cluster {} as node {}; start it with `systemctl start virtflow-controller`",
            store.cluster_id, store.node_id
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn read_token(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let text = if let Some(path) = file {
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?
    } else if let Ok(text) = std::env::var(TOKEN_VARIABLE) {
        text
    } else {
        if std::io::stdin().is_terminal() {
            eprintln!("join token (ends with a newline and Ctrl-D):");
        }
        let mut text = String::new();
        std::io::stdin()
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut text)?;
        text
    };
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() {
        bail!(
            "no join token: make one with `virtflow invite create --role controller` and give it by --token-file, {TOKEN_VARIABLE} or standard input"
        );
    }
    Ok(token)
}

/// Enters the cluster: identity, seal key, CA, a number in the group, an empty log. May be repeated with
/// the same token until it succeeded.
pub async fn enter(
    config: &Config,
    controller: &str,
    ca_fingerprint: CaFingerprint,
    token_text: &str,
    learner: bool,
) -> anyhow::Result<StoreFile> {
    let store = admitted(config, controller, ca_fingerprint, token_text, learner).await?;
    let folders = config.folders();
    if !folders.raft().exists() {
        offline::create(
            &folders.raft(),
            store.cluster_id,
            store.node_id,
            store.store_id,
        )
        .await?;
    }
    // Last: with it the folder is complete.
    store.save(&folders)?;
    Ok(store)
}

/// The same without a log, and without saying that the folder is complete.
pub async fn admitted(
    config: &Config,
    controller: &str,
    ca_fingerprint: CaFingerprint,
    token_text: &str,
    learner: bool,
) -> anyhow::Result<StoreFile> {
    let folders = config.folders();
    if let Some(store) = StoreFile::load(&folders)? {
        bail!(
            "{} holds a store of cluster {} already; use another data folder",
            folders.root().display(),
            store.cluster_id
        );
    }
    for folder in [folders.root().to_owned(), folders.pki(), folders.shadow()] {
        make_folder(&folder)?;
    }
    let token = Token::parse(token_text)?;
    let identity_folder = IdentityFolder::new(folders.pki());
    let key = identity_folder.key()?;
    let reply = enrol(config, controller, ca_fingerprint, token_text, key.csr()?).await?;
    let ca = CaCertificate::from_der_pinned(reply.ca_der.clone(), &ca_fingerprint)?;
    let malformed = |what: &str| anyhow!("the controller's answer has a malformed {what}");
    let cluster_id: ObjectId = reply
        .cluster_id
        .parse()
        .map_err(|_| malformed("cluster id"))?;
    let store_id: ObjectId = reply.host_id.parse().map_err(|_| malformed("store id"))?;
    if reply.sealed_ca.is_empty() || reply.wrapped_seal_key.is_empty() {
        bail!(
            "the token is for a host, not for a controller; make one with `virtflow invite create --role controller`"
        );
    }
    let seal_key =
        SealKey::unwrap_with_secret(token.secret(), cluster_id.uuid(), &reply.wrapped_seal_key)?;
    keep_seal_key(config, &seal_key)?;
    let authority = CertificateAuthority::open(&reply.sealed_ca, &seal_key)?;
    if authority.certificate().fingerprint() != ca.fingerprint() {
        bail!("the CA that the controller sent is not the one that signs for it");
    }
    write_file(&folders.sealed_ca(), &reply.sealed_ca, 0o600)?;
    let tls = PeerTls {
        certificates: identity::begin(config, store_id, &authority)?,
        pinned: Arc::default(),
    };
    let newcomer = Newcomer {
        info: MemberInfo {
            name: config.name.clone(),
            store_id,
            key_fingerprint: key.fingerprint(),
            peer_address: config.peer_address(),
            api_address: config.api_address(),
            agent_address: config.agent_address(),
        },
        version: VERSION.into(),
        supports: cluster_version_supported(),
        // It votes once it runs and has caught up.
        voter: false,
        status_address: config.status_address().unwrap_or_default(),
    };
    let node_id = number(&tls, &reply.peer_endpoints, &newcomer).await?;
    Ok(StoreFile {
        cluster_id,
        store_id,
        node_id,
        learner,
        peers: reply.peer_endpoints,
    })
}

fn keep_seal_key(config: &Config, key: &SealKey) -> anyhow::Result<()> {
    match crate::daemon::load_seal_key(config) {
        Ok(known) if known.key_id() == key.key_id() => Ok(()),
        Ok(known) => bail!(
            "{} holds another seal key ({}) than the cluster's ({}); move it away",
            config.seal_key_file.display(),
            known.key_id(),
            key.key_id()
        ),
        Err(_) => {
            if let Some(folder) = config.seal_key_file.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("making the folder {}", folder.display()))?;
            }
            key.save_new(&config.seal_key_file)
                .context("keeping the seal key")
        }
    }
}

async fn enrol(
    config: &Config,
    controller: &str,
    ca_fingerprint: CaFingerprint,
    token: &str,
    csr_der: Vec<u8>,
) -> anyhow::Result<EnrolReply> {
    let url = if controller.contains("://") {
        controller.to_owned()
    } else {
        format!("https://{controller}")
    };
    let tls = client_config(
        None,
        ServerExpectation::first_contact(ca_fingerprint),
        Alpn::H2,
    )?;
    let channel = Endpoint::from_shared(url.clone())
        .with_context(|| format!("`{url}` as the controller's address"))?
        .timeout(ANSWER_TIMEOUT)
        .connect_with_connector(TlsConnector::new(tls))
        .await
        .with_context(|| format!("connecting to {url}"))?;
    let request = EnrolRequest {
        token: token.to_owned(),
        csr_der,
        serial_number: String::new(),
        hostname: config.name.clone(),
        agent_version: VERSION.into(),
    };
    match EnrolmentClient::new(channel).enrol(request).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => bail!("{url} refused: {}", status.message()),
    }
}

/// This member's number; asked for while leadership may change.
async fn number(tls: &PeerTls, peers: &[String], newcomer: &Newcomer) -> anyhow::Result<u64> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match ask(tls, peers, newcomer).await {
            Ok(node_id) => return Ok(node_id),
            // Asking again would not help.
            Err(error) if attempt >= MEMBERSHIP_ATTEMPTS || error.code == ErrorCode::Forbidden => {
                return Err(error)
                    .context("asking for membership; repeat `join` with the same token");
            }
            Err(_) => tokio::time::sleep(MEMBERSHIP_PAUSE).await,
        }
    }
}
