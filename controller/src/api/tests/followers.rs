//! Any controller answers: what a follower cannot decide it passes on, and nobody can tell.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Reply, Rig, ask};
use crate::app::App;
use crate::{commands, daemon, testing};

/// The admin's controller, which leads, and two that joined it.
async fn three() -> (Rig, [App; 2], tempfile::TempDir) {
    joined_by_two(Rig::start().await).await
}

/// A cluster of one, and two controllers that join it.
pub(super) async fn joined_by_two(rig: Rig) -> (Rig, [App; 2], tempfile::TempDir) {
    testing::serve(&rig.app).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let second = join(&rig, "c2", &dir.path().join("c2")).await;
    let third = join(&rig, "c3", &dir.path().join("c3")).await;
    (rig, [second, third], dir)
}

async fn join(rig: &Rig, name: &str, dir: &Path) -> App {
    let spec = json!({"role": "controller"});
    let invite = rig.make("/join_tokens", json!({"spec": spec})).await;
    let token = invite.data(201)["token"].as_str().unwrap().to_owned();
    let mut config = testing::config(dir);
    config.name = name.into();
    let address = format!("https://{}", rig.app.config().listen.api);
    let fingerprint = rig.app.ca().fingerprint();
    commands::enter(&config, &address, fingerprint, &token, false)
        .await
        .unwrap();
    let app = daemon::open(config, None).await.unwrap();
    daemon::spawn_tasks(&app);
    testing::serve(&app).await.unwrap();
    let voter = || rig.app.node().status().members.len();
    for _ in 0..200 {
        let known = app.node().leadership().borrow().leader.is_some();
        if known && app.node().is_initialized() && voter() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app
}

async fn send(app: &App, token: &str, method: &'static str, path: &str, body: Value) -> Reply {
    let ask = ask(app, method, path).token(token);
    if body.is_null() {
        ask.send().await
    } else {
        ask.json(&body).send().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_answer_as_the_leader_does() {
    let (rig, [second, third], _dir) = three().await;
    let admin = rig.admin.as_str();

    // What is written through one is read through every other at once.
    let made = send(
        &second,
        admin,
        "POST",
        "/data_centers",
        json!({"name": "dc1"}),
    )
    .await;
    made.data(201);
    assert_eq!(made.body["meta"]["controller"], "c1", "the leader answered");
    assert_eq!(
        made.headers["x-request-id"],
        made.body["meta"]["request_id"].as_str().unwrap()
    );
    assert_eq!(made.headers["etag"], format!("\"{}.1\"", made.id()));
    for app in [&rig.app, &second, &third] {
        let seen = send(app, admin, "GET", "/data_centers/dc1", Value::Null).await;
        assert_eq!(seen.data(200)["id"], made.id());
        assert_eq!(seen.body["meta"]["controller"], app.name());
    }

    // A refusal is the leader's own, word for word.
    let here = send(
        &rig.app,
        admin,
        "POST",
        "/data_centers",
        json!({"name": "dc1"}),
    )
    .await;
    let there = send(
        &third,
        admin,
        "POST",
        "/data_centers",
        json!({"name": "dc1"}),
    )
    .await;
    assert_eq!(here.error(409), "already_exists");
    assert_eq!(here.without_request_id(), there.without_request_id());

    // One key, asked through different controllers: one object.
    let mut ids = Vec::new();
    for app in [&second, &rig.app, &third] {
        let request = ask(app, "POST", "/data_centers").token(admin);
        let request = request
            .header("idempotency-key", "k1")
            .json(&json!({"name": "dc2"}));
        ids.push(request.send().await.id());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");

    // The leader's own knowledge is told by all.
    let status = send(&third, admin, "GET", "/status", Value::Null).await;
    assert_eq!(status.data(200)["leader"], "c1");
    assert_eq!(status.data(200)["controllers"].as_array().unwrap().len(), 3);

    // A follower asks for credentials itself.
    let stranger = ask(&second, "POST", "/data_centers")
        .json(&json!({"name": "x"}))
        .send()
        .await;
    assert_eq!(stranger.error(401), "unauthenticated");
    assert_eq!(stranger.body["meta"]["controller"], "c2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_useless_at_once_on_every_controller() {
    let (rig, [second, third], _dir) = three().await;
    let admin = rig.admin.as_str();
    for (revoking, others) in [(&rig.app, [&second, &third]), (&second, [&rig.app, &third])] {
        for _ in 0..10 {
            let body = json!({"name": "short", "spec": {}});
            let made = send(revoking, admin, "POST", "/api_tokens", body).await;
            let token = made.data(201)["token"].as_str().unwrap().to_owned();
            for app in others {
                send(app, &token, "GET", "/tenants", Value::Null)
                    .await
                    .data(200);
            }
            let path = format!("/api_tokens/{}", made.id());
            send(revoking, admin, "DELETE", &path, Value::Null)
                .await
                .data(200);
            for app in others {
                let after = send(app, &token, "GET", "/tenants", Value::Null).await;
                assert_eq!(after.error(401), "unauthenticated");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_over_and_the_former_leader_can_be_removed() {
    let (rig, [second, third], _dir) = three().await;
    let admin = rig.admin.as_str();
    let over = send(&third, admin, "POST", "/controllers/hand-over", json!({})).await;
    let leader = over.data(200)["leader"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(leader, "c1");
    // Still any controller takes writes.
    for (n, app) in [&rig.app, &second, &third].into_iter().enumerate() {
        let body = json!({"name": format!("dc{n}")});
        send(app, admin, "POST", "/data_centers", body)
            .await
            .data(201);
    }
    // The one that leads now is removed through itself: the next leader does it.
    let leading = if leader == "c2" { &second } else { &third };
    let path = format!("/controllers/{leader}");
    let removed = send(leading, admin, "DELETE", &path, Value::Null).await;
    removed.data(200);
    let members = send(&rig.app, admin, "GET", "/controllers", Value::Null).await;
    let listed = members.data(200).as_array().unwrap();
    let in_raft = listed.iter().filter(|c| !c["member"].is_null()).count();
    assert_eq!(in_raft, 2, "{}", members.text);
}

/// What a follower refuses, and what is used there, is the leader's to write, and it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_follower_counted_is_written_by_the_leader() {
    let (rig, [second, _third], _dir) = three().await;
    let alice = rig.tenant_with("acme", "alice", "developer").await;
    let body = json!({"name": "ci", "parent": "alice", "spec": {}});
    let made = rig.ask("POST", "/api_tokens").token(&alice);
    let made = made.json(&body).send().await;
    let token = made.data(201)["token"].as_str().unwrap().to_owned();
    let path = format!("/api_tokens/{}", made.id());
    // A read: nothing of it reaches the leader by itself.
    let refused = send(&second, &token, "GET", "/verify", Value::Null).await;
    assert_eq!(refused.error(403), "forbidden");
    assert_eq!(refused.body["meta"]["controller"], "c2");
    let mut told = (Value::Null, Value::Null);
    for _ in 0..300 {
        let denied = rig.get("/audit?outcome=denied", &rig.admin).await;
        let shown = rig.get(&path, &alice).await;
        told = (
            denied.data(200)[0]["object"].clone(),
            shown.data(200)["status"]["last_used_at"].clone(),
        );
        if told.0 == "/api/v1/verify" && told.1.is_string() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{told:?}");
}
