//! Making a VM of a domain that a host has already. What it is comes from what its host told of it, never from who asks.

use serde_json::{Value, json};
use virtflow_model::kinds::baremetal::{ForeignDomain, ForeignState, HostState, Liveness, Rental};
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::{
    Placement, Power, VirtualMachineSpec, VirtualMachineStatus, VmPhase,
};
use virtflow_model::kinds::{Baremetal, VirtualMachine};
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_policy::Target;
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode, Name, ObjectId};

use super::create::{id_in, place};
use super::vm_create::fill_user_group;
use super::{Done, Outcome, parse_spec, references};
use crate::audit::Entry;
use crate::door::{Door, forbidden, quota_of};
use crate::draft::Draft;
use crate::explain::{call, check_group_quota, no_group_quota};
use crate::foreign::vm_of;
use crate::limits::OPERATION_MAX;
use crate::loops::demand_of;
use crate::operations::verb;
use crate::request::{Adopt, Create};
use crate::typed::{Typed, decoded};
use crate::vm::{allowed, enter};

/// What the host tells, and nobody who asks.
const TOLD_BY_HOST: &[&str] = &[
    "cpu_cores",
    "memory_mib",
    "storage_gib",
    "power",
    "specification",
    "specification_id",
];

/// Who may: whoever operates the host, and may make VMs in the tenant.
pub(crate) fn run<'a>(door: &Door<'a>, adopt: &Adopt) -> Done<'a> {
    let host = door.find(Kind::Baremetal, &adopt.host, None)?;
    let manage = Permission::new(Kind::Baremetal, Action::Manage);
    let mut draft = door.draft_for(manage, &host)?;
    let domain = find(door, &host, &adopt.domain)?;
    let mut create = Create::new(
        Kind::VirtualMachine,
        adopt.name.as_deref().unwrap_or(&domain.name),
        adopt.spec.clone(),
    );
    create.tenant.clone_from(&adopt.tenant);
    let place = place::<VirtualMachine>(door, &create).map_err(|error| {
        match Name::new(&domain.name).is_err() && adopt.name.is_none() {
            true => error.advise("give the VM another name than the domain's"),
            false => error,
        }
    })?;
    let tenant = place.tenant.unwrap_or(ObjectId::NIL);
    let permission = Permission::new(Kind::VirtualMachine, Action::Create);
    door.admit(
        permission,
        &Target::new(Kind::VirtualMachine, vec![tenant]),
        || forbidden(permission),
    )?;
    door.refuse_if_read_only(place.tenant)?;
    let typed = decoded::<Baremetal>(&host)?;
    refuse_host(&host, &typed)?;
    refuse_domain(&draft, &host, &domain)?;
    let spec = spec(door, &host, &typed, tenant, create.spec, &domain)?;
    let quota = quota_of(door.state, typed.spec.group_id, tenant)
        .ok_or_else(|| no_group_quota(door.state, tenant, Some(typed.spec.group_id)))?
        .id;
    check_group_quota(door.state, typed.spec.group_id, tenant, demand_of(&spec))?;

    let now = door.cx.now;
    let mut status = VirtualMachineStatus {
        charged_user_id: door.cx.user_id(),
        placement_epoch: 1,
        placement: Some(Placement {
            host_id: host.id,
            group_id: typed.spec.group_id,
            quota_id: quota,
            placed_at: now,
            adopted_domain: Some(domain.domain_id),
        }),
        ..VirtualMachineStatus::default()
    };
    let deadline = allowed(VmPhase::Creating, spec.grace_s);
    enter(&mut status, VmPhase::Creating, now, deadline, "", "");
    status.phase_since = now;
    let vm = draft.create::<VirtualMachine>(place, spec, status)?;
    draft.recount_foreign(host.id, Some(domain.domain_id))?;
    let action = verb::<VirtualMachine>("adopt");
    let message = format!("host `{}` takes the domain over", host.name);
    let operation = draft.begin(&action, &vm, 0, &message, OPERATION_MAX)?;
    draft.advance(operation.id, OperationState::Running, 30, &message, None)?;
    let note = format!("was domain `{}` {}", domain.name, domain.domain_id);
    draft.audit(&Entry {
        action: "baremetal.adopt",
        object: &host,
        before: None,
        note: &format!("{} {note}", call(&vm)),
    });
    let operation = draft.get(operation.id).unwrap_or(operation);
    let outcome = Outcome::new(action, 202, vm).operation(operation);
    Ok((draft, outcome.note(note)))
}

/// A domain by UUID, or by its name, of which a host has each once.
fn find(door: &Door<'_>, host: &Object, named: &str) -> Result<ForeignDomain, Error> {
    let foreign = &decoded::<Baremetal>(host)?.status.foreign;
    let id = named.parse::<ObjectId>().ok();
    let by_id = |domain: &&ForeignDomain| Some(domain.domain_id) == id;
    let by_name = |domain: &&ForeignDomain| domain.name == named;
    let domains = || foreign.domains.iter();
    let found = domains().find(by_id).or_else(|| domains().find(by_name));
    if let Some(found) = found {
        return Ok(found.clone());
    }
    if let Some(vm) = id.and_then(|id| vm_of(&Draft::new(door.state, door.cx), host.id, id)) {
        return Err(already(host, named, vm));
    }
    let most = match foreign.unlisted {
        0 => String::new(),
        more => format!(" ({more} more are there that are not listed)"),
    };
    Err(Error::not_found("domain", named).advise(format!(
        "`virtflow host domains {}` shows what the host has{most}; a domain that was made a moment ago is told within seconds",
        host.name
    )))
}

fn already(host: &Object, domain: &str, vm: ObjectId) -> Error {
    Error::new(
        ErrorCode::AlreadyExists,
        format!("the domain `{domain}` of {} is VM {vm} already", call(host)),
    )
    .advise("use that VM")
}

/// A host that is not heard may have another domain by now; one that is being emptied or taken out takes nothing.
/// Cordoned is as good as active: what is there is there.
fn refuse_host(host: &Object, typed: &Typed<Baremetal>) -> Result<(), Error> {
    let conflict = |problem: &str, advice: &str| {
        Err(Error::new(ErrorCode::Conflict, format!("{} {problem}", call(host))).advise(advice))
    };
    match (typed.spec.state, typed.status.liveness) {
        (HostState::Draining | HostState::Maintenance | HostState::Decommissioned, _) => {
            let problem = format!("is {}: nothing is put on it", typed.spec.state.name());
            return conflict(&problem, "make it active or cordoned first");
        }
        (HostState::Active | HostState::Cordoned, Liveness::Online) => {}
        (HostState::Active | HostState::Cordoned, _) => {
            let problem = format!(
                "is {}: what it told may be over",
                typed.status.liveness.name()
            );
            return conflict(
                &problem,
                "see that its agent runs, and ask again when it is online",
            );
        }
    }
    if typed.spec.rental == Rental::Exclusive {
        return conflict(
            "is rented as a whole and takes no VMs",
            "make its rental shared first",
        );
    }
    Ok(())
}

fn refuse_domain(draft: &Draft<'_>, host: &Object, domain: &ForeignDomain) -> Result<(), Error> {
    if let Some(vm) = vm_of(draft, host.id, domain.domain_id) {
        return Err(already(host, &domain.name, vm));
    }
    if domain.obstacles.is_empty() {
        return Ok(());
    }
    let reasons: Vec<&str> = domain.obstacles.iter().map(|o| reason(o)).collect();
    Err(Error::new(
        ErrorCode::Conflict,
        format!(
            "the domain `{}` cannot be adopted: {}",
            domain.name,
            reasons.join("; ")
        ),
    )
    .advise("change that on the host, and ask again when `virtflow host domains` shows it so")
    .with_details(json!({"obstacles": domain.obstacles}).to_string()))
}

/// An agent's word for what is in the way, for people.
fn reason(obstacle: &str) -> &str {
    match obstacle {
        "transient" => {
            "it has no definition, so that it would be gone once it stops (`virsh define` it)"
        }
        "passthrough" => "it has a device of the host for itself, which no VM can have",
        "other_hypervisor" => "it is no guest of QEMU's",
        "unreadable_definition" => "the agent cannot read its definition",
        "unknown_disk_size" => {
            "the size of one of its disks is not known, so that nobody can be charged for it"
        }
        other => other,
    }
}

/// The VM's spec: what its owner says, and what its host told.
fn spec(
    door: &Door<'_>,
    host: &Object,
    typed: &Typed<Baremetal>,
    tenant: ObjectId,
    mut spec: Value,
    domain: &ForeignDomain,
) -> Result<VirtualMachineSpec, Error> {
    let Value::Object(fields) = &spec else {
        return Err(Error::invalid("spec", "must be an object"));
    };
    if let Some(field) = TOLD_BY_HOST
        .iter()
        .find(|field| fields.contains_key(**field))
    {
        return Err(Error::invalid(
            format!("spec.{field}"),
            "is what the host tells of the domain; leave it out",
        ));
    }
    references::resolve(door, Kind::VirtualMachine, &mut spec, None, Some(tenant))?;
    fill_user_group(door, &mut spec, tenant)?;
    if id_in(&spec, "group_id").is_some_and(|group| group != typed.spec.group_id) {
        return Err(Error::invalid(
            "spec.group",
            format!("is another group than that of {}", call(host)),
        )
        .advise("leave it out, or name the host's own"));
    }
    let mut spec = parse_spec::<VirtualMachineSpec>(&spec)?;
    spec.cpu_cores = domain.cpu_cores;
    spec.memory_mib = domain.memory_mib;
    spec.storage_gib = domain.storage_gib;
    spec.power = match domain.state {
        ForeignState::Off => Power::Stopped,
        ForeignState::Running | ForeignState::Paused | ForeignState::Stopping => Power::Running,
    };
    VirtualMachine::validate(&spec)?;
    Ok(spec)
}
