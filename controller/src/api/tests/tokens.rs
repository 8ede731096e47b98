//! Logging in, and what a token is worth from the moment on that it is not.

use serde_json::json;
use virtflow_pki::Role;

use super::support::{PASSWORD, Reply, Rig};
use crate::testing::ADMIN_PASSWORD;

async fn try_login(rig: &Rig, user: &str, password: &str) -> Reply {
    let body = json!({"username": user, "password": password});
    rig.ask("POST", "/auth/login").json(&body).send().await
}

async fn refresh(rig: &Rig, token: &str) -> Reply {
    let body = json!({"refresh_token": token});
    rig.ask("POST", "/auth/refresh").json(&body).send().await
}

#[tokio::test]
async fn a_session_from_login_to_logout() {
    let rig = Rig::start().await;
    let login = try_login(&rig, "admin", ADMIN_PASSWORD).await;
    let token = login.data(200)["access_token"].as_str().unwrap().to_owned();
    let who = rig.get("/auth/whoami", &token).await;
    assert!(
        who.data(200).to_string().contains("\"admin\""),
        "{}",
        who.text
    );
    rig.ask("POST", "/auth/logout")
        .token(&token)
        .send()
        .await
        .data(200);
    let after = rig.get("/auth/whoami", &token).await;
    assert_eq!(after.error(401), "unauthenticated");
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_session() {
    let rig = Rig::start().await;
    let login = try_login(&rig, "admin", ADMIN_PASSWORD).await;
    let first = login.data(200)["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let rotated = refresh(&rig, &first).await;
    let access = rotated.data(200)["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = rotated.data(200)["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(first, second);
    rig.get("/auth/whoami", &access).await.data(200);

    assert_eq!(refresh(&rig, &first).await.error(401), "unauthenticated");
    assert_eq!(refresh(&rig, &second).await.error(401), "unauthenticated");
    assert_eq!(
        rig.get("/auth/whoami", &access).await.error(401),
        "unauthenticated"
    );
    rig.get("/auth/whoami", &rig.admin).await.data(200);
}

#[tokio::test]
async fn a_wrong_password_reads_like_an_unknown_user() {
    let rig = Rig::start().await;
    let wrong = try_login(&rig, "admin", "not the password").await;
    let unknown = try_login(&rig, "nobody", "not the password").await;
    assert_eq!(wrong.error(401), "unauthenticated");
    assert_eq!(wrong.without_request_id(), unknown.without_request_id());
}

#[tokio::test]
async fn too_many_wrong_passwords_lock_the_user_and_the_right_one_does_not_help() {
    let rig = Rig::start().await;
    rig.tenant_with("acme", "alice", "viewer").await;
    for n in 0..10u8 {
        let body = json!({"username": "alice", "password": "not the password"});
        let from = format!("198.51.100.{n}:1");
        let reply = rig
            .ask("POST", "/auth/login")
            .from(&from)
            .json(&body)
            .send()
            .await;
        assert_eq!(reply.error(401), "unauthenticated");
    }
    let wrong = try_login(&rig, "alice", "not the password").await;
    let right = try_login(&rig, "alice", PASSWORD).await;
    assert_eq!(right.error(401), "unauthenticated");
    assert_eq!(right.without_request_id(), wrong.without_request_id());
    try_login(&rig, "admin", ADMIN_PASSWORD).await.data(200);
}

#[tokio::test]
async fn api_tokens_are_shown_once_and_useless_once_revoked() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "developer").await;
    let body = json!({"name": "ci", "spec": {}});
    let made = rig
        .ask("POST", "/api_tokens")
        .token(&alice)
        .json(&body)
        .send()
        .await;
    let token = made.data(201)["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("vft1."));
    rig.get("/vms", &token).await.data(200);

    let listed = rig.get("/api_tokens", &alice).await;
    let secret = token.rsplit('.').next().unwrap();
    assert!(!listed.text.contains(secret));
    assert!(!listed.text.contains("hash"), "{}", listed.text);

    let path = format!("/api_tokens/{}", made.id());
    rig.ask("DELETE", &path)
        .token(&alice)
        .send()
        .await
        .data(200);
    assert_eq!(rig.get("/vms", &token).await.error(401), "unauthenticated");
}

#[tokio::test]
async fn a_narrowed_token_cannot_do_what_its_user_can() {
    let rig = Rig::start().await;
    let body = json!({"name": "reader", "spec": {"permissions": ["tenant.read"]}});
    let made = rig.make("/api_tokens", body).await;
    let token = made.data(201)["token"].as_str().unwrap().to_owned();
    rig.get("/tenants", &token).await.data(200);
    let create = rig.ask("POST", "/tenants").token(&token);
    let reply = create.json(&json!({"name": "acme"})).send().await;
    assert_eq!(reply.error(403), "forbidden");
    // Nor can it make itself a wider one.
    let wider = rig.ask("POST", "/api_tokens").token(&token);
    let reply = wider
        .json(&json!({"name": "wider", "spec": {}}))
        .send()
        .await;
    assert_eq!(reply.error(403), "forbidden");
}

#[tokio::test]
async fn join_tokens_come_with_what_a_host_needs_to_trust_us() {
    let rig = Rig::start().await;
    rig.make("/data_centers", json!({"name": "dc1"})).await;
    let group = json!({"name": "g1", "spec": {"data_center": "dc1"}});
    rig.make("/groups", group).await;
    let made = rig.make("/invites", json!({"spec": {"group": "g1"}})).await;
    let data = made.data(201);
    assert!(data["token"].as_str().unwrap().starts_with("vfj1."));
    let fingerprint = data["ca_fingerprint"].as_str().unwrap();
    assert_eq!(fingerprint, rig.app.ca().fingerprint().to_string());
    assert!(data["spec"]["expires_at"].is_string());
    let listed = rig.get("/join_tokens", &rig.admin).await;
    let secret = data["token"].as_str().unwrap().rsplit('.').next().unwrap();
    assert!(!listed.text.contains(secret));
}

#[tokio::test]
async fn forged_credentials_are_all_refused_alike() {
    let rig = Rig::start().await;
    let mut parts: Vec<String> = rig.admin.split('.').map(str::to_owned).collect();
    parts[2] = "A".repeat(parts[2].len());
    let unsigned = parts.join(".");
    let unknown =
        "vft1.00000000000000000000000000000001.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let join = "vfj1.00000000000000000000000000000001.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let long = "x".repeat(5000);
    let missing = rig.ask("GET", "/vms").send().await.without_request_id();
    for token in [unsigned.as_str(), unknown, join, long.as_str(), "", "a.b.c"] {
        let reply = rig.get("/vms", token).await;
        assert_eq!(reply.error(401), "unauthenticated");
        assert_eq!(reply.without_request_id(), missing);
    }
    let basic = rig
        .ask("GET", "/vms")
        .header("authorization", "Basic YTpi")
        .send()
        .await;
    assert_eq!(basic.without_request_id(), missing);
}

#[tokio::test]
async fn a_password_is_changed_with_the_old_one_beside_it() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "viewer").await;
    let change = |body| {
        rig.ask("POST", "/users/alice/password")
            .token(&alice)
            .json(&body)
    };
    let next = "another long one";
    let reply = change(json!({"password": next, "old_password": "wrong"}))
        .send()
        .await;
    assert_eq!(reply.error(400), "invalid");
    assert_ne!(change(json!({"password": next})).send().await.status, 200);
    assert_eq!(
        change(json!({"password": "short", "old_password": PASSWORD}))
            .send()
            .await
            .error(400),
        "invalid"
    );
    change(json!({"password": next, "old_password": PASSWORD}))
        .send()
        .await
        .data(200);
    assert_eq!(
        try_login(&rig, "alice", PASSWORD).await.error(401),
        "unauthenticated"
    );
    try_login(&rig, "alice", next).await.data(200);
}

#[tokio::test]
async fn a_client_certificate_stands_for_its_user_and_no_other_role_does() {
    let rig = Rig::start().await;
    rig.tenant_with("acme", "alice", "viewer").await;
    let alice = rig.get("/users/alice", &rig.admin).await.id();
    let ask = |role| rig.ask("GET", "/auth/whoami").certificate(role, &alice);
    let who = ask(Role::Client).send().await;
    assert_eq!(who.data(200)["via"], "certificate", "{}", who.text);
    assert_eq!(ask(Role::Agent).send().await.error(401), "unauthenticated");
    assert_eq!(
        ask(Role::Controller).send().await.error(401),
        "unauthenticated"
    );
    // A token that is shown counts, also where it is worse than the certificate.
    let both = ask(Role::Client).token("vft1.made.up").send().await;
    assert_eq!(both.error(401), "unauthenticated");
    let suspend = json!({"spec": {"state": "suspended"}});
    let patch = rig
        .ask("PATCH", "/users/alice")
        .token(&rig.admin)
        .json(&suspend);
    patch.send().await.data(200);
    assert_eq!(ask(Role::Client).send().await.error(401), "unauthenticated");
}
