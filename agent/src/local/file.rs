//! One small file that is either the old or the new one, whole, whenever the power goes.
//!
//! The first line is the checksum of the rest, so that a damaged file is known for one. Writing
//! goes to a temporary file, is flushed, renamed over the old, and the folder is flushed too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest file that is read: the state of some ten thousand VMs.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What was found on disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The content as it was written.
    Content(Vec<u8>),
    /// There is no file.
    Nothing,
    /// There is one, but not as we wrote it.
    Damaged(String),
}

/// Reads a file that [`write`] wrote.
pub(crate) fn read(path: &Path) -> Found {
    let file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return Found::Damaged(error.to_string()),
    };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        return Found::Damaged(error.to_string());
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Found::Damaged(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Found::Damaged("it has no checksum line".to_owned());
    };
    let content = bytes.split_off(end + 1);
    bytes.truncate(end);
    if bytes != checksum(&content).as_bytes() {
        return Found::Damaged("its checksum is wrong".to_owned());
    }
    Found::Content(content)
}

/// Writes a file so that it survives a power cut at any moment, as the old one or the new one.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let temporary = temporary(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(checksum(content).as_bytes())?;
    file.write_all(b"\n")?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

fn temporary(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn checksum(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_and_nothing_else_is_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(read(&path), Found::Nothing);
        write(&path, b"first").unwrap();
        write(&path, b"second\nline").unwrap();
        assert_eq!(read(&path), Found::Content(b"second\nline".to_vec()));

        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(read(&path), Found::Damaged(_)), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(read(&path), Found::Damaged(_)), "flipped at {at}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(read(&path), Found::Damaged(_)));
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, b"old").unwrap();
        // What a crash in the middle of the next write leaves behind.
        for rest in [&b""[..], b"half a check", b"0000\nwrong"] {
            fs::write(temporary(&path), rest).unwrap();
            assert_eq!(read(&path), Found::Content(b"old".to_vec()));
        }
        write(&path, b"new").unwrap();
        assert_eq!(read(&path), Found::Content(b"new".to_vec()));
    }
}
