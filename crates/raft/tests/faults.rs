//! What must not be believed, what cannot be told, and how a lost group lives on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::shadow::TestShadow;
use common::*;
use tonic::Code;
use virtflow_proto::raft::v1::Envelope;
use virtflow_proto::raft::v1::raft_client::RaftClient;
use virtflow_raft::{DecideError, RaftRole, ReadError, StartError, offline, peer_channel_to};
use virtflow_types::{Incarnation, ObjectId};

/// Asks the member `to` for its vote, with the certificate of `home`, as node `from` of a life.
async fn stand_for_election(
    world: &World,
    home: &Home,
    from: u64,
    to: &Home,
    life: Option<Incarnation>,
) -> tonic::Status {
    let channel = peer_channel_to(&home.tls, &to.info.peer_address, None).unwrap();
    let bytes = |id: &ObjectId| Bytes::copy_from_slice(id.as_bytes());
    let envelope = Envelope {
        cluster_id: bytes(&world.cluster_id),
        from_store: bytes(&home.store_id),
        from_node: from,
        to_node: to.node_id,
        to_store: bytes(&to.store_id),
        // Term 99, voting for itself: field 1 of the message is the vote.
        payload: Bytes::from(vec![
            0x0a,
            0x04,
            0x08,
            99,
            0x10,
            u8::try_from(from).unwrap(),
        ]),
        incarnation: life.map_or(Bytes::new(), |life| Bytes::copy_from_slice(life.as_bytes())),
    };
    RaftClient::new(channel).vote(envelope).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_with_an_old_number_is_refused_in_both_directions() {
    bounded(async {
        let mut group = Group::of(3).await;
        group.surely("before").await;
        let id = group.follower_id().await;
        group.kill(id).await;
        // The same number and address, but another store: the data folder was lost.
        let old = group.homes.remove(&id).unwrap();
        let mut wiped = group.world.home("wiped");
        wiped.address_of(&old);
        let runner = group.world.found(&mut wiped, id).await;
        group.surely("meanwhile").await;
        tokio::time::sleep(Duration::from_millis(3000)).await;
        assert_eq!(
            runner.node.status().role,
            RaftRole::Uninitialized,
            "no member believes it"
        );
        assert_eq!(runner.node.image().index(), 0);

        let leader = group.leader_id().await;
        let status =
            stand_for_election(&group.world, &wiped, id, &group.homes[&leader], None).await;
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(
            status.message().contains("wiped or replaced"),
            "{}",
            status.message()
        );
        // A store that pretends to be another member is no better.
        let status = stand_for_election(
            &group.world,
            &group.homes[&leader],
            id,
            &group.homes[&leader],
            None,
        )
        .await;
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(
            group
                .leader()
                .await
                .node
                .status()
                .measured
                .envelopes_refused
                >= 2
        );
        // What is meant for the old store is refused by the new one.
        let other = group.homes.values().next().unwrap();
        let mut meant = group.world.home("meant");
        meant.node_id = id;
        meant.info.peer_address.clone_from(&wiped.info.peer_address);
        let status = stand_for_election(&group.world, other, other.node_id, &meant, None).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(
            status.message().contains("must join as a new member"),
            "{}",
            status.message()
        );

        // As a new member it is welcome.
        let node = &group.leader().await.node;
        node.remove(id).await.unwrap();
        runner.kill().await;
        let new = group.join("again").await;
        group.leader().await.node.promote(new).await.unwrap();
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lost_its_log_does_not_start() {
    bounded(async {
        let mut group = Group::of(1).await;
        group.surely("a").await;
        group.kill(1).await;
        let home = &group.homes[&1];
        std::fs::remove_dir_all(home.dir.join("raft")).unwrap();
        let Err(error) = group.world.try_start(home).await else {
            panic!("it started without its log");
        };
        assert!(
            matches!(&error, StartError::Log(why) if why.contains("add it anew")),
            "{error}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_outcomes_are_unknown_and_reads_fail_and_all_heals() {
    bounded(async {
        let mut world = World::new();
        world.limits.decide_timeout = Duration::from_millis(2000);
        world.limits.read_timeout = Duration::from_millis(2000);
        let mut group = Group::with(3, world).await;
        group.surely("before").await;
        let leader = group.leader_id().await;
        let others: Vec<u64> = group
            .runners
            .keys()
            .copied()
            .filter(|id| *id != leader)
            .collect();
        for id in &others {
            group.kill(*id).await;
        }
        let node = group.runners[&leader].node.clone();
        let (first, second) = (make("first"), make("second"));
        let outcome = node.propose(first.clone()).await.unwrap_err();
        assert_eq!(
            outcome,
            DecideError::Unknown {
                request_id: first.request_id
            }
        );
        // By now the lease is over: the next one does not even reach the log.
        let outcome = node.propose(second.clone()).await.unwrap_err();
        let nothing_done = matches!(
            outcome,
            DecideError::NotLeader { .. } | DecideError::Overloaded
        );
        assert!(nothing_done, "{outcome:?}");
        let read = node.read().await.unwrap_err();
        assert!(matches!(read, ReadError::NoQuorum { .. }), "{read}");
        assert!(
            !has(&node.image(), "first"),
            "an image never shows what is not committed"
        );
        drop(node);
        for id in others {
            group.restart(id).await;
        }
        group.surely("after").await;
        let image = group.leader().await.node.read().await.unwrap();
        assert!(
            !has(&image, "second"),
            "what was said to be not done is not done"
        );
        // Whatever became of the first, asking for it again leaves exactly one.
        let again = group.leader().await.node.propose(first).await;
        assert!(
            matches!(again, Ok(_) | Err(DecideError::Conflict(_))),
            "{again:?}"
        );
        group.converge().await;
        assert_eq!(count(&group.leader().await.node.image()), 3);
    })
    .await;
}

/// What refuses connections answers at once: without a pause between attempts the leader would do nothing
/// else than dial it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_refuses_connections_is_not_dialled_without_pause() {
    bounded(async {
        let mut group = Group::of(3).await;
        group.surely("before").await;
        let leader = group.leader_id().await;
        let down = group.runners.keys().copied().find(|id| *id != leader);
        let down = down.unwrap();
        group.kill(down).await;
        let address = group.homes[&down].info.peer_address.clone();
        let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
        let dialled = Arc::new(AtomicU64::new(0));
        let count = dialled.clone();
        // Closed as soon as it is taken: the handshake fails.
        let refusing = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 0..60 {
            group.surely(&format!("meanwhile {n}")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        refusing.abort();
        // The listener is gone once its task is.
        let _ = refusing.await;
        // The log is offered every 200 ms, a heartbeat sent every 100 ms; without pauses it was dialled
        // some thousand times.
        let dialled = dialled.load(Ordering::Relaxed);
        assert!((1..300).contains(&dialled), "dialled {dialled} times");
        group.restart(down).await;
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_everyone_is_answered_in_time() {
    bounded(async {
        let mut world = World::new();
        world.limits.decide_timeout = Duration::from_secs(1);
        let mut group = Group::with(3, world).await;
        let leader = group.leader_id().await;
        let others: Vec<u64> = group
            .runners
            .keys()
            .copied()
            .filter(|id| *id != leader)
            .collect();
        for id in &others {
            group.kill(*id).await;
        }
        // More than fits into the pipeline, so that some are gathered behind what is stuck.
        let node = group.runners[&leader].node.clone();
        let began = std::time::Instant::now();
        let mut asked = tokio::task::JoinSet::new();
        for number in 0..200 {
            let node = node.clone();
            asked.spawn(async move {
                tokio::time::sleep(Duration::from_millis(number)).await;
                let name = format!("n-{number}");
                (name.clone(), node.propose(make(&name)).await)
            });
        }
        let mut not_done = Vec::new();
        while let Some(answer) = asked.join_next().await {
            let (name, outcome) = answer.unwrap();
            match outcome {
                Err(DecideError::Unknown { .. }) => {}
                Err(_) => not_done.push(name),
                Ok(_) => panic!("{name} was acknowledged without a quorum"),
            }
        }
        assert!(
            began.elapsed() < Duration::from_millis(3500),
            "{:?}",
            began.elapsed()
        );
        assert!(!not_done.is_empty());
        drop(node);
        for id in others {
            group.restart(id).await;
        }
        group.surely("after").await;
        group.converge().await;
        let image = group.leader().await.node.image();
        assert!(not_done.iter().all(|name| !has(&image, name)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_turns_away_and_nothing_of_it_happens() {
    bounded(async {
        let mut world = World::new();
        world.limits.queue_decisions_max = 4;
        let group = Group::with(1, world).await;
        let node = group.leader().await.node.clone();
        // The first one holds the sequencer up while the others pile up behind it.
        let slow = node.clone();
        let slow = tokio::spawn(async move {
            slow.decide(|_| {
                std::thread::sleep(Duration::from_millis(500));
                Ok((make("slow"), ()))
            })
            .await
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asked = (0..10).map(|number| {
            let node = node.clone();
            tokio::spawn(async move { (number, node.propose(make(&format!("n-{number}"))).await) })
        });
        let asked: Vec<_> = asked.collect();
        let mut outcomes = BTreeMap::new();
        for one in asked {
            let (number, outcome) = one.await.unwrap();
            outcomes.insert(number, outcome);
        }
        slow.await.unwrap().unwrap();
        let image = node.read().await.unwrap();
        let turned_away = outcomes
            .values()
            .filter(|outcome| **outcome == Err(DecideError::Overloaded))
            .count();
        assert_eq!(turned_away, 6);
        for (number, outcome) in outcomes {
            assert_eq!(has(&image, &format!("n-{number}")), outcome.is_ok());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_whose_state_differs_stops() {
    bounded(async {
        let mut group = Group::of(3).await;
        for number in 0..5 {
            group.surely(&format!("n-{number}")).await;
        }
        group.converge().await;
        let id = group.follower_id().await;
        // A clean stop writes the shadow out; then something changes it behind our back.
        group.runners[&id].node.shutdown().await;
        group.kill(id).await;
        let marks = |loaded: &virtflow_state::port::Loaded| loaded.raft_meta.clone();
        let incarnation = group.leader().await.node.incarnation().unwrap();
        TestShadow::tamper(&group.homes[&id].dir.join("shadow"), incarnation, marks);
        group.restart(id).await;
        group.surely("after").await;
        let node = group.runners[&id].node.clone();
        let reason = tokio::time::timeout(PATIENCE, node.fatal())
            .await
            .expect("it goes on with a damaged state");
        assert!(reason.contains("digest"), "{reason}");
        until("it to fall silent", || {
            node.status().role == RaftRole::Stopped
        })
        .await;
        drop(node);
        group.kill(id).await;
        group.surely("the others go on").await;
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_majority_agrees_writes_stop() {
    bounded(async {
        let mut group = Group::of(2).await;
        group.surely("before").await;
        group.converge().await;
        let id = group.follower_id().await;
        group.runners[&id].node.shutdown().await;
        group.kill(id).await;
        let incarnation = group.leader().await.node.incarnation().unwrap();
        let shadow_dir = group.homes[&id].dir.join("shadow");
        TestShadow::tamper(&shadow_dir, incarnation, |loaded| loaded.raft_meta.clone());
        group.restart(id).await;
        group.surely("the one that shows it").await;
        let node = group.leader().await.node.clone();
        until("the difference to be seen", || {
            node.status().writes_stopped.is_some()
        })
        .await;
        let refused = node.propose(make("never")).await.unwrap_err();
        assert!(matches!(refused, DecideError::Stopped { .. }), "{refused}");
        assert!(!has(&node.image(), "never"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_stands_still_slows_writes_down_and_then_stops_the_node() {
    bounded(async {
        let mut world = World::new();
        world.limits.shadow_queue_soft = 20;
        world.limits.shadow_queue_hard = 60;
        world.limits.shadow_stall = Duration::from_secs(1);
        // Alone, so that nobody takes over while the machine is busy.
        let mut group = Group::with(1, world).await;
        let node = group.runners[&1].node.clone();
        group.runners[&1].shadow().hold(true);
        for number in 0..60 {
            node.propose(make(&format!("n-{number}"))).await.unwrap();
        }
        assert!(node.status().shadow.queued <= 60);
        let more = tokio::spawn({
            let node = node.clone();
            async move { node.propose(make("one more")).await }
        });
        let reason = tokio::time::timeout(PATIENCE, node.fatal()).await.unwrap();
        assert!(reason.contains("shadow"), "{reason}");
        assert!(
            node.status().shadow.queued <= 60,
            "one past the limit is not handed over"
        );
        let outcome = more.await.unwrap();
        assert!(outcome.is_err(), "it was never applied here: {outcome:?}");
        drop(node);
        group.kill(1).await;
        group.restart(1).await;
        group.surely("all goes on").await;
        let image = group.leader().await.node.read().await.unwrap();
        assert!((0..60).all(|number| has(&image, &format!("n-{number}"))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_shadow_fails_passes_leadership_on_and_stops() {
    bounded(async {
        let mut group = Group::of(3).await;
        group.surely("before").await;
        let id = group.leader_id().await;
        group.runners[&id].shadow().fail("no space left");
        let reason = tokio::time::timeout(PATIENCE, group.runners[&id].node.fatal())
            .await
            .unwrap();
        assert!(reason.contains("no space left"), "{reason}");
        let node = group.runners[&id].node.clone();
        until("it to stop", || node.status().role == RaftRole::Stopped).await;
        drop(node);
        group.kill(id).await;
        group.surely("after").await;
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sole_survivor_begins_a_new_life_with_all_it_held() {
    bounded(async {
        let mut group = Group::of(3).await;
        for number in 0..20 {
            group.surely(&format!("n-{number}")).await;
        }
        group.converge().await;
        let former = group.leader().await.node.incarnation().unwrap();
        let survivor = group.follower_id().await;
        let others: Vec<u64> = group
            .runners
            .keys()
            .copied()
            .filter(|id| *id != survivor)
            .collect();
        for id in group.runners.keys().copied().collect::<Vec<_>>() {
            group.runners[&id].node.shutdown().await;
            group.kill(id).await;
        }
        let new_life = Incarnation::generate();
        let home = &group.homes[&survivor];
        let loaded = TestShadow::rewrite(&home.dir.join("shadow"), new_life, |loaded| {
            offline::sole_member_marks(loaded, survivor, &home.info).unwrap()
        });
        let raft_dir = home.dir.join("raft");
        offline::begin_new_life(
            &raft_dir,
            group.world.cluster_id,
            survivor,
            &home.info,
            &loaded,
        )
        .await
        .unwrap();
        group.restart(survivor).await;
        group.surely("in the new life").await;
        let node = group.leader().await.node.clone();
        assert_eq!(node.incarnation(), Some(new_life));
        assert_ne!(former, new_life);
        assert_eq!(count(&node.image()), 21);
        assert_eq!(node.members().len(), 1);
        drop(node);
        // One of the former life comes back: nobody believes it, and it believes nobody.
        let stray = group.world.start(&group.homes[&others[0]]).await;
        tokio::time::sleep(Duration::from_millis(3000)).await;
        assert!(!stray.leads());
        assert_eq!(stray.node.incarnation(), Some(former));
        assert!(!has(&stray.node.image(), "in the new life"));
        group.surely("still").await;
        stray.kill().await;
        // New members take the new life's snapshot, not the former life's log.
        let id = group.join("node-9").await;
        assert!(id > 20);
        group.leader().await.node.promote(id).await.unwrap();
        group.converge().await;
        assert!(
            group.runners[&id]
                .node
                .status()
                .measured
                .snapshots_installed
                > 0
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_lives_beside_the_running_group_unnoticed() {
    bounded(async {
        let mut group = Group::of(1).await;
        for number in 0..10 {
            group.surely(&format!("n-{number}")).await;
        }
        group.runners[&1].node.shutdown().await;
        group.kill(1).await;
        // The backup is a copy of the shadow; the new store has an empty folder.
        let mut home = group.world.home("restored");
        let shadow_dir = home.dir.join("shadow");
        std::fs::create_dir_all(&shadow_dir).unwrap();
        std::fs::copy(
            group.homes[&1].dir.join("shadow/state"),
            shadow_dir.join("state"),
        )
        .unwrap();
        group.restart(1).await;
        group.surely("after the backup").await;

        let info = home.info.clone();
        let mut node_id = 0;
        let loaded = TestShadow::rewrite(&shadow_dir, Incarnation::generate(), |loaded| {
            node_id = offline::fresh_node_id(loaded).unwrap();
            offline::sole_member_marks(loaded, node_id, &info).unwrap()
        });
        assert!(node_id > 1);
        assert_eq!(offline::members(&loaded).unwrap().len(), 1);
        home.node_id = node_id;
        offline::begin_new_life(
            &home.dir.join("raft"),
            group.world.cluster_id,
            node_id,
            &info,
            &loaded,
        )
        .await
        .unwrap();
        let restored = group.world.start(&home).await;
        leadership_where(&restored.node, "the restored one", |now| {
            now.is_leader_ready
        })
        .await;
        restored.node.propose(make("restored")).await.unwrap();
        let image = restored.node.read().await.unwrap();
        assert_eq!(count(&image), 11);
        assert!(!has(&image, "after the backup"));
        assert!(!has(
            &group.leader().await.node.read().await.unwrap(),
            "restored"
        ));
        // Neither can be mistaken for the other.
        let life = restored.node.incarnation();
        let status = stand_for_election(&group.world, &home, node_id, &group.homes[&1], life).await;
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(
            status.message().contains("members of the former life"),
            "{}",
            status.message()
        );
        // A stranger without a past is no voter either.
        let status = stand_for_election(&group.world, &home, node_id, &group.homes[&1], None).await;
        assert_eq!(status.code(), Code::FailedPrecondition);
        group.surely("undisturbed").await;
    })
    .await;
}
