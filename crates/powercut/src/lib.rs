//! What a power cut leaves of files: for tests of what must survive one.
//!
//! ```text
//! Recorder ──► Stream ──► State, State, … ──► Image ──► a folder to open a store in
//! what the     every      which unflushed     the files
//! process did  change     changes are kept    as bytes
//! ```
//!
//! A [`Recorder`] notes every change that this process makes below one folder: files made, written,
//! cut, flushed, renamed, removed, folders made and flushed. It stands between the program and the C
//! library (`intercept`), so it sees the standard library and SQLite alike, in the order in which it
//! happened. A test puts its own marks between: what was promised by then. At the end the recorded
//! changes are played and compared with what is on the disk, so a change that was missed fails the test.
//!
//! A [`Stream`] is cut at every change. What may be left then ([`State`]):
//!
//! - of a file, what was flushed, and any beginning of what was written since; the last write also in
//!   part: a beginning, an end, or only its length with zeros for bytes; or all but one earlier write,
//!   since a disk need not keep to the order;
//! - of a folder, the names that were flushed, and any beginning of the changes of names since. Their
//!   order is kept, as the journals of the usual file systems do;
//! - of each file and folder without regard to the others.
//!
//! Not in it: bytes that were flushed and are lost or damaged all the same (that is a broken disk:
//! tests of flipped bits are for that), changes through a memory map (SQLite's `-shm`, which is not
//! kept over a crash), renames between folders, links, and other processes.

mod disk;
mod intercept;
mod record;
mod states;

pub use disk::Image;
pub use record::{Recorder, Stream};
pub use states::{State, sample};

/// A folder for a test, in memory where the machine has such a place: what a power cut does to a disk
/// is played here, and a flush that takes no time leaves room for more cuts.
///
/// # Panics
/// If none can be made.
#[must_use]
pub fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a place for temporary files")
}

/// Where a test that looks at a part of all cases begins: elsewhere each second, or at
/// `VIRTFLOW_ROTATION`. Such a test prints it.
///
/// # Panics
/// If the variable is no number.
#[must_use]
pub fn rotation() -> usize {
    if let Some(from) = variable("VIRTFLOW_ROTATION") {
        return from;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| usize::try_from(now.as_secs()).unwrap_or(0))
}

/// Which cases are looked at: every so manieth, and the first of them. With `VIRTFLOW_EXHAUSTIVE=1` it
/// is each of them; with another number, for one who does it in pieces, every so manieth.
///
/// # Panics
/// If the variable is no number.
#[must_use]
pub fn every(usual: usize) -> (usize, usize) {
    let step = variable("VIRTFLOW_EXHAUSTIVE").unwrap_or(usual).max(1);
    (step, rotation() % step)
}

fn variable(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
    )
}
