//! Objects through their life: versions, repeated requests, pages, the trail they leave.

use serde_json::{Value, json};

use super::support::Rig;

#[tokio::test]
async fn an_update_rests_on_the_generation_that_was_seen() {
    let rig = Rig::start().await;
    let made = rig
        .make(
            "/tenants",
            json!({"name": "acme", "spec": {"quota": {"vms": 5}}}),
        )
        .await;
    let tag = |generation: u64| format!("\"{}.{generation}\"", made.id());
    assert_eq!(made.headers["etag"], tag(1));
    assert_eq!(
        made.headers["location"],
        format!("/api/v1/tenants/{}", made.id())
    );
    let patch = |etag: &str, vms: u64| {
        let ask = rig.ask("PATCH", "/tenants/acme").token(&rig.admin);
        let ask = ask.header("if-match", etag);
        ask.json(&json!({"spec": {"quota": {"vms": vms}}}))
    };
    let changed = patch(&tag(1), 6).send().await;
    assert_eq!(changed.data(200)["spec"]["quota"]["vms"], 6);
    assert_eq!(changed.headers["etag"], tag(2));
    assert_eq!(
        patch("\"1\"", 7).send().await.error(412),
        "precondition_failed"
    );
    let seen = rig.get("/tenants/acme", &rig.admin).await;
    assert_eq!(seen.data(200)["spec"]["quota"]["vms"], 6);
    assert_eq!(seen.headers["etag"], tag(2));
    // The tag of another object is never this one's; a generation alone is of the one that is asked about.
    let other = rig.make("/tenants", json!({"name": "other"})).await;
    let other = format!("\"{}.2\"", other.id());
    let refused = patch(&other, 7).send().await;
    assert_eq!(refused.error(412), "precondition_failed");
    patch("\"2\"", 7).send().await.data(200);
    patch("*", 8).send().await.data(200);

    // A merge patch keeps what it does not name, a whole spec does not.
    let body = json!({"spec": {"description": "research"}});
    let merged = rig
        .ask("PATCH", "/tenants/acme")
        .token(&rig.admin)
        .json(&body)
        .send()
        .await;
    assert_eq!(merged.data(200)["spec"]["quota"]["vms"], 8);
    let whole = rig
        .ask("PUT", "/tenants/acme")
        .token(&rig.admin)
        .json(&body)
        .send()
        .await;
    assert_eq!(whole.data(200)["spec"]["quota"].get("vms"), None);

    let gone = rig
        .ask("DELETE", "/tenants/acme")
        .token(&rig.admin)
        .header("if-match", "\"1\"");
    assert_eq!(gone.send().await.error(412), "precondition_failed");
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_and_makes_nothing_new() {
    let rig = Rig::start().await;
    let create = |key: &str, name: &str| {
        let ask = rig.ask("POST", "/data_centers").token(&rig.admin);
        ask.header("idempotency-key", key)
            .json(&json!({"name": name}))
    };
    let first = create("k1", "dc1").send().await;
    first.data(201);
    let again = create("k1", "dc1").send().await;
    assert_eq!(again.data(201)["id"], first.data(201)["id"]);
    assert_eq!(again.body["meta"]["replayed"], true);
    assert_eq!(create("k1", "dc2").send().await.error(409), "conflict");
    assert_eq!(
        create("k2", "dc1").send().await.error(409),
        "already_exists"
    );
    let all = rig.get("/data_centers", &rig.admin).await;
    assert_eq!(all.data(200).as_array().unwrap().len(), 1);

    // Many at once under one key: one of them makes it, all name the same.
    let crowd = (0..10).map(|_| create("k3", "dc3").send());
    for reply in futures::future::join_all(crowd).await {
        if reply.status == 201 {
            assert_eq!(reply.data(201)["name"], "dc3");
        } else {
            assert_eq!(reply.status, 409, "{}", reply.text);
        }
    }
    let all = rig.get("/data_centers?name=dc3", &rig.admin).await;
    assert_eq!(all.data(200).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_join_up_without_gap_or_repeat() {
    let rig = Rig::start().await;
    let mut made: Vec<String> = Vec::new();
    for n in 0..7 {
        let reply = rig
            .make("/data_centers", json!({"name": format!("dc{n}")}))
            .await;
        made.push(reply.id());
    }
    let mut seen: Vec<String> = Vec::new();
    let mut path = "/data_centers?limit=3".to_owned();
    let mut pages = 0;
    loop {
        let page = rig.get(&path, &rig.admin).await;
        let rows = page.data(200).as_array().unwrap();
        assert!(rows.len() <= 3);
        seen.extend(
            rows.iter()
                .map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        assert!(pages < 10, "pages end");
        match page.body["meta"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("/data_centers?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    made.sort();
    seen.sort();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn every_path_of_a_kind_leads_to_the_same() {
    let rig = Rig::start().await;
    let made = rig.make("/dcs", json!({"name": "dc1"})).await;
    for path in [
        "/data_centers/dc1",
        "/dcs/dc1",
        &format!("/dcs/{}", made.id()),
    ] {
        assert_eq!(rig.get(path, &rig.admin).await.data(200)["id"], made.id());
    }
    let kinds = rig.get("", &rig.admin).await;
    assert!(kinds.text.contains("/api/v1/vms"), "{}", kinds.text);
}

#[tokio::test]
async fn what_is_needed_is_not_deleted_and_the_refusal_names_who_needs_it() {
    let rig = Rig::start().await;
    rig.make("/data_centers", json!({"name": "dc1"})).await;
    rig.make(
        "/racks",
        json!({"name": "r1", "spec": {"data_center": "dc1"}}),
    )
    .await;
    let delete = |path: &'static str| rig.ask("DELETE", path).token(&rig.admin).send();
    let refused = delete("/data_centers/dc1").await;
    assert_eq!(refused.error(409), "in_use");
    assert!(refused.text.contains("r1"), "{}", refused.text);
    assert_eq!(delete("/racks/r1").await.data(200)["deleted"], true);
    delete("/data_centers/dc1").await.data(200);
    assert_eq!(delete("/data_centers/dc1").await.error(404), "not_found");
}

#[tokio::test]
async fn a_quota_refusal_tells_limit_used_and_asked() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "developer").await;
    let quota = json!({"spec": {"quota": {"cpu_cores": 3}}});
    rig.ask("PATCH", "/tenants/acme")
        .token(&rig.admin)
        .json(&quota)
        .send()
        .await
        .data(200);
    let spec = json!({"cpu_cores": 2, "memory_mib": 128, "storage_gib": 1});
    rig.make("/specs", json!({"name": "small", "spec": spec}))
        .await;
    let create = |name: &str| {
        let body = json!({"name": name, "spec": {"specification": "small"}});
        rig.ask("POST", "/vms").token(&alice).json(&body).send()
    };
    let first = create("web-1").await;
    assert_eq!(first.body["status"], "accepted", "{}", first.text);
    let operation = first.data(202)["operation"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        first.headers["location"],
        format!("/api/v1/operations/{operation}")
    );
    let refused = create("web-2").await;
    assert_eq!(refused.error(422), "quota_exceeded");
    let details = &refused.body["error"]["details"];
    for (figure, value) in [("limit", 3), ("used", 2), ("asked", 2)] {
        assert_eq!(details[figure], value, "{}", refused.text);
    }
    assert_eq!(details["level"], "tenant");
    assert_eq!(details["dimension"], "cpu_cores");
    let usage = rig.get("/tenants/acme/usage", &alice).await;
    assert!(
        usage.data(200).to_string().contains("cpu_cores"),
        "{}",
        usage.text
    );

    // It cannot run anywhere: waiting tells so at once or when the time is over, not later.
    let path = format!("/operations/{operation}?wait=200ms");
    let waited = rig.get(&path, &alice).await;
    assert_eq!(waited.data(200)["id"], operation);
}

#[tokio::test]
async fn every_change_leaves_a_record_without_secrets() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "viewer").await;
    let trail = rig.get("/audit?limit=1000", &rig.admin).await;
    let records = trail.data(200).as_array().unwrap();
    let of = |action: &str, name: &str| {
        records
            .iter()
            .filter(|record| record["action"] == action && record["name"] == name)
            .count()
    };
    assert_eq!(of("tenant.create", "acme"), 1, "{}", trail.text);
    assert_eq!(of("user.create", "alice"), 1, "{}", trail.text);
    for secret in [super::support::PASSWORD, "argon2", alice.as_str()] {
        assert!(!trail.text.contains(secret), "{secret}");
    }
    let counts: Vec<u64> = records
        .iter()
        .map(|r| r["place"].as_u64().unwrap())
        .collect();
    assert!(
        counts.is_sorted_by(|a, b| a > b),
        "newest first: {counts:?}"
    );

    let page = rig.get("/audit?limit=2", &rig.admin).await;
    let cursor = page.body["meta"]["next_cursor"].as_str().unwrap();
    let next = rig
        .get(&format!("/audit?limit=2&cursor={cursor}"), &rig.admin)
        .await;
    assert_eq!(next.data(200)[0]["place"], counts[2]);
}

#[tokio::test]
async fn the_cluster_tells_of_itself_and_verifies() {
    let rig = Rig::start().await;
    rig.tenant_with("acme", "alice", "developer").await;
    let verified = rig.get("/verify", &rig.admin).await;
    assert_eq!(
        verified.data(200)["divergences"],
        json!([]),
        "{}",
        verified.text
    );
    let status = rig.get("/status", &rig.admin).await;
    let data = status.data(200);
    assert_eq!(data["leader"], data["controllers"][0]["name"]);
    assert_eq!(data["controllers"][0]["lag"], 0);
    let members = rig.get("/controllers", &rig.admin).await;
    assert_eq!(members.data(200)[0]["member"]["is_leader"], true);
    let capacity = rig.get("/capacity", &rig.admin).await;
    assert_eq!(capacity.data(200)["groups"], Value::Array(Vec::new()));
    let catalogue = rig.get("/permissions", &rig.admin).await;
    assert!(catalogue.text.contains("\"virtual_machine.execute\""));
}

#[tokio::test]
async fn a_vm_that_fits_nowhere_is_asked_for_once_waited_for_and_given_up() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "developer").await;
    let spec = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1});
    let create = || {
        let ask = rig
            .ask("POST", "/vms")
            .token(&alice)
            .header("idempotency-key", "one");
        ask.json(&json!({"name": "web-1", "spec": spec})).send()
    };
    let first = create().await;
    let again = create().await;
    let operation = first.data(202)["operation"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(again.data(202)["operation"]["id"], operation.as_str());
    assert_eq!(
        again.data(202)["object"]["id"],
        first.data(202)["object"]["id"]
    );
    let vms = rig.get("/vms", &alice).await;
    assert_eq!(vms.data(200).as_array().unwrap().len(), 1);

    let begun = tokio::time::Instant::now();
    let path = format!("/operations/{operation}?wait=30s");
    let cancel = format!("/operations/{operation}/cancel");
    let (waited, cancelled) = tokio::join!(
        rig.get(&path, &alice),
        rig.ask("POST", &cancel).token(&alice).send(),
    );
    cancelled.data(200);
    waited.data(200);
    assert!(
        begun.elapsed().as_secs() < 20,
        "the wait ended with the operation"
    );
    let after = rig.get(&path, &alice).await;
    assert_eq!(after.data(200)["status"]["state"], "cancelled");
    assert_eq!(rig.get("/vms/web-1", &alice).await.error(404), "not_found");
    let usage = rig.get("/tenants/acme/usage", &alice).await;
    assert_eq!(
        usage.data(200)["accounts"]["vms"]["used"],
        0,
        "{}",
        usage.text
    );
}

/// A trial meets every rule that the change would meet, and leaves nothing.
#[tokio::test]
async fn a_trial_is_checked_like_the_change_and_changes_nothing() {
    let rig = Rig::start().await;
    rig.make("/racks", json!({"name": "taken", "spec": {}}))
        .await;
    let index = rig.get("/racks", &rig.admin).await.body["meta"]["index"].clone();
    let digest = rig.app.node().image().digest();
    let tries = |method: &'static str, path: &str, body: Value| {
        rig.ask(method, path)
            .token(&rig.admin)
            .json(&body)
            .header("idempotency-key", "k1")
            .send()
    };
    let made = tries(
        "POST",
        "/racks?dry_run=true",
        json!({"name": "new", "spec": {"as_number": 7}}),
    )
    .await;
    assert_eq!(made.data(200)["spec"]["as_number"], 7);
    assert_eq!(made.body["meta"]["dry_run"], true);
    assert!(!made.headers.contains_key("location") && !made.headers.contains_key("etag"));
    let changed = tries(
        "PATCH",
        "/racks/taken?dry_run=true",
        json!({"spec": {"bgp_number": 9}}),
    )
    .await;
    assert_eq!(changed.data(200)["spec"]["bgp_number"], 9);
    let deleted = tries("DELETE", "/racks/taken?dry_run=true", json!({})).await;
    assert_eq!(deleted.data(200)["deleted"], true);
    let refused = tries(
        "POST",
        "/racks?dry_run=true",
        json!({"name": "taken", "spec": {}}),
    )
    .await;
    assert_eq!(refused.error(409), "already_exists");
    let refused = tries("PATCH", "/racks/none?dry_run=true", json!({"spec": {}})).await;
    assert_eq!(refused.error(404), "not_found");

    let after = rig.get("/racks", &rig.admin).await;
    assert_eq!(after.data(200).as_array().unwrap().len(), 1);
    assert_eq!(after.data(200)[0]["spec"].get("bgp_number"), None);
    assert_eq!(
        (
            &after.body["meta"]["index"],
            rig.app.node().image().digest()
        ),
        (&index, digest)
    );
    // What cannot be tried is not done by accident either.
    for path in ["/auth/logout?dry_run=true", "/api_tokens?dry_run=true"] {
        let refused = tries("POST", path, json!({})).await;
        assert_eq!(refused.error(400), "invalid", "{path}");
    }
    rig.get("/auth/whoami", &rig.admin).await.data(200);
}
