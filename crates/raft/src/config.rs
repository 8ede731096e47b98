//! How a node is run: timing and limits, each with a name and a default.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use virtflow_types::ObjectId;

/// When a leader is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// A leader is heard that often.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing stands for election after a random time between this …
    pub election_min_ms: u64,
    /// … and this. The leader's lease is as long.
    pub election_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_min_ms: 300,
            election_max_ms: 600,
        }
    }
}

/// Flushes that are timed at the start.
const PROBE_FLUSHES: usize = 9;
/// However slow the disk, a leader is missed after at most eight times the default.
const SLOWDOWN_MAX: u64 = 8;
/// A disk that flushes within this needs no wider timing.
const FLUSH_MS_USUAL: u64 = 20;

impl Timing {
    /// The default, widened for a disk whose flush takes long: three quarters of the flushes timed
    /// in `dir` must be many times shorter than the time after which a leader is missed.
    pub fn measured(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("probe");
        let mut file = File::create(&path)?;
        let mut took = Vec::with_capacity(PROBE_FLUSHES);
        for _ in 0..PROBE_FLUSHES {
            let began = Instant::now();
            file.write_all(&[0x5a; 512])?;
            file.sync_data()?;
            took.push(began.elapsed());
        }
        drop(file);
        std::fs::remove_file(&path)?;
        took.sort_unstable();
        Ok(Self::for_flush(took[PROBE_FLUSHES * 3 / 4]))
    }

    fn for_flush(flush: Duration) -> Self {
        let flush_ms = u64::try_from(flush.as_millis()).unwrap_or(u64::MAX);
        let factor = flush_ms.div_ceil(FLUSH_MS_USUAL).clamp(1, SLOWDOWN_MAX);
        let usual = Self::default();
        Self {
            heartbeat_ms: usual.heartbeat_ms * factor,
            election_min_ms: usual.election_min_ms * factor,
            election_max_ms: usual.election_max_ms * factor,
        }
    }
}

/// Limits of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftLimits {
    /// Decisions that may wait to be evaluated; one more is turned away.
    pub queue_decisions_max: usize,
    /// Bytes of changesets in one log entry.
    pub entry_bytes_max: usize,
    /// Changesets in one log entry.
    pub entry_changesets_max: usize,
    /// Entries proposed and not yet applied; what comes meanwhile is gathered into the next one.
    pub pipeline_entries_max: usize,
    /// Changesets decided after which the head becomes a copy of the image, as soon as all of it is applied: until then
    /// a leader has twice in memory what it decided.
    pub head_changesets: usize,
    /// Changesets decided after which nothing more is until that is done.
    pub head_changesets_max: usize,
    /// From asking for a decision to its answer.
    pub decide_timeout: Duration,
    /// From asking for a read to its image.
    pub read_timeout: Duration,
    /// Entries waiting for the shadow at which the leader admits decisions more slowly.
    pub shadow_queue_soft: u64,
    /// Entries waiting for the shadow at which applying waits too.
    pub shadow_queue_hard: u64,
    /// A full shadow that writes nothing for that long stops the node.
    pub shadow_stall: Duration,
    /// Log entries after which a snapshot is made.
    pub snapshot_entries: u64,
    /// Bytes of log after which a snapshot is made.
    pub snapshot_log_bytes: u64,
    /// Log entries kept behind a snapshot, for followers that lag a little.
    pub keep_log_entries: u64,
    /// Bytes of log entries kept in memory.
    pub log_cache_bytes: usize,
    /// Bytes of one file of the log; purging frees whole files.
    pub log_file_bytes: usize,
    /// Entries that a follower of the changes may be behind before it must begin anew.
    pub change_entries_max: usize,
    /// How often members compare digests.
    pub digest_interval: Duration,
    /// How long a learner may take to catch up before promoting it fails.
    pub promote_timeout: Duration,
    /// How long handing leadership over may take.
    pub hand_over_timeout: Duration,
}

impl Default for RaftLimits {
    fn default() -> Self {
        Self {
            queue_decisions_max: 16_384,
            entry_bytes_max: virtflow_state::ENTRY_BYTES_MAX,
            entry_changesets_max: 4096,
            pipeline_entries_max: 4,
            head_changesets: 200,
            head_changesets_max: 20_000,
            decide_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(5),
            shadow_queue_soft: 2_000,
            shadow_queue_hard: 8_000,
            shadow_stall: Duration::from_secs(30),
            snapshot_entries: 50_000,
            snapshot_log_bytes: 256 * 1024 * 1024,
            keep_log_entries: 5_000,
            log_cache_bytes: 32 * 1024 * 1024,
            log_file_bytes: 64 * 1024 * 1024,
            change_entries_max: 4096,
            digest_interval: Duration::from_secs(10),
            promote_timeout: Duration::from_secs(120),
            hand_over_timeout: Duration::from_secs(5),
        }
    }
}

/// What a node needs to know of itself.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// Folder of the log.
    pub dir: PathBuf,
    /// This member's number; never given to another.
    pub node_id: u64,
    /// This member's store: made with its data folder, subject of its certificate.
    pub store_id: ObjectId,
    /// The cluster.
    pub cluster_id: ObjectId,
    /// The highest cluster version that this member supports: it stops before it applies what is above.
    pub supports: u32,
    /// When a leader is missed.
    pub timing: Timing,
    /// Limits.
    pub limits: RaftLimits,
}

impl RaftConfig {
    /// With default timing and limits.
    pub fn new(
        dir: impl Into<PathBuf>,
        node_id: u64,
        store_id: ObjectId,
        cluster_id: ObjectId,
    ) -> Self {
        Self {
            dir: dir.into(),
            node_id,
            store_id,
            cluster_id,
            supports: virtflow_state::CLUSTER_VERSION,
            timing: Timing::default(),
            limits: RaftLimits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_widens_with_the_disk_and_not_without_end() {
        let heartbeat_ms =
            |flush_ms| Timing::for_flush(Duration::from_millis(flush_ms)).heartbeat_ms;
        assert_eq!(heartbeat_ms(1), 100);
        assert_eq!(heartbeat_ms(20), 100);
        assert_eq!(heartbeat_ms(45), 300);
        assert_eq!(heartbeat_ms(5000), 800);
    }
}
