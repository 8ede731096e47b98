//! An old reply that arrives late: what the library's own read takes from it, and a round does not.
//!
//! Three members of the library on logs in memory; what they send each other passes hands that can lose
//! requests and keep replies back. Nothing rests on how long anything takes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{LinearizerOption, RaftNetworkFactory};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use virtflow_state::Batch;
use virtflow_state::port::Shadow as _;
use virtflow_types::ObjectId;

use super::{answer, round_among};
use crate::log::simulated::{SimulatedDisk, SimulatedLog};
use crate::log::tests::shadow::TestShadow;
use crate::machine::{Machine, Published, SnapshotData};
use crate::types::{EntryBytes, Raft, Snapshot, StoredMember, Types, Vote};
use crate::wire::Confirm;

/// For what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// From whom, to whom.
type Way = (u64, u64);

/// The hands between members.
#[derive(Debug, Clone, Default)]
struct Hands(Arc<Mutex<Between>>);

#[derive(Debug, Default)]
struct Between {
    members: BTreeMap<u64, Raft>,
    /// Requests that are lost.
    lost: BTreeSet<Way>,
    /// Requests that were sent, lost ones too, which carried no entries.
    empty_sent: BTreeMap<Way, u64>,
    /// Whether replies to requests that went that way arrive.
    replies: BTreeMap<Way, watch::Sender<bool>>,
}

impl Hands {
    fn with<T>(&self, f: impl FnOnce(&mut Between) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn member(&self, id: u64) -> Raft {
        self.with(|between| between.members[&id].clone())
    }
    fn lose(&self, ways: impl IntoIterator<Item = Way>) {
        self.with(|between| between.lost.extend(ways));
    }
    fn loses(&self, way: Way) -> bool {
        self.with(|between| between.lost.contains(&way))
    }
    fn gate(&self, way: Way) -> watch::Sender<bool> {
        let open = || watch::Sender::new(true);
        self.with(|between| between.replies.entry(way).or_insert_with(open).clone())
    }
    fn let_replies(&self, ways: &[Way], arrive: bool) {
        for way in ways {
            self.gate(*way).send_replace(arrive);
        }
    }
    fn empty_sent(&self, way: Way) -> u64 {
        self.with(|between| between.empty_sent.get(&way).copied().unwrap_or(0))
    }
}

/// What a member sends another through.
struct Hand {
    hands: Hands,
    way: Way,
}

struct FromMember(Hands, u64);

impl RaftNetworkFactory<Types> for FromMember {
    type Network = Hand;
    async fn new_client(&mut self, target: u64, _: &StoredMember) -> Hand {
        Hand {
            hands: self.0.clone(),
            way: (self.1, target),
        }
    }
}

fn lost() -> Unreachable<Types> {
    Unreachable::from_string("lost")
}

impl NetStreamAppend<Types> for Hand {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> futures::future::BoxFuture<
        's,
        Result<
            futures::stream::BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>,
            RPCError<Types>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let (hands, way) = (self.hands.clone(), self.way);
        let gate = hands.gate(way).subscribe();
        let (sender, arrived) = mpsc::unbounded_channel();
        // One request is not held up by the reply to another, as on the real network.
        tokio::spawn(async move {
            let mut input = input;
            while let Some(request) = input.next().await {
                if request.entries.is_empty() {
                    hands.with(|between| *between.empty_sent.entry(way).or_default() += 1);
                }
                if !hands.loses(way) && sender.send(request).is_err() {
                    return;
                }
            }
        });
        let results = self.hands.member(way.1);
        let results = results.stream_append(UnboundedReceiverStream::new(arrived));
        let results = results.then(move |result| {
            let mut gate = gate.clone();
            async move {
                drop(gate.wait_for(|open| *open).await);
                result.map_err(|_| RPCError::Unreachable(lost()))
            }
        });
        Box::pin(async move { Ok(results.boxed()) })
    }
}

impl NetVote<Types> for Hand {
    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        if self.hands.loses(self.way) {
            return Err(RPCError::Unreachable(lost()));
        }
        let voter = self.hands.member(self.way.1);
        let answered = voter.vote(request).await;
        answered.map_err(|_| RPCError::Unreachable(lost()))
    }
}

impl NetTransferLeader<Types> for Hand {
    async fn transfer_leader(
        &mut self,
        _: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(lost()))
    }
}

impl NetBackoff<Types> for Hand {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(10))))
    }
}

impl NetSnapshot<Types> for Hand {
    type SnapshotData = SnapshotData;
    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(lost()))
    }
}

/// A member that does nothing by itself: it stands for election and sends when it is told to.
async fn member(hands: &Hands, id: u64, dir: &std::path::Path) -> Raft {
    let (shadow, loaded) = TestShadow::open(&dir.join(id.to_string()));
    shadow.allow_gaps();
    shadow.log_flushed(u64::MAX);
    let published = Published::of(&loaded.state);
    let own = crate::config::RaftConfig::new(
        dir,
        id,
        ObjectId::from_u128(id.into()),
        ObjectId::from_u128(9),
    );
    let machine = Machine::new(loaded, shadow, &own, published).unwrap();
    let config = openraft::Config {
        enable_elect: false,
        enable_heartbeat: false,
        enable_pre_vote: Some(false),
        heartbeat_interval: 20,
        election_timeout_min: 500,
        election_timeout_max: 501,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        ..openraft::Config::default()
    };
    let config = Arc::new(config.validate().unwrap());
    let log = SimulatedLog::open(SimulatedDisk::default());
    let raft = Raft::new(id, config, FromMember(hands.clone(), id), log, machine);
    let raft = raft.await.unwrap();
    hands.with(|between| between.members.insert(id, raft.clone()));
    raft
}

/// What the library calls ReadIndex, and time enough on a machine that is busy.
fn read_index() -> LinearizerOption {
    LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(PATIENCE)
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("not within a minute: {what}"),
    }
}

/// How far that member's log goes, and what of it is committed.
async fn ends(raft: &Raft) -> (u64, u64) {
    let metrics = raft.metrics();
    let last = metrics.borrow_watched().last_log_index;
    let committed = raft.with_raft_state(|state| state.local_committed().map(|id| id.index));
    let committed = committed.await.unwrap();
    (last.unwrap_or(0), committed.unwrap_or(0))
}

async fn leads(raft: &Raft, id: u64) -> bool {
    let led = raft.with_raft_state(move |state| {
        let vote = state.vote_ref();
        vote.committed && vote.leader_id.voted_for == id
    });
    led.await.unwrap()
}

async fn elect(raft: &Raft, id: u64) {
    until("an election", async || {
        if leads(raft, id).await {
            return Some(());
        }
        // Refused while the voters think of another leader as alive.
        raft.trigger().elect(false).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        None
    })
    .await;
}

fn nothing() -> EntryBytes {
    EntryBytes(Batch::default().encode())
}

/// Lets the followers say that they hear this leader.
async fn renew(leader: &Raft) {
    leader.trigger().heartbeat().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The index of an entry that was committed.
async fn write(leader: &Raft) -> u64 {
    until("a write", async || {
        renew(leader).await;
        let written = leader.client_write(nothing()).await.ok()?;
        Some(written.log_id.index)
    })
    .await
}

/// Member 1 leads and is alone from some moment on; 2 leads after it and commits. Then replies from before
/// reach 1, in the order that matters: one lets it commit, whereupon it tells 2 so, in vain; the other is 2's
/// to the entry itself, and repeats the log id of what was sent in vain.
#[tokio::test]
async fn an_old_reply_misleads_the_librarys_read_and_not_a_round() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::default();
    let mut members = BTreeMap::new();
    for id in 1..=3 {
        members.insert(id, member(&hands, id, dir.path()).await);
    }
    let (one, two, three) = (&members[&1], &members[&2], &members[&3]);
    let nobody = members.keys().map(|id| (*id, StoredMember::default()));
    one.initialize(nobody.collect::<BTreeMap<_, _>>())
        .await
        .unwrap();
    elect(one, 1).await;
    let first = write(one).await;
    until("everybody to know of it", async || {
        let known = [ends(one).await, ends(two).await, ends(three).await];
        (known == [(first, first); 3]).then_some(())
    })
    .await;

    // 2 and 3 take an entry; their replies do not arrive.
    let mut second = None;
    until("the entry to arrive", async || {
        // A leader whose lease ran out takes no entry: then once more.
        if second.as_ref().is_none_or(JoinHandle::is_finished) {
            hands.let_replies(&[(1, 2), (1, 3)], true);
            renew(one).await;
            hands.let_replies(&[(1, 2), (1, 3)], false);
            let writer = one.clone();
            second = Some(tokio::spawn(
                async move { writer.client_write(nothing()).await },
            ));
        }
        let there = [ends(two).await.0, ends(three).await.0];
        (there == [first + 1; 2]).then_some(())
    })
    .await;
    hands.lose([(1, 2), (1, 3), (2, 1), (3, 1)]);
    elect(two, 2).await;
    let newer = write(two).await;
    assert!(newer > first + 1);

    // Now somebody reads at 1, which asks and is not heard; a round's questions are.
    let asking = |leader: u64| {
        let hands = hands.clone();
        move |id: u64, term: u64| {
            let voter = hands.member(id);
            async move {
                let reply = answer(&voter, &Confirm { term, leader }).await;
                reply
                    .map(|reply| reply.recognised)
                    .map_err(Status::internal)
            }
        }
    };
    let asked = hands.empty_sent((1, 2));
    let (reader, ask) = (one.clone(), asking(1));
    let round = tokio::spawn(async move { round_among(&reader, 1, ask).await });
    let reader = one.clone();
    let read = tokio::spawn(async move { reader.ensure_linearizable(read_index()).await });
    until("the read to be under way", async || {
        (hands.empty_sent((1, 2)) > asked).then_some(())
    })
    .await;
    // 3's old reply arrives: 1 commits, and tells 2.
    let told = hands.empty_sent((1, 2));
    hands.let_replies(&[(1, 3)], true);
    second.unwrap().await.unwrap().unwrap();
    until("2 to be told, in vain", async || {
        (hands.empty_sent((1, 2)) > told).then_some(())
    })
    .await;
    // 2's old reply arrives.
    hands.let_replies(&[(1, 2)], true);

    // The library answers, though what 2 acknowledged is not in it. When this fails the library was mended.
    let read = read.await.unwrap().unwrap();
    let seen = read.index();
    assert!(seen < newer, "{seen}");
    assert!(leads(one, 1).await);

    // A round that began with it asked those who know better.
    let refused = round.await.unwrap().unwrap_err();
    for id in [2, 3] {
        let why = format!("member {id} follows another leader");
        assert!(refused.contains(&why), "{refused}");
    }
    assert_eq!(round_among(two, 2, asking(2)).await.unwrap().0, newer);
}
