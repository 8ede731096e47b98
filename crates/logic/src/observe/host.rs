//! What is seen of hosts: coming, going, changing, and two machines with one key.

use serde_json::Value;
use virtflow_model::kinds::baremetal::{
    BaremetalSpec, BaremetalStatus, Foreign, HostState, Liveness,
};
use virtflow_model::kinds::{Baremetal, BaremetalGroup, Controller};
use virtflow_model::space;
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::audit::Entry;
use crate::cx::{Cx, unauthenticated};
use crate::draft::Draft;
use crate::explain::explain_changeset;
use crate::foreign;
use crate::limits::{FACTS_BYTES_MAX, Limits};
use crate::loops::{lose_vm, packed, unsettled};
use crate::typed::decoded;

/// An agent that introduces itself.
#[derive(Debug, Clone)]
pub struct HostHello {
    /// The host its certificate names.
    pub host_id: ObjectId,
    /// Fingerprint of its certificate's key, hexadecimal.
    pub key_fingerprint: String,
    /// Its kernel's boot id.
    pub boot_id: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Where it is reached, as it believes.
    pub management_address: Option<String>,
    /// What it has.
    pub inventory: HostInventory,
}

/// What a host has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostInventory {
    /// Schedulable CPU before overcommit, thousandths.
    pub cpu_milli: u64,
    /// Schedulable memory before overcommit, MiB.
    pub memory_mib: u64,
    /// Schedulable storage before overcommit, GiB.
    pub storage_gib: u64,
    /// GPUs that it hands out.
    pub gpus: u64,
    /// Domains that are not ours; `None` if it did not tell.
    pub foreign: Option<Foreign>,
    /// The rest, which nothing decides by.
    pub facts: Value,
}

/// The host whose key this is.
pub fn host_of_key(state: &State, key_fingerprint: &str) -> Option<ObjectId> {
    let holder = state.holder(space::PUBLIC_KEY, key_fingerprint.as_bytes())?;
    decoded::<Baremetal>(holder).ok().map(|_| holder.id)
}

/// Whether a certificate that names this host with this key is worth anything now.
pub fn host_admitted(
    state: &State,
    host: ObjectId,
    key_fingerprint: &str,
) -> Result<(), &'static str> {
    let object = state
        .get(host)
        .ok_or("the host is not known, or was removed")?;
    let typed = decoded::<Baremetal>(object).map_err(|_| "no host has this id")?;
    if typed.status.key_fingerprint != key_fingerprint {
        return Err("the host has another key now");
    }
    if typed.spec.state == HostState::Decommissioned {
        return Err("the host is decommissioned");
    }
    Ok(())
}

/// Whether a certificate that names this controller with this key is worth anything now.
pub fn controller_admitted(
    state: &State,
    store_id: ObjectId,
    key_fingerprint: &str,
) -> Result<(), &'static str> {
    let object = state.get(store_id).ok_or("the controller is not known")?;
    let typed = decoded::<Controller>(object).map_err(|_| "no controller has this id")?;
    if typed.status.removed {
        return Err("the controller was removed");
    }
    if typed.spec.key_fingerprint != key_fingerprint {
        return Err("the controller has another key");
    }
    Ok(())
}

/// Grants a host its session: it is online, and its epoch is a new one unless it never went away.
/// The changeset has no ops if nothing changed.
pub fn host_online(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    hello: &HostHello,
) -> Result<(Changeset, u64), Error> {
    host_admitted(state, hello.host_id, &hello.key_fingerprint).map_err(unauthenticated)?;
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    let before = draft.typed::<Baremetal>(hello.host_id)?;
    if before.status.liveness == Liveness::Quarantined {
        return Err(Error::new(
            ErrorCode::Forbidden,
            "the host is quarantined: two machines showed its key at once",
        )
        .advise("find out which one is right, then `virtflow host release-quarantine`"));
    }
    let mut inventory = hello.inventory.clone();
    inventory.foreign = inventory
        .foreign
        .map(|told| foreign::taken_in(&draft, hello.host_id, told));
    if let (Some(address), Value::Object(facts)) = (&hello.management_address, &mut inventory.facts)
    {
        facts.insert("management_address".into(), address.as_str().into());
    }
    check_inventory(&inventory)?;
    let stayed =
        before.status.liveness == Liveness::Online && before.status.boot_id == hello.boot_id;
    let object = draft.update::<Baremetal>(hello.host_id, |spec, status| {
        if !stayed {
            status.host_epoch += 1;
            status.liveness_since = now;
        }
        status.liveness = Liveness::Online;
        status.boot_id.clone_from(&hello.boot_id);
        status.agent_version.clone_from(&hello.agent_version);
        take_inventory(state, spec, status, &inventory);
    })?;
    let epoch = draft.typed::<Baremetal>(hello.host_id)?.status.host_epoch;
    if !stayed {
        draft.audit(&Entry {
            action: "baremetal.online",
            object: &object,
            before: None,
            note: &format!("granted host epoch {epoch}"),
        });
    }
    let changeset = checked(state, draft)?;
    Ok((changeset, epoch))
}

/// Notes a changed inventory of a host.
pub fn inventory_changed(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    host: ObjectId,
    inventory: &HostInventory,
) -> Result<Changeset, Error> {
    check_inventory(inventory)?;
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    let before = draft.typed::<Baremetal>(host)?;
    let mut inventory = inventory.clone();
    inventory.foreign = inventory
        .foreign
        .map(|told| foreign::taken_in(&draft, host, told));
    // The address came with the introduction and still holds.
    let address = before.status.inventory.get("management_address").cloned();
    if let (Some(address), Value::Object(facts)) = (address, &mut inventory.facts) {
        facts.entry("management_address").or_insert(address);
    }
    let object = draft.update::<Baremetal>(host, |spec, status| {
        take_inventory(state, spec, status, &inventory);
    })?;
    draft.audit(&Entry {
        action: "baremetal.inventory",
        object: &object,
        before: None,
        note: "its agent reports other capacity or facts",
    });
    checked(state, draft)
}

/// A host's lease ran out: it is offline, its VMs unknown. Empty if it was not online under that epoch.
pub fn host_offline(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    host: ObjectId,
    host_epoch: u64,
) -> Vec<Changeset> {
    let is_that = |status: &BaremetalStatus| {
        status.liveness == Liveness::Online && status.host_epoch == host_epoch
    };
    silence(state, request_id, now, host, is_that, Liveness::Offline)
}

/// Two boots showed one key at once: nothing the host says is believed until an operator decides.
pub fn host_quarantine(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    host: ObjectId,
) -> Vec<Changeset> {
    let is_that = |status: &BaremetalStatus| status.liveness != Liveness::Quarantined;
    silence(state, request_id, now, host, is_that, Liveness::Quarantined)
}

fn silence(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    host: ObjectId,
    is_that: impl Fn(&BaremetalStatus) -> bool,
    liveness: Liveness,
) -> Vec<Changeset> {
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    let edge = draft.typed::<Baremetal>(host).and_then(|typed| {
        if !is_that(&typed.status) {
            return Ok(());
        }
        let object = draft.update::<Baremetal>(host, |_, status| {
            status.liveness = liveness;
            status.liveness_since = now;
        })?;
        let (action, note) = match liveness {
            Liveness::Quarantined => ("baremetal.quarantine", "two boots showed its key at once"),
            Liveness::Never | Liveness::Online | Liveness::Offline => {
                ("baremetal.offline", "its lease ran out")
            }
        };
        draft.audit(&Entry {
            action,
            object: &object,
            before: None,
            note,
        });
        Ok(())
    });
    if edge.is_err() || draft.is_empty() {
        return Vec::new();
    }
    let limits = Limits::default();
    let mut changesets = vec![draft.finish()];
    changesets.extend(packed(state, now, &limits, unsettled(state, host), lose_vm));
    changesets
}

fn check_inventory(inventory: &HostInventory) -> Result<(), Error> {
    let bytes = inventory.facts.to_string().len();
    if bytes > FACTS_BYTES_MAX {
        return Err(Error::invalid(
            "inventory",
            format!("has {bytes} bytes, at most {FACTS_BYTES_MAX} are kept"),
        ));
    }
    Ok(())
}

fn take_inventory(
    state: &State,
    spec: &BaremetalSpec,
    status: &mut BaremetalStatus,
    inventory: &HostInventory,
) {
    status.cpu_milli = inventory.cpu_milli;
    status.memory_mib = inventory.memory_mib;
    status.storage_gib = inventory.storage_gib;
    status.gpus = inventory.gpus;
    status.inventory = inventory.facts.clone();
    // One that did not tell may not know: then they are as they were.
    if let Some(foreign) = &inventory.foreign {
        status.foreign = foreign.clone();
    }
    if let Some([cpu_milli, memory_mib, storage_gib]) = schedulable(state, spec, status) {
        status.schedulable_cpu_milli = cpu_milli;
        status.schedulable_memory_mib = memory_mib;
        status.schedulable_storage_gib = storage_gib;
    }
}

/// What a host may hand out: what it reported, times its group's overcommit.
pub(crate) fn schedulable(
    state: &State,
    spec: &BaremetalSpec,
    status: &BaremetalStatus,
) -> Option<[u64; 3]> {
    let group = decoded::<BaremetalGroup>(state.get(spec.group_id)?).ok()?;
    let times = |amount: u64, percent: u32| {
        let product = u128::from(amount) * u128::from(percent) / 100;
        u64::try_from(product).unwrap_or(u64::MAX)
    };
    Some([
        times(status.cpu_milli, group.spec.cpu_overcommit_percent),
        times(status.memory_mib, group.spec.memory_overcommit_percent),
        times(status.storage_gib, group.spec.storage_overcommit_percent),
    ])
}

/// The changeset, if the state would take it.
pub(crate) fn checked(state: &State, draft: Draft<'_>) -> Result<Changeset, Error> {
    let changeset = draft.finish();
    if !changeset.ops.is_empty() {
        state
            .check(&changeset)
            .map_err(|refused| explain_changeset(state, &changeset, &refused))?;
    }
    Ok(changeset)
}
