//! Whether a store's trouble is a full disk. The database says "disk I/O error" for some of its files, and who is
//! woken by that looks at cables first.

use std::path::Path;

/// With less room than this nothing can be written: an index of the database's journal alone takes 32 KiB, and a log file grows by more.
const ROOM_MIN: u64 = 1 << 20;

/// Bytes of the disk of `folder` that anybody but the superuser may still have; nothing if it cannot be told.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether what went wrong was want of room, by the words of the file system and of the database: what could not be
/// written may have been larger than the room that there still is.
pub(super) fn is_wanting(reason: &str) -> bool {
    ["No space left on device", "database or disk is full"]
        .iter()
        .any(|words| reason.contains(words))
}

/// What to do about a disk that has no room, in bytes that anybody but the superuser may have; nothing if it has.
pub(super) fn advice(folder: &Path) -> Option<String> {
    let room = free_bytes(folder)?;
    (room < ROOM_MIN).then(|| {
        format!(
            "the disk of {} is full, {} KiB are left: make room; its unit starts it again until there is some",
            folder.display(),
            room / 1024
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_room_is_not_blamed() {
        assert_eq!(advice(Path::new("/")), None);
        assert_eq!(advice(Path::new("/no/such/folder")), None);
    }

    #[test]
    fn want_of_room_is_known_by_the_words_for_it() {
        let of_files = std::io::Error::from_raw_os_error(28).to_string();
        assert!(is_wanting(&format!("writing the log: {of_files}")));
        assert!(is_wanting("(code: 13) database or disk is full"));
        assert!(!is_wanting("(code: 10) disk I/O error"));
    }

    /// A file system without room is there on every Linux.
    #[test]
    fn a_disk_without_room_is_named() {
        let told = advice(Path::new("/proc")).unwrap();
        assert!(
            told.starts_with("the disk of /proc is full, 0 KiB"),
            "{told}"
        );
    }
}
