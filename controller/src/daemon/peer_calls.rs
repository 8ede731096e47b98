//! What this controller asks of the others.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use prost::Message;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Code;
use tonic::transport::Channel;
use tower::ServiceExt;
use virtflow_pki::ConnectError;
use virtflow_proto::agent::v1 as agent;
use virtflow_proto::raft::v1::peer_client::PeerClient;
use virtflow_proto::raft::v1::{
    Envelope, ForwardReply, ForwardRequest, Header, LiveReply, LiveRequest, NoteRequest,
    PeerEnrolRequest, RelayReply, RelayRequest,
};
use virtflow_raft::MESSAGE_BYTES_MAX;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::app::{App, Caller, Forwarded, HostLive};
use crate::noted::{NotWritten, Noted};

/// How long a request waits for a leader to be known before it is refused.
const LEADER_WAIT: Duration = Duration::from_secs(3);
/// Pause between two looks for a leader.
const LEADER_POLL: Duration = Duration::from_millis(25);
/// Longest time a forwarded request may take: the longest wait on an operation and a bit.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(virtflow_types::OPERATION_WAIT_S_MAX + 5);
/// Longest time a heartbeat or report may take to the leader: then it is not at once any more.
const RELAY_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time an enrolment may take at the leader.
const ENROL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time a member may take to say its clock.
const LIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time the leader may take to write what was counted elsewhere.
const NOTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that belong to one connection and are not passed on.
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "upgrade",
    "content-length",
];

/// A client for a member's peer listener.
pub fn client(app: &App, node_id: u64) -> Result<PeerClient<Channel>, Error> {
    let channel = app
        .node()
        .peer_channel(node_id)
        .map_err(|error| unavailable(format!("no controller {node_id}: {error}")))?;
    Ok(PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// Who sends this to whom; `None` if there is no such member, to whom then no channel leads either.
pub fn from_here(app: &App, node_id: u64) -> Option<Envelope> {
    app.node().envelope_to(node_id).ok()
}

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Unavailable, message).advise("try again shortly, or another controller")
}

/// True if the failure came before anything was sent.
fn was_not_sent(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Sends a request to the leader and brings back its answer.
pub async fn forward(app: &App, request: Forwarded) -> Result<http::Response<Bytes>, Error> {
    if request.caller.hops > 0 {
        return Err(unavailable(format!(
            "controller {} does not lead any more",
            app.name()
        )));
    }
    let deadline = Instant::now() + LEADER_WAIT;
    loop {
        let leadership = *app.node().leadership().borrow();
        if leadership.is_leader_ready {
            return answer_locally(app, request).await;
        }
        if let Some(leader) = leadership.leader.filter(|id| *id != app.node().node_id()) {
            match forward_to(app, leader, &request).await {
                Ok(Some(response)) => return Ok(response),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        if Instant::now() >= deadline {
            return Err(unavailable("no controller leads at the moment"));
        }
        sleep(LEADER_POLL).await;
    }
}

async fn answer_locally(app: &App, request: Forwarded) -> Result<http::Response<Bytes>, Error> {
    let caller = Caller {
        hops: 1,
        ..request.caller.clone()
    };
    let (parts, body) = run(app, request, caller).await?.into_parts();
    Ok(http::Response::from_parts(parts, body))
}

/// Runs a request through the own routes.
pub(super) async fn run(
    app: &App,
    request: Forwarded,
    caller: Caller,
) -> Result<http::Response<Bytes>, Error> {
    let internal = |what: String| Error::new(ErrorCode::Internal, what);
    let mut inner = http::Request::builder()
        .method(request.method)
        .uri(request.path_and_query)
        .body(axum::body::Body::from(request.body))
        .map_err(|error| Error::invalid("path", error.to_string()))?;
    *inner.headers_mut() = request.headers;
    inner.extensions_mut().insert(caller);
    let Some(router) = app.router() else {
        return Err(unavailable(format!(
            "controller {} is stopping",
            app.name()
        )));
    };
    let Ok(response) = router.oneshot(inner).await;
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| internal(format!("reading an answer: {error}")))?
        .to_bytes();
    Ok(http::Response::from_parts(parts, body))
}

/// `None`: it does not lead, or could not be reached; look for the leader again.
async fn forward_to(
    app: &App,
    leader: u64,
    request: &Forwarded,
) -> Result<Option<http::Response<Bytes>>, Error> {
    let message = ForwardRequest {
        from: from_here(app, leader),
        method: request.method.to_string(),
        path_and_query: request.path_and_query.clone(),
        headers: headers_to_wire(&request.headers),
        body: request.body.clone(),
        remote_address: request.caller.remote_address.clone(),
        client_identity: request
            .caller
            .client
            .map(|identity| identity.to_string())
            .unwrap_or_default(),
        hops: request.caller.hops + 1,
    };
    let mut client = match client(app, leader) {
        Ok(client) => client,
        Err(_) => return Ok(None),
    };
    let deadline = Instant::now() + FORWARD_TIMEOUT;
    match timeout_at(deadline, client.forward(message)).await {
        Ok(Ok(reply)) => {
            let reply = reply.into_inner();
            if reply.error.is_empty() {
                reply_to_response(reply).map(Some)
            } else {
                tracing::debug!(leader, error = reply.error, "the request was not taken");
                Ok(None)
            }
        }
        Ok(Err(status)) if was_not_sent(&status) => Ok(None),
        Ok(Err(status)) => Err(lost(request, &status.to_string())),
        Err(_) => Err(lost(request, "it took too long")),
    }
}

fn lost(request: &Forwarded, why: &str) -> Error {
    tracing::warn!(
        why,
        "a request was passed to the leader and no answer came back"
    );
    if request.method.is_safe() {
        unavailable("the leader did not answer")
    } else {
        Error::new(
            ErrorCode::OutcomeUnknown,
            "the request was passed to the leader and no answer came back: it may or may not have happened",
        )
        .advise("repeat it with the same Idempotency-Key, or look whether it happened")
    }
}

pub(super) fn headers_to_wire(headers: &http::HeaderMap) -> Vec<Header> {
    headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str()))
        .map(|(name, value)| Header {
            name: name.to_string(),
            value: Bytes::copy_from_slice(value.as_bytes()),
        })
        .collect()
}

pub(super) fn headers_from_wire(headers: Vec<Header>) -> http::HeaderMap {
    headers
        .into_iter()
        .filter_map(|header| {
            Some((
                HeaderName::from_bytes(header.name.as_bytes()).ok()?,
                HeaderValue::from_maybe_shared(header.value).ok()?,
            ))
        })
        .collect()
}

fn reply_to_response(reply: ForwardReply) -> Result<http::Response<Bytes>, Error> {
    let status = u16::try_from(reply.status)
        .ok()
        .and_then(|status| http::StatusCode::from_u16(status).ok())
        .ok_or_else(|| {
            Error::new(
                ErrorCode::Internal,
                "the leader's answer has no HTTP status",
            )
        })?;
    let mut response = http::Response::new(reply.body);
    *response.status_mut() = status;
    *response.headers_mut() = headers_from_wire(reply.headers);
    Ok(response)
}

/// Passes an agent's message to the leader. At once or not at all: never repeated.
pub async fn relay(
    app: &App,
    leader: u64,
    host_id: ObjectId,
    key_fingerprint: &str,
    message: &agent::AgentMessage,
    received: tokio::time::Instant,
) -> Result<RelayReply, Error> {
    let request = RelayRequest {
        from: from_here(app, leader),
        host_id: Bytes::copy_from_slice(host_id.as_bytes()),
        message: message.encode_to_vec().into(),
        received_ms_ago: u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX),
        key_fingerprint: key_fingerprint.to_owned().into(),
    };
    let mut client = client(app, leader)?;
    match tokio::time::timeout(RELAY_TIMEOUT, client.relay(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(unavailable(format!("relaying to the leader: {status}"))),
        Err(_) => Err(unavailable("relaying to the leader took too long")),
    }
}

/// Passes the use of a join token to the leader.
pub async fn enrol(
    app: &App,
    leader: u64,
    request: &agent::EnrolRequest,
    remote_address: &str,
) -> Result<agent::EnrolReply, tonic::Status> {
    let message = PeerEnrolRequest {
        from: from_here(app, leader),
        message: request.encode_to_vec().into(),
        remote_address: remote_address.to_owned(),
    };
    let mut client =
        client(app, leader).map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let reply = tokio::time::timeout(ENROL_TIMEOUT, client.enrol(message))
        .await
        .map_err(|_| tonic::Status::deadline_exceeded("the leader did not answer"))??
        .into_inner();
    agent::EnrolReply::decode(reply.message)
        .map_err(|error| tonic::Status::internal(format!("the leader's answer: {error}")))
}

/// Asks a member for its clock and, if it leads, for the loads of hosts.
pub async fn live(app: &App, node_id: u64, hosts: bool) -> Result<LiveReply, Error> {
    let request = LiveRequest {
        from: from_here(app, node_id),
        hosts,
    };
    let mut client = client(app, node_id)?;
    match tokio::time::timeout(LIVE_TIMEOUT, client.live(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(unavailable(format!(
            "asking controller {node_id}: {status}"
        ))),
        Err(_) => Err(unavailable(format!("controller {node_id} did not answer"))),
    }
}

/// Tells the leader what was counted here.
pub(crate) async fn note(app: &App, noted: &Noted) -> Result<(), NotWritten> {
    let leader = app.node().leadership().borrow().leader;
    let Some(leader) = leader.filter(|id| *id != app.node().node_id()) else {
        return Err(NotWritten(unavailable("no controller leads at the moment")));
    };
    let noted_json = serde_json::to_vec(noted)
        .map_err(|error| NotWritten(Error::new(ErrorCode::Internal, error.to_string())))?;
    let request = NoteRequest {
        from: from_here(app, leader),
        noted_json: noted_json.into(),
    };
    let mut client = client(app, leader).map_err(NotWritten)?;
    match timeout(NOTE_TIMEOUT, client.note(request)).await {
        Ok(Ok(reply)) => {
            let reply = reply.into_inner();
            if reply.nothing_done {
                return Err(NotWritten(unavailable(reply.error)));
            }
            Ok(())
        }
        Ok(Err(status)) if was_not_sent(&status) || status.code() == Code::Unimplemented => {
            Err(NotWritten(unavailable(status.to_string())))
        }
        Ok(Err(status)) => {
            tracing::warn!(%status, "whether the leader recorded what was refused here is not known");
            Ok(())
        }
        Err(_) => {
            tracing::warn!("the leader did not say whether it recorded what was refused here");
            Ok(())
        }
    }
}

pub(crate) async fn live_hosts(app: &App) -> BTreeMap<ObjectId, HostLive> {
    let leader = app.node().leadership().borrow().leader;
    let Some(leader) = leader.filter(|id| *id != app.node().node_id()) else {
        return BTreeMap::new();
    };
    match live(app, leader, true).await {
        Ok(reply) => serde_json::from_slice(&reply.hosts_json).unwrap_or_default(),
        Err(error) => {
            tracing::debug!(%error, "the loads of hosts are not known");
            BTreeMap::new()
        }
    }
}
