//! Lives of a cluster: a backup that begins another one, a survivor that goes on alone, an operator without a
//! quorum.

use serde_json::json;
use virtflow_controller::commands;
use virtflow_controller::daemon::admin::{Request as Ask, ask};
use virtflow_controller::testing;
use virtflow_model::Kind;

use super::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_begins_a_new_life_elsewhere() {
    let first = Controller::first(|_| {}).await;
    virtflow_controller::daemon::admin::serve(first.app.clone())
        .await
        .unwrap();
    let socket = first.config.folders().admin_socket();
    let dc = create(Kind::DataCenter, "dc1", json!({"region": "r"}));
    let made = act(&first.app, dc).await.unwrap().object_id.unwrap();
    let folder = first.dir.path().join("backup");
    let manifest = ask(
        &socket,
        &Ask::Backup {
            path: folder.clone(),
        },
    )
    .await
    .unwrap();
    assert!(manifest["index"].as_u64().unwrap() > 1);
    let after = create(Kind::DataCenter, "dc2", json!({"region": "r"}));
    let later = act(&first.app, after).await.unwrap().object_id.unwrap();
    let former = first.app.node().image().incarnation();

    let dir = tempfile::tempdir().unwrap();
    let mut config = testing::config(dir.path());
    config.name = "c9".into();
    let without_key = commands::bring_back(&config, &folder).await;
    assert!(without_key.is_err(), "the seal key is not in the backup");
    std::fs::copy(&first.config.seal_key_file, &config.seal_key_file).unwrap();
    commands::bring_back(&config, &folder).await.unwrap();
    assert!(
        commands::bring_back(&config, &folder).await.is_err(),
        "it replaces nothing"
    );
    let restored = Controller::start(config, dir).await;
    testing::wait_until_leading(&restored.app).await.unwrap();
    let image = restored.app.node().read().await.unwrap();
    assert!(image.get(made).is_some());
    assert!(image.get(later).is_none(), "made after the backup");
    assert_ne!(image.incarnation(), former);
    assert_eq!(image.cluster_id(), first.app.node().image().cluster_id());
    let stranger = first.app.store_id();
    until("the former controller to be forgotten", || {
        let image = restored.app.node().image();
        let known = image.get(stranger).and_then(|object| {
            virtflow_logic::decoded::<virtflow_model::kinds::Controller>(object).ok()
        });
        known.is_none_or(|controller| controller.status.removed)
    })
    .await;
    let dc3 = create(Kind::DataCenter, "dc3", json!({"region": "r"}));
    act(&restored.app, dc3).await.unwrap();
    assert_eq!(virtflow_state::verify(&restored.app.node().image()), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sole_survivor_goes_on_alone() {
    let mut all = three(|_| {}).await;
    let dc = create(Kind::DataCenter, "dc1", json!({"region": "r"}));
    let made = act(&all[0].app, dc).await.unwrap().object_id.unwrap();
    let roles = all[0].app.node().image().of_kind("role", None).count();
    let survivor = all.remove(2);
    let index = all[0].app.node().read_index().await.unwrap();
    survivor.app.node().wait_applied(index).await.unwrap();
    // What was written may be older than what the log has: the rest is replayed.
    survivor.app.shadow().wait_written(3).await.unwrap();
    for lost in all {
        lost.kill().await;
    }
    let (config, dir) = survivor.kill().await;
    let (_, incarnation) = commands::go_on_alone(&config).await.unwrap();
    let alone = Controller::start(config, dir).await;
    testing::wait_until_leading(&alone.app).await.unwrap();
    let image = alone.app.node().read().await.unwrap();
    assert!(image.get(made).is_some());
    assert_eq!(image.incarnation(), Some(incarnation));
    // A new one takes the place, and the name, of a lost one.
    assert_eq!(
        image.of_kind("role", None).count(),
        roles,
        "nothing of the beginning is lost"
    );
    let next = Controller::joined(&alone, "c1").await;
    until("the new one to vote", || {
        next.app.node().members().len() == 2 && next.app.node().image().get(made).is_some()
    })
    .await;
}

/// A member that was never told anything has no life to go on with, and stays what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_holds_nothing_yet_is_no_survivor() {
    let first = Controller::first(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = testing::config(dir.path());
    config.name = "c2".into();
    let token = join_token(&first.app, json!({"role": "controller"})).await;
    commands::enter(
        &config,
        &first.config.api_address(),
        first.app.ca().fingerprint(),
        &token,
        false,
    )
    .await
    .unwrap();
    // Its store is opened, but nobody reaches it: its listeners are not served.
    let opened = virtflow_controller::daemon::open(config.clone(), None)
        .await
        .unwrap();
    opened.stop();
    opened.node().stop().await;
    drop(opened);
    let refused = commands::go_on_alone(&config).await.unwrap_err();
    let text = format!("{refused:#}");
    assert!(text.contains("holds nothing yet"), "{text}");
    // Nothing was changed: it is the same member as before, and is told everything now.
    let index = first.app.node().read_index().await.unwrap();
    let second = Controller::start(config, dir).await;
    second.app.node().wait_applied(index).await.unwrap();
    let image = second.app.node().image();
    assert_eq!(image.incarnation(), first.app.node().image().incarnation());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_operator_needs_no_quorum() {
    let first = Controller::first(|_| {}).await;
    virtflow_controller::daemon::admin::serve(first.app.clone())
        .await
        .unwrap();
    let socket = first.config.folders().admin_socket();
    let status = ask(&socket, &Ask::Status).await.unwrap();
    assert_eq!(status["name"], "c1");
    assert_eq!(status["leads"], true);
    let level = Ask::LogLevel {
        level: "debug".into(),
    };
    assert!(
        ask(&socket, &level).await.is_err(),
        "a test does not own its log"
    );
    let relative = Ask::Backup {
        path: "here".into(),
    };
    assert!(ask(&socket, &relative).await.is_err());
}
