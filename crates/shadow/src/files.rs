//! The folder: its lock, its file names, its pointer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tokio::time::{Duration, Instant};

use crate::crash::{Crash, CrashPoint};
use crate::error::{Doing as _, StoreError};

const POINTER: &str = "CURRENT";
const POINTER_TEMP: &str = "CURRENT.new";
const LOCK: &str = "LOCK";
/// How long a process that is just ending may take to let go of the folder.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The shadow's folder, held against other processes while this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes it if missing and takes the lock. Waits a moment for a process that is just ending.
    pub(crate) async fn open(dir: &Path) -> Result<Self, StoreError> {
        make_private_dir(dir)?;
        make_private_dir(&dir.join("snapshots"))?;
        // The folder's own name too: what is flushed within a folder that is lost is lost with it.
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .doing(|| format!("opening {}", path.display()))?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        dir: dir.to_owned(),
                        _lock: lock,
                    });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(dir.to_owned())),
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::Io {
                        doing: format!("locking {}", path.display()),
                        source,
                    });
                }
            }
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
    pub(crate) fn state_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("state.{number}.db"))
    }
    pub(crate) fn records_path(&self) -> PathBuf {
        self.dir.join("records.db")
    }
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }
    /// A name in the folder that a closed file may have while it is not yet what counts.
    pub(crate) fn temp_path(&self, what: &str, number: u64) -> PathBuf {
        self.dir.join(format!("temp.{what}.{number}.db"))
    }

    /// Which state file counts; `None` if there is no pointer.
    pub(crate) fn pointer(&self) -> Result<Option<u64>, StoreError> {
        let path = self.dir.join(POINTER);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(StoreError::Io {
                    doing: format!("reading {}", path.display()),
                    source,
                });
            }
        };
        match text.strip_suffix('\n').and_then(state_number) {
            Some(number) if self.state_path(number).exists() => Ok(Some(number)),
            Some(number) => Err(StoreError::damaged(
                &path,
                format!("it names state.{number}.db, which is not here"),
            )),
            None => Err(StoreError::damaged(
                &path,
                "it does not hold the name of a state file",
            )),
        }
    }

    /// Points at a state file; flushed when it returns.
    pub(crate) async fn point_at(&self, number: u64, crash: &Crash) -> Result<(), StoreError> {
        let (temp, path) = (self.dir.join(POINTER_TEMP), self.dir.join(POINTER));
        let doing = || format!("pointing {} at state.{number}.db", path.display());
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temp)?;
            file.write_all(format!("state.{number}.db\n").as_bytes())?;
            file.sync_all()
        };
        write().doing(doing)?;
        crash.reach(CrashPoint::PointerTemp).await;
        fs::rename(&temp, &path).doing(doing)?;
        sync_dir(&self.dir)
    }

    /// Numbers of the state files that lie here, ascending.
    pub(crate) fn state_numbers(&self) -> Result<Vec<u64>, StoreError> {
        let mut numbers: Vec<u64> = self
            .names(&self.dir)?
            .iter()
            .filter_map(|name| state_number(name))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(crate) fn names(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let doing = || format!("listing {}", dir.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).doing(doing)? {
            names.push(
                entry
                    .doing(doing)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        Ok(names)
    }

    /// Removes what an interrupted install, snapshot or creation left behind. Called once the
    /// current one has proved sound.
    pub(crate) fn clean(&self, current: u64) -> Result<(), StoreError> {
        for number in self.state_numbers()? {
            if number != current {
                tracing::info!(number, "removing the leftover of an interrupted install");
                remove_database(&self.state_path(number))?;
            }
        }
        for dir in [self.dir.clone(), self.snapshots()] {
            for name in self.names(&dir)? {
                if name.starts_with("temp.") || name == POINTER_TEMP {
                    remove_file(&dir.join(name))?;
                }
            }
        }
        Ok(())
    }
}

/// Removes a database that nobody has open. Its companions go first: a `-wal` that outlived its
/// database would be played into the next file of that name.
pub(crate) fn remove_database(path: &Path) -> Result<(), StoreError> {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        remove_file(&companion(path, suffix))?;
    }
    Ok(())
}

/// The file beside a database that SQLite names by a suffix.
pub(crate) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn state_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("state.")?.strip_suffix(".db")?;
    let number = digits.parse().ok()?;
    // Only the form that is written: no sign, no leading zero.
    (digits == format!("{number}")).then_some(number)
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Io {
            doing: format!("removing {}", path.display()),
            source: error,
        }),
        _ => Ok(()),
    }
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).doing(|| format!("renaming {} to {}", from.display(), to.display()))
}

/// Flushes the names in a folder.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .doing(|| format!("flushing {}", dir.display()))
}

/// Flushes a file that no database connection has open.
pub(crate) async fn sync_file(path: &Path) -> Result<(), StoreError> {
    let doing = || format!("flushing {}", path.display());
    let owned = path.to_owned();
    tokio::task::spawn_blocking(move || File::open(owned)?.sync_all())
        .await
        .map_err(std::io::Error::other)
        .doing(doing)?
        .doing(doing)
}

pub(crate) fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

pub(crate) fn make_private_dir(dir: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .doing(|| format!("making the folder {}", dir.display()))
}
