//! Who may speak to whom. Every message between members names its cluster, its sender, the receiver it
//! is meant for and the life of the store; what does not fit is refused, in both directions, so that
//! a wiped or restored node is noticed instead of believed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use virtflow_pki::{Alpn, CertStore, PeerIdentity, PinnedKeys, ServerExpectation, TlsConnector};
use virtflow_proto::raft::v1::Envelope;
use virtflow_types::{Incarnation, ObjectId};

use crate::machine::Published;
use crate::member::MemberInfo;
use crate::types::StoredMembership;

/// Size of a message between members, in bytes; both the peer listener and its clients are held to it.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Name resolution, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection on which nothing is heard is asked that often whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Without an answer for that long it is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// What a member shows to its peers and whom it believes.
#[derive(Debug, Clone)]
pub struct PeerTls {
    /// Its own certificate, whose subject is its store id.
    pub certificates: Arc<CertStore>,
    /// The members' keys, kept up to date here; give the same value to the peer listener's policy.
    pub pinned: Arc<PinnedKeys>,
}

/// The members by number.
pub(crate) type Roster = BTreeMap<u64, MemberInfo>;

pub(crate) fn roster_of(membership: &StoredMembership) -> Roster {
    let known = |(id, member): (&u64, &crate::types::StoredMember)| Some((*id, member.0.clone()?));
    membership.nodes().filter_map(known).collect()
}

/// A peer that cannot be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No member has this number.
    #[error("node {node_id} is no member of this group")]
    NoSuchMember {
        /// The number asked for.
        node_id: u64,
    },
    /// The member's address cannot be dialled.
    #[error("`{address}` cannot be dialled: {cause}")]
    Address {
        /// The address.
        address: String,
        /// Why not.
        cause: String,
    },
}

/// Kinds of traffic that must not hold up one another: each has its own connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Votes, heartbeats, reads.
    Control,
    /// What the controllers say to each other.
    Peer,
    /// Log entries.
    Log,
    /// Snapshots.
    Bulk,
}

#[derive(Debug, Clone)]
struct Connection {
    address: String,
    store_id: ObjectId,
    channel: Channel,
}

/// This node's identity and its connections to the others.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) cluster_id: ObjectId,
    pub(crate) node_id: u64,
    pub(crate) store_id: ObjectId,
    tls: PeerTls,
    published: Arc<Published>,
    roster: ArcSwap<Roster>,
    connections: Mutex<BTreeMap<(u64, Lane), Connection>>,
}

/// A lazy channel over mutual TLS to the peer listener at `address`, `host:port`. With a store id
/// only that member is believed, otherwise any controller of the cluster.
pub fn peer_channel_to(
    tls: &PeerTls,
    address: &str,
    store_id: Option<ObjectId>,
) -> Result<Channel, PeerError> {
    let unusable = |cause: String| PeerError::Address {
        address: address.to_owned(),
        cause,
    };
    let trust = tls.certificates.trust().clone();
    let expected = match store_id {
        Some(store_id) => ServerExpectation::peer(trust, store_id.uuid(), tls.pinned.clone()),
        None => ServerExpectation::controller(trust),
    };
    let config = virtflow_pki::client_config(Some(&tls.certificates), expected, Alpn::H2)
        .map_err(|error| unusable(error.to_string()))?;
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|error| unusable(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connector = TlsConnector::new(config).with_connect_timeout(CONNECT_TIMEOUT);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

impl Link {
    pub(crate) fn new(
        cluster_id: ObjectId,
        node_id: u64,
        store_id: ObjectId,
        tls: PeerTls,
        published: Arc<Published>,
        membership: &StoredMembership,
    ) -> Self {
        let this = Self {
            cluster_id,
            node_id,
            store_id,
            tls,
            published,
            roster: ArcSwap::default(),
            connections: Mutex::default(),
        };
        this.set_roster(roster_of(membership));
        this
    }

    /// The membership as it is effective here, committed or not.
    pub(crate) fn set_roster(&self, roster: Roster) {
        self.tls
            .pinned
            .replace(roster.values().map(|member| member.key_fingerprint));
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.retain(|(node_id, _), connection| {
            roster.get(node_id).is_some_and(|member| {
                member.peer_address == connection.address && member.store_id == connection.store_id
            })
        });
        drop(connections);
        self.roster.store(Arc::new(roster));
    }

    pub(crate) fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.published.image().incarnation()
    }

    pub(crate) fn channel(&self, node_id: u64, lane: Lane) -> Result<Channel, PeerError> {
        let roster = self.roster();
        let member = roster
            .get(&node_id)
            .ok_or(PeerError::NoSuchMember { node_id })?;
        self.channel_of(node_id, member, lane)
    }

    /// The library may dial a member before the roster has heard of it.
    pub(crate) fn channel_of(
        &self,
        node_id: u64,
        member: &MemberInfo,
        lane: Lane,
    ) -> Result<Channel, PeerError> {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get(&(node_id, lane))
            && connection.address == member.peer_address
            && connection.store_id == member.store_id
        {
            return Ok(connection.channel.clone());
        }
        let channel = peer_channel_to(&self.tls, &member.peer_address, Some(member.store_id))?;
        let connection = Connection {
            address: member.peer_address.clone(),
            store_id: member.store_id,
            channel: channel.clone(),
        };
        connections.insert((node_id, lane), connection);
        Ok(channel)
    }

    /// An envelope from this node.
    pub(crate) fn envelope(&self, to_node: u64, to_store: ObjectId, payload: Bytes) -> Envelope {
        let bytes = |id: &ObjectId| Bytes::copy_from_slice(id.as_bytes());
        Envelope {
            cluster_id: bytes(&self.cluster_id),
            from_store: bytes(&self.store_id),
            from_node: self.node_id,
            to_node,
            to_store: bytes(&to_store),
            payload,
            incarnation: self
                .incarnation()
                .map(|incarnation| Bytes::copy_from_slice(incarnation.as_bytes()))
                .unwrap_or_default(),
        }
    }

    fn check_place(&self, envelope: &Envelope) -> Result<ObjectId, String> {
        let id = |bytes: &[u8], what: &str| {
            ObjectId::from_slice(bytes).ok_or_else(|| format!("the message names no {what}"))
        };
        let cluster = id(&envelope.cluster_id, "cluster")?;
        if cluster != self.cluster_id {
            return Err(format!(
                "the message is of cluster {cluster}, this is {}",
                self.cluster_id
            ));
        }
        let to_store = id(&envelope.to_store, "receiver")?;
        if envelope.to_node != self.node_id || to_store != self.store_id {
            return Err(format!(
                "the message is for node {} with store {to_store}, this is node {} with store {}: a store that \
                 was wiped or replaced must join as a new member",
                envelope.to_node, self.node_id, self.store_id
            ));
        }
        let theirs = Incarnation::from_slice(&envelope.incarnation);
        if !envelope.incarnation.is_empty() && theirs.is_none() {
            return Err("the message names a malformed incarnation".into());
        }
        if let (Some(theirs), Some(ours)) = (theirs, self.incarnation())
            && theirs != ours
        {
            return Err(format!(
                "node {} lives incarnation {theirs}, this node {ours}: the store was restored or recovered \
                 meanwhile, members of the former life must join anew",
                envelope.from_node
            ));
        }
        let from_store = id(&envelope.from_store, "sender")?;
        let roster = self.roster();
        if let Some(member) = roster.get(&envelope.from_node) {
            if member.store_id != from_store {
                return Err(format!(
                    "node {} is known with store {}, the message comes from store {from_store}: a store that was \
                     wiped or replaced must join as a new member",
                    envelope.from_node, member.store_id
                ));
            }
        } else if let Some((node_id, _)) = roster
            .iter()
            .find(|(_, member)| member.store_id == from_store)
        {
            return Err(format!(
                "store {from_store} is node {node_id}, the message claims to be from node {}",
                envelope.from_node
            ));
        }
        Ok(from_store)
    }

    /// Whether a message from `peer` may be believed; its sender's number.
    pub(crate) fn check(&self, envelope: &Envelope, peer: &PeerIdentity) -> Result<u64, Status> {
        let checked = self.check_place(envelope).and_then(|from_store| {
            let roster = self.roster();
            // Only a member may not know its life yet: one that was just taken in.
            if envelope.incarnation.is_empty()
                && self.incarnation().is_some()
                && !roster.contains_key(&envelope.from_node)
            {
                return Err(format!(
                    "node {} is no member of this group and names no incarnation",
                    envelope.from_node
                ));
            }
            if peer.identity.subject_id != from_store.uuid() {
                return Err(format!(
                    "the message claims to be from store {from_store}, its certificate is {}",
                    peer.identity.subject_id
                ));
            }
            if let Some(member) = roster.get(&envelope.from_node)
                && member.key_fingerprint != peer.key
            {
                return Err(format!(
                    "node {} is known with another key than the one it shows",
                    envelope.from_node
                ));
            }
            Ok(envelope.from_node)
        });
        checked.map_err(|why| {
            self.published.measures.envelopes_refused.add(1);
            tracing::warn!(from_node = envelope.from_node, "refused a message: {why}");
            Status::failed_precondition(why)
        })
    }

    /// Whether a reply comes from whom it was asked of; TLS has proved the store.
    pub(crate) fn open_reply(&self, envelope: Envelope, from_node: u64) -> Result<Bytes, Status> {
        if envelope.from_node != from_node {
            return Err(Status::failed_precondition(format!(
                "asked node {from_node}, node {} answered",
                envelope.from_node
            )));
        }
        self.check_place(&envelope)
            .map_err(Status::failed_precondition)?;
        Ok(envelope.payload)
    }
}
