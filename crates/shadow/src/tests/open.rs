//! What opens, and what is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use virtflow_state::port::Shadow as _;
use virtflow_types::Incarnation;

use super::crash::copy_dir;
use super::machine::{Machine, Step, assert_same, open, open_newer, options};
use crate::connect::{close, connect, run, writing};
use crate::{
    Integrity, Part, ShadowOptions, SqliteShadow, StoreError, ViewColumn, ViewDef, set_incarnation,
};

/// A closed store with some content.
async fn closed(dir: &Path, entries: u64) -> Machine {
    let (shadow, _) = open(dir).await;
    let mut machine = Machine::new();
    machine.fill(entries);
    machine.submit_after(&shadow, 0);
    shadow.wait_durable(machine.index()).await.unwrap();
    shadow.close().await.unwrap();
    machine
}

async fn refused(dir: &Path) -> StoreError {
    SqliteShadow::open(dir, options()).await.unwrap_err()
}

#[tokio::test]
async fn a_lost_pointer_is_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path(), 5).await;
    let pointer = dir.path().join("CURRENT");
    fs::remove_file(&pointer).unwrap();
    assert!(matches!(
        refused(dir.path()).await,
        StoreError::PointerMissing(_)
    ));
    fs::write(&pointer, "state.7.db\n").unwrap();
    let state = dir.path().join("state.1.db");
    refused(dir.path()).await;
    fs::write(&pointer, "../state.1.db\n").unwrap();
    assert!(matches!(
        refused(dir.path()).await,
        StoreError::Damaged { .. }
    ));
    assert!(
        state.exists(),
        "nothing is removed on the word of a wrong pointer"
    );
    fs::write(&pointer, "state.1.db\n").unwrap();
    open(dir.path()).await;
}

#[tokio::test]
async fn a_creation_that_was_interrupted_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    shadow.close().await.unwrap();
    drop(shadow);
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    fs::remove_file(dir.path().join("records.db")).unwrap();
    let (_, loaded) = open(dir.path()).await;
    assert_eq!(loaded.state.index(), 0);
}

#[tokio::test]
async fn newer_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path(), 5).await;
    let path = dir.path().join("state.1.db");
    let set = async |sql: &'static str| {
        let mut connection = connect(writing(&path, false), &path).await.unwrap();
        run(&mut connection, sql, &path).await.unwrap();
        close(connection, &path).await.unwrap();
    };
    set("PRAGMA user_version = 2").await;
    let error = refused(dir.path()).await;
    assert!(matches!(
        error,
        StoreError::TooNew {
            found: 2,
            known: 1,
            ..
        }
    ));
    assert!(
        error
            .to_string()
            .ends_with("has schema 2, newer than 1, the newest this controller reads; upgrade it")
    );
    set("PRAGMA user_version = 1").await;
    set("PRAGMA application_id = 7").await;
    assert!(matches!(
        refused(dir.path()).await,
        StoreError::Foreign { .. }
    ));
    fs::write(&path, "what is this").unwrap();
    assert!(matches!(
        refused(dir.path()).await,
        StoreError::Foreign { .. }
    ));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (_shadow, _) = open(dir.path()).await;
    assert!(matches!(refused(dir.path()).await, StoreError::Locked(_)));
}

#[tokio::test]
async fn marks_that_were_changed_are_found() {
    for sql in [
        "UPDATE meta SET applied_index = applied_index + 1",
        "UPDATE meta SET applied_term = 99",
        "UPDATE meta SET raft_meta = x'00'",
        "UPDATE meta SET cluster_version = 5",
        "UPDATE meta SET digest = zeroblob(16)",
        "UPDATE object SET closed = 1 - closed",
        "UPDATE object SET name = 'other' WHERE rowid = (SELECT min(rowid) FROM object)",
        "UPDATE object SET tenant = NULL WHERE tenant IS NOT NULL",
        "DELETE FROM object WHERE rowid = (SELECT min(rowid) FROM object)",
        "UPDATE stream SET count = count + 1",
        "DELETE FROM stream",
        "DELETE FROM meta",
    ] {
        let dir = tempfile::tempdir().unwrap();
        closed(dir.path(), 30).await;
        let path = dir.path().join("state.1.db");
        let mut connection = connect(writing(&path, false), &path).await.unwrap();
        run(&mut connection, sql, &path).await.unwrap();
        close(connection, &path).await.unwrap();
        let error = refused(dir.path()).await;
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{sql}: {error}"
        );
    }
}

/// A byte flipped anywhere is found at the start, or changes nothing that is ever read: then the state
/// is the same, and what is written after it too.
#[tokio::test]
async fn flipped_bytes_are_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    let mut machine = closed(&sound, 60).await;
    let before = machine.state.clone();
    machine.fill(30);
    let length = fs::metadata(sound.join("state.1.db")).unwrap().len();
    let (mut caught, mut harmless) = (0, 0);
    // A step that is prime to the page size visits all parts of the pages.
    for n in 0..160 {
        let at = usize::try_from(n * 7919 % length).unwrap();
        let copy = dir.path().join("copy");
        copy_dir(&sound, &copy);
        let path = copy.join("state.1.db");
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1 << (n % 8);
        fs::write(&path, bytes).unwrap();
        if let Ok((shadow, loaded)) = SqliteShadow::open(&copy, options()).await {
            harmless += 1;
            assert_same(&loaded, &before);
            machine.submit_after(&shadow, before.index());
            shadow.wait_durable(machine.index()).await.unwrap();
            shadow.close().await.unwrap();
            drop(shadow);
            let (_, loaded) = open(&copy).await;
            assert_same(&loaded, &machine.state);
        } else {
            caught += 1;
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    // Much of a file is free space; what is not must be caught.
    assert!(caught > 20, "{caught} caught, {harmless} harmless");
}

/// In the write-ahead log a flipped byte takes it and what follows: an older state, but a whole one.
#[tokio::test]
async fn flipped_bytes_in_the_write_ahead_log_give_an_older_state() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let (shadow, _) = open(&live).await;
    let mut machine = Machine::new();
    machine.fill(30);
    for entry in &machine.entries {
        shadow.submit(entry.clone());
        shadow.log_flushed(entry.index);
        shadow.wait_durable(entry.index).await.unwrap();
    }
    let length = fs::metadata(live.join("state.1.db-wal")).unwrap().len();
    for n in 0..40 {
        let copy = dir.path().join("copy");
        copy_dir(&live, &copy);
        let path = copy.join("state.1.db-wal");
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(n * 7919 % length).unwrap()] ^= 4;
        fs::write(&path, bytes).unwrap();
        let (shadow, loaded) = open(&copy).await;
        let index = loaded.state.index();
        if index > 0 {
            let image = &machine.entries[usize::try_from(index).unwrap() - 1].image;
            assert_same(&loaded, image);
        }
        machine.submit_after(&shadow, index);
        shadow.wait_durable(machine.index()).await.unwrap();
        drop(shadow);
        fs::remove_dir_all(&copy).unwrap();
    }
}

fn views() -> Vec<ViewDef> {
    let column = |column: &str, part, path: &str| ViewColumn {
        column: column.into(),
        part,
        path: path.into(),
    };
    vec![ViewDef {
        kind: "virtual_machine".into(),
        view: "virtual_machine".into(),
        columns: vec![
            column("memory_mib", Part::Spec, "$.memory_mib"),
            column("cpus", Part::Spec, "$.nested.cpus"),
            column("seen_mib", Part::Status, "$.memory_mib"),
        ],
    }]
}

#[tokio::test]
async fn views_answer_and_follow_the_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open(dir.path()).await;
    let mut machine = Machine::new();
    for slot in 0..8 {
        let size = 512 * u16::from(slot);
        let create = machine.steps(&[Step::Create {
            slot,
            size,
            on: None,
        }]);
        machine.entry(vec![create]);
    }
    machine.submit_after(&shadow, 0);
    shadow.close().await.unwrap();
    drop(shadow);
    let with = |views: Vec<ViewDef>| ShadowOptions { views, ..options() };
    let (shadow, _) = SqliteShadow::open(dir.path(), with(views())).await.unwrap();
    shadow.close().await.unwrap();
    drop(shadow);
    let expected: Vec<String> = machine
        .state
        .of_kind("virtual_machine", None)
        .map(|object| {
            let spec: serde_json::Value = serde_json::from_str(&object.spec).unwrap();
            format!(
                "{}|{}|{}|{}|{}",
                object.id,
                object.name,
                object.tenant.map(|id| id.to_string()).unwrap_or_default(),
                spec["memory_mib"],
                spec["nested"]["cpus"]
            )
        })
        .collect();
    assert_eq!(expected.len(), 8);
    let path = dir.path().join("state.1.db");
    let sql = "SELECT id, name, tenant, memory_mib, cpus FROM virtual_machine ORDER BY id";
    let mut connection = connect(crate::connect::reading(&path), &path)
        .await
        .unwrap();
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    let found: Vec<String> = rows
        .iter()
        .map(|row| {
            use sqlx::Row as _;
            format!(
                "{}|{}|{}|{}|{}",
                row.get::<String, _>(0),
                row.get::<String, _>(1),
                row.get::<Option<String>, _>(2).unwrap_or_default(),
                row.get::<i64, _>(3),
                row.get::<i64, _>(4)
            )
        })
        .collect();
    assert_eq!(found, expected);
    close(connection, &path).await.unwrap();

    // The same with the command-line tool of the distribution, where there is one.
    let uri = format!("file:{}?mode=ro", path.display());
    if let Ok(output) = Command::new("sqlite3").args([&uri, sql]).output() {
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    // A view of a kind that is no more goes.
    let (shadow, _) = SqliteShadow::open(dir.path(), with(vec![])).await.unwrap();
    shadow.close().await.unwrap();
    let mut connection = connect(crate::connect::reading(&path), &path)
        .await
        .unwrap();
    sqlx::query(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn unfit_views_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    type Spoil = fn(&mut ViewDef);
    let spoils: [Spoil; 7] = [
        |view| view.view = "object".into(),
        |view| view.view = "a b".into(),
        |view| view.view = "sqlite\"".into(),
        |view| view.kind = "x' OR '1".into(),
        |view| view.columns[0].column = "name".into(),
        |view| view.columns[1].column = "memory_mib".into(),
        |view| view.columns[0].path = "$.a', 1); --".into(),
    ];
    for spoil in spoils {
        let mut views = views();
        spoil(&mut views[0]);
        let options = ShadowOptions {
            views,
            integrity: Integrity::Quick,
            ..options()
        };
        let error = SqliteShadow::open(dir.path(), options).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_store_of_a_newer_cluster_version_is_opened_by_nobody_who_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let (shadow, _) = open_newer(dir.path()).await;
    let mut machine = Machine::new();
    machine.raise_to(2);
    machine.submit_after(&shadow, 0);
    shadow.wait_durable(2).await.unwrap();
    shadow.close().await.unwrap();
    drop(shadow);
    let error = refused(dir.path()).await;
    let text = told(&error);
    assert!(text.contains("state.1.db cannot be used"), "{text}");
    assert!(
        text.contains("the cluster is at version 2, this controller supports 1 at most"),
        "{text}"
    );
    let life = Incarnation::from_u128(0xB22);
    let survivor = set_incarnation(dir.path(), 1, life, |_| Bytes::new()).await;
    assert!(matches!(survivor, Err(StoreError::ClusterVersion { .. })));
    let (_, loaded) = open_newer(dir.path()).await;
    assert_same(&loaded, &machine.state);
    assert_eq!(loaded.state.cluster_version(), 2);
}

/// An error with its causes, as a controller prints it.
fn told(error: &StoreError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}
