//! How far the log is flushed: what acknowledgements, the shadow and the triage of a damaged tail
//! rest on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use virtflow_types::RequestId;

use crate::measure::Measures;
use crate::phase::{self, Phase};
use crate::types::IoFlushed;

/// The file that names the flushed offset.
pub(super) const MARK_FILE: &str = "flushed";
/// Offset and checksum.
pub(super) const MARK_BYTES: usize = 16;

/// The flushed end of the log, in bytes and as an index.
#[derive(Debug)]
pub(super) struct FlushState {
    place: Mutex<Place>,
    index: watch::Sender<u64>,
    mark: File,
    measures: Arc<Measures>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Place {
    /// Grows when the log's tail is cut off: a flush asked for before then says nothing about the
    /// indexes written anew since.
    generation: u64,
    offset: u64,
    index: u64,
}

fn mark_checksum(offset: [u8; 8]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::hash(&offset).as_bytes()[..8]);
    short
}

/// The offset in the mark file; 0 if there is none or it is damaged.
pub(super) fn read_mark(dir: &Path) -> io::Result<u64> {
    let bytes = match std::fs::read(dir.join(MARK_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let Some((offset, checksum)) = bytes.split_first_chunk::<8>() else {
        return Ok(0);
    };
    if checksum != mark_checksum(*offset) {
        return Ok(0);
    }
    Ok(u64::from_be_bytes(*offset))
}

impl FlushState {
    pub(super) fn open(dir: &Path, measures: Arc<Measures>) -> io::Result<Self> {
        let offset = read_mark(dir)?;
        let mark = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(MARK_FILE))?;
        Ok(Self {
            place: Mutex::new(Place {
                generation: 0,
                offset,
                index: 0,
            }),
            index: watch::Sender::new(0),
            mark,
            measures,
        })
    }

    /// Written without a flush of its own: a lower bound, exact after the death of the process. The
    /// frames carry it too.
    fn write_mark(&self, offset: u64) -> io::Result<()> {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes[8..].copy_from_slice(&mark_checksum(offset.to_be_bytes()));
        self.mark.write_all_at(&bytes, 0)
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offset(&self) -> u64 {
        self.place().offset
    }
    pub(super) fn generation(&self) -> u64 {
        self.place().generation
    }
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    /// The log ends at `index` now; flushes asked for before say nothing about what follows.
    pub(super) fn cut_to(&self, index: u64) {
        let mut place = self.place();
        place.generation += 1;
        place.index = place.index.min(index);
        self.index.send_replace(place.index);
    }

    /// The log up to `index` lives in a snapshot that is flushed itself.
    pub(super) fn skip_to(&self, index: u64) {
        let mut place = self.place();
        if index > place.index {
            place.index = index;
            self.index.send_replace(index);
        }
    }

    fn flushed(&self, ask: &FlushAsk) -> io::Result<()> {
        let mut place = self.place();
        if ask.synced && ask.end_offset > place.offset {
            place.offset = ask.end_offset;
            self.write_mark(ask.end_offset)?;
        }
        if ask.generation == place.generation && ask.index > place.index {
            place.index = ask.index;
            self.index.send_replace(ask.index);
        }
        self.measures.flush_us.record_since(ask.asked_at);
        Ok(())
    }
}

/// What a flush will have covered once it is done.
#[derive(Debug)]
pub(super) struct FlushAsk {
    pub(super) generation: u64,
    pub(super) end_offset: u64,
    pub(super) index: u64,
    pub(super) asked_at: Instant,
    /// Whether the disk was really asked; only a test says no.
    pub(super) synced: bool,
}

/// Who waits for a flush.
pub(super) enum Waiter {
    Library(IoFlushed),
    Caller(oneshot::Sender<io::Result<()>>),
}

/// Called by the log's flushing thread once the bytes are on the disk.
pub(crate) struct Flushed {
    pub(super) state: Arc<FlushState>,
    pub(super) ask: FlushAsk,
    pub(super) waiter: Waiter,
    /// Whose changesets are in the entries, while somebody looks at them.
    pub(super) requests: Vec<RequestId>,
}

impl raft_log::Callback for Flushed {
    fn send(self, result: Result<(), io::Error>) {
        let result = result.and_then(|()| self.state.flushed(&self.ask));
        if result.is_ok() {
            phase::reached(Phase::Appended, &self.requests);
            phase::hold_thread(Phase::Appended, &self.requests);
        }
        match self.waiter {
            Waiter::Library(flushed) => flushed.io_completed(result),
            // The caller may have given up waiting.
            Waiter::Caller(sender) => drop(sender.send(result)),
        }
    }
}
