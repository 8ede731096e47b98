//! What must be true when a run begins, when it ends, and of all that its clients were told.

use std::collections::{BTreeMap, BTreeSet};

use virtflow_logic::decoded;
use virtflow_model::Kind;
use virtflow_model::kinds::baremetal::Liveness;
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Baremetal, Operation, VirtualMachine};
use virtflow_raft::MemberRole;

use super::catalogue::Told;
use super::controller::lock;
use super::ledger::Ledger;
use super::world::World;
use super::{skew, witness};

/// All members vote, all hosts are seen.
pub(crate) fn stands(world: &World) -> bool {
    let Some(app) = world
        .controllers
        .iter()
        .filter_map(|machine| lock(&machine.app).clone())
        .find(|app| app.leads())
    else {
        return false;
    };
    let members = app.node().members();
    let voters = members.iter().filter(|m| m.role == MemberRole::Voter);
    voters.count() == world.controllers.len()
        && hosts_online(&app.node().image()) == world.hosts.len()
}

fn hosts_online(image: &virtflow_state::State) -> usize {
    image
        .of_kind(Kind::Baremetal.name(), None)
        .filter(|row| {
            decoded::<Baremetal>(row).is_ok_and(|host| host.status.liveness == Liveness::Online)
        })
        .count()
}

/// One leader, equal members, every VM and operation at an end, every host seen.
pub(crate) fn rests(world: &World) -> Result<(), String> {
    let waiting = lock(&world.notes).waiting;
    if waiting > 0 {
        return Err(format!("{waiting} requests have no answer yet"));
    }
    let mut images = Vec::new();
    let mut leaders = 0;
    for machine in &world.controllers {
        let Some(app) = lock(&machine.app).clone() else {
            return Err(format!("{} does not run", machine.name));
        };
        leaders += usize::from(app.leads());
        images.push((machine.name.clone(), app.node().image()));
    }
    for machine in &world.controllers {
        let app = lock(&machine.app).clone();
        let voters = app.map(|app| {
            let members = app.node().members();
            members
                .iter()
                .filter(|m| m.role == MemberRole::Voter)
                .count()
        });
        if voters != Some(world.controllers.len()) {
            return Err(format!("{} knows {voters:?} voters", machine.name));
        }
    }
    if leaders != 1 {
        return Err(format!("{leaders} controllers lead"));
    }
    let Some((_, image)) = images.iter().max_by_key(|(_, image)| image.index()) else {
        return Err("there are no controllers".into());
    };
    for (name, other) in &images {
        if (other.index(), other.digest()) != (image.index(), image.digest()) {
            return Err(format!(
                "{name} is at {}, another at {}",
                other.index(),
                image.index()
            ));
        }
    }
    let supported = world
        .controllers
        .iter()
        .map(|machine| skew::supported_by(&machine.name));
    if Some(image.cluster_version()) != supported.clone().min() {
        return Err(format!(
            "the cluster version is {}, its members support {:?}",
            image.cluster_version(),
            supported.collect::<Vec<_>>()
        ));
    }
    let online = hosts_online(image);
    if online != world.hosts.len() {
        return Err(format!("{online} hosts are online"));
    }
    for row in image.of_kind(Kind::VirtualMachine.name(), None) {
        if let Ok(vm) = decoded::<VirtualMachine>(row)
            && (vm.status.phase.is_transitional() || vm.status.phase == VmPhase::Unknown)
        {
            return Err(format!("VM {} is {}", row.name, vm.status.phase.name()));
        }
    }
    for row in image.of_kind(Kind::Operation.name(), None) {
        if let Ok(operation) = decoded::<Operation>(row)
            && !matches!(
                operation.status.state,
                OperationState::Completed | OperationState::Failed | OperationState::Cancelled
            )
            && !waits_for_room(image, &operation)
        {
            return Err(format!(
                "an operation is {:?}: {}",
                operation.status.state, row.spec
            ));
        }
    }
    Ok(())
}

/// A VM that fits nowhere stays pending, and its operation with it.
fn waits_for_room(
    image: &virtflow_state::State,
    operation: &virtflow_logic::Typed<Operation>,
) -> bool {
    let vm = image.get(operation.spec.target_id);
    vm.and_then(|row| decoded::<VirtualMachine>(row).ok())
        .is_some_and(|vm| vm.status.phase == VmPhase::Pending)
}

/// A controller stopped by itself: only a sick disk is a reason.
pub(crate) fn stopped(ledger: &mut Ledger, name: &str, reason: &str) {
    let sick = [
        "no space left",
        "input/output error",
        "the shadow",
        "simulated shadow",
    ];
    if !sick.iter().any(|word| reason.contains(word)) {
        ledger.violation(format!("{name} stopped by itself: {reason}"));
    }
}

/// The history against the ledger.
pub(crate) fn whole_run(world: &World) {
    let mut ledger = lock(&world.ledger);
    let notes = lock(&world.notes);
    ledger.check_whole();
    for wrong in &notes.wrong {
        ledger.violation(format!("a client was told: {wrong}"));
    }
    let streams = lock(&world.streams);
    let mut found = orders(&ledger, &notes.orders);
    found.extend(told(&ledger, &notes.told));
    found.extend(witness::check(&ledger, &notes.steps, &streams));
    for found in found {
        ledger.violation(found);
    }
}

/// One key, one VM at most; whatever was acknowledged was made.
fn orders(ledger: &Ledger, orders: &[super::clients::Ordered]) -> Vec<String> {
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in ledger.entries.values() {
        for left in &entry.objects {
            if left.kind == Kind::VirtualMachine.name() && left.spec.is_some() {
                made.entry(left.id.to_string())
                    .or_default()
                    .insert(left.name.clone());
            }
        }
    }
    let mut found = Vec::new();
    for order in orders {
        if order.ids.len() > 1 {
            found.push(format!("key {} made {:?}", order.key, order.ids));
        }
        for id in &order.ids {
            match made.get(id) {
                Some(names) if names.contains(&order.name) => {}
                _ => found.push(format!(
                    "VM {id} was acknowledged under key {} and stands in no entry",
                    order.key
                )),
            }
        }
    }
    found
}

/// What was acknowledged of any kind stands in the log.
fn told(ledger: &Ledger, told: &[Told]) -> Vec<String> {
    let mut made: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut gone = made.clone();
    for left in ledger.entries.values().flat_map(|entry| &entry.objects) {
        let object = (left.kind.as_str(), left.id.to_string());
        match left.spec {
            Some(_) => made.insert(object),
            None => gone.insert(object),
        };
    }
    let mut found = Vec::new();
    for Told { kind, id, is_there } in told {
        let (what, stands) = match is_there {
            true => ("made", &made),
            false => ("deleted", &gone),
        };
        if !stands.contains(&(*kind, id.clone())) {
            found.push(format!(
                "{kind} {id} was acknowledged as {what} and stands so in no entry"
            ));
        }
    }
    found
}
