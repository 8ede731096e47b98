//! Watching a list: `?watch=true` answers with server-sent events, first what there is, then each change of it.
//!
//! Whoever watches has the rights of the moment at every event: they are looked up anew with each batch of what is
//! of the kind, and whenever a stream says that nothing happened; a revoked token ends its streams. While nothing happens, a quorum is asked now and then whether that is true;
//! a controller that is cut off ends its streams rather than be silent.

mod recent;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use virtflow_logic::{self as logic, Cx, Fields, ListQuery, Sight};
use virtflow_state::State;
use virtflow_types::{Error, ErrorCode, PAGE_OBJECTS_MAX, Timestamp};

use self::recent::Entry;
use super::Api;
use super::envelope::Failure;
use super::kinds::chosen;
use super::request::{Call, Streams};

pub(crate) use self::recent::{Recent, follow};

/// Streams of one controller at once.
const STREAMS_MAX: usize = 4096;
/// When somebody may ask again for whom there was no stream left: streams end when they please.
const STREAM_AGAIN: Duration = Duration::from_secs(1);
/// How long a stream says nothing before it says that nothing happened.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);
/// Entries that are looked at in one go.
const BATCH_ENTRIES: usize = 256;

/// Counts the streams of a controller.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Arc<AtomicUsize>);

#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Watchers {
    fn enter(&self) -> Result<Place, Failure> {
        let place = Place(Arc::clone(&self.0));
        if self.0.fetch_add(1, Ordering::Relaxed) < STREAMS_MAX {
            return Ok(place);
        }
        let error = Error::new(
            ErrorCode::LimitExceeded,
            format!("this controller serves {STREAMS_MAX} streams, as many as it may"),
        )
        .advise("watch at another controller, or end a stream");
        Err(Failure::later(error, STREAM_AGAIN))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far a stream has come.
#[derive(Debug)]
enum At {
    /// What there is is being told, page by page, as it was in this image.
    Pages(Arc<State>, Option<String>),
    /// Everything up to this index has been told.
    Index(u64),
    Ended,
}

#[derive(Debug)]
struct Watcher {
    api: Api,
    cx: Cx,
    query: ListQuery,
    /// What of each object is told; what went is told by what it was.
    fields: Option<Fields>,
    at: At,
    newest: Receiver<u64>,
    /// When it was last said how far this is.
    told: Instant,
    _place: Place,
}

/// Begins a stream for what `query` asks; from an index, if one is given, else with what there is.
pub(crate) fn begin(
    api: &Api,
    call: &Call,
    query: ListQuery,
    fields: Option<Fields>,
    from: Option<u64>,
) -> Result<Response, Failure> {
    let image = call.image()?;
    let cx = call.cx()?;
    // Whatever is wrong with the query is answered, not streamed.
    logic::Watch::open(image, &cx, &query)?;
    let at = match from {
        None => At::Pages(Arc::clone(image), None),
        Some(from) if from > image.index() => {
            return Err(expired(from).into());
        }
        Some(from) => {
            // The confirmed image may be newer than what this controller has looked at; never older.
            api.recent().after(from, 0).ok_or_else(|| expired(from))?;
            At::Index(from)
        }
    };
    let watcher = Watcher {
        api: api.clone(),
        cx,
        query,
        fields,
        at,
        newest: api.recent().newest(),
        told: Instant::now(),
        _place: api.watchers().enter()?,
    };
    let mut response = Sse::new(events(watcher)).into_response();
    response.extensions_mut().insert(Streams);
    Ok(response)
}

fn expired(from: u64) -> Error {
    Error::new(
        ErrorCode::Expired,
        format!("what happened since index {from} is not known here"),
    )
    .advise("watch without `from`: it begins with what there is")
}

fn events(watcher: Watcher) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(watcher, |mut watcher| async {
        let batch = watcher.next().await?;
        Some((stream::iter(batch), watcher))
    })
    .flatten()
    .map(Ok)
}

impl Watcher {
    /// The next events; none at the end.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let stopping = self.api.app().stopping().clone();
        let batch = tokio::select! {
            () = stopping.cancelled() => Err(Error::new(ErrorCode::Unavailable, "this controller stops").advise("go on at another controller, from the last id")),
            batch = self.batch() => batch,
        };
        match batch {
            Ok(batch) => batch,
            Err(error) => {
                self.at = At::Ended;
                let told = json!({"code": error.code.as_str(), "message": error.message, "advice": error.advice});
                Some(vec![event("error", &told)])
            }
        }
    }

    async fn batch(&mut self) -> Result<Option<Vec<Event>>, Error> {
        self.cx.now = Timestamp::now();
        match &self.at {
            At::Ended => Ok(None),
            At::Pages(image, cursor) => {
                let (image, cursor) = (Arc::clone(image), cursor.clone());
                self.page(&image, cursor).map(Some)
            }
            At::Index(index) => {
                let index = *index;
                self.after(index).await.map(Some)
            }
        }
    }

    /// A page of what there is, and after the last one how far that goes.
    fn page(&mut self, image: &Arc<State>, cursor: Option<String>) -> Result<Vec<Event>, Error> {
        let query = ListQuery {
            limit: PAGE_OBJECTS_MAX,
            cursor,
            ..self.query.clone()
        };
        let page = logic::list(image, &self.cx, &query)?;
        let mut batch: Vec<Event> = page
            .objects
            .into_iter()
            .map(|object| event("added", &chosen(self.fields.as_ref(), object)))
            .collect();
        self.at = if page.next_cursor.is_some() {
            At::Pages(Arc::clone(image), page.next_cursor)
        } else {
            batch.push(self.bookmark(image.index()));
            At::Index(image.index())
        };
        Ok(batch)
    }

    /// What came after an index, or, after a while, that nothing did.
    async fn after(&mut self, mut index: u64) -> Result<Vec<Event>, Error> {
        loop {
            let newest = *self.newest.borrow_and_update();
            if newest > index {
                let recent = self.api.recent();
                let entries = recent.after(index, BATCH_ENTRIES);
                let entries = entries.ok_or_else(|| expired(index))?;
                index = match entries.last() {
                    Some(last) if entries.len() == BATCH_ENTRIES => last.index,
                    _ => newest.max(entries.last().map_or(0, |last| last.index)),
                };
                // Most of what happens is of another kind: nobody's rights are looked up for that.
                let kind = self.query.kind.name();
                let is_of_kind = |entry: &Entry| entry.is_of(kind);
                let batch = match entries.iter().any(is_of_kind) {
                    true => self.see(&entries)?,
                    false => Vec::new(),
                };
                self.at = At::Index(index);
                if !batch.is_empty() {
                    self.told = Instant::now();
                    return Ok(batch);
                }
            }
            let quiet_until = self.told + BOOKMARK_EVERY;
            let woken = tokio::time::timeout_at(quiet_until, self.newest.changed()).await;
            match woken {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    return Err(Error::new(ErrorCode::Unavailable, "this controller stops"));
                }
                Err(_) => {
                    // Silence is told only if a quorum says that nothing happened.
                    let confirmed = self.api.app().node().read().await;
                    let confirmed = confirmed.map_err(|error| error.to_error())?.index();
                    if index >= confirmed {
                        // One whose rights are gone is not told that nothing happened either.
                        self.see(&[])?;
                        return Ok(vec![self.bookmark(index)]);
                    }
                    self.told = Instant::now();
                }
            }
        }
    }

    /// Entries with the eyes of the one who watches, as their rights are now. The id stands at the last event of
    /// an entry: whoever goes on from it has seen all of that.
    fn see(&self, entries: &[Entry]) -> Result<Vec<Event>, Error> {
        let image = self.api.app().node().image();
        let watch = logic::Watch::open(&image, &self.cx, &self.query)?;
        let mut batch = Vec::new();
        for entry in entries {
            let seen = entry.changes.iter().filter_map(|change| watch.see(change));
            let mut seen: Vec<Event> = seen
                .map(|sight| match sight {
                    Sight::Added(object) => event("added", &chosen(self.fields.as_ref(), object)),
                    Sight::Changed(object) => {
                        event("changed", &chosen(self.fields.as_ref(), object))
                    }
                    Sight::Removed(object) => event("removed", &object),
                })
                .collect();
            if let Some(last) = seen.pop() {
                seen.push(last.id(entry.index.to_string()));
            }
            batch.append(&mut seen);
        }
        Ok(batch)
    }

    fn bookmark(&mut self, index: u64) -> Event {
        self.told = Instant::now();
        event("bookmark", &json!({"index": index})).id(index.to_string())
    }
}

/// An event; JSON has no bare line ends, so its data is one line.
fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}
