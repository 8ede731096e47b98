//! The consensus library's types as used here. The asynchronous runtime is named in this one place,
//! so that a simulation can put its own in.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::leader_id_std::CommittedLeaderId;
use serde::{Deserialize, Serialize};

use crate::member::MemberInfo;

/// The bytes of one log entry: an encoded batch of changesets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryBytes(#[serde(with = "as_vec")] pub(crate) Bytes);

mod as_vec {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Bytes,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        Ok(Vec::<u8>::deserialize(d)?.into())
    }
}

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
impl fmt::Display for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the membership keeps of a member. `None` only in the library's own default values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StoredMember(pub(crate) Option<MemberInfo>);

/// Short: the library's messages repeat it for every member.
impl fmt::Debug for StoredMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(member) => write!(f, "{}@{}", member.name, member.peer_address),
            None => f.write_str("nobody"),
        }
    }
}

/// What runs the library's tasks.
#[cfg(not(virtflow_sim))]
type Runtime = openraft_rt_tokio::TokioRuntime;
#[cfg(virtflow_sim)]
type Runtime = crate::simulated::SimulatedRuntime;

openraft::declare_raft_types!(
    pub(crate) Types:
        D = EntryBytes,
        R = (),
        NodeId = u64,
        Node = StoredMember,
        Term = u64,
        LeaderId = LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

pub(crate) type Term = CommittedLeaderId<u64>;
pub(crate) type LogId = openraft::LogId<Term>;
pub(crate) type Vote = openraft::Vote<LeaderId<u64, u64>>;
pub(crate) type Payload = openraft::EntryPayload<EntryBytes, u64, StoredMember>;
pub(crate) type Entry = openraft::Entry<Term, Payload>;
pub(crate) type Membership = openraft::Membership<u64, StoredMember>;
pub(crate) type StoredMembership = openraft::StoredMembership<Term, u64, StoredMember>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Term, u64, StoredMember>;
pub(crate) type Snapshot =
    openraft::Snapshot<Term, u64, StoredMember, crate::machine::SnapshotData>;
pub(crate) type Raft = openraft::Raft<Types, crate::machine::Machine>;
pub(crate) type IoFlushed = openraft::storage::IOFlushed<Types>;

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}
