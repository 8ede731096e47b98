//! What must be refused, in our form, whatever is sent.

use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_types::REQUEST_BODY_BYTES_MAX;

use super::support::{Reply, Rig};

/// Every answer has the envelope and tells the request's id twice.
fn well_formed(reply: &Reply) {
    let id = reply.body["meta"]["request_id"]
        .as_str()
        .expect(&reply.text);
    assert_eq!(reply.headers["x-request-id"], id);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(
        reply.body["meta"]["controller"].is_string(),
        "{}",
        reply.text
    );
    if reply.body["status"] == "error" {
        assert!(reply.body["error"]["message"].is_string(), "{}", reply.text);
        assert!(reply.body["error"]["fields"].is_array(), "{}", reply.text);
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_before_anything_is_made() {
    let rig = Rig::start().await;
    let deep = |n: usize| {
        format!(
            "{{\"name\":\"t\",\"spec\":{}{}}}",
            "[".repeat(n),
            "]".repeat(n)
        )
    };
    let many_keys: String = (0..30_000).map(|n| format!("\"k{n}\":1,")).collect();
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", b"".to_vec()),
        ("not json", b"name=t".to_vec()),
        ("cut off", br#"{"name":"t""#.to_vec()),
        ("two values", br#"{"name":"t"}{}"#.to_vec()),
        ("comment", br#"{"name":"t"/**/}"#.to_vec()),
        ("trailing comma", br#"{"name":"t",}"#.to_vec()),
        ("an array", b"[]".to_vec()),
        ("a string", b"\"t\"".to_vec()),
        ("null", b"null".to_vec()),
        ("not utf-8", b"{\"name\":\"\xff\"}".to_vec()),
        ("lone surrogate", br#"{"name":"\ud800"}"#.to_vec()),
        (
            "infinity",
            br#"{"name":"t","spec":{"vlan_id":1e400}}"#.to_vec(),
        ),
        ("key twice", br#"{"name":"t","name":"u"}"#.to_vec()),
        (
            "key twice deep",
            br#"{"name":"t","spec":{"description":"a","description":"b"}}"#.to_vec(),
        ),
        ("unknown key", br#"{"name":"t","colour":"red"}"#.to_vec()),
        (
            "unknown field",
            br#"{"name":"t","spec":{"colour":"red"}}"#.to_vec(),
        ),
        ("wrong type", br#"{"name":7}"#.to_vec()),
        (
            "wrong type deep",
            br#"{"name":"t","spec":{"quota":{"vms":"7"}}}"#.to_vec(),
        ),
        (
            "negative",
            br#"{"name":"t","spec":{"quota":{"vms":-1}}}"#.to_vec(),
        ),
        (
            "fraction",
            br#"{"name":"t","spec":{"quota":{"vms":1.5}}}"#.to_vec(),
        ),
        (
            "beyond 64 bits",
            br#"{"name":"t","spec":{"quota":{"vms":18446744073709551616}}}"#.to_vec(),
        ),
        (
            "beyond bounds",
            br#"{"name":"t","spec":{"vlan_id":4095}}"#.to_vec(),
        ),
        (
            "unknown word",
            br#"{"name":"t","spec":{"state":"Active"}}"#.to_vec(),
        ),
        ("empty name", br#"{"name":""}"#.to_vec()),
        ("no name", br#"{"spec":{}}"#.to_vec()),
        ("traversal", br#"{"name":"../t"}"#.to_vec()),
        ("nul", br#"{"name":"t\u0000"}"#.to_vec()),
        (
            "control",
            br#"{"name":"t","spec":{"description":"\u001b[2J"}}"#.to_vec(),
        ),
        ("right to left", "{\"name\":\"t\u{202e}\"}".into()),
        (
            "long name",
            format!("{{\"name\":\"{}\"}}", "t".repeat(64)).into_bytes(),
        ),
        ("deep", deep(40).into_bytes()),
        ("very deep", deep(100_000).into_bytes()),
        (
            "many keys",
            format!("{{{many_keys}\"name\":\"t\"}}").into_bytes(),
        ),
        (
            "password of a tenant",
            br#"{"name":"t","password":"long enough it is"}"#.to_vec(),
        ),
    ];
    for (what, body) in bodies {
        let ask = rig.ask("POST", "/tenants").token(&rig.admin);
        let reply = ask.bytes("application/json", &body).send().await;
        well_formed(&reply);
        assert_eq!(reply.error(400), "invalid", "{what}");
    }
    let left = rig.get("/tenants", &rig.admin).await;
    assert_eq!(left.data(200), &json!([]), "nothing was made");
}

#[tokio::test]
async fn a_wrong_field_is_named_by_its_path() {
    let rig = Rig::start().await;
    for (spec, field) in [
        (json!({"quota": {"vms": "seven"}}), "spec.quota.vms"),
        (json!({"vlan_id": 5000}), "spec.vlan_id"),
    ] {
        let body = json!({"name": "t", "spec": spec});
        let reply = rig
            .ask("POST", "/tenants")
            .token(&rig.admin)
            .json(&body)
            .send()
            .await;
        reply.error(400);
        assert_eq!(
            reply.body["error"]["fields"][0]["field"], field,
            "{}",
            reply.text
        );
    }
}

#[tokio::test]
async fn sizes_types_methods_and_paths_are_refused_in_our_form() {
    let rig = Rig::start().await;
    let ask = |method, path: &str| rig.ask(method, path).token(&rig.admin);
    let huge = vec![b' '; REQUEST_BODY_BYTES_MAX + 1];
    let reply = ask("POST", "/tenants")
        .bytes("application/json", &huge)
        .send()
        .await;
    well_formed(&reply);
    assert_eq!(reply.error(413), "limit_exceeded");
    let mut largest = br#"{"name":"largest"}"#.to_vec();
    largest.resize(REQUEST_BODY_BYTES_MAX, b' ');
    let reply = ask("POST", "/tenants")
        .bytes("application/json", &largest)
        .send()
        .await;
    reply.data(201);

    for kind in [
        "text/plain",
        "",
        "application/json; charset=latin1",
        "multipart/form-data",
    ] {
        let reply = ask("POST", "/tenants")
            .bytes(kind, b"{\"name\":\"t\"}")
            .send()
            .await;
        well_formed(&reply);
        assert_eq!(reply.error(415), "invalid", "{kind}");
    }
    let zipped = ask("POST", "/tenants").header("content-encoding", "gzip");
    assert_eq!(
        zipped
            .bytes("application/json", b"{}")
            .send()
            .await
            .error(415),
        "invalid"
    );

    for (method, path) in [("PUT", "/tenants"), ("DELETE", "/vms"), ("POST", "/status")] {
        let reply = ask(method, path).send().await;
        well_formed(&reply);
        assert_eq!(reply.error(405), "invalid", "{method} {path}");
        assert!(
            reply.headers["allow"].to_str().unwrap().contains("GET"),
            "{path}"
        );
    }
    for path in [
        "/nothing",
        "/tenants/",
        "//tenants",
        "/Tenants",
        "/vms/a/b/c",
        "/../v1/tenants",
    ] {
        let reply = ask("GET", path).send().await;
        well_formed(&reply);
        assert_eq!(reply.error(404), "not_found", "{path}");
    }
    let reply = ask("GET", "/tenants/%ff").send().await;
    well_formed(&reply);
    assert_eq!(reply.error(400), "invalid");
}

#[tokio::test]
async fn bad_queries_and_headers_are_refused() {
    let rig = Rig::start().await;
    for path in [
        "/tenants?limit=0",
        "/tenants?limit=1001",
        "/tenants?limit=-1",
        "/tenants?limit=9999999999999999999999",
        "/tenants?colour=red",
        "/racks?host=h1",
        "/users?phase=running",
        "/tenants?limit=1&limit=2",
        "/tenants?cursor=forged",
        "/tenants?cursor=%00",
        "/audit?cursor=forged",
        "/audit?from=yesterday",
        "/audit?object=web-1",
        "/audit?outcome=succes",
        "/audit?kind=vmm",
        "/vms/x/console?bytes=0",
        "/vms/x/console?bytes=1048577",
        "/operations/x?wait=61s",
    ] {
        let reply = rig.get(path, &rig.admin).await;
        well_formed(&reply);
        assert_eq!(reply.error(400), "invalid", "{path}");
    }
    let large = rig.ask("GET", "/tenants").token(&rig.admin);
    let large = large.header("x-large", &"x".repeat(32 * 1024)).send().await;
    well_formed(&large);
    assert_eq!(large.error(431), "limit_exceeded");
    let long_key = "k".repeat(129);
    for (name, value) in [
        ("idempotency-key", ""),
        ("idempotency-key", "two words"),
        ("idempotency-key", long_key.as_str()),
        ("if-match", "seven"),
        ("if-match", "\"x.7\""),
        ("if-match", "\"01a21000-0000-7000-8000-000000000001.\""),
        ("if-match", "W/\"7\""),
        ("if-match", "\"1\", \"2\""),
    ] {
        let ask = rig
            .ask("PATCH", "/tenants/x")
            .token(&rig.admin)
            .header(name, value);
        let reply = ask.json(&json!({"spec": {}})).send().await;
        well_formed(&reply);
        assert_eq!(reply.error(400), "invalid", "{name}: {value}");
    }
    let twice = rig.ask("PATCH", "/tenants/x").token(&rig.admin);
    let twice = twice
        .header("if-match", "\"1\"")
        .header("if-match", "\"2\"");
    assert_eq!(
        twice.json(&json!({"spec": {}})).send().await.error(400),
        "invalid"
    );
}

/// Every path of every kind, so that a new one cannot be forgotten.
#[tokio::test]
async fn nothing_is_told_without_credentials() {
    let rig = Rig::start().await;
    let mut paths: Vec<(&'static str, String)> = Vec::new();
    for kind in Kind::ALL {
        let path = format!("/{}", kind.plural());
        let one = format!("{path}/00000000-0000-0000-0000-000000000001");
        paths.push(("GET", path.clone()));
        paths.push(("POST", path));
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            paths.push((method, one.clone()));
        }
    }
    for path in [
        "",
        "/permissions",
        "/audit",
        "/status",
        "/verify",
        "/capacity",
        "/upgrade",
        "/auth/whoami",
        "/auth/who-can",
        "/auth/explain",
        "/vms/x/console",
        "/vms/x/placement",
        "/tenants/x/usage",
        "/hosts/x/domains",
    ] {
        paths.push(("GET", path.into()));
    }
    for path in [
        "/auth/logout",
        "/auth/can-i",
        "/vms/x/start",
        "/vms/x/stop",
        "/vms/x/reboot",
        "/instance_sets/x/start",
        "/instance_sets/x/stop",
        "/instance_sets/x/snapshot",
        "/hosts/x/cordon",
        "/hosts/x/uncordon",
        "/hosts/x/release-quarantine",
        "/hosts/x/adopt",
        "/operations/x/cancel",
        "/controllers/x/promote",
        "/controllers/hand-over",
        "/upgrade/finish",
        "/users/x/password",
    ] {
        paths.push(("POST", path.into()));
    }
    for (n, (method, path)) in paths.into_iter().enumerate() {
        // Each from another network: refusals of one are limited.
        let from = format!("198.51.{}.{}:1", n / 250, n % 250);
        let reply = rig.ask(method, &path).from(&from).send().await;
        well_formed(&reply);
        assert_eq!(reply.error(401), "unauthenticated", "{method} {path}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn who_guesses_credentials_is_slowed_down() {
    let rig = Rig::start().await;
    let mut limited = None;
    for n in 0..400 {
        let reply = rig
            .ask("GET", "/tenants")
            .from("203.0.113.9:1")
            .token("guess")
            .send()
            .await;
        if reply.status == 429 {
            limited = Some((n, reply));
            break;
        }
        assert_eq!(reply.status, 401);
    }
    let (n, reply) = limited.expect("guessing is limited");
    assert!(n >= 200, "the burst is free: {n}");
    assert_eq!(reply.error(429), "limit_exceeded");
    assert!(reply.headers.contains_key("retry-after"));
    let elsewhere = rig.get("/tenants", &rig.admin).await;
    assert_eq!(
        elsewhere.data(200),
        &Value::Array(Vec::new()),
        "others are not held up"
    );
}
