//! Searches against the state itself, and what objects were against the images of that time.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use virtflow_state::port::Shadow as _;
use virtflow_types::ObjectId;

use super::machine::{Machine, open, options};
use crate::connect::{close, connect, reading, run, writing};
use crate::search::statement;
use crate::{
    Condition, Moment, Order, Part, Retention, Search, ShadowOptions, SortValue, SqliteShadow,
    StoreError, Then, Word,
};

fn search(kind: &str) -> Search {
    Search {
        kind: kind.into(),
        tenant: None,
        parent: None,
        name: None,
        conditions: Vec::new(),
        words: Vec::new(),
        order: Order::Id,
        is_descending: false,
        after: None,
        limit: 1000,
        within: Duration::from_secs(60),
    }
}

async fn ids(shadow: &SqliteShadow, search: &Search) -> Vec<ObjectId> {
    let found = shadow.search(search).await.unwrap();
    assert!(!found.has_more);
    found.rows.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn what_is_found_is_what_the_state_has_in_the_order_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(90);
    machine.grow(6);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(machine.index()).await.unwrap();
    let of_kind = |kind: &str| -> Vec<_> {
        let objects = machine.state.objects();
        objects
            .filter(|object| object.kind == kind)
            .cloned()
            .collect()
    };
    let memory = |spec: &str| -> u64 {
        let (_, rest) = spec.split_once(r#""memory_mib":"#).unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    for kind in ["virtual_machine", "disk"] {
        let mut objects = of_kind(kind);
        assert!(!objects.is_empty());
        objects.sort_by_key(|object| object.id);
        let expected: Vec<_> = objects.iter().map(|object| object.id).collect();
        assert_eq!(ids(&shadow, &search(kind)).await, expected);
        objects.sort_by_key(|object| (object.name.to_string(), object.id));
        let expected: Vec<_> = objects.iter().map(|object| object.id).collect();
        let by_name = Search {
            order: Order::Name,
            ..search(kind)
        };
        assert_eq!(ids(&shadow, &by_name).await, expected);
        objects.sort_by_key(|object| (memory(&object.spec), object.id));
        let mut expected: Vec<_> = objects.iter().map(|object| object.id).collect();
        let by_memory = Search {
            order: Order::Value(Part::Spec, "$.memory_mib".into()),
            ..search(kind)
        };
        assert_eq!(ids(&shadow, &by_memory).await, expected);
        // In parts it is the same, and so it is from the other end.
        expected.reverse();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let part = Search {
                after,
                limit: 3,
                is_descending: true,
                ..by_memory.clone()
            };
            let part = shadow.search(&part).await.unwrap();
            assert_eq!(part.index, machine.index());
            found.extend(part.rows.iter().map(|(id, _)| *id));
            after = part.rows.last().map(|(id, value)| (value.clone(), *id));
            if !part.has_more {
                break;
            }
        }
        assert_eq!(found, expected);
    }

    let some = of_kind("disk");
    let some = some.iter().find(|object| object.tenant.is_some()).unwrap();
    let narrowed = Search {
        tenant: some.tenant,
        name: Some(some.name.to_string()),
        conditions: vec![Condition {
            places: vec![
                (Part::Status, "$.none".into()),
                (Part::Spec, "$.nested.colour".into()),
            ],
            value: "red".into(),
        }],
        ..search("disk")
    };
    assert_eq!(ids(&shadow, &narrowed).await, []);
    let narrowed = Search {
        conditions: Vec::new(),
        ..narrowed
    };
    assert_eq!(ids(&shadow, &narrowed).await, [some.id]);
    let nobodys = Search {
        tenant: Some(ObjectId::from_u128(5)),
        ..search("disk")
    };
    assert_eq!(ids(&shadow, &nobodys).await, []);
    let word = |plain: &str, in_json: &str| Search {
        words: vec![Word {
            plain: plain.into(),
            in_json: in_json.into(),
        }],
        ..search("disk")
    };
    let named = of_kind("disk");
    let named = named
        .iter()
        .filter(|object| object.name.starts_with("thing-1"));
    let found = ids(&shadow, &word("THING-1", "THING-1")).await;
    assert_eq!(found.len(), named.count());
    assert!(!ids(&shadow, &word("\\\"X", "\\\"X")).await.is_empty());
    assert_eq!(ids(&shadow, &word("%", "%")).await, []);
    assert_eq!(ids(&shadow, &word("' OR 1 --", "' OR 1 --")).await, []);
    let unfit = Search {
        order: Order::Value(Part::Spec, "$.a') OR ('1".into()),
        ..search("disk")
    };
    assert!(shadow.search(&unfit).await.is_err());
}

/// How SQLite finds it, a line for each step.
async fn plan(path: &Path, search: &Search) -> String {
    let mut connection = connect(reading(path), path).await.unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {}", statement(search).unwrap());
    let rows = sqlx::query(AssertSqlSafe(sql));
    let rows = rows.fetch_all(&mut connection).await.unwrap();
    close(connection, path).await.unwrap();
    let steps = rows.iter().map(|row| row.get::<String, _>("detail"));
    steps.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_newest_are_found_without_reading_all_also_in_a_file_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(30);
    machine.submit_after(&shadow, 0);
    shadow.wait_durable(machine.index()).await.unwrap();
    shadow.close().await.unwrap();
    drop(shadow);
    let path = dir.path().join("state.1.db");
    let mut connection = connect(writing(&path, false), &path).await.unwrap();
    let sql = "DROP INDEX object_made; DROP INDEX object_made_in;";
    run(&mut connection, sql, &path).await.unwrap();
    close(connection, &path).await.unwrap();

    let newest = Search {
        is_descending: true,
        ..search("virtual_machine")
    };
    let of_tenant = Search {
        tenant: Some(ObjectId::from_u128(1)),
        ..newest.clone()
    };
    let after = Search {
        after: Some((SortValue::Id, ObjectId::from_u128(9))),
        words: vec![Word {
            plain: "web".into(),
            in_json: "web".into(),
        }],
        ..newest.clone()
    };
    let sorted = "TEMP B-TREE";
    assert!(
        plan(&path, &newest).await.contains(sorted),
        "nothing to see"
    );
    let (shadow, _) = open(dir.path()).await;
    for (search, index) in [
        (&newest, "object_made "),
        (&of_tenant, "object_made_in "),
        (&after, "object_made "),
    ] {
        let plan = plan(&path, search).await;
        assert!(plan.contains(index) && !plan.contains(sorted), "{plan}");
    }
    let mut found = ids(&shadow, &newest).await;
    found.reverse();
    let objects = machine.state.of_kind("virtual_machine", None);
    let mut objects: Vec<_> = objects.map(|object| object.id).collect();
    objects.sort();
    assert_eq!(found, objects);
    shadow.close().await.unwrap();
}

#[tokio::test]
async fn a_search_whose_time_is_over_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.grow(300);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(machine.index()).await.unwrap();
    let asked = Search {
        order: Order::Value(Part::Spec, "$.memory_mib".into()),
        within: Duration::ZERO,
        ..search("disk")
    };
    let error = shadow.search(&asked).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLong { .. }), "{error:?}");
    // Whoever comes after is not hindered by it.
    let again = Search {
        within: Duration::from_secs(60),
        ..asked
    };
    let found = shadow.search(&again).await.unwrap();
    assert_eq!(found.rows.len(), 300);
    assert!(matches!(found.rows[0].1, SortValue::Integer(_)));
    shadow.close().await.unwrap();
}

#[tokio::test]
async fn objects_were_what_the_image_of_that_time_has() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    machine.fill(60);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(machine.index()).await.unwrap();
    for entry in &machine.entries {
        let moment = Moment::Index(entry.index);
        for kind in ["virtual_machine", "disk"] {
            let now = machine.state.objects().filter(|object| object.kind == kind);
            let mut all: Vec<(ObjectId, Option<u64>)> = now
                .map(|object| (object.id, Some(object.version)))
                .collect();
            let mut after = None;
            loop {
                let page = shadow.deleted_after(kind, moment, after, 2).await.unwrap();
                all.extend(page.rows.iter().map(|row| (row.object, None)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let (then, _) = shadow.then(&all, moment).await.unwrap();
            let found: BTreeSet<(ObjectId, u64, String)> = then
                .iter()
                .filter_map(|then| match then {
                    Then::Was(row) => Some((row.object, row.version, row.spec.clone())),
                    Then::Absent => None,
                    Then::AsNow => panic!("all of the history is kept"),
                })
                .collect();
            let there = entry.image.objects().filter(|object| object.kind == kind);
            let expected: BTreeSet<(ObjectId, u64, String)> = there
                .map(|object| (object.id, object.version, object.spec.to_string()))
                .collect();
            assert_eq!(found, expected, "{kind} at {}", entry.index);
        }
    }
}

#[tokio::test]
async fn what_has_not_changed_since_before_the_history_is_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let kept = ShadowOptions {
        retention: Retention {
            // The made-up requests are of 1970.
            history_age: Duration::from_secs(100 * 365 * 24 * 3600),
            history_rows_max: 25,
            every: Duration::from_millis(10),
            ..Retention::default()
        },
        ..options()
    };
    let (shadow, _) = SqliteShadow::open(dir.path(), kept).await.unwrap();
    let mut machine = Machine::new();
    machine.grow(4);
    let old: Vec<_> = machine.state.objects().cloned().collect();
    machine.fill(100);
    machine.submit_after(&shadow, 0);
    shadow.wait_written(machine.index()).await.unwrap();
    // Of a moment before what is left nothing is told.
    let trimmed = async {
        while shadow.then(&[], Moment::Index(40)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), trimmed)
        .await
        .unwrap();
    let refused = shadow.then(&[], Moment::Index(40)).await.unwrap_err();
    assert!(
        refused.to_string().contains("it is kept from index"),
        "{refused}"
    );
    let gone = shadow
        .deleted_after("disk", Moment::Index(40), None, 5)
        .await;
    assert!(matches!(gone, Err(StoreError::Refused { .. })));
    let all: Vec<_> = old.iter().map(|it| (it.id, Some(it.version))).collect();
    let (then, _) = shadow.then(&all, Moment::Index(104)).await.unwrap();
    assert_eq!(then, [Then::AsNow, Then::AsNow, Then::AsNow, Then::AsNow]);
    // One that is asked for alone is told of in the same way.
    let (first, newest) = all[0];
    let alone = shadow.was(first, newest, Moment::Index(104)).await.unwrap();
    assert_eq!(alone.0, Then::AsNow);
    let refused = shadow.was(first, newest, Moment::Index(40)).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })));
    // What is neither there nor in the history was not there, as far as anybody knows.
    let unknown = [(ObjectId::from_u128(5), None)];
    let (then, _) = shadow.then(&unknown, Moment::Index(104)).await.unwrap();
    assert_eq!(then, [Then::Absent]);
    shadow.close().await.unwrap();
}
