//! Stored bytes stay readable for ever. The fixtures were written by an encoder of their own, from the
//! table of tags; they are never edited, and a new format adds a file.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use virtflow_state::{
    AccountDef, AccountKey, Batch, Changeset, Charge, Claim, DecodeError, Expect, Footprint,
    IndexKey, Limit, Object, Op, Record, Supply,
};
use virtflow_types::{Incarnation, ObjectId, RequestId, Timestamp};

const CHANGESET_1: &[u8] = include_bytes!("fixtures/changeset-1.bin");
const BATCH_1: &[u8] = include_bytes!("fixtures/batch-1.bin");

fn id(n: u128) -> ObjectId {
    ObjectId::from_u128(n)
}

fn every_op() -> Changeset {
    let mut vm = Object::new("virtual_machine", id(0x11), "web-1");
    vm.tenant = Some(id(0x22));
    vm.parent = Some(id(0x33));
    vm.generation = 3;
    vm.version = 7;
    vm.closed = true;
    vm.spec = r#"{"cpu_cores":2}"#.into();
    vm.status = r#"{"status":{}}"#.into();
    vm.footprint = Footprint {
        claims: [
            Claim::point("name/virtual_machine/t", "web-1"),
            Claim::range("address", [10, 0, 0, 1], [10, 0, 0, 9]),
        ]
        .into(),
        links: [id(0x22)].into(),
        supplies: [Supply {
            account: AccountKey::new(id(0x44), "memory_mib"),
            amount: 4096,
        }]
        .into(),
        charges: [Charge {
            account: AccountKey::new(id(0x55), "cpu_milli"),
            amount: 2000,
        }]
        .into(),
        accounts: [
            AccountDef {
                dimension: "memory_mib".into(),
                parent: Some(AccountKey::new(id(0x66), "memory_mib")),
                limit: Limit::Fixed(0),
            },
            AccountDef {
                dimension: "cpu_milli".into(),
                parent: None,
                limit: Limit::Share {
                    of: AccountKey::new(id(0x66), "cpu_milli"),
                    ppm: 125_000,
                },
            },
            AccountDef {
                dimension: "vms".into(),
                parent: None,
                limit: Limit::Unlimited,
            },
        ]
        .into(),
        keys: [IndexKey {
            name: "virtual_machine.host".into(),
            value: "h1".into(),
        }]
        .into(),
    };
    let mut changeset = Changeset::new(
        RequestId::from_u128(0xbb),
        Timestamp::from_ms(1_795_456_800_123),
        "alice",
    );
    changeset.ops = vec![
        Op::Expect(Expect::Generation(id(0x77), 5)),
        Op::Expect(Expect::Version(id(0x78), 6)),
        Op::Expect(Expect::Absent(id(0x79))),
        Op::Expect(Expect::StreamCount("audit".into(), 41)),
        Op::Put(Box::new(vm)),
        Op::Delete(id(0x88), 9),
        Op::Record(Record {
            stream: "audit".into(),
            body: "{}".into(),
        }),
        Op::ClusterVersion(2),
        Op::Genesis(Incarnation::from_u128(0x99), id(0xaa)),
    ];
    changeset
}

#[test]
fn format_1_reads_and_writes_the_same_bytes() {
    let read = Changeset::decode(Bytes::from_static(CHANGESET_1)).unwrap();
    assert_eq!(read, every_op());
    assert_eq!(every_op().encode(), CHANGESET_1);
    let batch = Batch::decode(Bytes::from_static(BATCH_1)).unwrap();
    assert_eq!(batch.changesets.len(), 2);
    assert_eq!(batch.changesets[0], CHANGESET_1);
    assert_eq!(batch.encode(), BATCH_1);
}

#[test]
fn a_newer_format_stops_the_reader() {
    let mut newer = every_op();
    newer.format = 2;
    assert_eq!(
        Changeset::decode(newer.encode()),
        Err(DecodeError::FormatTooNew { found: 2 })
    );
    newer.format = 0;
    assert!(Changeset::decode(newer.encode()).is_err());
}

#[test]
fn what_is_cut_short_is_never_read_as_something_else() {
    let whole = every_op();
    for end in 0..CHANGESET_1.len() {
        if let Ok(read) = Changeset::decode(Bytes::from_static(&CHANGESET_1[..end])) {
            // A cut between two ops leaves a shorter changeset: framing and checksum are the log's.
            assert!(whole.ops.starts_with(&read.ops), "cut at {end}");
        }
    }
}
