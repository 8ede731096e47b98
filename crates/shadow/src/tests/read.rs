//! Pages, searches, chains, retention.

use std::time::Duration;

use virtflow_state::port::Shadow as _;
use virtflow_types::{ObjectId, Timestamp};

use super::machine::{Machine, Step, open, options};
use crate::connect::{close, connect, run, writing};
use crate::{AuditQuery, Moment, PAGE_RECORDS_MAX, Retention, ShadowOptions, SqliteShadow, Then};

async fn filled(dir: &std::path::Path, entries: u64) -> (Machine, std::sync::Arc<SqliteShadow>) {
    let (shadow, _) = open(dir).await;
    let mut machine = Machine::new();
    machine.fill(entries);
    machine.submit_after(&shadow, 0);
    shadow.wait_durable(machine.index()).await.unwrap();
    (machine, shadow)
}

/// The version that an object which is no more had at a moment.
async fn version_at(shadow: &SqliteShadow, object: ObjectId, moment: Moment) -> Option<u64> {
    match shadow.was(object, None, moment).await.unwrap().0 {
        Then::Was(row) => Some(row.version),
        Then::Absent => None,
        Then::AsNow => panic!("{object} is not there now"),
    }
}

#[tokio::test]
async fn streams_are_read_in_pages_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, shadow) = filled(dir.path(), 60).await;
    let all: Vec<_> = machine
        .entries
        .iter()
        .flat_map(|entry| entry.records.clone())
        .collect();
    let (mut found, mut from) = (Vec::new(), Some(1));
    while let Some(start) = from {
        let page = shadow.records("audit", start, 7, false).await.unwrap();
        assert!(page.rows.len() <= 7);
        assert_eq!(page.seen.index, 61);
        found.extend(page.rows);
        from = page.next;
    }
    assert_eq!(found, all);
    let (mut found, mut from) = (Vec::new(), Some(u64::MAX));
    while let Some(start) = from {
        let page = shadow.records("audit", start, 7, true).await.unwrap();
        found.extend(page.rows);
        from = page.next;
    }
    found.reverse();
    assert_eq!(found, all);
    let page = shadow.records("no such", 1, 7, false).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (0, None));
}

#[tokio::test]
async fn a_page_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    for _ in 0..=PAGE_RECORDS_MAX {
        let usage = machine.steps(&[Step::Usage { bytes: vec![7] }]);
        machine.entry(vec![usage]);
    }
    machine.submit_after(&shadow, 0);
    shadow.wait_written(machine.index()).await.unwrap();
    let page = shadow.records("usage", 1, u32::MAX, false).await.unwrap();
    assert_eq!(page.rows.len(), 1000);
    assert_eq!(page.next, Some(1001));
    let page = shadow.records("usage", 1, 0, false).await.unwrap();
    assert_eq!(page.rows.len(), 1);
}

#[tokio::test]
async fn audit_is_searched_by_who_what_where_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, shadow) = filled(dir.path(), 90).await;
    let all: Vec<_> = machine
        .entries
        .iter()
        .flat_map(|entry| entry.records.clone())
        .rev()
        .collect();
    let holding = |text: &str| -> Vec<_> {
        let is = |body: &[u8]| String::from_utf8_lossy(body).contains(text);
        all.iter().filter(|row| is(&row.body)).cloned().collect()
    };
    let search = async |query: AuditQuery| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = shadow
                .audit(&AuditQuery {
                    stream: "audit".into(),
                    after,
                    limit: 4,
                    ..query.clone()
                })
                .await
                .unwrap();
            found.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    assert_eq!(search(AuditQuery::default()).await, all);
    let actor = search(AuditQuery {
        actor: Some("user-1".into()),
        ..AuditQuery::default()
    })
    .await;
    assert_eq!(actor, holding(r#""actor":"user-1""#));
    assert!(actor.len() > 10);
    let tenant = search(AuditQuery {
        tenant: Some("t1".into()),
        ..AuditQuery::default()
    })
    .await;
    assert_eq!(tenant, holding(r#""tenant":"t1""#));
    let object = machine.state.objects().next().unwrap().id.to_string();
    let by_object = search(AuditQuery {
        object: Some(object.clone()),
        ..AuditQuery::default()
    })
    .await;
    assert_eq!(by_object, holding(&object));
    assert!(!by_object.is_empty());
    let (from, to) = (Timestamp::from_ms(1_000_200), Timestamp::from_ms(1_000_500));
    let timed = search(AuditQuery {
        from: Some(from),
        to: Some(to),
        ..AuditQuery::default()
    })
    .await;
    let expected: Vec<_> = all
        .iter()
        .filter(|row| row.at >= from && row.at < to)
        .cloned()
        .collect();
    assert_eq!(timed, expected);
    assert!(!timed.is_empty());
}

#[tokio::test]
async fn history_tells_who_made_each_version_and_who_deleted_it() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    let create = machine.steps(&[Step::Create {
        slot: 3,
        size: 10,
        on: None,
    }]);
    // Of one entry: one that is refused, then one that is not.
    let refused = machine.steps(&[Step::Delete { slot: 9 }]);
    machine.entry(vec![refused, create.clone()]);
    let update = machine.steps(&[Step::Update {
        slot: 3,
        size: 20,
        closed: true,
    }]);
    machine.entry(vec![update]);
    let delete = machine.steps(&[Step::Delete { slot: 3 }]);
    machine.entry(vec![delete.clone()]);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(4).await.unwrap();

    let id = machine.id(3);
    let page = shadow.history(id, None, 10).await.unwrap();
    let brief: Vec<_> = page
        .rows
        .iter()
        .map(|row| {
            (
                row.version,
                row.generation,
                row.index,
                row.deleted,
                row.closed,
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            (3, 2, 4, true, true),
            (2, 2, 3, false, true),
            (1, 1, 2, false, false)
        ]
    );
    assert_eq!(page.rows[2].request_id, create.request_id);
    assert_eq!(page.rows[2].actor, create.actor);
    assert_eq!(page.rows[0].request_id, delete.request_id);
    assert!(page.rows[2].spec.starts_with(r#"{"memory_mib":10,"#));
    let first = shadow.history(id, None, 1).await.unwrap();
    assert_eq!(first.next, Some(3));
    let second = shadow.history(id, first.next, 1).await.unwrap();
    assert_eq!(second.rows[0].version, 2);

    // What it was at a moment: before it was made, while it lived, after it was gone.
    for (index, version) in [(1, None), (2, Some(1)), (3, Some(2)), (4, None), (9, None)] {
        let was = version_at(&shadow, id, Moment::Index(index)).await;
        assert_eq!(was, version, "at index {index}");
    }
    let made = page.rows[2].at;
    assert_eq!(version_at(&shadow, id, Moment::Time(made)).await, Some(1));
    let before = Timestamp::from_ms(made.ms() - 1);
    assert_eq!(version_at(&shadow, id, Moment::Time(before)).await, None);

    let gone = shadow.deleted("virtual_machine", None, 10).await.unwrap();
    assert_eq!(gone.rows.len(), 1);
    assert_eq!((gone.rows[0].object, gone.rows[0].at), (id, delete.now));
    assert!(
        shadow
            .deleted("disk", None, 10)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
}

#[tokio::test]
async fn an_edited_record_is_found() {
    for (sql, place) in [
        (
            "UPDATE record SET body = replace(body, 'create', 'delete') WHERE count = 16",
            16,
        ),
        ("UPDATE record SET head = zeroblob(32) WHERE count = 9", 9),
        ("DELETE FROM record WHERE count = 5", 5),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (_, shadow) = filled(dir.path(), 40).await;
        assert_eq!(shadow.verify_stream("audit").await.unwrap().broken, None);
        let path = dir.path().join("records.db");
        let mut stranger = connect(writing(&path, false), &path).await.unwrap();
        run(&mut stranger, sql, &path).await.unwrap();
        close(stranger, &path).await.unwrap();
        let report = shadow.verify_stream("audit").await.unwrap();
        assert_eq!(report.broken.map(|(count, _)| count), Some(place), "{sql}");
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_off_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, shadow) = filled(dir.path(), 40).await;
    let last = machine.state.stream("audit").count;
    let path = dir.path().join("records.db");
    let mut stranger = connect(writing(&path, false), &path).await.unwrap();
    run(&mut stranger, "DELETE FROM record WHERE count > 12", &path)
        .await
        .unwrap();
    close(stranger, &path).await.unwrap();
    let report = shadow.verify_stream("audit").await.unwrap();
    assert_eq!(
        report.broken,
        Some((13, format!("the state counts {last} records")))
    );
}

#[tokio::test]
async fn retention_removes_the_oldest_and_the_chain_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, shadow) = filled(dir.path(), 100).await;
    shadow.close().await.unwrap();
    drop(shadow);
    let options = ShadowOptions {
        retention: Retention {
            // The made-up requests are of 1970.
            records_age: Duration::from_secs(100 * 365 * 24 * 3600),
            records_per_stream_max: 30,
            history_age: Duration::from_secs(100 * 365 * 24 * 3600),
            history_rows_max: 25,
            every: Duration::from_millis(10),
        },
        ..options()
    };
    let (shadow, _) = SqliteShadow::open(dir.path(), options).await.unwrap();
    let count = machine.state.stream("audit").count;
    let trimmed = async {
        loop {
            let report = shadow.verify_stream("audit").await.unwrap();
            assert_eq!(report.broken, None);
            if report.floor == count - 30 {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let report = tokio::time::timeout(Duration::from_secs(20), trimmed)
        .await
        .unwrap();
    assert_eq!(report.verified, 30);
    let lowest = shadow.records("audit", 1, 1, false).await.unwrap().rows[0].count;
    assert_eq!(lowest, count - 29);

    // What retention left can still be given to a peer, down to the floor.
    let chunk = shadow.record_range("audit", 1, count).await.unwrap();
    assert_eq!((chunk.before.count, chunk.rows.len()), (count - 30, 30));

    machine.fill(10);
    machine.submit_after(&shadow, 101);
    shadow.wait_durable(111).await.unwrap();
    assert_eq!(shadow.verify_stream("audit").await.unwrap().broken, None);
    shadow.close().await.unwrap();
    drop(shadow);
    let path = dir.path().join("records.db");
    let mut connection = connect(writing(&path, false), &path).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM history")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!((25..=36).contains(&rows), "{rows}");
}

#[tokio::test]
async fn old_records_go_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let (_, shadow) = filled(dir.path(), 30).await;
    shadow.close().await.unwrap();
    drop(shadow);
    let options = ShadowOptions {
        retention: Retention {
            records_age: Duration::from_secs(3600),
            history_age: Duration::from_secs(3600),
            every: Duration::from_millis(10),
            ..Retention::default()
        },
        ..options()
    };
    let (shadow, _) = SqliteShadow::open(dir.path(), options).await.unwrap();
    let emptied = async {
        while !shadow
            .records("audit", 1, 1, false)
            .await
            .unwrap()
            .rows
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), emptied)
        .await
        .unwrap();
    assert_eq!(shadow.verify_stream("audit").await.unwrap().broken, None);
}
