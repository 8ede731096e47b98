//! Writers go on while leadership moves, members die and come back, and processes stand still.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use virtflow_raft::{DecideError, Node};

/// What a writer was told.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    not_done: Vec<String>,
    unknown: Vec<String>,
}

/// Proposes to each node in turn until told to stop.
fn writer(number: usize, nodes: Vec<Node>, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Told> {
    tokio::spawn(async move {
        let mut told = Told::default();
        for round in 0_usize.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("w{number}-{round}");
            match nodes[(number + round) % nodes.len()]
                .propose(make(&name))
                .await
            {
                Ok(_) => told.acknowledged.push(name),
                Err(DecideError::Unknown { .. }) => told.unknown.push(name),
                Err(_) => {
                    told.not_done.push(name);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
        told
    })
}

async fn check(group: &Group, writers: Vec<tokio::task::JoinHandle<Told>>) -> (usize, usize) {
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await.unwrap());
    }
    group.surely("at the end").await;
    group.converge().await;
    let image = group.leader().await.node.image();
    let all =
        |pick: fn(&Told) -> &Vec<String>| told.iter().flat_map(pick).cloned().collect::<Vec<_>>();
    let acknowledged = all(|told| &told.acknowledged);
    let unknown = all(|told| &told.unknown);
    for name in &acknowledged {
        assert!(has(&image, name), "{name} was acknowledged and is gone");
    }
    for name in all(|told| &told.not_done) {
        assert!(
            !has(&image, &name),
            "{name} was said to be not done and is there"
        );
    }
    let came_true = unknown.iter().filter(|name| has(&image, name)).count();
    assert_eq!(count(&image), acknowledged.len() + came_true + 1);
    for runner in group.runners.values() {
        assert_eq!(runner.node.status().fatal, None);
    }
    (acknowledged.len(), unknown.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_under_load_and_no_answer_is_wrong() {
    bounded(async {
        let group = Group::of(3).await;
        let stop = Arc::new(AtomicBool::new(false));
        let nodes: Vec<Node> = group
            .runners
            .values()
            .map(|runner| runner.node.clone())
            .collect();
        let writers: Vec<_> = (0..8)
            .map(|number| writer(number, nodes.clone(), stop.clone()))
            .collect();
        let mut handed_over = 0;
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let leader = group.leader().await.node.clone();
            if matches!(leader.hand_over().await, Ok(Some(_))) {
                handed_over += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        drop(nodes);
        let (acknowledged, _) = check(&group, writers).await;
        assert!(handed_over >= 6, "{handed_over}");
        assert!(acknowledged > 100, "{acknowledged}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_answers_nothing_stale() {
    bounded(async {
        let group = Group::of(3).await;
        let stop = Arc::new(AtomicBool::new(false));
        let nodes: Vec<Node> = group
            .runners
            .values()
            .map(|runner| runner.node.clone())
            .collect();
        let writers: Vec<_> = (0..4)
            .map(|number| writer(number, nodes.clone(), stop.clone()))
            .collect();
        for round in 0..3 {
            let old = group.leader_id().await;
            group.runners[&old].pause(Duration::from_millis(5000));
            let others: Vec<_> = group.runners.iter().filter(|(id, _)| **id != old).collect();
            let mut written = None;
            for _ in 0..900 {
                let leads = others.iter().find(|(_, runner)| runner.leads());
                if let Some((_, runner)) = leads {
                    let name = format!("while-it-stood-still-{round}");
                    if runner.node.propose(make(&name)).await.is_ok() {
                        written = Some(name);
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let written = written.expect("nobody else took over");
            // Asked while it stands still, answered once it goes on.
            let image = group.runners[&old].node.read().await.unwrap();
            assert!(has(&image, &written), "a stale read");
            let taken = group.runners[&old].node.propose(make(&written)).await;
            assert!(taken.is_err(), "the name was taken, by now everywhere");
        }
        stop.store(true, Ordering::Relaxed);
        drop(nodes);
        let mut told = Vec::new();
        for writer in writers {
            told.push(writer.await.unwrap());
        }
        group.converge().await;
        let image = group.leader().await.node.image();
        for name in told.iter().flat_map(|told| &told.acknowledged) {
            assert!(has(&image, name));
        }
        for name in told.iter().flat_map(|told| &told.not_done) {
            assert!(!has(&image, name));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_die_and_come_back_over_the_real_shadow() {
    bounded(async {
        let mut world = World::new();
        world.sqlite = true;
        world.limits.snapshot_entries = 200;
        world.limits.keep_log_entries = 20;
        let mut group = Group::with(3, world).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut told = Vec::new();
        for round in 0..4 {
            let nodes: Vec<Node> = group
                .runners
                .values()
                .map(|runner| runner.node.clone())
                .collect();
            let stop_round = Arc::new(AtomicBool::new(false));
            let writers: Vec<_> = (0..4)
                .map(|number| writer(round * 100 + number, nodes.clone(), stop_round.clone()))
                .collect();
            drop(nodes);
            tokio::time::sleep(Duration::from_millis(700)).await;
            let victim = if round % 2 == 0 {
                group.leader_id().await
            } else {
                group.follower_id().await
            };
            stop_round.store(true, Ordering::Relaxed);
            // Its writers hold handles on it: what they are told must be true even so.
            let runner = group.runners.remove(&victim).unwrap();
            let killed = tokio::spawn(runner.kill());
            for writer in writers {
                told.push(writer.await.unwrap());
            }
            killed.await.unwrap();
            group.surely(&format!("round-{round}")).await;
            group.restart(victim).await;
            group.converge().await;
        }
        stop.store(true, Ordering::Relaxed);
        let image = group.leader().await.node.read().await.unwrap();
        for name in told.iter().flat_map(|told| &told.acknowledged) {
            assert!(has(&image, name), "{name} was acknowledged and is gone");
        }
        for name in told.iter().flat_map(|told| &told.not_done) {
            assert!(
                !has(&image, name),
                "{name} was said to be not done and is there"
            );
        }
        drop(image);
        // And all at once.
        for id in group.runners.keys().copied().collect::<Vec<_>>() {
            group.kill(id).await;
        }
        for id in group.homes.keys().copied().collect::<Vec<_>>() {
            group.restart(id).await;
        }
        group.surely("all are back").await;
        group.converge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_state_travels_over_the_real_shadow_while_writes_run() {
    bounded(async {
        let mut world = World::new();
        world.sqlite = true;
        world.limits.snapshot_entries = 150;
        world.limits.keep_log_entries = 10;
        let mut group = Group::with(3, world).await;
        let away = group.follower_id().await;
        let last_seen = group.runners[&away].node.status().last_log;
        group.kill(away).await;
        let leader = group.leader().await.node.clone();
        // 110 MB in objects of 250 kB, eight at a time.
        let large: Arc<str> = format!("\"{}\"", "x".repeat(250_000)).into();
        let mut writing = tokio::task::JoinSet::new();
        for number in 0..440 {
            let (leader, large) = (leader.clone(), large.clone());
            writing.spawn(async move {
                leader
                    .propose(make_with(&format!("large-{number}"), &large))
                    .await
            });
            if writing.len() >= 8 {
                writing.join_next().await.unwrap().unwrap().unwrap();
            }
        }
        while let Some(written) = writing.join_next().await {
            written.unwrap().unwrap();
        }
        leader.propose(make("last")).await.unwrap();
        until("the log to be purged", || {
            leader.status().purged > last_seen
        })
        .await;
        let stop = Arc::new(AtomicBool::new(false));
        let meanwhile = writer(7, vec![leader.clone()], stop.clone());
        for round in 0..3 {
            group.restart(away).await;
            tokio::time::sleep(Duration::from_millis(300 * round)).await;
            group.kill(away).await;
        }
        group.restart(away).await;
        let back = group.runners[&away].node.clone();
        until("the snapshot", || {
            back.status().measured.snapshots_installed > 0 || has(&back.image(), "last")
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        let told = meanwhile.await.unwrap();
        assert!(!told.acknowledged.is_empty());
        drop((leader, back));
        group.converge().await;
        let image = group.runners[&away].node.image();
        assert!((0..440).all(|number| has(&image, &format!("large-{number}"))));
        assert!(told.acknowledged.iter().all(|name| has(&image, name)));
    })
    .await;
}
