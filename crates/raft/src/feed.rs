//! What every apply is told to: a stream of entries without a gap, or the word that one must look at
//! the whole state anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use virtflow_state::State;
use virtflow_state::port::AppliedEntry;

use crate::measure::Measures;

/// The next thing a follower of the changes must know.
#[derive(Debug, Clone)]
pub enum ChangeEvent {
    /// One entry, directly after the one before.
    Entry(Arc<AppliedEntry>),
    /// A snapshot was installed or this follower fell too far behind: what it knows is void, this is
    /// the state now, and entries go on from here.
    Resync(Arc<State>),
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Arc<AppliedEntry>>,
    /// Set instead of `entries` when the follower must begin anew.
    resync: Option<Arc<State>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Follower {
    queue: Mutex<Queue>,
    wake: Notify,
}

/// Hands applied entries to all followers. Never waits for one.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    entries_max: usize,
    measures: Arc<Measures>,
}

#[derive(Debug)]
struct Inner {
    image: Arc<State>,
    followers: Vec<Weak<Follower>>,
    closed: bool,
}

impl Hub {
    pub(crate) fn new(image: Arc<State>, entries_max: usize, measures: Arc<Measures>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                image,
                followers: Vec::new(),
                closed: false,
            }),
            entries_max,
            measures,
        }
    }

    fn each(&self, image: Arc<State>, closed: bool, mut tell: impl FnMut(&mut Queue)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.image = image;
        inner.closed |= closed;
        inner.followers.retain(|follower| {
            let Some(follower) = follower.upgrade() else {
                return false;
            };
            tell(
                &mut follower
                    .queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            follower.wake.notify_one();
            true
        });
    }

    pub(crate) fn applied(&self, image: &Arc<State>, entry: &Arc<AppliedEntry>) {
        self.each(image.clone(), false, |queue| {
            if queue.resync.is_some() {
                queue.resync = Some(image.clone());
            } else if queue.entries.len() >= self.entries_max {
                queue.entries = VecDeque::new();
                queue.resync = Some(image.clone());
                self.measures.resyncs.add(1);
            } else {
                queue.entries.push_back(entry.clone());
            }
        });
    }

    pub(crate) fn replaced(&self, image: &Arc<State>) {
        self.each(image.clone(), false, |queue| {
            queue.entries = VecDeque::new();
            queue.resync = Some(image.clone());
            self.measures.resyncs.add(1);
        });
    }

    pub(crate) fn close(&self) {
        let image = self
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .image
            .clone();
        self.each(image, true, |queue| queue.closed = true);
    }

    pub(crate) fn follow(&self) -> (Arc<State>, ChangeStream) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let follower = Arc::new(Follower {
            queue: Mutex::new(Queue {
                closed: inner.closed,
                ..Queue::default()
            }),
            wake: Notify::new(),
        });
        inner.followers.push(Arc::downgrade(&follower));
        (inner.image.clone(), ChangeStream { follower })
    }
}

/// The changes from some image on.
#[derive(Debug)]
pub struct ChangeStream {
    follower: Arc<Follower>,
}

impl ChangeStream {
    /// Waits for the next event; `None` once the node has stopped. Safe to drop while waiting.
    pub async fn next(&mut self) -> Option<ChangeEvent> {
        loop {
            {
                let mut queue = self
                    .follower
                    .queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if let Some(image) = queue.resync.take() {
                    return Some(ChangeEvent::Resync(image));
                }
                if let Some(entry) = queue.entries.pop_front() {
                    return Some(ChangeEvent::Entry(entry));
                }
                if queue.closed {
                    return None;
                }
            }
            self.follower.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(index: u64) -> (Arc<State>, Arc<AppliedEntry>) {
        let mut image = State::empty();
        image.set_index(index);
        let entry = AppliedEntry {
            index,
            term: 1,
            raft_meta: Bytes::new(),
            outcomes: Vec::new(),
            changes: Vec::new(),
            records: Vec::new(),
            image: image.clone(),
        };
        (Arc::new(image), Arc::new(entry))
    }

    fn hub(entries_max: usize) -> Hub {
        Hub::new(Arc::new(State::empty()), entries_max, Arc::default())
    }

    #[tokio::test]
    async fn a_follower_that_keeps_up_sees_each_entry() {
        let hub = hub(4);
        let (image, mut stream) = hub.follow();
        assert_eq!(image.index(), 0);
        for index in 1..=3 {
            let (image, entry) = entry(index);
            hub.applied(&image, &entry);
        }
        for index in 1..=3 {
            match stream.next().await {
                Some(ChangeEvent::Entry(entry)) => assert_eq!(entry.index, index),
                other => panic!("{other:?}"),
            }
        }
        hub.close();
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn one_past_the_limit_begins_anew_at_the_newest_image() {
        let hub = hub(4);
        let (_, mut stream) = hub.follow();
        for index in 1..=6 {
            let (image, entry) = entry(index);
            hub.applied(&image, &entry);
        }
        match stream.next().await {
            Some(ChangeEvent::Resync(image)) => assert_eq!(image.index(), 6),
            other => panic!("{other:?}"),
        }
        let (image, entry) = entry(7);
        hub.applied(&image, &entry);
        match stream.next().await {
            Some(ChangeEvent::Entry(entry)) => assert_eq!(entry.index, 7),
            other => panic!("{other:?}"),
        }
    }
}
