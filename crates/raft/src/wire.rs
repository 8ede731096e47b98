//! What is stored in the log and sent between members: prost messages of our own, so that an upgrade
//! of the consensus library changes no stored byte. Tags are never reused.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use prost::Message;
use virtflow_proto::bounded;

use crate::types::{self, Entry, EntryBytes, Membership, Payload, StoredMembership, Types};

/// Bytes that are none of these messages.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {cause}")]
pub(crate) struct WireError {
    what: &'static str,
    cause: String,
}

fn malformed(what: &'static str, cause: impl ToString) -> WireError {
    WireError {
        what,
        cause: cause.to_string(),
    }
}

fn required<T>(value: Option<T>, what: &'static str) -> Result<T, WireError> {
    value.ok_or_else(|| malformed(what, "missing"))
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct LogId {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

impl From<types::LogId> for LogId {
    fn from(id: types::LogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}
impl From<LogId> for types::LogId {
    fn from(id: LogId) -> Self {
        types::log_id(id.term, id.index)
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

impl From<&types::Vote> for Vote {
    fn from(vote: &types::Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}
impl From<Vote> for types::Vote {
    fn from(vote: Vote) -> Self {
        Self {
            leader_id: RaftLeaderId::new(vote.term, vote.node),
            committed: vote.committed,
        }
    }
}

/// What a log entry says, without its place.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EntryBody {
    #[prost(oneof = "Body", tags = "1, 2, 3")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    /// The first entry of a leader.
    #[prost(bool, tag = "1")]
    Blank(bool),
    /// An encoded batch of changesets.
    #[prost(bytes = "bytes", tag = "2")]
    Batch(Bytes),
    /// A membership, as JSON.
    #[prost(bytes = "bytes", tag = "3")]
    Membership(Bytes),
}

impl EntryBody {
    pub(crate) fn of(payload: &Payload) -> Result<Self, WireError> {
        let body = match payload {
            Payload::Blank => Body::Blank(true),
            Payload::Normal(bytes) => Body::Batch(bytes.0.clone()),
            Payload::Membership(membership) => Body::Membership(membership_to_json(membership)?),
        };
        Ok(Self { body: Some(body) })
    }

    pub(crate) fn into_payload(self) -> Result<Payload, WireError> {
        Ok(match required(self.body, "log entry")? {
            Body::Blank(_) => Payload::Blank,
            Body::Batch(bytes) => Payload::Normal(EntryBytes(bytes)),
            Body::Membership(json) => Payload::Membership(membership_from_json(&json)?),
        })
    }
}

fn membership_to_json(membership: &Membership) -> Result<Bytes, WireError> {
    serde_json::to_vec(membership)
        .map(Bytes::from)
        .map_err(|error| malformed("membership", error))
}

fn membership_from_json(json: &[u8]) -> Result<Membership, WireError> {
    serde_json::from_slice(json).map_err(|error| malformed("membership", error))
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LogEntry {
    #[prost(message, optional, tag = "1")]
    id: Option<LogId>,
    #[prost(message, optional, tag = "2")]
    body: Option<EntryBody>,
}

/// Entries taken in one message: far more than any leader sends, few enough that their number alone
/// fills no memory.
const APPEND_ENTRIES_TAKEN_MAX: usize = 16 * 1024;
const APPEND_ENTRIES_TAG: u64 = 3;

/// Entries for a follower's log.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Append {
    #[prost(message, optional, tag = "1")]
    vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    prev: Option<LogId>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<LogEntry>,
    #[prost(message, optional, tag = "4")]
    committed: Option<LogId>,
}

impl Append {
    pub(crate) fn of(request: &AppendEntriesRequest<Types>) -> Result<Self, WireError> {
        let entry = |entry: &Entry| {
            Ok(LogEntry {
                id: Some(entry.log_id.into()),
                body: Some(EntryBody::of(&entry.payload)?),
            })
        };
        Ok(Self {
            vote: Some((&request.vote).into()),
            prev: request.prev_log_id.map(Into::into),
            entries: request
                .entries
                .iter()
                .map(entry)
                .collect::<Result<_, _>>()?,
            committed: request.leader_commit.map(Into::into),
        })
    }

    pub(crate) fn decode_request(bytes: Bytes) -> Result<AppendEntriesRequest<Types>, WireError> {
        let entries = bounded::occurrences(&bytes, APPEND_ENTRIES_TAG);
        if entries.map_err(|error| malformed("append", error))? > APPEND_ENTRIES_TAKEN_MAX {
            return Err(malformed("append", "too many entries"));
        }
        let this = Self::decode(bytes).map_err(|error| malformed("append", error))?;
        let entry = |entry: LogEntry| -> Result<Entry, WireError> {
            Ok(Entry {
                log_id: required(entry.id, "entry id")?.into(),
                payload: required(entry.body, "entry body")?.into_payload()?,
            })
        };
        let request: AppendEntriesRequest<Types> = AppendEntriesRequest {
            vote: required(this.vote, "vote")?.into(),
            prev_log_id: this.prev.map(Into::into),
            entries: this
                .entries
                .into_iter()
                .map(entry)
                .collect::<Result<Vec<_>, _>>()?,
            leader_commit: this.committed.map(Into::into),
        };
        // The library only asserts this in debug builds; a hole in the log must never be accepted.
        let mut next = request.prev_log_id.map(|id| id.index.saturating_add(1));
        for entry in &request.entries {
            if next.is_some_and(|next| entry.log_id.index != next) {
                return Err(malformed("append", "entries do not follow one another"));
            }
            next = Some(entry.log_id.index.saturating_add(1));
        }
        Ok(request)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppendReply {
    #[prost(oneof = "AppendOutcome", tags = "1, 2, 3, 4")]
    outcome: Option<AppendOutcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AppendOutcome {
    /// Matches up to here.
    #[prost(message, tag = "1")]
    Matched(LogId),
    /// Matches, with nothing in it.
    #[prost(bool, tag = "2")]
    MatchedNothing(bool),
    #[prost(message, tag = "3")]
    Conflict(LogId),
    #[prost(message, tag = "4")]
    HigherVote(Vote),
}

impl AppendReply {
    pub(crate) fn of(result: &StreamAppendResult<Types>) -> Self {
        let outcome = match result {
            Ok(Some(id)) => AppendOutcome::Matched((*id).into()),
            Ok(None) => AppendOutcome::MatchedNothing(true),
            Err(StreamAppendError::Conflict(id)) => AppendOutcome::Conflict((*id).into()),
            Err(StreamAppendError::HigherVote(vote)) => AppendOutcome::HigherVote(vote.into()),
        };
        Self {
            outcome: Some(outcome),
        }
    }

    pub(crate) fn decode_result(bytes: Bytes) -> Result<StreamAppendResult<Types>, WireError> {
        let this = Self::decode(bytes).map_err(|error| malformed("append reply", error))?;
        Ok(match required(this.outcome, "append outcome")? {
            AppendOutcome::Matched(id) => Ok(Some(id.into())),
            AppendOutcome::MatchedNothing(_) => Ok(None),
            AppendOutcome::Conflict(id) => Err(StreamAppendError::Conflict(id.into())),
            AppendOutcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ballot {
    #[prost(message, optional, tag = "1")]
    vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogId>,
    #[prost(bool, tag = "3")]
    transfer: bool,
}

impl Ballot {
    pub(crate) fn of(request: &VoteRequest<Types>) -> Self {
        Self {
            vote: Some((&request.vote).into()),
            last: request.last_log_id.map(Into::into),
            transfer: request.leadership_transfer,
        }
    }

    pub(crate) fn decode_request(bytes: Bytes) -> Result<VoteRequest<Types>, WireError> {
        let this = Self::decode(bytes).map_err(|error| malformed("vote request", error))?;
        Ok(VoteRequest {
            vote: required(this.vote, "vote")?.into(),
            last_log_id: this.last.map(Into::into),
            leadership_transfer: this.transfer,
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BallotReply {
    #[prost(message, optional, tag = "1")]
    vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogId>,
    #[prost(bool, tag = "3")]
    granted: bool,
}

impl BallotReply {
    pub(crate) fn of(reply: &VoteResponse<Types>) -> Self {
        Self {
            vote: Some((&reply.vote).into()),
            last: reply.last_log_id.map(Into::into),
            granted: reply.vote_granted,
        }
    }

    pub(crate) fn decode_response(bytes: Bytes) -> Result<VoteResponse<Types>, WireError> {
        let this = Self::decode(bytes).map_err(|error| malformed("vote reply", error))?;
        Ok(VoteResponse {
            vote: required(this.vote, "vote")?.into(),
            last_log_id: this.last.map(Into::into),
            vote_granted: this.granted,
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Transfer {
    #[prost(message, optional, tag = "1")]
    from: Option<Vote>,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<LogId>,
}

impl Transfer {
    pub(crate) fn of(request: &TransferLeaderRequest<Types>) -> Self {
        Self {
            from: Some(request.from_leader().into()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(|id| (*id).into()),
        }
    }

    pub(crate) fn decode_request(bytes: Bytes) -> Result<TransferLeaderRequest<Types>, WireError> {
        let this = Self::decode(bytes).map_err(|error| malformed("transfer", error))?;
        Ok(TransferLeaderRequest::new(
            required(this.from, "vote")?.into(),
            this.to,
            this.last.map(Into::into),
        ))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TransferReply {
    #[prost(oneof = "TransferOutcome", tags = "1, 2, 3")]
    outcome: Option<TransferOutcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum TransferOutcome {
    #[prost(bool, tag = "1")]
    Done(bool),
    #[prost(message, tag = "2")]
    VoteChanged(TwoVotes),
    #[prost(message, tag = "3")]
    NotFlushed(TwoLogIds),
}

#[derive(Clone, PartialEq, prost::Message)]
struct TwoVotes {
    #[prost(message, optional, tag = "1")]
    expected: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    actual: Option<Vote>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TwoLogIds {
    #[prost(message, optional, tag = "1")]
    expected: Option<LogId>,
    #[prost(message, optional, tag = "2")]
    actual: Option<LogId>,
}

impl TransferReply {
    pub(crate) fn of(response: &TransferLeaderResponse<Types>) -> Self {
        let outcome = match response {
            Ok(()) => TransferOutcome::Done(true),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                TransferOutcome::VoteChanged(TwoVotes {
                    expected: Some(expected.into()),
                    actual: Some(actual.into()),
                })
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                TransferOutcome::NotFlushed(TwoLogIds {
                    expected: expected.map(Into::into),
                    actual: actual.map(Into::into),
                })
            }
        };
        Self {
            outcome: Some(outcome),
        }
    }

    pub(crate) fn decode_response(
        bytes: Bytes,
    ) -> Result<TransferLeaderResponse<Types>, WireError> {
        let this = Self::decode(bytes).map_err(|error| malformed("transfer reply", error))?;
        Ok(match required(this.outcome, "transfer outcome")? {
            TransferOutcome::Done(_) => Ok(()),
            TransferOutcome::VoteChanged(votes) => Err(TransferLeaderError::VoteChanged {
                expected: required(votes.expected, "vote")?.into(),
                actual: required(votes.actual, "vote")?.into(),
            }),
            TransferOutcome::NotFlushed(ids) => Err(TransferLeaderError::LogNotFlushed {
                expected: ids.expected.map(Into::into),
                actual: ids.actual.map(Into::into),
            }),
        })
    }
}

/// What a snapshot carries of the log it stands for: the opaque `raft_meta` of the shadow.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Meta {
    /// The last entry in it.
    #[prost(message, optional, tag = "1")]
    pub(crate) last: Option<LogId>,
    /// Where the membership was written.
    #[prost(message, optional, tag = "2")]
    pub(crate) membership_at: Option<LogId>,
    /// The membership, as JSON.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) membership: Bytes,
}

impl Meta {
    pub(crate) fn of(
        last: Option<types::LogId>,
        membership: &StoredMembership,
    ) -> Result<Self, WireError> {
        Ok(Self {
            last: last.map(Into::into),
            membership_at: membership.log_id().map(Into::into),
            membership: membership_to_json(membership.membership())?,
        })
    }

    /// The last entry's id and the membership. Empty bytes stand for an empty store.
    pub(crate) fn read(
        bytes: &Bytes,
    ) -> Result<(Option<types::LogId>, StoredMembership), WireError> {
        if bytes.is_empty() {
            return Ok((None, StoredMembership::default()));
        }
        let this =
            Self::decode(bytes.clone()).map_err(|error| malformed("replication marks", error))?;
        let membership = StoredMembership::new(
            this.membership_at.map(Into::into),
            membership_from_json(&this.membership)?,
        );
        Ok((this.last.map(Into::into), membership))
    }
}

/// Precedes the bytes of a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotHeader {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    /// An encoded [`Meta`].
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) meta: Bytes,
}

/// The receiver's vote, whether or not it took the snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotReply {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
}

/// Asks whether the receiver still recognises this leader.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Confirm {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConfirmReply {
    #[prost(bool, tag = "1")]
    pub(crate) recognised: bool,
}

/// Asks for the digest of the state at an index, and tells what the group found at an earlier one.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DigestQuery {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    /// An index at which a strict majority of the voters agreed.
    #[prost(uint64, tag = "2")]
    pub(crate) agreed_index: u64,
    /// What they agreed on, big-endian; empty if nothing was compared yet.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) agreed_digest: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DigestReply {
    /// Big-endian; empty if this index is not, or no longer, remembered.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) digest: Bytes,
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
