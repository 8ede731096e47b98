//! The verbs of addresses: given, tried, kept back, given back.

use serde_json::{Value, json};

use super::support::{Reply, Rig};

async fn post(rig: &Rig, path: &str, body: Value) -> Reply {
    let ask = rig.ask("POST", path).token(&rig.admin).json(&body);
    ask.send().await
}

#[tokio::test]
async fn an_address_goes_to_a_vm_and_back() {
    let rig = Rig::start().await;
    rig.tenant_with("acme", "alice", "tenant_admin").await;
    rig.make("/data_centers", json!({"name": "dc", "spec": {}}))
        .await;
    let pool = json!({"data_center": "dc", "first_address": "203.0.113.10", "last_address": "203.0.113.11"});
    rig.make("/ip_pools", json!({"name": "public", "spec": pool}))
        .await;
    let vm = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1});
    let vm = json!({"name": "web", "tenant": "acme", "spec": vm});
    post(&rig, "/vms", vm).await.data(202);

    let tried = post(
        &rig,
        "/ip_pools/public/allocate?dry_run=true",
        json!({"vm": "web"}),
    )
    .await;
    assert_eq!(tried.data(200)["spec"]["address"], "203.0.113.10");
    assert_eq!(rig.get("/ips", &rig.admin).await.data(200), &json!([]));
    let given = post(&rig, "/ip_pools/public/allocate", json!({"vm": "web"})).await;
    let id = given.data(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(given.data(201)["status"]["state"], "allocated");
    let next = post(&rig, "/ip_pools/public/allocate", json!({"vm": "web"})).await;
    assert_eq!(next.data(201)["spec"]["address"], "203.0.113.11");
    let full = post(&rig, "/ip_pools/public/allocate", json!({"vm": "web"})).await;
    assert_eq!(full.error(409), "no_capacity");

    let verb =
        async |verb: &str| post(&rig, &format!("/ip_addresses/{id}/{verb}"), json!({})).await;
    assert_eq!(verb("freeze").await.data(200)["status"]["state"], "frozen");
    assert_eq!(verb("release").await.error(409), "conflict");
    assert_eq!(
        verb("unfreeze").await.data(200)["status"]["state"],
        "allocated"
    );
    let tried = verb("release?dry_run=true").await;
    assert_eq!(tried.data(200)["status"]["state"], "available");
    let there = rig.get(&format!("/ip_addresses/{id}"), &rig.admin).await;
    assert_eq!(there.data(200)["status"]["state"], "allocated");
    assert_eq!(
        verb("release").await.data(200)["status"]["state"],
        "available"
    );
    assert_eq!(
        verb("reserve").await.data(200)["status"]["state"],
        "reserved"
    );
}
