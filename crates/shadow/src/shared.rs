//! What the writer shares with those who hand entries over and wait: the queue, the progress, the
//! failure.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use virtflow_state::State;
use virtflow_state::port::{AppliedEntry, ShadowError, ShadowProgress};

use crate::crash::Crash;

/// So many waiting entries are written without lingering.
pub(crate) const EAGER_ENTRIES: usize = 512;
/// So many entries may wait. Whoever hands them over slows down long before.
pub(crate) const QUEUE_ENTRIES_MAX: usize = 200_000;
/// One transaction takes about so many bytes of rows and no more than one entry beyond.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the writer and everybody else share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Mutex<Queue>,
    pub(crate) wake: Notify,
    pub(crate) progress: watch::Sender<ShadowProgress>,
    failure: watch::Sender<Option<ShadowError>>,
    pub(crate) written: Mutex<Written>,
    pub(crate) crash: Crash,
}

/// The newest state in the files, and which file it is in.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) image: State,
    pub(crate) path: PathBuf,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) entries: VecDeque<Arc<AppliedEntry>>,
    /// When the oldest of them came.
    pub(crate) since: Option<Instant>,
    pub(crate) submitted: u64,
    flushed: u64,
    pub(crate) want_written: u64,
    pub(crate) want_durable: u64,
    pub(crate) closed: bool,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(image: State, path: PathBuf) -> Self {
        let index = image.index();
        Self {
            queue: Mutex::new(Queue {
                submitted: index,
                ..Queue::default()
            }),
            wake: Notify::new(),
            progress: watch::Sender::new(ShadowProgress {
                submitted: index,
                written: index,
                durable: index,
                queued: 0,
            }),
            failure: watch::Sender::new(None),
            written: Mutex::new(Written { image, path }),
            crash: Crash::never(),
        }
    }

    pub(crate) fn submit(&self, entry: Arc<AppliedEntry>) {
        let mut queue = locked(&self.queue);
        if queue.closed {
            return;
        }
        let (index, expected) = (entry.index, queue.submitted + 1);
        if index != expected || entry.image.index() != index {
            let image = entry.image.index();
            drop(queue);
            self.fail(ShadowError {
                doing: "taking an applied entry".into(),
                cause: format!("entry {index} with the image of {image} came, {expected} was next"),
            });
            return;
        }
        if queue.entries.len() >= QUEUE_ENTRIES_MAX {
            drop(queue);
            self.fail(ShadowError {
                doing: "taking an applied entry".into(),
                cause: format!("{QUEUE_ENTRIES_MAX} entries wait to be written already"),
            });
            return;
        }
        queue.submitted = index;
        queue.since.get_or_insert_with(Instant::now);
        queue.entries.push_back(entry);
        let queued = queue.entries.len();
        let waited_for = queue.want_written >= index;
        drop(queue);
        self.progress.send_modify(|progress| {
            progress.submitted = index;
            progress.queued = u64::try_from(queued).unwrap_or(u64::MAX);
        });
        if queued == 1 || waited_for || queued.is_multiple_of(EAGER_ENTRIES) {
            self.wake.notify_one();
        }
    }

    pub(crate) fn log_flushed(&self, index: u64) {
        locked(&self.queue).flushed = index;
        self.wake.notify_one();
    }

    pub(crate) fn want(&self, index: u64, durable: bool) {
        let mut queue = locked(&self.queue);
        queue.want_written = queue.want_written.max(index);
        if durable {
            queue.want_durable = queue.want_durable.max(index);
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Ends the shadow; the first failure is the one that is told.
    pub(crate) fn fail(&self, error: ShadowError) {
        let mut queue = locked(&self.queue);
        queue.closed = true;
        queue.entries.clear();
        drop(queue);
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(%error, "the shadow failed");
                *failure = Some(error);
            }
            first
        });
        // The writer ends too.
        self.wake.notify_one();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(crate) fn failure(&self) -> watch::Receiver<Option<ShadowError>> {
        self.failure.subscribe()
    }

    /// Why nothing can be asked of the writer any more.
    pub(crate) fn stopped(&self) -> ShadowError {
        self.failure
            .borrow()
            .clone()
            .unwrap_or_else(|| ShadowError {
                doing: "asking the shadow's writer".into(),
                cause: "the shadow is closed".into(),
            })
    }

    pub(crate) fn written(&self) -> Written {
        locked(&self.written).clone()
    }
}

impl Queue {
    /// How many entries may be written: those that the log has flushed.
    pub(crate) fn ready(&self) -> usize {
        let Some(first) = self.entries.front() else {
            return 0;
        };
        let flushed = (self.flushed + 1).saturating_sub(first.index);
        usize::try_from(flushed).map_or(self.entries.len(), |n| n.min(self.entries.len()))
    }

    /// Takes what one transaction holds of the first `ready` entries.
    pub(crate) fn take(&mut self, ready: usize, now: Instant) -> Vec<Arc<AppliedEntry>> {
        let mut bytes = 0;
        let mut count = 0;
        while count < ready && bytes < BATCH_BYTES_MAX {
            bytes += entry_bytes(&self.entries[count]);
            count += 1;
        }
        let taken = self.entries.drain(..count).collect();
        self.since = if self.entries.is_empty() {
            None
        } else if count < ready {
            self.since
        } else {
            Some(now)
        };
        taken
    }
}

/// About what an entry writes.
fn entry_bytes(entry: &AppliedEntry) -> usize {
    let rows = entry
        .changes
        .iter()
        .filter_map(|change| change.after.as_ref());
    rows.map(|object| object.spec.len() + object.status.len() + 512)
        .sum::<usize>()
        + entry
            .records
            .iter()
            .map(|r| r.body.len() + 256)
            .sum::<usize>()
        + 256
}
