//! Lists as they were, and what lies between two moments.

use serde_json::{Value, json};

use super::lists::names;
use super::support::{PASSWORD, Reply, Rig};

fn index(reply: &Reply) -> u64 {
    reply.body["meta"]["index"].as_u64().unwrap()
}

async fn delete(rig: &Rig, path: &str) -> u64 {
    let gone = rig.ask("DELETE", path).token(&rig.admin).send().await;
    gone.data(200);
    index(&gone)
}

#[tokio::test]
async fn a_list_is_what_it_was() {
    let rig = Rig::start().await;
    let start = index(&rig.get("/racks", &rig.admin).await);
    let one = index(
        &rig.make("/racks", json!({"name": "r1", "spec": {"as_number": 1}}))
            .await,
    );
    let two = index(&rig.make("/racks", json!({"name": "r2"})).await);
    let body = json!({"spec": {"as_number": 2}});
    let changed = rig.ask("PATCH", "/racks/r1").token(&rig.admin).json(&body);
    let changed = index(&changed.send().await);
    let three = index(&rig.make("/racks", json!({"name": "r3"})).await);
    let gone = delete(&rig, "/racks/r2").await;
    let at =
        async |at: u64, more: &str| rig.get(&format!("/racks?at={at}{more}"), &rig.admin).await;
    for (moment, expected) in [
        (start, vec![]),
        (one, vec!["r1"]),
        (two, vec!["r1", "r2"]),
        (changed, vec!["r1", "r2"]),
        (three, vec!["r1", "r2", "r3"]),
        (gone, vec!["r1", "r3"]),
    ] {
        assert_eq!(names(&at(moment, "").await), expected, "{moment}");
    }
    let number = async |moment: u64| at(moment, "").await.data(200)[0]["spec"]["as_number"].clone();
    assert_eq!(number(changed - 1).await, 1);
    assert_eq!(number(changed).await, 2);
    assert_eq!(names(&at(three, "&name=r2").await), ["r2"]);
    assert_eq!(
        at(three, "&fields=name&name=r2").await.data(200),
        &json!([{"name": "r2"}])
    );
    let time = at(two, "").await.data(200)[1]["change"]["at"].clone();
    let then = rig
        .get(&format!("/racks?at={}", time.as_str().unwrap()), &rig.admin)
        .await;
    assert!(names(&then).contains(&"r2".to_owned()));

    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = at(three, &format!("&limit=1{cursor}")).await;
        found.extend(names(&page));
        match page.body["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["r1", "r2", "r3"]);
    for bad in [
        "at=",
        "at=x",
        "at=999999",
        "at=5&cursor=00",
        "at=5&sort=name",
        "at=5&watch=true",
    ] {
        let refused = rig.get(&format!("/racks?{bad}"), &rig.admin).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
    }
}

#[tokio::test]
async fn the_past_is_filtered_as_it_was_and_seen_with_the_rights_of_now() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "tenant_admin").await;
    let bob = rig.tenant_with("rival", "bob", "tenant_admin").await;
    let make = async |tenant: &str, name: &str, env: &str| {
        let spec = json!({"labels": {"env": env}});
        let body = json!({"name": name, "tenant": tenant, "spec": spec});
        index(&rig.make("/templates", body).await)
    };
    make("acme", "a", "prod").await;
    make("rival", "b", "prod").await;
    let then = make("acme", "c", "test").await;
    let body = json!({"spec": {"labels": {"env": "test"}}});
    let change = rig.ask("PATCH", "/templates/a").token(&alice).json(&body);
    change.send().await.data(200);
    delete(&rig, "/templates/c").await;
    let was = async |filter: &str, token: &str| {
        names(
            &rig.get(&format!("/templates?at={then}{filter}"), token)
                .await,
        )
    };
    assert_eq!(was("", &alice).await, ["a", "c"]);
    assert_eq!(was("", &bob).await, ["b"]);
    assert_eq!(was("&labels=env%3Dprod", &alice).await, ["a"]);
    assert_eq!(was("&labels=env%3Dtest", &alice).await, ["c"]);
    assert_eq!(was("&labels=env%3Dprod", &rig.admin).await, ["a", "b"]);

    let now = index(&rig.get("/templates", &rig.admin).await);
    let diff = async |token: &str| {
        let path = format!("/diff?from={then}&to={now}&kind=template");
        rig.get(&path, token).await
    };
    let told = diff(&alice).await;
    let told = told.data(200).as_array().unwrap();
    let what: Vec<(&str, &str)> = told
        .iter()
        .map(|it| (it["change"].as_str().unwrap(), it["name"].as_str().unwrap()))
        .collect();
    assert_eq!(what, [("changed", "a"), ("deleted", "c")]);
    assert_eq!(
        told[0]["fields"],
        json!({"spec.labels.env": {"from": "prod", "to": "test"}})
    );
    assert_eq!(told[0]["last"]["index"], json!(then + 1));
    assert_eq!(diff(&bob).await.data(200), &json!([]));
}

#[tokio::test]
async fn a_comparison_tells_what_was_made_changed_and_deleted() {
    let rig = Rig::start().await;
    rig.make("/racks", json!({"name": "old", "spec": {"as_number": 1}}))
        .await;
    rig.make("/racks", json!({"name": "gone"})).await;
    let from = index(&rig.make("/racks", json!({"name": "same"})).await);
    for number in [2, 3] {
        let body = json!({"spec": {"as_number": number}});
        let change = rig.ask("PATCH", "/racks/old").token(&rig.admin).json(&body);
        change.send().await.data(200);
    }
    rig.make("/data_centers", json!({"name": "dc1"})).await;
    rig.make("/racks", json!({"name": "brief"})).await;
    delete(&rig, "/racks/brief").await;
    delete(&rig, "/racks/gone").await;
    let to = index(&rig.make("/racks", json!({"name": "new"})).await);
    rig.make("/racks", json!({"name": "later"})).await;
    let told = |reply: &Reply| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = reply.data(200).as_array().unwrap().iter();
        rows.map(|row| (text(&row["change"]), text(&row["name"])))
            .collect()
    };
    let expect = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        let rows = rows.iter();
        rows.map(|(change, name)| ((*change).into(), (*name).into()))
            .collect()
    };
    let path = format!("/diff?from={from}&to={to}");
    let racks = rig.get(&format!("{path}&kind=racks"), &rig.admin).await;
    assert_eq!(
        told(&racks),
        expect(&[("changed", "old"), ("deleted", "gone"), ("created", "new")])
    );
    let fields = json!({"spec.as_number": {"from": 1, "to": 3}});
    assert_eq!(racks.data(200)[0]["fields"], fields);
    let one = rig
        .get(&format!("{path}&kind=rack&object=old"), &rig.admin)
        .await;
    assert_eq!(told(&one), expect(&[("changed", "old")]));
    let all = rig.get(&path, &rig.admin).await;
    let all = told(&all);
    assert!(all.contains(&("created".into(), "dc1".into())), "{all:?}");
    assert!(all.contains(&("created".into(), "new".into())), "{all:?}");
    // Page by page it is the same.
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rig
            .get(&format!("{path}&limit=1{cursor}"), &rig.admin)
            .await;
        found.extend(told(&page));
        match page.body["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, all);
    // What is kept of secrets does not come out this way either.
    rig.make("/users", json!({"name": "olga", "password": PASSWORD}))
        .await;
    let body = json!({"password": "another long one"});
    let set = rig
        .ask("POST", "/users/olga/password")
        .token(&rig.admin)
        .json(&body);
    set.send().await.data(200);
    let users = rig
        .get(&format!("/diff?from={to}&kind=user"), &rig.admin)
        .await;
    assert_eq!(told(&users), expect(&[("created", "olga")]));
    assert!(!users.text.contains("argon2"));
    for bad in [
        "to=5".to_owned(),
        "from=x".to_owned(),
        "from=5&to=4".to_owned(),
        "from=999999".to_owned(),
        format!("from={from}&kind=colour"),
        format!("from={from}&object=old"),
        format!("from={from}&cursor=x"),
    ] {
        let refused = rig.get(&format!("/diff?{bad}"), &rig.admin).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
    }
}
