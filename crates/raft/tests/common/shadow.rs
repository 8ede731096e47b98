//! A shadow for tests: a "disk" that outlives the node, and knobs to hold it back.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use virtflow_state::port::{
    AppliedEntry, Loaded, Shadow, ShadowError, ShadowProgress, SnapshotFile,
};
use virtflow_state::{Object, State};
use virtflow_types::Incarnation;

// Two crates' tests and a simulation share it.
#[path = "whole.rs"]
mod whole;
use whole::encode;

fn decode(bytes: &[u8]) -> Loaded {
    whole::decode(bytes).unwrap()
}

/// What a restart finds.
#[derive(Debug, Default)]
struct Disk {
    bytes: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Arc<AppliedEntry>>,
    submitted: u64,
    flushed: u64,
    /// Nothing behind it is written.
    held_at: Option<u64>,
    newest: Option<(State, Bytes)>,
}

/// The shadow. Writes at once what the log has flushed, unless it is held.
#[derive(Debug)]
pub struct TestShadow {
    dir: PathBuf,
    disk: Mutex<Disk>,
    queue: Mutex<Queue>,
    durable: watch::Sender<u64>,
    failure: watch::Sender<Option<ShadowError>>,
    current: Mutex<Option<SnapshotFile>>,
    files: AtomicU64,
    gaps_allowed: AtomicBool,
}

impl TestShadow {
    /// The consensus library's own suite applies entries that do not follow one another.
    #[allow(dead_code, reason = "only the suite needs it")]
    pub fn allow_gaps(&self) {
        self.gaps_allowed.store(true, Ordering::Relaxed);
    }

    /// Over what `dir` holds from before.
    pub fn open(dir: &Path) -> (Arc<Self>, Loaded) {
        std::fs::create_dir_all(dir).unwrap();
        let bytes = std::fs::read(dir.join("state")).ok();
        let loaded = match &bytes {
            Some(bytes) => decode(bytes),
            None => Loaded {
                state: State::empty(),
                raft_meta: Bytes::new(),
            },
        };
        let index = loaded.state.index();
        let this = Self {
            dir: dir.to_path_buf(),
            disk: Mutex::new(Disk { bytes }),
            queue: Mutex::new(Queue {
                submitted: index,
                ..Queue::default()
            }),
            durable: watch::Sender::new(index),
            failure: watch::Sender::new(None),
            current: Mutex::new(None),
            files: AtomicU64::new(u64::from(std::process::id()) << 20 | index),
            gaps_allowed: AtomicBool::new(false),
        };
        (Arc::new(this), loaded)
    }

    fn write(&self, queue: &mut Queue) {
        let until = queue.held_at.unwrap_or(u64::MAX).min(queue.flushed);
        while let Some(entry) = queue.entries.front()
            && entry.index <= until
        {
            queue.newest = Some((entry.image.clone(), entry.raft_meta.clone()));
            queue.entries.pop_front();
        }
        if let Some((state, _)) = &queue.newest {
            self.durable.send_replace(state.index());
        }
    }

    fn persist(&self) {
        let queue = self.queue.lock().unwrap();
        if let Some((state, meta)) = &queue.newest {
            let bytes = encode(state, meta);
            std::fs::write(self.dir.join("state"), &bytes).unwrap();
            self.disk.lock().unwrap().bytes = Some(bytes);
        }
    }

    /// While held nothing is written: the shadow lags.
    #[allow(dead_code, reason = "not every test that includes this file holds it")]
    pub fn hold(&self, held: bool) {
        self.hold_at(held.then_some(0));
    }

    /// Nothing behind this index is written: the shadow lags by so much.
    #[allow(dead_code, reason = "not every test that includes this file holds it")]
    pub fn hold_at(&self, index: Option<u64>) {
        let mut queue = self.queue.lock().unwrap();
        queue.held_at = index;
        self.write(&mut queue);
    }

    #[allow(dead_code, reason = "not every test that includes this file fails it")]
    pub fn fail(&self, cause: &str) {
        self.failure.send_replace(Some(ShadowError {
            doing: "writing".into(),
            cause: cause.into(),
        }));
    }

    /// A state as a backup holds it, with another life and other marks.
    #[allow(dead_code, reason = "only tests of recovery rewrite it")]
    pub fn rewrite(
        dir: &Path,
        incarnation: Incarnation,
        marks: impl FnOnce(&Loaded) -> Bytes,
    ) -> Loaded {
        let loaded = decode(&std::fs::read(dir.join("state")).unwrap());
        let meta = marks(&loaded);
        let objects = loaded
            .state
            .objects()
            .map(|object| (**object).clone())
            .collect();
        Self::write_out(dir, &loaded.state, incarnation, meta, objects)
    }

    /// Damages one object, as a disk or a hand might.
    #[allow(dead_code, reason = "only tests of divergence damage it")]
    pub fn tamper(dir: &Path, incarnation: Incarnation, marks: impl FnOnce(&Loaded) -> Bytes) {
        let loaded = decode(&std::fs::read(dir.join("state")).unwrap());
        let meta = marks(&loaded);
        let mut objects: Vec<Object> = loaded
            .state
            .objects()
            .map(|object| (**object).clone())
            .collect();
        objects[0].spec = "{\"damaged\":true}".into();
        Self::write_out(dir, &loaded.state, incarnation, meta, objects);
    }

    fn write_out(
        dir: &Path,
        state: &State,
        incarnation: Incarnation,
        meta: Bytes,
        objects: Vec<Object>,
    ) -> Loaded {
        let state = State::from_parts(
            state.cluster_id(),
            Some(incarnation),
            state.cluster_version(),
            state.index(),
            objects,
            state.streams().map(|(name, head)| (name.clone(), *head)),
        )
        .unwrap();
        std::fs::write(dir.join("state"), encode(&state, &meta)).unwrap();
        Loaded {
            state,
            raft_meta: meta,
        }
    }
}

#[async_trait]
impl Shadow for TestShadow {
    fn submit(&self, entry: Arc<AppliedEntry>) {
        let mut queue = self.queue.lock().unwrap();
        let follows =
            entry.index == queue.submitted + 1 || self.gaps_allowed.load(Ordering::Relaxed);
        assert!(follows, "entry {} after {}", entry.index, queue.submitted);
        queue.submitted = entry.index;
        queue.entries.push_back(entry);
        self.write(&mut queue);
    }

    fn log_flushed(&self, index: u64) {
        let mut queue = self.queue.lock().unwrap();
        queue.flushed = queue.flushed.max(index);
        self.write(&mut queue);
    }

    fn progress(&self) -> ShadowProgress {
        let queue = self.queue.lock().unwrap();
        let durable = *self.durable.borrow();
        ShadowProgress {
            submitted: queue.submitted,
            written: durable,
            durable,
            queued: queue.entries.len() as u64,
        }
    }

    async fn wait_durable(&self, index: u64) -> Result<(), ShadowError> {
        let mut durable = self.durable.subscribe();
        durable.wait_for(|durable| *durable >= index).await.unwrap();
        Ok(())
    }

    async fn failed(&self) -> ShadowError {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.unwrap().clone();
        failed.unwrap()
    }

    async fn snapshot(&self, at_least: u64) -> Result<SnapshotFile, ShadowError> {
        self.wait_durable(at_least).await?;
        let (state, raft_meta) = {
            let queue = self.queue.lock().unwrap();
            match &queue.newest {
                Some(newest) => newest.clone(),
                None => {
                    let disk = self.disk.lock().unwrap();
                    let loaded = disk.bytes.as_ref().map(|bytes| decode(bytes));
                    loaded.map_or((State::empty(), Bytes::new()), |loaded| {
                        (loaded.state, loaded.raft_meta)
                    })
                }
            }
        };
        self.persist();
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("snapshot-{number}"));
        let bytes = encode(&state, &raft_meta);
        std::fs::write(&path, &bytes).unwrap();
        let file = SnapshotFile {
            path,
            index: state.index(),
            digest: state.digest(),
            raft_meta,
            bytes: bytes.len() as u64,
            keep: Arc::new(()),
        };
        *self.current.lock().unwrap() = Some(file.clone());
        Ok(file)
    }

    async fn current_snapshot(&self) -> Result<Option<SnapshotFile>, ShadowError> {
        Ok(self.current.lock().unwrap().clone())
    }

    async fn receive_path(&self) -> Result<PathBuf, ShadowError> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir.join(format!("received-{number}")))
    }

    async fn install(&self, received: PathBuf) -> Result<Loaded, ShadowError> {
        let bytes = std::fs::read(&received).unwrap();
        let loaded = decode(&bytes);
        {
            let mut queue = self.queue.lock().unwrap();
            queue.entries.clear();
            queue.submitted = loaded.state.index();
            queue.newest = Some((loaded.state.clone(), loaded.raft_meta.clone()));
            self.durable.send_replace(loaded.state.index());
        }
        self.persist();
        *self.current.lock().unwrap() = Some(SnapshotFile {
            path: received,
            index: loaded.state.index(),
            digest: loaded.state.digest(),
            raft_meta: loaded.raft_meta.clone(),
            bytes: bytes.len() as u64,
            keep: Arc::new(()),
        });
        Ok(loaded)
    }

    async fn close(&self) -> Result<(), ShadowError> {
        self.persist();
        Ok(())
    }
}
