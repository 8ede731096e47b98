//! Lists that are narrowed and cut: requirements on labels, chosen fields.

use serde_json::{Value, json};

use virtflow_model::Kind;

use super::rows::{self, Row};
use super::support::{Reply, Rig};

/// Three templates of one tenant, with labels.
async fn templates(rig: &Rig) -> String {
    let alice = rig.tenant_with("acme", "alice", "tenant_admin").await;
    for (name, labels) in [
        ("a", json!({"env": "prod", "tier": "web"})),
        ("b", json!({"env": "test", "tier": "db"})),
        ("c", json!({"tier": "db"})),
    ] {
        let spec = json!({"labels": labels});
        let body = json!({"name": name, "tenant": "acme", "spec": spec});
        rig.make("/templates", body).await;
    }
    alice
}

pub(super) fn names(reply: &Reply) -> Vec<String> {
    let rows = reply.data(200).as_array().unwrap().iter();
    rows.map(|row| row["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn labels_have_to_be_such_and_the_chosen_fields_stand_where_they_stood() {
    let rig = Rig::start().await;
    let alice = templates(&rig).await;
    let by = async |labels: &str| {
        names(
            &rig.get(&format!("/templates?labels={labels}"), &alice)
                .await,
        )
    };
    assert_eq!(by("env%3Dprod").await, ["a"]);
    assert_eq!(by("tier%3Ddb,env").await, ["b"]);
    assert_eq!(by("!env").await, ["c"]);
    assert_eq!(by("env!%3Dprod").await, ["b", "c"]);
    assert_eq!(
        by("env%20in%20(prod,test),tier%20notin%20(db)").await,
        ["a"]
    );
    let refused = rig.get("/templates?labels=a%3Db%3Dc", &alice).await;
    assert_eq!(refused.error(400), "invalid");
    let refused = rig.get("/racks?labels=a", &rig.admin).await;
    assert_eq!(refused.error(400), "invalid");

    let page = rig
        .get(
            "/templates?labels=env&fields=name,spec.labels.env&limit=1",
            &alice,
        )
        .await;
    let chosen = json!([{"name": "a", "spec": {"labels": {"env": "prod"}}}]);
    assert_eq!(page.data(200), &chosen);
    let cursor = page.body["meta"]["next_cursor"].as_str().unwrap();
    // What is shown of the objects is no part of the question.
    let next = format!("/templates?labels=env&fields=name&cursor={cursor}");
    assert_eq!(
        rig.get(&next, &alice).await.data(200),
        &json!([{"name": "b"}])
    );
    let one = rig.get("/templates/b?fields=spec.labels", &alice).await;
    let labels = json!({"spec": {"labels": {"env": "test", "tier": "db"}}});
    assert_eq!(one.data(200), &labels);
    let then = rig.get("/templates/b?fields=name&at=100000", &alice).await;
    assert_eq!(then.error(400), "invalid");
    let index = one.body["meta"]["index"].as_u64().unwrap();
    let then = format!("/templates/b?fields=spec.labels&at={index}");
    assert_eq!(rig.get(&then, &alice).await.data(200), &labels);
    for path in [
        "/templates?fields=colour",
        "/templates/b?fields=status.x",
        "/templates?fields=&watch=true",
    ] {
        let refused = rig.get(path, &alice).await;
        assert_eq!(refused.error(400), "invalid");
        assert_eq!(refused.body["error"]["fields"][0]["field"], "fields");
    }
    rig.ask("DELETE", "/templates/c")
        .token(&rig.admin)
        .send()
        .await
        .data(200);
    let gone = rig.get("/templates?deleted=true&fields=name", &alice).await;
    assert_eq!(gone.data(200), &json!([{"name": "c"}]) as &Value);
}

#[tokio::test]
async fn hosts_are_found_by_how_they_fare() {
    let rig = Rig::start().await;
    let group = rig
        .make("/baremetal_groups", json!({"name": "g1", "spec": {}}))
        .await
        .id();
    let host = |name: &str, status: Value| {
        let spec = json!({"serial_number": name, "group_id": group});
        Row::new(Kind::Baremetal, name, spec).status(status)
    };
    let full = json!({"liveness": "online", "health": "critical", "health_since": "2026-11-23T17:00:00Z",
        "health_reasons": ["storage_full"]});
    let hosts = vec![
        host("a", json!({"liveness": "online", "health": "healthy"})),
        host("b", full.clone()),
        // Silence takes nothing back.
        host("c", json!({"liveness": "offline", "health": "critical"})),
        host("d", json!({})),
    ];
    rows::put(&rig.app, hosts).await;
    for (question, found) in [
        ("health=critical", &["b", "c"][..]),
        ("health=critical&state=online", &["b"]),
        ("health=critical&sort=-name", &["c", "b"]),
        ("health=unknown", &["d"]),
        ("health=unknown&sort=name", &["d"]),
        ("health=warning", &[]),
    ] {
        let reply = rig.get(&format!("/hosts?{question}"), &rig.admin).await;
        assert_eq!(names(&reply), found, "{question}");
    }
    let refused = rig.get("/hosts?health=ill", &rig.admin).await;
    assert_eq!(refused.error(400), "invalid");
    let refused = rig.get("/racks?health=healthy", &rig.admin).await;
    assert_eq!(refused.error(400), "invalid");
    let one = rig.get("/hosts/b", &rig.admin).await;
    for field in ["health", "health_since", "health_reasons"] {
        assert_eq!(one.data(200)["status"][field], full[field], "{field}");
    }
    let capacity = rig.get("/capacity", &rig.admin).await;
    let told = &capacity.data(200)["groups"][0]["hosts"][1];
    assert_eq!(told["health_reasons"], full["health_reasons"]);
}
