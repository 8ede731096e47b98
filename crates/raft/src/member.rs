//! Who belongs to the group.

use serde::{Deserialize, Serialize};
use virtflow_pki::KeyFingerprint;
use virtflow_types::ObjectId;

/// What every member knows of a member. Travels in the membership, so a peer is known by its store
/// and its key, not by its name or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its name, for people.
    pub name: String,
    /// Its store: random, made with its data folder. Also the subject of its certificate.
    pub store_id: ObjectId,
    /// The key of its certificate, whichever certificate it is.
    pub key_fingerprint: KeyFingerprint,
    /// Where its peer listener is reached, `host:port`.
    pub peer_address: String,
    /// Where its API is reached, `host:port`.
    pub api_address: String,
    /// Where agents reach it, `host:port`.
    pub agent_address: String,
}

/// Whether a member's vote counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Counts in elections and commits.
    Voter,
    /// Receives the log, decides nothing.
    Learner,
}

/// A member as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its number in the group; never given to another.
    pub node_id: u64,
    /// Who it is.
    pub info: MemberInfo,
    /// Whether its vote counts.
    pub role: MemberRole,
    /// The highest index known to be in its log; only the leader knows.
    pub matched: Option<u64>,
    /// Milliseconds since it last confirmed the leader; only the leader knows.
    pub last_ack_ms_ago: Option<u64>,
}
