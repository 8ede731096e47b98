//! What runs beside the consensus library for the life of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use openraft::async_runtime::WatchReceiver;
use prost::Message;
use tokio::sync::watch;
use tonic::Status;
use virtflow_proto::raft::v1::raft_client::RaftClient;
use virtflow_state::port::Shadow;

use crate::digest::Digests;
use crate::fatal::Fatal;
use crate::leadership::Leadership;
use crate::link::{Lane, Link, roster_of};
use crate::log::LogGauge;
use crate::machine::{Applied, Published};
use crate::types::Raft;
use crate::wire::{DigestQuery, DigestReply};

/// A member's answer about its digest.
const DIGEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Members whose snapshots come one after the other.
const TURNS: u64 = 5;
/// How often the log's size is looked at.
const LOG_SIZE_INTERVAL: Duration = Duration::from_secs(5);

/// Tells the shadow how far it may write: what is applied is never cut off again, what is flushed is
/// there after a power cut.
pub(crate) async fn feed_flushed(
    mut flushed: watch::Receiver<u64>,
    mut applied: watch::Receiver<Applied>,
    shadow: Arc<dyn Shadow>,
) {
    let mut told = None;
    loop {
        let safe = (*flushed.borrow_and_update()).min(applied.borrow_and_update().index);
        if told.is_none_or(|told| told < safe) {
            told = Some(safe);
            shadow.log_flushed(safe);
        }
        tokio::select! {
            changed = flushed.changed() => if changed.is_err() { return },
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}

/// Keeps the roster equal to the effective membership, and notices when the library has stopped.
pub(crate) async fn follow_membership(raft: Raft, link: Arc<Link>, fatal: Arc<Fatal>) {
    let mut metrics = raft.metrics();
    let mut known = None;
    loop {
        let (membership, running) = {
            let metrics = metrics.borrow_watched();
            (
                metrics.membership_config.clone(),
                metrics.running_state.clone(),
            )
        };
        if known.as_ref() != Some(membership.log_id()) && membership.nodes().next().is_some() {
            known = Some(*membership.log_id());
            link.set_roster(roster_of(&membership));
        }
        match running {
            Ok(()) => {}
            Err(openraft::errors::Fatal::Stopped) => return,
            Err(error) => return fatal.stop(format!("replication has failed: {error}")),
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// A failed shadow stops the node: it could not restart from it.
pub(crate) async fn watch_shadow(shadow: Arc<dyn Shadow>, fatal: Arc<Fatal>) {
    let error = shadow.failed().await;
    fatal.stop(format!("the shadow database has failed: {error}"));
}

/// Makes a snapshot when the log has grown large in bytes; the library counts entries only. What is kept for those that lag
/// counts, too, so that a log may stay that large: then it grows by as much as the newest snapshot weighs before the
/// next is made, and what is written for snapshots is at most what is written for the log. Members take their turns, by up
/// to half as much later: a quorum that copies at once answers nobody quickly.
pub(crate) async fn snapshot_by_size(
    raft: Raft,
    log: Arc<dyn LogGauge>,
    shadow: Arc<dyn Shadow>,
    bytes_max: u64,
    turn: u64,
) {
    let mut tried_at = 0;
    loop {
        tokio::time::sleep(LOG_SIZE_INTERVAL).await;
        let bytes = log.bytes();
        // What the newest snapshot freed shows only in whole files.
        tried_at = tried_at.min(bytes);
        if bytes <= bytes_max {
            continue;
        }
        let newest = shadow.current_snapshot().await;
        let newest = newest.ok().flatten().map_or(0, |file| file.bytes);
        if bytes > tried_at + growth(bytes_max, newest, turn) {
            tried_at = bytes;
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}

/// By how many bytes the log grows from one snapshot to the next, where it stays larger than `bytes_max`.
const fn growth(bytes_max: u64, newest: u64, turn: u64) -> u64 {
    let least = bytes_max / 4;
    let growth = if newest > least { newest } else { least };
    growth + growth / (2 * TURNS) * (turn % TURNS)
}

async fn ask_digest(
    link: &Link,
    node_id: u64,
    query: &DigestQuery,
) -> Result<Option<u128>, Status> {
    let roster = link.roster();
    let member = roster
        .get(&node_id)
        .ok_or_else(|| Status::not_found("no such member"))?;
    let channel = link.channel(node_id, Lane::Control);
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let envelope = link.envelope(node_id, member.store_id, query.encode_to_vec().into());
    let mut client = RaftClient::new(channel);
    let reply = tokio::time::timeout(DIGEST_TIMEOUT, client.digest(envelope)).await;
    let reply = reply.map_err(|_| Status::deadline_exceeded("no answer in time"))??;
    let payload: Bytes = link.open_reply(reply.into_inner(), node_id)?;
    let reply =
        DigestReply::decode(payload).map_err(|error| Status::internal(error.to_string()))?;
    Ok(<[u8; 16]>::try_from(&reply.digest[..])
        .ok()
        .map(u128::from_be_bytes))
}

/// As leader, compares digests with all members from time to time.
pub(crate) async fn compare_digests(
    raft: Raft,
    link: Arc<Link>,
    digests: Arc<Digests>,
    published: Arc<Published>,
    leadership: watch::Receiver<Leadership>,
    interval: Duration,
) {
    loop {
        tokio::time::sleep(interval).await;
        if !leadership.borrow().is_leader_ready {
            continue;
        }
        let (voters, others) = {
            let metrics = raft.metrics();
            let membership = metrics.borrow_watched().membership_config.clone();
            let voters: BTreeSet<u64> = membership.voter_ids().collect();
            let others: Vec<u64> = membership
                .nodes()
                .map(|(id, _)| *id)
                .filter(|id| *id != link.node_id)
                .collect();
            (voters, others)
        };
        let index = published.applied().borrow().index;
        let query = digests.query(index);
        let asked = others.iter().map(|id| {
            let (link, query) = (&link, &query);
            async move { (*id, ask_digest(link, *id, query).await) }
        });
        let mut answers = BTreeMap::new();
        for (id, answer) in join_all(asked).await {
            match answer {
                Ok(Some(digest)) if voters.contains(&id) => drop(answers.insert(id, digest)),
                Ok(_) => {}
                Err(status) => {
                    tracing::debug!(node_id = id, "asking for a digest: {}", status.message())
                }
            }
        }
        if let Some(own) = published.digest_at(index)
            && voters.contains(&link.node_id)
        {
            answers.insert(link.node_id, own);
        }
        digests.conclude(index, link.node_id, &answers, voters.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_large_state_is_copied_as_seldom_as_it_is_large_and_not_by_all_at_once() {
        let of = |newest, turn| growth(256 * MIB, newest, turn) / MIB;
        assert_eq!(of(0, 0), 64);
        assert_eq!(of(20 * MIB, 0), 64);
        assert_eq!(of(500 * MIB, 0), 500);
        assert_eq!(
            [1, 2, 3, 4, 5].map(|turn| of(500 * MIB, turn)),
            [550, 600, 650, 700, 500]
        );
    }
}
