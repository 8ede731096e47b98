//! A node as monitoring sees it.

use serde::Serialize;
use virtflow_state::port::ShadowProgress;
use virtflow_types::{Incarnation, ObjectId};

use crate::config::Timing;
use crate::measure::Measured;
use crate::member::Member;

/// What this node is to the group now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RaftRole {
    /// Decides.
    Leader,
    /// Follows and votes.
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Belongs to no group yet.
    Uninitialized,
    /// Has stopped.
    Stopped,
}

/// All about a node. Indexes are 0 where there is none.
#[derive(Debug, Clone)]
pub struct RaftStatus {
    /// This member's number.
    pub node_id: u64,
    /// This member's store.
    pub store_id: ObjectId,
    /// What it is now.
    pub role: RaftRole,
    /// The term it is in.
    pub term: u64,
    /// Who leads, as far as known.
    pub leader: Option<u64>,
    /// Whether it leads and may speak.
    pub is_leader_ready: bool,
    /// The membership as effective here.
    pub members: Vec<Member>,
    /// Last entry in the log.
    pub last_log: u64,
    /// Last entry flushed to the local disk.
    pub log_flushed: u64,
    /// Last entry known to be committed.
    pub committed: u64,
    /// Last entry applied.
    pub applied: u64,
    /// Last entry in the newest snapshot.
    pub snapshot: u64,
    /// Last entry purged from the log.
    pub purged: u64,
    /// Size of the log's files in bytes.
    pub log_bytes: u64,
    /// How far the shadow has come.
    pub shadow: ShadowProgress,
    /// Digest of the state at `applied`.
    pub digest: u128,
    /// The life of the store; `None` before genesis.
    pub incarnation: Option<Incarnation>,
    /// The version that every member supports.
    pub cluster_version: u32,
    /// Why writes are stopped, if they are.
    pub writes_stopped: Option<String>,
    /// Why the node must stop, if it must.
    pub fatal: Option<String>,
    /// Milliseconds since a quorum last confirmed this leader.
    pub quorum_ack_ms_ago: Option<u64>,
    /// When a leader is missed.
    pub timing: Timing,
    /// What was counted.
    pub measured: Measured,
}
