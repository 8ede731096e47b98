//! Those who watch a list over the API: at one member for a while, then at another, from where they were.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;
use virtflow_types::chance;

use super::clients::Client;
use super::controller::{Shared, lock};
use super::trace;
use super::witness::PREFIX;
use crate::history::watch::{Event, Stream};

/// A stream says at least that nothing happened every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub(crate) struct Watcher {
    pub(crate) client: Client,
    pub(crate) streams: Shared<Vec<Stream>>,
}

/// What one watcher wrote down so far.
struct Record {
    streams: Shared<Vec<Stream>>,
    at: usize,
    /// Everything up to here was told.
    seen: Option<u64>,
    /// Events of an entry that is not told whole yet.
    pending: Vec<(String, Option<String>)>,
}

impl Record {
    fn push(&self, event: Event) {
        lock(&self.streams)[self.at].events.push(event);
    }

    /// Takes one event; nothing if the stream says that it has ended.
    fn take(&mut self, event: &str) -> Option<()> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let data: Value = serde_json::from_str(field("data: ")?).ok()?;
        let id: Option<u64> = field("id: ").and_then(|id| id.parse().ok());
        let name = data["name"].as_str().unwrap_or_default();
        match field("event: ")? {
            "error" => return None,
            "bookmark" => {
                let index = id?;
                if self.seen.is_none() {
                    let there = std::mem::take(&mut self.pending).into_iter();
                    let state: BTreeMap<_, _> = there
                        .filter_map(|(key, value)| Some((key, value?)))
                        .collect();
                    self.push(Event::Resync { index, state });
                } else {
                    self.push(Event::Progress { index });
                }
                self.seen = Some(index);
                return Some(());
            }
            what if name.starts_with(PREFIX) => {
                let value = data["spec"]["description"].as_str().unwrap_or_default();
                let value = (what != "removed").then(|| value.to_owned());
                self.pending.push((name.to_owned(), value));
            }
            _ => {}
        }
        if let Some(index) = id {
            for (key, version) in std::mem::take(&mut self.pending) {
                self.push(Event::Changed {
                    index,
                    key,
                    version,
                });
            }
            self.seen = Some(index);
        }
        Some(())
    }
}

impl Watcher {
    /// Watches until the run is told to come to rest.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let open = || self.client.open.load(Ordering::Relaxed);
        while !open() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let at = {
            let mut streams = lock(&self.streams);
            streams.push(Stream {
                watcher: self.client.name.clone(),
                prefix: PREFIX.to_owned(),
                events: Vec::new(),
            });
            streams.len() - 1
        };
        let mut record = Record {
            streams: self.streams.clone(),
            at,
            seen: None,
            pending: Vec::new(),
        };
        let api = self.client.api()?;
        while open() {
            let path = match record.seen {
                None => "/racks?watch=true".to_owned(),
                Some(seen) => format!("/racks?watch=true&from={seen}"),
            };
            let controller = self.client.any_controller();
            // What came of an entry that did not come whole comes again.
            record.pending.clear();
            match api.stream(&controller, &path).await {
                Some((200, body)) => {
                    trace::note(format!("watches at {controller} from {:?}", record.seen));
                    if let Some(after) = record.seen {
                        record.push(Event::Resumed { after });
                    }
                    let stays = Duration::from_millis(500 + chance::number() % 15_000);
                    drop(timeout(stays, read(body, &mut record)).await);
                }
                // What happened since is not known there: from the beginning.
                Some((410, _)) => record.seen = None,
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(chance::number() % 1500)).await;
        }
        trace::note("watcher rests");
        std::future::pending().await
    }
}

/// Reads until the stream ends, or says nothing for too long.
async fn read(mut body: Incoming, record: &mut Record) {
    let mut text = String::new();
    while let Ok(Some(Ok(frame))) = timeout(SILENCE_MAX, body.frame()).await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        text.push_str(&String::from_utf8_lossy(&data));
        while let Some((event, rest)) = text.split_once("\n\n") {
            if record.take(event).is_none() {
                return;
            }
            text = rest.to_owned();
        }
    }
}
