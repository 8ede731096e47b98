//! Real guests through libvirt.
//!
//! Domains are defined (persistent) and then started, so that a guest that dies leaves its
//! definition and our mark behind. libvirtd may be restarted at any time: connections are made
//! anew, subscribers are told to resynchronise.
//!
//! The marks of known domains are cached, because reading one takes a call per domain while a
//! survey of all domains takes one call in all. A definition event, and every new connection,
//! drops what is cached.

mod ffi;
mod link;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::broadcast;
use virt::connect::Connect;
use virt::domain::Domain as VirtDomain;
use virt::error::ErrorNumber;
use virt_sys as sys;
use virtflow_types::ObjectId;

use self::ffi::{DomainStats, EventSink, all_domain_stats};
use self::link::{CallError, Lane, ReconnectSink};
use super::{
    Capabilities, Domain, DomainChange, DomainEvent, EVENT_QUEUE_LEN, Hypervisor, HypervisorError,
    OffReason, PowerState, Survey, Usage,
};
use crate::xml::{DomainFacts, DomainSpec, Element, read_domain};

/// Calls under way that change domains; libvirtd works on five requests of a client at a time.
const WORK_CALLS_MAX: usize = 5;
/// Calls under way that ask.
const WATCH_CALLS_MAX: usize = 3;

/// libvirt on this host.
#[derive(Debug)]
pub struct Libvirt {
    work: Arc<Lane>,
    watch: Arc<Lane>,
    marks: Arc<Marks>,
    pid_files: PathBuf,
}

impl Libvirt {
    /// Libvirt at `uri`, `qemu:///system` as a rule, which keeps the pid files of its guests in
    /// `pid_files` (`/run/libvirt/qemu`). Connects at the first call, not here.
    #[must_use]
    pub fn new(uri: &str, pid_files: &Path) -> Self {
        let marks = Arc::new(Marks {
            events: broadcast::Sender::new(EVENT_QUEUE_LEN),
            cached: Mutex::default(),
        });
        let sink: Arc<dyn ReconnectSink> = marks.clone();
        Self {
            work: Arc::new(Lane::new(uri, WORK_CALLS_MAX, None)),
            watch: Arc::new(Lane::new(uri, WATCH_CALLS_MAX, Some(sink))),
            marks,
            pid_files: pid_files.to_owned(),
        }
    }

    /// Runs a call that changes one domain.
    async fn work(
        &self,
        action: &'static str,
        vm_id: ObjectId,
        call: impl FnOnce(&Connect) -> Result<(), CallError> + Send + 'static,
    ) -> Result<(), HypervisorError> {
        let result = self.work.call(action, call).await;
        result.map_err(|error| match error {
            HypervisorError::Query { action, message } => HypervisorError::Failed {
                action,
                vm_id,
                message,
            },
            error => error,
        })
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    async fn capabilities(&self) -> Result<Capabilities, HypervisorError> {
        let action = "read the capabilities of the hypervisor";
        self.watch.call(action, capabilities).await
    }

    async fn survey(&self) -> Result<Survey, HypervisorError> {
        let marks = Arc::clone(&self.marks);
        self.watch
            .call("survey all domains", move |connection| {
                survey(connection, &marks)
            })
            .await
    }

    async fn inspect(&self, vm_id: ObjectId) -> Result<Option<Domain>, HypervisorError> {
        let pid_files = self.pid_files.clone();
        self.watch
            .call("inspect a domain", move |connection| {
                let Some(domain) = lookup(connection, vm_id)? else {
                    return Ok(None);
                };
                let facts = facts_of(&domain)?;
                let mut state = 0;
                let mut reason = 0;
                if let Ok((now, why)) = domain.state() {
                    state = now.to_raw().cast_signed();
                    reason = raw_reason(why);
                }
                let run_id = domain.id();
                match ours(&facts, power_state(state, reason), run_id) {
                    Some(mut domain) => {
                        if domain.power.is_active() {
                            domain.process_id = process_id(&pid_files, &facts.domain_name);
                        }
                        Ok(Some(domain))
                    }
                    None => Err(foreign("inspect", vm_id).into()),
                }
            })
            .await
    }

    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let vm_id = spec.vm_id;
        let xml = spec.to_xml().map_err(|error| HypervisorError::Failed {
            action: "define",
            vm_id,
            message: error.to_string(),
        })?;
        self.work("define", vm_id, move |connection| {
            if let Some(domain) = lookup(connection, vm_id)?
                && facts_of(&domain)?.mark.is_none()
            {
                return Err(foreign("define", vm_id).into());
            }
            connection.define_domain_xml(&xml)?;
            Ok(())
        })
        .await
    }

    async fn start(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("start", vm_id, move |connection| {
            let domain = lookup_ours(connection, "start", vm_id)?;
            match domain.create() {
                Err(_) if domain.is_active().unwrap_or(false) => Ok(()),
                result => Ok(result?),
            }
        })
        .await
    }

    async fn shutdown(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("shut down", vm_id, move |connection| {
            let domain = lookup_ours(connection, "shut down", vm_id)?;
            match domain.shutdown() {
                Err(_) if !domain.is_active().unwrap_or(true) => Ok(()),
                result => Ok(result?),
            }
        })
        .await
    }

    async fn destroy(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("destroy", vm_id, move |connection| {
            let domain = lookup_ours(connection, "destroy", vm_id)?;
            match domain.destroy() {
                Err(_) if !domain.is_active().unwrap_or(true) => Ok(()),
                result => Ok(result?),
            }
        })
        .await
    }

    async fn undefine(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("undefine", vm_id, move |connection| {
            let Some(domain) = lookup(connection, vm_id)? else {
                return Ok(());
            };
            if facts_of(&domain)?.mark.is_none() {
                return Err(foreign("undefine", vm_id).into());
            }
            // Whatever libvirt keeps for the domain goes with it, or undefining is refused.
            let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
            Ok(domain.undefine_flags(all)?)
        })
        .await
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.marks.events.subscribe()
    }
}

/// What is known of domains' definitions, and the way events take.
#[derive(Debug)]
struct Marks {
    events: broadcast::Sender<DomainEvent>,
    cached: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    /// Facts of each domain; shared because a survey looks at all of them each interval.
    facts: HashMap<ObjectId, Arc<DomainFacts>>,
    /// Grows with each loss, so that facts read before it are not cached after it.
    generation: u64,
}

impl Marks {
    fn cached(&self) -> MutexGuard<'_, Cache> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Marks {
    fn deliver(&self, event: DomainEvent) {
        if event.change == DomainChange::Definition {
            let mut cache = self.cached();
            cache.facts.remove(&event.domain_id);
            cache.generation += 1;
        }
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }
}

impl ReconnectSink for Marks {
    fn reconnected(&self) {
        let mut cache = self.cached();
        cache.facts.clear();
        cache.generation += 1;
        drop(cache);
        let _ = self.events.send(DomainEvent {
            domain_id: ObjectId::NIL,
            change: DomainChange::Resynchronise,
        });
    }

    fn as_events(self: Arc<Self>) -> Arc<dyn EventSink> {
        self
    }
}

fn survey(connection: &Connect, marks: &Marks) -> Result<Survey, CallError> {
    let all = all_domain_stats(connection)?;
    let mut survey = Survey::default();
    for stats in &all {
        let facts = match known_facts(connection, marks, stats) {
            Ok(Some(facts)) => facts,
            // Gone since the bulk call.
            Ok(None) => continue,
            Err(error) => return Err(error),
        };
        let power = power_state(stats.state, stats.reason);
        let usage = Usage {
            cpu_time_ns: stats.cpu_time_ns,
            memory_rss_kib: stats.memory_rss_kib,
        };
        match ours(&facts, power, stats.run_id) {
            Some(domain) => survey.domains.push((domain, usage)),
            None => survey.foreign.push((stats.domain_id, usage)),
        }
    }
    let present: HashSet<_> = all.iter().map(|stats| stats.domain_id).collect();
    marks.cached().facts.retain(|id, _| present.contains(id));
    Ok(survey)
}

fn known_facts(
    connection: &Connect,
    marks: &Marks,
    stats: &DomainStats,
) -> Result<Option<Arc<DomainFacts>>, CallError> {
    let generation = {
        let cache = marks.cached();
        if let Some(facts) = cache.facts.get(&stats.domain_id) {
            return Ok(Some(Arc::clone(facts)));
        }
        cache.generation
    };
    let Some(domain) = lookup(connection, stats.domain_id)? else {
        return Ok(None);
    };
    let facts = match facts_of(&domain) {
        Ok(facts) => Arc::new(facts),
        Err(CallError::Libvirt(error)) if error.code().is(ErrorNumber::NoDomain) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut cache = marks.cached();
    if cache.generation == generation {
        cache.facts.insert(stats.domain_id, Arc::clone(&facts));
    }
    Ok(Some(facts))
}

fn lookup(connection: &Connect, vm_id: ObjectId) -> Result<Option<VirtDomain>, CallError> {
    match connection.lookup_domain_by_uuid(vm_id.uuid()) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if error.code().is(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The domain, if it exists and is ours: nothing else is ever started or stopped.
fn lookup_ours(
    connection: &Connect,
    action: &'static str,
    vm_id: ObjectId,
) -> Result<VirtDomain, CallError> {
    let domain = lookup(connection, vm_id)?.ok_or(HypervisorError::NotFound(vm_id))?;
    if facts_of(&domain)?.mark.is_none() {
        return Err(foreign(action, vm_id).into());
    }
    Ok(domain)
}

/// What the persistent definition says: a running guest's own may lag behind it.
fn facts_of(domain: &VirtDomain) -> Result<DomainFacts, CallError> {
    let xml = domain
        .xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)
        .or_else(|_| domain.xml_desc(0))?;
    read_domain(&xml).map_err(|error| {
        CallError::Told(HypervisorError::Query {
            action: "read a domain's definition",
            message: error.to_string(),
        })
    })
}

fn ours(facts: &DomainFacts, power: PowerState, run_id: Option<u32>) -> Option<Domain> {
    let mark = facts.mark.as_ref()?;
    Some(Domain {
        vm_id: facts.domain_id,
        vm_name: mark.vm_name.clone(),
        stamp: mark.stamp,
        power,
        run_id: run_id.filter(|_| power.is_active()),
        process_id: None,
        vcpus: facts.vcpus,
        memory_mib: facts.memory_mib,
    })
}

/// libvirt tells no process ids over its API; its pid files do.
fn process_id(pid_files: &Path, domain_name: &str) -> Option<u32> {
    let file = pid_files.join(domain_name).with_added_extension("pid");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn foreign(action: &'static str, vm_id: ObjectId) -> HypervisorError {
    HypervisorError::Failed {
        action,
        vm_id,
        message: "a domain with this UUID exists that is not VirtFlow's; \
                  remove it (virsh undefine) or give it another UUID"
            .to_owned(),
    }
}

fn power_state(state: i32, reason: i32) -> PowerState {
    match state.cast_unsigned() {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => PowerState::Running,
        sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => PowerState::Paused,
        sys::VIR_DOMAIN_SHUTDOWN => PowerState::ShuttingDown,
        sys::VIR_DOMAIN_CRASHED => PowerState::Off(OffReason::Crashed),
        sys::VIR_DOMAIN_SHUTOFF => PowerState::Off(match reason.cast_unsigned() {
            sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN => OffReason::Shutdown,
            sys::VIR_DOMAIN_SHUTOFF_DESTROYED => OffReason::Destroyed,
            sys::VIR_DOMAIN_SHUTOFF_CRASHED => OffReason::Crashed,
            sys::VIR_DOMAIN_SHUTOFF_FAILED | sys::VIR_DOMAIN_SHUTOFF_DAEMON => OffReason::Failed,
            _ => OffReason::Unknown,
        }),
        _ => PowerState::Off(OffReason::Unknown),
    }
}

/// libvirt's number of the reason why a domain is off; other states' reasons don't matter here.
fn raw_reason(reason: virt::domain::DomainStateReasonEnum) -> i32 {
    use virt::domain::DomainStateReason;
    use virt::enumutil::Enum;
    match reason {
        Enum::Known(DomainStateReason::Shutoff(why)) => why.to_raw().cast_signed(),
        _ => 0,
    }
}

fn capabilities(connection: &Connect) -> Result<Capabilities, CallError> {
    let root = Element::parse(&connection.capabilities()?).map_err(|error| {
        CallError::Told(HypervisorError::Query {
            action: "read the capabilities of the hypervisor",
            message: error.to_string(),
        })
    })?;
    let arch = std::env::consts::ARCH;
    let runs = |domain_type: &str| {
        root.children("guest")
            .filter_map(|guest| guest.child("arch"))
            .filter(|guest| guest.attribute("name") == Some(arch))
            .flat_map(|guest| guest.children("domain"))
            .any(|domain| domain.attribute("type") == Some(domain_type))
    };
    let security_labels = root.child("host").is_some_and(|host| {
        host.children("secmodel")
            .filter_map(|model| model.child_text("model"))
            .any(|model| matches!(model, "apparmor" | "selinux"))
    });
    let (kvm, emulation) = (runs("kvm"), runs("qemu"));
    if kvm || emulation {
        // libvirt probes the emulator when it is first needed, which takes up to seconds: now
        // rather than under the first VM.
        let virt_type = if kvm { "kvm" } else { "qemu" };
        connection.domain_capabilities(None, Some(arch), None, Some(virt_type), 0)?;
    }
    Ok(Capabilities {
        driver: "libvirt".to_owned(),
        driver_version: version(connection.lib_version()?),
        emulator_version: version(connection.hyp_version()?),
        kvm,
        emulation,
        security_labels,
    })
}

/// libvirt's way to write 10.0.2: 10 000 002.
fn version(number: u32) -> String {
    format!(
        "{}.{}.{}",
        number / 1_000_000,
        number / 1000 % 1000,
        number % 1000
    )
}
