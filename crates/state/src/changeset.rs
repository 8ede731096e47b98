//! The stored vocabulary: what a log entry says. Frozen by ADR; fields are only ever added, and a
//! changeset names the lowest format that reads it whole.

use bytes::Bytes;
use prost::Message;
use virtflow_types::{Incarnation, ObjectId, RequestId, Timestamp};

use crate::object::Object;

/// The newest format this code reads and writes.
pub const FORMAT: u32 = 1;
/// Operations in one changeset.
pub const CHANGESET_OPS_MAX: usize = 2000;
/// Encoded size of one changeset.
pub const CHANGESET_BYTES_MAX: usize = 512 * 1024;
/// Encoded size of one log entry: what one batch of changesets may grow to.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// The bytes as they are stored and sent: prost messages, tags never reused.
pub mod wire {
    use bytes::Bytes;

    /// One log entry: many changesets in the order they were decided.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Batch {
        /// Each an encoded [`Changeset`].
        #[prost(bytes = "bytes", repeated, tag = "1")]
        pub changesets: Vec<Bytes>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Changeset {
        #[prost(uint32, tag = "1")]
        pub format: u32,
        #[prost(bytes = "bytes", tag = "2")]
        pub request_id: Bytes,
        #[prost(uint64, tag = "3")]
        pub now_ms: u64,
        #[prost(string, tag = "4")]
        pub actor: String,
        #[prost(message, repeated, tag = "5")]
        pub ops: Vec<Op>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Op {
        #[prost(oneof = "OpBody", tags = "1, 2, 3, 4, 5, 6")]
        pub body: Option<OpBody>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum OpBody {
        #[prost(message, tag = "1")]
        Expect(Expect),
        #[prost(message, tag = "2")]
        Put(Box<Put>),
        #[prost(message, tag = "3")]
        Delete(Delete),
        #[prost(message, tag = "4")]
        Record(Record),
        #[prost(uint32, tag = "5")]
        ClusterVersion(u32),
        #[prost(message, tag = "6")]
        Genesis(Genesis),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Expect {
        #[prost(bytes = "bytes", tag = "1")]
        pub object: Bytes,
        #[prost(oneof = "Condition", tags = "2, 3, 4, 5")]
        pub condition: Option<Condition>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Condition {
        #[prost(uint64, tag = "2")]
        Generation(u64),
        #[prost(uint64, tag = "3")]
        Version(u64),
        #[prost(bool, tag = "4")]
        Absent(bool),
        #[prost(message, tag = "5")]
        StreamCount(StreamCount),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StreamCount {
        #[prost(string, tag = "1")]
        pub stream: String,
        #[prost(uint64, tag = "2")]
        pub count: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Put {
        #[prost(message, optional, tag = "1")]
        pub row: Option<Row>,
        /// The version it replaces; 0 for "nothing".
        #[prost(uint64, tag = "2")]
        pub replaces: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Delete {
        #[prost(bytes = "bytes", tag = "1")]
        pub object: Bytes,
        #[prost(uint64, tag = "2")]
        pub version: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Record {
        #[prost(string, tag = "1")]
        pub stream: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub body: Bytes,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Genesis {
        #[prost(bytes = "bytes", tag = "1")]
        pub incarnation: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub cluster_id: Bytes,
    }
    /// An object with its footprint. Its encoding is what the digest is made of.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Row {
        #[prost(string, tag = "1")]
        pub kind: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub id: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub tenant: Bytes,
        #[prost(bytes = "bytes", tag = "4")]
        pub parent: Bytes,
        #[prost(string, tag = "5")]
        pub name: String,
        #[prost(uint64, tag = "6")]
        pub generation: u64,
        #[prost(uint64, tag = "7")]
        pub version: u64,
        #[prost(bool, tag = "8")]
        pub closed: bool,
        /// Canonical JSON.
        #[prost(string, tag = "9")]
        pub spec: String,
        /// Canonical JSON.
        #[prost(string, tag = "10")]
        pub status: String,
        #[prost(message, repeated, tag = "11")]
        pub claims: Vec<Claim>,
        /// Ids, sixteen bytes each.
        #[prost(bytes = "bytes", repeated, tag = "12")]
        pub links: Vec<Bytes>,
        #[prost(message, repeated, tag = "13")]
        pub supplies: Vec<Amount>,
        #[prost(message, repeated, tag = "14")]
        pub charges: Vec<Amount>,
        #[prost(message, repeated, tag = "15")]
        pub accounts: Vec<Account>,
        #[prost(message, repeated, tag = "16")]
        pub keys: Vec<Key>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Claim {
        #[prost(string, tag = "1")]
        pub space: String,
        #[prost(bytes = "vec", tag = "2")]
        pub lo: Vec<u8>,
        /// Empty where it equals `lo`.
        #[prost(bytes = "vec", tag = "3")]
        pub hi: Vec<u8>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Amount {
        #[prost(bytes = "bytes", tag = "1")]
        pub owner: Bytes,
        #[prost(string, tag = "2")]
        pub dimension: String,
        #[prost(uint64, tag = "3")]
        pub amount: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Account {
        #[prost(string, tag = "1")]
        pub dimension: String,
        #[prost(message, optional, tag = "2")]
        pub parent: Option<AccountRef>,
        #[prost(oneof = "AccountLimit", tags = "3, 4, 5")]
        pub limit: Option<AccountLimit>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum AccountLimit {
        #[prost(uint64, tag = "3")]
        Fixed(u64),
        #[prost(bool, tag = "4")]
        Unlimited(bool),
        #[prost(message, tag = "5")]
        Share(Share),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Share {
        #[prost(message, optional, tag = "1")]
        pub of: Option<AccountRef>,
        #[prost(uint64, tag = "2")]
        pub ppm: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AccountRef {
        #[prost(bytes = "bytes", tag = "1")]
        pub owner: Bytes,
        #[prost(string, tag = "2")]
        pub dimension: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Key {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }
}

/// Bytes that are no changeset this code may apply. Both are fatal to a replica: skipping an entry
/// that others apply would make it differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a changeset, or one cut short.
    #[error("not a changeset: {0}")]
    Malformed(String),
    /// Written for a newer format.
    #[error(
        "changeset format {found} is newer than {FORMAT}, the newest this controller reads; upgrade it"
    )]
    FormatTooNew {
        /// The format it names.
        found: u32,
    },
}

/// A condition that the changeset's author read and rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The object has this generation.
    Generation(ObjectId, u64),
    /// The object has this version.
    Version(ObjectId, u64),
    /// No such object.
    Absent(ObjectId),
    /// The stream has this many records.
    StreamCount(String, u64),
}

/// Bytes appended to a stream: audit, usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Name of the stream.
    pub stream: String,
    /// What is kept; opaque to the state.
    pub body: Bytes,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Refused if the condition does not hold.
    Expect(Expect),
    /// The whole object, replacing the version before it, or nothing if its version is 1.
    Put(Box<Object>),
    /// Removes the object at that version, with all its footprint.
    Delete(ObjectId, u64),
    /// Appends to a stream.
    Record(Record),
    /// Raises the version that all members support.
    ClusterVersion(u32),
    /// The first words of a store: which life of which cluster this is.
    Genesis(Incarnation, ObjectId),
}

/// What one request or one pass of a loop decided: all of it happens, or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Changeset {
    /// The lowest format that reads it whole.
    pub format: u32,
    /// The request it answers.
    pub request_id: RequestId,
    /// A label for people; no condition reads it.
    pub now: Timestamp,
    /// Who caused it.
    pub actor: String,
    /// In order; conditions are judged on their net effect.
    pub ops: Vec<Op>,
}

impl Changeset {
    /// An empty changeset of today's format.
    pub fn new(request_id: RequestId, now: Timestamp, actor: impl Into<String>) -> Self {
        Self {
            format: FORMAT,
            request_id,
            now,
            actor: actor.into(),
            ops: Vec::new(),
        }
    }

    /// The bytes that are stored and sent.
    pub fn encode(&self) -> Bytes {
        let ops = self.ops.iter().map(Op::to_wire).collect();
        wire::Changeset {
            format: self.format,
            request_id: Bytes::copy_from_slice(self.request_id.as_bytes()),
            now_ms: self.now.ms(),
            actor: self.actor.clone(),
            ops,
        }
        .encode_to_vec()
        .into()
    }

    /// Reads them back.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let wire = wire::Changeset::decode(bytes)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        if wire.format > FORMAT {
            return Err(DecodeError::FormatTooNew { found: wire.format });
        }
        if wire.format == 0 {
            return Err(DecodeError::Malformed("no format".into()));
        }
        let request_id = RequestId::from_slice(&wire.request_id)
            .ok_or_else(|| DecodeError::Malformed("request id".into()))?;
        let ops = wire
            .ops
            .into_iter()
            .map(Op::from_wire)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            format: wire.format,
            request_id,
            now: Timestamp::from_ms(wire.now_ms),
            actor: wire.actor,
            ops,
        })
    }
}

/// One log entry's worth of changesets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Encoded changesets, in the order they were decided.
    pub changesets: Vec<Bytes>,
}

impl Batch {
    /// The bytes of the log entry.
    pub fn encode(&self) -> Bytes {
        wire::Batch {
            changesets: self.changesets.clone(),
        }
        .encode_to_vec()
        .into()
    }
    /// Reads them back.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let wire = wire::Batch::decode(bytes)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        Ok(Self {
            changesets: wire.changesets,
        })
    }
}

fn id_of(bytes: &[u8], what: &str) -> Result<ObjectId, DecodeError> {
    ObjectId::from_slice(bytes)
        .ok_or_else(|| DecodeError::Malformed(format!("{what}: not sixteen bytes")))
}

impl Op {
    fn to_wire(&self) -> wire::Op {
        let bytes = |id: &ObjectId| Bytes::copy_from_slice(id.as_bytes());
        let body = match self {
            Self::Expect(expect) => {
                let (object, condition) = match expect {
                    Expect::Generation(id, n) => (bytes(id), wire::Condition::Generation(*n)),
                    Expect::Version(id, n) => (bytes(id), wire::Condition::Version(*n)),
                    Expect::Absent(id) => (bytes(id), wire::Condition::Absent(true)),
                    Expect::StreamCount(stream, count) => (
                        Bytes::new(),
                        wire::Condition::StreamCount(wire::StreamCount {
                            stream: stream.clone(),
                            count: *count,
                        }),
                    ),
                };
                wire::OpBody::Expect(wire::Expect {
                    object,
                    condition: Some(condition),
                })
            }
            Self::Put(object) => wire::OpBody::Put(Box::new(wire::Put {
                row: Some(object.to_wire()),
                replaces: object.version.saturating_sub(1),
            })),
            Self::Delete(id, version) => wire::OpBody::Delete(wire::Delete {
                object: bytes(id),
                version: *version,
            }),
            Self::Record(record) => wire::OpBody::Record(wire::Record {
                stream: record.stream.clone(),
                body: record.body.clone(),
            }),
            Self::ClusterVersion(n) => wire::OpBody::ClusterVersion(*n),
            Self::Genesis(incarnation, cluster_id) => wire::OpBody::Genesis(wire::Genesis {
                incarnation: Bytes::copy_from_slice(incarnation.as_bytes()),
                cluster_id: bytes(cluster_id),
            }),
        };
        wire::Op { body: Some(body) }
    }

    fn from_wire(op: wire::Op) -> Result<Self, DecodeError> {
        let malformed = |what: &str| DecodeError::Malformed(what.into());
        Ok(
            match op.body.ok_or_else(|| malformed("an op without a body"))? {
                wire::OpBody::Expect(expect) => {
                    let condition = expect
                        .condition
                        .ok_or_else(|| malformed("an expectation without a condition"))?;
                    Self::Expect(match condition {
                        wire::Condition::Generation(n) => {
                            Expect::Generation(id_of(&expect.object, "expect")?, n)
                        }
                        wire::Condition::Version(n) => {
                            Expect::Version(id_of(&expect.object, "expect")?, n)
                        }
                        wire::Condition::Absent(_) => {
                            Expect::Absent(id_of(&expect.object, "expect")?)
                        }
                        wire::Condition::StreamCount(stream) => {
                            Expect::StreamCount(stream.stream, stream.count)
                        }
                    })
                }
                wire::OpBody::Put(put) => {
                    let row = put.row.ok_or_else(|| malformed("a put without a row"))?;
                    // Versions begin at 1: there is none that the version 0 could follow.
                    if row.version == 0 || row.version - 1 != put.replaces {
                        return Err(malformed(
                            "a put whose version does not follow the replaced one",
                        ));
                    }
                    Self::Put(Box::new(Object::from_wire(row)?))
                }
                wire::OpBody::Delete(delete) => {
                    Self::Delete(id_of(&delete.object, "delete")?, delete.version)
                }
                wire::OpBody::Record(record) => Self::Record(Record {
                    stream: record.stream,
                    body: record.body,
                }),
                wire::OpBody::ClusterVersion(n) => Self::ClusterVersion(n),
                wire::OpBody::Genesis(genesis) => Self::Genesis(
                    Incarnation::from_slice(&genesis.incarnation)
                        .ok_or_else(|| malformed("genesis: incarnation"))?,
                    id_of(&genesis.cluster_id, "genesis: cluster id")?,
                ),
            },
        )
    }
}
