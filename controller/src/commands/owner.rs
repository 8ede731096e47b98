//! Whose a store is: root makes it, the service's user runs it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use crate::config::Config;

/// When dropped, gives everything in the data folder to the folder's owner, on whatever way the command ends:
/// a store that only root may read would not start under the unit's user.
#[derive(Debug)]
pub(super) struct Owner {
    folder: PathBuf,
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The owner of the data folder, if this is root and the folder is another's; otherwise there is nothing to give.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let folder = config.folders().root().to_owned();
        let metadata = fs::metadata(&folder).ok()?;
        let is_root = rustix::process::geteuid().is_root();
        (is_root && metadata.uid() != 0).then(|| Self {
            folder,
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    /// Links are given themselves and not followed.
    fn give(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid), Some(self.gid))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give(&entry?.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.give(&self.folder) {
            eprintln!(
                "virtflow-controller: giving {} to its owner: {error}; do it with `chown -R {}:{} {0}`",
                self.folder.display(),
                self.uid,
                self.gid
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_store_is_its_folders_owners_and_links_lead_nowhere() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give anything away; the install tests do it on a real machine as well.
            return;
        }
        let outside = tempfile::tempdir().unwrap();
        let beyond = outside.path().join("beyond");
        fs::write(&beyond, "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir_all(store.join("raft")).unwrap();
        fs::write(store.join("raft/log"), "").unwrap();
        symlink(&beyond, store.join("link")).unwrap();
        let owner = Owner {
            folder: store.clone(),
            uid: 4321,
            gid: 4322,
        };
        drop(owner);
        for path in ["", "raft", "raft/log", "link"] {
            let metadata = fs::symlink_metadata(store.join(path)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (4321, 4322), "{path}");
        }
        assert_eq!(fs::metadata(&beyond).unwrap().uid(), 0);
        assert_eq!(fs::metadata(folder.path()).unwrap().uid(), 0);
    }
}
