//! Groups of members over real mutual TLS: election, writes, reads, restarts, membership.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use virtflow_raft::{DecideError, MemberRole, RaftRole, StartError};
use virtflow_state::{Changeset, ClusterVersionTooNew, Refused, State};
use virtflow_types::{Error, ErrorCode, RequestId, Timestamp};

#[tokio::test(flavor = "multi_thread")]
async fn one_member_decides_and_survives_a_restart() {
    bounded(async {
        let mut group = Group::of(1).await;
        let leader = group.leader().await;
        let committed = leader.node.propose(make("a")).await.unwrap();
        assert!(has(&leader.node.image(), "a"));
        assert!(leader.node.image().index() >= committed.index);
        assert_eq!(leader.node.status().role, RaftRole::Leader);
        group.kill(1).await;
        group.restart(1).await;
        let leader = group.leader().await;
        let image = leader.node.read().await.unwrap();
        assert!(has(&image, "a"));
        leader.node.propose(make("b")).await.unwrap();
        assert!(
            leader.node.status().term > committed.term,
            "a restart never goes on in an old term"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_agree_and_any_of_them_reads() {
    bounded(async {
        let group = Group::of(3).await;
        for number in 0..20 {
            group
                .leader()
                .await
                .node
                .propose(make(&format!("thing-{number}")))
                .await
                .unwrap();
            for (id, runner) in &group.runners {
                let image = runner.node.read().await.unwrap();
                assert!(
                    has(&image, &format!("thing-{number}")),
                    "node {id} does not show what was acknowledged"
                );
            }
        }
        group.converge().await;
        let follower = &group.runners[&group.follower_id().await];
        let refused = follower
            .node
            .propose(make("from-a-follower"))
            .await
            .unwrap_err();
        assert_eq!(
            refused,
            DecideError::NotLeader {
                leader: Some(group.leader_id().await)
            }
        );
        let members = group.leader().await.node.members();
        assert_eq!(members.len(), 3);
        assert!(
            members
                .iter()
                .all(|member| member.role == MemberRole::Voter)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_see_those_before_them_and_happen_once() {
    bounded(async {
        let group = Group::of(3).await;
        let node = group.leader().await.node.clone();
        // Many at once: each counts what it sees, so that every count occurs once.
        let asked = (0..200).map(|number| {
            let node = node.clone();
            tokio::spawn(async move {
                node.decide(move |head| Ok((make(&format!("n-{number}")), count(head))))
                    .await
            })
        });
        let asked: Vec<_> = asked.collect();
        let mut seen = Vec::new();
        for one in asked {
            seen.push(one.await.unwrap().unwrap().value);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());

        let twice = make("once");
        node.propose(twice.clone()).await.unwrap();
        let refused = node.propose(twice).await.unwrap_err();
        assert!(
            matches!(refused, DecideError::Conflict(Refused::Version { .. })),
            "{refused}"
        );
        let refused = node.propose(make("once")).await.unwrap_err();
        assert!(
            matches!(refused, DecideError::Conflict(Refused::Claimed { .. })),
            "{refused}"
        );

        let own = Error::new(ErrorCode::Forbidden, "no");
        let said = own.clone();
        let refused = node
            .decide::<(), _>(move |_| Err(said.clone()))
            .await
            .unwrap_err();
        assert_eq!(refused, DecideError::Refused(own));
        let empty = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
        let answer = node
            .decide(move |head| Ok((empty.clone(), count(head))))
            .await
            .unwrap();
        assert_eq!(answer.value, 201);
        group.converge().await;
        let status = node.status();
        assert!(
            status.measured.batch_changesets.count < 200,
            "decisions share entries"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_has_what_it_decided_once_in_memory() {
    bounded(async {
        let mut world = World::new();
        world.limits.head_changesets = 3;
        world.limits.head_changesets_max = 5;
        let group = Group::with(3, world).await;
        let node = group.leader().await.node.clone();
        // More at once than it may have twice.
        let asked = (0..40).map(|number| {
            let node = node.clone();
            tokio::spawn(async move { node.propose(make(&format!("n-{number}"))).await })
        });
        for one in asked.collect::<Vec<_>>() {
            one.await.unwrap().unwrap();
        }
        for number in 40..50 {
            node.propose(make(&format!("n-{number}"))).await.unwrap();
        }
        let image = node.image();
        let nothing = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
        let both = move |head: &State| {
            let own = head.objects().filter(|object| {
                let applied = image.get(object.id);
                applied.is_none_or(|applied| !Arc::ptr_eq(object, applied))
            });
            Ok((nothing.clone(), (own.count(), count(head))))
        };
        let (own, all) = node.decide(both).await.unwrap().value;
        assert_eq!(all, 50);
        assert!(own <= 5, "{own} objects are twice in memory");
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_decision_is_answered_and_nothing_else_suffers() {
    bounded(async {
        let group = Group::of(1).await;
        let node = &group.leader().await.node;
        let refused = node
            .decide::<(), _>(|_| panic!("a rule with a bug"))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, DecideError::Refused(error) if error.code == ErrorCode::Internal)
        );
        node.propose(make("after")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_survives_its_leader_and_the_leader_comes_back() {
    bounded(async {
        let mut group = Group::of(3).await;
        for round in 0..3 {
            let leader = group.leader_id().await;
            let node = group.runners[&leader].node.clone();
            let asked: Vec<_> = (0..50)
                .map(|number| {
                    let node = node.clone();
                    tokio::spawn(async move {
                        let name = format!("r{round}-{number}");
                        (name.clone(), node.propose(make(&name)).await)
                    })
                })
                .collect();
            drop(node);
            tokio::time::sleep(Duration::from_millis(round * 2)).await;
            group.kill(leader).await;
            group.surely(&format!("after-{round}")).await;
            for one in asked {
                let (name, outcome) = one.await.unwrap();
                let image = group.leader().await.node.read().await.unwrap();
                match outcome {
                    Ok(_) => assert!(has(&image, &name), "{name} was acknowledged and is gone"),
                    Err(DecideError::Unknown { .. }) => {}
                    Err(error) => assert!(
                        !has(&image, &name),
                        "{name} happened, said to be not done: {error}"
                    ),
                }
            }
            group.restart(leader).await;
            group.converge().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once_come_back_with_all_that_was_acknowledged() {
    bounded(async {
        let mut group = Group::of(3).await;
        for number in 0..30 {
            group.surely(&format!("thing-{number}")).await;
        }
        for id in group.runners.keys().copied().collect::<Vec<_>>() {
            group.kill(id).await;
        }
        for id in group.homes.keys().copied().collect::<Vec<_>>() {
            group.restart(id).await;
        }
        let image = group.leader().await.node.read().await.unwrap();
        for number in 0..30 {
            assert!(has(&image, &format!("thing-{number}")));
        }
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_without_a_gap() {
    bounded(async {
        let group = Group::of(3).await;
        group.surely("before").await;
        // An election by timeout takes longer than the lease, each time; a busy machine is slow now and then.
        let mut gaps = Vec::new();
        while gaps.iter().all(|gap| *gap >= Duration::from_millis(600)) {
            assert!(gaps.len() < 5, "{gaps:?}");
            let old = group.leader_id().await;
            let began = std::time::Instant::now();
            let new = group.runners[&old].node.hand_over().await.unwrap().unwrap();
            assert_ne!(new, old);
            leadership_where(&group.runners[&new].node, "the successor", |now| {
                now.is_leader_ready
            })
            .await;
            gaps.push(began.elapsed());
        }
        group.surely("after").await;
        group.converge().await;
    })
    .await;
}

/// Whoever asked for it may leave, and a leader's own task ends with its leadership.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_that_nobody_waits_for_leaves_no_node_closed() {
    bounded(async {
        let group = Group::of(3).await;
        group.surely("before").await;
        let left = group.leader_id().await;
        // Polled once: it has closed the node, and gone no further.
        let begun = tokio::time::timeout(Duration::ZERO, group.runners[&left].node.hand_over());
        assert!(begun.await.is_err());
        let mut leader = left;
        for turn in 0.. {
            assert!(turn < 20, "it is never chosen again");
            leader = group.runners[&leader]
                .node
                .hand_over()
                .await
                .unwrap()
                .unwrap();
            leadership_where(&group.runners[&leader].node, "the successor", |now| {
                now.is_leader_ready
            })
            .await;
            if leader == left {
                break;
            }
        }
        group.surely("after").await;
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_hands_over_and_closes_the_shadow() {
    bounded(async {
        let mut group = Group::of(3).await;
        group.surely("before").await;
        let old = group.leader_id().await;
        let runner = group.runners.remove(&old).unwrap();
        runner.node.shutdown().await;
        runner.kill().await;
        group.surely("after").await;
        group.restart(old).await;
        assert!(
            group.runners[&old].node.image().index() > 0,
            "the shadow was closed with its state"
        );
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    bounded(async {
        let mut group = Group::of(3).await;
        group.surely("a").await;
        let fourth = group.join("node-4").await;
        let leader = group.leader().await;
        let asked_again = leader
            .node
            .add_learner(group.homes[&fourth].info.clone())
            .await
            .unwrap();
        assert_eq!(asked_again, fourth);
        leader.node.promote(fourth).await.unwrap();
        let voters = leader
            .node
            .members()
            .iter()
            .filter(|member| member.role == MemberRole::Voter)
            .count();
        assert_eq!(voters, 4);
        let gone = group.follower_id().await;
        leader.node.remove(gone).await.unwrap();
        assert!(
            leader
                .node
                .members()
                .iter()
                .all(|member| member.node_id != gone)
        );
        group.kill(gone).await;
        group.surely("b").await;
        group.converge().await;
        // The leader itself hands over first.
        let leader = group.leader_id().await;
        let refused = group.runners[&leader]
            .node
            .remove(leader)
            .await
            .unwrap_err();
        let virtflow_raft::MembershipError::NotLeader { leader: Some(next) } = refused else {
            panic!("{refused}");
        };
        leadership_where(&group.runners[&next].node, "the successor", |now| {
            now.is_leader_ready
        })
        .await;
        group.runners[&next].node.remove(leader).await.unwrap();
        group.kill(leader).await;
        group.surely("c").await;
        group.converge().await;
        // A number is never given twice.
        let fifth = group.join("node-5").await;
        assert!(fifth > fourth && fifth != gone && fifth != leader);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_voter_stays() {
    bounded(async {
        let group = Group::of(1).await;
        let refused = group.leader().await.node.remove(1).await.unwrap_err();
        assert!(matches!(
            refused,
            virtflow_raft::MembershipError::Refused(_)
        ));
        let refused = group.leader().await.node.remove(77).await.unwrap_err();
        assert_eq!(
            refused,
            virtflow_raft::MembershipError::NoSuchMember { node_id: 77 }
        );
    })
    .await;
}

/// What a member says that comes to a cluster version it does not support.
const TOO_NEW: &str =
    "the cluster is at version 2, this controller supports 1 at most; install a release";

#[tokio::test(flavor = "multi_thread")]
async fn an_older_member_may_come_back_before_a_raise_and_not_after_it() {
    bounded(async {
        let mut world = World::new();
        world.supports = 2;
        let mut group = Group::with(3, world).await;
        let older = group.follower_id().await;
        group.kill(older).await;
        group.world.supports = 1;
        group.restart(older).await;
        group.surely("with an older member").await;
        group.converge().await;

        // It comes to the raise while it runs, and shows nothing of it.
        let leader = group.leader().await.node.clone();
        leader.propose(raise_to(2)).await.unwrap();
        let node = group.runners[&older].node.clone();
        let reason = node.fatal().await;
        assert!(reason.contains("log entry"), "{reason}");
        assert!(reason.contains(TOO_NEW), "{reason}");
        assert!(node.image().cluster_version() < 2);
        assert!(
            has(&node.image(), "with an older member"),
            "what was before it is there"
        );
        group.surely("without the older member").await;
        drop(node);
        group.kill(older).await;

        // It finds the raise in its log when it starts, or is sent it right after.
        let why = match group.world.try_start(&group.homes[&older]).await {
            Ok(runner) => {
                let reason = runner.node.fatal().await;
                assert!(runner.node.image().cluster_version() < 2);
                runner.kill().await;
                reason
            }
            Err(StartError::Fatal(reason)) => reason,
            Err(error) => panic!("{error}"),
        };
        assert!(why.contains(TOO_NEW), "{why}");

        group.world.supports = 2;
        group.restart(older).await;
        group.converge().await;
        assert_eq!(group.runners[&older].node.image().cluster_version(), 2);

        // Its store is past the raise now.
        let shadow = group.runners[&older].shadow();
        let applied = group.runners[&older].node.image().index();
        virtflow_state::port::Shadow::snapshot(shadow, applied)
            .await
            .unwrap();
        group.kill(older).await;
        group.world.supports = 1;
        let refused = group.world.try_start(&group.homes[&older]).await;
        let Err(StartError::ClusterVersion(why)) = refused else {
            panic!("an older member started on a newer store");
        };
        let expected = ClusterVersionTooNew {
            needed: 2,
            supports: 1,
        };
        assert_eq!(why, expected);
    })
    .await;
}
