//! Guests that exist only in memory: for tests of the real agent, and for hosts by the thousand.
//!
//! A [`SimulatedMachine`] is the host that outlives agents: hand the same one to the next agent and
//! its guests are still running, as real ones would be. [`Fault`]s make its hypervisor slow, failing,
//! silent or deaf, one call at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use virtflow_types::ObjectId;

use super::{
    Adoption, Capabilities, Domain, DomainChange, DomainEvent, EVENT_QUEUE_LEN, ForeignDomain,
    Hypervisor, HypervisorError, OffReason, PowerState, Survey, Usage,
};
use crate::xml::{DomainSpec, PciAddress};

/// A call of the hypervisor, for aiming faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Hypervisor::survey`]
    Survey,
    /// [`Hypervisor::inspect`]
    Inspect,
    /// [`Hypervisor::inspect_foreign`]
    InspectForeign,
    /// [`Hypervisor::disk_sizes`]
    DiskSizes,
    /// [`Hypervisor::adopt`]
    Adopt,
    /// [`Hypervisor::define`]
    Define,
    /// [`Hypervisor::start`]
    Start,
    /// [`Hypervisor::shutdown`]
    Shutdown,
    /// [`Hypervisor::destroy`]
    Destroy,
    /// [`Hypervisor::undefine`]
    Undefine,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing.
    Error,
    /// It does its work and then fails.
    ErrorAfterwards,
    /// It takes this long before it begins.
    Slow(Duration),
    /// It never returns and does nothing.
    Hang,
}

/// How the simulated guests and their hypervisor behave.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How long a guest takes to start.
    pub start_time: Duration,
    /// How long a guest takes to shut down when asked; `None` ignores the request.
    pub shutdown_time: Option<Duration>,
    /// Whether events are delivered.
    pub events: bool,
    /// Whether the hypervisor answers at all.
    pub reachable: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_time: Duration::ZERO,
            shutdown_time: Some(Duration::ZERO),
            events: true,
            reachable: true,
        }
    }
}

/// One thing that was done to a domain, in order, as the machine saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A definition was made or replaced.
    Defined,
    /// A guest process was started.
    Started,
    /// The guest ended, and why.
    Ended(OffReason),
    /// The definition was removed.
    Undefined,
    /// A domain that was there was marked as the VM's.
    Adopted,
}

#[derive(Debug)]
struct World {
    domains: BTreeMap<ObjectId, Domain>,
    foreign: BTreeMap<ObjectId, ForeignDomain>,
    /// Devices that definitions of ours have, by their VMs.
    passed: BTreeMap<ObjectId, Vec<PciAddress>>,
    behaviour: Behaviour,
    faults: Vec<(Call, VecDeque<Fault>)>,
    deeds: Vec<(ObjectId, Deed)>,
    next_run_id: u32,
    surveys: u64,
}

/// A host whose guests are simulated; outlives the agents on it. Cheap to clone, shared.
#[derive(Debug, Clone)]
pub struct SimulatedMachine {
    world: Arc<Mutex<World>>,
    events: broadcast::Sender<DomainEvent>,
}

impl Default for SimulatedMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedMachine {
    /// A machine without guests.
    #[must_use]
    pub fn new() -> Self {
        Self {
            world: Arc::new(Mutex::new(World {
                domains: BTreeMap::new(),
                foreign: BTreeMap::new(),
                passed: BTreeMap::new(),
                behaviour: Behaviour::default(),
                faults: Vec::new(),
                deeds: Vec::new(),
                next_run_id: 1,
                surveys: 0,
            })),
            events: broadcast::Sender::new(EVENT_QUEUE_LEN),
        }
    }

    /// Its hypervisor, for an agent.
    #[must_use]
    pub fn hypervisor(&self) -> Arc<dyn Hypervisor> {
        Arc::new(self.clone())
    }

    /// Changes how guests and hypervisor behave from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.world().behaviour);
    }

    /// Lets the next call of this sort go wrong; faults queue up.
    pub fn inject(&self, call: Call, fault: Fault) {
        let faults = &mut self.world().faults;
        match faults.iter_mut().find(|(of, _)| *of == call) {
            Some((_, queue)) => queue.push_back(fault),
            None => faults.push((call, VecDeque::from([fault]))),
        }
    }

    /// Kills the guest process of a VM, as the kernel or a hand would.
    pub fn kill_guest(&self, vm_id: ObjectId) {
        self.end(vm_id, OffReason::Crashed);
    }

    /// Lets the guest shut itself down.
    pub fn guest_shuts_down(&self, vm_id: ObjectId) {
        self.end(vm_id, OffReason::Shutdown);
    }

    /// Reboots the machine: every guest process is gone, definitions stay.
    pub fn reboot(&self) {
        for domain in self.world().domains.values_mut() {
            domain.power = PowerState::Off(OffReason::Unknown);
            domain.run_id = None;
        }
    }

    /// Puts a small running domain there that isn't ours.
    pub fn add_foreign(&self, domain_id: ObjectId) {
        self.put_foreign(small_foreign(domain_id));
    }

    /// Puts a domain there that isn't ours, in the place of what had its UUID.
    pub fn put_foreign(&self, domain: ForeignDomain) {
        self.world().foreign.insert(domain.domain_id, domain);
    }

    /// Takes a foreign domain away, as a hand would.
    pub fn take_foreign(&self, domain_id: ObjectId) {
        self.world().foreign.remove(&domain_id);
    }

    /// Whether the foreign domain is still there.
    #[must_use]
    pub fn has_foreign(&self, domain_id: ObjectId) -> bool {
        self.world().foreign.contains_key(&domain_id)
    }

    /// Whether a domain with this UUID is there, whosever it is.
    #[must_use]
    pub fn has_domain(&self, domain_id: ObjectId) -> bool {
        let world = self.world();
        let is_it = |domain: &Domain| domain.adopted.unwrap_or(domain.vm_id) == domain_id;
        world.foreign.contains_key(&domain_id) || world.domains.values().any(is_it)
    }

    /// The domain as it is.
    #[must_use]
    pub fn domain(&self, vm_id: ObjectId) -> Option<Domain> {
        self.world().domains.get(&vm_id).cloned()
    }

    /// Devices of the machine that the VM's definition has.
    #[must_use]
    pub fn passed(&self, vm_id: ObjectId) -> Vec<PciAddress> {
        self.world().passed.get(&vm_id).cloned().unwrap_or_default()
    }

    /// What was done to a VM's domain so far.
    #[must_use]
    pub fn deeds(&self, vm_id: ObjectId) -> Vec<Deed> {
        let world = self.world();
        let of_vm = world.deeds.iter().filter(|(id, _)| *id == vm_id);
        of_vm.map(|(_, deed)| *deed).collect()
    }

    /// All domains that are ours.
    #[must_use]
    pub fn domains(&self) -> Vec<Domain> {
        self.world().domains.values().cloned().collect()
    }

    /// What was done to all domains, in order, from the `from`th deed on.
    #[must_use]
    pub fn deeds_from(&self, from: usize) -> Vec<(ObjectId, Deed)> {
        self.world().deeds.iter().skip(from).copied().collect()
    }

    /// How many surveys were answered.
    #[must_use]
    pub fn surveys(&self) -> u64 {
        self.world().surveys
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, world: &World, domain_id: ObjectId, change: DomainChange) {
        if world.behaviour.events {
            // Nobody listening is fine.
            let _ = self.events.send(DomainEvent { domain_id, change });
        }
    }

    fn end(&self, vm_id: ObjectId, reason: OffReason) {
        let mut world = self.world();
        let Some(domain) = world.domains.get_mut(&vm_id) else {
            return;
        };
        if domain.power.is_active() {
            domain.power = PowerState::Off(reason);
            domain.run_id = None;
            world.deeds.push((vm_id, Deed::Ended(reason)));
            self.emit(&world, vm_id, DomainChange::Stopped);
        }
    }

    /// Runs a call with whatever fault is due for it.
    async fn call<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut World) -> Result<T, HypervisorError> + Send,
    ) -> Result<T, HypervisorError> {
        let fault = {
            let mut world = self.world();
            let queue = world.faults.iter_mut().find(|(of, _)| *of == call);
            queue.and_then(|(_, queue)| queue.pop_front())
        };
        let failed = || HypervisorError::Query {
            action: "do what the simulation was asked",
            message: format!("injected fault in {call:?}"),
        };
        match fault {
            Some(Fault::Error) => return Err(failed()),
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::ErrorAfterwards) | None => {}
        }
        let mut world = self.world();
        if !world.behaviour.reachable {
            return Err(HypervisorError::Unavailable {
                endpoint: "simulation".to_owned(),
                message: "it was made unreachable".to_owned(),
            });
        }
        let result = work(&mut world);
        match fault {
            Some(Fault::ErrorAfterwards) => Err(failed()),
            _ => result,
        }
    }
}

#[async_trait]
impl Hypervisor for SimulatedMachine {
    async fn capabilities(&self) -> Result<Capabilities, HypervisorError> {
        Ok(Capabilities {
            driver: "simulated".to_owned(),
            driver_version: env!("CARGO_PKG_VERSION").to_owned(),
            emulator_version: String::new(),
            kvm: true,
            emulation: true,
            security_labels: false,
        })
    }

    async fn survey(&self) -> Result<Survey, HypervisorError> {
        self.call(Call::Survey, |world| {
            world.surveys += 1;
            let domains = world.domains.values();
            Ok(Survey {
                domains: domains.map(|d| (d.clone(), Usage::default())).collect(),
                foreign: world
                    .foreign
                    .values()
                    .map(|domain| (domain.clone(), Usage::default()))
                    .collect(),
            })
        })
        .await
    }

    async fn inspect(&self, vm_id: ObjectId) -> Result<Option<Domain>, HypervisorError> {
        self.call(Call::Inspect, |world| {
            refuse_foreign(world, "inspect", vm_id)?;
            Ok(world.domains.get(&vm_id).cloned())
        })
        .await
    }

    async fn inspect_foreign(
        &self,
        domain_id: ObjectId,
    ) -> Result<Option<ForeignDomain>, HypervisorError> {
        self.call(Call::InspectForeign, |world| {
            Ok(world.foreign.get(&domain_id).cloned())
        })
        .await
    }

    async fn disk_sizes(
        &self,
        domain_id: ObjectId,
    ) -> Result<BTreeMap<String, u64>, HypervisorError> {
        self.call(Call::DiskSizes, |world| {
            let domain = world.foreign.get(&domain_id);
            let domain = domain.ok_or(HypervisorError::NotFound(domain_id))?;
            let disks = domain.disks.iter();
            Ok(disks.map(|disk| (disk.target.clone(), 1 << 30)).collect())
        })
        .await
    }

    async fn adopt(&self, adoption: &Adoption) -> Result<(), HypervisorError> {
        let (domain_id, vm_id) = (adoption.domain_id, adoption.vm_id);
        self.call(Call::Adopt, |world| {
            if let Some(domain) = world.domains.get_mut(&vm_id)
                && domain.adopted == Some(domain_id)
            {
                domain.vm_name = adoption.vm_name.clone();
                domain.stamp = adoption.stamp;
                return Ok(());
            }
            let foreign = world.foreign.remove(&domain_id);
            let foreign = foreign.ok_or(HypervisorError::NotFound(domain_id))?;
            let run_id = foreign.power.is_active().then_some(world.next_run_id);
            world.next_run_id += 1;
            let domain = Domain {
                vm_id,
                adopted: Some(domain_id),
                vm_name: adoption.vm_name.clone(),
                stamp: adoption.stamp,
                power: foreign.power,
                run_id,
                process_id: None,
                vcpus: foreign.vcpus,
                memory_mib: foreign.memory_mib,
            };
            world.domains.insert(vm_id, domain);
            world.deeds.push((vm_id, Deed::Adopted));
            Ok(())
        })
        .await
    }

    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        self.call(Call::Define, |world| {
            refuse_foreign(world, "define", spec.vm_id)?;
            let old = world.domains.get(&spec.vm_id);
            let (power, run_id) = old.map_or((PowerState::Off(OffReason::Unknown), None), |old| {
                (old.power, old.run_id)
            });
            if old.is_some_and(|old| old.adopted.is_some()) {
                return Err(HypervisorError::Failed {
                    action: "define",
                    vm_id: spec.vm_id,
                    message: "its domain was adopted".to_owned(),
                });
            }
            let domain = Domain {
                vm_id: spec.vm_id,
                adopted: None,
                vm_name: spec.vm_name.clone(),
                stamp: spec.stamp,
                power,
                run_id,
                process_id: None,
                vcpus: spec.vcpus,
                memory_mib: spec.memory_mib,
            };
            let passed = chosen(world, spec, power.is_active())?;
            world.passed.insert(spec.vm_id, passed);
            world.domains.insert(spec.vm_id, domain);
            world.deeds.push((spec.vm_id, Deed::Defined));
            self.emit(world, spec.vm_id, DomainChange::Definition);
            Ok(())
        })
        .await
    }

    async fn start(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        let time = self.world().behaviour.start_time;
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        self.call(Call::Start, |world| {
            refuse_foreign(world, "start", vm_id)?;
            let run_id = world.next_run_id;
            let domain = world.domains.get_mut(&vm_id);
            let domain = domain.ok_or(HypervisorError::NotFound(vm_id))?;
            if !domain.power.is_active() {
                domain.power = PowerState::Running;
                domain.run_id = Some(run_id);
                world.next_run_id += 1;
                world.deeds.push((vm_id, Deed::Started));
                self.emit(world, vm_id, DomainChange::Started);
            }
            Ok(())
        })
        .await
    }

    async fn shutdown(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        let time = self
            .call(Call::Shutdown, |world| {
                refuse_foreign(world, "shut down", vm_id)?;
                if !world.domains.contains_key(&vm_id) {
                    return Err(HypervisorError::NotFound(vm_id));
                }
                Ok(world.behaviour.shutdown_time)
            })
            .await?;
        match time {
            Some(Duration::ZERO) => self.end(vm_id, OffReason::Shutdown),
            Some(time) => {
                let machine = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    machine.end(vm_id, OffReason::Shutdown);
                });
            }
            None => {}
        }
        Ok(())
    }

    async fn destroy(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.call(Call::Destroy, |world| {
            refuse_foreign(world, "destroy", vm_id)?;
            if world.domains.contains_key(&vm_id) {
                Ok(())
            } else {
                Err(HypervisorError::NotFound(vm_id))
            }
        })
        .await?;
        self.end(vm_id, OffReason::Destroyed);
        Ok(())
    }

    async fn undefine(&self, vm_id: ObjectId) -> Result<(), HypervisorError> {
        self.call(Call::Undefine, |world| {
            refuse_foreign(world, "undefine", vm_id)?;
            match world.domains.get(&vm_id) {
                Some(domain) if domain.power.is_active() => Err(HypervisorError::Failed {
                    action: "undefine",
                    vm_id,
                    message: "the guest is running".to_owned(),
                }),
                Some(_) => {
                    world.domains.remove(&vm_id);
                    world.passed.remove(&vm_id);
                    world.deeds.push((vm_id, Deed::Undefined));
                    self.emit(world, vm_id, DomainChange::Definition);
                    Ok(())
                }
                None => Ok(()),
            }
        })
        .await
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }
}

/// A running domain with nothing to it.
pub(crate) fn small_foreign(domain_id: ObjectId) -> ForeignDomain {
    ForeignDomain {
        domain_id,
        name: format!("foreign-{domain_id}"),
        power: PowerState::Running,
        autostart: false,
        vcpus: 1,
        memory_mib: 128,
        disks: Vec::new(),
        passed: Vec::new(),
        obstacles: Vec::new(),
    }
}

/// The machine's devices for a definition.
fn chosen(
    world: &World,
    spec: &DomainSpec,
    runs: bool,
) -> Result<Vec<PciAddress>, HypervisorError> {
    let others = world.passed.iter().filter(|(vm, _)| **vm != spec.vm_id);
    let others = others.flat_map(|(_, passed)| passed);
    let foreign = world.foreign.values().flat_map(|domain| &domain.passed);
    let taken = others.chain(foreign).copied().collect();
    let own = world.passed.get(&spec.vm_id).cloned().unwrap_or_default();
    let chosen = spec.gpus.choose(&own, runs, &taken);
    chosen.map_err(|free| HypervisorError::TooFewGpus {
        vm_id: spec.vm_id,
        asked: spec.gpus.count,
        free,
    })
}

fn refuse_foreign(
    world: &World,
    action: &'static str,
    vm_id: ObjectId,
) -> Result<(), HypervisorError> {
    if world.foreign.contains_key(&vm_id) {
        return Err(HypervisorError::Failed {
            action,
            vm_id,
            message: "a domain with this UUID exists that is not VirtFlow's".to_owned(),
        });
    }
    Ok(())
}
