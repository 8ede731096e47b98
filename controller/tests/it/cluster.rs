//! Three controllers: joining, outliving their leader, coming back after a dark month.

use virtflow_model::Kind;
use virtflow_raft::MemberRole;

use super::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_controllers_form_a_group_and_outlive_their_leader() {
    let mut all = three(|_| {}).await;
    let reply = act(
        &all[0].app,
        create(Kind::DataCenter, "dc1", serde_json::json!({"region": "r"})),
    )
    .await
    .unwrap();
    let made = reply.object_id.unwrap();
    for controller in &all {
        let image = controller.app.node().read().await.unwrap();
        assert!(
            image.get(made).is_some(),
            "{} lacks it",
            controller.config.name
        );
        let known = image.of_kind("controller", None).count();
        assert_eq!(known, 3, "each controller is an object");
    }
    let killed = all.remove(0).kill().await;
    let leader = leader_of(&all).await;
    let again = act(
        &leader.app,
        create(Kind::DataCenter, "dc2", serde_json::json!({"region": "r"})),
    )
    .await
    .unwrap();
    let back = Controller::start(killed.0, killed.1).await;
    let second = again.object_id.unwrap();
    let index = leader.app.node().image().index();
    until("the killed one to catch up", || {
        back.app.node().image().index() >= index
    })
    .await;
    let image = back.app.node().read().await.unwrap();
    assert!(image.get(made).is_some() && image.get(second).is_some());
    all.push(back);
    let digests: Vec<_> = {
        let leader = leader_of(&all).await;
        let index = leader.app.node().read_index().await.unwrap();
        let mut digests = Vec::new();
        for controller in &all {
            let image = controller.app.node().wait_applied(index).await.unwrap();
            digests.push((image.index(), image.digest()));
        }
        digests
    };
    for (index, digest) in &digests {
        for (other_index, other) in &digests {
            assert!(
                index != other_index || digest == other,
                "replicas differ: {digests:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_token_admits_its_key_only_and_a_removed_controller_stays_out() {
    let first = Controller::first(|_| {}).await;
    let token = join_token(&first.app, serde_json::json!({"role": "controller"})).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = virtflow_controller::testing::config(dir.path());
    config.name = "c2".into();
    let fingerprint = first.app.ca().fingerprint();
    let address = first.config.api_address();
    let store = virtflow_controller::commands::enter(&config, &address, fingerprint, &token, true)
        .await
        .unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let mut other = virtflow_controller::testing::config(other_dir.path());
    other.name = "c3".into();
    let stolen =
        virtflow_controller::commands::enter(&other, &address, fingerprint, &token, true).await;
    assert!(
        stolen.is_err(),
        "a token that was used is worth nothing with another key"
    );
    assert!(!exists(&other.folders().store_file()));

    let second = Controller::start(config, dir).await;
    until("the learner to be known", || {
        second
            .app
            .node()
            .image()
            .get(second.app.store_id())
            .is_some()
    })
    .await;
    let members = first.app.node().members();
    let learner = members.iter().find(|m| m.node_id == store.node_id).unwrap();
    assert_eq!(
        learner.role,
        MemberRole::Learner,
        "with --learner it does not vote"
    );

    first.app.node().remove(store.node_id).await.unwrap();
    let (request_id, now) = (
        virtflow_types::RequestId::generate(),
        virtflow_types::Timestamp::now(),
    );
    let store_id = store.store_id;
    first
        .app
        .node()
        .decide(move |head| {
            virtflow_logic::controller_removed(head, request_id, now, store_id).map(|c| (c, ()))
        })
        .await
        .unwrap();
    let newcomer = virtflow_controller::daemon::members::Newcomer {
        info: second.app.member_info(),
        version: "0".into(),
        supports: 1,
        voter: true,
        status_address: String::new(),
    };
    let refused = virtflow_controller::daemon::members::ask(
        second.app.peer_tls(),
        &[first.config.peer_address()],
        &newcomer,
    )
    .await;
    assert!(
        refused.is_err(),
        "a removed controller is not taken in again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_support_the_clusters_version_is_not_taken_in() {
    let first = Controller::first(|_| {}).await;
    let second = Controller::joined(&first, "c2").await;
    until("the second to be known", || {
        let image = first.app.node().image();
        image.get(second.app.store_id()).is_some()
    })
    .await;
    let before = first.app.node().members().len();
    // An older release says less than it did, or nothing at all.
    let mut newcomer = virtflow_controller::daemon::members::Newcomer {
        info: second.app.member_info(),
        version: "0".into(),
        supports: 0,
        voter: true,
        status_address: String::new(),
    };
    newcomer.info.name = "c9".into();
    let refused = virtflow_controller::daemon::members::ask(
        second.app.peer_tls(),
        &[first.config.peer_address()],
        &newcomer,
    )
    .await
    .unwrap_err();
    assert_eq!(refused.code, virtflow_types::ErrorCode::Forbidden);
    assert!(
        refused.message.starts_with(
            "the cluster is at version 1, this controller supports 0 at most; install a release that supports 1"
        ),
        "{refused}"
    );
    let members = first.app.node().members();
    assert_eq!(members.len(), before);
    assert!(
        members.iter().all(|member| member.info.name != "c9"),
        "nothing was changed for it: {members:?}"
    );
}
