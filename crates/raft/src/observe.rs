//! What a node tells of itself, and its part in the peers' own service.

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};
use tonic::Status;
use tonic::transport::Channel;
use virtflow_pki::PeerIdentity;
use virtflow_proto::raft::v1::{Envelope, ReadIndexReply, ReadIndexRequest};

use crate::link::{Lane, PeerError};
use crate::node::Node;
use crate::status::{RaftRole, RaftStatus};

impl Node {
    /// All about this node.
    pub fn status(&self) -> RaftStatus {
        let inner = &self.inner;
        let metrics = inner.raft.metrics();
        let metrics = metrics.borrow_watched().clone();
        let leadership = *inner.leadership.borrow();
        let image = self.image();
        let index = |id: Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        let role = match metrics.state {
            _ if metrics.running_state.is_err() => RaftRole::Stopped,
            _ if !self.is_initialized() => RaftRole::Uninitialized,
            ServerState::Leader => RaftRole::Leader,
            ServerState::Follower => RaftRole::Follower,
            ServerState::Candidate => RaftRole::Candidate,
            ServerState::Learner => RaftRole::Learner,
            ServerState::Shutdown => RaftRole::Stopped,
        };
        RaftStatus {
            node_id: self.node_id(),
            store_id: self.store_id(),
            role,
            term: metrics.current_term,
            leader: leadership.leader,
            is_leader_ready: leadership.is_leader_ready,
            members: self.members(),
            last_log: metrics.last_log_index.unwrap_or_default(),
            log_flushed: *inner.log.flushed().borrow(),
            committed: index(metrics.local_committed),
            applied: image.index(),
            snapshot: index(metrics.snapshot),
            purged: index(metrics.purged),
            log_bytes: inner.log.bytes(),
            shadow: inner.shadow.progress(),
            digest: image.digest(),
            incarnation: image.incarnation(),
            cluster_version: image.cluster_version(),
            writes_stopped: inner.digests.writes_stopped(),
            fatal: inner.published.fatal.reason(),
            quorum_ack_ms_ago: metrics
                .last_quorum_acked
                .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            timing: inner.config.timing,
            measured: inner.published.measures.read(),
        }
    }

    /// Answers a follower's `ReadIndex`.
    pub async fn answer_read_index(
        &self,
        request: ReadIndexRequest,
        peer: &PeerIdentity,
    ) -> Result<ReadIndexReply, Status> {
        let envelope = request
            .from
            .ok_or_else(|| Status::invalid_argument("a request without a sender"))?;
        self.check_envelope(&envelope, peer)?;
        let leadership = *self.inner.leadership.borrow();
        let mut reply = ReadIndexReply {
            term: leadership.term,
            leader: leadership.leader.unwrap_or_default(),
            ..ReadIndexReply::default()
        };
        if !leadership.is_leader {
            reply.error = "this controller does not lead".into();
            return Ok(reply);
        }
        match self.inner.reads.own_index().await {
            Ok((index, _)) => reply.index = index,
            Err(error) => reply.error = error.to_string(),
        }
        Ok(reply)
    }

    /// Whether a message from `peer` may be believed; its sender's number. The first thing to ask in
    /// every method of the peer listener.
    pub fn check_envelope(&self, envelope: &Envelope, peer: &PeerIdentity) -> Result<u64, Status> {
        self.inner.link.check(envelope, peer)
    }

    /// An empty envelope from this node to a member.
    pub fn envelope_to(&self, node_id: u64) -> Result<Envelope, PeerError> {
        let roster = self.inner.link.roster();
        let member = roster
            .get(&node_id)
            .ok_or(PeerError::NoSuchMember { node_id })?;
        Ok(self
            .inner
            .link
            .envelope(node_id, member.store_id, bytes::Bytes::new()))
    }

    /// The shared channel to a member's peer listener.
    pub fn peer_channel(&self, node_id: u64) -> Result<Channel, PeerError> {
        self.inner.link.channel(node_id, Lane::Peer)
    }
}
