//! Members that applied the same entries must hold the same state. The leader compares digests at one
//! index; whoever a strict majority of the voters disagrees with stops, the leader too. If no strict
//! majority agrees, writes stop and an operator decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::machine::Published;
use crate::wire::{DigestQuery, DigestReply};

/// A member that has not applied the index yet is given this long.
const APPLY_WAIT: Duration = Duration::from_millis(500);

/// What the voters hold at one index, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No two differ.
    Agreed,
    /// Too few answered to tell.
    Open,
    /// A strict majority agrees on this; these voters hold something else.
    Outvoted { digest: u128, nodes: Vec<u64> },
    /// They differ and nobody has a strict majority.
    Split,
}

/// Judges the answers of a group with `voters` voters.
pub(crate) fn judge(answers: &BTreeMap<u64, u128>, voters: usize) -> Verdict {
    let mut by_digest: BTreeMap<u128, Vec<u64>> = BTreeMap::new();
    for (node, digest) in answers {
        by_digest.entry(*digest).or_default().push(*node);
    }
    let majority = by_digest.iter().find(|(_, nodes)| nodes.len() * 2 > voters);
    match (by_digest.len(), majority) {
        (0, _) => Verdict::Open,
        (1, Some(_)) => Verdict::Agreed,
        (1, None) => Verdict::Open,
        (_, Some((digest, _))) => Verdict::Outvoted {
            digest: *digest,
            nodes: answers
                .iter()
                .filter(|(_, held)| *held != digest)
                .map(|(node, _)| *node)
                .collect(),
        },
        // Voters that have not answered could still make up a majority.
        (_, None) if answers.len() < voters => Verdict::Open,
        (_, None) => Verdict::Split,
    }
}

/// What this node says and hears about digests.
#[derive(Debug)]
pub(crate) struct Digests {
    published: Arc<Published>,
    writes_stopped: Mutex<Option<String>>,
    /// The newest index at which a strict majority agreed, and on what.
    agreed: Mutex<(u64, Option<u128>)>,
}

impl Digests {
    pub(crate) fn new(published: Arc<Published>) -> Self {
        Self {
            published,
            writes_stopped: Mutex::default(),
            agreed: Mutex::default(),
        }
    }

    pub(crate) fn writes_stopped(&self) -> Option<String> {
        self.writes_stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The question to put about `index`, with what is agreed so far.
    pub(crate) fn query(&self, index: u64) -> DigestQuery {
        let (agreed_index, digest) = *self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        DigestQuery {
            index,
            agreed_index,
            agreed_digest: digest.map_or(Bytes::new(), |digest| {
                Bytes::copy_from_slice(&digest.to_be_bytes())
            }),
        }
    }

    fn stop_outvoted(&self, index: u64, agreed: u128, own: u128) {
        self.published.fatal.stop(format!(
            "the state at index {index} has digest {own:032x} here and {agreed:032x} at a majority of the voters: \
             this store is damaged; remove this controller from the cluster and add it anew"
        ));
    }

    /// Answers a leader's question, and stops this node if the group has outvoted it.
    pub(crate) async fn answer(&self, query: &DigestQuery) -> DigestReply {
        let agreed = <[u8; 16]>::try_from(&query.agreed_digest[..]).map(u128::from_be_bytes);
        if let Ok(agreed) = agreed
            && let Some(own) = self.published.digest_at(query.agreed_index)
            && own != agreed
        {
            self.stop_outvoted(query.agreed_index, agreed, own);
        }
        let mut applied = self.published.applied();
        let reached = applied.wait_for(|applied| applied.index >= query.index);
        let _in_time = tokio::time::timeout(APPLY_WAIT, reached).await.is_ok();
        let digest = self.published.digest_at(query.index);
        DigestReply {
            digest: digest.map_or(Bytes::new(), |digest| {
                Bytes::copy_from_slice(&digest.to_be_bytes())
            }),
        }
    }

    /// Acts on what the voters answered about `index`.
    pub(crate) fn conclude(
        &self,
        index: u64,
        node_id: u64,
        answers: &BTreeMap<u64, u128>,
        voters: usize,
    ) {
        self.published.measures.digests_compared.add(1);
        let agreed = match judge(answers, voters) {
            Verdict::Open => return,
            Verdict::Agreed => answers.values().next().copied(),
            Verdict::Outvoted { digest, nodes } => {
                tracing::error!(
                    index,
                    ?nodes,
                    "members hold another state than the majority"
                );
                if let Some(own) = answers.get(&node_id)
                    && *own != digest
                {
                    self.stop_outvoted(index, digest, *own);
                }
                Some(digest)
            }
            Verdict::Split => {
                let reason = format!(
                    "the voters hold different states at index {index} and no majority agrees; writes have stopped: \
                     compare the controllers' /status and recover from the sound one"
                );
                tracing::error!("{reason}");
                *self
                    .writes_stopped
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(reason);
                return;
            }
        };
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = (index, agreed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let judged =
            |answers: &[(u64, u128)], voters| judge(&answers.iter().copied().collect(), voters);
        assert_eq!(judged(&[], 3), Verdict::Open);
        assert_eq!(judged(&[(1, 7)], 1), Verdict::Agreed);
        assert_eq!(judged(&[(1, 7)], 3), Verdict::Open);
        assert_eq!(judged(&[(1, 7), (2, 7)], 3), Verdict::Agreed);
        assert_eq!(judged(&[(1, 7), (2, 8)], 3), Verdict::Open);
        assert_eq!(judged(&[(1, 7), (2, 8)], 2), Verdict::Split);
        assert_eq!(
            judged(&[(1, 8), (2, 7), (3, 7)], 3),
            Verdict::Outvoted {
                digest: 7,
                nodes: vec![1]
            }
        );
        assert_eq!(judged(&[(1, 6), (2, 7), (3, 8)], 3), Verdict::Split);
        assert_eq!(
            judged(&[(1, 7), (2, 7), (3, 7), (4, 9)], 5),
            Verdict::Outvoted {
                digest: 7,
                nodes: vec![4]
            }
        );
    }
}
