use openraft::vote::RaftLeaderId;
use virtflow_state::{CLUSTER_VERSION, FORMAT, Op, wire};
use virtflow_types::{Incarnation, ObjectId, RequestId, Timestamp};

use super::*;
use crate::log::tests::shadow::TestShadow;
use crate::types::{EntryBytes, log_id};

fn machine(dir: &std::path::Path) -> (Machine, Arc<Published>) {
    machine_that_supports(CLUSTER_VERSION, dir)
}

fn machine_that_supports(supports: u32, dir: &std::path::Path) -> (Machine, Arc<Published>) {
    let mut config = RaftConfig::new(dir, 1, ObjectId::from_u128(1), ObjectId::from_u128(2));
    config.supports = supports;
    let (shadow, loaded) = TestShadow::open(dir);
    let published = Published::of(&loaded.state);
    let machine = Machine::new(loaded, shadow, &config, published.clone()).unwrap();
    (machine, published)
}

fn genesis() -> Changeset {
    let mut changeset = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
    changeset
        .ops
        .push(Op::Genesis(Incarnation::generate(), ObjectId::from_u128(1)));
    changeset
}

fn batch(changesets: Vec<Bytes>) -> Bytes {
    Batch { changesets }.encode()
}

fn entry(term: u64, index: u64, bytes: Bytes) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload: Payload::Normal(EntryBytes(bytes)),
    }
}

async fn apply(machine: &mut Machine, entry: Entry) -> io::Result<()> {
    machine
        .apply(futures::stream::iter([Ok((entry, None))]))
        .await
}

#[tokio::test]
async fn bytes_that_cannot_be_read_stop_the_node() {
    let newer = wire::Changeset {
        format: FORMAT + 1,
        request_id: Bytes::copy_from_slice(RequestId::generate().as_bytes()),
        ..wire::Changeset::default()
    };
    let cases = [
        (Bytes::from_static(b"\xff\xff\xff"), "cannot be applied"),
        (
            batch(vec![Bytes::from_static(b"\xff")]),
            "cannot be applied",
        ),
        (batch(vec![newer.encode_to_vec().into()]), "upgrade"),
    ];
    for (bytes, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (mut machine, published) = machine(dir.path());
        assert!(apply(&mut machine, entry(1, 1, bytes)).await.is_err());
        let reason = published.fatal.reason().unwrap();
        assert!(reason.contains(words), "{reason}");
        assert_eq!(published.image().index(), 0, "nothing of it is shown");
    }
}

#[tokio::test]
async fn an_entry_of_an_own_term_must_be_as_it_was_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published) = machine(dir.path());
    let changeset = genesis();
    let bytes = batch(vec![changeset.encode()]);
    let mut head = State::empty();
    head.apply(&changeset).unwrap();
    published.lead(5);
    let prediction = |bytes: &Bytes, digest| Prediction {
        entry: bytes.clone(),
        digest,
    };
    published.predict(5, prediction(&bytes, head.digest()));
    apply(&mut machine, entry(5, 1, bytes.clone()))
        .await
        .unwrap();
    assert_eq!(published.fatal.reason(), None);
    assert_eq!(published.digest_at(1), Some(head.digest()));

    // The same once more is refused by the state, which its leader would have seen.
    published.predict(5, prediction(&bytes, head.digest()));
    assert!(apply(&mut machine, entry(5, 2, bytes)).await.is_err());
    assert!(published.fatal.reason().unwrap().contains("refused"));
}

/// The lease ran out for a moment: one batch was refused at the door, the one behind it was taken. That one
/// was decided on a state that never came to be; whether it holds is for the state to say.
#[tokio::test]
async fn what_follows_a_batch_that_never_reached_the_log_is_not_held_to_its_prediction() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published) = machine(dir.path());
    let changeset = genesis();
    let bytes = batch(vec![changeset.encode()]);
    let mut head = State::empty();
    head.apply(&changeset).unwrap();
    let prediction = |bytes: &Bytes, digest| Prediction {
        entry: bytes.clone(),
        digest,
    };
    published.lead(5);
    published.predict(5, prediction(&Bytes::from_static(b"never appended"), 1));
    published.predict(5, prediction(&bytes, head.digest() ^ 1));
    apply(&mut machine, entry(5, 1, bytes.clone()))
        .await
        .unwrap();
    // What is refused of it is refused, on every member alike.
    published.predict(5, prediction(&bytes, 2));
    apply(&mut machine, entry(5, 2, bytes.clone()))
        .await
        .unwrap();
    assert_eq!(published.fatal.reason(), None);
    assert_eq!(published.digest_at(2), Some(head.digest()));

    // With the next head predictions hold again.
    published.lead(5);
    published.predict(5, prediction(&bytes, 3));
    assert!(apply(&mut machine, entry(5, 3, bytes)).await.is_err());
}

#[tokio::test]
async fn another_state_than_predicted_stops_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published) = machine(dir.path());
    let bytes = batch(vec![genesis().encode()]);
    published.lead(5);
    published.predict(
        5,
        Prediction {
            entry: bytes.clone(),
            digest: 4711,
        },
    );
    assert!(apply(&mut machine, entry(5, 1, bytes)).await.is_err());
    assert!(published.fatal.reason().unwrap().contains("another state"));
}

#[tokio::test]
async fn an_entry_nobody_here_proposed_in_an_own_term_stops_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published) = machine(dir.path());
    published.lead(5);
    let bytes = batch(vec![genesis().encode()]);
    assert!(apply(&mut machine, entry(5, 1, bytes)).await.is_err());
    assert!(published.fatal.reason().unwrap().contains("never proposed"));
}

#[tokio::test]
async fn other_leaders_entries_need_no_prediction() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published) = machine(dir.path());
    published.lead(5);
    let changeset = genesis();
    let bytes = batch(vec![changeset.encode()]);
    apply(&mut machine, entry(6, 1, bytes.clone()))
        .await
        .unwrap();
    // A refusal is a normal result there.
    apply(&mut machine, entry(6, 2, bytes)).await.unwrap();
    assert_eq!(published.fatal.reason(), None);
    assert_eq!(published.image().index(), 2);
    let leader = <openraft::impls::leader_id_std::LeaderId<u64, u64> as RaftLeaderId>::new(6, 1);
    assert_eq!(
        machine.last.map(|id| id.leader_id),
        Some(leader.to_committed())
    );
}

#[tokio::test]
async fn a_raise_beyond_what_is_supported_stops_the_node_before_what_follows_it() {
    let raise = |version| {
        let mut changeset = Changeset::new(RequestId::generate(), Timestamp::now(), "test");
        changeset.ops.push(Op::ClusterVersion(version));
        changeset.encode()
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published) = machine_that_supports(2, dir.path());
    let first = batch(vec![genesis().encode(), raise(2)]);
    apply(&mut machine, entry(1, 1, first)).await.unwrap();
    // One that is refused raises nothing.
    apply(&mut machine, entry(1, 2, batch(vec![raise(1)])))
        .await
        .unwrap();
    assert_eq!(published.fatal.reason(), None);
    let beyond = batch(vec![raise(3)]);
    assert!(apply(&mut machine, entry(1, 3, beyond)).await.is_err());
    assert_eq!(
        published.fatal.reason().unwrap(),
        "log entry 3: the cluster is at version 3, this controller supports 2 at most; install a release that supports \
         3 on this machine: `virtflow upgrade status` shows what the others run"
    );
    let image = published.image();
    assert_eq!((image.index(), image.cluster_version()), (2, 2));
}
