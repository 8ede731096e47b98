//! What can go wrong, as callers must tell it apart.

use virtflow_state::{ClusterVersionTooNew, Refused};
use virtflow_types::{Error, ErrorCode, RequestId};

/// A node that cannot start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The log cannot be read or is not this node's.
    #[error("opening the log: {0}")]
    Log(String),
    /// The log begins after the state ends: entries between are missing.
    #[error(
        "the log was purged up to entry {purged}, the state was loaded at entry {loaded}: the shadow was replaced \
         by an older one; remove this controller from the cluster and add it anew"
    )]
    Gap {
        /// Last entry purged.
        purged: u64,
        /// Index of the loaded state.
        loaded: u64,
    },
    /// Timing or limits contradict one another.
    #[error("configuration: {0}")]
    Config(String),
    /// The state is of a cluster version that this software does not support.
    #[error(transparent)]
    ClusterVersion(#[from] ClusterVersionTooNew),
    /// Replaying the log came to an entry that this node must not go on behind.
    #[error("{0}")]
    Fatal(String),
    /// The stored marks cannot be read, or replaying the log failed.
    #[error("recovering: {0}")]
    Recover(String),
}

/// What was decided, committed and applied here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the decision returned beside its changeset.
    pub value: T,
    /// The log index it rests on: an image at or above it shows it.
    pub index: u64,
    /// The leadership that decided.
    pub term: u64,
}

/// Why a decision has no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecideError {
    /// This node does not lead, or not yet, or no longer. Nothing was done.
    #[error("this controller does not lead")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<u64>,
    },
    /// The decision itself said no, on a state that was confirmed since.
    #[error(transparent)]
    Refused(Error),
    /// The state refused the changeset that was decided on it.
    #[error(transparent)]
    Conflict(Refused),
    /// It was proposed; whether it happened, or will, could not be told in time.
    #[error("the outcome of request {request_id} is unknown")]
    Unknown {
        /// The changeset's request.
        request_id: RequestId,
    },
    /// Too much is waiting. Nothing was done.
    #[error("too many requests are waiting to be decided")]
    Overloaded,
    /// This node takes no decisions any more. Nothing was done.
    #[error("no decisions are taken: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl DecideError {
    /// The error for the caller. A [`DecideError::Conflict`] deserves better words from whoever knows
    /// the objects.
    pub fn to_error(&self) -> Error {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Conflict(refused) => Error::new(ErrorCode::Conflict, refused.to_string())
                .advise("read the objects again and decide anew"),
            Self::Unknown { request_id } => Error::new(ErrorCode::OutcomeUnknown, self.to_string())
                .advise("repeat with the same idempotency key, or look whether it happened")
                .with_details(format!(r#"{{"request_id":"{request_id}"}}"#)),
            Self::NotLeader { .. } | Self::Overloaded | Self::Stopped { .. } => {
                Error::new(ErrorCode::Unavailable, self.to_string())
                    .advise("nothing was done; try again")
            }
        }
    }
}

/// Why a read has no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader was confirmed by a quorum in time.
    #[error("no quorum confirmed a leader: {cause}")]
    NoQuorum {
        /// What was tried last.
        cause: String,
    },
    /// The index is confirmed, this node has not applied it in time.
    #[error("this controller has applied entry {applied}, the read needs {index}")]
    Lagging {
        /// What the read needs.
        index: u64,
        /// What is applied here.
        applied: u64,
    },
    /// This node has stopped.
    #[error("this controller has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl ReadError {
    /// The error for the caller.
    pub fn to_error(&self) -> Error {
        Error::new(ErrorCode::Unavailable, self.to_string())
            .advise("try again, or ask another controller")
    }
}

/// Why the membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader changes the membership.
    #[error("this controller does not lead")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<u64>,
    },
    /// No such member.
    #[error("node {node_id} is no member of this group")]
    NoSuchMember {
        /// The number asked for.
        node_id: u64,
    },
    /// The change contradicts the membership.
    #[error("{0}")]
    Refused(String),
    /// Another change is under way.
    #[error("another change of the membership is under way; try again")]
    InProgress,
    /// The learner did not catch up in time.
    #[error(
        "node {node_id} has not caught up: its log matches up to {matched:?}, the leader's ends at {last_log}"
    )]
    Lagging {
        /// The learner.
        node_id: u64,
        /// How far its log matches.
        matched: Option<u64>,
        /// Where the leader's log ends.
        last_log: u64,
    },
    /// It was proposed; whether it happened, or will, could not be told in time. List the members.
    #[error("the outcome of the change is unknown: {0}")]
    Unknown(String),
}

impl MembershipError {
    /// The error for the caller.
    pub fn to_error(&self) -> Error {
        let code = match self {
            Self::NotLeader { .. } => ErrorCode::Unavailable,
            Self::NoSuchMember { .. } => ErrorCode::NotFound,
            Self::Refused(_) | Self::InProgress | Self::Lagging { .. } => ErrorCode::Conflict,
            Self::Unknown(_) => ErrorCode::OutcomeUnknown,
        };
        Error::new(code, self.to_string())
    }
}

/// Why a group was not begun.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BootstrapError {
    /// This store already belongs to a group.
    #[error("this store already belongs to a group")]
    AlreadyInitialized,
    /// The group was begun, its first changeset was not decided.
    #[error("the first changeset: {0}")]
    Genesis(DecideError),
    /// The node did not come to lead its own group in time.
    #[error("beginning a group: {0}")]
    Failed(String),
}
