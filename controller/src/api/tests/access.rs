//! Who may do what, and that what one may not see reads like what is not there.

use serde_json::{Value, json};

use super::support::{Reply, Rig};

/// Method, path, body, and the status for: admin, tenant admin, developer, viewer of the tenant, and a
/// developer of another tenant. Written by hand from the roles' meaning.
fn matrix() -> Vec<(&'static str, &'static str, Value, [u16; 5])> {
    let vm = json!({"name": "made", "tenant": "acme", "spec": {"specification": "small"}});
    vec![
        ("GET", "/vms/web-1", Value::Null, [200, 200, 200, 200, 404]),
        (
            "GET",
            "/tenants/acme",
            Value::Null,
            [200, 200, 200, 200, 404],
        ),
        (
            "GET",
            "/tenants/acme/usage",
            Value::Null,
            [200, 200, 200, 200, 404],
        ),
        (
            "GET",
            "/vms/web-1/placement",
            Value::Null,
            [200, 200, 200, 200, 404],
        ),
        (
            "POST",
            "/vms/web-1/stop",
            json!({}),
            [202, 202, 202, 403, 404],
        ),
        (
            "PATCH",
            "/vms/web-1",
            json!({"spec": {"labels": {"a": "b"}}}),
            [200, 200, 200, 403, 404],
        ),
        ("POST", "/vms", vm, [202, 409, 409, 403, 404]),
        (
            "POST",
            "/tenants",
            json!({"name": "acme"}),
            [409, 403, 403, 403, 403],
        ),
        (
            "POST",
            "/data_centers",
            json!({"name": "dc1"}),
            [201, 403, 403, 403, 403],
        ),
        ("GET", "/verify", Value::Null, [200, 403, 403, 403, 403]),
        ("GET", "/upgrade", Value::Null, [200, 403, 403, 403, 403]),
        (
            "POST",
            "/upgrade/finish",
            json!({}),
            [200, 403, 403, 403, 403],
        ),
        (
            "POST",
            "/controllers/hand-over",
            json!({}),
            [409, 403, 403, 403, 403],
        ),
    ]
}

async fn send(rig: &Rig, method: &'static str, path: &str, body: &Value, token: &str) -> Reply {
    let ask = rig.ask(method, path).token(token);
    if body.is_null() {
        ask.send().await
    } else {
        ask.json(body).send().await
    }
}

async fn with_vm(rig: &Rig) -> [String; 5] {
    let tenant_admin = rig.tenant_with("acme", "anna", "tenant_admin").await;
    let developer = rig.user("acme", "dave", "developer").await;
    let viewer = rig.user("acme", "vera", "viewer").await;
    let stranger = rig.tenant_with("evil", "eve", "developer").await;
    let spec = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1});
    rig.make("/specs", json!({"name": "small", "spec": spec}))
        .await;
    let vm = json!({"name": "web-1", "spec": {"specification": "small"}});
    send(rig, "POST", "/vms", &vm, &developer).await.data(202);
    [rig.admin.clone(), tenant_admin, developer, viewer, stranger]
}

#[tokio::test]
async fn each_role_may_what_it_is_for_and_nothing_else() {
    let rig = Rig::start().await;
    let tokens = with_vm(&rig).await;
    let names = ["admin", "tenant_admin", "developer", "viewer", "stranger"];
    let mut wrong = Vec::new();
    for (method, path, body, expected) in matrix() {
        for ((token, name), status) in tokens.iter().zip(names).zip(expected) {
            let reply = send(&rig, method, path, &body, token).await;
            if reply.status != status {
                wrong.push(format!(
                    "{method} {path} as {name}: {status} wanted, {}",
                    reply.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn another_tenants_object_reads_like_none() {
    let rig = Rig::start().await;
    let [admin, _, _, _, stranger] = with_vm(&rig).await;
    let vm = rig.get("/vms/web-1", &admin).await.id();
    let tenant = rig.get("/tenants/acme", &admin).await.id();
    let user = rig.get("/users/dave", &admin).await.id();
    let nothing = "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11";
    let questions = [
        ("GET", "/vms/ID", Value::Null, &vm),
        ("GET", "/vms/ID/console", Value::Null, &vm),
        ("GET", "/vms/ID/placement", Value::Null, &vm),
        ("POST", "/vms/ID/start", json!({}), &vm),
        ("PATCH", "/vms/ID", json!({"spec": {"labels": {}}}), &vm),
        ("DELETE", "/vms/ID", Value::Null, &vm),
        ("GET", "/tenants/ID", Value::Null, &tenant),
        ("GET", "/tenants/ID/usage", Value::Null, &tenant),
        ("DELETE", "/tenants/ID", Value::Null, &tenant),
        ("GET", "/vms?tenant=ID", Value::Null, &tenant),
        ("GET", "/audit?tenant=ID", Value::Null, &tenant),
        (
            "POST",
            "/vms",
            json!({"name": "x", "tenant": "ID", "spec": {"specification": "small"}}),
            &tenant,
        ),
        ("GET", "/users/ID", Value::Null, &user),
        (
            "POST",
            "/users/ID/password",
            json!({"password": "a long enough one"}),
            &user,
        ),
        (
            "POST",
            "/role_bindings",
            json!({"spec": {"subject_id": "ID", "role": "viewer", "scope": "tenant/evil"}}),
            &user,
        ),
        (
            "POST",
            "/auth/can-i",
            json!({"permission": "virtual_machine.read", "kind": "virtual_machine", "id": "ID"}),
            &vm,
        ),
    ];
    for (method, path, body, id) in questions {
        let ask = |id: &str| {
            let path = path.replace("ID", id);
            let body: Value = serde_json::from_str(&body.to_string().replace("ID", id)).unwrap();
            let rig = &rig;
            let stranger = &stranger;
            async move { send(rig, method, &path, &body, stranger).await }
        };
        let theirs = ask(id).await;
        let missing = ask(nothing).await;
        assert_eq!(
            theirs.status, missing.status,
            "{method} {path}: {}",
            theirs.text
        );
        // A success counts entries up in its index; everything else must be the same.
        if theirs.status >= 400 {
            assert_eq!(
                theirs.without_request_id().replace(id.as_str(), "ID"),
                missing.without_request_id().replace(nothing, "ID"),
                "{method} {path}"
            );
        } else {
            assert_eq!(theirs.body["data"], missing.body["data"], "{method} {path}");
        }
    }
}

#[tokio::test]
async fn lists_show_each_tenant_its_own() {
    let rig = Rig::start().await;
    let [admin, _, developer, _, stranger] = with_vm(&rig).await;
    let count = |reply: Reply| reply.data(200).as_array().unwrap().len();
    assert_eq!(count(rig.get("/vms", &admin).await), 1);
    assert_eq!(count(rig.get("/vms", &developer).await), 1);
    assert_eq!(count(rig.get("/vms", &stranger).await), 0);
    assert_eq!(count(rig.get("/operations", &stranger).await), 0);
    let trail = rig.get("/audit", &stranger).await;
    assert!(!trail.text.contains("web-1"), "{}", trail.text);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let rig = Rig::start().await;
    let tokens = with_vm(&rig).await;
    let grant = |token: &String, role: &str, scope: Option<&str>| {
        let mut spec = json!({"subject": "vera", "role": role});
        if let Some(scope) = scope {
            spec["scope"] = scope.into();
        }
        let token = token.clone();
        let rig = &rig;
        async move {
            send(
                rig,
                "POST",
                "/role_bindings",
                &json!({"spec": spec}),
                &token,
            )
            .await
        }
    };
    let [admin, tenant_admin, developer, ..] = &tokens;
    assert_eq!(
        grant(tenant_admin, "admin", None).await.error(403),
        "forbidden"
    );
    assert_eq!(
        grant(tenant_admin, "admin", Some("tenant/acme"))
            .await
            .error(403),
        "forbidden"
    );
    assert_eq!(
        grant(developer, "viewer", Some("tenant/acme"))
            .await
            .error(404),
        "not_found",
        "a developer does not see who else there is"
    );
    grant(tenant_admin, "developer", Some("tenant/acme"))
        .await
        .data(201);
    grant(admin, "operator", None).await.data(201);
}

#[tokio::test]
async fn rights_that_are_taken_away_are_gone_at_once() {
    let rig = Rig::start().await;
    let [_, _, _, vera, _] = with_vm(&rig).await;
    rig.get("/vms/web-1", &vera).await.data(200);
    let bindings = rig.get("/role_bindings?subject=vera", &rig.admin).await;
    let id = bindings.data(200)[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/role_bindings/{id}");
    rig.ask("DELETE", &path)
        .token(&rig.admin)
        .send()
        .await
        .data(200);
    assert_eq!(rig.get("/vms/web-1", &vera).await.error(404), "not_found");

    let suspend = json!({"spec": {"state": "suspended"}});
    rig.ask("PATCH", "/users/vera")
        .token(&rig.admin)
        .json(&suspend)
        .send()
        .await
        .data(200);
    assert_eq!(
        rig.get("/auth/whoami", &vera).await.error(401),
        "unauthenticated"
    );
}

#[tokio::test]
async fn one_may_ask_what_one_may() {
    let rig = Rig::start().await;
    let tokens = with_vm(&rig).await;
    let question =
        json!({"permission": "virtual_machine.execute", "kind": "virtual_machine", "id": "web-1"});
    for (token, may) in tokens.iter().zip([true, true, true, false, false]) {
        let reply = send(&rig, "POST", "/auth/can-i", &question, token).await;
        assert_eq!(reply.data(200)["allowed"], may, "{}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_asks_too_often_is_told_how_long_to_wait() {
    let rig = Rig::start_with(|config| {
        config.limits.user_requests_per_s = 1;
        config.limits.user_requests_burst = 3;
    })
    .await;
    let mut statuses = Vec::new();
    // A request takes far less than a second, so the burst is spent long before these are through.
    for _ in 0..50 {
        let reply = rig.get("/tenants", &rig.admin).await;
        statuses.push(reply.status);
        if reply.status != 200 {
            assert_eq!(reply.error(429), "limit_exceeded");
            assert!(reply.headers.contains_key("retry-after"));
            break;
        }
    }
    assert!(statuses.len() > 3, "the burst is allowed: {statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

/// Requests of a moment until one is refused: far more than a burst, far fewer than a second's worth of patience.
async fn until_refused(rig: &Rig, token: &str) -> (usize, Option<Reply>) {
    for asked in 0..50 {
        let reply = rig.get("/tenants", token).await;
        if reply.status != 200 {
            return (asked, Some(reply));
        }
    }
    (50, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_asks_too_often_leaves_its_user_room() {
    let rig = Rig::start_with(|config| {
        config.limits.token_requests_per_s = 1;
        config.limits.token_requests_burst = 4;
        config.limits.user_requests_per_s = 1;
        config.limits.user_requests_burst = 30;
    })
    .await;
    let anna = rig.tenant_with("acme", "anna", "tenant_admin").await;
    let mut tokens = Vec::new();
    for name in ["wild", "calm"] {
        let body = json!({"name": name, "spec": {}});
        let made = send(&rig, "POST", "/api_tokens", &body, &anna).await;
        tokens.push(made.data(201)["token"].as_str().unwrap().to_owned());
    }
    let (asked, refused) = until_refused(&rig, &tokens[0]).await;
    assert!((4..20).contains(&asked), "{asked}");
    let refused = refused.unwrap();
    assert_eq!(refused.error(429), "limit_exceeded");
    assert!(
        refused.text.contains("with this API token"),
        "{}",
        refused.text
    );
    assert!(refused.headers.contains_key("retry-after"));
    // What is refused to the token counts for nobody: its user has more than 20 left of 30, another token its own four.
    for _ in 0..40 {
        rig.get("/tenants", &tokens[0]).await;
    }
    for _ in 0..4 {
        rig.get("/tenants", &tokens[1]).await.data(200);
    }
    rig.get("/tenants", &anna).await.data(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_asks_too_often_holds_up_nobody_but_itself() {
    let rig = Rig::start_with(|config| {
        config.limits.tenant_requests_per_s = 1;
        config.limits.tenant_requests_burst = 4;
    })
    .await;
    let anna = rig.tenant_with("acme", "anna", "tenant_admin").await;
    let dave = rig.user("acme", "dave", "developer").await;
    let eve = rig.tenant_with("rival", "eve", "developer").await;
    let (asked, refused) = until_refused(&rig, &anna).await;
    assert!(asked >= 4, "the burst is allowed: {asked}");
    let refused = refused.unwrap();
    assert_eq!(refused.error(429), "limit_exceeded");
    assert!(
        refused.text.contains("your tenant's users together"),
        "{}",
        refused.text
    );
    assert!(refused.headers.contains_key("retry-after"));
    // Another user of that tenant shares its bucket; another tenant, and the system's users, do not.
    let (asked, refused) = until_refused(&rig, &dave).await;
    assert!(asked < 50 && refused.is_some(), "{asked}");
    rig.get("/tenants", &eve).await.data(200);
    for _ in 0..20 {
        rig.get("/tenants", &rig.admin).await.data(200);
    }
}

#[tokio::test]
async fn no_limit_of_tenants_is_none() {
    let rig = Rig::start_with(|config| {
        config.limits.tenant_requests_per_s = 0;
        config.limits.tenant_requests_burst = 1;
    })
    .await;
    let anna = rig.tenant_with("acme", "anna", "tenant_admin").await;
    assert!(until_refused(&rig, &anna).await.1.is_none());
}
