//! What to do with a log whose last file does not read to its end.
//!
//! A power cut may leave a tail that was written but never flushed: nobody was told that it is there,
//! so it may go. Bytes below the flushed offset were acknowledged: to drop them would break a promise
//! of the whole group, so a log damaged there is refused. How far it was flushed is told by the mark
//! file and by any sound frame behind the damage.

use std::fs::{self, OpenOptions};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use raft_log::RaftLogRecord;
use raft_log::codeq::Decode;

use super::flush::read_mark;
use super::record::{FRAME_MAGIC, Frame, LogTypes};

/// The last file of the log and the offset in the whole log at which it begins.
fn last_chunk(dir: &Path) -> io::Result<Option<(PathBuf, u64)>> {
    let mut last = None;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let offset = raft_log::chunked_wal::Config::parse_chunk_file_name(&name.to_string_lossy());
        if let Ok(offset) = offset
            && last.as_ref().is_none_or(|(_, highest)| offset > *highest)
        {
            last = Some((entry.path(), offset));
        }
    }
    Ok(last)
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

/// Cuts off a tail that was never flushed; refuses a log that lost what was. Returns the bytes cut.
pub(super) fn triage(dir: &Path) -> io::Result<u64> {
    let Some((path, begin)) = last_chunk(dir)? else {
        return Ok(0);
    };
    let bytes = fs::read(&path)?;
    let flushed = read_mark(dir)?;
    let sound = sound_bytes(&bytes);
    let end = begin + sound as u64;
    let flushed = flushed.max(flushed_by_witnesses(&bytes[sound..]));
    if end < flushed {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the log is damaged: {} reads only to byte {sound} of {}, but {} bytes behind that were \
                 acknowledged; remove this controller from the cluster and add it anew, or recover from it \
                 if no other is left",
                path.display(),
                bytes.len(),
                flushed - end,
            ),
        ));
    }
    let cut = bytes.len() - sound;
    if cut > 0 {
        tracing::warn!(
            file = %path.display(),
            bytes = cut,
            "the log ends in bytes that were never flushed; cutting them off"
        );
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(sound as u64)?;
        file.sync_all()?;
    }
    Ok(cut as u64)
}
