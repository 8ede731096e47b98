use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::types::{StoredMember, log_id};

fn membership() -> Membership {
    let nodes: BTreeMap<u64, StoredMember> =
        [(1, StoredMember(None)), (2, StoredMember(None))].into();
    Membership::new(vec![BTreeSet::from([1])], nodes).unwrap()
}

fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload,
    }
}

#[test]
fn an_append_survives_the_wire() {
    let request = AppendEntriesRequest::<Types> {
        vote: Vote {
            term: 3,
            node: 2,
            committed: true,
        }
        .into(),
        prev_log_id: Some(log_id(2, 6)),
        entries: vec![
            entry(3, 7, Payload::Blank),
            entry(
                3,
                8,
                Payload::Normal(EntryBytes(Bytes::from_static(b"abc"))),
            ),
            entry(3, 9, Payload::Membership(membership())),
        ],
        leader_commit: Some(log_id(2, 5)),
    };
    let bytes = Bytes::from(Append::of(&request).unwrap().encode_to_vec());
    let back = Append::decode_request(bytes).unwrap();
    assert_eq!(back.vote, request.vote);
    assert_eq!(back.prev_log_id, request.prev_log_id);
    assert_eq!(back.entries, request.entries);
    assert_eq!(back.leader_commit, request.leader_commit);
}

#[test]
fn an_append_with_a_hole_is_refused() {
    let request = AppendEntriesRequest::<Types> {
        vote: Vote {
            term: 3,
            node: 2,
            committed: true,
        }
        .into(),
        prev_log_id: Some(log_id(2, 6)),
        entries: vec![entry(3, 8, Payload::Blank)],
        leader_commit: None,
    };
    let bytes = Bytes::from(Append::of(&request).unwrap().encode_to_vec());
    assert!(Append::decode_request(bytes).is_err());
}

#[test]
fn replies_survive_the_wire() {
    let results: [StreamAppendResult<Types>; 4] = [
        Ok(None),
        Ok(Some(log_id(1, 2))),
        Err(StreamAppendError::Conflict(log_id(4, 5))),
        Err(StreamAppendError::HigherVote(
            Vote {
                term: 9,
                node: 3,
                committed: false,
            }
            .into(),
        )),
    ];
    for result in results {
        let bytes = Bytes::from(AppendReply::of(&result).encode_to_vec());
        assert_eq!(AppendReply::decode_result(bytes).unwrap(), result);
    }
    assert!(AppendReply::decode_result(Bytes::new()).is_err());
}

#[test]
fn marks_keep_the_membership() {
    let stored = StoredMembership::new(Some(log_id(2, 4)), membership());
    let bytes = Bytes::from(
        Meta::of(Some(log_id(3, 9)), &stored)
            .unwrap()
            .encode_to_vec(),
    );
    assert_eq!(Meta::read(&bytes).unwrap(), (Some(log_id(3, 9)), stored));
    assert_eq!(
        Meta::read(&Bytes::new()).unwrap(),
        (None, StoredMembership::default())
    );
}
