//! Real guests through libvirt.
//!
//! Domains are defined (persistent) and then started, so that a guest that dies leaves its
//! definition and our mark behind. libvirtd may be restarted at any time: connections are made
//! anew, subscribers are told to resynchronise.
//!
//! The marks of known domains are cached, because reading one takes a call per domain while a
//! survey of all domains takes one call in all. A definition event, and every new connection,
//! drops what is cached.
//!
//! A domain that was adopted has another UUID than its VM's id: it is found by its mark.

mod ffi;
mod link;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::broadcast;
use virt::connect::Connect;
use virt::domain::Domain as VirtDomain;
use virt::error::ErrorNumber;
use virt_sys as sys;
use virtflow_types::ObjectId;

use self::ffi::{EventSink, all_domain_stats};
use self::link::{CallError, Lane, ReconnectSink};
use super::{
    Adoption, Capabilities, Domain, DomainChange, DomainEvent, EVENT_QUEUE_LEN, ForeignDomain,
    Hypervisor, HypervisorError, Obstacle, OffReason, PowerState, Survey, Usage,
};
use crate::xml::{
    DomainFacts, DomainSpec, Element, Mark, NAMESPACE, PREFIX, PciAddress, read_domain,
    read_foreign, read_passed,
};

/// Calls under way that change domains; libvirtd works on five requests of a client at a time.
const WORK_CALLS_MAX: usize = 5;
/// Calls under way that ask.
const WATCH_CALLS_MAX: usize = 3;
/// Calls under way that wait for disks of domains that aren't ours.
const DISK_CALLS_MAX: usize = 1;
/// How long is believed what no event tells of: whether a domain that isn't ours starts with the host.
const FOREIGN_BELIEVED: Duration = Duration::from_secs(60);

/// libvirt on this host.
#[derive(Debug)]
pub struct Libvirt {
    work: Arc<Lane>,
    watch: Arc<Lane>,
    /// Its own, so that a disk that hangs blinds nobody.
    disks: Arc<Lane>,
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
            choosing: Mutex::default(),
        });
        let sink: Arc<dyn ReconnectSink> = marks.clone();
        Self {
            work: Arc::new(Lane::new(uri, WORK_CALLS_MAX, None)),
            watch: Arc::new(Lane::new(uri, WATCH_CALLS_MAX, Some(sink))),
            disks: Arc::new(Lane::new(uri, DISK_CALLS_MAX, None)),
            marks,
            pid_files: pid_files.to_owned(),
        }
    }

    /// Runs a call that changes one domain.
    async fn work(
        &self,
        action: &'static str,
        vm_id: ObjectId,
        call: impl FnOnce(&Connect, &Marks) -> Result<(), CallError> + Send + 'static,
    ) -> Result<(), HypervisorError> {
        let marks = Arc::clone(&self.marks);
        let call = move |connection: &Connect| call(connection, &marks);
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
        let marks = Arc::clone(&self.marks);
        self.watch
            .call("inspect a domain", move |connection| {
                let Some(domain) = lookup(connection, &marks, vm_id)? else {
                    return Ok(None);
                };
                let facts = facts_of(&domain)?;
                let Some(mark) = mark_of(&facts, vm_id) else {
                    return Err(foreign("inspect", vm_id).into());
                };
                let mut ours = ours(&facts, mark, power_of(&domain), domain.id());
                if ours.power.is_active() {
                    ours.process_id = process_id(&pid_files, &facts.domain_name);
                }
                Ok(Some(ours))
            })
            .await
    }

    async fn inspect_foreign(
        &self,
        domain_id: ObjectId,
    ) -> Result<Option<ForeignDomain>, HypervisorError> {
        self.watch
            .call("inspect a foreign domain", move |connection| {
                let Some(domain) = by_uuid(connection, domain_id)? else {
                    return Ok(None);
                };
                let Known::Foreign(mut foreign, _) = read(&domain, domain_id)? else {
                    return Ok(None);
                };
                foreign.power = power_of(&domain);
                Ok(Some(foreign))
            })
            .await
    }

    async fn disk_sizes(
        &self,
        domain_id: ObjectId,
    ) -> Result<BTreeMap<String, u64>, HypervisorError> {
        self.disks
            .call("ask for the sizes of a domain's disks", move |connection| {
                let domain = by_uuid(connection, domain_id)?;
                let domain = domain.ok_or(HypervisorError::NotFound(domain_id))?;
                let disks = read_foreign(&xml_of(&domain)?, domain_id, "").disks;
                let size = |target: String| {
                    // Of one that isn't there, or can't be read, no size is told.
                    let info = domain.block_info(&target, 0).ok()?;
                    Some((target, info.capacity))
                };
                Ok(disks.into_iter().filter_map(|d| size(d.target)).collect())
            })
            .await
    }

    async fn adopt(&self, adoption: &Adoption) -> Result<(), HypervisorError> {
        let (domain_id, vm_id) = (adoption.domain_id, adoption.vm_id);
        let failed = move |message: String| HypervisorError::Failed {
            action: "adopt",
            vm_id: domain_id,
            message,
        };
        let xml = adoption.to_xml().map_err(|e| failed(e.to_string()))?;
        self.work("adopt", domain_id, move |connection, marks| {
            let domain = by_uuid(connection, domain_id)?;
            let domain = domain.ok_or(HypervisorError::NotFound(domain_id))?;
            if let Some(mark) = facts_of(&domain)?.mark
                && mark.vm_id != vm_id
            {
                return Err(failed(format!("it is VM {} already", mark.vm_id)).into());
            }
            let write = |of: u32| {
                let element = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
                domain.set_metadata(element, Some(&xml), Some(PREFIX), Some(NAMESPACE), of)
            };
            // The definition is what is read; the running guest's copy is for people who look.
            let written = write(sys::VIR_DOMAIN_AFFECT_CONFIG);
            marks.forget(domain_id);
            written?;
            if domain.is_active().unwrap_or(false)
                && let Err(error) = write(sys::VIR_DOMAIN_AFFECT_LIVE)
            {
                tracing::debug!(domain = %domain_id, %error, "the mark is in the definition only");
            }
            Ok(())
        })
        .await
    }

    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let vm_id = spec.vm_id;
        let spec = spec.clone();
        self.work("define", vm_id, move |connection, marks| {
            // Held until the definition is there, even if nobody waits for it any more: the next one sees what this
            // one has.
            let _choosing = (spec.gpus.count > 0).then(|| marks.choosing());
            let mut had = None;
            if let Some(domain) = lookup(connection, marks, vm_id)? {
                let facts = facts_of(&domain)?;
                if mark_of(&facts, vm_id).is_none() {
                    return Err(foreign("define", vm_id).into());
                }
                if facts.domain_id != vm_id {
                    return Err(HypervisorError::Failed {
                        action: "define",
                        vm_id,
                        message: "its domain was adopted; its definition is not ours to write"
                            .to_owned(),
                    }
                    .into());
                }
                had = Some((facts.passed, domain.is_active()?));
            }
            let passed = match spec.gpus.count {
                0 => Vec::new(),
                _ => choose(connection, &spec, had)?,
            };
            let xml = spec
                .to_xml(&passed)
                .map_err(|error| HypervisorError::Failed {
                    action: "define",
                    vm_id,
                    message: error.to_string(),
                })?;
            connection.define_domain_xml(&xml)?;
            if !passed.is_empty() {
                let passed: Vec<_> = passed.iter().map(PciAddress::to_string).collect();
                tracing::info!(vm = %vm_id, gpus = passed.join(" "), "the definition passes GPUs");
            }
            Ok(())
        })
        .await
    }

    async fn start(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("start", vm_id, move |connection, marks| {
            let domain = lookup_ours(connection, marks, "start", vm_id)?;
            match domain.create() {
                Err(_) if domain.is_active().unwrap_or(false) => Ok(()),
                result => Ok(result?),
            }
        })
        .await
    }

    async fn shutdown(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("shut down", vm_id, move |connection, marks| {
            let domain = lookup_ours(connection, marks, "shut down", vm_id)?;
            match domain.shutdown() {
                Err(_) if !domain.is_active().unwrap_or(true) => Ok(()),
                result => Ok(result?),
            }
        })
        .await
    }

    async fn destroy(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("destroy", vm_id, move |connection, marks| {
            let domain = lookup_ours(connection, marks, "destroy", vm_id)?;
            match domain.destroy() {
                Err(_) if !domain.is_active().unwrap_or(true) => Ok(()),
                result => Ok(result?),
            }
        })
        .await
    }

    async fn undefine(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.work("undefine", vm_id, move |connection, marks| {
            let Some(domain) = lookup(connection, marks, vm_id)? else {
                return Ok(());
            };
            let facts = facts_of(&domain)?;
            if mark_of(&facts, vm_id).is_none() {
                return Err(foreign("undefine", vm_id).into());
            }
            Ok(domain.undefine_flags(undefining(&facts, vm_id))?)
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
    /// Held by who chooses GPUs for a definition.
    choosing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Cache {
    /// What is known of each domain, by its UUID; shared because a survey looks at all of them each
    /// interval.
    facts: HashMap<ObjectId, Arc<Known>>,
    /// Grows with each loss, so that facts read before it are not cached after it.
    generation: u64,
}

/// What the definition of one domain says.
#[derive(Debug)]
enum Known {
    Ours(Box<DomainFacts>),
    /// Read then.
    Foreign(ForeignDomain, Instant),
}

impl Known {
    /// The VM whose domain it is.
    fn vm_id(&self) -> Option<ObjectId> {
        match self {
            Self::Ours(facts) => facts.mark.as_ref().map(|mark| mark.vm_id),
            Self::Foreign(..) => None,
        }
    }

    fn is_believed(&self) -> bool {
        match self {
            Self::Ours(_) => true,
            Self::Foreign(_, read_at) => read_at.elapsed() < FOREIGN_BELIEVED,
        }
    }
}

impl Marks {
    fn cached(&self) -> MutexGuard<'_, Cache> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choosing(&self) -> MutexGuard<'_, ()> {
        self.choosing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, domain_id: ObjectId) {
        let mut cache = self.cached();
        cache.facts.remove(&domain_id);
        cache.generation += 1;
    }
}

impl EventSink for Marks {
    fn deliver(&self, mut event: DomainEvent) {
        let domain_id = event.domain_id;
        let known = self.cached().facts.get(&domain_id).cloned();
        // Whoever listens knows VMs.
        if let Some(vm_id) = known.and_then(|known| known.vm_id()) {
            event.domain_id = vm_id;
        }
        if event.change == DomainChange::Definition {
            self.forget(domain_id);
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
        let Some(known) = known_by_uuid(connection, marks, stats.domain_id)? else {
            // Gone since the bulk call.
            continue;
        };
        let power = power_state(stats.state, stats.reason);
        let usage = Usage {
            cpu_time_ns: stats.cpu_time_ns,
            memory_rss_kib: stats.memory_rss_kib,
        };
        match &*known {
            Known::Ours(facts) => {
                if let Some(mark) = &facts.mark {
                    let domain = ours(facts, mark, power, stats.run_id);
                    survey.domains.push((domain, usage));
                }
            }
            Known::Foreign(domain, _) => {
                let domain = ForeignDomain {
                    power,
                    ..domain.clone()
                };
                survey.foreign.push((domain, usage));
            }
        }
    }
    let present: HashSet<_> = all.iter().map(|stats| stats.domain_id).collect();
    marks.cached().facts.retain(|id, _| present.contains(id));
    Ok(survey)
}

fn known_by_uuid(
    connection: &Connect,
    marks: &Marks,
    domain_id: ObjectId,
) -> Result<Option<Arc<Known>>, CallError> {
    if let Some(known) = cached(marks, domain_id) {
        return Ok(Some(known));
    }
    match by_uuid(connection, domain_id)? {
        Some(domain) => known(marks, &domain, domain_id),
        None => Ok(None),
    }
}

fn cached(marks: &Marks, domain_id: ObjectId) -> Option<Arc<Known>> {
    let known = marks.cached().facts.get(&domain_id).cloned();
    known.filter(|known| known.is_believed())
}

/// What is known of a domain that is at hand; `None` if it is gone by now.
fn known(
    marks: &Marks,
    domain: &VirtDomain,
    domain_id: ObjectId,
) -> Result<Option<Arc<Known>>, CallError> {
    if let Some(known) = cached(marks, domain_id) {
        return Ok(Some(known));
    }
    let generation = marks.cached().generation;
    let known = match read(domain, domain_id) {
        Ok(known) => Arc::new(known),
        Err(CallError::Libvirt(error)) if error.code().is(ErrorNumber::NoDomain) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut cache = marks.cached();
    if cache.generation == generation {
        cache.facts.insert(domain_id, Arc::clone(&known));
    }
    Ok(Some(known))
}

/// Whatever somebody else's definition says, it must not keep us from seeing our own.
fn read(domain: &VirtDomain, domain_id: ObjectId) -> Result<Known, CallError> {
    let xml = xml_of(domain)?;
    if let Ok(facts) = read_domain(&xml)
        && facts.mark.is_some()
    {
        return Ok(Known::Ours(Box::new(facts)));
    }
    let mut foreign = read_foreign(&xml, domain_id, &domain.name()?);
    if !domain.is_persistent()? {
        foreign.obstacles.insert(0, Obstacle::Transient);
    }
    foreign.autostart = domain.autostart().unwrap_or(false);
    Ok(Known::Foreign(foreign, Instant::now()))
}

fn by_uuid(connection: &Connect, domain_id: ObjectId) -> Result<Option<VirtDomain>, CallError> {
    match connection.lookup_domain_by_uuid(domain_id.uuid()) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if error.code().is(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The domain with the VM's id, ours or not, or else the one that was adopted for it.
fn lookup(
    connection: &Connect,
    marks: &Marks,
    vm_id: ObjectId,
) -> Result<Option<VirtDomain>, CallError> {
    if let Some(domain) = by_uuid(connection, vm_id)? {
        return Ok(Some(domain));
    }
    for domain in connection.list_all_domains(0)? {
        let domain_id = ObjectId::from_uuid(domain.uuid()?);
        let known = known(marks, &domain, domain_id)?;
        if known.and_then(|known| known.vm_id()) == Some(vm_id) {
            return Ok(Some(domain));
        }
    }
    Ok(None)
}

/// The domain, if it exists and is ours: nothing else is ever started or stopped.
fn lookup_ours(
    connection: &Connect,
    marks: &Marks,
    action: &'static str,
    vm_id: ObjectId,
) -> Result<VirtDomain, CallError> {
    let domain = lookup(connection, marks, vm_id)?.ok_or(HypervisorError::NotFound(vm_id))?;
    if mark_of(&facts_of(&domain)?, vm_id).is_none() {
        return Err(foreign(action, vm_id).into());
    }
    Ok(domain)
}

/// Which GPUs a VM's definition has, given what it had and whether it runs.
fn choose(
    connection: &Connect,
    spec: &DomainSpec,
    had: Option<(Vec<PciAddress>, bool)>,
) -> Result<Vec<PciAddress>, CallError> {
    let (own, runs) = had.unwrap_or_default();
    let chosen = spec
        .gpus
        .choose(&own, runs, &taken_by_others(connection, spec.vm_id)?);
    chosen.map_err(|free| {
        let too_few = HypervisorError::TooFewGpus {
            vm_id: spec.vm_id,
            asked: spec.gpus.count,
            free,
        };
        too_few.into()
    })
}

/// Devices that all domains but this one have, whosever they are, in their definitions and while they run.
fn taken_by_others(
    connection: &Connect,
    vm_id: ObjectId,
) -> Result<BTreeSet<PciAddress>, CallError> {
    let mut taken = BTreeSet::new();
    for domain in connection.list_all_domains(0)? {
        let domain_id = ObjectId::from_uuid(domain.uuid()?);
        if domain_id == vm_id {
            continue;
        }
        for form in [sys::VIR_DOMAIN_XML_INACTIVE, 0] {
            let xml = match domain.xml_desc(form) {
                Err(error) if error.code().is(ErrorNumber::NoDomain) => continue,
                xml => xml?,
            };
            // What can't be read may have any of them.
            let passed = read_passed(&xml).map_err(|error| HypervisorError::Query {
                action: "find out which devices a domain has",
                message: format!("domain {domain_id}: {error}"),
            })?;
            taken.extend(passed);
        }
    }
    Ok(taken)
}

/// The mark that makes it this VM's domain.
fn mark_of(facts: &DomainFacts, vm_id: ObjectId) -> Option<&Mark> {
    facts.mark.as_ref().filter(|mark| mark.vm_id == vm_id)
}

/// What the persistent definition says: a running guest's own may lag behind it.
fn xml_of(domain: &VirtDomain) -> Result<String, CallError> {
    let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE);
    Ok(xml.or_else(|_| domain.xml_desc(0))?)
}

fn facts_of(domain: &VirtDomain) -> Result<DomainFacts, CallError> {
    read_domain(&xml_of(domain)?).map_err(|error| {
        CallError::Told(HypervisorError::Query {
            action: "read a domain's definition",
            message: error.to_string(),
        })
    })
}

fn ours(facts: &DomainFacts, mark: &Mark, power: PowerState, run_id: Option<u32>) -> Domain {
    Domain {
        vm_id: mark.vm_id,
        adopted: (facts.domain_id != mark.vm_id).then_some(facts.domain_id),
        vm_name: mark.vm_name.clone(),
        stamp: mark.stamp,
        power,
        run_id: run_id.filter(|_| power.is_active()),
        process_id: None,
        vcpus: facts.vcpus,
        memory_mib: facts.memory_mib,
    }
}

/// What goes with a domain's definition. Of one that we made, all that libvirt keeps for it. Of one
/// that was adopted, what undefining would be refused with; what belongs to its disks stays.
fn undefining(facts: &DomainFacts, vm_id: ObjectId) -> u32 {
    let needed = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
    if facts.domain_id == vm_id {
        return needed | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
    }
    let kept = needed | sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
    if facts.devices.iter().any(|device| device == "tpm") {
        return kept | sys::VIR_DOMAIN_UNDEFINE_KEEP_TPM;
    }
    kept
}

/// What a domain does; unknown while libvirt doesn't tell.
fn power_of(domain: &VirtDomain) -> PowerState {
    match domain.state() {
        Ok((now, why)) => power_state(now.to_raw().cast_signed(), raw_reason(why)),
        Err(_) => power_state(0, 0),
    }
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
