//! What was: each version with who made it, the object at a moment, who set which field, what is no more.

use serde_json::{Value, json};

use super::support::Rig;

async fn patch(rig: &Rig, path: &str, token: &str, spec: Value) -> u64 {
    let body = json!({"spec": spec});
    let reply = rig.ask("PATCH", path).token(token).json(&body).send().await;
    reply.data(200);
    reply.body["meta"]["index"].as_u64().unwrap()
}

#[tokio::test]
async fn an_object_has_a_past_that_says_who_did_what() {
    let rig = Rig::start().await;
    let made = rig
        .make(
            "/racks",
            json!({"name": "r1", "spec": {"as_number": 1, "description": "first"}}),
        )
        .await;
    let id = made.id();
    let first = made.body["meta"]["index"].as_u64().unwrap();
    rig.make(
        "/users",
        json!({"name": "olga", "password": super::support::PASSWORD}),
    )
    .await;
    let spec = json!({"subject": "olga", "role": "operator", "scope": "system"});
    rig.make("/role_bindings", json!({"spec": spec})).await;
    let olga = rig.log_in("olga", super::support::PASSWORD).await;
    let second = patch(&rig, "/racks/r1", &olga, json!({"as_number": 2})).await;
    let third = patch(&rig, "/racks/r1", &rig.admin, json!({"bgp_number": 3})).await;

    let history = rig.get("/racks/r1/history", &rig.admin).await;
    let versions: Vec<(u64, u64, bool)> = history
        .data(200)
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["version"].as_u64().unwrap(),
                row["change"]["index"].as_u64().unwrap(),
                row["deleted"] == true,
            )
        })
        .collect();
    assert_eq!(
        versions,
        [(3, third, false), (2, second, false), (1, first, false)]
    );
    assert_eq!(history.data(200)[1]["names"]["updated_by"], "olga");
    let page = rig
        .get("/racks/r1/history?limit=1&cursor=3", &rig.admin)
        .await;
    assert_eq!(
        (
            &page.data(200)[0]["version"],
            &page.body["meta"]["next_cursor"]
        ),
        (&json!(2), &json!("2"))
    );

    for (at, number) in [
        (first, json!(1)),
        (second - 1, json!(1)),
        (second, json!(2)),
        (third, json!(2)),
    ] {
        let then = rig.get(&format!("/racks/r1?at={at}"), &rig.admin).await;
        assert_eq!(then.data(200)["spec"]["as_number"], number, "at {at}");
    }
    let time = history.data(200)[2]["change"]["at"]
        .as_str()
        .unwrap()
        .to_owned();
    rig.get(&format!("/racks/{id}?at={time}"), &rig.admin)
        .await
        .data(200);
    let early = rig
        .get(&format!("/racks/r1?at={}", first - 1), &rig.admin)
        .await;
    assert_eq!(early.error(404), "not_found");

    let blame = rig.get("/racks/r1/blame", &rig.admin).await;
    let set_at = |field: &str| blame.data(200)[field]["change"]["index"].as_u64();
    assert_eq!(set_at("description"), Some(first));
    assert_eq!(set_at("as_number"), Some(second));
    assert_eq!(set_at("bgp_number"), Some(third));
    assert_eq!(blame.data(200)["as_number"]["value"], 2);

    // A field that was set back was set when it came back.
    patch(&rig, "/racks/r1", &olga, json!({"description": "other"})).await;
    let back = patch(&rig, "/racks/r1", &olga, json!({"description": "first"})).await;
    let blame = rig.get("/racks/r1/blame", &rig.admin).await;
    assert_eq!(
        blame.data(200)["description"]["change"]["index"].as_u64(),
        Some(back)
    );

    // When it is gone its past is still there, by id.
    rig.ask("DELETE", "/racks/r1")
        .token(&rig.admin)
        .send()
        .await
        .data(200);
    let gone = rig.get("/racks?deleted=true", &rig.admin).await;
    assert_eq!(gone.data(200).as_array().unwrap().len(), 1);
    assert_eq!(
        (
            &gone.data(200)[0]["id"],
            &gone.data(200)[0]["spec"]["as_number"]
        ),
        (&json!(id), &json!(2))
    );
    assert_eq!(
        rig.get("/racks/r1/history", &rig.admin).await.error(404),
        "not_found"
    );
    let history = rig.get(&format!("/racks/{id}/history"), &rig.admin).await;
    assert_eq!(history.data(200)[0]["deleted"], true);
    rig.get(&format!("/racks/{id}?at={back}"), &rig.admin)
        .await
        .data(200);
    assert_eq!(
        rig.get(&format!("/racks/{id}?at={}", back + 1), &rig.admin)
            .await
            .error(404),
        "not_found"
    );
    assert_eq!(
        set_at("bgp_number"),
        rig.get(&format!("/racks/{id}/blame"), &rig.admin)
            .await
            .data(200)["bgp_number"]["change"]["index"]
            .as_u64()
    );
}

#[tokio::test]
async fn the_past_of_others_reads_as_if_it_had_never_been() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "tenant_admin").await;
    let bob = rig.tenant_with("rival", "bob", "tenant_admin").await;
    let body = json!({"name": "carol", "tenant": "acme", "password": super::support::PASSWORD});
    let id = rig.make("/users", body).await.id();
    let never = "01a21000-0000-7000-8000-000000000001";
    let alike = async |path: &str| {
        let other = rig.get(&format!("/users/{id}{path}"), &bob).await;
        let none = rig.get(&format!("/users/{never}{path}"), &bob).await;
        assert_eq!(other.error(404), "not_found");
        assert_eq!(
            other.without_request_id(),
            none.without_request_id().replace(never, &id)
        );
    };
    for path in ["/history", "/blame", "?at=5"] {
        alike(path).await;
    }
    rig.ask("DELETE", &format!("/users/{id}"))
        .token(&alice)
        .send()
        .await
        .data(200);
    let list = rig.get("/users?deleted=true", &alice).await;
    let gone = list.data(200);
    assert_eq!(gone[0]["id"], json!(id));
    // What is kept of secrets is not in the past either.
    assert!(!gone[0].to_string().contains("argon2"), "{}", gone[0]);
    let history = rig.get(&format!("/users/{id}/history"), &alice).await;
    assert!(!history.text.contains("argon2") && history.text.contains("has_password"));
    for path in ["/history", "/blame", "?at=5"] {
        alike(path).await;
    }
    assert_eq!(
        rig.get("/users?deleted=true", &bob).await.data(200),
        &json!([])
    );
}

#[tokio::test]
async fn a_moment_that_is_none_is_refused() {
    let rig = Rig::start().await;
    rig.make("/racks", json!({"name": "r1", "spec": {}})).await;
    for bad in ["at=yesterday", "at=", "at=999999", "at=5&limit=1"] {
        let refused = rig.get(&format!("/racks/r1?{bad}"), &rig.admin).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
    }
    for bad in [
        "deleted=true&state=active",
        "deleted=maybe",
        "deleted=true&cursor=x",
    ] {
        let refused = rig.get(&format!("/racks?{bad}"), &rig.admin).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
    }
}
