//! What other controllers may ask of this one: service `Peer` on the peer listener.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use virtflow_pki::{KeyFingerprint, PeerIdentity, Role, require_role};
use virtflow_proto::agent::v1 as agent;
use virtflow_proto::raft::v1::peer_server::Peer;
use virtflow_proto::raft::v1::{
    Envelope, ForwardReply, ForwardRequest, JoinReply, JoinRequest, LiveReply, LiveRequest,
    NoteReply, NoteRequest, PeerConsoleReply, PeerConsoleRequest, PeerEnrolReply, PeerEnrolRequest,
    ReadIndexReply, ReadIndexRequest, RecordsChunk, RecordsRequest, RelayReply, RelayRequest,
};
use virtflow_raft::MemberInfo;
use virtflow_types::{ErrorCode, ObjectId, Timestamp};

use super::{members, peer_calls};
use crate::agents::{console, enrolment};
use crate::app::{App, Caller, Forwarded};
use crate::noted::{NotWritten, Noted};

/// Largest difference between "received" and now that a relayed message may claim.
const RELAY_AGE_MAX: Duration = Duration::from_secs(5);

/// The service. Clones share the app.
#[derive(Debug, Clone)]
pub struct PeerService {
    app: App,
}

impl PeerService {
    /// Answers for this controller.
    pub fn new(app: App) -> Self {
        Self { app }
    }

    /// The certified sender, a member of this very group.
    fn member(
        &self,
        extensions: &tonic::Extensions,
        from: Option<&Envelope>,
    ) -> Result<PeerIdentity, Status> {
        let peer = require_role(extensions_of(extensions), Role::Controller)?.clone();
        let from = from.ok_or_else(|| Status::invalid_argument("the message names no sender"))?;
        self.app.node().check_envelope(from, &peer)?;
        Ok(peer)
    }
}

/// tonic's extensions are the request's own.
fn extensions_of(extensions: &tonic::Extensions) -> &http::Extensions {
    extensions
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexReply>, Status> {
        let peer = require_role(extensions_of(request.extensions()), Role::Controller)?.clone();
        let reply = self
            .app
            .node()
            .answer_read_index(request.into_inner(), &peer)
            .await?;
        Ok(Response::new(reply))
    }

    async fn forward(
        &self,
        request: Request<ForwardRequest>,
    ) -> Result<Response<ForwardReply>, Status> {
        self.member(request.extensions(), request.get_ref().from.as_ref())?;
        let request = request.into_inner();
        if !self.app.leads() {
            return Ok(Response::new(ForwardReply {
                error: "not the leader".into(),
                leader: self.app.node().leadership().borrow().leader.unwrap_or(0),
                ..ForwardReply::default()
            }));
        }
        let malformed = |what: &str| Status::invalid_argument(format!("malformed {what}"));
        let client = match request.client_identity.as_str() {
            "" => None,
            uri => Some(uri.parse().map_err(|_| malformed("client identity"))?),
        };
        let caller = Caller {
            remote_address: request.remote_address,
            client,
            hops: request.hops.max(1),
        };
        let forwarded = Forwarded {
            method: request.method.parse().map_err(|_| malformed("method"))?,
            path_and_query: request.path_and_query,
            headers: peer_calls::headers_from_wire(request.headers),
            body: request.body,
            caller: caller.clone(),
        };
        let response = match peer_calls::run(&self.app, forwarded, caller).await {
            Ok(response) => response,
            // Nothing was done: whoever asked looks for the leader again.
            Err(error) => {
                return Ok(Response::new(ForwardReply {
                    error: error.to_string(),
                    ..ForwardReply::default()
                }));
            }
        };
        let (parts, body) = response.into_parts();
        Ok(Response::new(ForwardReply {
            status: u32::from(parts.status.as_u16()),
            headers: peer_calls::headers_to_wire(&parts.headers),
            body,
            error: String::new(),
            leader: self.app.node().node_id(),
        }))
    }

    async fn relay(&self, request: Request<RelayRequest>) -> Result<Response<RelayReply>, Status> {
        let peer = self.member(request.extensions(), request.get_ref().from.as_ref())?;
        let request = request.into_inner();
        let Some(leader) = self.app.leader() else {
            return Ok(Response::new(RelayReply {
                leader: self.app.node().leadership().borrow().leader.unwrap_or(0),
                ..RelayReply::default()
            }));
        };
        let host = host_of(&request.host_id)?;
        let key: KeyFingerprint = std::str::from_utf8(&request.key_fingerprint)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Status::invalid_argument("malformed key fingerprint"))?;
        let message = agent::AgentMessage::decode(request.message)
            .map_err(|error| Status::invalid_argument(format!("relayed message: {error}")))?;
        let age = Duration::from_millis(request.received_ms_ago).min(RELAY_AGE_MAX);
        let received = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        let holder = ObjectId::from_uuid(peer.identity.subject_id);
        let reply = match leader
            .receive(&self.app, host, &key, message, received, holder)
            .await
        {
            Ok(reply) => RelayReply {
                is_leader: true,
                message: reply.map(|m| m.encode_to_vec().into()).unwrap_or_default(),
                error: String::new(),
                leader: self.app.node().node_id(),
            },
            // Not now, or not here any more: whoever relays may ask again.
            Err(error) if error.code == ErrorCode::Unavailable => RelayReply::default(),
            Err(error) => RelayReply {
                is_leader: true,
                message: Bytes::new(),
                error: error.to_string(),
                leader: self.app.node().node_id(),
            },
        };
        Ok(Response::new(reply))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let peer = require_role(extensions_of(request.extensions()), Role::Controller)?.clone();
        let request = request.into_inner();
        let key: KeyFingerprint = std::str::from_utf8(&request.key_fingerprint)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Status::invalid_argument("malformed key fingerprint"))?;
        if key != peer.key {
            return Err(Status::permission_denied(
                "the key named is not the key shown",
            ));
        }
        let newcomer = members::Newcomer {
            info: MemberInfo {
                name: request.name,
                store_id: ObjectId::from_uuid(peer.identity.subject_id),
                key_fingerprint: key,
                peer_address: request.peer_address,
                api_address: request.api_address,
                agent_address: request.agent_address,
            },
            version: request.version,
            supports: request.supports,
            voter: request.voter,
            status_address: request.status_address,
        };
        let reply = match members::admit(&self.app, &newcomer).await {
            Ok(node_id) => JoinReply {
                node_id,
                error: String::new(),
            },
            Err(error) if error.code == ErrorCode::Forbidden => {
                return Err(Status::permission_denied(error.to_string()));
            }
            Err(error) => JoinReply {
                node_id: 0,
                error: error.to_string(),
            },
        };
        Ok(Response::new(reply))
    }

    async fn console(
        &self,
        request: Request<PeerConsoleRequest>,
    ) -> Result<Response<PeerConsoleReply>, Status> {
        self.member(request.extensions(), request.get_ref().from.as_ref())?;
        let request = request.into_inner();
        let host = host_of(&request.host_id)?;
        let vm = host_of(&request.vm_id)?;
        let read = console::read_here(
            &self.app,
            host,
            vm,
            request.placement_epoch,
            request.max_bytes,
        );
        Ok(Response::new(match read.await {
            Some(Ok(console)) => PeerConsoleReply {
                data: console.data,
                total_bytes: console.total_bytes,
                error: String::new(),
            },
            Some(Err(error)) => PeerConsoleReply {
                error: error.to_string(),
                ..PeerConsoleReply::default()
            },
            None => return Err(Status::not_found("the host's session is not held here")),
        }))
    }

    type RecordsStream = Pin<Box<dyn Stream<Item = Result<RecordsChunk, Status>> + Send>>;

    async fn records(
        &self,
        request: Request<RecordsRequest>,
    ) -> Result<Response<Self::RecordsStream>, Status> {
        self.member(request.extensions(), request.get_ref().from.as_ref())?;
        let request = request.into_inner();
        super::records::serve(self.app.clone(), request).await
    }

    async fn enrol(
        &self,
        request: Request<PeerEnrolRequest>,
    ) -> Result<Response<PeerEnrolReply>, Status> {
        self.member(request.extensions(), request.get_ref().from.as_ref())?;
        let request = request.into_inner();
        let message = agent::EnrolRequest::decode(request.message)
            .map_err(|error| Status::invalid_argument(format!("relayed enrolment: {error}")))?;
        let reply = enrolment::enrol_here(&self.app, &message, &request.remote_address).await?;
        Ok(Response::new(PeerEnrolReply {
            message: reply.encode_to_vec().into(),
        }))
    }

    async fn note(&self, request: Request<NoteRequest>) -> Result<Response<NoteReply>, Status> {
        self.member(request.extensions(), request.get_ref().from.as_ref())?;
        let noted: Noted = serde_json::from_slice(&request.get_ref().noted_json)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let nothing_done = |error: String| NoteReply {
            error,
            nothing_done: true,
        };
        let reply = if !self.app.leads() {
            nothing_done(format!("controller {} does not lead", self.app.name()))
        } else {
            match noted.write(&self.app).await {
                Ok(()) => NoteReply::default(),
                Err(NotWritten(error)) => nothing_done(error.to_string()),
            }
        };
        Ok(Response::new(reply))
    }

    async fn live(&self, request: Request<LiveRequest>) -> Result<Response<LiveReply>, Status> {
        self.member(request.extensions(), request.get_ref().from.as_ref())?;
        let leader = self.app.leader();
        let hosts_json = match &leader {
            Some(leader) if request.get_ref().hosts => serde_json::to_vec(&leader.live(&self.app))
                .map_err(|error| Status::internal(error.to_string()))?,
            _ => Vec::new(),
        };
        Ok(Response::new(LiveReply {
            now_ms: Timestamp::now().ms(),
            is_leader: leader.is_some(),
            hosts_json: hosts_json.into(),
        }))
    }
}

fn host_of(bytes: &[u8]) -> Result<ObjectId, Status> {
    ObjectId::from_slice(bytes).ok_or_else(|| Status::invalid_argument("malformed id"))
}
