//! `store.json`: which store a data folder holds. Written once, at init or join.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::config::Folders;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreFile {
    /// The cluster it belongs to.
    pub cluster_id: ObjectId,
    /// This store, and with it this member: a wiped folder is another store.
    pub store_id: ObjectId,
    /// Its number in the Raft group.
    pub node_id: u64,
    /// Stay a learner instead of asking for a vote.
    #[serde(default)]
    pub learner: bool,
    /// Peer listeners that were told at the join; used until the membership is known.
    #[serde(default)]
    pub peers: Vec<String>,
}

impl StoreFile {
    /// Reads it; `None` if there is none.
    pub fn load(folders: &Folders) -> anyhow::Result<Option<Self>> {
        let path = folders.store_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is damaged; restore it or join anew", path.display()))
    }

    /// Reads it; without one there is nothing to run.
    pub fn require(folders: &Folders) -> anyhow::Result<Self> {
        match Self::load(folders)? {
            Some(store) => Ok(store),
            None => bail!(
                "{} holds no store yet; run `virtflow-controller init` for a new cluster or `virtflow-controller join` to join one",
                folders.root().display()
            ),
        }
    }

    /// Writes it, flushed.
    pub fn save(&self, folders: &Folders) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        write_file(&folders.store_file(), text.as_bytes(), 0o644)
    }
}

/// Makes a folder that only its owner reads, and its parents.
pub fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making the folder {}", path.display()))
}

/// Replaces a file: written beside it, flushed, renamed, the folder flushed.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder_of(path))?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The folder that a file is in: a bare name is in the present one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_in_the_present_folder() {
        assert_eq!(folder_of(Path::new("admin.password")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/b")), Path::new("a"));
        assert_eq!(folder_of(Path::new("/b")), Path::new("/"));
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::testing::config(dir.path());
        let folders = config.folders();
        make_folder(folders.root()).unwrap();
        assert_eq!(StoreFile::load(&folders).unwrap(), None);
        assert!(StoreFile::require(&folders).is_err());
        let store = StoreFile {
            cluster_id: ObjectId::from_u128(1),
            store_id: ObjectId::from_u128(2),
            node_id: 3,
            learner: false,
            peers: vec!["10.0.0.1:8445".into()],
        };
        store.save(&folders).unwrap();
        assert_eq!(StoreFile::require(&folders).unwrap(), store);
        fs::write(folders.store_file(), "{").unwrap();
        assert!(StoreFile::load(&folders).is_err());
    }
}
