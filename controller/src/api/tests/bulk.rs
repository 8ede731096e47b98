//! Many objects in one request, and the paths of the first descriptions.

use axum::http::Method;
use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_types::ObjectId;

use super::lists::names;
use super::rows::{self, Row};
use super::support::{Reply, Rig};
use crate::api::aliases::ALIASES;

fn statuses(reply: &Reply) -> Vec<u64> {
    let items = reply.data(200)["items"].as_array().unwrap().iter();
    items.map(|item| item["status"].as_u64().unwrap()).collect()
}

async fn racks(rig: &Rig) -> Vec<String> {
    names(&rig.get("/racks", &rig.admin).await)
}

#[tokio::test]
async fn each_of_many_has_its_own_outcome_once() {
    let rig = Rig::start().await;
    rig.make("/racks", json!({"name": "taken"})).await;
    let body = json!({"items": [
        {"name": "a", "spec": {"as_number": 1}},
        {"name": "taken"},
        {"name": "b", "colour": "red"},
        {"name": "c", "spec": {"data_center": "nowhere"}},
        {"name": "a"},
        {"name": "d"},
    ]});
    let send = async |method: &'static str, path: &str, key: &str, body: &Value| {
        let ask = rig.ask(method, path).token(&rig.admin).json(body);
        ask.header("idempotency-key", key).send().await
    };
    let tried = send("POST", "/bulk/racks?dry_run=true", "t", &body).await;
    assert_eq!(tried.body["meta"]["dry_run"], true);
    // Nothing of the first was there for the fifth: each is tried alone.
    assert_eq!(statuses(&tried), [200, 409, 400, 404, 200, 200]);
    assert_eq!(racks(&rig).await, ["taken"]);

    let made = send("POST", "/bulk/racks", "k", &body).await;
    assert_eq!(statuses(&made), [201, 409, 400, 404, 409, 201]);
    assert_eq!(made.data(200)["done"], 2);
    assert_eq!(made.data(200)["failed"], 4);
    let items = &made.data(200)["items"];
    assert_eq!(items[0]["data"]["spec"]["as_number"], 1);
    assert_eq!(items[1]["error"]["code"], "already_exists");
    assert_eq!(items[5]["data"]["name"], "d");
    assert_eq!(racks(&rig).await, ["taken", "a", "d"]);

    // Again under the same key: what was made is told, and made no second time.
    let again = send("POST", "/bulk/racks", "k", &body).await;
    assert_eq!(again.data(200)["items"][0]["replayed"], true);
    assert_eq!(
        again.data(200)["items"][0]["data"]["id"],
        items[0]["data"]["id"]
    );
    assert_eq!(racks(&rig).await, ["taken", "a", "d"]);
    let other = json!({"items": [{"name": "x"}, {"name": "y"}]});
    let reused = send("POST", "/bulk/racks", "k", &other).await;
    // The key of the first was used; that of the second was not, as nothing came of it.
    assert_eq!(statuses(&reused), [409, 201]);

    for bad in [
        json!({"items": []}),
        json!({"items": vec![json!({}); 101]}),
        json!({}),
        json!({"items": 5}),
    ] {
        let refused = send("POST", "/bulk/racks", "b", &bad).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
    }
    let alone = send(
        "POST",
        "/bulk/users",
        "u",
        &json!({"items": [{"name": "u", "password": "a long enough one"}]}),
    )
    .await;
    assert_eq!(statuses(&alone), [400]);
    let refused = send("POST", "/bulk/api_tokens", "t", &json!({"items": [{}]})).await;
    assert_eq!(refused.error(404), "not_found");
}

#[tokio::test]
async fn all_of_many_or_none_are_done_and_once() {
    let rig = Rig::start().await;
    rig.make("/racks", json!({"name": "taken"})).await;
    let send = async |method: &'static str, path: &str, key: &str, body: &Value| {
        let ask = rig.ask(method, path).token(&rig.admin).json(body);
        ask.header("idempotency-key", key).send().await
    };
    let path = "/bulk/racks?atomic=true";
    let body = json!({"items": [
        {"name": "a"},
        {"name": "taken"},
        {"name": "b", "colour": "red"},
        {"name": "c"},
        {"name": "a"},
    ]});
    for path in [path, "/bulk/racks?atomic=true&dry_run=true"] {
        let refused = send("POST", path, "k", &body).await;
        assert_eq!(refused.error(409), "already_exists");
        let error = &refused.body["error"];
        assert_eq!(
            error["message"],
            "nothing was done: item 1: a rack named `taken` exists already, and 2 others cannot be done either"
        );
        let items = error["details"]["items"].as_array().unwrap().iter();
        let told: Vec<Value> = items
            .map(|item| json!([item["item"], item["status"], item["error"]["code"]]))
            .collect();
        assert_eq!(
            json!(told),
            json!([
                [1, 409, "already_exists"],
                [2, 400, "invalid"],
                [4, 409, "already_exists"]
            ])
        );
        assert_eq!(racks(&rig).await, ["taken"]);
    }

    // One may name another: versions of an image, of which the last is the latest in the end.
    let image = rig.make("/images", json!({"name": "debian"})).await.id();
    let version = |name: &str| {
        json!({"name": name, "spec": {
            "image": image, "sha256": "ab".repeat(32), "size_bytes": 1, "source_url": "https://images.example/1",
        }})
    };
    let body = json!({"items": [version("1"), version("2"), version("3")]});
    let of_versions = "/bulk/image_versions?atomic=true";
    let tried = send("POST", &format!("{of_versions}&dry_run=true"), "v", &body).await;
    assert_eq!(tried.data(200)["done"], 3);
    assert_eq!(tried.body["meta"]["dry_run"], true);
    let made = send("POST", of_versions, "v", &body).await;
    assert_eq!(statuses(&made), [201, 201, 201]);
    let latest = |reply: &Reply| -> Vec<Value> {
        let items = reply.data(200)["items"].as_array().unwrap().iter();
        items
            .map(|item| item["data"]["spec"]["latest"].clone())
            .collect()
    };
    assert_eq!(latest(&made), [false, false, true]);
    let again = send("POST", of_versions, "v", &body).await;
    for at in 0..3 {
        let item = &again.data(200)["items"][at];
        assert_eq!(item["replayed"], true);
        let of_made = &made.data(200)["items"][at]["data"];
        assert_eq!(item["data"]["id"], of_made["id"]);
        assert_eq!(item["data"]["generation"], of_made["generation"]);
    }
    // Without `atomic` it is another request.
    let other = send("POST", "/bulk/image_versions", "v", &body).await;
    assert_eq!(statuses(&other), [409, 409, 409]);
    let listed = rig.get("/image_versions", &rig.admin).await;
    assert_eq!(names(&listed), ["1", "2", "3"]);

    // Every one of them leaves its record.
    let records = rig.get("/audit?limit=1000", &rig.admin).await;
    let of_making = records.data(200).as_array().unwrap().iter();
    let of_making = of_making.filter(|record| record["action"] == "image_version.create");
    assert_eq!(of_making.count(), 3);

    let delete = json!({"ids": ["1", "2", "none"]});
    let refused = send("DELETE", of_versions, "d", &delete).await;
    assert_eq!(refused.error(404), "not_found");
    assert_eq!(
        names(&rig.get("/image_versions", &rig.admin).await).len(),
        3
    );
    // Its latest goes last, which in this order it does.
    let delete = json!({"ids": ["3", "1", "2"]});
    let refused = send("DELETE", of_versions, "d", &delete).await;
    assert_eq!(refused.error(409), "in_use");
    let delete = json!({"ids": ["1", "2", "3"]});
    let gone = send("DELETE", of_versions, "d", &delete).await;
    assert_eq!(statuses(&gone), [200, 200, 200]);
    let verdict = rig.get("/verify", &rig.admin).await;
    assert_eq!(verdict.data(200)["divergences"], json!([]));
}

#[tokio::test]
async fn what_is_over_a_quota_keeps_all_from_being_made() {
    let rig = Rig::start().await;
    let quota = json!({"quota": {"disks": 2}});
    rig.make("/tenants", json!({"name": "acme", "spec": quota}))
        .await;
    let disk =
        |n: usize| json!({"name": format!("d{n}"), "tenant": "acme", "spec": {"size_gib": 1}});
    let send = async |count: usize| {
        let items: Vec<Value> = (0..count).map(disk).collect();
        let ask = rig.ask("POST", "/bulk/private_data_disks?atomic=true");
        ask.token(&rig.admin)
            .json(&json!({ "items": items }))
            .send()
            .await
    };
    let refused = send(3).await;
    assert_eq!(refused.body["error"]["code"], "quota_exceeded");
    assert_eq!(refused.body["error"]["details"]["items"][0]["item"], 2);
    let there = rig.get("/private_data_disks", &rig.admin).await;
    assert_eq!(there.data(200), &json!([]));
    assert_eq!(statuses(&send(2).await), [201, 201]);

    // What is too much for one step is told, and not tried.
    let doc = |n: usize| {
        let text = "x".repeat(8000);
        json!({"name": format!("i{n}"), "spec": {"body": text, "title": "t"}})
    };
    let items: Vec<Value> = (0..90).map(doc).collect();
    let ask = rig.ask("POST", "/bulk/docs?atomic=true").token(&rig.admin);
    let reply = ask.json(&json!({ "items": items })).send().await;
    assert_eq!(
        reply.body["error"]["code"], "limit_exceeded",
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn nothing_is_deleted_by_a_slip_of_the_finger() {
    let rig = Rig::start().await;
    rig.make("/data_centers", json!({"name": "dc1"})).await;
    for (name, dc) in [("a", "dc1"), ("b", "dc1"), ("c", "dc1")] {
        let spec = json!({"data_center": dc});
        rig.make("/racks", json!({"name": name, "spec": spec}))
            .await;
    }
    rig.make("/racks", json!({"name": "d"})).await;
    let delete = async |path: &str, body: Option<Value>| {
        let ask = rig.ask("DELETE", path).token(&rig.admin);
        match body {
            Some(body) => ask.json(&body).send().await,
            None => ask.send().await,
        }
    };
    for (path, code) in [
        ("/bulk/racks", "invalid"),
        ("/bulk/racks?confirm=4", "invalid"),
        ("/bulk/racks?data_center=dc1", "invalid"),
        ("/bulk/racks?data_center=dc1&confirm=x", "invalid"),
        ("/bulk/racks?data_center=dc1&confirm=2", "conflict"),
        ("/bulk/racks?data_center=dc1&confirm=4", "conflict"),
    ] {
        let refused = delete(path, None).await;
        assert_eq!(refused.body["error"]["code"], code, "{path}");
    }
    let tried = delete("/bulk/racks?data_center=dc1&dry_run=true", None).await;
    assert_eq!(statuses(&tried), [200, 200, 200]);
    assert_eq!(racks(&rig).await, ["a", "b", "c", "d"]);
    let by_ids = delete("/bulk/racks", Some(json!({"ids": ["d", "nothing"]}))).await;
    assert_eq!(statuses(&by_ids), [200, 404]);
    let both = delete("/bulk/racks?data_center=dc1", Some(json!({"ids": ["a"]}))).await;
    assert_eq!(both.error(400), "invalid");
    let gone = delete("/bulk/racks?data_center=dc1&confirm=3", None).await;
    assert_eq!(statuses(&gone), [200, 200, 200]);
    assert!(racks(&rig).await.is_empty());
}

#[tokio::test]
async fn of_many_only_what_one_may_is_done() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "tenant_admin").await;
    rig.tenant_with("rival", "bob", "tenant_admin").await;
    let made = rig
        .make("/templates", json!({"name": "theirs", "tenant": "rival"}))
        .await;
    let body = json!({"items": [{"name": "mine"}, {"name": "other", "tenant": "rival"}]});
    let ask = rig.ask("POST", "/bulk/templates").token(&alice).json(&body);
    assert_eq!(statuses(&ask.send().await), [201, 404]);
    let never = "01a21000-0000-7000-8000-000000000001";
    let body = json!({"ids": [made.id(), never]});
    let ask = rig
        .ask("DELETE", "/bulk/templates")
        .token(&alice)
        .json(&body);
    let refused = ask.send().await;
    let items = &refused.data(200)["items"];
    let there = items[0].to_string().replace(&made.id(), never);
    assert_eq!(there, items[1].to_string());
}

/// Each is answered as the path that it stands for, with a slash at its end too.
#[tokio::test]
async fn the_first_paths_are_answered_by_the_handlers_of_the_others() {
    let rig = Rig::start().await;
    for alias in ALIASES {
        for path in alias.paths() {
            let method = match alias.method {
                Method::GET => "GET",
                Method::PUT => "PUT",
                Method::DELETE => "DELETE",
                _ => "POST",
            };
            let send = async |path: &str| {
                let path = path.replace("{id}", "none");
                let ask = rig.ask(method, &path).token(&rig.admin);
                ask.json(&json!({})).send().await
            };
            let (one, other) = (send(&path).await, send(alias.stands_for).await);
            assert_eq!(one.status, other.status, "{path}: {}", one.text);
            for part in ["data", "error", "status"] {
                assert_eq!(one.body[part], other.body[part], "{path}");
            }
            assert_ne!(one.body["error"]["message"], "no such path", "{path}");
        }
    }
    let system = json!({"spec": {"scope": "genai.policy", "schema": {"models": {"merge": "subset"}}, "values": {"models": ["a", "b"]}}});
    let made = rig.make("/configs", system).await;
    assert_eq!(made.data(201)["kind"], "system_config");
    rig.make("/tenants", json!({"name": "acme"})).await;
    let tenant =
        json!({"tenant": "acme", "spec": {"scope": "genai.policy", "values": {"models": ["a"]}}});
    let made = rig.make("/configs", tenant).await;
    assert_eq!(made.data(201)["kind"], "tenant_config");
    let count = async |path: &str| {
        rig.get(path, &rig.admin)
            .await
            .data(200)
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("/configs/system?scope=genai.policy").await, 1);
    assert_eq!(count("/configs/system?scope=genai.tools").await, 0);
    assert_eq!(count("/configs/tenant/acme?scope=genai.policy").await, 1);
    let path = format!("/configs/{}", made.id());
    let spec = json!({"spec": {"scope": "genai.policy", "values": {"models": ["b"]}}});
    let put = rig
        .ask("PUT", &path)
        .token(&rig.admin)
        .json(&spec)
        .send()
        .await;
    assert_eq!(put.data(200)["spec"]["values"]["models"], json!(["b"]));
    rig.ask("DELETE", &path)
        .token(&rig.admin)
        .send()
        .await
        .data(200);
    assert_eq!(rig.get(&path, &rig.admin).await.error(404), "not_found");
}

/// What is done to a set is done to each of its VMs, with what the asker may do to it; what nobody of them takes is
/// refused.
#[tokio::test]
async fn what_is_done_to_a_set_is_done_to_each_of_its_vms() {
    let rig = Rig::start().await;
    let dev = rig.tenant_with("acme", "dev", "developer").await;
    let other = rig.tenant_with("globex", "boss", "tenant_admin").await;
    let post = async |token: &str, path: &str, body: Value| {
        rig.ask("POST", path).token(token).json(&body).send().await
    };
    let vm = |name: &str| json!({"name": name, "spec": {"cpu_cores": 1, "memory_mib": 64, "storage_gib": 1}});
    for name in ["a", "b"] {
        post(&dev, "/vms", vm(name)).await.data(202);
    }
    post(&dev, "/instance_sets", json!({"name": "s", "spec": {}}))
        .await
        .data(201);
    let path = "/instance_sets/s/snapshot";
    let body = json!({"name": "night"});
    let empty = post(&dev, path, body.clone()).await;
    assert_eq!(
        (&empty.data(200)["done"], &empty.data(200)["failed"]),
        (&json!(0), &json!(0))
    );
    for name in ["a", "b"] {
        let member = json!({"parent": "s", "spec": {"vm": name}});
        post(&dev, "/instance_set_members", member).await.data(201);
    }
    let tried = post(&dev, &format!("{path}?dry_run=true"), body.clone()).await;
    assert_eq!(tried.data(200)["done"], 2);
    let snapshots = async || {
        let all = rig.get("/snapshots", &dev).await;
        all.data(200).as_array().unwrap().len()
    };
    assert_eq!(snapshots().await, 0);
    let one = json!({"name": "night", "spec": {"vm": "b"}});
    post(&dev, "/snapshots", one).await.data(201);
    let some = post(&dev, path, body.clone()).await;
    assert_eq!(statuses(&some), [201, 409]);
    assert_eq!(snapshots().await, 2);
    let none = post(&dev, path, body.clone()).await;
    assert_eq!(none.error(409), "already_exists");
    assert_eq!(
        post(&other, path, body.clone()).await.error(404),
        "not_found"
    );
    assert_eq!(post(&dev, path, json!({})).await.error(400), "invalid");

    // What has a host for itself is in the set, too, and nothing is there that could be copied.
    let acme = rig.get("/tenants/acme", &rig.admin).await.id();
    let spec = json!({"specification_id": ObjectId::generate(), "rental": "exclusive"});
    let rents = Row::new(Kind::Instance, "whole", spec).tenant(Some(acme.parse().unwrap()));
    rows::put(&rig.app, vec![rents]).await;
    let member = json!({"parent": "s", "spec": {"instance": "whole"}});
    post(&dev, "/instance_set_members", member).await.data(201);
    let mixed = post(&dev, path, json!({"name": "noon"})).await;
    assert_eq!(statuses(&mixed), [201, 201, 409]);
    let refused = &mixed.data(200)["items"][2]["error"]["message"];
    assert!(
        refused.as_str().unwrap().contains("has a host for itself"),
        "{refused}"
    );

    let eye = rig.user("acme", "eye", "viewer").await;
    for verb in ["start", "stop", "snapshot"] {
        let body = if verb == "snapshot" {
            body.clone()
        } else {
            json!({})
        };
        let refused = post(&eye, &format!("/instance_sets/s/{verb}"), body).await;
        assert_eq!(refused.error(403), "forbidden", "{verb}");
    }
}
