//! The contexts file: which clusters there are, how to reach them, as whom.
//!
//! It holds tokens. So it is readable by its owner alone, or refused; it is written beside itself and
//! renamed, under a lock, so that neither a crash nor a second process tears it; and an error in it
//! names the line but never shows it.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use virtflow_client::{Endpoint, Session, SessionKeeper};
use virtflow_types::Timestamp;

use crate::failure::Failure;

/// Names the file, if it is not at its usual place.
pub(crate) const CONFIG_VARIABLE: &str = "VIRTFLOW_CONFIG";
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long another process may hold the lock of a change.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// All contexts of a person.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One cluster, as one user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Controllers that the person named; tried first.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Controllers that the cluster told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) learned: Vec<Endpoint>,
    /// The one that answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) preferred: Option<Endpoint>,
    /// When the cluster told its controllers last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) learned_at: Option<Timestamp>,
    /// The cluster's CA, PEM.
    pub(crate) ca: String,
    /// Who logged in, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// An API token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// A login's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<Session>,
}

impl Context {
    /// All endpoints, each once, in the order in which they are tried.
    pub(crate) fn all_endpoints(&self) -> Vec<Endpoint> {
        let mut all: Vec<Endpoint> = Vec::new();
        let known = self.endpoints.iter().chain(&self.learned);
        for endpoint in self.preferred.iter().chain(known) {
            if !all.contains(endpoint) {
                all.push(endpoint.clone());
            }
        }
        all
    }
}

/// The file, read when it is needed.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    path: PathBuf,
}

impl Store {
    /// At the place that the environment names.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let path = if let Some(path) = set(CONFIG_VARIABLE) {
            PathBuf::from(path)
        } else if let Some(folder) = set("XDG_CONFIG_HOME") {
            Path::new(&folder).join("virtflow/config.toml")
        } else if let Some(home) = set("HOME") {
            Path::new(&home).join(".config/virtflow/config.toml")
        } else {
            return Err(Failure::local(
                "there is no place for the contexts file: neither HOME nor XDG_CONFIG_HOME is set",
            )
            .advise(format!("name the file in {CONFIG_VARIABLE}")));
        };
        Ok(Self { path })
    }

    #[cfg(test)]
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    #[cfg(test)]
    fn path(&self) -> &Path {
        &self.path
    }

    /// All contexts; none if there is no file.
    pub(crate) fn load(&self) -> Result<Contexts, Failure> {
        let shown = self.path.display();
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(Failure::local(format!("cannot open {shown}: {error}"))),
        };
        let cannot = |error: io::Error| Failure::local(format!("cannot read {shown}: {error}"));
        let mode = file.metadata().map_err(cannot)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Failure::local(format!(
                "{shown} holds tokens and others may read or write it (mode {:03o})",
                mode & 0o777
            ))
            .advise(format!(
                "run `chmod 600 {shown}`; if somebody may have read it, log in again"
            )));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(cannot)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(Failure::local(format!(
                "{shown} is larger than {FILE_BYTES_MAX} bytes: it is no contexts file"
            )));
        }
        toml::from_str(&text).map_err(|error| {
            // The line itself is not shown: a token may stand in it.
            let line = error.span().map_or(1, |span| {
                text.bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
                    + 1
            });
            Failure::local(format!("{shown}, line {line}: {}", error.message()))
                .advise("mend the line, or move the file away and log in again")
        })
    }

    /// Changes the file: reads it, lets `change` work on it, writes it, all under a lock.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Contexts) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _lock = self.lock()?;
        let mut contexts = self.load()?;
        let done = change(&mut contexts)?;
        self.write(&contexts).map_err(|error| {
            Failure::local(format!("cannot write {}: {error}", self.path.display()))
        })?;
        Ok(done)
    }

    fn lock(&self) -> Result<File, Failure> {
        let begun = Instant::now();
        loop {
            let lock = self.try_lock("lock").map_err(|error| {
                Failure::local(format!("cannot lock {}: {error}", self.path.display()))
            })?;
            if let Some(lock) = lock {
                return Ok(lock);
            }
            if begun.elapsed() > LOCK_TIMEOUT {
                return Err(Failure::local(format!(
                    "another process has held the lock of {} for {} s",
                    self.path.display(),
                    LOCK_TIMEOUT.as_secs()
                )));
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    /// Takes one of the locks beside the file, if it is free. The file itself is replaced at each
    /// change and can carry none.
    fn try_lock(&self, which: &str) -> io::Result<Option<File>> {
        self.make_folder()?;
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{which}"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn make_folder(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder),
            _ => Ok(()),
        }
    }

    fn write(&self, contexts: &Contexts) -> io::Result<()> {
        let text = toml::to_string_pretty(contexts).map_err(io::Error::other)?;
        // A link stays a link: what it points at is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    }
}

/// The session of one context, kept in the file.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    /// The file.
    pub(crate) store: Store,
    /// The context.
    pub(crate) name: String,
}

impl Keeper {
    fn gone(&self) -> io::Error {
        io::Error::other(format!(
            "the context `{}` has no session any more",
            self.name
        ))
    }
}

impl SessionKeeper for Keeper {
    fn load(&self) -> io::Result<Session> {
        let contexts = self.store.load().map_err(other)?;
        let context = contexts.contexts.get(&self.name);
        context
            .and_then(|context| context.session.clone())
            .ok_or_else(|| self.gone())
    }

    /// Another lock than that of a change: it is held while the network is asked.
    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        let lock = self.store.try_lock("session-lock")?;
        Ok(lock.map(|lock| Box::new(lock) as Box<dyn Send>))
    }

    fn save(&self, session: &Session) -> io::Result<()> {
        self.store
            .change(|contexts| {
                let context = contexts.contexts.get_mut(&self.name);
                match context.and_then(|context| context.session.as_mut()) {
                    Some(kept) => {
                        *kept = session.clone();
                        Ok(())
                    }
                    None => Err(Failure::local(self.gone().to_string())),
                }
            })
            .map_err(other)
    }
}

fn other(failure: Failure) -> io::Error {
    io::Error::other(failure.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            endpoints: vec!["https://10.0.0.1:8443".parse().unwrap()],
            learned: vec![
                "https://10.0.0.1:8443".parse().unwrap(),
                "https://10.0.0.2:8443".parse().unwrap(),
            ],
            preferred: None,
            learned_at: Some(Timestamp::from_ms(1_795_456_800_000)),
            ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            user: Some("ada".into()),
            token: None,
            session: Some(Session {
                access_token: "access-1".into(),
                refresh_token: "refresh-1".into(),
            }),
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("deep/er/config.toml"));
        (folder, store)
    }

    fn add(store: &Store) {
        store
            .change(|contexts| {
                contexts.current = Some("ada@c1".into());
                contexts.contexts.insert("ada@c1".into(), context());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_written_reads_back_and_is_private() {
        let (_folder, store) = store();
        assert_eq!(store.load().unwrap(), Contexts::default());
        add(&store);
        let contexts = store.load().unwrap();
        assert_eq!(contexts.contexts["ada@c1"], context());
        let mode = fs::metadata(store.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let endpoints = contexts.contexts["ada@c1"].all_endpoints();
        assert_eq!(endpoints.len(), 2, "{endpoints:?}");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let (_folder, store) = store();
        add(&store);
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(store.path(), fs::Permissions::from_mode(mode)).unwrap();
            let failure = store.load().unwrap_err();
            assert!(failure.message.contains("others may read"), "{failure:?}");
        }
        fs::set_permissions(store.path(), fs::Permissions::from_mode(0o400)).unwrap();
        store.load().unwrap();
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_nothing_secret() {
        let (_folder, store) = store();
        add(&store);
        let mut text = fs::read_to_string(store.path()).unwrap();
        let line = text.lines().count() + 1;
        text.push_str("tokn = \"vft1.very.secret\"\n");
        fs::write(store.path(), text).unwrap();
        let failure = store.load().unwrap_err();
        assert!(
            failure.message.contains(&format!("line {line}")),
            "{failure:?}"
        );
        assert!(failure.message.contains("tokn"), "{failure:?}");
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
    }

    #[test]
    fn a_renewed_session_is_kept() {
        let (_folder, store) = store();
        add(&store);
        let keeper = Keeper {
            store: store.clone(),
            name: "ada@c1".into(),
        };
        let lock = keeper.try_lock().unwrap();
        assert!(lock.is_some());
        assert!(keeper.try_lock().unwrap().is_none(), "two hold the lock");
        let renewed = Session {
            access_token: "access-2".into(),
            refresh_token: "refresh-2".into(),
        };
        keeper.save(&renewed).unwrap();
        drop(lock);
        assert!(keeper.try_lock().unwrap().is_some());
        assert_eq!(keeper.load().unwrap(), renewed);
        let nobody = Keeper {
            store,
            name: "nobody".into(),
        };
        assert!(nobody.load().is_err() && nobody.save(&renewed).is_err());
    }

    #[test]
    fn changes_of_many_are_all_kept() {
        let (_folder, store) = store();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    store
                        .change(|contexts| {
                            contexts.contexts.insert(format!("c{n}"), context());
                            Ok(())
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(store.load().unwrap().contexts.len(), 8);
    }
}
