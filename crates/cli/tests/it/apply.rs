//! `virtflow apply` on a real API: what is made, changed, left alone, deleted, refused.

use serde_json::json;

use crate::cloud::Cloud;

const RACKS: &str = "\
kind: rack
name: r1
spec:
  data_center: dc1
  as_number: 64512
---
kind: data_center
metadata:
  name: dc1
spec:
  region: north
";

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_made_changed_and_left_alone_in_the_order_of_their_references() {
    let cloud = Cloud::start().await;
    let trial = cloud.apply(RACKS, &["--dry-run"]).await.good();
    assert_eq!(
        trial,
        "data_center dc1 would be created\n    + region: \"north\"\n\
         rack r1 would be created (not tried: data_center dc1 is not there yet)\n    + as_number: 64512\n    + data_center: \"dc1\"\n\
         2 created, 0 changed, 0 unchanged, 0 deleted, had this not been a trial: nothing was done\n"
    );
    assert_eq!(cloud.json(&["data-center", "list"]).await, json!([]));

    let made = cloud.apply(RACKS, &[]).await.good();
    assert_eq!(
        made,
        "data_center dc1 created\nrack r1 created\n2 created, 0 changed, 0 unchanged, 0 deleted\n"
    );
    let again = cloud.apply(RACKS, &[]).await.good();
    assert_eq!(
        again,
        "rack r1 unchanged\ndata_center dc1 unchanged\n0 created, 0 changed, 2 unchanged, 0 deleted\n"
    );

    let changed = RACKS
        .replace("64512", "64513")
        .replace("region: north", "description: ours");
    let trial = cloud.apply(&changed, &["--dry-run"]).await.good();
    assert!(
        trial.contains("rack r1 would be changed\n    ~ as_number: 64512 -> 64513\n"),
        "{trial}"
    );
    let rack = cloud.json(&["rack", "get", "r1"]).await;
    assert_eq!(rack["spec"]["as_number"], 64512);
    let done = cloud.apply(&changed, &[]).await.good();
    assert_eq!(
        done,
        "rack r1 changed\n    ~ as_number: 64512 -> 64513\ndata_center dc1 changed\n    ~ description: \"\" -> \"ours\"\n\
         0 created, 2 changed, 0 unchanged, 0 deleted\n"
    );
    // What a document leaves out stays.
    let dc = cloud.json(&["data-center", "get", "dc1"]).await;
    assert_eq!(
        (&dc["spec"]["region"], &dc["spec"]["description"]),
        (&json!("north"), &json!("ours"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_get_and_list_print_is_unchanged_and_what_is_gone_is_made_again() {
    let cloud = Cloud::start().await;
    cloud.apply(RACKS, &[]).await.good();
    let rack = cloud.run(&["rack", "get", "r1", "-o", "yaml"]).await.good();
    assert!(
        cloud
            .apply(&rack, &[])
            .await
            .good()
            .starts_with("rack r1 unchanged\n")
    );
    let racks = cloud.run(&["rack", "list", "-o", "yaml"]).await.good();
    let dcs = cloud
        .run(&["data-center", "list", "-o", "json"])
        .await
        .good();
    let both = format!("{racks}---\n{dcs}");
    let done = cloud.apply(&both, &[]).await.good();
    assert!(
        done.ends_with("0 created, 0 changed, 2 unchanged, 0 deleted\n"),
        "{done}"
    );

    // The ids in the file are of objects that are no more: what refers to them finds their successors.
    cloud.run(&["rack", "delete", "r1"]).await.good();
    cloud.run(&["data-center", "delete", "dc1"]).await.good();
    let done = cloud.apply(&both, &[]).await.good();
    assert!(
        done.starts_with("data_center dc1 created\nrack r1 created\n"),
        "{done}"
    );
    let rack = cloud.json(&["rack", "get", "r1"]).await;
    assert_eq!(rack["names"]["data_center"], "dc1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_if_one_document_is_wrong() {
    let cloud = Cloud::start().await;
    let good = "kind: rack\nname: first\n---\n";
    for (bad, problem) in [
        (
            "kind: rack\nname: r\nspec:\n  colour: red\n",
            "document 2, line 7: spec: there is no field `colour`",
        ),
        (
            "kind: wagon\nname: r\n",
            "document 2, line 4: there is no kind `wagon`",
        ),
        ("kind: rack\n", "document 2, line 4: a rack needs a `name`"),
        (
            "kind: rack\nname: first\n",
            "stands here a second time; the first is in",
        ),
        (
            "kind: rack\nname: r\nspec:\n  data_center: nowhere\n",
            "there is no `nowhere`, neither in the cluster nor in these documents",
        ),
        (
            "kind: session\nname: s\n",
            "document 2, line 4: a session has no name",
        ),
        (
            "kind: baremetal\nname: h\nspec: {serial_number: S}\n",
            "a baremetal is not made so",
        ),
        (
            "kind: join_token\nspec: {role: agent}\n",
            "making one gives a secret",
        ),
        ("kind: rack\nname: R 1\n", "document 2, line 4: `R 1`"),
        (
            "kind: subnet\nname: s\ntenant: nobody\nspec: {cidr: 10.0.0.0/24}\n",
            "a subnet lives under a vpc",
        ),
        (
            "kind: price\nspec: {dimension: cpu_core_hours, currency: euro, amount: '1', valid_from: '2026-01-01T00:00:00Z'}\n",
            "document 2, line 4: spec.currency: `euro` is no currency",
        ),
        (
            "kind: vpc\nname: v\nspec: {cidr: 10.0.0.0/8}\n",
            "`tenant` is missing",
        ),
        (
            "kind: vpc\nname: v\ntenant: nobody\nspec: {cidr: 10.0.0.0/8}\n",
            "there is no `nobody`",
        ),
    ] {
        let said = cloud.apply(&format!("{good}{bad}"), &[]).await.bad(2);
        assert!(said.contains(problem), "{bad}: {said}");
    }
    assert_eq!(cloud.json(&["rack", "list"]).await, json!([]));
    let said = cloud
        .run(&["apply", "-f", "/nonexistent.yaml"])
        .await
        .bad(1);
    assert!(said.contains("cannot read /nonexistent.yaml"), "{said}");
    let said = cloud.apply("# nothing\n", &[]).await.bad(2);
    assert!(said.contains("there is no document"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_is_an_error_that_names_it() {
    let cloud = Cloud::start().await;
    let tenant = "kind: tenant\nname: acme\nspec: {admin_user: alice}\n---\n";
    let user = "kind: user\nname: alice\ntenant: acme\n";
    let said = cloud.apply(&format!("{tenant}{user}"), &[]).await.bad(2);
    assert!(
        said.contains("tenant acme -> user acme/alice -> tenant acme"),
        "{said}"
    );
    assert_eq!(cloud.json(&["tenant", "list"]).await, json!([]));
    // What is there already stands in nobody's way.
    cloud
        .apply(&tenant.replace("{admin_user: alice}", "{}"), &[])
        .await
        .good();
    let done = cloud.apply(&format!("{tenant}{user}"), &[]).await.good();
    assert_eq!(
        done,
        "user acme/alice created\ntenant acme changed\n    + admin_user: \"alice\"\n\
         1 created, 1 changed, 0 unchanged, 0 deleted\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_failed_in_the_middle_is_done_again() {
    let cloud = Cloud::start().await;
    cloud.run(&["tenant", "create", "acme"]).await.good();
    // The second document is refused by a rule that only the controllers know: it is not within its VPC.
    let text = "kind: vpc\nname: net\ntenant: acme\nspec: {cidr: 10.1.0.0/16}\n---\n\
        kind: subnet\nname: front\ntenant: acme\nspec: {vpc: net, cidr: 10.2.0.0/24, gateway: 10.2.0.1}\n---\n\
        kind: rack\nname: r1\n";
    let ended = cloud.apply(text, &[]).await;
    assert_eq!(
        ended.out,
        "vpc acme/net created\n1 created, 0 changed, 0 unchanged, 0 deleted\n"
    );
    let said = ended.bad(2);
    assert!(
        said.contains("subnet acme/front (")
            && said.contains("1 documents were not reached; apply again"),
        "{said}"
    );
    let done = cloud
        .apply(&text.replace("10.2.", "10.1."), &[])
        .await
        .good();
    assert_eq!(
        done,
        "vpc acme/net unchanged\nsubnet acme/front created\nrack r1 created\n2 created, 0 changed, 1 unchanged, 0 deleted\n"
    );
}

/// Somebody else changes the object between the look at it and the change: it is looked at again.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_faster_has_the_object_looked_at_again() {
    let cloud = Cloud::start().await;
    cloud.run(&["rack", "create", "r1"]).await.good();
    let one = cloud.write("one.yaml", "kind: rack\nname: r1\nspec: {as_number: 1}\n");
    let other = cloud.write(
        "other.yaml",
        "kind: rack\nname: r1\nspec: {bgp_number: 2}\n",
    );
    let new = cloud.write("new.yaml", "kind: rack\nname: new\nspec: {as_number: 3}\n");
    // All at once, several times: every one of them ends well, whoever is first.
    for _ in 0..3 {
        let args = [&one, &other, &new, &new].map(|file| ["apply", "-f", file]);
        let [a, b, c, d] = args.each_ref().map(|line| cloud.run(line));
        let (a, b, c, d) = tokio::join!(a, b, c, d);
        for ended in [a, b, c, d] {
            ended.good();
        }
    }
    let rack = cloud.json(&["rack", "get", "r1"]).await;
    assert_eq!(
        (&rack["spec"]["as_number"], &rack["spec"]["bgp_number"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(rack["generation"], 3);
}

/// The same key makes nothing twice, not even what nothing but its text tells apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_apply_makes_nothing_twice() {
    let cloud = Cloud::start().await;
    let text = "kind: help_ticket\nspec: {subject: No console}\n";
    cloud.apply(text, &["--idempotency-key", "k1"]).await.good();
    let id = cloud.json(&["help-ticket", "list"]).await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    cloud
        .run(&[
            "help-ticket",
            "update",
            &id,
            "--set",
            "subject=Console is back",
        ])
        .await
        .good();
    cloud.apply(text, &["--idempotency-key", "k1"]).await.good();
    let tickets = cloud.json(&["help-ticket", "list"]).await;
    assert_eq!(tickets.as_array().unwrap().len(), 1, "{tickets}");
    cloud.apply(text, &["--idempotency-key", "k2"]).await.good();
    let tickets = cloud.json(&["help-ticket", "list"]).await;
    assert_eq!(tickets.as_array().unwrap().len(), 2, "{tickets}");
}

/// What turns the direction of writing, and what nobody sees, is escaped so that reading it back undoes it.
#[tokio::test(flavor = "multi_thread")]
async fn texts_that_a_terminal_would_obey_go_round() {
    let cloud = Cloud::start().await;
    let subject = "x\u{202e} abc\u{200b}";
    cloud
        .run(&[
            "help-ticket",
            "create",
            "--set",
            &format!("subject={subject}"),
        ])
        .await
        .good();
    let printed = cloud
        .run(&["help-ticket", "list", "-o", "yaml"])
        .await
        .good();
    assert!(
        printed.contains("subject: \"x\\u202E abc\\u200B\"\n"),
        "{printed}"
    );
    let done = cloud.apply(&printed, &["--dry-run"]).await.good();
    assert!(done.contains("0 created, 0 changed, 1 unchanged"), "{done}");
}

const SETS: &str = "\
kind: instance_set
name: one
tenant: acme
spec: {type: project, labels: {app: shop}}
---
kind: instance_set
name: two
tenant: acme
spec: {type: project, labels: {app: shop}}
";

#[tokio::test(flavor = "multi_thread")]
async fn only_what_bears_the_label_and_is_of_the_same_tenant_is_pruned() {
    let cloud = Cloud::start().await;
    cloud.run(&["tenant", "create", "acme"]).await.good();
    cloud.run(&["tenant", "create", "rival"]).await.good();
    cloud.apply(SETS, &[]).await.good();
    cloud
        .apply(&SETS.replace("acme", "rival"), &[])
        .await
        .good();
    let other = "kind: instance_set\nname: three\ntenant: acme\nspec: {type: project, labels: {app: other}}\n";
    cloud.apply(other, &[]).await.good();
    let less = SETS.split("---").next().unwrap();

    let said = cloud.apply(less, &["--prune"]).await.bad(2);
    assert!(said.contains("--prune needs --selector"), "{said}");
    let said = cloud
        .apply(less, &["--prune", "-l", "app=shop"])
        .await
        .bad(2);
    assert!(said.contains("--dry-run, then give --yes"), "{said}");
    let trial = cloud
        .apply(less, &["--prune", "-l", "app=shop", "--dry-run"])
        .await
        .good();
    assert!(
        trial.contains("instance_set acme/two would be deleted\n"),
        "{trial}"
    );
    let left = cloud.json(&["instance-set", "list"]).await;
    assert_eq!(left.as_array().unwrap().len(), 5);

    let done = cloud
        .apply(less, &["--prune", "-l", "app=shop", "--yes"])
        .await
        .good();
    assert_eq!(
        done,
        "instance_set acme/one unchanged\ninstance_set acme/two deleted\n0 created, 0 changed, 1 unchanged, 1 deleted\n"
    );
    let left = cloud
        .json(&["instance-set", "list", "--tenant", "acme"])
        .await;
    let names: Vec<&str> = left
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["one", "three"]);
    let rivals = cloud
        .json(&["instance-set", "list", "--tenant", "rival"])
        .await;
    assert_eq!(rivals.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_in_json() {
    let cloud = Cloud::start().await;
    let told = cloud.apply(RACKS, &["-o", "json"]).await.good();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        told["summary"],
        json!({"created": 2, "changed": 0, "unchanged": 0, "deleted": 0})
    );
    assert_eq!(told["objects"][0]["called"], "data_center dc1");
    assert_eq!(told["objects"][1]["did"], "created");
    let told = cloud
        .apply(&RACKS.replace("64512", "7"), &["-o", "json"])
        .await
        .good();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        told["objects"][0]["changes"],
        json!([{"field": "as_number", "from": 64512, "to": 7}])
    );
}
