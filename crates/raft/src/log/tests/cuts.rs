//! The log after a power cut at any moment of a run, with whatever was not flushed kept, lost or torn.
//!
//! What the log holds is told by a list: what it is to hold after its first record, after the second,
//! and so on. A log that opens after a cut must hold what the list says for one of its places, not
//! before the last record that was acknowledged and not behind the last that was given to it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use virtflow_powercut::{Recorder, State, Stream, sample, scratch};

use super::*;

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Held {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    pub(super) entries: BTreeMap<u64, (u64, String)>,
}

impl Held {
    pub(super) async fn of(log: &mut LogStore) -> Self {
        let entries = log.try_get_log_entries(..).await.unwrap();
        let texts = texts(&entries);
        let terms = entries.iter().map(|entry| entry.log_id.leader_id.term);
        Self {
            vote: log.vote(),
            committed: log.read_committed().await.unwrap(),
            purged: log.get_log_state().await.unwrap().last_purged_log_id,
            entries: texts
                .into_iter()
                .zip(terms)
                .map(|((index, text), term)| (index, (term, text)))
                .collect(),
        }
    }

    fn last(&self) -> u64 {
        let purged = self.purged.map_or(0, |id| id.index);
        self.entries.keys().last().copied().unwrap_or(purged)
    }

    fn next(&self) -> u64 {
        match (&self.purged, self.entries.is_empty()) {
            (None, true) => 0,
            _ => self.last() + 1,
        }
    }
}

/// A log that is written to, and the list of what it is to hold.
struct Run {
    recorder: Recorder,
    dir: PathBuf,
    log: LogStore,
    list: Vec<Held>,
}

/// Small files, so that there are several.
fn small() -> LogOptions {
    LogOptions {
        chunk_bytes: 1400,
        ..options()
    }
}

impl Run {
    async fn begin(root: &Path) -> Self {
        let recorder = Recorder::start(root);
        let dir = recorder.root().join("raft");
        let log = LogStore::create(&dir, &identity(), &small()).await.unwrap();
        recorder.mark("acknowledged", 0);
        Self {
            recorder,
            dir,
            log,
            list: vec![Held::default()],
        }
    }

    /// One more record.
    fn then(&mut self, change: impl FnOnce(&mut Held)) {
        let mut held = self.list.last().unwrap().clone();
        change(&mut held);
        self.list.push(held);
        self.recorder.mark("given", self.list.len() as u64 - 1);
    }

    fn acknowledged(&self) {
        self.recorder
            .mark("acknowledged", self.list.len() as u64 - 1);
    }

    async fn vote(&mut self, term: u64, node: u64, committed: bool) {
        let vote = vote(term, node, committed);
        self.then(|held| held.vote = Some(vote));
        self.log.save_vote(&vote).await.unwrap();
        self.acknowledged();
    }

    async fn append(&mut self, term: u64, sizes: &[usize]) {
        let mut entries = Vec::new();
        for size in sizes {
            let index = self.list.last().unwrap().next();
            let text = format!("{index} in {term} {}", "x".repeat(*size));
            entries.push(batch(term, index, &text));
            self.then(|held| drop(held.entries.insert(index, (term, text))));
        }
        self.log.blocking_append(entries).await.unwrap();
        self.acknowledged();
    }

    /// Nobody waits for it: the next flush takes it along.
    async fn commit(&mut self) {
        let held = self.list.last().unwrap();
        let (index, (term, _)) = held.entries.last_key_value().unwrap();
        let id = log_id(*term, *index);
        self.then(|held| held.committed = Some(id));
        self.log.save_committed(Some(id)).await.unwrap();
    }

    async fn truncate(&mut self, keep: u64) {
        let (term, _) = self.list.last().unwrap().entries[&keep];
        self.then(|held| drop(held.entries.split_off(&(keep + 1))));
        self.log
            .truncate_after(Some(log_id(term, keep)))
            .await
            .unwrap();
        self.acknowledged();
    }

    async fn purge(&mut self, term: u64, upto: u64) {
        let id = log_id(term, upto);
        self.then(|held| {
            held.purged = Some(id);
            held.entries = held.entries.split_off(&(upto + 1));
        });
        self.log.purge(id).await.unwrap();
        self.acknowledged();
    }

    fn reopen(self) -> Self {
        drop(self.log);
        let log = LogStore::open(&self.dir, &identity(), &small()).unwrap();
        Self { log, ..self }
    }

    fn end(self) -> (Stream, Vec<Held>) {
        drop(self.log);
        (self.recorder.finish(), self.list)
    }
}

/// A member's life in small: elections, batches of several sizes, a tail cut off by another leader, files
/// begun and purged, a snapshot that leaps ahead, starts.
async fn a_life(root: &Path) -> (Stream, Vec<Held>) {
    let mut run = Run::begin(root).await;
    run.vote(1, 1, false).await;
    run.vote(1, 1, true).await;
    run.append(1, &[10]).await;
    run.append(1, &[30, 600, 5]).await;
    run.commit().await;
    run.append(1, &[200, 200, 200, 200]).await;
    run.append(1, &[1]).await;
    run.commit().await;
    run.append(1, &[900]).await;
    run = run.reopen();
    run.vote(2, 3, true).await;
    // Of a leader that lost its place.
    run.append(2, &[40, 40, 40]).await;
    run.vote(3, 2, true).await;
    run.truncate(10).await;
    run.append(3, &[70, 300, 70, 300]).await;
    run.commit().await;
    run.purge(1, 5).await;
    run.append(3, &[512, 512, 512]).await;
    run.commit().await;
    run.purge(3, 15).await;
    run.append(3, &[3000]).await;
    run.append(3, &[20, 20]).await;
    run = run.reopen();
    // A snapshot was installed.
    run.purge(4, 40).await;
    run.append(4, &[100, 100]).await;
    run.commit().await;
    for _ in 0..6 {
        run.append(4, &[250]).await;
    }
    run.purge(4, 47).await;
    run.vote(5, 1, false).await;
    run.end()
}

/// The first and the last place in the list that a log may stand at.
#[derive(Debug, Clone, Copy)]
struct Promised {
    /// Nothing before the log was made.
    acknowledged: Option<u64>,
    given: u64,
}

impl Promised {
    fn at(state: &State) -> Self {
        Self {
            acknowledged: state.mark("acknowledged"),
            given: state.mark("given").unwrap_or(0),
        }
    }
}

/// Opens what a cut left, and goes on with it. Returns the place in the list at which it stood.
async fn check(raft: &Path, how: &str, promised: Promised, list: &[Held]) -> usize {
    let opened = LogStore::open(raft, &identity(), &small());
    let Some(acknowledged) = promised.acknowledged else {
        // Being made: either it is not there yet, and can be made, or it is there.
        match opened {
            Ok(mut log) => assert_eq!(Held::of(&mut log).await, Held::default(), "{how}"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::NotFound, "{how}: {error}");
                let made = LogStore::create(raft, &identity(), &small()).await;
                drop(made.unwrap_or_else(|error| panic!("{how}: {error}")));
                LogStore::open(raft, &identity(), &small()).unwrap();
            }
        }
        return 0;
    };
    let mut log = opened.unwrap_or_else(|error| panic!("{how}: {error}"));
    let mut held = Held::of(&mut log).await;
    let place = |place: u64| usize::try_from(place).unwrap();
    let places = place(acknowledged)..=place(promised.given);
    let Some(place) = places.clone().find(|place| list[*place] == held) else {
        panic!(
            "{how}: it holds {held:#?}, the list from {places:?}: {:#?}",
            &list[places.clone()]
        );
    };
    assert_eq!(*log.flushed().borrow(), held.last(), "{how}");

    // It takes more, and what it takes is there at the next start.
    let (term, index) = (9, held.next());
    log.blocking_append([batch(term, index, "more")])
        .await
        .unwrap();
    held.entries.insert(index, (term, "more".into()));
    drop(log);
    let again = LogStore::open(raft, &identity(), &small());
    let mut log = again.unwrap_or_else(|error| panic!("{how}, then one more: {error}"));
    assert_eq!(Held::of(&mut log).await, held, "{how}, then one more");
    place
}

#[test]
fn a_log_opens_after_a_power_cut_at_any_moment() {
    let dir = scratch();
    let (stream, list) = runtime().block_on(a_life(dir.path()));
    let states = stream.states();
    let places = Mutex::new(BTreeMap::new());
    stream.visit_on(2, &states, |thread, state, image| {
        let dir = dir.path().join(format!("cut-{thread}"));
        image.write(&dir).unwrap();
        let (how, promised) = (state.to_string(), Promised::at(state));
        let place = runtime().block_on(check(&dir.join("raft"), &how, promised, &list));
        *places.lock().unwrap().entry(place).or_insert(0) += 1;
    });
    let places = places.into_inner().unwrap();
    println!(
        "{} changes, {} states, which held what {} of {} records left",
        stream.changes(),
        states.len(),
        places.len(),
        list.len()
    );
    assert!(states.len() > 1000, "{}", states.len());
    // Each record was the last one left at some cut.
    assert_eq!(places.len(), list.len(), "{places:?}");
}

/// A start mends what a power cut left: cuts tails off, removes files, begins new ones. The power may go
/// again meanwhile.
#[test]
fn a_log_opens_after_a_power_cut_during_a_start_after_a_power_cut() {
    let dir = scratch();
    let (stream, list) = runtime().block_on(a_life(dir.path()));
    let all = stream.states();
    let first = sample(&all, 120);
    let cuts = AtomicU64::new(0);
    stream.visit_on(2, &first, |thread, state, image| {
        let promised = Promised::at(state);
        if promised.acknowledged.is_none() {
            return;
        }
        let live = dir.path().join(format!("started-{thread}"));
        image.write(&live).unwrap();
        let recorder = Recorder::start(&live);
        drop(LogStore::open(&live.join("raft"), &identity(), &small()).unwrap());
        let second = recorder.finish();
        second.visit(&second.states(), |again, image| {
            let dir = dir.path().join(format!("again-{thread}"));
            image.write(&dir).unwrap();
            let how = format!("{state}; at the start after it {again}");
            runtime().block_on(check(&dir.join("raft"), &how, promised, &list));
            cuts.fetch_add(1, Ordering::Relaxed);
        });
    });
    let cuts = cuts.into_inner();
    println!("{} starts, {cuts} states", first.len());
    assert!(cuts > 1000, "{cuts}");
}
