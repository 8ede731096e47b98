//! Members come, are promoted and go; leadership is handed over.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::Instant;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;

use crate::error::MembershipError;
use crate::member::{Member, MemberInfo, MemberRole};
use crate::node::Node;
use crate::types::{StoredMember, Types};

/// Entries that a learner may lack when it is promoted.
const PROMOTE_LAG_MAX: u64 = 64;
/// How often a learner's progress is looked at.
const PROGRESS_POLL: Duration = Duration::from_millis(50);
/// How often a hand-over is looked at.
const HAND_OVER_POLL: Duration = Duration::from_millis(10);
/// A voter that confirmed the leader within this is fit to take over.
const FIT_WITHIN: Duration = Duration::from_secs(2);

type Change<'a> = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

/// Leadership could not be handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// No other voter is up to date.
    #[error("no other voter is up to date")]
    NobodyFit,
    /// The chosen one did not take over in time.
    #[error("node {node_id} did not take over within {} ms", limit.as_millis())]
    TimedOut {
        /// Who was chosen.
        node_id: u64,
        /// How long it was waited for.
        limit: Duration,
    },
    /// This node has stopped.
    #[error("this node has stopped")]
    Stopped,
}

fn explain(error: RaftError<Types, ClientWriteError<Types>>) -> MembershipError {
    match error {
        RaftError::Fatal(fatal) => MembershipError::Unknown(fatal.to_string()),
        // What was begun may be ended by whoever follows.
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            MembershipError::Unknown("this controller stopped leading meanwhile".into())
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        )) => MembershipError::InProgress,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            MembershipError::Refused(error.to_string())
        }
        RaftError::APIError(error) => MembershipError::Unknown(error.to_string()),
    }
}

impl Node {
    /// The members as effective here, by number; how far each has come is known to the leader only.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched().clone();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let member = |(node_id, stored): (&u64, &StoredMember)| {
            let replicated = metrics
                .replication
                .as_ref()
                .and_then(|all| all.get(node_id).copied());
            let heard = metrics
                .heartbeat
                .as_ref()
                .and_then(|all| all.get(node_id).copied().flatten());
            Some(Member {
                node_id: *node_id,
                info: stored.0.clone()?,
                role: match voters.contains(node_id) {
                    true => MemberRole::Voter,
                    false => MemberRole::Learner,
                },
                matched: replicated.map(|matched| matched.map_or(0, |id| id.index)),
                last_ack_ms_ago: heard
                    .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            })
        };
        metrics
            .membership_config
            .nodes()
            .filter_map(member)
            .collect()
    }

    /// One member.
    pub fn member(&self, node_id: u64) -> Option<MemberInfo> {
        self.inner.link.roster().get(&node_id).cloned()
    }

    async fn change(
        &self,
        change: impl Future<Output = Change<'_>>,
    ) -> Result<(), MembershipError> {
        let limit = self.limits().decide_timeout;
        match tokio::time::timeout(limit, change).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(explain(error)),
            Err(_) => Err(MembershipError::Unknown(format!(
                "no answer within {} s",
                limit.as_secs()
            ))),
        }
    }

    fn require_leader(&self) -> Result<(), MembershipError> {
        let leadership = *self.inner.leadership.borrow();
        match leadership.is_leader_ready {
            true => Ok(()),
            false => Err(MembershipError::NotLeader {
                leader: leadership.leader.filter(|_| !leadership.is_leader),
            }),
        }
    }

    /// Ends a change of the voters that a former leader began and did not end: until then every decision needs a
    /// majority of the old voters and one of the new. Costs nothing if there is none. A leader that is not among
    /// the new voters hands over first, and whoever follows ends it.
    pub async fn settle_membership(&self) -> Result<(), MembershipError> {
        if self.voters_to_be().is_none() {
            return Ok(());
        }
        let _turn = self.inner.changing.lock().await;
        self.require_settled().await
    }

    /// The new voters, while a change of the voters is half done.
    fn voters_to_be(&self) -> Option<BTreeSet<u64>> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let configs = metrics.membership_config.membership().get_joint_config();
        (configs.len() > 1).then(|| configs.last().cloned().unwrap_or_default())
    }

    /// What every change begins with: this node leads, and no other change is half done. On top of one, the library
    /// would end both with one step, that of a leader which is then no member.
    async fn require_settled(&self) -> Result<(), MembershipError> {
        self.require_leader()?;
        let Some(voters) = self.voters_to_be() else {
            return Ok(());
        };
        if !voters.contains(&self.node_id()) {
            return Err(self.hand_over_and_name().await);
        }
        tracing::warn!(
            ?voters,
            "ending a change of the voters that a former leader began"
        );
        let nothing_more = ChangeMembers::AddVoterIds(BTreeSet::new());
        self.change(self.inner.raft.change_membership(nothing_more, false))
            .await
    }

    /// Hands over, and tells whom to ask instead.
    async fn hand_over_and_name(&self) -> MembershipError {
        match self.hand_over().await {
            Ok(leader) => MembershipError::NotLeader { leader },
            Err(error) => MembershipError::Refused(error.to_string()),
        }
    }

    fn require_member(&self, node_id: u64) -> Result<Member, MembershipError> {
        let found = self
            .members()
            .into_iter()
            .find(|member| member.node_id == node_id);
        found.ok_or(MembershipError::NoSuchMember { node_id })
    }

    /// Takes a store in as a learner and returns its number, new for ever: it is taken from the
    /// log's index. Asked again for the same store and key it returns the same number.
    pub async fn add_learner(&self, info: MemberInfo) -> Result<u64, MembershipError> {
        let _turn = self.inner.changing.lock().await;
        self.require_settled().await?;
        let members = self.members();
        if let Some(known) = members
            .iter()
            .find(|member| member.info.store_id == info.store_id)
        {
            if known.info.key_fingerprint == info.key_fingerprint {
                return Ok(known.node_id);
            }
            return Err(MembershipError::Refused(format!(
                "store {} is node {} with another key",
                info.store_id, known.node_id
            )));
        }
        let same = |member: &&Member| {
            member.info.peer_address == info.peer_address
                || member.info.name == info.name
                || member.info.key_fingerprint == info.key_fingerprint
        };
        if let Some(taken) = members.iter().find(same) {
            return Err(MembershipError::Refused(format!(
                "node {} (store {}) already has this name, key or peer address, and this is store {}; remove it first if this one replaces it",
                taken.node_id, taken.info.store_id, info.store_id
            )));
        }
        let last_log = {
            let metrics = self.inner.raft.metrics();
            metrics.borrow_watched().last_log_index.unwrap_or_default()
        };
        let highest = members
            .iter()
            .map(|member| member.node_id)
            .max()
            .unwrap_or_default();
        let node_id = last_log.max(highest) + 1;
        let adding = self
            .inner
            .raft
            .add_learner(node_id, StoredMember(Some(info)), false);
        self.change(adding).await?;
        Ok(node_id)
    }

    /// Gives a learner its vote, once it has caught up.
    pub async fn promote(&self, node_id: u64) -> Result<(), MembershipError> {
        let _turn = self.inner.changing.lock().await;
        self.require_settled().await?;
        let deadline = tokio::time::Instant::now() + self.limits().promote_timeout;
        loop {
            self.require_leader()?;
            let member = self.require_member(node_id)?;
            if member.role == MemberRole::Voter {
                return Ok(());
            }
            let last_log = self
                .inner
                .raft
                .metrics()
                .borrow_watched()
                .last_log_index
                .unwrap_or_default();
            if member
                .matched
                .is_some_and(|matched| matched > 0 && matched + PROMOTE_LAG_MAX >= last_log)
            {
                break;
            }
            if tokio::time::Instant::now() > deadline {
                return Err(MembershipError::Lagging {
                    node_id,
                    matched: member.matched,
                    last_log,
                });
            }
            tokio::time::sleep(PROGRESS_POLL).await;
        }
        let changes = ChangeMembers::AddVoterIds(BTreeSet::from([node_id]));
        self.change(self.inner.raft.change_membership(changes, false))
            .await
    }

    /// Takes a member out. The leader hands over first and names its successor, who is to be asked.
    pub async fn remove(&self, node_id: u64) -> Result<(), MembershipError> {
        let _turn = self.inner.changing.lock().await;
        self.require_settled().await?;
        let member = self.require_member(node_id)?;
        let voters = self
            .members()
            .iter()
            .filter(|member| member.role == MemberRole::Voter)
            .count();
        if member.role == MemberRole::Voter && voters == 1 {
            return Err(MembershipError::Refused(
                "the last voter cannot be removed".into(),
            ));
        }
        if node_id == self.node_id() {
            return Err(self.hand_over_and_name().await);
        }
        let gone = BTreeSet::from([node_id]);
        let changes = match member.role {
            MemberRole::Voter => ChangeMembers::RemoveVoters(gone),
            MemberRole::Learner => ChangeMembers::RemoveNodes(gone),
        };
        self.change(self.inner.raft.change_membership(changes, false))
            .await
    }

    /// Gives a member new addresses, a new name or a new key. Its store stays the same.
    pub async fn update_member(
        &self,
        node_id: u64,
        info: MemberInfo,
    ) -> Result<(), MembershipError> {
        let _turn = self.inner.changing.lock().await;
        self.require_settled().await?;
        let member = self.require_member(node_id)?;
        if member.info.store_id != info.store_id {
            return Err(MembershipError::Refused(format!(
                "node {node_id} has store {}; another store is another member",
                member.info.store_id
            )));
        }
        if member.info == info {
            return Ok(());
        }
        let changes =
            ChangeMembers::SetNodes(BTreeMap::from([(node_id, StoredMember(Some(info)))]));
        self.change(self.inner.raft.change_membership(changes, false))
            .await
    }

    /// The voter best fit to take over, and whether it holds the whole log.
    fn successor(&self) -> Option<(u64, bool)> {
        let last_log = self
            .inner
            .raft
            .metrics()
            .borrow_watched()
            .last_log_index
            .unwrap_or_default();
        let fit = |member: &Member| {
            let heard = member.last_ack_ms_ago?;
            let alive = Duration::from_millis(heard) < FIT_WITHIN;
            let other_voter = member.role == MemberRole::Voter && member.node_id != self.node_id();
            (alive && other_voter).then_some((member.matched?, member.node_id))
        };
        let (matched, node_id) = self.members().iter().filter_map(fit).max()?;
        Some((node_id, matched >= last_log))
    }

    /// Waits for a voter that holds the whole log and asks it to take over.
    pub(crate) async fn transfer_away(&self) -> Result<Option<u64>, HandOverError> {
        let before = *self.inner.leadership.borrow();
        if !before.is_leader {
            return Ok(None);
        }
        let limit = self.limits().hand_over_timeout;
        let deadline = tokio::time::Instant::now() + limit;
        let node_id = loop {
            match self.successor() {
                Some((node_id, true)) => break node_id,
                Some(_) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(HAND_OVER_POLL).await
                }
                _ => return Err(HandOverError::NobodyFit),
            }
        };
        // Stop standing first: a leader that hands over must not win the election it causes.
        self.inner.raft.runtime_config().elect(false);
        let asked = self.inner.raft.trigger().transfer_leader(node_id).await;
        asked.map_err(|_| HandOverError::Stopped)?;
        let mut leadership = self.leadership();
        let gone = leadership.wait_for(|now| {
            !now.is_leader && now.leader.is_some_and(|leader| leader != self.node_id())
        });
        match tokio::time::timeout_at(deadline, gone).await {
            Ok(Ok(now)) => Ok(now.leader),
            Ok(Err(_)) => Err(HandOverError::Stopped),
            Err(_) => Err(HandOverError::TimedOut { node_id, limit }),
        }
    }

    /// As leader: takes no more decisions, waits for those under way, and has another voter take
    /// over; who does. `None` if this node does not lead or is the only voter.
    pub async fn hand_over(&self) -> Result<Option<u64>, HandOverError> {
        let alone = self
            .members()
            .iter()
            .filter(|member| member.role == MemberRole::Voter)
            .count()
            <= 1;
        if alone || !self.inner.leadership.borrow().is_leader {
            return Ok(None);
        }
        let _turn = self.inner.handing_over.lock().await;
        let _closed = Closed::close(self);
        let mut settled = self.inner.settled.clone();
        let quiet = settled.wait_for(|settled| *settled);
        if tokio::time::timeout(self.limits().hand_over_timeout, quiet)
            .await
            .is_err()
        {
            tracing::warn!("handing leadership over while decisions are under way");
        }
        self.transfer_away().await
    }

    /// Whether this node stands for election. One that must not lead, because its clock is off for
    /// example, goes on voting and following; it should hand over first.
    pub fn stand(&self, stands: bool) {
        self.inner.stands.store(stands, Ordering::Relaxed);
        self.inner.raft.runtime_config().elect(stands);
    }
}

/// A node that takes no decisions while it hands over. It is as it was when this goes, also where nobody waits for the
/// end any more: the task of a leader that does not lead, a client that left.
struct Closed<'n> {
    node: &'n Node,
    admitted: bool,
}

impl<'n> Closed<'n> {
    fn close(node: &'n Node) -> Self {
        let admitted = node.inner.admitting.send_replace(false);
        Self { node, admitted }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let inner = &self.node.inner;
        let stands = inner.stands.load(Ordering::Relaxed);
        inner.raft.runtime_config().elect(stands);
        inner.admitting.send_replace(self.admitted);
    }
}
