//! Quorum rounds of our own: a leader asks the voters, after a read arrived, whether they still
//! recognise it, and each answers from its vote as it is then.
//!
//! The library offers such rounds too, but judges them by clocks: an acknowledgement counts as of the
//! time its request was sent, and one reply settles all requests up to the log id it matches. Messages
//! that carry no entries repeat the last log id, so a reply from before a pause can settle a message sent
//! after it, and a leader that was deposed meanwhile believes to have a quorum. A test that pauses a
//! leader found that as a stale read.
//!
//! Here nothing is timed. If a newer leader had an entry committed before the round began, then among any
//! majority asked is a voter that took that entry, hence its leader's vote, before it was asked.

use std::collections::BTreeSet;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use prost::Message;
use tonic::Status;
use virtflow_proto::raft::v1::raft_client::RaftClient;

use crate::link::{Lane, Link};
use crate::types::Raft;
use crate::wire::{Confirm, ConfirmReply};

/// What a leader knows of itself when a round begins.
struct Standing {
    term: u64,
    committed: u64,
    /// Each a set of voters of which a majority is needed: two while the membership changes.
    voters: Vec<BTreeSet<u64>>,
}

/// The committed index at the begin of a round that a quorum then confirmed, and the term.
pub(crate) async fn round(raft: &Raft, link: &Link) -> Result<(u64, u64), String> {
    round_among(raft, link.node_id, |id, term| ask(link, id, term)).await
}

/// A round of the leader `me`, which asks another member with `ask` whether it leads that term.
async fn round_among<A: Future<Output = Result<bool, Status>>>(
    raft: &Raft,
    me: u64,
    ask: impl Fn(u64, u64) -> A,
) -> Result<(u64, u64), String> {
    let standing = standing(raft, me).await?;
    let mut recognised_by = BTreeSet::from([me]);
    let others: BTreeSet<u64> = standing.voters.iter().flatten().copied().collect();
    let mut answers: FuturesUnordered<_> = others
        .into_iter()
        .filter(|id| *id != me)
        .map(|id| ask(id, standing.term).map(move |answer| (id, answer)))
        .collect();
    let mut refused = String::new();
    loop {
        if is_quorum(&standing.voters, &recognised_by) {
            return Ok((standing.committed, standing.term));
        }
        match answers.next().await {
            Some((id, Ok(true))) => drop(recognised_by.insert(id)),
            Some((id, Ok(false))) => {
                refused = format!("{refused}; member {id} follows another leader");
            }
            Some((id, Err(status))) => {
                refused = format!("{refused}; member {id}: {}", status.message());
            }
            None => return Err(format!("no quorum confirms this leader{refused}")),
        }
    }
}

async fn standing(raft: &Raft, node_id: u64) -> Result<Standing, String> {
    let found = raft
        .with_raft_state(move |state| {
            let vote = state.vote_ref();
            let leads = vote.committed && vote.leader_id.voted_for == node_id;
            let committed = state
                .local_committed()
                .map(|id| (id.leader_id.term, id.index));
            let membership = state.membership_state.effective().membership();
            (
                leads.then_some(vote.leader_id.term),
                committed,
                membership.get_joint_config().clone(),
            )
        })
        .await
        .map_err(|error| error.to_string())?;
    let (Some(term), committed, voters) = found else {
        return Err("this node does not lead".into());
    };
    match committed {
        // What earlier leaders acknowledged is below the first entry of this term.
        Some((committed_term, index)) if committed_term == term => Ok(Standing {
            term,
            committed: index,
            voters,
        }),
        Some(_) | None => Err("this leader has not committed an entry of its own yet".into()),
    }
}

fn is_quorum(voters: &[BTreeSet<u64>], by: &BTreeSet<u64>) -> bool {
    voters
        .iter()
        .all(|set| set.intersection(by).count() * 2 > set.len())
}

async fn ask(link: &Link, node_id: u64, term: u64) -> Result<bool, Status> {
    let roster = link.roster();
    let member = roster
        .get(&node_id)
        .ok_or_else(|| Status::not_found("no such member"))?;
    let channel = link.channel(node_id, Lane::Control);
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let question = Confirm {
        term,
        leader: link.node_id,
    };
    let envelope = link.envelope(node_id, member.store_id, question.encode_to_vec().into());
    let reply = RaftClient::new(channel).confirm(envelope).await?;
    let payload = link.open_reply(reply.into_inner(), node_id)?;
    let reply =
        ConfirmReply::decode(payload).map_err(|error| Status::internal(error.to_string()))?;
    Ok(reply.recognised)
}

/// A voter's answer, from its vote as it is now: asked of the library's own loop, so that nothing it has
/// taken before is missing.
pub(crate) async fn answer(raft: &Raft, question: &Confirm) -> Result<ConfirmReply, String> {
    let (term, leader) = (question.term, question.leader);
    let raft = raft.clone();
    // The leader lets go of a question once a quorum has answered it. The library's loop would call it an error if
    // nobody waited for its answer any more.
    let asked = tokio::spawn(async move {
        raft.with_raft_state(move |state| {
            let vote = state.vote_ref();
            vote.leader_id.term == term && vote.leader_id.voted_for == leader
        })
        .await
    });
    let recognised = asked.await.map_err(|error| error.to_string())?;
    let recognised = recognised.map_err(|error| error.to_string())?;
    Ok(ConfirmReply { recognised })
}

#[cfg(test)]
mod old_replies;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_a_majority_of_every_set() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let quorum = |voters: &[&[u64]], by: &[u64]| {
            let voters: Vec<_> = voters.iter().map(|ids| set(ids)).collect();
            is_quorum(&voters, &set(by))
        };
        assert!(quorum(&[&[1]], &[1]));
        assert!(!quorum(&[&[1, 2]], &[1]));
        assert!(quorum(&[&[1, 2, 3]], &[1, 3]));
        assert!(!quorum(&[&[1, 2, 3, 4]], &[1, 2]));
        // While the membership changes, both need a majority.
        assert!(!quorum(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3]));
        assert!(quorum(&[&[1, 2, 3], &[3, 4, 5]], &[2, 3, 4]));
        // A leader that is being removed does not count itself.
        assert!(!quorum(&[&[2, 3, 4]], &[1, 2]));
    }
}
