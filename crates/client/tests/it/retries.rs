//! What is asked again, of whom, and what is not.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use virtflow_client::{Call, ClientError, Credentials, Method};
use virtflow_types::ErrorCode;

use crate::fake::{Cluster, Reply, nobody, ok, refused};

fn read() -> Call {
    Call::new(Method::Get, &["vms"]).unwrap()
}

fn write() -> Call {
    Call::new(Method::Post, &["vms"])
        .unwrap()
        .body(json!({"name": "web-1"}))
}

#[tokio::test]
async fn the_next_controller_is_asked_and_remembered() {
    let cluster = Cluster::new();
    let alive = cluster.controller(|_| ok(json!("here"))).await;
    let endpoints = [nobody(), alive.endpoint()];
    let client = cluster.client(&endpoints, Credentials::Token("t".into()));
    assert_eq!(client.send(&read()).await.unwrap().data, json!("here"));
    assert_eq!(client.endpoints()[0], alive.endpoint());
    assert_eq!(client.endpoints()[1], endpoints[0]);
    // Nothing was sent to the dead one: a write without a key may go on, too.
    let client = cluster.client(&endpoints, Credentials::Token("t".into()));
    client.send(&write()).await.unwrap();
    assert_eq!(alive.calls().len(), 2);
    assert_eq!(alive.calls()[0].bearer.as_deref(), Some("t"));
}

#[tokio::test]
async fn a_write_without_a_key_is_sent_once() {
    let cluster = Cluster::new();
    let first = cluster.controller(|_| Reply::HangUp).await;
    let second = cluster.controller(|_| ok(json!(1))).await;
    let client = cluster.client(&[first.endpoint(), second.endpoint()], Credentials::None);
    let error = client.send(&write()).await.unwrap_err();
    assert!(
        matches!(error, ClientError::OutcomeUnknown { key: None, .. }),
        "{error:?}"
    );
    assert_eq!((first.calls().len(), second.calls().len()), (1, 0));
}

#[tokio::test]
async fn a_write_with_a_key_is_repeated_as_it_was() {
    let cluster = Cluster::new();
    let first = cluster.controller(|_| Reply::HangUp).await;
    let second = cluster.controller(|_| ok(json!("made"))).await;
    let client = cluster.client(&[first.endpoint(), second.endpoint()], Credentials::None);
    let call = write().idempotency_key("k-1").if_match(Some(3));
    assert_eq!(client.send(&call).await.unwrap().data, json!("made"));
    assert_eq!(first.calls().len(), 1);
    assert_eq!(first.calls(), second.calls());
    assert_eq!(second.calls()[0].key.as_deref(), Some("k-1"));
    assert_eq!(second.calls()[0].if_match.as_deref(), Some("\"3\""));
}

#[tokio::test]
async fn a_lost_answer_is_never_a_plain_failure() {
    let cluster = Cluster::new();
    // Lost, then no leader: the first sending may have been carried out.
    let calls = AtomicUsize::new(0);
    let controller = cluster
        .controller(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::HangUp,
            _ => refused(503, "unavailable"),
        })
        .await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    let error = client
        .send(&write().idempotency_key("k-1"))
        .await
        .unwrap_err();
    let ClientError::OutcomeUnknown { key, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(key.as_deref(), Some("k-1"));
    assert!(controller.calls().len() > 1);
}

#[tokio::test]
async fn a_read_that_gets_lost_is_asked_again() {
    let cluster = Cluster::new();
    let calls = AtomicUsize::new(0);
    let controller = cluster
        .controller(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Reply::HangUp,
            _ => ok(json!(1)),
        })
        .await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    client.send(&read()).await.unwrap();
    assert_eq!(controller.calls().len(), 3);
}

#[tokio::test]
async fn an_election_is_waited_for_but_not_for_ever() {
    let cluster = Cluster::new();
    let calls = AtomicUsize::new(0);
    let elected = cluster
        .controller(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => refused(503, "unavailable"),
            _ => ok(json!(1)),
        })
        .await;
    // `unavailable` says that nothing was done: even without a key it may be sent again.
    let client = cluster.client(&[elected.endpoint()], Credentials::None);
    client.send(&write()).await.unwrap();
    assert_eq!(elected.calls().len(), 3);

    let leaderless = cluster.controller(|_| refused(503, "unavailable")).await;
    let client = cluster.client(&[leaderless.endpoint()], Credentials::None);
    let error = client.send(&write()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!((3..100).contains(&leaderless.calls().len()));
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_with_the_key_only() {
    let cluster = Cluster::new();
    let controller = cluster
        .controller(|_| refused(503, "outcome_unknown"))
        .await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    let error = client.send(&write()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown);
    assert_eq!(controller.calls().len(), 1);

    let calls = AtomicUsize::new(0);
    let controller = cluster
        .controller(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => refused(503, "outcome_unknown"),
            _ => ok(json!("made once")),
        })
        .await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    let answer = client.send(&write().once()).await.unwrap();
    assert_eq!(answer.data, json!("made once"));
    let keys: Vec<_> = controller
        .calls()
        .into_iter()
        .map(|seen| seen.key)
        .collect();
    assert!(
        keys.len() == 2 && keys[0].is_some() && keys[0] == keys[1],
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_refusal_is_final() {
    let cluster = Cluster::new();
    for (status, code) in [
        (400, "invalid"),
        (401, "unauthenticated"),
        (403, "forbidden"),
        (404, "not_found"),
        (409, "conflict"),
        (412, "precondition_failed"),
        (413, "limit_exceeded"),
        // One that says no time is no matter of time.
        (429, "limit_exceeded"),
        (422, "quota_exceeded"),
        (500, "internal"),
    ] {
        let controller = cluster.controller(move |_| refused(status, code)).await;
        let client = cluster.client(&[controller.endpoint()], Credentials::Token("t".into()));
        let error = client.send(&write().once()).await.unwrap_err();
        assert_eq!(error.code().as_str(), code);
        assert_eq!(controller.calls().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn when_nobody_is_there_it_says_so_in_time() {
    let cluster = Cluster::new();
    let endpoints = [nobody(), nobody()];
    let client = cluster.client(&endpoints, Credentials::None);
    let begun = std::time::Instant::now();
    let error = client.send(&read()).await.unwrap_err();
    assert!(begun.elapsed() < std::time::Duration::from_secs(3));
    for endpoint in &endpoints {
        assert!(error.to_string().contains(&endpoint.to_string()), "{error}");
    }
    let client = cluster.client(&[], Credentials::None);
    let error = client.send(&read()).await.unwrap_err();
    assert!(error.to_string().contains("none is known"), "{error}");
}
