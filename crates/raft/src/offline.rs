//! What is done to a store that no node runs on: making it, and beginning a new life with one member.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftLogStorage;
use openraft::vote::RaftLeaderId;
use prost::Message;
use virtflow_state::port::Loaded;
use virtflow_types::ObjectId;

use crate::config::RaftLimits;
use crate::link::roster_of;
use crate::log::{Identity, LogOptions, LogStore};
use crate::member::{Member, MemberInfo, MemberRole};
use crate::types::{Entry, Membership, Payload, StoredMember, StoredMembership, Vote, log_id};
use crate::wire::Meta;

/// Entries kept in memory while a log is worked on.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a store was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfflineError {
    /// The log.
    #[error("{doing}: {cause}")]
    Log {
        /// What was being done.
        doing: &'static str,
        /// The cause, as text.
        cause: String,
    },
    /// The marks that the shadow keeps for replication.
    #[error("the state's replication marks cannot be read: {0}")]
    Marks(String),
    /// The log lacks entries that the state does not hold.
    #[error(
        "the log begins after entry {purged}, the state ends at {loaded}: entries between are missing"
    )]
    Gap {
        /// Last entry purged.
        purged: u64,
        /// Index of the state.
        loaded: u64,
    },
}

fn log_error(doing: &'static str) -> impl Fn(std::io::Error) -> OfflineError {
    move |error| OfflineError::Log {
        doing,
        cause: error.to_string(),
    }
}

fn options() -> LogOptions {
    let limits = RaftLimits {
        log_cache_bytes: CACHE_BYTES,
        ..RaftLimits::default()
    };
    LogOptions::new(&limits, Arc::default())
}

/// Makes the empty log of a member. Done once, with its data folder: a node without a log does not
/// start, so that a store that lost it cannot come back under its old id.
pub async fn create(
    dir: &Path,
    cluster_id: ObjectId,
    node_id: u64,
    store_id: ObjectId,
) -> Result<(), OfflineError> {
    let identity = Identity {
        cluster_id,
        node_id,
        store_id,
    };
    let made = LogStore::create(dir, &identity, &options()).await;
    made.map(drop).map_err(log_error("making the log"))
}

fn marks(loaded: &Loaded) -> Result<(Option<crate::types::LogId>, StoredMembership), OfflineError> {
    Meta::read(&loaded.raft_meta).map_err(|error| OfflineError::Marks(error.to_string()))
}

/// The members that a stored state names.
pub fn members(loaded: &Loaded) -> Result<Vec<Member>, OfflineError> {
    let (_, membership) = marks(loaded)?;
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(node_id, info): (u64, MemberInfo)| Member {
        node_id,
        info,
        role: match voters.contains(&node_id) {
            true => MemberRole::Voter,
            false => MemberRole::Learner,
        },
        matched: None,
        last_ack_ms_ago: None,
    };
    Ok(roster_of(&membership).into_iter().map(member).collect())
}

/// A member's number that the stored group has never given: numbers are taken from the log's indexes.
pub fn fresh_node_id(loaded: &Loaded) -> Result<u64, OfflineError> {
    let (last, _) = marks(loaded)?;
    Ok(last.map_or(1, |id| id.index + 1))
}

fn alone(node_id: u64, me: &MemberInfo) -> Result<Membership, OfflineError> {
    let nodes = BTreeMap::from([(node_id, StoredMember(Some(me.clone())))]);
    Membership::new(vec![BTreeSet::from([node_id])], nodes)
        .map_err(|error| OfflineError::Marks(error.to_string()))
}

/// The replication marks of `loaded` with `me` as the only member: what a shadow keeps that is given
/// a new incarnation.
pub fn sole_member_marks(
    loaded: &Loaded,
    node_id: u64,
    me: &MemberInfo,
) -> Result<Bytes, OfflineError> {
    let (last, _) = marks(loaded)?;
    let membership = StoredMembership::new(last, alone(node_id, me)?);
    let meta =
        Meta::of(last, &membership).map_err(|error| OfflineError::Marks(error.to_string()))?;
    Ok(meta.encode_to_vec().into())
}

/// Begins a group of one on a state that already carries its new incarnation.
///
/// With a log in `dir` its whole tail is kept: what one survivor holds may have been acknowledged.
/// Without one, as after a restore, the log begins where the state ends. Either way the entries below
/// the state are dropped, so that later members take this life's snapshot instead of the former
/// life's log. Returns the index of the entry that makes `me` the only voter.
pub async fn begin_new_life(
    dir: &Path,
    cluster_id: ObjectId,
    node_id: u64,
    me: &MemberInfo,
    loaded: &Loaded,
) -> Result<u64, OfflineError> {
    let identity = Identity {
        cluster_id,
        node_id,
        store_id: me.store_id,
    };
    let (applied, _) = marks(loaded)?;
    let exists =
        dir.is_dir() && std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    let mut log = if exists {
        LogStore::open(dir, &identity, &options())
    } else {
        LogStore::create(dir, &identity, &options()).await
    }
    .map_err(log_error("opening the log"))?;
    let state = log
        .get_log_state()
        .await
        .map_err(log_error("reading the log"))?;
    let purged = state.last_purged_log_id.map_or(0, |id| id.index);
    if purged > applied.map_or(0, |id| id.index) {
        return Err(OfflineError::Gap {
            purged,
            loaded: applied.map_or(0, |id| id.index),
        });
    }
    if let Some(applied) = applied {
        log.purge(applied)
            .await
            .map_err(log_error("purging the log"))?;
    }
    let last = log.last();
    let voted = log.vote().map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.map_or(0, |id| id.leader_id.term)) + 1;
    let vote = Vote {
        leader_id: RaftLeaderId::new(term, node_id),
        committed: true,
    };
    log.save_vote(&vote)
        .await
        .map_err(log_error("writing the vote"))?;
    let id = log_id(term, last.map_or(0, |id| id.index + 1));
    let entry = Entry {
        log_id: id,
        payload: Payload::Membership(alone(node_id, me)?),
    };
    log.append_offline(vec![entry])
        .await
        .map_err(log_error("writing the membership"))?;
    log.save_committed(Some(id))
        .await
        .map_err(log_error("marking the log as committed"))?;
    // One more flushed record behind the mark puts it on the disk too.
    log.save_vote(&vote)
        .await
        .map_err(log_error("flushing the log"))?;
    Ok(id.index)
}
