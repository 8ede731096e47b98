//! Watching through cuts, refusals and gaps.

use serde_json::json;
use virtflow_client::{Call, Credentials, Event, Method};

use crate::fake::{Cluster, Reply, nobody, refused};

fn racks() -> Call {
    Call::new(Method::Get, &["racks"]).unwrap()
}

fn stream(events: &str) -> Reply {
    Reply::Stream(events.to_owned().into())
}

const FIRST: &str =
    "event: added\ndata: {\"id\":\"r1\"}\n\nevent: bookmark\nid: 7\ndata: {\"index\":7}\n\n";

#[tokio::test]
async fn a_stream_that_is_cut_goes_on_where_it_was_at_another_controller() {
    let cluster = Cluster::new();
    let first = cluster
        .controller(|seen| match seen.target.contains("from=") {
            false => stream(FIRST),
            true => refused(503, "unavailable"),
        })
        .await;
    let second = cluster
        .controller(|_| stream("event: changed\nid: 9\ndata: {\"id\":\"r1\"}\n\n"))
        .await;
    let endpoints = [nobody(), first.endpoint(), second.endpoint()];
    let client = cluster.client(&endpoints, Credentials::Token("t".into()));
    let mut watch = client.watch(&racks());
    assert_eq!(
        watch.next().await.unwrap(),
        Event::Added(json!({"id": "r1"}))
    );
    assert_eq!(watch.next().await.unwrap(), Event::Told(7));
    assert_eq!(
        watch.next().await.unwrap(),
        Event::Changed(json!({"id": "r1"}))
    );
    assert_eq!(first.calls()[0].target, "/api/v1/racks?watch=true");
    assert_eq!(second.calls()[0].target, "/api/v1/racks?watch=true&from=7");
    assert_eq!(second.calls()[0].bearer.as_deref(), Some("t"));
}

#[tokio::test]
async fn what_is_not_known_any_more_is_told_again() {
    let cluster = Cluster::new();
    let gap = "event: error\ndata: {\"code\":\"expired\",\"message\":\"m\",\"advice\":null}\n\n";
    let alive = cluster
        .controller(move |seen| match seen.target.contains("from=7") {
            false => stream(FIRST),
            true => stream(gap),
        })
        .await;
    let client = cluster.client(&[alive.endpoint()], Credentials::Token("t".into()));
    let mut watch = client.watch(&racks());
    for expected in [
        Event::Added(json!({"id": "r1"})),
        Event::Told(7),
        Event::Again,
        Event::Added(json!({"id": "r1"})),
        Event::Told(7),
    ] {
        assert_eq!(watch.next().await.unwrap(), expected);
    }
}

/// A cut before all that is there was told: it is told from the beginning.
#[tokio::test]
async fn a_list_that_is_cut_off_is_told_again() {
    let cluster = Cluster::new();
    let alive = cluster
        .controller(|_| stream(&FIRST[..FIRST.find("event: bookmark").unwrap()]))
        .await;
    let client = cluster.client(&[alive.endpoint()], Credentials::Token("t".into()));
    let mut watch = client.watch(&racks());
    assert_eq!(
        watch.next().await.unwrap(),
        Event::Added(json!({"id": "r1"}))
    );
    assert_eq!(watch.next().await.unwrap(), Event::Again);
    assert_eq!(
        watch.next().await.unwrap(),
        Event::Added(json!({"id": "r1"}))
    );
}

#[tokio::test]
async fn what_does_not_pass_ends_a_watch() {
    let cluster = Cluster::new();
    let denies = cluster.controller(|_| refused(403, "forbidden")).await;
    let client = cluster.client(&[denies.endpoint()], Credentials::Token("t".into()));
    let error = client.watch(&racks()).next().await.unwrap_err();
    assert_eq!(error.code().as_str(), "forbidden");
    let ends = cluster
        .controller(|_| {
            stream("event: error\ndata: {\"code\":\"unauthenticated\",\"message\":\"m\"}\n\n")
        })
        .await;
    let client = cluster.client(&[ends.endpoint()], Credentials::Token("t".into()));
    let error = client.watch(&racks()).next().await.unwrap_err();
    assert_eq!(error.code().as_str(), "unauthenticated");
    let client = cluster.client(&[nobody()], Credentials::Token("t".into()));
    let error = client.watch(&racks()).next().await.unwrap_err();
    assert_eq!(error.code().as_str(), "unavailable");
}
