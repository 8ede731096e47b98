//! What Prometheus is told whom to ask.

use serde_json::json;
use virtflow_logic::{Announce, controller_announce};
use virtflow_model::kinds::controller::ControllerSpec;
use virtflow_types::{RequestId, Timestamp};

use super::support::Rig;

const PATH: &str = "/discovery/prometheus";

#[tokio::test]
async fn targets_come_without_an_envelope_and_by_role() {
    let rig = Rig::start().await;
    let announced = Announce {
        store_id: rig.app.store_id(),
        name: "c1".into(),
        spec: ControllerSpec {
            node_id: 1,
            key_fingerprint: "0".repeat(64),
            peer_address: "10.0.0.1:8445".into(),
            api_address: "10.0.0.1:8443".into(),
            agent_address: "10.0.0.1:8444".into(),
        },
        version: "0.1.0".into(),
        supports: 1,
        status_address: "10.0.0.1:9440".into(),
    };
    let (request_id, now) = (RequestId::generate(), Timestamp::now());
    let decided = rig.app.node().decide(move |head| {
        controller_announce(head, request_id, now, &announced).map(|changeset| (changeset, ()))
    });
    decided.await.unwrap();

    let expected = json!([{
        "targets": ["10.0.0.1:9440"],
        "labels": {
            "__scheme__": "https", "role": "controller", "controller": "c1",
            "controller_id": rig.app.store_id(),
        },
    }]);
    for path in [PATH.to_owned(), format!("{PATH}?role=controller")] {
        let told = rig.get(&path, &rig.admin).await;
        assert_eq!((told.status, &told.body), (200, &expected), "{path}");
        assert_eq!(told.headers["content-type"], "application/json");
    }
    let none = rig.get(&format!("{PATH}?role=agent"), &rig.admin).await;
    assert_eq!((none.status, none.text.as_str()), (200, "[]"));
}

#[tokio::test]
async fn a_role_that_is_none_is_named_with_those_there_are() {
    let rig = Rig::start().await;
    let refused = rig.get(&format!("{PATH}?role=host"), &rig.admin).await;
    assert_eq!(refused.error(400), "invalid");
    let problem = &refused.body["error"]["fields"][0];
    assert_eq!(
        problem,
        &json!({"field": "role", "problem": "`host` is none of controller, agent"})
    );
}
