//! Filesystems, and above all the one that holds the guests.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use virtflow_proto::agent::v1;

use super::{InventoryError, unknown};

/// Filesystems of the kernel's own, which hold no files of anybody's.
const PSEUDO: &[&str] = &[
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "mqueue",
    "hugetlbfs",
    "pstore",
    "bpf",
    "configfs",
    "fusectl",
    "binfmt_misc",
    "autofs",
    "nsfs",
    "ramfs",
    "efivarfs",
    "rpc_pipefs",
    "tmpfs",
    "selinuxfs",
];

/// One mount of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) fstype: String,
    pub(super) source: String,
}

/// Sizes of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) total_mib: u64,
    pub(super) available_mib: u64,
    pub(super) used_mib: u64,
}

/// Filesystems with files, each once, and always the one that holds the guests.
pub(super) fn filesystems(guests_dir: &Path) -> Result<Vec<v1::Filesystem>, InventoryError> {
    let path = "/proc/self/mountinfo";
    let table = fs::read_to_string(path).map_err(|error| unknown("the mounts", path, error))?;
    let mounts = mounts(&table);
    let guests_dir = existing_ancestor(guests_dir);
    let holder = holder_of(&mounts, &guests_dir);
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let holds_guests = Some(index) == holder;
        let pseudo = PSEUDO.contains(&mount.fstype.as_str());
        if !holds_guests && (pseudo || !seen.insert(&mount.source)) {
            continue;
        }
        // Of what is mounted there, the folder of the guests itself is what counts.
        let looked_at = if holds_guests {
            &guests_dir
        } else {
            &mount.point
        };
        let sizes = match sizes(looked_at) {
            Ok(sizes) if sizes.total_mib > 0 || holds_guests => sizes,
            Ok(_) => continue,
            Err(_) if !holds_guests => continue,
            Err(error) => {
                return Err(unknown(
                    "the storage for guests",
                    guests_dir.to_string_lossy(),
                    error,
                ));
            }
        };
        all.push(v1::Filesystem {
            mount: mount.point.to_string_lossy().into_owned(),
            fstype: mount.fstype.clone(),
            total_mib: sizes.total_mib,
            available_mib: sizes.available_mib,
            holds_guests,
            device: mount.source.clone(),
        });
    }
    Ok(all)
}

/// Tells of paths whether they are on the filesystem that holds the guests, by their names alone: to
/// look at a file of somebody else's might wait for a disk that hangs. Where the mounts can't be
/// read, all are.
pub(super) fn beside_guests(guests_dir: &Path) -> impl Fn(&Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts(&table);
    let holder = source_of(&mounts, &existing_ancestor(guests_dir));
    move |path| holder.is_none() || source_of(&mounts, path) == holder
}

/// What is mounted where a path is.
fn source_of(mounts: &[Mount], path: &Path) -> Option<String> {
    holder_of(mounts, path).map(|index| mounts[index].source.clone())
}

/// Sizes of the filesystem that holds `path`.
pub(super) fn sizes(path: &Path) -> std::io::Result<Sizes> {
    let stat = rustix::fs::statvfs(existing_ancestor(path).as_path())?;
    let mib = |blocks: u64| {
        let bytes = u128::from(blocks) * u128::from(stat.f_frsize);
        u64::try_from(bytes >> 20).unwrap_or(u64::MAX)
    };
    Ok(Sizes {
        total_mib: mib(stat.f_blocks),
        available_mib: mib(stat.f_bavail),
        used_mib: mib(stat.f_blocks.saturating_sub(stat.f_bfree)),
    })
}

/// The path itself, or its nearest parent that exists: the folder is made with the first guest.
fn existing_ancestor(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|ancestor| ancestor.canonicalize().ok())
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// The mount that a path is on: the longest mount point above it, of equals the later one.
fn holder_of(mounts: &[Mount], path: &Path) -> Option<usize> {
    let above = mounts
        .iter()
        .enumerate()
        .filter(|(_, mount)| path.starts_with(&mount.point));
    above
        .max_by_key(|(index, mount)| (mount.point.components().count(), *index))
        .map(|(index, _)| index)
}

/// Reads `/proc/self/mountinfo`:
/// `36 35 98:0 /root /mount/point options - fstype source options`.
pub(super) fn mounts(table: &str) -> Vec<Mount> {
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            Some(Mount {
                point: PathBuf::from(unescape(left.split(' ').nth(4)?)),
                fstype: right.next()?.to_owned(),
                source: unescape(right.next()?),
            })
        })
        .collect()
}

/// The kernel writes spaces and the like as `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
