//! The newest changes, kept once for all who watch: whoever comes back after a moment goes on where they were, and a
//! thousand who watch cost the apply path as much as one.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virtflow_raft::{ChangeEvent, ChangeStream};
use virtflow_state::{Change, State};

use crate::app::App;

/// Changes that are kept: at ten a second, the last eight minutes. Each holds a version of an object that the state
/// may have left behind, some 4 KB.
const CHANGES_MAX: usize = 5_000;

/// What one entry changed.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) index: u64,
    pub(super) changes: Arc<[Change]>,
}

impl Entry {
    /// True if it changed an object of that kind.
    pub(super) fn is_of(&self, kind: &str) -> bool {
        self.changes.iter().any(|change| {
            let object = change.after.as_ref().or(change.before.as_ref());
            object.is_some_and(|object| object.kind == kind)
        })
    }
}

#[derive(Debug)]
struct Kept {
    entries: VecDeque<Entry>,
    changes: usize,
    /// Everything after this index is in `entries`.
    complete_after: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Recent {
    kept: RwLock<Kept>,
    changes_max: usize,
    /// The index of the newest entry that was looked at.
    newest: watch::Sender<u64>,
}

impl Recent {
    fn of(image: &State, changes_max: usize) -> Self {
        Self {
            kept: RwLock::new(Kept {
                entries: VecDeque::new(),
                changes: 0,
                complete_after: image.index(),
            }),
            changes_max,
            newest: watch::Sender::new(image.index()),
        }
    }

    /// What changed after an index, at most `entries_max` entries of it, in order; `None` if that is not known
    /// any more.
    pub(super) fn after(&self, index: u64, entries_max: usize) -> Option<Vec<Entry>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if index < kept.complete_after {
            return None;
        }
        let from = kept.entries.partition_point(|entry| entry.index <= index);
        Some(
            kept.entries
                .range(from..)
                .take(entries_max)
                .cloned()
                .collect(),
        )
    }

    /// Tells of what is newer.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn begin(&self, image: &State) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Kept {
            entries: VecDeque::new(),
            changes: 0,
            complete_after: image.index(),
        };
        drop(kept);
        self.newest.send_replace(image.index());
    }

    fn push(&self, index: u64, changes: impl Iterator<Item = Change>) {
        let changes: Arc<[Change]> = changes.collect();
        if !changes.is_empty() {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.changes += changes.len();
            kept.entries.push_back(Entry { index, changes });
            while kept.changes > self.changes_max
                && let Some(oldest) = kept.entries.pop_front()
            {
                kept.changes -= oldest.changes.len();
                kept.complete_after = oldest.index;
            }
        }
        self.newest.send_replace(index);
    }
}

/// What changes from now on, and what has to run so that it is kept. Every image that a request is answered
/// from afterwards is at least as new.
pub(crate) fn follow(app: &App) -> (Arc<Recent>, impl Future<Output = ()> + use<>) {
    let (image, changes) = app.node().changes();
    let recent = Arc::new(Recent::of(&image, CHANGES_MAX));
    let stopping = app.stopping().clone();
    (Arc::clone(&recent), keep(recent, changes, stopping))
}

/// Until the controller stops.
async fn keep(recent: Arc<Recent>, mut changes: ChangeStream, stopping: CancellationToken) {
    loop {
        let event = tokio::select! {
            () = stopping.cancelled() => return,
            event = changes.next() => event,
        };
        match event {
            Some(ChangeEvent::Entry(entry)) => {
                recent.push(entry.index, entry.changes.iter().cloned());
            }
            Some(ChangeEvent::Resync(image)) => recent.begin(&image),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use virtflow_types::ObjectId;

    use super::*;

    fn change(number: u128) -> Change {
        Change {
            id: ObjectId::from_u128(number),
            before: None,
            after: None,
        }
    }

    fn indexes(entries: Option<Vec<Entry>>) -> Option<Vec<u64>> {
        entries.map(|entries| entries.iter().map(|entry| entry.index).collect())
    }

    #[test]
    fn what_is_after_an_index_is_given_in_order_and_never_with_a_gap() {
        let mut image = State::empty();
        image.set_index(4);
        let recent = Recent::of(&image, 3);
        assert_eq!(indexes(recent.after(4, 10)), Some(vec![]));
        assert!(recent.after(3, 10).is_none());
        recent.push(5, [change(1), change(2)].into_iter());
        recent.push(6, std::iter::empty());
        recent.push(7, [change(3)].into_iter());
        assert_eq!(indexes(recent.after(4, 10)), Some(vec![5, 7]));
        assert_eq!(indexes(recent.after(4, 1)), Some(vec![5]));
        assert_eq!(indexes(recent.after(6, 10)), Some(vec![7]));
        assert_eq!(*recent.newest().borrow(), 7);
        // One too many: the oldest entry goes whole, and whoever had not seen it is told so.
        recent.push(8, [change(4)].into_iter());
        assert!(recent.after(4, 10).is_none());
        assert_eq!(indexes(recent.after(5, 10)), Some(vec![7, 8]));
        // A snapshot makes all of it void.
        image.set_index(20);
        recent.begin(&image);
        assert!(recent.after(8, 10).is_none());
        assert_eq!(indexes(recent.after(20, 10)), Some(vec![]));
    }
}
