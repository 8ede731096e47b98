//! Where an upgrade stands, and its end, as a client meets them.

use serde_json::{Value, json};
use virtflow_logic::{Announce, controller_announce};
use virtflow_model::kinds::controller::ControllerSpec;
use virtflow_types::{ObjectId, RequestId, Timestamp};

use super::support::{Reply, Rig};

/// A controller says what it supports, as if it had been started with another release.
async fn announce(rig: &Rig, store_id: ObjectId, n: u64, supports: u32) {
    let announced = Announce {
        store_id,
        name: format!("c{n}"),
        spec: ControllerSpec {
            node_id: n,
            key_fingerprint: format!("{n:064}"),
            peer_address: format!("10.0.0.{n}:8445"),
            api_address: format!("10.0.0.{n}:8443"),
            agent_address: format!("10.0.0.{n}:8444"),
        },
        version: format!("0.{supports}.0"),
        supports,
        status_address: String::new(),
    };
    let (request_id, now) = (RequestId::generate(), Timestamp::now());
    let decided = rig.app.node().decide(move |head| {
        controller_announce(head, request_id, now, &announced).map(|changeset| (changeset, ()))
    });
    decided.await.unwrap();
}

async fn finish(rig: &Rig, query: &str) -> Reply {
    let path = format!("/upgrade/finish{query}");
    let ask = rig.ask("POST", &path).token(&rig.admin);
    ask.json(&json!({})).send().await
}

#[tokio::test]
async fn a_group_of_one_release_has_nothing_to_end() {
    let rig = Rig::start().await;
    let status = rig.get("/upgrade", &rig.admin).await;
    let told = status.data(200);
    let [controller] = told["controllers"].as_array().unwrap().as_slice() else {
        panic!("{told}");
    };
    assert_eq!(
        (&told["cluster_version"], &told["raise_to"], &told["blocks"]),
        (&json!(1), &Value::Null, &json!([]))
    );
    for (field, value) in [
        ("name", json!("c1")),
        ("version", json!(crate::app::VERSION)),
        ("supports", json!(1)),
        ("seen", json!(true)),
        ("role", json!("voter")),
        ("is_leader", json!(true)),
        ("lag", json!(0)),
    ] {
        assert_eq!(controller[field], value, "{field}: {controller}");
    }
    for _ in 0..2 {
        let ended = finish(&rig, "").await;
        assert_eq!(ended.data(200), &json!({"before": 1, "cluster_version": 1}));
    }
}

#[tokio::test]
async fn an_end_in_the_middle_is_refused_with_who_is_in_the_way_and_a_trial_raises_nothing() {
    let rig = Rig::start().await;
    let second = ObjectId::generate();
    announce(&rig, rig.app.store_id(), 1, 2).await;
    announce(&rig, second, 2, 1).await;
    let told = rig.get("/upgrade", &rig.admin).await;
    assert_eq!(told.data(200)["blocks"][0]["controller"], "c2");
    assert_eq!(told.data(200)["raise_to"], Value::Null);
    for query in ["", "?dry_run=true"] {
        let refused = finish(&rig, query).await;
        assert_eq!(refused.error(409), "conflict");
        let error = &refused.body["error"];
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("c2: it supports"),
            "{error}"
        );
        assert_eq!(error["details"]["blocks"][0]["controller"], "c2");
    }
    announce(&rig, second, 2, 2).await;
    assert_eq!(
        rig.get("/upgrade", &rig.admin).await.data(200)["raise_to"],
        2
    );
    let tried = finish(&rig, "?dry_run=true").await;
    assert_eq!(tried.data(200), &json!({"before": 1, "cluster_version": 2}));
    assert_eq!(tried.body["meta"]["dry_run"], true);
    assert_eq!(rig.app.node().image().cluster_version(), 1);
}
