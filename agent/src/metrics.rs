//! What the agent counts and times, in Prometheus' words.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// As wanted.
    Done,
    /// With an error.
    Failed,
}

/// A step of the reconciler.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// `create`, `destroy` …
    pub step: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum OrderOutcome {
    /// Stored and obeyed.
    Accepted,
    /// Older than what is known, or of another host epoch.
    Refused,
    /// Not stored, so not obeyed.
    NotStored,
    /// Made no sense.
    Malformed,
}

/// An order's outcome as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OrderLabels {
    /// What became of it.
    pub outcome: OrderOutcome,
}

/// A phase as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabels {
    /// `running` …
    pub phase: String,
}

type StepTimes = Family<StepLabels, Histogram, fn() -> Histogram>;

/// All of it. Cloning shares.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Time of each step.
    pub steps: StepTimes,
    /// Time of surveys that were answered.
    pub surveys: Histogram,
    /// Guests started again by the agent itself.
    pub restarts: Counter,
    /// Sessions that were welcomed.
    pub sessions: Counter,
    /// Heartbeats sent.
    pub heartbeats_sent: Counter,
    /// Heartbeats that a leader acknowledged.
    pub heartbeats_acknowledged: Counter,
    /// Orders.
    pub orders: Family<OrderLabels, Counter>,
    /// Time from an order's arrival until it is stored and its tasks are woken.
    pub order_seconds: Histogram,
    /// Certificates renewed.
    pub renewals: Counter,
    /// VMs by phase; set when read.
    pub vms: Family<PhaseLabels, Gauge>,
    /// Domains that aren't ours; set when read.
    pub foreign_domains: Gauge,
    /// Whether a session is open; set when read.
    pub session_open: Gauge,
    /// Whether the last survey was answered; set when read.
    pub hypervisor_up: Gauge,
    /// When the certificate expires; set when read.
    pub certificate_expiry: Gauge,
    /// Memory of the agent itself; set when read.
    pub resident_memory: Gauge,
}

fn seconds() -> Histogram {
    // 1 ms to 65 s.
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("virtflow_agent"),
            steps: Family::new_with_constructor(seconds),
            surveys: seconds(),
            restarts: Counter::default(),
            sessions: Counter::default(),
            heartbeats_sent: Counter::default(),
            heartbeats_acknowledged: Counter::default(),
            orders: Family::default(),
            order_seconds: seconds(),
            renewals: Counter::default(),
            vms: Family::default(),
            foreign_domains: Gauge::default(),
            session_open: Gauge::default(),
            hypervisor_up: Gauge::default(),
            certificate_expiry: Gauge::default(),
            resident_memory: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The running program", Info::new(version));
        registry.register(
            "step_seconds",
            "Time of reconcile steps",
            self.steps.clone(),
        );
        registry.register(
            "survey_seconds",
            "Time the hypervisor took to list all domains",
            self.surveys.clone(),
        );
        registry.register(
            "guest_restarts",
            "Guests started again because they had ended",
            self.restarts.clone(),
        );
        registry.register("sessions", "Sessions begun", self.sessions.clone());
        registry.register(
            "heartbeats_sent",
            "Heartbeats sent",
            self.heartbeats_sent.clone(),
        );
        registry.register(
            "heartbeats_acknowledged",
            "Heartbeats acknowledged by a leader",
            self.heartbeats_acknowledged.clone(),
        );
        registry.register("orders", "Desired states received", self.orders.clone());
        registry.register(
            "order_seconds",
            "Time from the arrival of a desired state until it is stored and worked on",
            self.order_seconds.clone(),
        );
        registry.register("renewals", "Certificates renewed", self.renewals.clone());
        registry.register("vms", "VMs on this host by phase", self.vms.clone());
        registry.register(
            "foreign_domains",
            "Domains on this host that are not VirtFlow's",
            self.foreign_domains.clone(),
        );
        registry.register(
            "session_open",
            "1 while a controller holds a session",
            self.session_open.clone(),
        );
        registry.register(
            "hypervisor_up",
            "1 while the hypervisor answers",
            self.hypervisor_up.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the agent's certificate expires, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
        registry.register(
            "resident_memory_bytes",
            "Resident memory of the agent",
            self.resident_memory.clone(),
        );
    }

    /// As text for Prometheus.
    ///
    /// # Errors
    /// If formatting fails, which only a fault of this program makes it do.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts an order.
    pub fn count_order(&self, outcome: OrderOutcome) {
        self.orders.get_or_create(&OrderLabels { outcome }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number that is told has a line in the list that people look it up in.
    #[test]
    fn every_number_is_explained() {
        let list = include_str!("../../docs/metrics.md");
        let told = Metrics::default().encode().unwrap();
        let names: Vec<&str> = told
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            assert!(
                list.contains(&format!("| `{name}`")),
                "{name} is not in docs/metrics.md"
            );
        }
    }
}
