//! Reads that see all that was acknowledged before they began: a quorum round begun after the
//! request arrived, shared by all that wait for one; never a lease.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::Code;
use virtflow_proto::raft::v1::ReadIndexRequest;
use virtflow_proto::raft::v1::peer_client::PeerClient;

use crate::confirm;
use crate::error::ReadError;
use crate::leadership::Leadership;
use crate::link::{Lane, Link, MESSAGE_BYTES_MAX};
use crate::machine::Published;
use crate::types::Raft;

/// Reads that may wait for the next round.
const READS_MAX: usize = 65_536;
/// One quorum round; a read tries again until its own time is up.
const ROUND_TIMEOUT: Duration = Duration::from_secs(1);
/// Before a failed round is tried again.
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// What a round found: the index to wait for, and the term in which this node led or 0.
type Round = Result<(u64, u64), String>;
type Waiting = oneshot::Sender<Round>;

/// Asks for rounds. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    /// Rounds of this node as leader.
    own: mpsc::Sender<Waiting>,
    /// Rounds asked of whoever leads.
    led: mpsc::Sender<Waiting>,
    published: Arc<Published>,
    leadership: watch::Receiver<Leadership>,
    timeout: Duration,
}

/// Runs rounds, one at a time: all that arrived before one begins share it.
async fn share<F, R>(mut waiting: mpsc::Receiver<Waiting>, mut round: F)
where
    F: FnMut() -> R,
    R: Future<Output = Round>,
{
    let mut together = Vec::new();
    while waiting.recv_many(&mut together, READS_MAX).await > 0 {
        let found = round().await;
        for one in together.drain(..) {
            drop(one.send(found.clone()));
        }
    }
}

async fn own_round(raft: &Raft, link: &Link, published: &Published) -> Round {
    let began = tokio::time::Instant::now();
    let round = tokio::time::timeout(ROUND_TIMEOUT, confirm::round(raft, link)).await;
    let found = round.map_err(|_| "no quorum answered in time".to_owned())??;
    published.measures.read_round_us.record_since(began);
    Ok(found)
}

/// Asks the leader for a round of its own.
async fn led_round(link: &Link, leadership: &watch::Receiver<Leadership>) -> Round {
    let Some(leader) = leadership.borrow().leader else {
        return Err("no leader is known".into());
    };
    let channel = link
        .channel(leader, Lane::Control)
        .map_err(|error| error.to_string())?;
    let member = link.roster().get(&leader).cloned();
    let store_id = member
        .map(|member| member.store_id)
        .unwrap_or(virtflow_types::ObjectId::NIL);
    let mut client = PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let request = ReadIndexRequest {
        from: Some(link.envelope(leader, store_id, bytes::Bytes::new())),
    };
    let reply = tokio::time::timeout(ROUND_TIMEOUT, client.read_index(request)).await;
    let reply = reply.map_err(|_| format!("leader {leader} did not answer in time"))?;
    let reply = reply.map_err(|status| match status.code() {
        Code::FailedPrecondition => status.message().to_owned(),
        _ => format!("leader {leader}: {}", status.message()),
    })?;
    let reply = reply.into_inner();
    if !reply.error.is_empty() {
        return Err(format!("leader {leader}: {}", reply.error));
    }
    Ok((reply.index, 0))
}

impl Reads {
    pub(crate) fn start(
        raft: Raft,
        link: Arc<Link>,
        published: Arc<Published>,
        leadership: watch::Receiver<Leadership>,
        timeout: Duration,
    ) -> (Self, Vec<tokio::task::JoinHandle<()>>) {
        let (own, own_waiting) = mpsc::channel(READS_MAX);
        let (led, led_waiting) = mpsc::channel(READS_MAX);
        let (seen, asking) = (published.clone(), link.clone());
        let own_rounds = tokio::spawn(share(own_waiting, move || {
            let (raft, link, published) = (raft.clone(), asking.clone(), seen.clone());
            async move { own_round(&raft, &link, &published).await }
        }));
        let known = leadership.clone();
        let led_rounds = tokio::spawn(share(led_waiting, move || {
            let (link, leadership) = (link.clone(), known.clone());
            async move { led_round(&link, &leadership).await }
        }));
        let this = Self {
            own,
            led,
            published,
            leadership,
            timeout,
        };
        (this, vec![own_rounds, led_rounds])
    }

    fn stopped(&self) -> ReadError {
        ReadError::Stopped {
            reason: self
                .published
                .fatal
                .reason()
                .unwrap_or_else(|| "shutting down".into()),
        }
    }

    async fn round(&self, rounds: &mpsc::Sender<Waiting>) -> Result<Round, ReadError> {
        let (sender, receiver) = oneshot::channel();
        rounds.send(sender).await.map_err(|_| self.stopped())?;
        receiver.await.map_err(|_| self.stopped())
    }

    /// A round of this node as leader, for itself or for a follower that asks.
    pub(crate) async fn own_index(&self) -> Result<(u64, u64), ReadError> {
        let round = self.round(&self.own).await?;
        round.map_err(|cause| ReadError::NoQuorum { cause })
    }

    /// Whether this node still leads in `term`, by a round begun now.
    pub(crate) async fn confirm_leading(&self, term: u64) -> bool {
        let before = self.leadership.borrow().term;
        before == term && self.own_index().await.is_ok() && self.leadership.borrow().term == term
    }

    /// The index that an image must have reached to show all that was acknowledged before this call.
    pub(crate) async fn index(&self) -> Result<u64, ReadError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let is_leader = self.leadership.borrow().is_leader;
            let rounds = if is_leader { &self.own } else { &self.led };
            let round = tokio::time::timeout_at(deadline, self.round(rounds)).await;
            let cause = match round {
                Ok(Ok(Ok((index, _)))) => return Ok(index),
                Ok(Ok(Err(cause))) => cause,
                Ok(Err(error)) => return Err(error),
                Err(_) => "the round took too long".into(),
            };
            if Instant::now() + ROUND_PAUSE >= deadline {
                return Err(ReadError::NoQuorum { cause });
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }
}
