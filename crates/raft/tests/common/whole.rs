//! A whole state as bytes: what a shadow in memory keeps and gives as a snapshot.

use bytes::Bytes;
use prost::Message;
use virtflow_state::port::Loaded;
use virtflow_state::{Object, State, StreamHead, Text};
use virtflow_types::{Incarnation, ObjectId};

#[derive(Clone, PartialEq, prost::Message)]
struct Whole {
    #[prost(bytes = "vec", tag = "1")]
    cluster_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    incarnation: Vec<u8>,
    #[prost(uint32, tag = "3")]
    cluster_version: u32,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(bytes = "bytes", tag = "5")]
    raft_meta: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    rows: Vec<Bytes>,
    #[prost(message, repeated, tag = "7")]
    streams: Vec<Stream>,
    #[prost(bytes = "vec", tag = "8")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stream {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    count: u64,
    #[prost(bytes = "vec", tag = "3")]
    head: Vec<u8>,
}

pub(crate) fn encode(state: &State, raft_meta: &Bytes) -> Vec<u8> {
    let id = |bytes: Option<[u8; 16]>| bytes.map(Vec::from).unwrap_or_default();
    Whole {
        cluster_id: id(state.cluster_id().map(|id| *id.as_bytes())),
        incarnation: id(state.incarnation().map(|id| *id.as_bytes())),
        cluster_version: state.cluster_version(),
        index: state.index(),
        raft_meta: raft_meta.clone(),
        rows: state.objects().map(|row| row.encode().into()).collect(),
        streams: state
            .streams()
            .map(|(name, head)| Stream {
                name: name.to_string(),
                count: head.count,
                head: head.head.to_vec(),
            })
            .collect(),
        digest: state.digest().to_be_bytes().to_vec(),
    }
    .encode_to_vec()
}

/// Reads it back; another digest than its rows give is an error.
pub(crate) fn decode(bytes: &[u8]) -> Result<Loaded, String> {
    let whole = Whole::decode(bytes).map_err(|error| error.to_string())?;
    let rows = whole.rows.into_iter().map(Object::decode);
    let rows = rows.collect::<Result<Vec<_>, _>>();
    let rows = rows.map_err(|error| error.to_string())?;
    let streams = whole.streams.into_iter().map(|stream| {
        let head = StreamHead {
            count: stream.count,
            head: stream.head.try_into().unwrap_or_default(),
        };
        (Text::new(stream.name), head)
    });
    let state = State::from_parts(
        ObjectId::from_slice(&whole.cluster_id),
        Incarnation::from_slice(&whole.incarnation),
        whole.cluster_version,
        whole.index,
        rows,
        streams,
    );
    let state = state.map_err(|error| error.to_string())?;
    if state.digest().to_be_bytes()[..] != whole.digest[..] {
        return Err("the rows do not give the digest that was written with them".into());
    }
    Ok(Loaded {
        state,
        raft_meta: whole.raft_meta,
    })
}
