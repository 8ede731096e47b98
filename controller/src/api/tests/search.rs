//! Lists in an order of the asker's and of what holds their words, found with SQL and shown with their rights.

use serde_json::json;

use super::lists::names;
use super::support::Rig;

/// Five racks, made in the order of the list.
async fn racks(rig: &Rig) {
    for (name, number, about) in [
        ("delta", 5, "By the door"),
        ("alpha", 30, "100% full, by the \"old\" door"),
        ("echo", 5, "under_stairs"),
        ("bravo", 7, r"C:\racks 'quoted'"),
        ("charlie", 200, "ÄRGER upstairs"),
    ] {
        let spec = json!({"as_number": number, "description": about});
        rig.make("/racks", json!({"name": name, "spec": spec}))
            .await;
    }
}

async fn all_pages(rig: &Rig, path: &str, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    for _ in 0..20 {
        let page = rig
            .get(&format!("{path}&limit={limit}{cursor}"), &rig.admin)
            .await;
        let rows = names(&page);
        assert!(rows.len() <= limit);
        found.extend(rows);
        match page.body["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
    panic!("pages without an end: {found:?}");
}

#[tokio::test]
async fn pages_of_a_sorted_list_join_up_in_both_directions() {
    let rig = Rig::start().await;
    racks(&rig).await;
    for limit in [1, 2, 3, 5, 100] {
        for (sort, expected) in [
            ("name", ["alpha", "bravo", "charlie", "delta", "echo"]),
            ("-name", ["echo", "delta", "charlie", "bravo", "alpha"]),
            ("created_at", ["delta", "alpha", "echo", "bravo", "charlie"]),
            (
                "-created_at",
                ["charlie", "bravo", "echo", "alpha", "delta"],
            ),
            // What is equal goes in the order in which it was made. Numbers are no texts: 30 is before 200.
            ("as_number", ["delta", "echo", "bravo", "alpha", "charlie"]),
            ("-as_number", ["charlie", "alpha", "bravo", "echo", "delta"]),
            ("updated_at", ["delta", "alpha", "echo", "bravo", "charlie"]),
        ] {
            let path = format!("/racks?sort={sort}");
            assert_eq!(
                all_pages(&rig, &path, limit).await,
                expected,
                "{sort} by {limit}"
            );
        }
    }
    // A page goes on behind the last one shown, whatever was made and deleted meanwhile.
    let page = rig.get("/racks?sort=name&limit=2", &rig.admin).await;
    let cursor = page.body["meta"]["next_cursor"].as_str().unwrap();
    rig.make("/racks", json!({"name": "aaron"})).await;
    rig.make("/racks", json!({"name": "bruno"})).await;
    rig.ask("DELETE", "/racks/bravo")
        .token(&rig.admin)
        .send()
        .await
        .data(200);
    let path = format!("/racks?sort=name&limit=2&cursor={cursor}");
    assert_eq!(
        names(&rig.get(&path, &rig.admin).await),
        ["bruno", "charlie"]
    );
    for bad in [
        format!("/racks?sort=-name&cursor={cursor}"),
        format!("/racks?cursor={cursor}"),
        format!("/racks?sort=name&q=a&cursor={cursor}"),
        "/racks?sort=name&cursor=00".to_owned(),
    ] {
        let refused = rig.get(&bad, &rig.admin).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
        assert_eq!(
            refused.body["error"]["fields"][0]["field"], "cursor",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn words_are_found_in_names_and_texts_and_never_read_as_anything_else() {
    let rig = Rig::start().await;
    racks(&rig).await;
    let search = async |text: &str| {
        names(
            &rig.get(&format!("/racks?sort=name&q={text}"), &rig.admin)
                .await,
        )
    };
    assert_eq!(search("door").await, ["alpha", "delta"]);
    assert_eq!(search("DOOR%20by%20full").await, ["alpha"]);
    assert_eq!(search("stairs").await, ["charlie", "echo"]);
    assert_eq!(search("harl").await, ["charlie"]);
    assert_eq!(search("%C3%84RGER").await, ["charlie"]);
    // What is a pattern, an operator or a quote elsewhere is a letter here.
    assert_eq!(search("100%25").await, ["alpha"]);
    assert_eq!(search("%25").await, ["alpha"]);
    assert_eq!(search("_").await, ["echo"]);
    assert_eq!(search("%22old%22").await, ["alpha"]);
    assert_eq!(search("'quoted'").await, ["bravo"]);
    assert_eq!(search("C:%5Cracks").await, ["bravo"]);
    for none in [
        "'%20OR%201%3D1%20--",
        "%22%20OR%201%3D1%20--",
        "NEAR(a,b)",
        "a*",
        "%5Cu0022",
        // Names of fields are no texts.
        "description",
        "as_number",
    ] {
        assert!(search(none).await.is_empty(), "{none}");
    }
    let long = format!("q={}", "x".repeat(257));
    for bad in [
        "q=",
        "q=%20",
        "q=a%00b",
        "q=1+2+3+4+5+6+7+8+9",
        &long,
        "sort=colour",
        "sort=",
        "sort=--name",
        "sort=description",
    ] {
        let refused = rig.get(&format!("/racks?{bad}"), &rig.admin).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
    }
    let refused = rig.get("/racks?sort=colour", &rig.admin).await;
    let problem = refused.body["error"]["fields"][0]["problem"]
        .as_str()
        .unwrap();
    assert!(
        problem.contains("name, created_at, updated_at, as_number"),
        "{problem}"
    );
    for elsewhere in ["watch=true", "deleted=true", "at=1"] {
        let refused = rig
            .get(&format!("/racks?sort=name&{elsewhere}"), &rig.admin)
            .await;
        assert_eq!(refused.error(400), "invalid", "{elsewhere}");
    }
}

#[tokio::test]
async fn what_others_have_changes_nothing_of_what_one_finds() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "tenant_admin").await;
    let bob = rig.tenant_with("rival", "bob", "tenant_admin").await;
    for (tenant, name) in [("acme", "m"), ("rival", "a"), ("rival", "n"), ("acme", "z")] {
        let spec = json!({"description": format!("for {tenant}"), "labels": {"of": tenant}});
        let body = json!({"name": name, "tenant": tenant, "spec": spec});
        rig.make("/templates", body).await;
    }
    let alone = rig.get("/templates?sort=-name&q=for", &alice).await;
    assert_eq!(names(&alone), ["z", "m"]);
    assert_eq!(
        names(&rig.get("/templates?sort=-name&q=for", &bob).await),
        ["n", "a"]
    );
    assert_eq!(names(&rig.get("/templates?q=rival", &alice).await), [""; 0]);
    // The last of one's own is the last: that others have more is not told.
    let last = rig.get("/templates?sort=name&limit=2", &alice).await;
    assert_eq!(names(&last), ["m", "z"]);
    assert_eq!(last.body["meta"].get("next_cursor"), None);
    let first = rig.get("/templates?sort=name&limit=1", &alice).await;
    assert_eq!(names(&first), ["m"]);
    let next = first.body["meta"]["next_cursor"].as_str().unwrap();
    let path = format!("/templates?sort=name&limit=1&cursor={next}");
    assert_eq!(names(&rig.get(&path, &alice).await), ["z"]);
    // Filters narrow a search as they narrow a list.
    let all = rig
        .get("/templates?sort=name&labels=of%3Drival", &rig.admin)
        .await;
    assert_eq!(names(&all), ["a", "n"]);
    let all = rig
        .get("/templates?sort=-name&tenant=acme&state=active", &rig.admin)
        .await;
    assert_eq!(names(&all), ["z", "m"]);
    assert_eq!(
        names(&rig.get("/templates?q=rival&name=n", &rig.admin).await),
        ["n"]
    );
}
