//! The state as rows: encoding, reading back, and the durable shadow with another process that starts from it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use virtflow_shadow::{ShadowOptions, SqliteShadow};
use virtflow_state::port::{AppliedEntry, Outcome, Shadow as _};
use virtflow_state::{Change, Object, State};
use virtflow_types::{RequestId, Timestamp};

use crate::figures::{Table, resident, time};

/// What a process that starts from a shadow tells.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) resident: u64,
    pub(crate) before: u64,
    pub(crate) objects: usize,
    pub(crate) took: Duration,
}

impl Started {
    pub(crate) fn state_bytes(&self) -> u64 {
        self.resident.saturating_sub(self.before)
    }
}

/// The same state, read from rows.
pub(crate) fn rebuilt(state: &State, table: &mut Table) -> Result<State> {
    let start = Instant::now();
    let rows: Vec<Bytes> = state
        .objects()
        .map(|object| object.encode().into())
        .collect();
    let encoded = start.elapsed();
    let bytes: usize = rows.iter().map(Bytes::len).sum();
    let beside = format!("{} rows, {} MiB", rows.len(), bytes >> 20);
    table.add("encoding all rows", time(encoded), &beside, None);
    let start = Instant::now();
    let objects = rows
        .into_iter()
        .map(Object::decode)
        .collect::<Result<Vec<_>, _>>()?;
    let decoded = start.elapsed();
    let rebuilt = State::from_parts(
        state.cluster_id(),
        state.incarnation(),
        state.cluster_version(),
        state.index(),
        objects,
        state.streams().map(|(name, head)| (name.clone(), *head)),
    )?;
    let all = start.elapsed();
    let beside = format!(
        "decoding {}, indexes and ledgers {}",
        time(decoded),
        time(all - decoded)
    );
    table.add("the state from its rows", time(all), &beside, None);
    ensure!(
        rebuilt.digest() == state.digest(),
        "the rows give another state"
    );
    Ok(rebuilt)
}

/// Writes the state into a shadow in `dir`, takes a snapshot, and lets another process start from it.
pub(crate) fn stored(
    state: &State,
    dir: &Path,
    name: &str,
    table: Option<&mut Table>,
) -> Result<Started> {
    let dir = dir.join(name);
    std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (written, copied, bytes) = runtime.block_on(write(state, &dir))?;
    let program = std::env::current_exe()?;
    let output = Command::new(program).arg("--load").arg(&dir).output()?;
    ensure!(
        output.status.success(),
        "the process that starts from {} failed: {}",
        dir.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let started: Started = serde_json::from_slice(&output.stdout)?;
    ensure!(
        started.objects == state.object_count(),
        "another number of objects was loaded"
    );
    if let Some(table) = table {
        let beside = format!("{} MiB", bytes >> 20);
        table.add(
            "writing it all into an empty shadow",
            time(written),
            &beside,
            None,
        );
        table.add(
            "a snapshot: a copy of the shadow's file",
            time(copied),
            &beside,
            None,
        );
        table.add(
            "a process starts from the shadow, checks included",
            time(started.took),
            "",
            None,
        );
    }
    std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    Ok(started)
}

async fn write(state: &State, dir: &Path) -> Result<(Duration, Duration, u64)> {
    let (shadow, _) = SqliteShadow::open(dir, options()).await?;
    // Without its streams: their records were not kept.
    let image = State::from_parts(
        state.cluster_id(),
        state.incarnation(),
        state.cluster_version(),
        1,
        state.objects().map(|object| (**object).clone()),
        [],
    )?;
    let digest = image.digest();
    let changes = image.objects().map(|object| Change {
        id: object.id,
        before: None,
        after: Some(object.clone()),
    });
    let start = Instant::now();
    shadow.submit(Arc::new(AppliedEntry {
        index: 1,
        term: 1,
        raft_meta: Bytes::from_static(b"bench"),
        outcomes: vec![Outcome {
            request_id: RequestId::generate(),
            now: Timestamp::from_ms(0),
            actor: "bench".into(),
            result: Ok(()),
            changes: state.object_count(),
        }],
        changes: changes.collect(),
        records: Vec::new(),
        image,
    }));
    shadow.log_flushed(1);
    shadow.wait_durable(1).await?;
    let written = start.elapsed();
    let start = Instant::now();
    let snapshot = shadow.snapshot(1).await?;
    let copied = start.elapsed();
    ensure!(
        snapshot.digest == digest,
        "the snapshot is of another state"
    );
    shadow.close().await?;
    Ok((written, copied, snapshot.bytes))
}

fn options() -> ShadowOptions {
    ShadowOptions {
        views: Vec::new(),
        retention: Default::default(),
        timing: Default::default(),
        ..ShadowOptions::default()
    }
}

/// The other process: starts from the shadow in `dir` and tells what it took.
pub(crate) fn load(dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let before = resident()?;
    let start = Instant::now();
    let (_shadow, loaded) = runtime.block_on(SqliteShadow::open(dir, options()))?;
    let started = Started {
        took: start.elapsed(),
        resident: resident()?,
        before,
        objects: loaded.state.object_count(),
    };
    println!("{}", serde_json::to_string(&started)?);
    Ok(())
}
