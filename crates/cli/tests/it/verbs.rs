//! What only some kinds have, on a real API: addresses that are given and taken back, sets of VMs.

use serde_json::Value;

use crate::cloud::Cloud;

/// A tenant with two VMs, which no host has room for, and a pool of two public addresses.
async fn cloud() -> Cloud {
    let cloud = Cloud::start().await;
    for line in [
        "tenant create acme",
        "data-center create dc1",
        "vm create a --tenant acme --cpu 1 --memory 64MiB --storage 1GiB",
        "vm create b --tenant acme --cpu 1 --memory 64MiB --storage 1GiB",
        "ip-pool create front --data-center dc1 --first-address 192.0.2.1 --last-address 192.0.2.2",
    ] {
        cloud.run_line(line).await.good();
    }
    cloud
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_given_to_a_vm_and_taken_back() {
    let cloud = cloud().await;
    let run = async |line: &str| cloud.run_line(line).await;
    run("ip-pool allocate front").await.bad(2);
    let tried = run("ip-pool allocate front --vm a --dry-run").await;
    assert!(tried.err.contains("would be allocated"), "{tried:?}");
    let given = run("ip-pool allocate front --vm a --lease 8h").await;
    assert_eq!(given.good(), "192.0.2.1 is a's\n");
    let other = run("ip-pool allocate front --vm b --address 192.0.2.2").await;
    assert_eq!(other.good(), "192.0.2.2 is b's\n");
    run("ip-pool allocate front --vm b").await.bad(7);

    let all = cloud.json(&["ip-address", "list"]).await;
    let first = all.as_array().unwrap().iter();
    let mut first = first.filter(|it| it["spec"]["address"] == "192.0.2.1");
    let first = first.next().unwrap();
    assert!(first["status"]["leased_until"].is_string(), "{first}");
    let id = first["id"].as_str().unwrap();
    let owners = run("ip-address list").await.good();
    let row = owners.lines().find(|line| line.contains("192.0.2.1"));
    assert!(
        row.unwrap().split_whitespace().any(|cell| cell == "a"),
        "{owners}"
    );
    for (verb, did, state) in [
        ("freeze", "frozen", "frozen"),
        ("unfreeze", "unfrozen", "allocated"),
        ("release", "released", "available"),
        ("reserve", "reserved", "reserved"),
    ] {
        let done = run(&format!("ip-address {verb} {id}")).await;
        assert_eq!(done.good(), format!("192.0.2.1 {did}\n"));
        let now = cloud.json(&["ip-address", "get", id]).await;
        assert_eq!(now["status"]["state"], state, "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_of_every_vm_of_a_set() {
    let cloud = cloud().await;
    let run = async |line: &str| cloud.run_line(line).await;
    run("instance-set create s --tenant acme").await.good();
    let empty = run("instance-set snapshot s --as night").await;
    assert!(empty.err.contains("the set has no members"), "{empty:?}");
    for vm in ["a", "b"] {
        run(&format!(
            "instance-set-member create --tenant acme --set-id s --vm {vm}"
        ))
        .await
        .good();
    }
    run("snapshot create night --tenant acme --vm b")
        .await
        .good();
    let some = run("instance-set snapshot s --as night").await;
    assert_eq!(some.code, 5, "{some:?}");
    let lines: Vec<&str> = some.out.lines().collect();
    assert_eq!(lines[0], "vm a snapshot recorded");
    assert!(
        lines[1].starts_with("vm b: a snapshot named `night`"),
        "{some:?}"
    );
    let all: Value = cloud.json(&["snapshot", "list"]).await;
    assert_eq!(all.as_array().unwrap().len(), 2);
    run("instance-set snapshot s --as night").await.bad(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_made_of_a_template_and_done_to_as_a_whole() {
    let cloud = cloud().await;
    let run = async |line: &str| cloud.run_line(line).await;
    run("template create course --tenant acme --type instance-set")
        .await
        .good();
    run("template-version create 1.0.0 --tenant acme --template course --cpu-cores 1 --memory 64MiB --storage 1GiB")
        .await
        .good();
    let make = "instance-set create lesson --tenant acme --template course";
    let none = run(make).await.bad(2);
    assert!(none.contains("count"), "{none}");
    run(&format!("{make} --count 51")).await.bad(2);
    run(&format!("{make} --count 50")).await.good();
    let members = cloud.json(&["instance-set-member", "list"]).await;
    let members = members.as_array().unwrap();
    assert_eq!(members.len(), 50);
    let mut names: Vec<&str> = members
        .iter()
        .map(|member| member["names"]["instance"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!((names[0], names[49]), ("lesson-1", "lesson-9"));
    let taken = run("instance-set snapshot lesson --as night").await.good();
    assert_eq!(taken.lines().count(), 50, "{taken}");
    run(&format!("{make} --count 2")).await.bad(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_asked_for_by_how_they_fare() {
    let cloud = Cloud::start().await;
    let run = async |line: &str| cloud.run_line(line).await;
    let listed = cloud.json(&["host", "list", "--health", "critical"]).await;
    assert_eq!(listed, Value::Array(vec![]));
    let refused = run("host list --health ill").await.bad(2);
    assert!(
        refused.contains("unknown, healthy, warning, critical"),
        "{refused}"
    );
    run("vm list --health critical").await.bad(2);
}

/// What each of these would do is told, and nothing is done; the controllers' refusals are told as they are.
#[tokio::test(flavor = "multi_thread")]
async fn every_verb_is_tried_without_being_done() {
    let cloud = cloud().await;
    let new = cloud.write("new", "another long pass phrase");
    for line in [
        "cloud-box create box --tenant acme --serial-number CB-1",
        "user create carol --tenant acme",
        "baremetal-group create hosts --data-center dc1",
    ] {
        cloud.run_line(line).await.good();
    }
    let controller = cloud.json(&["controller", "list"]).await[0].clone();
    let name = controller["name"].as_str().unwrap();
    let operation = cloud.json(&["operation", "list"]).await[0].clone();
    let id = operation["id"].as_str().unwrap();
    let before = everything(&cloud).await;
    for (line, would) in [
        ("token create t".to_owned(), "created"),
        ("token create t --save-context kept".into(), "created"),
        ("invite create --group hosts".into(), "created"),
        ("controller add c2".into(), "created"),
        (
            format!("user set-password carol --password-file {new}"),
            "given a new password",
        ),
        (format!("operation cancel {id}"), "cancelled"),
        (format!("controller promote {name}"), "promoted"),
        (format!("controller remove {name}"), "removed"),
        ("cloud-box heartbeat box --firmware 1.2.3".into(), "heard"),
        ("vm stop a".into(), "stopped"),
        ("vm start a".into(), "started"),
    ] {
        let words: Vec<&str> = line.split(' ').chain(["--dry-run"]).collect();
        let tried = cloud.run(&words).await;
        assert_eq!(tried.code, 0, "{line}: {tried:?}");
        assert_eq!(
            tried.err,
            format!("would be {would}; nothing was done\n"),
            "{line}"
        );
        assert!(!tried.out.contains("vft1."), "{line}: {tried:?}");
    }
    // There is nobody to hand over to.
    let refused = cloud.run(&["controller", "hand-over", "--dry-run"]).await;
    refused.bad(5);
    assert_eq!(everything(&cloud).await, before);
    let contexts = cloud.json(&["context", "list"]).await;
    assert_eq!(contexts.as_array().unwrap().len(), 1, "{contexts}");
    let told = cloud.json(&["token", "create", "t", "--dry-run"]).await;
    assert_eq!((&told["name"], &told["token"]), (&"t".into(), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_set_a_field_is_told_of_any_object() {
    let cloud = cloud().await;
    let told = cloud.json(&["blame", "vm", "a", "--tenant", "acme"]).await;
    assert_eq!(told["cpu_cores"]["value"], 1, "{told}");
    assert_eq!(told, cloud.json(&["vm", "blame", "a"]).await);
    let lines = cloud.run(&["blame", "data-center", "dc1"]).await.good();
    assert!(lines.starts_with("FIELD "), "{lines}");
    let refused = cloud.run(&["blame", "wagon", "a"]).await.bad(2);
    assert!(refused.contains("there is no kind `wagon`"), "{refused}");
    cloud.run(&["blame", "vm", "c"]).await.bad(4);
}

/// What the verbs above would change.
async fn everything(cloud: &Cloud) -> Vec<Value> {
    let mut all = Vec::new();
    for noun in [
        "token",
        "invite",
        "user",
        "operation",
        "controller",
        "cloud-box",
        "vm",
    ] {
        let mut listed = cloud.json(&[noun, "list"]).await;
        // These tell of the moment.
        for it in listed.as_array_mut().unwrap() {
            it["member"] = Value::Null;
            it["status"]["last_login_at"] = Value::Null;
        }
        all.push(listed);
    }
    all
}
