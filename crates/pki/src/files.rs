//! Files that must be whole after a power cut, and private at every moment.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use crate::PkiError;

pub(crate) const PRIVATE: u32 = 0o600;
pub(crate) const PUBLIC: u32 = 0o644;

/// Keys and certificates are a few KiB; anything longer is not one.
const FILE_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    Yes,
    /// Losing a key that is in use is worse than failing.
    No,
}

/// Writes beside the target, flushes, renames, flushes the folder: after a crash the old file or
/// the new one is there, never a part. The mode is set at creation, so the bytes are never open.
pub(crate) fn write(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    replace: Replace,
) -> Result<(), PkiError> {
    let beside = beside(path);
    // What a crash left here was never anybody's: only the rename publishes.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(PkiError::io("remove the stale file", &beside)(error));
        }
        _ => {}
    }
    let written =
        write_flushed(&beside, bytes, mode).and_then(|()| publish(&beside, path, replace));
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".new");
    PathBuf::from(name)
}

fn write_flushed(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(PkiError::io("create", path))?;
    file.write_all(bytes).map_err(PkiError::io("write", path))?;
    file.sync_all().map_err(PkiError::io("flush", path))
}

fn publish(from: &Path, to: &Path, replace: Replace) -> Result<(), PkiError> {
    let flags = match replace {
        Replace::Yes => RenameFlags::empty(),
        Replace::No => RenameFlags::NOREPLACE,
    };
    match renameat_with(CWD, from, CWD, to, flags) {
        Err(rustix::io::Errno::EXIST) => {
            return Err(PkiError::AlreadyExists {
                path: to.to_path_buf(),
            });
        }
        renamed => renamed.map_err(|errno| PkiError::io("rename to", to)(errno.into()))?,
    }
    let folder = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(PkiError::io("flush the folder", folder))
}

/// Whom a secret file may be readable by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// Only its owner, who is root or this process; for root also the one whose folder it is in.
    OwnerOnly,
    /// systemd guards the folder of credentials itself, and gives the service's user access by an
    /// ACL, whose mask shows up as group bits: the mode says nothing there.
    GuardedFolder,
}

/// `None` when there is no such file. The check and the read are of one open file, so a swap
/// between them changes nothing.
pub(crate) fn read_secret(
    path: &Path,
    privacy: Privacy,
) -> Result<Option<Zeroizing<Vec<u8>>>, PkiError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(PkiError::io("open", path))?,
    };
    let metadata = file.metadata().map_err(PkiError::io("inspect", path))?;
    if !metadata.is_file() {
        return Err(PkiError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    if privacy == Privacy::OwnerOnly {
        let mode = metadata.mode() & 0o7777;
        if mode & !PRIVATE != 0 {
            return Err(PkiError::FileMode {
                path: path.to_path_buf(),
                mode,
            });
        }
        let owner = metadata.uid();
        let me = rustix::process::geteuid();
        // Root looks after the service's own folder: who owns that could put any other file there.
        let is_service = || me.is_root() && folder_owner(path) == Some(owner);
        if owner != 0 && owner != me.as_raw() && !is_service() {
            return Err(PkiError::FileOwner {
                path: path.to_path_buf(),
                owner,
            });
        }
    }
    read_bounded(file, path).map(Some)
}

fn folder_owner(path: &Path) -> Option<u32> {
    let metadata = path.parent()?.metadata().ok()?;
    Some(metadata.uid())
}

/// `None` when there is no such file.
pub(crate) fn read_public(path: &Path) -> Result<Option<String>, PkiError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(PkiError::io("open", path))?,
    };
    let bytes = read_bounded(file, path)?;
    String::from_utf8(bytes.to_vec())
        .map(Some)
        .map_err(|_| PkiError::malformed("PEM file", format!("{} is not text", path.display())))
}

fn read_bounded(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, PkiError> {
    // Room for all of it at once: a vector that grows leaves copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(PkiError::io("read", path))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(PkiError::malformed(
            "key or certificate file",
            format!("{} is longer than {FILE_BYTES_MAX} bytes", path.display()),
        ));
    }
    Ok(bytes)
}
