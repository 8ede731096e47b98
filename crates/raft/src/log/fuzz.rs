//! Whatever lies in the files of the log.

use bytes::Bytes;
use raft_log::codeq::{Decode, Encode};
use raft_log::{RaftLogAction, RaftLogRecord};
use virtflow_testkit::fuzz::{Format, Target};

use super::record::{FRAME_BODY_BYTES_MAX, Frame, LogTypes, VoteRecord};
use super::{Identity, triage};

fn frame(body: &'static [u8]) -> Frame {
    Frame {
        flushed_offset: 4711,
        body: Bytes::from_static(body),
    }
}

fn encoded(value: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn frame_record() {
    Target::new("frame_record", Format::Bytes)
        .seed(encoded(&frame(b"")))
        .seed(encoded(&frame(b"some entry")))
        // Its length is believed up to the largest entry, before the bytes are there.
        .memory(16, FRAME_BODY_BYTES_MAX + 64 * 1024)
        .run(|input| {
            let read = Frame::decode(input).map_err(|error| error.to_string())?;
            let written = encoded(&read);
            assert_eq!(Frame::parse(&written).as_ref(), Some(&read));
            assert!(input.starts_with(&written));
            Ok(())
        });
}

#[test]
fn log_file() {
    let records = [
        RaftLogAction::<LogTypes>::SaveVote(VoteRecord {
            term: 3,
            committed: 1,
            node: 2,
        }),
        RaftLogAction::<LogTypes>::Append((3, 7), frame(b"some entry")),
        RaftLogAction::<LogTypes>::Commit((3, 7)),
        RaftLogAction::<LogTypes>::TruncateAfter(Some((3, 6))),
        RaftLogAction::<LogTypes>::PurgeUpto((2, 5)),
    ];
    let records = records.map(RaftLogRecord::<LogTypes>::Action);
    let mut target = Target::new("log_file", Format::Bytes)
        .seed(encoded(&records[1]))
        .seed(records.iter().flat_map(encoded).collect::<Vec<u8>>())
        .iterations(3000)
        .memory(16, FRAME_BODY_BYTES_MAX + 64 * 1024);
    for record in &records {
        target = target.seed(encoded(record));
    }
    target.run(|input| {
        // Where a log that was cut off is mended: what reads as whole records, and what lies behind.
        let sound = triage::sound_bytes(input);
        assert!(sound <= input.len());
        assert_eq!(triage::sound_bytes(&input[..sound]), sound);
        let _ = triage::flushed_by_witnesses(&input[sound..]);
        if sound == 0 || sound < input.len() {
            return Err("not whole records".to_owned());
        }
        let record = RaftLogRecord::<LogTypes>::decode(input).unwrap();
        assert!(input.starts_with(&encoded(&record)));
        Ok(())
    });
}

#[test]
fn log_identity() {
    let identity = Identity {
        cluster_id: virtflow_types::ObjectId::from_u128(1),
        node_id: 2,
        store_id: virtflow_types::ObjectId::from_u128(3),
    };
    Target::new("log_identity", Format::Text)
        .seed(serde_json::to_vec(&identity).unwrap())
        .words(&["node_id", "store_id", "cluster_id"])
        .iterations(2000)
        .run(|input| {
            let read: Identity = serde_json::from_slice(input).map_err(|e| e.to_string())?;
            let written = serde_json::to_vec(&read).unwrap();
            assert_eq!(serde_json::from_slice::<Identity>(&written).unwrap(), read);
            Ok(())
        });
}
