//! How a controller becomes a member, and says at each start who it is.

use std::time::Duration;

use tokio::time::sleep;
use virtflow_logic::Announce;
use virtflow_model::Kind;
use virtflow_model::kinds::controller::ControllerSpec;
use virtflow_model::kinds::join_token::JoinRole;
use virtflow_model::kinds::{Controller, JoinToken};
use virtflow_proto::raft::v1::JoinRequest;
use virtflow_proto::raft::v1::peer_client::PeerClient;
use virtflow_raft::{MemberInfo, MemberRole, PeerTls, peer_channel_to};
use virtflow_state::State;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::agents::enrolment::decide_error;
use crate::app::{App, VERSION, cluster_version_supported};

/// Pause between two attempts to be known.
const RETRY: Duration = Duration::from_secs(1);
/// How long one attempt may take: a promotion waits until the newcomer has caught up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(150);

/// Who asks to be a member.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// How it is known.
    pub info: MemberInfo,
    /// Its software.
    pub version: String,
    /// The highest cluster version it supports.
    pub supports: u32,
    /// It wants a vote.
    pub voter: bool,
    /// Where monitoring reaches it, `host:port`; empty if nobody but its own machine does.
    pub status_address: String,
}

impl Newcomer {
    /// The message that says the same.
    pub fn to_request(&self) -> JoinRequest {
        JoinRequest {
            from: None,
            name: self.info.name.clone(),
            peer_address: self.info.peer_address.clone(),
            api_address: self.info.api_address.clone(),
            agent_address: self.info.agent_address.clone(),
            key_fingerprint: self.info.key_fingerprint.to_string().into(),
            version: self.version.clone(),
            supports: self.supports,
            voter: self.voter,
            status_address: self.status_address.clone(),
        }
    }
}

/// Takes a newcomer in, or a member that comes back, as the leader. Asked again it answers the same.
pub async fn admit(app: &App, newcomer: &Newcomer) -> Result<u64, Error> {
    let node = app.node();
    if !app.leads() {
        return Err(Error::new(
            ErrorCode::Unavailable,
            "this controller does not lead",
        ));
    }
    let image = node.read().await.map_err(|error| error.to_error())?;
    let info = &newcomer.info;
    let key = info.key_fingerprint.to_string();
    // Before anything is changed for it; it is judged again where it is announced.
    virtflow_logic::controller_supports(&image, newcomer.supports)?;
    if info.store_id != app.store_id() && !has_token(&image, info.store_id, &key) {
        virtflow_logic::controller_admitted(&image, info.store_id, &key).map_err(|why| {
            Error::new(ErrorCode::Forbidden, why).advise("join again with a new token")
        })?;
    }
    let known = node
        .members()
        .into_iter()
        .find(|member| member.info.store_id == info.store_id);
    let node_id = match &known {
        Some(member) => {
            if member.info != *info {
                let update = node.update_member(member.node_id, info.clone());
                update.await.map_err(|error| error.to_error())?;
            }
            member.node_id
        }
        None => node
            .add_learner(info.clone())
            .await
            .map_err(|error| error.to_error())?,
    };
    if let Err(error) = announce(app, newcomer, node_id).await {
        if known.is_none() {
            // Nobody is a member whom the state does not know.
            let _ = node.remove(node_id).await;
        }
        return Err(error);
    }
    let is_learner = node
        .members()
        .iter()
        .any(|member| member.node_id == node_id && member.role == MemberRole::Learner);
    if newcomer.voter && is_learner {
        node.promote(node_id)
            .await
            .map_err(|error| error.to_error())?;
        tracing::info!(
            node_id,
            name = info.name,
            "the controller votes from now on"
        );
    }
    Ok(node_id)
}

/// True if a join token was used for this store with this key, and nobody is known by that id yet.
fn has_token(image: &State, store_id: ObjectId, key: &str) -> bool {
    image.get(store_id).is_none()
        && image.of_kind(Kind::JoinToken.name(), None).any(|object| {
            virtflow_logic::decoded::<JoinToken>(object).is_ok_and(|token| {
                token.spec.role == JoinRole::Controller
                    && token.status.used_for == Some(store_id)
                    && token.status.used_by_key == key
            })
        })
}

/// Takes controllers out of the state that are no members: those of a former life of the store.
async fn forget_strangers(app: &App) -> Result<(), Error> {
    let members: Vec<ObjectId> = app
        .node()
        .members()
        .into_iter()
        .map(|member| member.info.store_id)
        .collect();
    let image = app.node().read().await.map_err(|error| error.to_error())?;
    let strangers = image
        .of_kind(Kind::Controller.name(), None)
        .filter(|object| {
            !members.contains(&object.id)
                && virtflow_logic::decoded::<Controller>(object).is_ok_and(|c| !c.status.removed)
        });
    for stranger in strangers {
        let (request_id, now, id) = (RequestId::generate(), Timestamp::now(), stranger.id);
        tracing::warn!(name = %stranger.name, store_id = %id, "this controller is no member any more; it is marked as removed");
        let decided = app.node().decide(move |head| {
            virtflow_logic::controller_removed(head, request_id, now, id)
                .map(|changeset| (changeset, ()))
        });
        decided.await.map_err(|error| decide_error(app, error))?;
    }
    Ok(())
}

async fn announce(app: &App, newcomer: &Newcomer, node_id: u64) -> Result<(), Error> {
    let info = &newcomer.info;
    let announce = Announce {
        store_id: info.store_id,
        name: info.name.clone(),
        spec: ControllerSpec {
            node_id,
            key_fingerprint: info.key_fingerprint.to_string(),
            peer_address: info.peer_address.clone(),
            api_address: info.api_address.clone(),
            agent_address: info.agent_address.clone(),
        },
        version: newcomer.version.clone(),
        supports: newcomer.supports,
        status_address: newcomer.status_address.clone(),
    };
    let (request_id, now) = (RequestId::generate(), Timestamp::now());
    let decided = app.node().decide(move |head| {
        virtflow_logic::controller_announce(head, request_id, now, &announce)
            .map(|changeset| (changeset, ()))
    });
    decided
        .await
        .map(drop)
        .map_err(|error| decide_error(app, error))
}

/// How this controller presents itself.
fn myself(app: &App) -> Newcomer {
    Newcomer {
        info: app.member_info(),
        version: VERSION.into(),
        supports: cluster_version_supported(),
        voter: !app.store().learner,
        status_address: app.config().status_address().unwrap_or_default(),
    }
}

/// Says who this controller is until the leader has taken it in. Once a start.
pub async fn introduce(app: App) {
    let mut last_problem = String::new();
    loop {
        match tokio::time::timeout(ATTEMPT_TIMEOUT, attempt(&app)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if error.code == ErrorCode::Forbidden => {
                tracing::error!(%error, "the cluster does not take this controller");
                return;
            }
            Ok(Err(error)) => {
                let problem = error.to_string();
                if problem != last_problem {
                    tracing::info!(%error, "not known to the leader yet");
                    last_problem = problem;
                }
            }
            Err(_) => tracing::info!("the leader has not taken this controller in yet"),
        }
        sleep(RETRY).await;
    }
}

async fn attempt(app: &App) -> Result<(), Error> {
    let newcomer = myself(app);
    let leadership = *app.node().leadership().borrow();
    if leadership.is_leader_ready {
        forget_strangers(app).await?;
        return admit(app, &newcomer).await.map(drop);
    }
    let known = leadership.leader.and_then(|id| app.node().member(id));
    let addresses = match known {
        Some(leader) => vec![leader.peer_address],
        None => app.store().peers.clone(),
    };
    ask(app.peer_tls(), &addresses, &newcomer).await.map(drop)
}

/// Asks the controllers at these addresses until one of them, the leader, takes the newcomer in.
pub async fn ask(tls: &PeerTls, addresses: &[String], newcomer: &Newcomer) -> Result<u64, Error> {
    let mut problems = Vec::new();
    // One that was taken in before it could write that down is told of itself.
    let others = addresses
        .iter()
        .filter(|address| **address != newcomer.info.peer_address);
    for address in others {
        let channel = match peer_channel_to(tls, address, None) {
            Ok(channel) => channel,
            Err(error) => {
                problems.push(format!("{address}: {error}"));
                continue;
            }
        };
        match PeerClient::new(channel).join(newcomer.to_request()).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                if reply.error.is_empty() {
                    return Ok(reply.node_id);
                }
                problems.push(format!("{address}: {}", reply.error));
            }
            Err(status) if status.code() == tonic::Code::PermissionDenied => {
                return Err(Error::new(ErrorCode::Forbidden, status.message()));
            }
            Err(status) => problems.push(format!("{address}: {}", status.message())),
        }
    }
    let said = match problems.is_empty() {
        true => "no controller is known to ask".to_owned(),
        false => problems.join("; "),
    };
    Err(Error::new(ErrorCode::Unavailable, said))
}
