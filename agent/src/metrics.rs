//! What the agent counts and times, in Prometheus' words.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use virtflow_proto::agent::v1;
use virtflow_types::ObjectId;

/// VMs that have series of their own, the first by their ids; of more only the number is told.
pub const VM_SERIES_MAX: usize = 1000;

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

/// A VM as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VmLabels {
    /// Its id: names are its tenant's.
    pub vm: String,
}

/// A VM and its phase as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VmPhaseLabels {
    /// Its id.
    pub vm: String,
    /// `running` …
    pub phase: String,
}

/// What is told of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmNumbers {
    /// The VM.
    pub vm: ObjectId,
    /// `running` …
    pub phase: String,
    /// Millionths of a logical processor that its guest takes; `None` if none runs.
    pub cpu_used_ppm: Option<u32>,
    /// Resident memory of its guest, in MiB; `None` if none runs.
    pub memory_used_mib: Option<u64>,
}

/// A number with a fraction.
type Fraction = Gauge<f64, AtomicU64>;

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
    /// The machine; set when read.
    pub host: HostNumbers,
    vm_phase: Family<VmPhaseLabels, Gauge>,
    vm_cpu_used_cores: Family<VmLabels, Fraction>,
    vm_memory_used_bytes: Family<VmLabels, Gauge>,
    vms_untold: Gauge,
}

/// How the machine is, whatever runs on it. Cloning shares.
#[derive(Debug, Clone, Default)]
pub struct HostNumbers {
    cpu_used_ratio: Fraction,
    memory_bytes: Gauge,
    memory_used_bytes: Gauge,
    storage_used_bytes: Gauge,
    storage_available_bytes: Gauge,
    load1: Fraction,
}

impl HostNumbers {
    /// Sets them from what was measured last.
    pub fn tell(&self, load: &v1::Load, memory_mib: u64) {
        self.cpu_used_ratio
            .set(f64::from(load.cpu_used_ppm) / 1_000_000.0);
        self.memory_bytes.set(bytes_of(memory_mib));
        self.memory_used_bytes.set(bytes_of(load.memory_used_mib));
        self.storage_used_bytes.set(bytes_of(load.storage_used_mib));
        self.storage_available_bytes
            .set(bytes_of(load.storage_available_mib));
        self.load1.set(f64::from(load.load1_milli) / 1000.0);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "host_cpu_used_ratio",
            "Share of all logical processors that is used",
            self.cpu_used_ratio.clone(),
        );
        for (name, help, gauge) in [
            ("memory_bytes", "Memory of the host", &self.memory_bytes),
            (
                "memory_used_bytes",
                "Memory that is used",
                &self.memory_used_bytes,
            ),
            (
                "storage_used_bytes",
                "Used bytes of the file system that holds the guests' folder",
                &self.storage_used_bytes,
            ),
            (
                "storage_available_bytes",
                "Free bytes of the file system that holds the guests' folder",
                &self.storage_available_bytes,
            ),
        ] {
            registry.register(["host_", name].concat(), help, gauge.clone());
        }
        registry.register("host_load1", "Load average of a minute", self.load1.clone());
    }
}

fn bytes_of(mib: u64) -> i64 {
    i64::try_from(mib.saturating_mul(1024 * 1024)).unwrap_or(i64::MAX)
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
            host: HostNumbers::default(),
            vm_phase: Family::default(),
            vm_cpu_used_cores: Family::default(),
            vm_memory_used_bytes: Family::default(),
            vms_untold: Gauge::default(),
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
        self.host.register(registry);
        registry.register(
            "vm_phase",
            "1 for the phase that the VM is in",
            self.vm_phase.clone(),
        );
        registry.register(
            "vm_cpu_used_cores",
            "Logical processors that the VM's guest takes",
            self.vm_cpu_used_cores.clone(),
        );
        registry.register(
            "vm_memory_used_bytes",
            "Resident memory of the VM's guest",
            self.vm_memory_used_bytes.clone(),
        );
        registry.register(
            "vms_untold",
            "VMs beyond those that have series of their own",
            self.vms_untold.clone(),
        );
    }

    /// Sets the series of VMs anew, in the order in which they come: one that has gone has none any more.
    pub fn tell_vms(&self, vms: impl IntoIterator<Item = VmNumbers>) {
        self.vm_phase.clear();
        self.vm_cpu_used_cores.clear();
        self.vm_memory_used_bytes.clear();
        let mut untold = 0;
        for (at, numbers) in vms.into_iter().enumerate() {
            if at >= VM_SERIES_MAX {
                untold += 1;
                continue;
            }
            let vm = numbers.vm.to_string();
            let labels = VmLabels { vm: vm.clone() };
            let phase = numbers.phase;
            self.vm_phase
                .get_or_create(&VmPhaseLabels { vm, phase })
                .set(1);
            if let Some(ppm) = numbers.cpu_used_ppm {
                let cores = f64::from(ppm) / 1_000_000.0;
                self.vm_cpu_used_cores.get_or_create(&labels).set(cores);
            }
            if let Some(mib) = numbers.memory_used_mib {
                let gauge = self.vm_memory_used_bytes.get_or_create(&labels);
                gauge.set(bytes_of(mib));
            }
        }
        self.vms_untold.set(untold);
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

    fn numbers(vm: u128, phase: &str, running: Option<(u32, u64)>) -> VmNumbers {
        VmNumbers {
            vm: ObjectId::from_u128(vm),
            phase: phase.to_owned(),
            cpu_used_ppm: running.map(|(ppm, _)| ppm),
            memory_used_mib: running.map(|(_, mib)| mib),
        }
    }

    #[test]
    fn a_vm_has_series_as_long_as_it_is_there_and_no_more_than_the_limit_have() {
        let metrics = Metrics::default();
        let running = numbers(1, "running", Some((1_500_000, 128)));
        metrics.tell_vms([running, numbers(2, "stopped", None)]);
        let told = metrics.encode().unwrap();
        let [one, two] = [1, 2].map(|vm| ObjectId::from_u128(vm).to_string());
        for line in [
            format!("virtflow_agent_vm_phase{{vm=\"{one}\",phase=\"running\"}} 1"),
            format!("virtflow_agent_vm_cpu_used_cores{{vm=\"{one}\"}} 1.5"),
            format!("virtflow_agent_vm_memory_used_bytes{{vm=\"{one}\"}} 134217728"),
            format!("virtflow_agent_vm_phase{{vm=\"{two}\",phase=\"stopped\"}} 1"),
            "virtflow_agent_vms_untold 0".to_owned(),
        ] {
            assert!(told.lines().any(|it| it == line), "{line} is not in {told}");
        }
        let of_two = |it: &&str| it.contains(&format!("vm=\"{two}\""));
        assert_eq!(told.lines().filter(of_two).count(), 1, "nothing of it runs");

        metrics.tell_vms((0..1003).map(|vm| numbers(vm + 10, "running", Some((1, 1)))));
        let told = metrics.encode().unwrap();
        let count = |of: &str| told.lines().filter(|it| it.starts_with(of)).count();
        assert_eq!(count("virtflow_agent_vm_phase{"), 1000);
        assert_eq!(count("virtflow_agent_vm_cpu_used_cores{"), 1000);
        assert_eq!(count("virtflow_agent_vm_memory_used_bytes{"), 1000);
        assert!(told.contains("\nvirtflow_agent_vms_untold 3\n"));
        assert!(!told.contains(&one), "it has gone");
    }

    #[test]
    fn what_the_host_uses_is_told_in_its_units() {
        let metrics = Metrics::default();
        let load = v1::Load {
            cpu_used_ppm: 250_000,
            memory_used_mib: 2,
            storage_used_mib: 3,
            storage_available_mib: 4,
            load1_milli: 1250,
            ..v1::Load::default()
        };
        metrics.host.tell(&load, 8);
        let told = metrics.encode().unwrap();
        for line in [
            "virtflow_agent_host_cpu_used_ratio 0.25",
            "virtflow_agent_host_memory_bytes 8388608",
            "virtflow_agent_host_memory_used_bytes 2097152",
            "virtflow_agent_host_storage_used_bytes 3145728",
            "virtflow_agent_host_storage_available_bytes 4194304",
            "virtflow_agent_host_load1 1.25",
        ] {
            assert!(told.lines().any(|it| it == line), "{line} is not in {told}");
        }
    }

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
