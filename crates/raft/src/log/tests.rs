use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::StorageError;
use openraft::storage::RaftLogStorageExt;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId;
use tempfile::TempDir;

use super::simulated::{SimulatedDisk, SimulatedLog};
use super::*;
use crate::fatal::Fatal;
use crate::machine::{Applied, Machine, Published};
use crate::types::{EntryBytes, Payload, Vote, log_id};

#[path = "../../tests/common/shadow.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "shared with the tests of whole groups"
)]
pub(crate) mod shadow;

mod cuts;
mod flips;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn identity() -> Identity {
    Identity {
        cluster_id: ObjectId::from_u128(1),
        node_id: 1,
        store_id: ObjectId::from_u128(2),
    }
}

fn options() -> LogOptions {
    LogOptions::new(&RaftLimits::default(), Arc::default())
}

fn batch(term: u64, index: u64, text: &str) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload: Payload::Normal(EntryBytes(text.to_owned().into())),
    }
}

fn vote(term: u64, node: u64, committed: bool) -> Vote {
    Vote {
        leader_id: RaftLeaderId::new(term, node),
        committed,
    }
}

fn texts(entries: &[Entry]) -> Vec<(u64, String)> {
    let text = |entry: &Entry| match &entry.payload {
        Payload::Normal(bytes) => String::from_utf8(bytes.0.to_vec()).unwrap(),
        other => format!("{other:?}"),
    };
    entries
        .iter()
        .map(|entry| (entry.log_id.index, text(entry)))
        .collect()
}

/// Builds an empty store for each test of the library's suite, on the disk or in memory.
struct Builder {
    dir: TempDir,
    number: AtomicU64,
}

impl Builder {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            number: AtomicU64::new(0),
        }
    }

    fn folder(&self) -> PathBuf {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join(number.to_string())
    }

    fn machine(dir: &Path) -> Machine {
        let (shadow, loaded) = shadow::TestShadow::open(&dir.join("shadow"));
        shadow.allow_gaps();
        virtflow_state::port::Shadow::log_flushed(&*shadow, u64::MAX);
        let fatal = Arc::new(Fatal::default());
        let published =
            Published::new(&loaded.state, Applied::default(), 16, Arc::default(), fatal);
        let mut machine = Machine::new(
            loaded,
            shadow,
            &crate::config::RaftConfig::new(dir, 1, ObjectId::from_u128(1), ObjectId::from_u128(2)),
            published,
        )
        .unwrap();
        machine.shadow_from = 0;
        machine
    }
}

impl StoreBuilder<Types, LogStore, Machine, ()> for Builder {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<Types>> {
        let dir = self.folder();
        let log = LogStore::create(&dir.join("log"), &identity(), &options()).await;
        Ok(((), log.unwrap(), Self::machine(&dir)))
    }
}

impl StoreBuilder<Types, SimulatedLog, Machine, ()> for Builder {
    async fn build(&self) -> Result<((), SimulatedLog, Machine), StorageError<Types>> {
        let disk = SimulatedDisk::default();
        disk.behave(|disk| (disk.flush_min, disk.flush_max) = Default::default());
        let log = SimulatedLog::open(disk);
        Ok(((), log, Self::machine(&self.folder())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_librarys_own_suite_passes_on_the_disk() {
    Suite::<Types, LogStore, Machine, _, _>::test_all(Builder::new())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_librarys_own_suite_passes_in_memory() {
    Suite::<Types, SimulatedLog, Machine, _, _>::test_all(Builder::new())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_appended_is_there_after_opening_anew() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut log = LogStore::create(dir.path(), &identity(), &options())
            .await
            .unwrap();
        log.save_vote(&vote(3, 7, true)).await.unwrap();
        log.blocking_append([batch(3, 0, "a"), batch(3, 1, "b"), batch(3, 2, "c")])
            .await
            .unwrap();
        log.save_committed(Some(log_id(3, 1))).await.unwrap();
        log.truncate_after(Some(log_id(3, 1))).await.unwrap();
        assert_eq!(*log.flushed().borrow(), 1);
        log.blocking_append([batch(4, 2, "d")]).await.unwrap();
        assert_eq!(*log.flushed().borrow(), 2);
        log.purge(log_id(3, 0)).await.unwrap();
    }
    let mut log = LogStore::open(dir.path(), &identity(), &options()).unwrap();
    assert_eq!(log.vote(), Some(vote(3, 7, true)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(3, 1)));
    let entries = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(texts(&entries), [(1, "b".into()), (2, "d".into())]);
    assert_eq!(*log.flushed().borrow(), 2);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(3, 0)));
    assert_eq!(state.last_log_id, Some(log_id(4, 2)));
}

#[tokio::test]
async fn a_log_is_opened_by_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let missing = LogStore::open(&dir.path().join("none"), &identity(), &options()).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    drop(
        LogStore::create(dir.path(), &identity(), &options())
            .await
            .unwrap(),
    );
    let other = Identity {
        store_id: ObjectId::from_u128(3),
        ..identity()
    };
    assert!(LogStore::open(dir.path(), &other, &options()).is_err());
    assert!(
        LogStore::create(dir.path(), &other, &options())
            .await
            .is_err()
    );
    LogStore::open(dir.path(), &identity(), &options()).unwrap();
}

#[tokio::test]
async fn one_message_to_a_follower_is_bounded_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogStore::create(dir.path(), &identity(), &options())
        .await
        .unwrap();
    let large = "x".repeat(1024 * 1024);
    log.blocking_append((0..6).map(|index| batch(1, index, &large)))
        .await
        .unwrap();
    let some = log.limited_get_log_entries(0, 6).await.unwrap();
    assert_eq!(some.len(), 2);
    assert_eq!(some[0].log_id.index, 0);
    // At least one, however large.
    let huge = "x".repeat(APPEND_BYTES_MAX + 1);
    log.blocking_append([batch(1, 6, &huge)]).await.unwrap();
    assert_eq!(log.limited_get_log_entries(6, 7).await.unwrap().len(), 1);
}

/// A follower at 3 is to be sent what comes after; meanwhile the log was purged up to 6. What is left does not
/// follow what it has.
#[tokio::test]
async fn what_was_purged_leaves_no_gap_in_what_is_sent() {
    let dir = TempDir::new().unwrap();
    let mut log = LogStore::create(dir.path(), &identity(), &options())
        .await
        .unwrap();
    let entries = (0..10).map(|index| batch(1, index, "x"));
    log.blocking_append(entries).await.unwrap();
    log.purge(log_id(1, 6)).await.unwrap();
    assert!(log.limited_get_log_entries(4, 9).await.unwrap().is_empty());
    let sent = log.limited_get_log_entries(7, 9).await.unwrap();
    let indexes: Vec<u64> = sent.iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(indexes, [7, 8]);
}

fn last_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ext| ext == "wal"))
        .max()
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Cuts the last file where the disk last confirmed a flush: what a power cut leaves at least, and
/// with it a torn piece of what came behind.
fn cut_power(dir: &Path, flushed_offset: u64, torn: usize) {
    let path = last_file(dir);
    let begin = raft_log::chunked_wal::Config::parse_chunk_file_name(
        &path.file_name().unwrap().to_string_lossy(),
    );
    let keep = usize::try_from(flushed_offset.saturating_sub(begin.unwrap())).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.len().min(keep + torn);
    std::fs::write(&path, &bytes[..end]).unwrap();
}

/// Appends and acknowledges entries, cuts the power after each, and returns how many acknowledged
/// entries were lost in the worst cut.
async fn lost_by_power_cuts(flush: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.flush = flush;
    let live = dir.path().join("live");
    let mut log = LogStore::create(&live, &identity(), &options)
        .await
        .unwrap();
    let mut lost = 0;
    for index in 0..20 {
        log.blocking_append([batch(1, index, &format!("entry {index}"))])
            .await
            .unwrap();
        let torn = usize::try_from(index * 7 % 60).unwrap();
        let after = dir.path().join(format!("cut-{index}"));
        let flushed_offset = log.flush.offset();
        copy(&live, &after);
        cut_power(&after, flushed_offset, torn);
        let kept = match LogStore::open(&after, &identity(), &super::tests::options()) {
            Ok(mut log) => log.try_get_log_entries(..).await.unwrap().len() as u64,
            Err(_) => 0,
        };
        lost = lost.max((index + 1).saturating_sub(kept));
    }
    lost
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    assert_eq!(lost_by_power_cuts(true).await, 0);
}

/// The test above can fail: without the flush it sees acknowledged entries go.
#[tokio::test]
async fn a_power_cut_without_the_flush_is_seen_to_lose_entries() {
    assert!(lost_by_power_cuts(false).await > 0);
}

#[tokio::test]
async fn a_torn_tail_that_was_never_flushed_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut log = LogStore::create(dir.path(), &identity(), &options())
            .await
            .unwrap();
        log.blocking_append([batch(1, 0, "a"), batch(1, 1, "b")])
            .await
            .unwrap();
    }
    let path = last_file(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let sound = bytes.len();
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0]);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(triage::triage(dir.path()).unwrap(), 9);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), sound as u64);
    let mut log = LogStore::open(dir.path(), &identity(), &options()).unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 2);
}

#[tokio::test]
async fn damage_below_the_flushed_end_is_refused_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    {
        let mut log = LogStore::create(&sound, &identity(), &options())
            .await
            .unwrap();
        for index in 0..8 {
            log.blocking_append([batch(1, index, &format!("entry {index}"))])
                .await
                .unwrap();
        }
    }
    let length = std::fs::metadata(last_file(&sound)).unwrap().len();
    // Without the mark file the frames behind the damage must tell; the last two records have none
    // behind them that could.
    for (keep_mark, until) in [(true, length), (false, length - 300)] {
        for at in (0..until).step_by(37) {
            let damaged = dir.path().join(format!("damaged-{keep_mark}-{at}"));
            copy(&sound, &damaged);
            if !keep_mark {
                std::fs::remove_file(damaged.join(flush::MARK_FILE)).unwrap();
            }
            let path = last_file(&damaged);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 0x40;
            std::fs::write(&path, &bytes).unwrap();
            let opened = LogStore::open(&damaged, &identity(), &options());
            assert!(opened.is_err(), "mark {keep_mark}, byte {at} of {length}");
            assert_eq!(
                std::fs::metadata(&path).unwrap().len(),
                length,
                "nothing was cut off"
            );
        }
    }
}

/// The node's inside takes any log: what a simulation needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_runs_on_a_log_in_memory_and_keeps_what_was_flushed() {
    use virtflow_pki::{Csr, KeyPair, LeafRequest, Role};
    use virtflow_state::{Changeset, Op};
    use virtflow_types::{Incarnation, RequestId, Timestamp};

    use crate::config::RaftConfig;
    use crate::link::PeerTls;
    use crate::member::MemberInfo;
    use crate::network::Network;
    use crate::node::Node;
    use crate::start::Parts;

    let identity = identity();
    let dir = tempfile::tempdir().unwrap();
    let now_ms = Timestamp::now().ms();
    let authority =
        virtflow_pki::CertificateAuthority::create(identity.cluster_id.uuid(), now_ms).unwrap();
    let key = KeyPair::generate().unwrap();
    let request = LeafRequest {
        role: Role::Controller,
        subject_id: identity.store_id.uuid(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        lifetime: Duration::from_secs(600),
    };
    let csr = Csr::from_der(&key.csr().unwrap()).unwrap();
    let certificate = authority.sign(&csr, &request, now_ms).unwrap();
    let me = MemberInfo {
        name: "one".into(),
        store_id: identity.store_id,
        key_fingerprint: key.fingerprint(),
        peer_address: "127.0.0.1:1".into(),
        api_address: "127.0.0.1:2".into(),
        agent_address: "127.0.0.1:3".into(),
    };
    let tls = PeerTls {
        certificates: virtflow_pki::CertStore::new(key, certificate, authority.certificate())
            .unwrap(),
        pinned: Arc::default(),
    };
    let disk = SimulatedDisk::default();
    let start = async || {
        let (shadow, loaded) = shadow::TestShadow::open(dir.path());
        let parts = Parts {
            config: RaftConfig::new(
                dir.path(),
                identity.node_id,
                identity.store_id,
                identity.cluster_id,
            ),
            loaded,
            shadow,
            tls: tls.clone(),
            measures: Arc::default(),
        };
        let log = SimulatedLog::open(disk.clone());
        Node::start_on(parts, log, |link| Network { link })
            .await
            .unwrap()
    };
    let incarnation = Incarnation::generate();
    let mut genesis = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
    genesis
        .ops
        .push(Op::Genesis(incarnation, identity.cluster_id));
    let node = start().await;
    node.bootstrap(genesis, me).await.unwrap();
    node.stop().await;
    drop(node);
    disk.power_cut();
    let node = start().await;
    assert_eq!(node.read().await.unwrap().incarnation(), Some(incarnation));

    // What is bound to another leadership is refused at the door and never reaches the log.
    let now = *node.leadership().borrow();
    assert!(now.is_leader_ready);
    for term in [now.term - 1, now.term + 1] {
        let before = node.status().last_log;
        let (responder, told) = openraft::impls::ProgressResponder::complete_only();
        let write = node
            .inner
            .raft
            .write(EntryBytes(bytes::Bytes::from_static(b"stale")));
        write
            .with_leader(crate::types::Term::new(term))
            .responder(responder)
            .await
            .unwrap();
        let told: openraft::raft::ClientWriteResult<Types> = told.await.unwrap();
        assert!(told.is_err(), "term {term}");
        assert_eq!(node.status().last_log, before);
    }
}
