//! What answers is no controller, an older one, or one that refuses: the exit code says so, and whoever asked for a
//! change is told if it may have been made.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::fake::{End, Fake, Reply, TOKEN, ok, raw, refused, status};

const HTML: &str = "<!DOCTYPE html><html><body>It works!</body></html>";

/// An answer by its name, and the exit codes of a question and of a change that get it.
type Case = (&'static str, Reply, i32, i32);

fn cases() -> Vec<Case> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let whole = json!({"meta": {}, "status": "ok", "data": []}).to_string();
    let huge = vec![Bytes::from(vec![b' '; 1 << 20]); 33];
    let html = |status| raw(status, "text/html", HTML);
    let json = |text: &'static str| raw(200, "application/json", text);
    vec![
        // What comes after a change was sent and is no answer leaves it open whether it was made.
        ("HTML", html(200), 1, 9),
        ("a page of a proxy, 500", html(500), 1, 9),
        ("a page of a proxy, 502", html(502), 1, 9),
        ("a page of a proxy, 503", html(503), 1, 9),
        ("a page of a proxy, 504", html(504), 1, 9),
        ("nothing at all", json(""), 1, 9),
        (
            "half of an answer",
            raw(200, "application/json", whole[..whole.len() / 2].to_owned()),
            1,
            9,
        ),
        (
            "all but the last byte",
            raw(200, "application/json", whole[..whole.len() - 1].to_owned()),
            1,
            9,
        ),
        (
            "an answer and more",
            raw(200, "application/json", format!("{whole}{whole}")),
            1,
            9,
        ),
        (
            "no UTF-8",
            raw(200, "application/json", &b"{\"data\":\"\xff\"}"[..]),
            1,
            9,
        ),
        (
            "an object of another program",
            json("{\"status\":\"ok\"}"),
            1,
            9,
        ),
        ("an empty object", json("{}"), 1, 9),
        ("a list", json("[]"), 1, 9),
        ("a number", json("7"), 1, 9),
        ("null", json("null"), 1, 9),
        (
            "depth without end",
            raw(200, "application/json", deep),
            1,
            9,
        ),
        (
            "more than is read",
            Reply::Bytes(200, "application/json", huge, End::Whole),
            1,
            9,
        ),
        (
            "an error under a success",
            json("{\"error\":{\"code\":\"conflict\",\"message\":\"m\"}}"),
            1,
            9,
        ),
        (
            "an error of another form",
            status(500, &json!({"error": "boom"})),
            1,
            9,
        ),
        // Whoever refuses a request by its status did not carry it out.
        ("a page that is not there", html(404), 1, 1),
        ("a page that is forbidden", html(403), 1, 1),
        ("a page that moved", html(301), 1, 1),
        ("a login page", html(302), 1, 1),
        ("nothing, 404", raw(404, "text/plain", ""), 1, 1),
        ("nothing, 413", raw(413, "text/plain", ""), 1, 1),
        (
            "JSON of another program, 404",
            status(404, &json!({"detail": "Not Found"})),
            1,
            1,
        ),
        // An older controller, or one that does not want to.
        ("invalid", refused(400, "invalid"), 2, 2),
        ("no such method", refused(405, "invalid"), 2, 2),
        ("unauthenticated", refused(401, "unauthenticated"), 3, 3),
        ("forbidden", refused(403, "forbidden"), 3, 3),
        ("not found", refused(404, "not_found"), 4, 4),
        ("already exists", refused(409, "already_exists"), 5, 5),
        ("conflict", refused(409, "conflict"), 5, 5),
        ("in use", refused(409, "in_use"), 5, 5),
        ("overtaken", refused(412, "precondition_failed"), 5, 5),
        ("expired", refused(410, "expired"), 5, 5),
        ("quota", refused(422, "quota_exceeded"), 6, 6),
        ("no room", refused(409, "no_capacity"), 7, 7),
        ("too much", refused(429, "limit_exceeded"), 8, 8),
        ("too large", refused(413, "limit_exceeded"), 8, 8),
        ("internal", refused(500, "internal"), 1, 1),
        ("a code of the future", refused(418, "moon_phase"), 1, 1),
    ]
}

async fn each(arguments: &[&str], code: impl Fn(&Case) -> i32) {
    let is_watch = arguments.contains(&"--watch");
    // A watch waits until it is let in again.
    for case in cases()
        .into_iter()
        .filter(|it| !(is_watch && it.0 == "too much"))
    {
        let (what, reply, ..) = case.clone();
        let fake = Fake::start(move |_| reply.clone()).await;
        let ended = fake.run(arguments).await;
        assert_eq!(ended.code, code(&case), "{what}: {ended:?}");
        assert!(ended.out.is_empty(), "{what}: {ended:?}");
        assert!(ended.err.starts_with("error: "), "{what}: {ended:?}");
        assert!(ended.err.len() < 2000, "{what}: {} bytes", ended.err.len());
        assert!(!ended.err.contains(TOKEN), "{what}: {ended:?}");
        let calls = fake.calls();
        assert_eq!(calls.len(), 1, "{what}: it was asked again: {calls:?}");
        if ended.code == 9 {
            let key = calls[0].key.as_deref().unwrap();
            let advice = format!("`--idempotency-key {key}`");
            assert!(ended.err.contains(&advice), "{what}: {ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions() {
    each(&["rack", "list"], |case| case.2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object() {
    each(&["rack", "get", "r1"], |case| case.2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes() {
    each(&["rack", "create", "r1"], |case| case.3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removals() {
    each(&["rack", "delete", "r1"], |case| case.3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_posted_change_nothing() {
    each(&["can-i", "rack.read"], |case| case.2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching() {
    each(&["rack", "list", "--watch"], |case| case.2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_list_cannot_be() {
    for data in [json!(null), json!("rows"), json!(7), json!({"id": "x"})] {
        let told = data.clone();
        let fake = Fake::start(move |_| ok(told.clone())).await;
        let ended = fake.run(&["rack", "list"]).await;
        assert_eq!(ended.code, 1, "{data}: {ended:?}");
        assert!(ended.err.contains("a list that is none"), "{ended:?}");
    }
    // A next page without end.
    let page = json!({"meta": {"next_cursor": "again"}, "status": "ok", "data": []});
    let fake = Fake::start(move |_| status(200, &page)).await;
    let ended = fake.run(&["rack", "list"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("a list without an end"), "{ended:?}");
}

/// What an object has not, or has in another form, is shown as missing.
#[tokio::test(flavor = "multi_thread")]
async fn objects_of_another_form_are_shown_as_far_as_they_go() {
    let strange = [
        json!([{}]),
        json!([null]),
        json!([7, "text", [], true]),
        json!([{"name": 7, "spec": "text", "status": [], "created_at": {}, "names": null}]),
        json!([{"name": "r1", "created_at": "yesterday", "updated_at": -1}]),
    ];
    for data in strange {
        for form in [
            "table",
            "wide",
            "json",
            "yaml",
            "custom-columns=A:.spec.x[3].y,B:.name",
        ] {
            let told = data.clone();
            let fake = Fake::start(move |_| ok(told.clone())).await;
            let ended = fake.run(&["vm", "list", "-o", form]).await;
            assert_eq!(ended.code, 0, "{data} as {form}: {ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_gives_no_session() {
    for (what, reply, code) in [
        ("nothing in it", ok(Value::Null), 3),
        ("no token", ok(json!({"user": "ada"})), 3),
        ("HTML", raw(200, "text/html", HTML), 9),
        ("a page that is not there", raw(404, "text/html", HTML), 1),
        ("refused", refused(401, "unauthenticated"), 3),
        ("too often", refused(429, "limit_exceeded"), 8),
    ] {
        let fake = Fake::start(move |_| reply.clone()).await;
        let ca = fake.write("ca.pem", &fake.ca);
        let password = fake.write("password", "hush-hush");
        let line = [
            "login",
            "--endpoint",
            &fake.endpoint,
            "--ca",
            &ca,
            "--user",
            "ada",
            "--password-file",
            &password,
        ];
        let ended = fake.run(&line).await;
        assert_eq!(ended.code, code, "{what}: {ended:?}");
        assert!(!ended.err.contains("hush"), "{what}: {ended:?}");
    }
}

/// Another cluster's controller, and what is no TLS at all, are told apart from a network that is down, at once.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_there_is_not_of_this_cluster() {
    let ours = Fake::start(|_| ok(json!([]))).await;
    let theirs = Fake::start(|_| ok(json!([]))).await;
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    let talking = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nIt works!").await;
        }
    });
    for endpoint in [theirs.endpoint.clone(), format!("https://127.0.0.1:{port}")] {
        let path = ours.folder.path().join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&ours.endpoint, &endpoint)).unwrap();
        for line in [
            &["rack", "list"][..],
            &["rack", "create", "r1"],
            &["rack", "delete", "r1"],
        ] {
            let ended = ours.run(line).await;
            assert_eq!(ended.code, 8, "{line:?}: {ended:?}");
            assert!(
                ended.err.contains("no controller of this cluster is there"),
                "{ended:?}"
            );
            assert!(ended.err.contains("virtflow context show"), "{ended:?}");
            assert!(!ended.err.contains("hush"), "{ended:?}");
        }
        std::fs::write(&path, text).unwrap();
    }
    assert!(theirs.calls().is_empty(), "it was shown the token");
    talking.abort();
}
