//! How the consensus library speaks to other members.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, RaftNetworkFactory};
use prost::Message;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use virtflow_proto::raft::v1::raft_client::RaftClient;
use virtflow_proto::raft::v1::{Envelope, SnapshotChunk};
use virtflow_types::ObjectId;

use crate::link::{Lane, Link, MESSAGE_BYTES_MAX};
use crate::machine::SnapshotData;
use crate::types::{Snapshot, StoredMember, Types, Vote};
use crate::wire::{
    Append, AppendReply, Ballot, BallotReply, Meta, SnapshotHeader, SnapshotReply, Transfer,
    TransferReply,
};

type RpcError = RPCError<Types>;
type RpcStreamError = StreamingError<Types>;
type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;
type BoxStream<'a, T> = futures::stream::BoxStream<'a, T>;
type AppendResults<'a> = BoxStream<'a, Result<StreamAppendResult<Types>, RpcError>>;

/// Entries on their way without an answer for that long: the stream is given up and begun anew.
const APPEND_REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Opening an append stream: less than a connection may take to be made.
const APPEND_OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// A vote or a hand-over.
const BALLOT_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a snapshot in one message.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks read ahead of the network.
const SNAPSHOT_CHUNKS_AHEAD: usize = 4;
/// Taking one chunk of a snapshot, or installing all of it.
pub(crate) const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// Loading and verifying a snapshot at the receiver.
const SNAPSHOT_INSTALL_TIMEOUT: Duration = Duration::from_secs(300);
/// A member that cannot be reached is tried again after this long.
const UNREACHABLE_BACKOFF: Duration = Duration::from_millis(200);

/// Makes clients to other members.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) link: Arc<Link>,
}

/// A client to one member on one lane.
#[derive(Debug)]
pub(crate) struct PeerClient {
    link: Arc<Link>,
    node_id: u64,
    member: StoredMember,
    lane: Lane,
}

impl Network {
    fn client(&self, node_id: u64, member: &StoredMember, lane: Lane) -> PeerClient {
        PeerClient {
            link: self.link.clone(),
            node_id,
            member: member.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &StoredMember) -> PeerClient {
        self.client(target, node, Lane::Log)
    }
    async fn new_heartbeat_client(&mut self, target: u64, node: &StoredMember) -> PeerClient {
        self.client(target, node, Lane::Control)
    }
    async fn new_snapshot_client(&mut self, target: u64, node: &StoredMember) -> PeerClient {
        self.client(target, node, Lane::Bulk)
    }
}

fn unreachable(why: impl ToString) -> Unreachable<Types> {
    Unreachable::from_string(why.to_string())
}

/// Trouble of the connection is worth an immediate second try; a refusal is not.
fn rpc_error(status: &Status) -> RpcError {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => {
            RpcError::Network(NetworkError::from_string(status.message()))
        }
        _ => RpcError::Unreachable(unreachable(status.message())),
    }
}

fn timed_out(what: &str, limit: Duration) -> Status {
    Status::deadline_exceeded(format!("{what}: no answer within {} ms", limit.as_millis()))
}

async fn within<T>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(what, limit)),
    }
}

impl PeerClient {
    fn connect(&self) -> Result<(RaftClient<Channel>, ObjectId), Status> {
        let member = self.member.0.as_ref();
        let member =
            member.ok_or_else(|| Status::failed_precondition("a member without an address"))?;
        let channel = self.link.channel_of(self.node_id, member, self.lane);
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let client = RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok((client, member.store_id))
    }

    fn seal(&self, store_id: ObjectId, message: &impl Message) -> Envelope {
        self.link
            .envelope(self.node_id, store_id, message.encode_to_vec().into())
    }

    async fn ballot(
        &self,
        request: &VoteRequest<Types>,
        pre: bool,
        limit: Duration,
    ) -> Result<VoteResponse<Types>, Status> {
        let (mut client, store_id) = self.connect()?;
        let envelope = self.seal(store_id, &Ballot::of(request));
        let reply = within("vote", limit, async {
            if pre {
                client.pre_vote(envelope).await
            } else {
                client.vote(envelope).await
            }
        });
        let payload = self
            .link
            .open_reply(reply.await?.into_inner(), self.node_id)?;
        BallotReply::decode_response(payload).map_err(|error| Status::internal(error.to_string()))
    }

    async fn open_append<S>(
        &self,
        input: S,
        sent: Arc<AtomicU64>,
    ) -> Result<Streaming<Envelope>, Status>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let (mut client, store_id) = self.connect()?;
        let link = self.link.clone();
        let node_id = self.node_id;
        // Only a membership that cannot be written as JSON fails here, which none can be made of.
        let outgoing = input.scan((), move |(), request| {
            let append = Append::of(&request);
            if let Err(error) = &append {
                tracing::error!(node_id, "cannot send log entries: {error}");
            }
            sent.fetch_add(1, Ordering::Relaxed);
            let envelope = append
                .map(|append| link.envelope(node_id, store_id, append.encode_to_vec().into()));
            futures::future::ready(envelope.ok())
        });
        let reply = within("append", APPEND_OPEN_TIMEOUT, client.append(outgoing)).await?;
        Ok(reply.into_inner())
    }
}

/// The next reply of an append stream; an idle stream may wait for ever.
async fn next_reply(
    replies: &mut Streaming<Envelope>,
    sent: &AtomicU64,
    received: u64,
) -> Result<Option<Envelope>, Status> {
    loop {
        match tokio::time::timeout(APPEND_REPLY_TIMEOUT, replies.message()).await {
            Ok(reply) => return reply,
            Err(_) if sent.load(Ordering::Relaxed) == received => {}
            Err(_) => return Err(timed_out("append", APPEND_REPLY_TIMEOUT)),
        }
    }
}

impl NetStreamAppend<Types> for PeerClient {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendResults<'s>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let mut input = input;
            // The library's pause after a failure lies in the wait for the first request: dialling
            // before that, a member that refuses connections would be dialled without any pause.
            let Some(first) = input.next().await else {
                return Ok(stream::empty().boxed());
            };
            let input = stream::iter([first]).chain(input);
            let sent = Arc::new(AtomicU64::new(0));
            let replies = self.open_append(input, sent.clone()).await;
            let replies = replies.map_err(|status| rpc_error(&status))?;
            let this = &*self;
            let results = stream::unfold(Some((replies, 0)), move |going| {
                let sent = sent.clone();
                async move {
                    let (mut replies, received) = going?;
                    let result = match next_reply(&mut replies, &sent, received).await {
                        Ok(None) => return None,
                        Ok(Some(envelope)) => this
                            .link
                            .open_reply(envelope, this.node_id)
                            .and_then(|payload| {
                                AppendReply::decode_result(payload)
                                    .map_err(|error| Status::internal(error.to_string()))
                            })
                            .map_err(|status| rpc_error(&status)),
                        Err(status) => Err(rpc_error(&status)),
                    };
                    let goes_on = matches!(result, Ok(Ok(_)));
                    Some((result, goes_on.then_some((replies, received + 1))))
                }
            });
            Ok(results.boxed())
        })
    }
}

impl NetVote<Types> for PeerClient {
    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let limit = option.hard_ttl().max(BALLOT_TIMEOUT);
        self.ballot(&rpc, false, limit)
            .await
            .map_err(|status| rpc_error(&status))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let limit = option.hard_ttl().max(BALLOT_TIMEOUT);
        self.ballot(&rpc, true, limit)
            .await
            .map_err(|status| rpc_error(&status))
    }
}

impl NetTransferLeader<Types> for PeerClient {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let call = async {
            let (mut client, store_id) = self.connect()?;
            let envelope = self.seal(store_id, &Transfer::of(&req));
            let reply = within(
                "hand-over",
                BALLOT_TIMEOUT,
                client.transfer_leader(envelope),
            )
            .await?;
            let payload = self.link.open_reply(reply.into_inner(), self.node_id)?;
            TransferReply::decode_response(payload)
                .map_err(|error| Status::internal(error.to_string()))
        };
        call.await.map_err(|status| rpc_error(&status))
    }
}

impl NetBackoff<Types> for PeerClient {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(UNREACHABLE_BACKOFF)))
    }
}

/// Reads the file into chunks, the header first, the hash of all data last.
async fn send_chunks(
    mut file: crate::files::File,
    total_bytes: u64,
    header: Envelope,
    chunks: mpsc::Sender<SnapshotChunk>,
) -> std::io::Result<()> {
    let mut header = Some(header);
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    loop {
        let want = (total_bytes - offset).min(SNAPSHOT_CHUNK_BYTES as u64);
        let mut data = vec![0; usize::try_from(want).unwrap_or(SNAPSHOT_CHUNK_BYTES)];
        file.read_exact(&mut data).await?;
        hasher.update(&data);
        let last = offset + want == total_bytes;
        let chunk = SnapshotChunk {
            header: header.take(),
            offset,
            data: data.into(),
            total_bytes,
            last,
            blake3: match last {
                true => Bytes::copy_from_slice(hasher.finalize().as_bytes()),
                false => Bytes::new(),
            },
        };
        // A receiver that hung up says why in its answer.
        if chunks.send(chunk).await.is_err() || last {
            return Ok(());
        }
        offset += want;
    }
}

impl PeerClient {
    async fn send_snapshot(&self, vote: Vote, snapshot: &Snapshot) -> Result<Vote, Status> {
        let SnapshotData::Made(made) = &snapshot.snapshot else {
            return Err(Status::internal("a received snapshot cannot be sent on"));
        };
        let local =
            |error: std::io::Error| Status::internal(format!("{}: {error}", made.path.display()));
        let file = crate::files::File::open(&made.path).await.map_err(local)?;
        let (mut client, store_id) = self.connect()?;
        let meta = Meta::of(snapshot.meta.last_log_id, &snapshot.meta.last_membership)
            .map_err(|error| Status::internal(error.to_string()))?;
        let header = SnapshotHeader {
            vote: Some((&vote).into()),
            meta: meta.encode_to_vec().into(),
        };
        let (sender, receiver) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD);
        let limit = {
            let chunks = made.bytes / SNAPSHOT_CHUNK_BYTES as u64 + 1;
            SNAPSHOT_INSTALL_TIMEOUT
                + Duration::from_millis(100) * u32::try_from(chunks).unwrap_or(u32::MAX)
        };
        let reading = send_chunks(file, made.bytes, self.seal(store_id, &header), sender);
        let call = within(
            "snapshot",
            limit,
            client.snapshot(ReceiverStream::new(receiver)),
        );
        let (read, reply) = tokio::join!(reading, call);
        let reply = reply?;
        read.map_err(local)?;
        let payload = self.link.open_reply(reply.into_inner(), self.node_id)?;
        let reply =
            SnapshotReply::decode(payload).map_err(|error| Status::internal(error.to_string()))?;
        let vote = reply
            .vote
            .ok_or_else(|| Status::internal("a snapshot reply without a vote"))?;
        Ok(vote.into())
    }
}

impl NetSnapshot<Types> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, RpcStreamError> {
        let sent = tokio::select! {
            sent = self.send_snapshot(vote, &snapshot) => sent,
            closed = cancel => return Err(RpcStreamError::Closed(closed)),
        };
        match sent {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(status) => {
                tracing::warn!(
                    to = self.node_id,
                    "sending a snapshot: {}",
                    status.message()
                );
                Err(RpcStreamError::Unreachable(Unreachable::new(
                    &AnyError::error(status.message()),
                )))
            }
        }
    }
}
