//! From a session to the leader, which may be this controller or another one.

use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;
use virtflow_pki::PeerIdentity;
use virtflow_proto::agent::v1::controller_message::Body as Told;
use virtflow_proto::agent::v1::{AgentMessage, ControllerMessage, Welcome};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::session::End;
use crate::app::App;
use crate::daemon::peer_calls;

/// How long the leader's grant is asked for, over changes of leadership.
const GRANT_TIMEOUT: Duration = Duration::from_secs(5);
const GRANT_PAUSE: Duration = Duration::from_millis(100);

/// The leader's grant; asked for again while leadership changes.
pub(super) async fn granted(
    app: &App,
    peer: &PeerIdentity,
    host: ObjectId,
    hello: &AgentMessage,
) -> Result<Welcome, End> {
    let deadline = Instant::now() + GRANT_TIMEOUT;
    loop {
        match to_leader(app, peer, host, hello, Instant::now()).await {
            Ok(Answer::Leader(Some(Told::Welcome(welcome)))) => return Ok(welcome),
            Ok(Answer::Leader(Some(Told::Goodbye(goodbye)))) => {
                return Err(End {
                    reason: goodbye.reason,
                    removed: goodbye.removed,
                });
            }
            Ok(Answer::Leader(_)) => {
                return Err(End::goodbye("the leader did not grant a session"));
            }
            Ok(Answer::NoLeader) => {}
            Err(error) if error.code == ErrorCode::Unavailable => {}
            Err(error) => return Err(End::goodbye(format!("no session granted: {error}"))),
        }
        if Instant::now() >= deadline {
            return Err(End::goodbye("no leader granted a session"));
        }
        tokio::time::sleep(GRANT_PAUSE).await;
    }
}

/// What became of a message for the leader.
pub(super) enum Answer {
    /// A confirmed leader took it; this is for the agent.
    Leader(Option<Told>),
    NoLeader,
}

/// Hands a message to the leader, here or elsewhere.
pub(super) async fn to_leader(
    app: &App,
    peer: &PeerIdentity,
    host: ObjectId,
    message: &AgentMessage,
    received: Instant,
) -> Result<Answer, Error> {
    if let Some(leader) = app.leader() {
        let told = leader
            .receive(
                app,
                host,
                &peer.key,
                message.clone(),
                received,
                app.store_id(),
            )
            .await?;
        return Ok(Answer::Leader(told.and_then(|m| m.body)));
    }
    let leader = app.node().leadership().borrow().leader;
    let Some(leader) = leader.filter(|id| *id != app.node().node_id()) else {
        return Ok(Answer::NoLeader);
    };
    let reply =
        peer_calls::relay(app, leader, host, &peer.key.to_string(), message, received).await?;
    if !reply.is_leader {
        return Ok(Answer::NoLeader);
    }
    if !reply.error.is_empty() {
        return Err(Error::new(ErrorCode::Conflict, reply.error));
    }
    if reply.message.is_empty() {
        return Ok(Answer::Leader(None));
    }
    let told = ControllerMessage::decode(reply.message).map_err(|error| {
        Error::new(ErrorCode::Internal, format!("the leader's answer: {error}"))
    })?;
    Ok(Answer::Leader(told.body))
}
