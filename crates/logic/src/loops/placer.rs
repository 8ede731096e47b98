//! Gives pending VMs a host.
//!
//! The inventory is kept between passes and follows the changes that are applied; what one pass decides
//! is booked at once, so that the next VM of the same pass sees it. A binding that the state refuses
//! (a host cordoned meanwhile, a quota cut) costs nothing: the change that caused it is absorbed, and
//! the VM is still pending.

use std::collections::BTreeMap;
use std::sync::Arc;

use virtflow_model::kinds::baremetal::{BaremetalSpec, Health, HostState, Liveness, Rental};
use virtflow_model::kinds::baremetal_group::{BaremetalGroupSpec, GroupState, SchedulingPolicy};
use virtflow_model::kinds::data_center::DataCenterState;
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::{Placement, VirtualMachineSpec, VmPhase};
use virtflow_model::kinds::{
    Baremetal, BaremetalGroup, DataCenter, K8sCluster, Rack, VirtualMachine,
};
use virtflow_model::{Kind, key};
use virtflow_scheduler::{
    Amounts, DIMENSIONS, Group, Host, Inventory, Request, Room, Standing, place as choose,
};
use virtflow_state::{Change, Changeset, Object, State};
use virtflow_types::{Error, ObjectId, RequestId, Timestamp};

use super::nowhere::{Nowhere, not_active, nowhere};
use crate::audit::Entry;
use crate::cx::Cx;
use crate::door::quota_of;
use crate::draft::Draft;
use crate::explain::name_of;
use crate::limits::Limits;
use crate::operations::unfinished;
use crate::typed::decoded;
use crate::vm::{allowed, enter};

/// What one pass took, which the image does not show yet.
#[derive(Debug, Default)]
struct Taken {
    /// Of quotas.
    quotas: BTreeMap<ObjectId, Amounts>,
    /// How many VMs of a cluster or of a tenant are on each host, as far as that was asked; those of this pass are counted.
    kin: BTreeMap<ObjectId, BTreeMap<ObjectId, u32>>,
}

impl Taken {
    fn add(&mut self, quota: ObjectId, demand: Amounts, whose: Option<Kindred>, host: ObjectId) {
        let sum = self.quotas.entry(quota).or_default();
        for (sum, amount) in sum.iter_mut().zip(demand) {
            *sum += amount;
        }
        if let Some(by_host) = whose.and_then(|whose| self.kin.get_mut(&whose.id())) {
            *by_host.entry(host).or_default() += 1;
        }
    }
}

/// Whose VMs are kin of one that is placed.
#[derive(Debug, Clone, Copy)]
enum Kindred {
    Cluster(ObjectId),
    Tenant(ObjectId),
}

impl Kindred {
    const fn id(self) -> ObjectId {
        match self {
            Self::Cluster(id) | Self::Tenant(id) => id,
        }
    }

    /// How many of them are on each host. Read from their keys: a tenant may have very many.
    fn by_host(self, state: &State) -> BTreeMap<ObjectId, u32> {
        let mut by_host = BTreeMap::new();
        let mut count = |vm: &Object| {
            let mut keys = vm.footprint.keys.iter();
            let host = keys.find(|key| key.name == key::VM_HOST);
            if let Some(host) = host.and_then(|host| host.value.parse().ok()) {
                *by_host.entry(host).or_default() += 1;
            }
        };
        match self {
            Self::Cluster(id) => {
                let linked = state.linking_to(id).filter_map(|id| state.get(id));
                linked.for_each(|object| count(object));
            }
            Self::Tenant(id) => {
                let of_tenant = format!("{}/{id}", Kind::VirtualMachine.name());
                let vms = state.by_key(key::TENANT, &of_tenant, None);
                vms.for_each(|object| count(object));
            }
        }
        by_host
    }
}

/// How hosts are chosen for a machine of a cluster: as the cluster says.
pub(crate) fn policy_of(state: &State, spec: &VirtualMachineSpec) -> Option<SchedulingPolicy> {
    let cluster = decoded::<K8sCluster>(state.get(spec.cluster_id?)?).ok()?;
    Some(cluster.spec.scheduling_mode.policy())
}

/// Whose VMs count as kin, if any do where this one may go.
fn kindred(
    inventory: &Inventory,
    vm: &Object,
    spec: &VirtualMachineSpec,
    policy: Option<SchedulingPolicy>,
) -> Option<Kindred> {
    let zones = SchedulingPolicy::ZoneSpread;
    if let Some(cluster) = spec.cluster_id {
        let counts = matches!(policy, Some(SchedulingPolicy::Spread)) || policy == Some(zones);
        return counts.then_some(Kindred::Cluster(cluster));
    }
    let asked = inventory
        .groups()
        .iter()
        .any(|group| group.policy == zones && spec.group_id.is_none_or(|only| only == group.id));
    let tenant = vm.tenant?;
    asked.then_some(Kindred::Tenant(tenant))
}

/// The placer of a leader.
#[derive(Debug)]
pub struct Placer {
    inventory: Inventory,
    /// Pending VMs are looked at in turn: the pass goes on after this one.
    after: Option<ObjectId>,
}

/// One pass with an inventory made for it.
pub fn place(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    Placer::new(state).pass(state, now, limits)
}

/// True if a change may give a pending VM a place, or brings one.
pub fn wakes_placer(change: &Change) -> bool {
    let Some(object) = change.after.as_ref().or(change.before.as_ref()) else {
        return false;
    };
    match Kind::of_name(&object.kind) {
        Some(Kind::VirtualMachine) => {
            let pending = |object: &Arc<Object>| {
                decoded::<VirtualMachine>(object)
                    .is_ok_and(|vm| vm.status.phase == VmPhase::Pending)
            };
            let was_pending = change.before.as_ref().is_some_and(pending);
            match &change.after {
                Some(after) => pending(after) && !was_pending,
                None => true,
            }
        }
        Some(
            Kind::Baremetal
            | Kind::BaremetalGroup
            | Kind::BaremetalGroupTenantQuota
            | Kind::DataCenter
            | Kind::Rack
            | Kind::Tenant,
        ) => true,
        Some(Kind::Residue) => change.after.is_none(),
        _ => false,
    }
}

/// False if the data centre that a host stands in takes no new VMs: that of its rack, or that of its group.
pub(crate) fn data_center_is_open(
    state: &State,
    host: &BaremetalSpec,
    group: &BaremetalGroupSpec,
) -> bool {
    let rack = host.rack_id.and_then(|rack| state.get(rack));
    let of_rack = rack
        .and_then(|rack| decoded::<Rack>(rack).ok())
        .and_then(|rack| rack.spec.data_center_id);
    [of_rack, group.data_center_id]
        .into_iter()
        .flatten()
        .filter_map(|id| state.get(id))
        .filter_map(|object| decoded::<DataCenter>(object).ok())
        .all(|it| it.spec.state == DataCenterState::Active)
}

impl Placer {
    /// A placer that knows the hosts of this image.
    pub fn new(state: &State) -> Self {
        let mut placer = Self {
            inventory: Inventory::new(),
            after: None,
        };
        for group in state.of_kind(Kind::BaremetalGroup.name(), None) {
            placer.refresh_group(group);
        }
        for host in state.of_kind(Kind::Baremetal.name(), None) {
            placer.refresh_host(state, host);
        }
        placer
    }

    /// Follows what was applied; `state` is the image after it.
    pub fn absorb(&mut self, state: &State, changes: &[Change]) {
        let mut touched: Vec<ObjectId> = Vec::new();
        for change in changes {
            let sides = [change.before.as_ref(), change.after.as_ref()];
            for object in sides.into_iter().flatten() {
                match Kind::of_name(&object.kind) {
                    Some(Kind::Baremetal) => touched.push(object.id),
                    Some(Kind::BaremetalGroup) => {
                        self.refresh_group(object);
                        let members = state.by_key(key::HOST_GROUP, &object.id.to_string(), None);
                        touched.extend(members.map(|host| host.id));
                    }
                    Some(Kind::VirtualMachine | Kind::Residue) => {
                        touched.extend(crate::desired::host_of(object));
                    }
                    // Few, and seldom changed.
                    Some(Kind::DataCenter | Kind::Rack) => {
                        let hosts = state.of_kind(Kind::Baremetal.name(), None);
                        touched.extend(hosts.map(|host| host.id));
                    }
                    _ => {}
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            match state.get(id) {
                Some(host) => self.refresh_host(state, host),
                None => self.inventory.remove_host(id),
            }
        }
    }

    /// Notes what a host's heartbeat said: unused memory in MiB and CPU in use in parts per million.
    pub fn set_load(&mut self, host: ObjectId, unused_memory_mib: u64, busy_ppm: u32) {
        self.inventory.set_load(host, unused_memory_mib, busy_ppm);
    }

    /// Hosts it knows.
    pub fn hosts(&self) -> usize {
        self.inventory.hosts().len()
    }

    /// Decides for pending VMs, at most `placements_per_pass` of them, going on where the last pass ended.
    pub fn pass(&mut self, state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
        let most = limits.placements_per_pass;
        let pending = |after| state.by_key(key::VM_PHASE, VmPhase::Pending.name(), after);
        let mut vms: Vec<&Arc<Object>> = pending(self.after).take(most).collect();
        if vms.len() < most && self.after.is_some() {
            let seen = self.after;
            let left = most - vms.len();
            vms.extend(
                pending(None)
                    .take_while(|vm| Some(vm.id) <= seen)
                    .take(left),
            );
        }
        self.after = vms.last().map(|vm| vm.id);
        let mut taken = Taken::default();
        let mut changesets = Vec::new();
        for vm in vms {
            let cx = Cx::system(RequestId::generate(), now);
            let mut draft = Draft::new(state, &cx);
            if self.decide(&mut draft, vm, &mut taken).is_ok() && !draft.is_empty() {
                changesets.push(draft.finish());
            }
        }
        changesets
    }

    fn decide(
        &mut self,
        draft: &mut Draft<'_>,
        vm: &Arc<Object>,
        taken: &mut Taken,
    ) -> Result<(), Error> {
        let typed = decoded::<VirtualMachine>(vm)?;
        let demand = demand_of(&typed.spec);
        let rooms = rooms(draft.state, &self.inventory, vm, &typed.spec, &taken.quotas);
        let policy = policy_of(draft.state, &typed.spec);
        let whose = kindred(&self.inventory, vm, &typed.spec, policy);
        let kin = whose.map(|whose| {
            let counted = taken.kin.entry(whose.id());
            self.inventory
                .kin(counted.or_insert_with(|| whose.by_host(draft.state)))
        });
        let request = Request {
            policy,
            kin: kin.as_ref(),
            pinned: typed.spec.pinned_host_id,
            ..Request::new(demand, &rooms)
        };
        let open = vm
            .tenant
            .and_then(|tenant| draft.state.get(tenant))
            .is_some_and(|tenant| !tenant.closed);
        let chosen = if open {
            choose(&self.inventory, &request)
        } else {
            None
        };
        let Some(host_id) = chosen else {
            let nowhere = if open {
                nowhere(draft.state, &self.inventory, vm, &typed.spec, &request)
            } else {
                not_active(vm)
            };
            return stay_pending(draft, vm, &nowhere);
        };
        let (host, group) = match self.inventory.host(host_id) {
            Some(host) => (host_id, self.inventory.groups()[host.group].id),
            None => return Ok(()),
        };
        let tenant = vm.tenant.unwrap_or(ObjectId::NIL);
        let Some(quota) = quota_of(draft.state, group, tenant).map(|quota| quota.id) else {
            return Ok(());
        };
        bind(draft, vm, host, group, quota)?;
        self.inventory.take(host, demand);
        taken.add(quota, demand, whose, host);
        Ok(())
    }

    fn refresh_group(&mut self, group: &Object) {
        if let Ok(typed) = decoded::<BaremetalGroup>(group) {
            self.inventory.put_group(Group {
                id: group.id,
                policy: typed.spec.scheduling_policy,
            });
        }
    }

    fn refresh_host(&mut self, state: &State, host: &Object) {
        let Ok(typed) = decoded::<Baremetal>(host) else {
            return;
        };
        let group_id = typed.spec.group_id;
        let group = state
            .get(group_id)
            .and_then(|group| decoded::<BaremetalGroup>(group).ok());
        let Some(group) = group else { return };
        let at = self.inventory.put_group(Group {
            id: group_id,
            policy: group.spec.scheduling_policy,
        });
        let balance = balance(state, host.id);
        let total = balance.map(|(limit, _)| limit);
        let free = balance.map(|(limit, used)| limit.saturating_sub(used));
        let standing = match (typed.spec.state, typed.status.liveness, group.spec.state) {
            (HostState::Cordoned, _, _) => Standing::Cordoned,
            (HostState::Draining, _, _) => Standing::Draining,
            (HostState::Maintenance, _, _) => Standing::Maintenance,
            (HostState::Decommissioned, _, _) => Standing::Decommissioned,
            (HostState::Active, Liveness::Never, _) => Standing::NeverSeen,
            (HostState::Active, Liveness::Offline, _) => Standing::Offline,
            (HostState::Active, Liveness::Quarantined, _) => Standing::Quarantined,
            (
                HostState::Active,
                Liveness::Online,
                GroupState::Maintenance | GroupState::Disabled,
            ) => Standing::GroupClosed,
            (HostState::Active, Liveness::Online, GroupState::Active)
                if !data_center_is_open(state, &typed.spec, &group.spec) =>
            {
                Standing::DataCenterClosed
            }
            (HostState::Active, Liveness::Online, GroupState::Active) => {
                match (typed.spec.rental, typed.status.health) {
                    (Rental::Exclusive, _) => Standing::Exclusive,
                    (Rental::Shared, Health::Critical) => Standing::Unhealthy,
                    (Rental::Shared, Health::Unknown | Health::Healthy | Health::Warning) => {
                        Standing::Ready
                    }
                }
            }
        };
        self.inventory.put_host(Host {
            id: host.id,
            group: at,
            zone: typed.spec.rack_id.unwrap_or(ObjectId::NIL),
            standing,
            total,
            free,
            unused_memory_mib: u64::MAX,
            busy_ppm: 0,
        });
    }

    pub(crate) fn inventory(&self) -> &Inventory {
        &self.inventory
    }
}

/// Limit and use of an object's accounts in the order of [`DIMENSIONS`]; zero where it has none. One walk over
/// its accounts, for there may be ten thousand objects to ask for.
pub(crate) fn balance(state: &State, owner: ObjectId) -> [(u64, u64); DIMENSIONS.len()] {
    let mut balance = [(0, 0); DIMENSIONS.len()];
    for (dimension, limit, used) in state.balances_of(owner) {
        if let Some(at) = DIMENSIONS.iter().position(|name| *dimension == *name) {
            balance[at] = (limit, used);
        }
    }
    balance
}

/// What a VM takes of a host.
pub(crate) fn demand_of(spec: &VirtualMachineSpec) -> Amounts {
    [
        u64::from(spec.cpu_cores) * 1000,
        spec.memory_mib,
        spec.storage_gib,
        u64::from(spec.gpu_count),
    ]
}

/// What the VM's tenant has left of each group's quota.
pub(crate) fn rooms(
    state: &State,
    inventory: &Inventory,
    vm: &Object,
    spec: &VirtualMachineSpec,
    taken: &BTreeMap<ObjectId, Amounts>,
) -> Vec<Room> {
    let tenant = vm.tenant.unwrap_or(ObjectId::NIL);
    inventory
        .groups()
        .iter()
        .map(|group| {
            if spec.group_id.is_some_and(|only| only != group.id) {
                return Room::Closed;
            }
            let Some(quota) = quota_of(state, group.id, tenant) else {
                return Room::Closed;
            };
            let mut left = balance(state, quota.id).map(|(limit, used)| limit.saturating_sub(used));
            if let Some(taken) = taken.get(&quota.id) {
                for (left, taken) in left.iter_mut().zip(taken) {
                    *left = left.saturating_sub(*taken);
                }
            }
            Room::Left(left)
        })
        .collect()
}

/// Binds a VM to a host: charges, links and the next placement epoch follow from the status.
fn bind(
    draft: &mut Draft<'_>,
    vm: &Arc<Object>,
    host: ObjectId,
    group: ObjectId,
    quota: ObjectId,
) -> Result<(), Error> {
    let now = draft.cx.now;
    let bound = draft.update::<VirtualMachine>(vm.id, |spec, status| {
        status.placement = Some(Placement {
            host_id: host,
            group_id: group,
            quota_id: quota,
            placed_at: now,
            adopted_domain: None,
        });
        status.placement_epoch += 1;
        let deadline = allowed(VmPhase::Creating, spec.grace_s);
        enter(status, VmPhase::Creating, now, deadline, "", "");
    })?;
    let name = name_of(draft.state, host);
    let message = format!("placed on host `{name}`, which makes it");
    for operation in unfinished(draft.state, vm.id) {
        draft.advance(operation.id, OperationState::Running, 30, &message, None)?;
    }
    draft.audit(&Entry {
        action: "virtual_machine.place",
        object: &bound,
        before: None,
        note: &message,
    });
    Ok(())
}

/// Notes the reason on the VM and on who waits for it, if it is news.
fn stay_pending(draft: &mut Draft<'_>, vm: &Arc<Object>, nowhere: &Nowhere) -> Result<(), Error> {
    draft.update::<VirtualMachine>(vm.id, |_, status| {
        nowhere.reason.clone_into(&mut status.reason);
        status.message.clone_from(&nowhere.error.message);
    })?;
    for operation in unfinished(draft.state, vm.id) {
        draft.advance(
            operation.id,
            OperationState::Pending,
            0,
            &nowhere.error.message,
            Some(nowhere.error.clone()),
        )?;
    }
    Ok(())
}
