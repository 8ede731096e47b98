//! What to do with a log whose last files do not read to their end.
//!
//! A power cut may leave a tail that was written but never flushed: nobody was told that it is there,
//! so it may go. Bytes below the flushed offset were acknowledged: to drop them would break a promise
//! of the whole group, so a log damaged there is refused. How far it was flushed is told by the mark
//! file and by any sound frame behind the damage.
//!
//! A new file gets its name before the one before it is flushed, and its first record after that. So the
//! unflushed tail may lie in the last file but one, with a file behind it that holds nothing yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use raft_log::RaftLogRecord;
use raft_log::codeq::Decode;

use super::flush::read_mark;
use super::record::{FRAME_MAGIC, Frame, LogTypes};

/// The files of the log, each with the offset in the whole log at which it begins, in order.
fn chunks(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut chunks = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let offset = raft_log::chunked_wal::Config::parse_chunk_file_name(&name.to_string_lossy());
        if let Ok(offset) = offset {
            chunks.push((offset, entry.path()));
        }
    }
    chunks.sort();
    Ok(chunks)
}

/// How many bytes from the beginning read as whole records.
pub(super) fn sound_bytes(bytes: &[u8]) -> usize {
    let mut cursor = Cursor::new(bytes);
    let mut sound = 0;
    while sound < bytes.len() && RaftLogRecord::<LogTypes>::decode(&mut cursor).is_ok() {
        sound = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
    }
    sound
}

/// The highest flushed offset that a sound frame in `bytes` bears witness of.
pub(super) fn flushed_by_witnesses(bytes: &[u8]) -> u64 {
    let starts = bytes
        .windows(FRAME_MAGIC.len())
        .enumerate()
        .filter(|(_, window)| *window == FRAME_MAGIC);
    starts
        .filter_map(|(at, _)| Frame::parse(&bytes[at..]))
        .map(|frame| frame.flushed_offset)
        .max()
        .unwrap_or(0)
}

/// What every refusal of a damaged log ends with.
pub(super) const WAY_OUT: &str = "remove this controller from the cluster and add it anew, or recover \
    from it if no other is left";

/// Cuts off a tail that was never flushed; refuses a log that lost what was. Returns the bytes cut.
pub(super) fn triage(dir: &Path) -> io::Result<u64> {
    let mut chunks = chunks(dir)?;
    let mark = read_mark(dir)?;
    let mut cut = 0;
    while let Some((begin, path)) = chunks.pop() {
        let bytes = fs::read(&path)?;
        let sound = sound_bytes(&bytes);
        let end = begin + sound as u64;
        let flushed = mark.max(flushed_by_witnesses(&bytes[sound..]));
        if end < flushed {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the log is damaged: {} reads only to byte {sound} of {}, but {} bytes behind that were \
                     acknowledged; {WAY_OUT}",
                    path.display(),
                    bytes.len(),
                    flushed - end,
                ),
            ));
        }
        let unsound = bytes.len() - sound;
        cut += unsound as u64;
        if unsound > 0 {
            tracing::warn!(
                file = %path.display(),
                bytes = unsound,
                "the log ends in bytes that were never flushed; cutting them off"
            );
        }
        if sound == 0 {
            fs::remove_file(&path)?;
            File::open(dir)?.sync_all()?;
            continue;
        }
        if unsound > 0 {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(sound as u64)?;
            file.sync_all()?;
        }
        break;
    }
    Ok(cut)
}
