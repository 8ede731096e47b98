//! `virtflow support-bundle`: what it promises is in it, and nothing that must not be.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::cloud::Cloud;

/// The files of a bundle, without their common folder.
fn unpacked(path: &str) -> BTreeMap<String, String> {
    let file = fs::File::open(path).unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(file)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let (folder, name) = name.split_once('/').unwrap();
        assert!(folder.starts_with("virtflow-support-20"), "{folder}");
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name.to_owned(), text);
    }
    files
}

fn json(files: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&files[name]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const OF_CLUSTER: [&str; 10] = [
    "cluster/alerts.json",
    "cluster/audit-heads.json",
    "cluster/capacity.json",
    "cluster/controllers.json",
    "cluster/doctor.json",
    "cluster/hosts.json",
    "cluster/operations.json",
    "cluster/status.json",
    "cluster/verify.json",
    "cluster/versions.json",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_what_it_promises_and_no_secret() {
    let cloud = Cloud::start().await;
    // Secrets of every sort that there is, of which only the parts that are secret count.
    let secret_of = |token: &Value| {
        let token = token["token"].as_str().unwrap();
        token.rsplit('.').next().unwrap().to_owned()
    };
    let mut secrets = vec![virtflow_controller::testing::ADMIN_PASSWORD.to_owned()];
    secrets.push(secret_of(&cloud.json(&["token", "create", "ci"]).await));
    let invite = ["invite", "create", "--role", "controller"];
    secrets.push(secret_of(&cloud.json(&invite).await));
    let password = "planted-password-of-anna";
    let file = cloud.write("hers", password);
    cloud
        .run(&["user", "create", "anna", "--password-file", &file])
        .await
        .good();
    secrets.push(password.to_owned());
    let contexts = fs::read_to_string(cloud.path("config/config.toml")).unwrap();
    for key in ["access_token", "refresh_token"] {
        let line = contexts.lines().find(|line| line.starts_with(key)).unwrap();
        secrets.push(line.split('"').nth(1).unwrap().to_owned());
    }
    let seal_key = fs::read(&cloud.app.config().seal_key_file).unwrap();
    let monitoring = "planted-monitoring-token";
    cloud.write("monitoring.token", monitoring);
    secrets.push(monitoring.to_owned());

    let path = cloud.path("bundle.tar.gz");
    let said = cloud.run(&["support-bundle", "--out", &path]).await.good();
    assert!(
        said.contains("look through it before you send it"),
        "{said}"
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let files = unpacked(&path);
    for name in OF_CLUSTER {
        assert!(
            files.contains_key(name),
            "{name} is not in {:?}",
            files.keys()
        );
    }
    let name = cloud.app.name();
    let node = json(&files, &format!("controllers/{name}/node.json"));
    assert_eq!(node["status"]["name"], name);
    assert_eq!(node["status"]["version"], env!("CARGO_PKG_VERSION"));
    let listen = cloud.app.config().listen.api.to_string();
    assert_eq!(node["settings"]["listen"]["api"], listen.as_str());
    let metrics = &files[&format!("controllers/{name}/metrics.txt")];
    assert!(
        metrics.contains("\nvirtflow_raft_is_leader 1\n"),
        "{metrics}"
    );
    assert_eq!(json(&files, "cluster/status.json")["leader"], name);
    assert_eq!(
        json(&files, "cluster/verify.json")["divergences"],
        Value::Array(vec![])
    );
    assert_eq!(
        json(&files, "cluster/versions.json")["controllers"][0]["version"],
        env!("CARGO_PKG_VERSION")
    );
    let heads = json(&files, "cluster/audit-heads.json");
    let heads = heads.as_array().unwrap();
    assert!(!heads.is_empty());
    for head in heads {
        assert_eq!(head.as_object().unwrap().len(), 4, "{head}");
        assert_eq!(head["head"].as_str().unwrap().len(), 64, "{head}");
    }

    let manifest = json(&files, "manifest.json");
    assert_eq!(manifest["missing"], Value::Array(vec![]));
    let listed = manifest["files"].as_array().unwrap();
    assert_eq!(
        listed.len() + 1,
        files.len(),
        "the manifest lists all but itself"
    );
    for entry in listed {
        let text = &files[entry["file"].as_str().unwrap()];
        assert_eq!(entry["bytes"], text.len(), "{entry}");
    }

    let mut bytes = Vec::new();
    let file = fs::File::open(&path).unwrap();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let has = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    assert!(
        has(b"virtflow_raft_is_leader"),
        "the search finds what is there"
    );
    for secret in &secrets {
        assert!(!has(secret.as_bytes()), "{secret} is in the bundle");
    }
    assert!(!has(&seal_key) && !has(hex(&seal_key).as_bytes()));
    for word in ["PRIVATE KEY", "argon2", "secret_hash", "password_hash"] {
        assert!(!has(word.as_bytes()), "{word} is in the bundle");
    }

    // What is there already is not written over.
    let said = cloud.run(&["support-bundle", "--out", &path]).await.bad(1);
    assert!(said.contains("--out"), "{said}");
    assert_eq!(unpacked(&path).len(), files.len());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_named_and_the_rest_is_packed() {
    let cloud = Cloud::start().await;
    let real = format!("https://{}", cloud.app.config().listen.api);
    let [ca, password] = ["ca.pem", "password"].map(|name| cloud.path(name));
    // Nothing listens on port 1.
    let log_in = |endpoints: String, user: &'static str, password: String| {
        let ca = ca.clone();
        let cloud = &cloud;
        async move {
            let line = [
                "login",
                "--endpoint",
                &endpoints,
                "--ca",
                &ca,
                "--user",
                user,
                "--password-file",
                &password,
            ];
            cloud.run(&line).await.good();
        }
    };
    let two = format!("{real},https://127.0.0.1:1");
    log_in(two, virtflow_controller::testing::ADMIN, password).await;
    let path = cloud.path("partial.tar.gz");
    let said = cloud.run(&["support-bundle", "--out", &path]).await.good();
    assert!(said.contains("not everything could be had:"), "{said}");
    let files = unpacked(&path);
    assert!(files.contains_key(&format!("controllers/{}/node.json", cloud.app.name())));
    let manifest = json(&files, "manifest.json");
    let missing = manifest["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0]["file"], "controllers/https://127.0.0.1:1");

    // A user who sees nothing of the whole has a bundle that says so.
    cloud.run(&["tenant", "create", "acme"]).await.good();
    let hers = cloud.write("hers", "a long enough one");
    cloud
        .run(&[
            "user",
            "create",
            "vera",
            "--tenant",
            "acme",
            "--password-file",
            &hers,
        ])
        .await
        .good();
    log_in(real, "vera", hers).await;
    let path = cloud.path("hers.tar.gz");
    cloud.run(&["support-bundle", "--out", &path]).await.good();
    let manifest = json(&unpacked(&path), "manifest.json");
    let missing = manifest["missing"].as_array().unwrap();
    let why = |name: &str| {
        missing
            .iter()
            .find(|it| it["file"] == name)
            .map(|it| &it["why"])
    };
    for name in [
        "cluster/status.json",
        "cluster/doctor.json",
        "cluster/verify.json",
    ] {
        assert!(why(name).is_some(), "{name}: {missing:?}");
    }

    // Without a cluster there is this machine.
    let path = cloud.path("alone.tar.gz");
    let mut alone = cloud.command(&["support-bundle", "--out", &path]);
    alone.env("VIRTFLOW_CONFIG", cloud.path("nothing/config.toml"));
    let ended: crate::cloud::Ended = alone.output().await.unwrap().into();
    ended.good();
    let manifest = json(&unpacked(&path), "manifest.json");
    assert_eq!(manifest["missing"][0]["file"], "cluster/");

    // A limit that nothing fits into.
    let path = cloud.path("small.tar.gz");
    let refused = cloud
        .run(&["support-bundle", "--out", &path, "--max-size", "0"])
        .await;
    refused.bad(2);
}
