//! Lists as streams: what there is, what happens to it, and that the one who watches sees no more than they may.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::support::{Reply, Rig};
use axum::body::Body;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    event: String,
    id: Option<u64>,
    data: Value,
}

impl Told {
    fn name(&self) -> (&str, &str) {
        (&self.event, self.data["name"].as_str().unwrap_or_default())
    }
}

/// A stream that is read event by event.
#[derive(Debug)]
struct Stream {
    body: Body,
    read: String,
}

impl Stream {
    async fn open(rig: &Rig, path: &str, token: &str) -> Self {
        let response = rig.ask("GET", path).token(token).begin().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.headers().contains_key("x-request-id"));
        Self {
            body: response.into_body(),
            read: String::new(),
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::to_owned)
                };
                let told = Told {
                    event: field("event: ").unwrap(),
                    id: field("id: ").map(|id| id.parse().unwrap()),
                    data: serde_json::from_str(&field("data: ").unwrap()).unwrap(),
                };
                self.read = rest.to_owned();
                return Some(told);
            }
            let frame = self.body.frame().await?.unwrap();
            let data = frame.into_data().unwrap();
            self.read.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// What is told up to the next bookmark, and where that stands.
    async fn until_bookmark(&mut self) -> (Vec<Told>, u64) {
        let mut all = Vec::new();
        loop {
            let told = self.next().await.unwrap();
            if told.event == "bookmark" {
                let index = told.data["index"].as_u64().unwrap();
                assert_eq!(told.id, Some(index));
                return (all, index);
            }
            all.push(told);
        }
    }
}

async fn change(rig: &Rig, path: &str, spec: Value) -> Reply {
    let body = json!({"spec": spec});
    let reply = rig.ask("PATCH", path).token(&rig.admin).json(&body);
    let reply = reply.send().await;
    reply.data(200);
    reply
}

#[tokio::test]
async fn a_stream_tells_what_there_is_and_then_each_change_once_in_order() {
    let rig = Rig::start().await;
    rig.make("/racks", json!({"name": "old", "spec": {}})).await;
    let mut stream = Stream::open(&rig, "/racks?watch=true", &rig.admin).await;
    let (there, from) = stream.until_bookmark().await;
    assert_eq!(
        there.iter().map(Told::name).collect::<Vec<_>>(),
        [("added", "old")]
    );

    let made = rig
        .make("/racks", json!({"name": "new", "spec": {}}))
        .await
        .id();
    rig.make("/data_centers", json!({"name": "elsewhere", "spec": {}}))
        .await;
    change(&rig, "/racks/new", json!({"as_number": 7})).await;
    let gone = rig
        .ask("DELETE", "/racks/new")
        .token(&rig.admin)
        .send()
        .await;
    gone.data(200);
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(stream.next().await.unwrap());
    }
    assert_eq!(
        events.iter().map(Told::name).collect::<Vec<_>>(),
        [("added", "new"), ("changed", "new"), ("removed", "new")]
    );
    assert_eq!(events[1].data["spec"]["as_number"], 7);
    assert_eq!(events[2].data["id"], json!(made));
    assert_eq!(events[2].data.get("spec"), None);
    let ids: Vec<u64> = events.iter().map(|told| told.id.unwrap()).collect();
    assert!(
        from < ids[0] && ids.is_sorted_by(|a, b| a < b),
        "{from} {ids:?}"
    );

    // Whoever comes back goes on after what they saw, by the parameter or by the header of such streams.
    let path = format!("/racks?watch=true&from={}", ids[0]);
    let mut again = Stream::open(&rig, &path, &rig.admin).await;
    assert_eq!(again.next().await.unwrap(), events[1]);
    let response = rig.ask("GET", "/racks?watch=true").token(&rig.admin);
    let response = response
        .header("last-event-id", &ids[1].to_string())
        .begin()
        .await;
    let mut again = Stream {
        body: response.into_body(),
        read: String::new(),
    };
    assert_eq!(again.next().await.unwrap(), events[2]);
}

#[tokio::test]
async fn a_thousand_who_watch_miss_nothing() {
    const WATCHING: usize = 1000;
    const CHANGES: u64 = 20;
    let rig = Rig::start().await;
    rig.make("/racks", json!({"name": "r1", "spec": {}})).await;
    let mut streams = Vec::new();
    for _ in 0..WATCHING {
        let mut stream = Stream::open(&rig, "/racks?watch=true", &rig.admin).await;
        stream.until_bookmark().await;
        streams.push(stream);
    }
    for number in 1..=CHANGES {
        change(&rig, "/racks/r1", json!({"as_number": number})).await;
        // What is of another kind is nothing to them.
        let name = format!("dc{number}");
        rig.make("/data_centers", json!({"name": name, "spec": {}}))
            .await;
    }
    for stream in &mut streams {
        for number in 1..=CHANGES {
            let told = stream.next().await.unwrap();
            assert_eq!(told.name(), ("changed", "r1"));
            assert_eq!(told.data["spec"]["as_number"], number);
        }
    }
}

#[tokio::test]
async fn what_a_filter_lets_in_and_out_comes_and_goes() {
    let rig = Rig::start().await;
    let path = "/data_centers?watch=true&state=maintenance";
    let mut stream = Stream::open(&rig, path, &rig.admin).await;
    assert!(stream.until_bookmark().await.0.is_empty());
    rig.make("/data_centers", json!({"name": "a", "spec": {}}))
        .await;
    change(&rig, "/data_centers/a", json!({"state": "maintenance"})).await;
    change(&rig, "/data_centers/a", json!({"description": "dusty"})).await;
    change(&rig, "/data_centers/a", json!({"state": "active"})).await;
    for expected in ["added", "changed", "removed"] {
        assert_eq!(stream.next().await.unwrap().name(), (expected, "a"));
    }
}

#[tokio::test]
async fn nobody_sees_more_than_they_may_and_nothing_once_they_may_not() {
    let rig = Rig::start().await;
    let alice = rig.tenant_with("acme", "alice", "tenant_admin").await;
    let bob = rig.tenant_with("rival", "bob", "tenant_admin").await;
    let mut hers = Stream::open(&rig, "/users?watch=true", &alice).await;
    let mut his = Stream::open(&rig, "/users?watch=true", &bob).await;
    let (there, _) = hers.until_bookmark().await;
    assert_eq!(
        there.iter().map(Told::name).collect::<Vec<_>>(),
        [("added", "alice")]
    );
    his.until_bookmark().await;
    for tenant in ["rival", "acme"] {
        let body = json!({"name": format!("{tenant}-new"), "tenant": tenant, "password": "a long enough one"});
        rig.make("/users", body).await;
    }
    assert_eq!(hers.next().await.unwrap().name(), ("added", "acme-new"));
    assert_eq!(his.next().await.unwrap().name(), ("added", "rival-new"));

    // She logs out: the stream ends before it tells anything that happens after.
    rig.ask("POST", "/auth/logout")
        .token(&alice)
        .send()
        .await
        .data(200);
    let body = json!({"name": "later", "tenant": "acme", "password": "a long enough one"});
    rig.make("/users", body).await;
    let last = hers.next().await.unwrap();
    assert_eq!(
        (last.event.as_str(), &last.data["code"]),
        ("error", &json!("unauthenticated"))
    );
    assert_eq!(hers.next().await, None);
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_before_a_stream_begins() {
    let rig = Rig::start().await;
    let ahead = rig.get("/racks?watch=true&from=999999", &rig.admin).await;
    assert_eq!(ahead.error(410), "expired");
    // What was before this controller started is not known here.
    let before = rig.get("/racks?watch=true&from=0", &rig.admin).await;
    assert_eq!(before.error(410), "expired");
    for bad in [
        "watch=perhaps",
        "watch=true&limit=5",
        "watch=true&cursor=x",
        "watch=true&from=x",
        "from=1",
    ] {
        let refused = rig.get(&format!("/racks?{bad}"), &rig.admin).await;
        assert_eq!(refused.error(400), "invalid", "{bad}");
    }
    let unknown = rig.get("/users?watch=true&tenant=nobody", &rig.admin).await;
    assert_eq!(unknown.error(404), "not_found");
    let stranger = rig.ask("GET", "/racks?watch=true").send().await;
    assert_eq!(stranger.error(401), "unauthenticated");
}
