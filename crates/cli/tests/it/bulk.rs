//! Several objects in one command, on a real API.

use serde_json::json;

use crate::cloud::Cloud;

const RACKS: &str = "\
kind: rack
name: a
spec: {as_number: 7}
---
kind: rack
name: taken
---
kind: rack
name: b
spec: {data_center: nowhere}
---
kind: rack
name: c
";

async fn racks(cloud: &Cloud) -> Vec<String> {
    let listed = cloud.json(&["rack", "list"]).await;
    let rows = listed.as_array().unwrap().iter();
    rows.map(|row| row["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_made_from_documents_and_deleted_by_their_names() {
    let cloud = Cloud::start().await;
    cloud.run(&["rack", "create", "taken"]).await.good();
    let file = cloud.write("racks.yaml", RACKS);
    let none = ["rack", "create", "-f", &file, "--all-or-none"];
    let refused = cloud.run(&none).await.bad(5);
    let lines: Vec<&str> = refused.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "error: nothing was done, for not all of them can be:",
            "  rack taken: a rack named `taken` exists already (choose another name, or use the one that is there)",
            "  rack b: no data_center `nowhere`",
            "  mend these, or leave out --all-or-none",
        ]
    );
    assert_eq!(racks(&cloud).await, ["taken"]);

    let tried = ["rack", "create", "-f", &file, "--dry-run"];
    let tried = cloud.run(&tried).await;
    assert_eq!(tried.code, 5, "{tried:?}");
    assert!(
        tried.out.starts_with("rack a would be created\n"),
        "{tried:?}"
    );
    assert_eq!(racks(&cloud).await, ["taken"]);

    let some = ["rack", "create", "-f", &file, "--idempotency-key", "k"];
    let made = cloud.run(&some).await;
    assert_eq!(made.code, 5, "{made:?}");
    let lines: Vec<&str> = made.out.lines().collect();
    assert_eq!(lines[0], "rack a created");
    assert!(lines[1].starts_with("rack taken: a rack named `taken` exists already"));
    assert!(lines[2].starts_with("rack b: no data_center `nowhere`"));
    assert_eq!(lines[3], "rack c created");
    assert!(
        made.err.starts_with("error: 2 of 4 were not created"),
        "{made:?}"
    );
    assert_eq!(racks(&cloud).await, ["taken", "a", "c"]);

    let other = cloud.write(
        "host.yaml",
        "kind: data_center\nname: d\nspec: {region: r}\n",
    );
    let refused = cloud.run(&["rack", "create", "-f", &other]).await.bad(2);
    assert!(refused.contains("host.yaml, document 1, line 1: is a data_center, not a rack"));

    let none = ["rack", "delete", "a", "c", "x", "--all-or-none"];
    let refused = cloud.run(&none).await.bad(4);
    assert!(refused.contains("rack x: no rack `x`"), "{refused}");
    assert_eq!(racks(&cloud).await, ["taken", "a", "c"]);
    let gone = cloud
        .run(&["rack", "delete", "a", "c", "--all-or-none"])
        .await;
    assert_eq!(gone.good(), "rack a deleted\nrack c deleted\n");
    let gone = cloud.run(&["rack", "rm", "taken", "a", "-o", "json"]).await;
    assert_eq!(gone.code, 4, "{gone:?}");
    let told: serde_json::Value = serde_json::from_str(&gone.out).unwrap();
    assert_eq!((&told["done"], &told["failed"]), (&json!(1), &json!(1)));
    assert!(racks(&cloud).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_request_takes_are_several_requests() {
    let cloud = Cloud::start().await;
    let documents: Vec<String> = (0..101)
        .map(|n| format!("kind: rack\nname: r{n}\n"))
        .collect();
    let file = cloud.write("racks.yaml", &documents.join("---\n"));
    let refused = ["rack", "create", "-f", &file, "--all-or-none"];
    let refused = cloud.run(&refused).await.bad(2);
    assert!(refused.contains("--all-or-none takes 100 objects at most, not 101"));
    let key = ["rack", "create", "-f", &file, "--idempotency-key", "k"];
    for _ in 0..2 {
        let made = cloud.run(&key).await.good();
        assert_eq!(made.lines().count(), 101);
    }
    assert_eq!(racks(&cloud).await.len(), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_filters_find_is_shown_and_deleted() {
    let cloud = Cloud::start().await;
    for name in ["a", "b"] {
        cloud.run(&["data-center", "create", name]).await.good();
    }
    for (rack, center) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        let made = ["rack", "create", rack, "--data-center", center];
        cloud.run(&made).await.good();
    }
    let of_a = ["rack", "delete", "--data-center", "a"];
    let refused = cloud.run(&of_a).await.bad(2);
    assert!(refused.contains("nobody can be asked here"), "{refused}");
    let tried = cloud.run(&[&of_a[..], &["--dry-run"]].concat()).await;
    assert_eq!(tried.code, 0, "{tried:?}");
    assert_eq!(
        tried.out,
        "rack a1 would be deleted\nrack a2 would be deleted\n"
    );
    assert_eq!(racks(&cloud).await, ["a1", "a2", "b1"]);
    let none = ["rack", "delete", "--data-center", "a", "--yes", "b1"];
    cloud.run(&none).await.bad(2);
    cloud.run(&["rack", "delete", "--yes"]).await.bad(2);
    let gone = cloud.run(&[&of_a[..], &["--yes"]].concat()).await;
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(gone.out, "rack a1 deleted\nrack a2 deleted\n");
    // What goes is shown before.
    let shown: Vec<&str> = gone.err.lines().collect();
    assert!(shown[0].starts_with("NAME"), "{gone:?}");
    assert!(shown[1].starts_with("a1") && shown[2].starts_with("a2"));
    assert_eq!(racks(&cloud).await, ["b1"]);
    let again = cloud.run(&[&of_a[..], &["--yes"]].concat()).await;
    assert_eq!((again.code, again.out.as_str()), (0, ""));
}
