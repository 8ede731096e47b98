//! `virtflow doctor`, and the audit trail as lines, on a real API.

use crate::cloud::Cloud;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_well_until_something_is_wrong() {
    let cloud = Cloud::start().await;
    let ended = cloud.run(&["doctor", "--verify"]).await;
    assert_eq!(
        ended.good(),
        "nothing is wrong that can be seen from here\n"
    );

    cloud.run(&["tenant", "create", "acme"]).await.good();
    let line = [
        "vm",
        "create",
        "web",
        "--tenant",
        "acme",
        "--cpu",
        "1",
        "--memory",
        "512MiB",
        "--storage",
        "4GiB",
        "--wait",
    ];
    // There is no host: the wait ends because of that.
    let ended = cloud.run(&line).await;
    assert_ne!(ended.code, 0, "{ended:?}");
    let ended = cloud.run(&["doctor", "-o", "json"]).await;
    assert_eq!(ended.code, 12, "{ended:?}");
    let told: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let found = &told["findings"][0];
    assert_eq!(
        (&found["severity"], &found["code"]),
        (&"warning".into(), &"blocked".into()),
        "{told}"
    );
    assert!(
        found["since"].is_string()
            && found["do"]
                .as_str()
                .unwrap()
                .starts_with("virtflow vm placement"),
        "{told}"
    );

    // Whoever may not see the whole system is told so.
    let password = cloud.write("hers", "a long enough one");
    cloud
        .run(&[
            "user",
            "create",
            "alice",
            "--tenant",
            "acme",
            "--password-file",
            &password,
        ])
        .await
        .good();
    let endpoint = format!("https://{}", cloud.app.config().listen.api);
    let ca = cloud.path("ca.pem");
    cloud
        .run(&[
            "login",
            "--endpoint",
            &endpoint,
            "--ca",
            &ca,
            "--user",
            "alice",
            "--password-file",
            &password,
            "--context",
            "hers",
        ])
        .await
        .good();
    cloud.run(&["doctor", "--context", "hers"]).await.bad(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_is_exported_as_lines() {
    let cloud = Cloud::start().await;
    cloud.run(&["rack", "create", "r1"]).await.good();
    cloud.run(&["rack", "delete", "r1"]).await.good();
    let lines = cloud.run(&["audit", "--export"]).await.good();
    let records: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<&str> = records
        .iter()
        .filter_map(|it| it["action"].as_str())
        .take(2)
        .collect();
    assert_eq!(told, ["rack.delete", "rack.create"]);
    assert!(
        records[0]["head"].is_string()
            && records[0]["place"].as_u64() > records[1]["place"].as_u64()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_export_is_found_by_whoever_reads_it() {
    let cloud = Cloud::start().await;
    for rack in ["r1", "r2", "r3"] {
        cloud.run(&["rack", "create", rack]).await.good();
    }
    let told = cloud.json(&["audit", "verify"]).await;
    assert_eq!(told["sound"], true, "{told}");
    assert_eq!(told["first"], 1);
    assert_eq!(told["records"], told["last"]);
    let kept = told["head"].as_str().unwrap().to_owned();
    cloud.run(&["rack", "create", "r4"]).await.good();
    let still = ["audit", "verify", "--head", &kept];
    let still = cloud.run(&still).await;
    assert!(still.err.contains("keep the head elsewhere"), "{still:?}");
    assert!(still.good().contains("each follows from the one before it"));

    let export = cloud.run(&["audit", "--export"]).await.good();
    let check = async |text: &str, head: &str| {
        let file = cloud.write("export.jsonl", text);
        // Nobody is asked: there is no cluster where this is read.
        let mut command = cloud.command(&["audit", "verify", "--file", &file, "--head", head]);
        command.env("VIRTFLOW_CONFIG", "/nonexistent");
        let ended = command.output().await.unwrap();
        (
            ended.status.code().unwrap(),
            String::from_utf8(ended.stderr).unwrap(),
        )
    };
    assert_eq!(check(&export, &kept).await.0, 0);
    let place = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["place"].as_u64().unwrap()
    };
    let lines: Vec<&str> = export.lines().collect();
    let at = lines.iter().position(|line| line.contains("r2")).unwrap();
    // In its fields and in its bytes, as somebody would who knows that there are both.
    let altered = export.replace("r2", "r5");
    let (code, told) = check(&altered, &kept).await;
    assert_eq!(code, 12, "{told}");
    let broken = format!("error: the chain is broken: record {} ", place(lines[at]));
    assert!(told.starts_with(&broken), "{told}");
    let shortened = lines[3..].join("\n");
    let (code, told) = check(&shortened, &kept).await;
    assert_eq!(code, 12, "{told}");
    assert!(told.contains("its head was known"), "{told}");
    let (code, told) = check("{}", &kept).await;
    assert_eq!(
        (code, told.contains("line 1: it has no `place`")),
        (2, true),
        "{told}"
    );
}
