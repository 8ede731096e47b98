//! Backups: a folder with a copy of both databases and a manifest; and what is done to a store while no
//! controller runs on it.
//!
//! ```text
//! <backup>/state.db        the live objects at one index
//! <backup>/records.db      streams and history up to that index, or a little beyond
//! <backup>/manifest.json   what it is, with sizes and hashes
//! ```
//!
//! The folder gets its name last: one that has it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use virtflow_state::State;
use virtflow_state::port::{Loaded, Shadow as _};
use virtflow_types::{Incarnation, ObjectId, Timestamp};

use crate::connect::{building, close, connect, frozen};
use crate::crash::Crash;
use crate::error::{Doing as _, StoreError};
use crate::files::{Folder, companion, make_private_dir, rename, sync_dir, sync_file};
use crate::load::{FileContent, check_integrity, check_version, examine};
use crate::options::{Integrity, ShadowOptions};
use crate::read::verify_chain;
use crate::records::RecordsFile;
use crate::schema::{Meta, RECORDS_ID, check_header};
use crate::shadow::SqliteShadow;
use crate::snapshot::copy_database;
use crate::state_file::{StateBatch, StateFile};

/// The form of the folder and its manifest.
const BACKUP_FORMAT: u32 = 1;
/// A manifest is small; more is not one.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
const STATE: &str = "state.db";
const RECORDS: &str = "records.db";
const MANIFEST: &str = "manifest.json";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    /// The form of the folder; 1.
    pub format: u32,
    /// The cluster.
    pub cluster_id: Option<ObjectId>,
    /// The store's life it is from.
    pub incarnation: Option<Incarnation>,
    /// The cluster version at that index.
    pub cluster_version: u32,
    /// Index of the last entry in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The state's digest, 32 hexadecimal digits.
    pub digest: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// Its files.
    pub files: Vec<BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 over its content, hexadecimal.
    pub blake3: String,
}

impl SqliteShadow {
    /// Makes a backup in the new folder `dest`, while the controller runs, of everything written when
    /// it is called.
    pub async fn backup(&self, dest: &Path) -> Result<BackupManifest, StoreError> {
        if dest.exists() {
            return Err(StoreError::refused(
                format!("a backup to {}", dest.display()),
                "it exists already; name a new folder",
            ));
        }
        let mut partial = dest.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let made = self.backup_into(&partial, dest).await;
        if made.is_err() {
            // A half-made backup is of no use; the error says why it is one.
            let _ = fs::remove_dir_all(&partial);
        }
        made
    }

    async fn backup_into(&self, partial: &Path, dest: &Path) -> Result<BackupManifest, StoreError> {
        if partial.exists() {
            fs::remove_dir_all(partial).doing(|| format!("removing {}", partial.display()))?;
        }
        make_private_dir(partial)?;
        let snapshot = self.snapshot(self.progress().written).await?;
        let state_path = partial.join(STATE);
        copy_file(&snapshot.path, &state_path).await?;
        let content = examine(&state_path, self.supports()).await?;
        // After the state: so everything that the state counts is in it.
        let records_path = partial.join(RECORDS);
        copy_database(&self.records_path(), &records_path).await?;
        let mut files = Vec::new();
        for name in [STATE, RECORDS] {
            let path = partial.join(name);
            sync_file(&path).await?;
            files.push(file_entry(&path, name).await?);
        }
        let manifest = BackupManifest {
            format: BACKUP_FORMAT,
            cluster_id: content.meta.cluster_id,
            incarnation: content.meta.incarnation,
            cluster_version: content.meta.cluster_version,
            index: content.meta.index,
            term: content.meta.term,
            digest: format!("{:032x}", content.meta.digest),
            made_at: Timestamp::now(),
            files,
        };
        let path = partial.join(MANIFEST);
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(std::io::Error::other)
            .doing(|| "writing the manifest".into())?;
        fs::write(&path, text + "\n").doing(|| format!("writing {}", path.display()))?;
        sync_file(&path).await?;
        sync_dir(partial)?;
        rename(partial, dest)?;
        if let Some(parent) = dest
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            sync_dir(parent)?;
        }
        Ok(manifest)
    }
}

/// Proves that a backup is whole and what its manifest says: hashes, the state's digest and ledgers,
/// and the chains of all streams. One of a cluster version above `supports` is refused.
pub async fn verify_backup(backup: &Path, supports: u32) -> Result<BackupManifest, StoreError> {
    let examined = examine_backup(backup, supports).await;
    examined.map(|(manifest, _)| manifest)
}

async fn examine_backup(
    backup: &Path,
    supports: u32,
) -> Result<(BackupManifest, FileContent), StoreError> {
    let path = backup.join(MANIFEST);
    let doing = || format!("reading {}", path.display());
    let bytes = fs::metadata(&path).doing(doing)?.len();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(StoreError::damaged(&path, "it is too long for a manifest"));
    }
    let manifest: BackupManifest = serde_json::from_slice(&fs::read(&path).doing(doing)?)
        .map_err(|error| StoreError::damaged(&path, error.to_string()))?;
    if manifest.format != BACKUP_FORMAT {
        return Err(StoreError::TooNew {
            file: path,
            found: manifest.format.into(),
            known: BACKUP_FORMAT.into(),
        });
    }
    check_version(&path, manifest.cluster_version, supports)?;
    for name in [STATE, RECORDS] {
        let file = backup.join(name);
        let found = file_entry(&file, name).await?;
        if !manifest.files.contains(&found) {
            return Err(StoreError::damaged(
                &file,
                "it is not the file of the manifest",
            ));
        }
    }
    let state_path = backup.join(STATE);
    let content = examine(&state_path, supports).await?;
    let meta = &content.meta;
    if (meta.cluster_id, meta.incarnation, meta.index, meta.term)
        != (
            manifest.cluster_id,
            manifest.incarnation,
            manifest.index,
            manifest.term,
        )
        || format!("{:032x}", meta.digest) != manifest.digest
    {
        return Err(StoreError::damaged(
            &state_path,
            "its marks are not those of the manifest",
        ));
    }
    if let Some(divergence) = virtflow_state::verify(&content.state).first() {
        return Err(StoreError::damaged(&state_path, divergence.to_string()));
    }
    let records_path = backup.join(RECORDS);
    let mut records = connect(frozen(&records_path), &records_path).await?;
    check_header(&mut records, &records_path, RECORDS_ID).await?;
    check_integrity(&mut records, &records_path, Integrity::Full).await?;
    for (name, head) in content.state.streams() {
        let report = verify_chain(&mut records, name, *head).await?;
        if let Some((count, why)) = report.broken {
            return Err(StoreError::damaged(
                &records_path,
                format!("record {count} of `{name}`: {why}"),
            ));
        }
    }
    close(records, &records_path).await?;
    Ok((manifest, content))
}

/// Makes the shadow of a new life of the store from a backup of a cluster version up to `supports`. `dir` must hold no
/// store; `raft_meta` gives what replication is to find beside the restored state. The state keeps its index.
pub async fn restore_into(
    dir: &Path,
    backup: &Path,
    supports: u32,
    incarnation: Incarnation,
    raft_meta: impl FnOnce(&Loaded) -> Bytes,
) -> Result<Loaded, StoreError> {
    let (_, content) = examine_backup(backup, supports).await?;
    let folder = Folder::open(dir).await?;
    if folder.pointer()?.is_some()
        || !folder.state_numbers()?.is_empty()
        || folder.records_path().exists()
    {
        return Err(StoreError::refused(
            format!("restoring into {}", dir.display()),
            "a store is there already; give an empty folder",
        ));
    }
    folder.clean(0)?;
    let renewed = renew(&content, incarnation, raft_meta)?;

    let temp = folder.temp_path("records", 1);
    copy_file(&backup.join(RECORDS), &temp).await?;
    let mut records = RecordsFile::open(temp.clone(), &ShadowOptions::default()).await?;
    records.restart_at(&renewed.state).await?;
    records.checkpoint().await?;
    records.close().await?;
    sync_file(&temp).await?;
    let state_temp = folder.temp_path("state", 1);
    copy_file(&backup.join(STATE), &state_temp).await?;
    let mut state = connect(building(&state_temp), &state_temp).await?;
    renewed.meta.write(&mut state, &state_temp).await?;
    close(state, &state_temp).await?;
    sync_file(&state_temp).await?;
    // The pointer last: until then this is no store, and restoring can begin again in an empty folder.
    rename(&temp, &folder.records_path())?;
    rename(&state_temp, &folder.state_path(1))?;
    sync_dir(folder.dir())?;
    folder.point_at(1, &Crash::never()).await?;
    Ok(renewed.loaded())
}

/// Begins a new life of the store in place, while no controller runs on it: what a sole survivor does
/// after the quorum was lost. Records and history beyond the state are dropped with the old life. A store of a
/// cluster version above `supports` is refused.
pub async fn set_incarnation(
    dir: &Path,
    supports: u32,
    incarnation: Incarnation,
    raft_meta: impl FnOnce(&Loaded) -> Bytes,
) -> Result<Loaded, StoreError> {
    let folder = Folder::open(dir).await?;
    let number = folder
        .pointer()?
        .ok_or_else(|| StoreError::PointerMissing(dir.to_owned()))?;
    let options = ShadowOptions {
        supports,
        ..ShadowOptions::default()
    };
    let (mut state, content) =
        StateFile::open(folder.state_path(number), number, &options, None).await?;
    let renewed = renew(&content, incarnation, raft_meta)?;
    let mut records = RecordsFile::open(folder.records_path(), &options).await?;
    records.restart_at(&renewed.state).await?;
    let batch = StateBatch {
        puts: Vec::new(),
        deletes: Vec::new(),
        streams: Vec::new(),
        meta: renewed.meta.clone(),
    };
    state.write(&batch, true, &Crash::never()).await?;
    state.checkpoint().await?;
    records.close().await?;
    state.close().await?;
    Ok(renewed.loaded())
}

fn renew(
    content: &FileContent,
    incarnation: Incarnation,
    raft_meta: impl FnOnce(&Loaded) -> Bytes,
) -> Result<FileContent, StoreError> {
    let old = &content.state;
    let state = State::from_parts(
        old.cluster_id(),
        Some(incarnation),
        old.cluster_version(),
        old.index(),
        old.objects().map(|object| (**object).clone()),
        old.streams().map(|(name, head)| (name.clone(), *head)),
    )
    .map_err(|divergence| StoreError::refused("the state", divergence.to_string()))?;
    let raft_meta = raft_meta(&Loaded {
        state: state.clone(),
        raft_meta: content.meta.raft_meta.clone(),
    });
    Ok(FileContent {
        meta: Meta::of(&state, content.meta.term, raft_meta),
        state,
    })
}

async fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let doing = || format!("copying {} to {}", from.display(), to.display());
    let wal = companion(from, "-wal");
    if wal.exists() {
        return Err(StoreError::refused(
            format!("copying {}", from.display()),
            format!("{} beside it says that it is in use", wal.display()),
        ));
    }
    tokio::fs::copy(from, to).await.map(|_| ()).doing(doing)
}

async fn file_entry(path: &Path, name: &str) -> Result<BackupFile, StoreError> {
    let doing = || format!("hashing {}", path.display());
    let owned = path.to_owned();
    let (bytes, hash) = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        let bytes = std::io::copy(&mut fs::File::open(owned)?, &mut hasher)?;
        std::io::Result::Ok((bytes, hasher.finalize()))
    })
    .await
    .map_err(std::io::Error::other)
    .doing(doing)?
    .doing(doing)?;
    Ok(BackupFile {
        name: name.to_owned(),
        bytes,
        blake3: hash.to_hex().to_string(),
    })
}
