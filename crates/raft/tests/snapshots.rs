//! Snapshots that really travel: to a member that lags behind a purged log, to a new one, while
//! writes run and while the receiver dies again and again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::*;
use virtflow_raft::{ChangeEvent, Node};

/// Few entries between snapshots, few kept behind them.
fn small_log() -> World {
    let mut world = World::new();
    world.limits.snapshot_entries = 100;
    world.limits.keep_log_entries = 10;
    world
}

/// Writes one thing after another until told to stop; returns how many were acknowledged.
fn write_on(
    node: Node,
    prefix: &'static str,
    spec: String,
) -> (Arc<AtomicBool>, tokio::task::JoinHandle<Vec<String>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let writing = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            let name = format!("{prefix}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            if node.propose(make_with(&name, &spec)).await.is_ok() {
                acknowledged.push(name);
            }
        }
        acknowledged
    });
    (stop, writing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_behind_a_purged_log_and_a_new_one_get_a_snapshot_while_writes_run() {
    bounded(async {
        let mut group = Group::with(3, small_log()).await;
        let away = group.follower_id().await;
        let last_seen = group.runners[&away].node.status().last_log;
        group.kill(away).await;
        let leader = group.leader().await.node.clone();
        for number in 0..300 {
            leader
                .propose(make(&format!("while-away-{number}")))
                .await
                .unwrap();
        }
        until("the log to be purged", || {
            leader.status().purged > last_seen
        })
        .await;
        let status = leader.status();
        assert!(status.purged <= status.snapshot && status.snapshot <= status.shadow.durable);

        let (stop, writing) = write_on(leader.clone(), "meanwhile", "{}".into());
        group.restart(away).await;
        let back = group.runners[&away].node.clone();
        let (_, mut changes) = back.changes();
        let new = group.join("node-4").await;
        leader.promote(new).await.unwrap();
        let index = leader.read_index().await.unwrap();
        for id in [away, new] {
            let node = &group.runners[&id].node;
            node.wait_applied(index).await.unwrap();
            until("a snapshot", || {
                node.status().measured.snapshots_installed > 0
            })
            .await;
        }
        // Followers of the changes are told to begin anew, and then miss nothing.
        let mut at = loop {
            if let ChangeEvent::Resync(image) = changes.next().await.unwrap() {
                break image.index();
            }
        };
        let later = leader.read_index().await.unwrap();
        while at < later {
            match changes.next().await.unwrap() {
                ChangeEvent::Entry(entry) => {
                    assert_eq!(entry.index, at + 1);
                    at = entry.index;
                }
                ChangeEvent::Resync(image) => at = image.index(),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let acknowledged = writing.await.unwrap();
        assert!(!acknowledged.is_empty());
        drop((leader, back));
        group.converge().await;
        for runner in group.runners.values() {
            let image = runner.node.image();
            assert!(acknowledged.iter().all(|name| has(&image, name)));
            assert!((0..300).all(|number| has(&image, &format!("while-away-{number}"))));
        }
    })
    .await;
}

/// A snapshot that was installed is no file to send. One that was made before is too old: what follows
/// it was purged.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_given_a_snapshot_can_give_one() {
    bounded(async {
        for restarted in [false, true] {
            let mut world = small_log();
            world.dir = virtflow_powercut::scratch();
            world.sqlite = true;
            world.limits.snapshot_entries = 30;
            let mut group = Group::with(3, world).await;
            let away = group.follower_id().await;
            for number in 0..40 {
                group.surely(&format!("before-{number}")).await;
            }
            let node = group.runners[&away].node.clone();
            until("a snapshot of its own", || node.status().snapshot > 0).await;
            let last_seen = node.status().last_log;
            drop(node);
            group.kill(away).await;
            let leader = group.leader().await.node.clone();
            for number in 0..60 {
                leader
                    .propose(make(&format!("while-away-{number}")))
                    .await
                    .unwrap();
            }
            until("the log to be purged", || {
                leader.status().purged > last_seen
            })
            .await;
            group.restart(away).await;
            let node = group.runners[&away].node.clone();
            until("a snapshot", || {
                node.status().measured.snapshots_installed > 0
            })
            .await;
            drop((leader, node));
            group.converge().await;
            if restarted {
                group.kill(away).await;
                group.restart(away).await;
                group.converge().await;
            }
            // It leads alone with one other, and a new member comes that has nothing.
            while group.leader_id().await != away {
                let leader = group.leader_id().await;
                drop(group.runners[&leader].node.hand_over().await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let new = group.join("node-4").await;
            let leads = group.leader_id().await;
            group.runners[&leads].node.promote(new).await.unwrap();
            group.converge().await;
            let node = &group.runners[&new].node;
            assert!(node.status().measured.snapshots_installed > 0);
            assert_eq!(count(&node.image()), 100);
            assert_eq!(leads, away);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_dies_at_any_moment_of_the_transfer_still_gets_there() {
    bounded(async {
        let mut group = Group::with(3, small_log()).await;
        let away = group.follower_id().await;
        let last_seen = group.runners[&away].node.status().last_log;
        group.kill(away).await;
        let leader = group.leader().await.node.clone();
        let large = format!("\"{}\"", "x".repeat(60_000));
        for number in 0..400 {
            leader
                .propose(make_with(&format!("large-{number}"), &large))
                .await
                .unwrap();
        }
        until("the log to be purged", || {
            leader.status().purged > last_seen
        })
        .await;
        for round in 0..12 {
            group.restart(away).await;
            tokio::time::sleep(Duration::from_millis(40 * round)).await;
            group.kill(away).await;
        }
        group.restart(away).await;
        leader.propose(make("after")).await.unwrap();
        drop(leader);
        group.converge().await;
        let image = group.runners[&away].node.image();
        assert!((0..400).all(|number| has(&image, &format!("large-{number}"))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_above_the_durable_index_is_purged() {
    bounded(async {
        let group = Group::with(1, small_log()).await;
        let runner = group.leader().await;
        runner.node.propose(make("before")).await.unwrap();
        runner.shadow().hold(true);
        let durable = runner.node.status().shadow.durable;
        for number in 0..300 {
            runner
                .node
                .propose(make(&format!("n-{number}")))
                .await
                .unwrap();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let status = runner.node.status();
        assert!(status.applied >= durable + 300);
        assert!(
            status.snapshot <= durable && status.purged <= durable,
            "{status:?}"
        );
        runner.shadow().hold(false);
        until("a snapshot", || runner.node.status().snapshot > durable).await;
        until("the log to be purged", || {
            runner.node.status().purged > durable
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_begins_at_the_snapshot_and_replays_what_is_left() {
    bounded(async {
        let mut group = Group::with(1, small_log()).await;
        for number in 0..250 {
            group
                .leader()
                .await
                .node
                .propose(make(&format!("n-{number}")))
                .await
                .unwrap();
        }
        let node = group.leader().await.node.clone();
        until("the log to be purged", || node.status().purged > 100).await;
        drop(node);
        group.kill(1).await;
        group.restart(1).await;
        let image = group.leader().await.node.read().await.unwrap();
        assert_eq!(count(&image), 250);
    })
    .await;
}

/// What is applied runs ahead of what a snapshot's file holds, and what is behind the file stays in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_claims_no_more_than_its_file_holds() {
    bounded(async {
        let mut group = Group::with(1, small_log()).await;
        let runner = group.leader().await;
        let node = runner.node.clone();
        runner.shadow().hold_at(Some(60));
        for number in 0..250 {
            node.propose(make(&format!("n-{number}"))).await.unwrap();
        }
        assert_eq!(node.status().snapshot, 0, "its file is waited for");
        runner.shadow().hold_at(Some(150));
        until("the log to be purged", || node.status().purged > 100).await;
        assert!(node.status().purged <= 150, "{:?}", node.status());
        drop(node);
        group.kill(1).await;
        group.restart(1).await;
        let image = group.leader().await.node.read().await.unwrap();
        assert_eq!(count(&image), 250);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_newer_cluster_version_stops_an_older_member() {
    bounded(async {
        let mut world = small_log();
        world.supports = 2;
        let mut group = Group::with(3, world).await;
        let away = group.follower_id().await;
        let last_seen = group.runners[&away].node.status().last_log;
        group.kill(away).await;
        let leader = group.leader().await.node.clone();
        leader.propose(raise_to(2)).await.unwrap();
        for number in 0..200 {
            leader
                .propose(make(&format!("after-{number}")))
                .await
                .unwrap();
        }
        until("the log to be purged", || {
            leader.status().purged > last_seen + 1
        })
        .await;
        group.world.supports = 1;
        group.restart(away).await;
        let back = group.runners[&away].node.clone();
        let reason = back.fatal().await;
        assert!(
            reason.starts_with("installing a snapshot: the cluster is at version 2"),
            "{reason}"
        );
        assert!(back.image().cluster_version() < 2, "nothing of it is shown");
    })
    .await;
}
