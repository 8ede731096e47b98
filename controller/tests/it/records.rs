//! Audit records of a time that a member learned of by a snapshot alone.

use std::sync::Arc;

use serde_json::json;
use virtflow_logic::AUDIT_STREAM;
use virtflow_model::Kind;
use virtflow_shadow::{Archive, RANGE_RECORDS_MAX};
use virtflow_state::RecordRow;

use super::support::*;

/// All that lies in a store of the audit up to `last`, from the first on.
async fn audit(shadow: &dyn Archive, last: u64) -> Vec<RecordRow> {
    let mut rows: Vec<RecordRow> = Vec::new();
    let mut upto = last;
    while upto > 0 {
        // A range comes from its upper end down, so much at a time.
        let chunk = shadow.record_range(AUDIT_STREAM, 1, upto).await.unwrap();
        assert!(chunk.rows.len() as u64 <= RANGE_RECORDS_MAX);
        let Some(first) = chunk.rows.first() else {
            break;
        };
        upto = first.count - 1;
        rows.splice(0..0, chunk.rows);
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_a_snapshot_left_out_are_copied_from_a_peer_and_prove_themselves() {
    let mut all = three(|config| {
        config.raft.snapshot_entries = Some(50);
        config.raft.log_keep_entries = Some(10);
    })
    .await;
    let away = all.remove(2);
    let last_seen = away.app.node().status().last_log;
    let (config, dir) = away.kill().await;
    let leader = &all[0].app;
    let mut made = 0;
    while leader.node().status().purged <= last_seen {
        let name = format!("dc-{made}");
        act(
            leader,
            create(Kind::DataCenter, &name, json!({"region": "r"})),
        )
        .await
        .unwrap();
        made += 1;
        assert!(made < 2000, "the log is not purged");
    }
    let back = Controller::start(config, dir).await;
    until("a snapshot", || {
        back.app.node().status().measured.snapshots_installed > 0
    })
    .await;
    let index = leader.node().read_index().await.unwrap();
    back.app.node().wait_applied(index).await.unwrap();
    let shadow: Arc<dyn Archive> = back.app.shadow().clone();
    shadow.wait_written(index).await.unwrap();
    let missing = shadow.missing_records().await.unwrap();
    assert!(
        missing.iter().any(|range| range.stream == AUDIT_STREAM),
        "a snapshot holds no records: {missing:?}"
    );

    let began = std::time::Instant::now();
    while !shadow.missing_records().await.unwrap().is_empty() {
        assert!(began.elapsed() < PATIENCE, "records stay missing");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // The head that the state carries is reached from nothing, over every record.
    let head = back
        .app
        .node()
        .wait_applied(index)
        .await
        .unwrap()
        .stream(AUDIT_STREAM);
    let here = audit(&*shadow, head.count).await;
    let mut chain = virtflow_state::StreamHead::default();
    for row in &here {
        chain = chain.append(&row.body);
        assert_eq!((row.count, row.head), (chain.count, chain.head));
    }
    assert_eq!(chain, head);
    assert_eq!(here, audit(&**leader.shadow(), head.count).await);
}
