//! Lists of many pages, answers that are too large, and waiting for operations.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use virtflow_client::{Call, Client, ClientError, Credentials, Method, RESPONSE_BYTES_MAX, Waited};

use crate::fake::{Cluster, Fake, Reply, Seen, ok};

/// Numbers 0 to 9, in pages of at most `limit` and never more than 4.
async fn numbers(cluster: &Cluster) -> Fake {
    cluster
        .controller(|seen: &Seen| {
            let (_, query) = seen.target.split_once('?').unwrap();
            let parameter = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.parse::<usize>().unwrap())
            };
            let limit = parameter("limit").unwrap().min(4);
            let begin = parameter("cursor").unwrap_or(0);
            let end = (begin + limit).min(10);
            let mut meta = json!({});
            if end < 10 {
                meta["next_cursor"] = end.to_string().into();
            }
            let rows: Vec<usize> = (begin..end).collect();
            Reply::Json(200, json!({"meta": meta, "status": "ok", "data": rows}))
        })
        .await
}

#[tokio::test]
async fn pages_are_put_together() {
    let cluster = Cluster::new();
    let controller = numbers(&cluster).await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    let call = Call::new(Method::Get, &["numbers"])
        .unwrap()
        .query("label", "a=b");
    for (rows_max, rows, more) in [
        (100, 10, false),
        (10, 10, false),
        (9, 9, true),
        (4, 4, true),
        (1, 1, true),
    ] {
        let listed = client.list(&call, rows_max).await.unwrap();
        let expected: Vec<Value> = (0..rows).map(Value::from).collect();
        assert_eq!((listed.rows, listed.more), (expected, more), "{rows_max}");
    }
    assert!(
        controller
            .calls()
            .iter()
            .all(|seen| seen.target.contains("label=a%3Db"))
    );
}

#[tokio::test]
async fn an_endless_answer_is_not_swallowed() {
    let cluster = Cluster::new();
    let controller = cluster
        .controller(|_| Reply::Raw(200, Bytes::from(vec![b' '; RESPONSE_BYTES_MAX + 1])))
        .await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    let call = Call::new(Method::Get, &["vms"]).unwrap();
    let error = client.send(&call).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    assert!(error.to_string().contains("larger than"), "{error}");
    // The next time it would be as large.
    assert_eq!(controller.calls().len(), 1);
    let change = Call::new(Method::Post, &["vms"])
        .unwrap()
        .idempotency_key("k-1");
    let error = client.send(&change).await.unwrap_err();
    let ClientError::OutcomeUnknown { key, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(key.as_deref(), Some("k-1"));
}

/// An operation that is in these states, one after the other, and stays in the last.
async fn operation(
    cluster: &Cluster,
    states: &'static [(&'static str, Option<&'static str>)],
) -> (Fake, Client) {
    let calls = AtomicUsize::new(0);
    let controller = cluster
        .controller(move |_| {
            let at = calls.fetch_add(1, Ordering::Relaxed).min(states.len() - 1);
            let (state, code) = states[at];
            let error = code.map(|code| json!({"code": code, "message": "m"}));
            ok(json!({"id": "o-1", "status": {"state": state, "error": error}}))
        })
        .await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    (controller, client)
}

#[tokio::test]
async fn operations_are_waited_for() {
    let cluster = Cluster::new();
    let states = &[("pending", None), ("running", None), ("completed", None)];
    let (controller, client) = operation(&cluster, states).await;
    let mut seen = Vec::new();
    let waited = client
        .wait("o-1", Duration::from_secs(30), |operation| {
            seen.push(operation["status"]["state"].as_str().unwrap().to_owned());
        })
        .await
        .unwrap();
    assert!(matches!(waited, Waited::Completed(_)), "{waited:?}");
    assert_eq!(seen, ["pending", "running", "completed"]);
    assert_eq!(
        controller.calls()[0].target,
        "/api/v1/operations/o-1?wait=1000ms"
    );
}

#[tokio::test]
async fn waits_end_without_success_too() {
    let cluster = Cluster::new();
    let limit = Duration::from_secs(30);
    let (_controller, client) = operation(&cluster, &[("failed", Some("internal"))]).await;
    let waited = client.wait("o-1", limit, |_| {}).await.unwrap();
    assert!(matches!(waited, Waited::Failed(_)), "{waited:?}");
    let full = &[("pending", None), ("pending", Some("no_capacity"))];
    let (_controller, client) = operation(&cluster, full).await;
    let waited = client.wait("o-1", limit, |_| {}).await.unwrap();
    assert!(matches!(waited, Waited::Blocked(_)), "{waited:?}");
    let (controller, client) = operation(&cluster, &[("running", None)]).await;
    let waited = client
        .wait("o-1", Duration::from_millis(400), |_| {})
        .await
        .unwrap();
    assert!(matches!(waited, Waited::TimedOut(_)), "{waited:?}");
    assert!(controller.calls().len() < 10, "asked in a tight loop");
}
