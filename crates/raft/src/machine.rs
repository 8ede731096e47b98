//! The consensus library's state machine: applies entries to the state, publishes images at entry
//! ends, and hands what was applied to the shadow and to those who follow the changes.
//!
//! It never skips an entry: bytes it cannot read and a result that differs from what this node
//! predicted as leader stop the node.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;
use virtflow_state::port::{AppliedEntry, Loaded, Outcome, Shadow, SnapshotFile};
use virtflow_state::{Batch, Changeset, ClusterVersionTooNew, State};

use crate::config::RaftConfig;
use crate::fatal::Fatal;
use crate::feed::Hub;
use crate::measure::Measures;
use crate::phase::{self, Phase};
use crate::types::{Entry, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::wire::Meta;

/// Digests of past entries that are remembered for comparison with other members.
const DIGESTS_MAX: usize = 8192;
/// Terms led by this process that are remembered.
const LED_TERMS_MAX: usize = 64;
/// How often a full shadow queue is looked at again.
const SHADOW_POLL: Duration = Duration::from_millis(2);

/// A snapshot on its way: a file to be read, or one that was received.
#[derive(Debug)]
pub(crate) enum SnapshotData {
    /// The shadow's own; kept while this lives.
    Made(SnapshotFile),
    /// Written by a transfer, to be installed.
    Received(ReceivedFile),
}

/// A received snapshot. Removed again unless it is taken to be installed.
#[derive(Debug)]
pub(crate) struct ReceivedFile(Option<PathBuf>);

impl ReceivedFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(Some(path))
    }
    fn take(mut self) -> Option<PathBuf> {
        self.0.take()
    }
}

impl Drop for ReceivedFile {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::debug!(path = %path.display(), "removing a received snapshot: {error}");
        }
    }
}

/// The place of the last applied entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

/// What the sequencer expects of an entry it proposed.
#[derive(Debug)]
pub(crate) struct Prediction {
    pub(crate) entry: Bytes,
    pub(crate) digest: u128,
}

#[derive(Debug, Default)]
struct Predictions {
    /// Terms in which this process has led: every batch of theirs was predicted here.
    terms: BTreeSet<u64>,
    expected: VecDeque<(u64, Prediction)>,
    /// A batch of the present leadership never reached the log: what follows it was decided on a head that
    /// held it. The state's conditions judge that, and no prediction.
    passed_over: bool,
}

/// What others may see of the machine.
#[derive(Debug)]
pub(crate) struct Published {
    image: ArcSwap<State>,
    applied: watch::Sender<Applied>,
    pub(crate) hub: Hub,
    predictions: Mutex<Predictions>,
    digests: Mutex<VecDeque<(u64, u128)>>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) fatal: Arc<Fatal>,
}

impl Published {
    pub(crate) fn new(
        state: &State,
        applied: Applied,
        change_entries_max: usize,
        measures: Arc<Measures>,
        fatal: Arc<Fatal>,
    ) -> Arc<Self> {
        let image = Arc::new(state.clone());
        Arc::new(Self {
            image: ArcSwap::new(image.clone()),
            applied: watch::Sender::new(applied),
            hub: Hub::new(image, change_entries_max, measures.clone()),
            predictions: Mutex::default(),
            digests: Mutex::default(),
            measures,
            fatal,
        })
    }

    /// One that has seen nothing but this state, for tests.
    #[cfg(test)]
    pub(crate) fn of(state: &State) -> Arc<Self> {
        let measures = Arc::default();
        Self::new(state, Applied::default(), 16, measures, Arc::default())
    }

    pub(crate) fn image(&self) -> Arc<State> {
        self.image.load_full()
    }
    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// From now on every batch of `term` must have been predicted. Called where all that was proposed
    /// here before is applied or nowhere, so that what was predicted and never came is forgotten.
    pub(crate) fn lead(&self, term: u64) {
        let mut predictions = self
            .predictions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        predictions.expected.clear();
        predictions.passed_over = false;
        predictions.terms.insert(term);
        while predictions.terms.len() > LED_TERMS_MAX {
            predictions.terms.pop_first();
        }
    }

    /// Says what an entry will do, before it is proposed.
    pub(crate) fn predict(&self, term: u64, prediction: Prediction) {
        let mut predictions = self
            .predictions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        predictions.expected.push_back((term, prediction));
    }

    /// The prediction for a batch, `None` if it isn't this process's or if nothing can be predicted. Entries
    /// that never reached the log are passed over: later ones of the same leadership may still follow, where
    /// the lease ran out for a moment.
    fn predicted(&self, term: u64, entry: &Bytes) -> Result<Option<u128>, String> {
        let mut predictions = self
            .predictions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !predictions.terms.contains(&term) {
            return Ok(None);
        }
        while let Some((predicted_term, prediction)) = predictions.expected.pop_front() {
            if predicted_term == term && prediction.entry == *entry {
                return Ok((!predictions.passed_over).then_some(prediction.digest));
            }
            predictions.passed_over = true;
        }
        Err("this node led that term and never proposed this entry".into())
    }

    /// The digest right after an entry, if it is still remembered.
    pub(crate) fn digest_at(&self, index: u64) -> Option<u128> {
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let at = digests
            .binary_search_by_key(&index, |(index, _)| *index)
            .ok()?;
        Some(digests[at].1)
    }

    fn publish(&self, image: Arc<State>, applied: Applied) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= DIGESTS_MAX {
            digests.pop_front();
        }
        digests.push_back((applied.index, image.digest()));
        drop(digests);
        self.image.store(image);
        self.applied.send_replace(applied);
    }
}

/// The state machine as the consensus library drives it.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
    /// What each entry leaves beside the state: all but the last entry's id changes seldom.
    marks: Meta,
    shadow: Arc<dyn Shadow>,
    /// Entries that may wait for the shadow before applying waits too.
    shadow_queue_max: u64,
    /// A full shadow that writes nothing for that long stops the node.
    shadow_stall: Duration,
    /// The first index that the shadow is told of. The group's very first entry has index 0 and
    /// carries only the first membership, which every later entry's marks repeat; an index of 0
    /// means "nothing" to the shadow.
    pub(crate) shadow_from: u64,
    /// A snapshot that is given to others reaches at least this far: the log may be purged up to here,
    /// and what follows a lower one could not be sent.
    snapshot_from: u64,
    /// The highest cluster version that may be applied.
    supports: u32,
    published: Arc<Published>,
}

fn broken(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Machine {
    pub(crate) fn new(
        loaded: Loaded,
        shadow: Arc<dyn Shadow>,
        config: &RaftConfig,
        published: Arc<Published>,
    ) -> io::Result<Self> {
        let (last, membership) = Meta::read(&loaded.raft_meta).map_err(broken)?;
        Ok(Self {
            marks: Meta::of(last, &membership).map_err(broken)?,
            state: loaded.state,
            last,
            membership,
            shadow,
            shadow_queue_max: config.limits.shadow_queue_hard,
            shadow_stall: config.limits.shadow_stall,
            shadow_from: 1,
            snapshot_from: 0,
            supports: config.supports,
            published,
        })
    }

    /// The log is purged up to here: what was loaded holds it.
    pub(crate) fn log_begins_after(&mut self, purged: u64) {
        self.snapshot_from = purged;
    }

    fn stop(&self, reason: String) -> io::Error {
        self.published.fatal.stop(reason.clone());
        io::Error::other(reason)
    }

    /// Stops a node that comes to a state of a cluster version that it does not support, before anybody sees that state.
    fn check_version(&self, state: &State, doing: &str) -> io::Result<()> {
        let checked = ClusterVersionTooNew::check(state.cluster_version(), self.supports);
        checked.map_err(|error| self.stop(format!("{doing}: {error}")))
    }

    fn apply_batch(
        &mut self,
        id: &LogId,
        bytes: &Bytes,
        applied: &mut AppliedEntry,
    ) -> io::Result<()> {
        let unreadable = |error: virtflow_state::DecodeError| {
            self.stop(format!("log entry {} cannot be applied: {error}", id.index))
        };
        let batch = Batch::decode(bytes.clone()).map_err(unreadable)?;
        let changesets = batch.changesets.into_iter().map(Changeset::decode);
        let changesets = changesets
            .collect::<Result<Vec<_>, _>>()
            .map_err(unreadable)?;
        for changeset in changesets {
            let before = applied.changes.len();
            let result = self.state.apply(&changeset).map(|done| {
                applied.changes.extend(done.changes);
                applied.records.extend(done.records);
            });
            // What comes behind a raise may be of a form that is not understood here.
            self.check_version(&self.state, &format!("log entry {}", id.index))?;
            applied.outcomes.push(Outcome {
                request_id: changeset.request_id,
                now: changeset.now,
                actor: changeset.actor,
                result,
                changes: applied.changes.len() - before,
            });
        }
        let predicted = self.published.predicted(id.leader_id.term, bytes);
        let predicted =
            predicted.map_err(|why| self.stop(format!("log entry {}: {why}", id.index)))?;
        if let Some(digest) = predicted {
            let refused = applied
                .outcomes
                .iter()
                .find_map(|outcome| outcome.result.as_ref().err());
            if let Some(refused) = refused {
                return Err(self.stop(format!(
                    "log entry {}: the leader found it acceptable, applying it was refused: {refused}",
                    id.index
                )));
            }
            if digest != self.state.digest() {
                return Err(self.stop(format!(
                    "log entry {}: applying it gave another state than deciding it did",
                    id.index
                )));
            }
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: Entry) -> io::Result<()> {
        let began = Instant::now();
        let id = entry.log_id;
        let mut applied = AppliedEntry {
            index: id.index,
            term: id.leader_id.term,
            raft_meta: Bytes::new(),
            outcomes: Vec::new(),
            changes: Vec::new(),
            records: Vec::new(),
            image: State::empty(),
        };
        match entry.payload {
            Payload::Blank => {}
            Payload::Normal(bytes) => self.apply_batch(&id, &bytes.0, &mut applied)?,
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(id), membership);
                self.marks = Meta::of(Some(id), &self.membership).map_err(broken)?;
            }
        }
        self.last = Some(id);
        self.state.set_index(id.index);
        self.marks.last = Some(id.into());
        applied.raft_meta = self.marks.encode_to_vec().into();
        applied.image = self.state.clone();
        let image = Arc::new(self.state.clone());
        let applied = Arc::new(applied);
        if id.index >= self.shadow_from {
            self.shadow.submit(applied.clone());
            self.published.hub.applied(&image, &applied);
        }
        self.published.publish(
            image,
            Applied {
                index: id.index,
                term: id.leader_id.term,
            },
        );
        self.published.measures.apply_us.record_since(began);
        Ok(())
    }

    /// Applying runs ahead of the shadow, but not without end.
    async fn wait_for_shadow(&self) -> io::Result<()> {
        let mut before = self.shadow.progress();
        if before.queued < self.shadow_queue_max {
            return Ok(());
        }
        let mut since = Instant::now();
        loop {
            tokio::time::sleep(SHADOW_POLL).await;
            let now = self.shadow.progress();
            if now.queued < self.shadow_queue_max {
                return Ok(());
            }
            if now.written != before.written {
                before = now;
                since = Instant::now();
            }
            if since.elapsed() > self.shadow_stall {
                return Err(self.stop(format!(
                    "the shadow database has written nothing for {} s with {} entries waiting; look at its disk",
                    self.shadow_stall.as_secs(),
                    now.queued
                )));
            }
        }
    }
}

fn snapshot_of(file: SnapshotFile) -> io::Result<Snapshot> {
    let (last_log_id, last_membership) = Meta::read(&file.raft_meta).map_err(broken)?;
    if last_log_id.map_or(0, |id| id.index) != file.index {
        return Err(broken(format!(
            "the snapshot {} holds index {} but is marked as ending at {last_log_id:?}",
            file.path.display(),
            file.index
        )));
    }
    Ok(Snapshot {
        meta: SnapshotMeta {
            last_log_id,
            last_membership,
        },
        snapshot: SnapshotData::Made(file),
    })
}

/// Makes a snapshot of what is durable.
#[derive(Debug)]
pub(crate) struct Builder {
    shadow: Arc<dyn Shadow>,
    at_least: u64,
    published: Arc<Published>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let file = self.shadow.snapshot(self.at_least).await.map_err(broken)?;
        self.published.measures.snapshots_built.add(1);
        tracing::info!(index = file.index, bytes = file.bytes, "made a snapshot");
        snapshot_of(file)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            self.wait_for_shadow().await?;
            let requests = match &entry.payload {
                Payload::Normal(bytes) => phase::requests_in(&bytes.0),
                Payload::Blank | Payload::Membership(_) => Vec::new(),
            };
            phase::reached(Phase::Committed, &requests);
            phase::hold(Phase::Committed, &requests).await;
            self.apply_entry(entry)?;
            phase::reached(Phase::Applied, &requests);
            phase::hold(Phase::Applied, &requests).await;
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            shadow: self.shadow.clone(),
            at_least: self.state.index(),
            published: self.published.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let path = match snapshot {
            SnapshotData::Received(file) => file.take().unwrap_or_default(),
            // A shadow's own file stays as it is. What was loaded is never older than that, so only
            // the library's tests come here.
            SnapshotData::Made(file) => {
                let path = self.shadow.receive_path().await.map_err(broken)?;
                crate::files::copy(&file.path, &path).await?;
                path
            }
        };
        let loaded = self.shadow.install(path).await;
        let loaded =
            loaded.map_err(|error| self.stop(format!("installing a snapshot: {error}")))?;
        let (last, membership) = Meta::read(&loaded.raft_meta).map_err(broken)?;
        if last != meta.last_log_id {
            return Err(self.stop(format!(
                "a snapshot announced as ending at {:?} ends at {last:?}",
                meta.last_log_id
            )));
        }
        self.check_version(&loaded.state, "installing a snapshot")?;
        self.marks = Meta::of(last, &membership).map_err(broken)?;
        self.last = last;
        self.membership = membership;
        self.state = loaded.state;
        self.snapshot_from = self.state.index();
        let image = Arc::new(self.state.clone());
        self.published.hub.replaced(&image);
        self.published
            .digests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.published.publish(
            image,
            Applied {
                index: last.map_or(0, |id| id.index),
                term: last.map_or(0, |id| id.leader_id.term),
            },
        );
        self.published.measures.snapshots_installed.add(1);
        tracing::info!(index = self.state.index(), "installed a snapshot");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let mut file = self.shadow.current_snapshot().await.map_err(broken)?;
        // A snapshot that was installed is the state from then on and no file to send; what was made
        // here before may be older than what is left of the log.
        if file.as_ref().map_or(0, |file| file.index) < self.snapshot_from {
            file = Some(
                self.shadow
                    .snapshot(self.snapshot_from)
                    .await
                    .map_err(broken)?,
            );
        }
        file.map(snapshot_of).transpose()
    }
}

#[cfg(test)]
mod tests;
