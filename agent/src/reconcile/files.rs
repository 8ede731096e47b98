//! The files of a guest: its folder, its disk, its console log.
//!
//! The console is a plain file that QEMU appends to. Where virtlogd runs it bounds the file itself
//! (2 MiB and three old ones, by libvirt's defaults). Where it doesn't, [`trim_console`] does, each
//! [`CONSOLE_TRIM_INTERVAL`](super::CONSOLE_TRIM_INTERVAL): beyond [`CONSOLE_BYTES_MAX`] the end is
//! kept as `console.log.old` and the file is cut to nothing; QEMU goes on at its new end. What a
//! guest writes between the copy and the cut is lost.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use virtflow_types::ObjectId;

use super::plan::{CONSOLE_FILE, DISK_FILE};
use crate::xml::guest_dir;

/// A console log beyond this is cut.
pub const CONSOLE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What is kept of a console log that is cut.
pub const CONSOLE_KEPT_BYTES: u64 = 1024 * 1024;
/// The most that one request for a console gets.
pub const CONSOLE_READ_BYTES_MAX: u64 = 1024 * 1024;

/// Something about a guest's files went wrong.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Makes what is missing of a guest's files. A disk that exists is never made smaller or emptied;
/// it grows if more is asked for. Images are sparse: blocks are taken when the guest writes.
///
/// # Errors
/// If the folder or a file can't be made.
pub fn prepare(guests_dir: &Path, vm_id: ObjectId, storage_gib: u64) -> Result<(), FileError> {
    let folder = guest_dir(guests_dir, vm_id);
    // QEMU may run as another user; it needs to pass through but not to look around.
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&folder)
        .map_err(failed("make the folder", &folder))?;
    // Whatever mask the process makes its files with: the unit's lets nobody else in.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))
        .map_err(failed("open the folder to QEMU's user", &folder))?;
    let create = |path: &Path| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
    };
    let console = folder.join(CONSOLE_FILE);
    create(&console).map_err(failed("make the console log", &console))?;
    if storage_gib > 0 {
        let disk = folder.join(DISK_FILE);
        let file = create(&disk).map_err(failed("make the disk", &disk))?;
        let wanted = storage_gib << 30;
        let grow = file.metadata().and_then(|metadata| {
            if metadata.len() < wanted {
                file.set_len(wanted)
            } else {
                Ok(())
            }
        });
        grow.map_err(failed("size the disk", &disk))?;
    }
    Ok(())
}

/// Removes a guest's folder with everything in it. Removing what is absent succeeds.
///
/// # Errors
/// If something can't be removed.
pub fn remove(guests_dir: &Path, vm_id: ObjectId) -> Result<(), FileError> {
    let folder = guest_dir(guests_dir, vm_id);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the folder", &folder)(error))
        }
        _ => Ok(()),
    }
}

/// The end of a guest's console log, at most `max_bytes`, and how long the log is in all.
///
/// # Errors
/// If there is no log, or it can't be read.
pub fn read_console(
    guests_dir: &Path,
    vm_id: ObjectId,
    max_bytes: u64,
) -> Result<(Vec<u8>, u64), FileError> {
    let path = guest_dir(guests_dir, vm_id).join(CONSOLE_FILE);
    let read = || {
        let mut file = File::open(&path)?;
        let total = file.metadata()?.len();
        let wanted = max_bytes.min(CONSOLE_READ_BYTES_MAX).min(total);
        file.seek(SeekFrom::Start(total - wanted))?;
        let mut bytes = Vec::new();
        file.take(wanted).read_to_end(&mut bytes)?;
        Ok((bytes, total))
    };
    read().map_err(failed("read the console log", &path))
}

/// Cuts a console log that has grown beyond [`CONSOLE_BYTES_MAX`]; tells whether it did.
///
/// # Errors
/// If it can't be read, copied or cut.
pub fn trim_console(guests_dir: &Path, vm_id: ObjectId) -> Result<bool, FileError> {
    let path = guest_dir(guests_dir, vm_id).join(CONSOLE_FILE);
    let trim = || {
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let total = file.metadata()?.len();
        if total <= CONSOLE_BYTES_MAX {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(total - CONSOLE_KEPT_BYTES))?;
        let mut old = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path.with_added_extension("old"))?;
        io::copy(&mut (&mut file).take(CONSOLE_KEPT_BYTES), &mut old)?;
        file.set_len(0)?;
        Ok(true)
    };
    trim().map_err(failed("cut the console log", &path))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const VM: ObjectId = ObjectId::from_u128(7);

    #[test]
    fn a_disk_is_sparse_grows_and_never_shrinks() {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path(), VM, 2).unwrap();
        let disk = guest_dir(root.path(), VM).join(DISK_FILE);
        let size = || fs::metadata(&disk).unwrap().len();
        assert_eq!(size(), 2 << 30);
        assert!(fs::metadata(&disk).unwrap().blocks() < 100);
        fs::write(guest_dir(root.path(), VM).join("mark"), b"x").unwrap();
        prepare(root.path(), VM, 1).unwrap();
        assert_eq!(size(), 2 << 30);
        prepare(root.path(), VM, 3).unwrap();
        assert_eq!(size(), 3 << 30);
        assert_eq!(fs::metadata(&disk).unwrap().mode() & 0o777, 0o600);
        let folder = disk.parent().unwrap();
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o711);
        // One that an earlier agent made behind a tighter mask is opened too.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        prepare(root.path(), VM, 1).unwrap();
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o711);

        remove(root.path(), VM).unwrap();
        assert!(!guest_dir(root.path(), VM).exists());
        remove(root.path(), VM).unwrap();
    }

    #[test]
    fn a_console_is_read_from_its_end_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        assert!(read_console(root.path(), VM, 10).is_err());
        prepare(root.path(), VM, 0).unwrap();
        assert_eq!(read_console(root.path(), VM, 10).unwrap(), (vec![], 0));
        let path = guest_dir(root.path(), VM).join(CONSOLE_FILE);
        fs::write(&path, b"one two three").unwrap();
        assert_eq!(
            read_console(root.path(), VM, 5).unwrap(),
            (b"three".to_vec(), 13)
        );
        let large = vec![b'x'; usize::try_from(CONSOLE_READ_BYTES_MAX).unwrap() + 1];
        fs::write(&path, &large).unwrap();
        let (bytes, total) = read_console(root.path(), VM, u64::MAX).unwrap();
        assert_eq!(bytes.len() as u64, CONSOLE_READ_BYTES_MAX);
        assert_eq!(total, CONSOLE_READ_BYTES_MAX + 1);
    }

    #[test]
    fn a_console_beyond_its_bound_is_cut_under_the_writer() {
        let root = tempfile::tempdir().unwrap();
        assert!(!trim_console(root.path(), VM).unwrap());
        prepare(root.path(), VM, 0).unwrap();
        let path = guest_dir(root.path(), VM).join(CONSOLE_FILE);
        // As QEMU holds it: open for appending all the while.
        let mut qemu = OpenOptions::new().append(true).open(&path).unwrap();
        qemu.write_all(&vec![b'a'; usize::try_from(CONSOLE_BYTES_MAX).unwrap()])
            .unwrap();
        assert!(!trim_console(root.path(), VM).unwrap());
        qemu.write_all(b"z").unwrap();
        assert!(trim_console(root.path(), VM).unwrap());
        qemu.write_all(b"next").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"next");
        let old = fs::read(path.with_added_extension("old")).unwrap();
        assert_eq!(old.len() as u64, CONSOLE_KEPT_BYTES);
        assert_eq!(old.last(), Some(&b'z'));
    }
}
