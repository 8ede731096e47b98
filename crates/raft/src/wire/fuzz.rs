//! Whatever another member, or who poses as one, puts on the wire.

use std::sync::Arc;
use std::time::Duration;

use virtflow_pki::{
    CertStore, CertificateAuthority, Csr, Identity, KeyPair, LeafRequest, PeerIdentity, PinnedKeys,
    Role,
};
use virtflow_proto::bounded;
use virtflow_proto::raft::v1 as peer;
use virtflow_state::State;
use virtflow_testkit::fuzz::{Format, Target, Verdict};
use virtflow_types::ObjectId;

use super::*;
use crate::link::{Link, PeerTls};
use crate::machine::Published;
use crate::types::log_id;

const MEMBERSHIP: &str = r#"{"configs":[[1]],"nodes":{"1":null,"2":null}}"#;

fn bytes(input: &[u8]) -> Bytes {
    Bytes::copy_from_slice(input)
}

fn vote() -> Vote {
    Vote {
        term: 3,
        node: 2,
        committed: true,
    }
}

fn ids() -> Option<LogId> {
    Some(log_id(2, 6).into())
}

fn entry(index: u64, body: Body) -> LogEntry {
    LogEntry {
        id: Some(log_id(3, index).into()),
        body: Some(EntryBody { body: Some(body) }),
    }
}

#[test]
fn append() {
    let heartbeat = Append {
        vote: Some(vote()),
        prev: ids(),
        entries: Vec::new(),
        committed: ids(),
    };
    let full = Append {
        entries: vec![
            entry(7, Body::Blank(true)),
            entry(8, Body::Batch(Bytes::from_static(b"abc"))),
            entry(
                9,
                Body::Membership(Bytes::from_static(MEMBERSHIP.as_bytes())),
            ),
        ],
        ..heartbeat.clone()
    };
    Target::new("append", Format::Proto)
        .seed(heartbeat.encode_to_vec())
        .seed(full.encode_to_vec())
        .words(&[MEMBERSHIP, "{\"configs\":[],\"nodes\":{}}", "null"])
        .iterations(3000)
        .sizes(4096, 512 * 1024)
        .memory(24, 8 * 1024 * 1024)
        .run(|input| {
            let read = Append::decode_request(bytes(input)).map_err(|e| e.to_string())?;
            let written = Bytes::from(Append::of(&read).unwrap().encode_to_vec());
            let again = Append::decode_request(written.clone()).unwrap();
            assert_eq!(again.entries, read.entries);
            assert_eq!(again.vote, read.vote);
            assert_eq!(again.prev_log_id, read.prev_log_id);
            assert_eq!(again.leader_commit, read.leader_commit);
            assert_eq!(Append::of(&again).unwrap().encode_to_vec(), written);
            let follow =
                |pair: &[Entry]| pair[0].log_id.index.checked_add(1) == Some(pair[1].log_id.index);
            assert!(read.entries.windows(2).all(follow));
            Ok(())
        });
}

/// If it can be read, what is written from it reads as the same.
fn stable<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    read: impl Fn(Bytes) -> Result<T, WireError>,
    write: impl Fn(&T) -> Vec<u8>,
) -> Verdict {
    let first = read(bytes(input)).map_err(|error| error.to_string())?;
    let written = write(&first);
    let again = read(written.clone().into()).unwrap();
    assert_eq!(again, first);
    assert_eq!(write(&again), written);
    Ok(())
}

fn plain<T: Message + Default + PartialEq + std::fmt::Debug>(input: &[u8]) -> Verdict {
    let read = |bytes| T::decode(bytes).map_err(|error| malformed("message", error));
    stable(input, read, T::encode_to_vec)
}

#[test]
fn raft_message() {
    let seeds: [Vec<u8>; 9] = [
        AppendReply {
            outcome: Some(AppendOutcome::Conflict(log_id(4, 5).into())),
        }
        .encode_to_vec(),
        AppendReply {
            outcome: Some(AppendOutcome::HigherVote(vote())),
        }
        .encode_to_vec(),
        Ballot {
            vote: Some(vote()),
            last: ids(),
            transfer: true,
        }
        .encode_to_vec(),
        BallotReply {
            vote: Some(vote()),
            last: ids(),
            granted: true,
        }
        .encode_to_vec(),
        Transfer {
            from: Some(vote()),
            to: 3,
            last: ids(),
        }
        .encode_to_vec(),
        TransferReply {
            outcome: Some(TransferOutcome::NotFlushed(TwoLogIds {
                expected: ids(),
                actual: None,
            })),
        }
        .encode_to_vec(),
        Meta {
            last: ids(),
            membership_at: ids(),
            membership: MEMBERSHIP.into(),
        }
        .encode_to_vec(),
        SnapshotHeader {
            vote: Some(vote()),
            meta: Bytes::from_static(b"meta"),
        }
        .encode_to_vec(),
        DigestQuery {
            index: 7,
            agreed_index: 6,
            agreed_digest: vec![1; 16].into(),
        }
        .encode_to_vec(),
    ];
    let mut target = Target::new("raft_message", Format::Proto)
        .words(&[MEMBERSHIP, "null", "{}", "[]"])
        .iterations(3000)
        .sizes(2048, 64 * 1024)
        .memory(16, 64 * 1024);
    for seed in seeds {
        target = target.seed(seed);
    }
    target.run(|input| {
        let marks = |(last, membership): &(Option<types::LogId>, StoredMembership)| {
            Meta::of(*last, membership).unwrap().encode_to_vec()
        };
        let verdicts = [
            stable(input, Ballot::decode_request, |r| {
                Ballot::of(r).encode_to_vec()
            }),
            stable(input, BallotReply::decode_response, |r| {
                BallotReply::of(r).encode_to_vec()
            }),
            stable(input, AppendReply::decode_result, |r| {
                AppendReply::of(r).encode_to_vec()
            }),
            stable(input, Transfer::decode_request, |r| {
                Transfer::of(r).encode_to_vec()
            }),
            stable(input, TransferReply::decode_response, |r| {
                TransferReply::of(r).encode_to_vec()
            }),
            stable(input, |bytes| Meta::read(&bytes), marks),
            plain::<SnapshotHeader>(input),
            plain::<SnapshotReply>(input),
            plain::<Confirm>(input),
            plain::<ConfirmReply>(input),
            plain::<DigestQuery>(input),
            plain::<DigestReply>(input),
        ];
        let taken = verdicts.iter().any(Result::is_ok);
        let refused = || verdicts.iter().find_map(|v| v.clone().err()).unwrap();
        if taken { Ok(()) } else { Err(refused()) }
    });
}

const CLUSTER: ObjectId = ObjectId::from_u128(0xc1);
const HERE: ObjectId = ObjectId::from_u128(0x51);
const THERE: ObjectId = ObjectId::from_u128(0x52);

/// Node 1, which knows nobody yet.
fn link() -> (Link, PeerIdentity) {
    let authority = CertificateAuthority::create(CLUSTER.uuid(), 1_795_456_800_000).unwrap();
    let key = KeyPair::generate().unwrap();
    let csr = Csr::from_der(&key.csr().unwrap()).unwrap();
    let request = LeafRequest {
        role: Role::Controller,
        subject_id: HERE.uuid(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        lifetime: Duration::from_secs(3600),
    };
    let certificate = authority.sign(&csr, &request, 1_795_456_800_000).unwrap();
    let peer = PeerIdentity {
        identity: Identity {
            cluster_id: CLUSTER.uuid(),
            role: Role::Controller,
            subject_id: THERE.uuid(),
        },
        key: key.fingerprint(),
        not_after_ms: certificate.validity().not_after_ms,
    };
    let tls = PeerTls {
        certificates: CertStore::new(key, certificate, authority.certificate()).unwrap(),
        pinned: Arc::<PinnedKeys>::default(),
    };
    let published = Published::of(&State::empty());
    let membership = StoredMembership::default();
    (
        Link::new(CLUSTER, 1, HERE, tls, published, &membership),
        peer,
    )
}

/// As the listener reads it: within bounds, and written again it is the same.
fn listened<T: bounded::Bounded + PartialEq + std::fmt::Debug>(input: &[u8]) -> Result<T, String> {
    let read: T = bounded::decode(bytes(input)).map_err(|error| error.to_string())?;
    let written = Bytes::from(read.encode_to_vec());
    assert_eq!(bounded::decode::<T>(written).as_ref(), Ok(&read));
    Ok(read)
}

#[test]
fn envelope() {
    let (link, from) = link();
    let id = |id: ObjectId| Bytes::copy_from_slice(id.as_bytes());
    let good = peer::Envelope {
        cluster_id: id(CLUSTER),
        from_store: id(THERE),
        from_node: 2,
        to_node: 1,
        to_store: id(HERE),
        payload: Bytes::from_static(b"payload"),
        incarnation: id(ObjectId::from_u128(7)),
    };
    assert_eq!(link.check(&good, &from).unwrap(), 2);
    let chunk = peer::SnapshotChunk {
        header: Some(good.clone()),
        data: vec![1; 100].into(),
        total_bytes: 100,
        last: true,
        blake3: vec![2; 32].into(),
        offset: 0,
    };
    Target::new("envelope", Format::Proto)
        .seed(good.encode_to_vec())
        .seed(chunk.encode_to_vec())
        .iterations(3000)
        .sizes(4096, 64 * 1024)
        .memory(16, 64 * 1024)
        .run(|input| {
            let chunk = listened::<peer::SnapshotChunk>(input);
            let header = chunk.as_ref().ok().and_then(|chunk| chunk.header.clone());
            let envelope = listened::<peer::Envelope>(input);
            for envelope in envelope.iter().chain(&header) {
                // Believed only if all that says who and whom is right.
                if let Ok(node) = link.check(envelope, &from) {
                    assert_eq!(node, envelope.from_node);
                    assert_eq!(envelope.cluster_id, good.cluster_id);
                    assert_eq!(envelope.from_store, good.from_store);
                    assert_eq!(envelope.to_store, good.to_store);
                    assert_eq!(envelope.to_node, 1);
                }
                let _ = link.open_reply(envelope.clone(), 2);
            }
            chunk.map(|_| ()).or(envelope.map(|_| ()))
        });
}

#[test]
fn peer_request() {
    let header = peer::Header {
        name: "content-type".into(),
        value: "application/json".into(),
    };
    let forward = peer::ForwardRequest {
        from: Some(peer::Envelope::default()),
        method: "POST".into(),
        path_and_query: "/api/v1/vms?limit=1".into(),
        headers: vec![header.clone()],
        body: "{}".into(),
        remote_address: "10.0.0.1:5".into(),
        client_identity: String::new(),
        hops: 1,
    };
    let rows = peer::RecordsChunk {
        rows: vec![peer::RecordRow {
            count: 1,
            body: "{}".into(),
            head: vec![3; 32].into(),
            at_ms: 4,
            index: 5,
        }],
    };
    Target::new("peer_request", Format::Proto)
        .seed(forward.encode_to_vec())
        .seed(rows.encode_to_vec())
        .iterations(1500)
        .sizes(4096, 64 * 1024)
        .memory(16, 24 * 1024 * 1024)
        .run(|input| {
            let verdicts = [
                listened::<peer::ForwardRequest>(input).map(|_| ()),
                listened::<peer::ForwardReply>(input).map(|_| ()),
                listened::<peer::RelayRequest>(input).map(|_| ()),
                listened::<peer::RelayReply>(input).map(|_| ()),
                listened::<peer::JoinRequest>(input).map(|_| ()),
                listened::<peer::PeerEnrolRequest>(input).map(|_| ()),
                listened::<peer::ReadIndexReply>(input).map(|_| ()),
                listened::<peer::RecordsRequest>(input).map(|_| ()),
                listened::<peer::RecordsChunk>(input).map(|_| ()),
                listened::<peer::PeerConsoleRequest>(input).map(|_| ()),
                listened::<peer::PeerConsoleReply>(input).map(|_| ()),
                listened::<peer::LiveReply>(input).map(|_| ()),
            ];
            verdicts
                .into_iter()
                .find(Result::is_ok)
                .unwrap_or_else(|| Err("none of them".into()))
        });
}
