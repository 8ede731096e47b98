//! Numbers for monitoring: what this process counts itself, and what it reads off the node when asked.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use virtflow_raft::Node;
use virtflow_shadow::Archive;

/// Which loop of the leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LoopLabel {
    /// Its name.
    pub name: String,
}

/// What became of a message of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReportLabel {
    /// `applied`, `unchanged`, `stale`, `failed`, `dropped`.
    pub outcome: &'static str,
}

/// What a host is to the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LivenessLabel {
    /// `never`, `online`, `offline`, `quarantined`.
    pub liveness: String,
}

/// How a host fares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HealthLabel {
    /// `unknown`, `healthy`, `warning`, `critical`.
    pub health: &'static str,
}

/// The registry and what this process counts itself.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Seconds from a VM's creation to its binding.
    pub placement_seconds: Histogram,
    /// Seconds of one pass of the placer.
    pub placer_pass_seconds: Histogram,
    /// Seconds of one pass of a loop of the leader.
    pub reconcile_seconds: Family<LoopLabel, Histogram>,
    /// Changesets that loops proposed.
    pub reconcile_changesets: Family<LoopLabel, Counter>,
    /// Heartbeats taken by the leader.
    pub heartbeats: Counter,
    /// Seconds between two heartbeats of one host, as they arrived.
    pub heartbeat_interval_seconds: Histogram,
    /// Heartbeats and reports of agents by outcome.
    pub reports: Family<ReportLabel, Counter>,
    /// Sessions of agents held by this controller.
    pub agent_sessions: Gauge,
    /// Seconds from a change to its desired state being sent.
    pub push_seconds: Histogram,
    /// Milliseconds of this clock ahead of the voters' median.
    pub clock_offset_ms: Gauge,
    /// Hosts by what they are to the cloud, as far as this controller has applied.
    pub hosts: Family<LivenessLabel, Gauge>,
    /// Hosts that are online by how they fare, as far as this controller has applied.
    pub hosts_health: Family<HealthLabel, Gauge>,
    /// Objects past the deadline of the phase they are in.
    pub overdue_objects: Gauge,
    /// When this controller's certificate expires, in seconds since 1970.
    pub certificate_expiry_s: Gauge,
    /// Bytes that are left on the disk of the data folder for anybody but the superuser.
    pub disk_free_bytes: Gauge,
    /// Bytes of this process that are resident in memory.
    pub resident_memory_bytes: Gauge,
}

/// Fine around the intervals that are in use, so that a late heartbeat stands out.
const HEARTBEAT_BOUNDS_S: &[f64] = &[
    0.1, 0.25, 0.45, 0.49, 0.51, 0.55, 0.6, 0.75, 1.0, 1.5, 1.9, 1.95, 2.0, 2.05, 2.1, 2.25, 2.5,
    3.0, 4.0, 6.0, 10.0,
];

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 20))
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("virtflow")),
            placement_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
            placer_pass_seconds: seconds(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            reconcile_changesets: Family::default(),
            heartbeats: Counter::default(),
            heartbeat_interval_seconds: Histogram::new(HEARTBEAT_BOUNDS_S.iter().copied()),
            reports: Family::default(),
            agent_sessions: Gauge::default(),
            push_seconds: seconds(),
            clock_offset_ms: Gauge::default(),
            hosts: Family::default(),
            hosts_health: Family::default(),
            overdue_objects: Gauge::default(),
            certificate_expiry_s: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            resident_memory_bytes: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The registry, to register more in.
    pub fn with_registry<T>(&self, f: impl FnOnce(&mut Registry) -> T) -> T {
        f(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn register(&self) {
        self.with_registry(|registry| {
            registry.register(
                "placement_seconds",
                "Time from the creation of a VM to its binding to a host",
                self.placement_seconds.clone(),
            );
            registry.register(
                "placer_pass_seconds",
                "Time of one pass of the placer",
                self.placer_pass_seconds.clone(),
            );
            registry.register(
                "reconcile_seconds",
                "Time of one pass of a loop of the leader",
                self.reconcile_seconds.clone(),
            );
            registry.register(
                "reconcile_changesets",
                "Changesets proposed by a loop of the leader",
                self.reconcile_changesets.clone(),
            );
            registry.register(
                "agent_heartbeats",
                "Heartbeats of agents taken while leading",
                self.heartbeats.clone(),
            );
            registry.register(
                "agent_heartbeat_interval_seconds",
                "Time between two heartbeats of one host, as they arrived",
                self.heartbeat_interval_seconds.clone(),
            );
            registry.register(
                "agent_reports",
                "Reports of agents by what became of them",
                self.reports.clone(),
            );
            registry.register(
                "agent_sessions",
                "Sessions of agents held by this controller",
                self.agent_sessions.clone(),
            );
            registry.register(
                "desired_push_seconds",
                "Time from a change to its desired state being sent to the agent",
                self.push_seconds.clone(),
            );
            registry.register(
                "clock_offset_milliseconds",
                "This clock ahead of the voters' median",
                self.clock_offset_ms.clone(),
            );
            registry.register(
                "hosts",
                "Hosts by what they are to the cloud",
                self.hosts.clone(),
            );
            registry.register(
                "hosts_health",
                "Hosts that are online by how they fare",
                self.hosts_health.clone(),
            );
            registry.register(
                "overdue_objects",
                "Objects past the deadline of the phase they are in",
                self.overdue_objects.clone(),
            );
            registry.register(
                "certificate_expiry_timestamp_seconds",
                "When this controller's certificate expires, in seconds since 1970",
                self.certificate_expiry_s.clone(),
            );
            registry.register(
                "disk_free_bytes",
                "Bytes left on the disk of the data folder",
                self.disk_free_bytes.clone(),
            );
            registry.register(
                "resident_memory_bytes",
                "Resident memory of the controller",
                self.resident_memory_bytes.clone(),
            );
        });
    }

    /// Adds what is read off the node and its shadow at each scrape.
    pub fn watch(&self, node: Node, shadow: Arc<dyn Archive>) {
        self.with_registry(|registry| {
            registry.register_collector(Box::new(NodeCollector { node, shadow }));
        });
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Counts what became of a report.
    pub fn report(&self, outcome: &'static str) {
        self.reports.get_or_create(&ReportLabel { outcome }).inc();
    }
}

/// Reads the node's own counters when scraped.
#[derive(Debug)]
struct NodeCollector {
    node: Node,
    shadow: Arc<dyn Archive>,
}

impl prometheus_client::collector::Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.node.status();
        let progress = self.shadow.progress();
        let image = self.node.image();
        let flag = |set: bool| i64::from(set);
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let mut gauge = |name: &str, help: &str, value: i64| {
            ConstGauge(value).encode_as(&mut encoder, name, help)
        };
        gauge(
            "raft_is_leader",
            "1 if this controller leads and is ready",
            flag(status.is_leader_ready),
        )?;
        gauge("raft_term", "Raft term", number(status.term))?;
        gauge(
            "raft_last_log_index",
            "Index of the last entry in the log",
            number(status.last_log),
        )?;
        gauge(
            "raft_flushed_index",
            "Index up to which the log is flushed",
            number(status.log_flushed),
        )?;
        gauge(
            "raft_committed_index",
            "Index up to which entries are known to be committed",
            number(status.committed),
        )?;
        gauge(
            "raft_applied_index",
            "Index of the last entry applied",
            number(status.applied),
        )?;
        gauge(
            "raft_purged_index",
            "Index up to which the log is purged",
            number(status.purged),
        )?;
        gauge(
            "raft_members",
            "Members of the group, learners too",
            number(status.members.len() as u64),
        )?;
        gauge(
            "raft_writes_stopped",
            "1 if writes are stopped until an operator decides",
            flag(status.writes_stopped.is_some()),
        )?;
        gauge(
            "shadow_written_index",
            "Index that the shadow has committed",
            number(progress.written),
        )?;
        gauge(
            "shadow_durable_index",
            "Index that the shadow has flushed",
            number(progress.durable),
        )?;
        gauge(
            "shadow_queued_entries",
            "Entries that the shadow has yet to write",
            number(progress.queued),
        )?;
        gauge(
            "state_objects",
            "Objects in the replicated state",
            number(image.object_count() as u64),
        )?;
        let measured = &status.measured;
        for (name, help, histogram) in [
            (
                "commit_seconds",
                "Time from the proposal of a batch to its result",
                &measured.commit_us,
            ),
            (
                "log_flush_seconds",
                "Time from an append to its flush",
                &measured.flush_us,
            ),
            (
                "apply_seconds",
                "Time of applying one entry",
                &measured.apply_us,
            ),
            (
                "read_round_seconds",
                "Time of one quorum round of reads",
                &measured.read_round_us,
            ),
        ] {
            encode_histogram(&mut encoder, name, help, histogram, 1e-6)?;
        }
        encode_histogram(
            &mut encoder,
            "batch_changesets",
            "Changesets in one proposed entry",
            &measured.batch_changesets,
            1.0,
        )?;
        let mut counter = |name: &str, help: &str, value: u64| {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, u64, f64>(&value, None)
        };
        counter(
            "decisions",
            "Decisions evaluated while leading",
            measured.decisions,
        )?;
        counter("decisions_refused", "Decisions refused", measured.refused)?;
        counter(
            "decisions_unknown",
            "Decisions whose outcome could not be told",
            measured.unknown,
        )?;
        counter(
            "decisions_turned_away",
            "Decisions refused before they were evaluated",
            measured.turned_away,
        )?;
        counter(
            "leaderships",
            "Times this controller began to lead",
            measured.leaderships,
        )?;
        counter(
            "snapshots_built",
            "Snapshots made",
            measured.snapshots_built,
        )?;
        counter(
            "snapshots_sent",
            "Snapshots sent to a member",
            measured.snapshots_sent,
        )?;
        counter(
            "snapshots_installed",
            "Snapshots received and installed",
            measured.snapshots_installed,
        )?;
        Ok(())
    }
}

struct ConstGauge(i64);

impl ConstGauge {
    fn encode_as(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
    ) -> Result<(), fmt::Error> {
        let gauge = prometheus_client::metrics::gauge::ConstGauge::new(self.0);
        let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}

fn encode_histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    read: &virtflow_raft::Histogram,
    unit: f64,
) -> Result<(), fmt::Error> {
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> = read
        .buckets
        .iter()
        .map(|(le, cumulative)| {
            let own = cumulative - before;
            before = *cumulative;
            (as_float(*le) * unit, own)
        })
        .collect();
    buckets.push((f64::INFINITY, read.count.saturating_sub(before)));
    encoder
        .encode_descriptor(name, help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(as_float(read.sum) * unit, read.count, &buckets, None)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are approximate by nature"
)]
fn as_float(n: u64) -> f64 {
    n as f64
}
