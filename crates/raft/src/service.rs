//! The consensus library's side of the peer listener.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt, stream};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use virtflow_pki::{PeerIdentity, Role, require_role};
use virtflow_proto::raft::v1::raft_server::{self, RaftServer};
use virtflow_proto::raft::v1::{Envelope, SnapshotChunk};
use virtflow_state::port::Shadow;
use virtflow_types::ObjectId;

use crate::confirm;
use crate::digest::Digests;
use crate::link::{Link, MESSAGE_BYTES_MAX};
use crate::machine::{ReceivedFile, SnapshotData};
use crate::network::SNAPSHOT_CHUNK_TIMEOUT;
use crate::types::{Raft, Snapshot, SnapshotMeta};
use crate::wire::{
    Append, AppendReply, Ballot, BallotReply, Confirm, DigestQuery, Meta, SnapshotHeader,
    SnapshotReply, Transfer, TransferReply,
};

/// Size of a snapshot, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Serves `virtflow.raft.v1.Raft`. Takes the role `controller` only.
#[derive(Debug, Clone)]
pub struct RaftService {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    link: Arc<Link>,
    shadow: Arc<dyn Shadow>,
    digests: Arc<Digests>,
    /// One snapshot is received at a time.
    receiving: Semaphore,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftService")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

fn malformed(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this node has stopped: {error}"))
}

impl RaftService {
    pub(crate) fn new(
        raft: Raft,
        link: Arc<Link>,
        shadow: Arc<dyn Shadow>,
        digests: Arc<Digests>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                raft,
                link,
                shadow,
                digests,
                receiving: Semaphore::new(1),
            }),
        }
    }

    pub(crate) fn into_server(self) -> RaftServer<Self> {
        RaftServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Checks who asks; the payload and to whom the answer goes.
    fn open(&self, request: Request<Envelope>) -> Result<(Envelope, u64, ObjectId), Status> {
        let peer = require_role(request.extensions(), Role::Controller)?.clone();
        let envelope = request.into_inner();
        let from = self.inner.link.check(&envelope, &peer)?;
        let store = ObjectId::from_uuid(peer.identity.subject_id);
        Ok((envelope, from, store))
    }

    fn reply(&self, to: u64, store: ObjectId, message: &impl Message) -> Response<Envelope> {
        let payload = message.encode_to_vec().into();
        Response::new(self.inner.link.envelope(to, store, payload))
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

#[tonic::async_trait]
impl raft_server::Raft for RaftService {
    type AppendStream = Replies;

    async fn append(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Replies>, Status> {
        let peer = require_role(request.extensions(), Role::Controller)?.clone();
        let store = ObjectId::from_uuid(peer.identity.subject_id);
        let inner = self.inner.clone();
        // Why the incoming side ended early, and who sends.
        let ended: Arc<Mutex<(Option<Status>, u64)>> = Arc::default();
        let why = ended.clone();
        let incoming = stream::unfold(request.into_inner(), move |mut incoming| {
            let (inner, peer, why) = (inner.clone(), peer.clone(), why.clone());
            async move {
                let opened = match incoming.message().await {
                    Ok(None) => return None,
                    Ok(Some(envelope)) => inner.link.check(&envelope, &peer).and_then(|from| {
                        why.lock().unwrap_or_else(PoisonError::into_inner).1 = from;
                        Append::decode_request(envelope.payload).map_err(malformed)
                    }),
                    Err(status) => Err(status),
                };
                match opened {
                    Ok(append) => Some((append, incoming)),
                    Err(status) => {
                        why.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(status);
                        None
                    }
                }
            }
        });
        let results = self.inner.raft.stream_append(incoming);
        let inner = self.inner.clone();
        let from = ended.clone();
        let replies = results.map(move |result| {
            let to = from.lock().unwrap_or_else(PoisonError::into_inner).1;
            let result = result.map_err(stopped)?;
            let payload = AppendReply::of(&result).encode_to_vec().into();
            Ok(inner.link.envelope(to, store, payload))
        });
        let last_word = stream::once(async move {
            ended
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .0
                .take()
        });
        let last_word = last_word.filter_map(|status| async move { status.map(Err) });
        Ok(Response::new(replies.chain(last_word).boxed()))
    }

    async fn vote(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let (envelope, from, store) = self.open(request)?;
        let ballot = Ballot::decode_request(envelope.payload).map_err(malformed)?;
        let reply = self.inner.raft.vote(ballot).await.map_err(stopped)?;
        Ok(self.reply(from, store, &BallotReply::of(&reply)))
    }

    async fn pre_vote(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let (envelope, from, store) = self.open(request)?;
        let ballot = Ballot::decode_request(envelope.payload).map_err(malformed)?;
        let reply = self.inner.raft.pre_vote(ballot).await.map_err(stopped)?;
        Ok(self.reply(from, store, &BallotReply::of(&reply)))
    }

    async fn transfer_leader(
        &self,
        request: Request<Envelope>,
    ) -> Result<Response<Envelope>, Status> {
        let (envelope, from, store) = self.open(request)?;
        let transfer = Transfer::decode_request(envelope.payload).map_err(malformed)?;
        let reply = self
            .inner
            .raft
            .handle_transfer_leader(transfer)
            .await
            .map_err(stopped)?;
        Ok(self.reply(from, store, &TransferReply::of(&reply)))
    }

    async fn confirm(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let (envelope, from, store) = self.open(request)?;
        let question = Confirm::decode(envelope.payload).map_err(malformed)?;
        let reply = confirm::answer(&self.inner.raft, &question).await;
        Ok(self.reply(from, store, &reply.map_err(stopped)?))
    }

    async fn digest(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let (envelope, from, store) = self.open(request)?;
        let query = DigestQuery::decode(envelope.payload).map_err(malformed)?;
        let reply = self.inner.digests.answer(&query).await;
        Ok(self.reply(from, store, &reply))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<Envelope>, Status> {
        let peer = require_role(request.extensions(), Role::Controller)?.clone();
        let Ok(_turn) = self.inner.receiving.try_acquire() else {
            return Err(Status::unavailable("another snapshot is being received"));
        };
        let (from, reply) = self.inner.receive(request.into_inner(), &peer).await?;
        let store = ObjectId::from_uuid(peer.identity.subject_id);
        Ok(self.reply(from, store, &reply))
    }
}

async fn next_chunk(chunks: &mut Streaming<SnapshotChunk>) -> Result<SnapshotChunk, Status> {
    let next = tokio::time::timeout(SNAPSHOT_CHUNK_TIMEOUT, chunks.message()).await;
    let next =
        next.map_err(|_| Status::deadline_exceeded("the next chunk of the snapshot did not come"))?;
    next?.ok_or_else(|| malformed("the snapshot ended before its last chunk"))
}

impl Inner {
    async fn receive(
        &self,
        mut chunks: Streaming<SnapshotChunk>,
        peer: &PeerIdentity,
    ) -> Result<(u64, SnapshotReply), Status> {
        let mut chunk = next_chunk(&mut chunks).await?;
        let header = chunk
            .header
            .take()
            .ok_or_else(|| malformed("a snapshot without a header"))?;
        let from = self.link.check(&header, peer)?;
        let header = SnapshotHeader::decode(header.payload).map_err(malformed)?;
        let vote: crate::types::Vote = header
            .vote
            .ok_or_else(|| malformed("a snapshot without a vote"))?
            .into();
        let (last_log_id, last_membership) = Meta::read(&header.meta).map_err(malformed)?;
        // The library asserts this, which would take the whole node down.
        if last_log_id.is_none_or(|id| id.leader_id.term > vote.leader_id.term || id.index == 0) {
            return Err(malformed(format!(
                "a snapshot that ends at {last_log_id:?} cannot come from a leader of term {}",
                vote.leader_id.term
            )));
        }
        let path = self.shadow.receive_path().await;
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        // Removes the file on every way out but the installation.
        let received = ReceivedFile::new(path.clone());
        let disk = |error: std::io::Error| {
            tracing::warn!(path = %path.display(), "receiving a snapshot: {error}");
            Status::resource_exhausted(format!("writing the snapshot: {error}"))
        };
        let mut file = crate::files::File::create_new(&path).await.map_err(disk)?;
        let total_bytes = chunk.total_bytes;
        if total_bytes > SNAPSHOT_BYTES_MAX {
            return Err(malformed(format!("a snapshot of {total_bytes} bytes")));
        }
        let mut offset = 0;
        let mut hasher = blake3::Hasher::new();
        loop {
            if chunk.offset != offset || chunk.total_bytes != total_bytes {
                return Err(malformed(
                    "chunks of the snapshot do not follow one another",
                ));
            }
            offset += chunk.data.len() as u64;
            if offset > total_bytes || (chunk.data.is_empty() && !chunk.last) {
                return Err(malformed("a snapshot longer than announced"));
            }
            hasher.update(&chunk.data);
            file.write_all(&chunk.data).await.map_err(disk)?;
            if chunk.last {
                break;
            }
            chunk = next_chunk(&mut chunks).await?;
        }
        if offset != total_bytes || *chunk.blake3 != *hasher.finalize().as_bytes() {
            return Err(Status::data_loss("the snapshot was damaged on its way"));
        }
        file.flush().await.map_err(disk)?;
        drop(file);
        tracing::info!(from, bytes = total_bytes, ends_at = ?last_log_id, "received a snapshot");
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id,
                last_membership,
            },
            snapshot: SnapshotData::Received(received),
        };
        let reply = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(stopped)?;
        Ok((
            from,
            SnapshotReply {
                vote: Some((&reply.vote).into()),
            },
        ))
    }
}
