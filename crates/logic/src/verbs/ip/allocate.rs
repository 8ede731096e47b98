//! Giving addresses of a pool to a VM: the lowest that can be had, or those that are asked for; several in a row are
//! one range, which goes back as a whole.

use std::sync::Arc;

use virtflow_model::kinds::ip_address::{AddressState, IpAddressSpec, IpAddressStatus, in_pool};
use virtflow_model::kinds::ip_pool::PoolState;
use virtflow_model::kinds::{IpAddress, IpPool, VirtualMachine};
use virtflow_model::net::Address;
use virtflow_model::{Action, Kind, Permission, key, space};
use virtflow_policy::Target;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::{refuse, rows_of};
use crate::door::{Door, forbidden};
use crate::draft::{Place, internal};
use crate::explain::call;
use crate::limits::ADDRESSES_PER_VM_MAX;
use crate::request::AllocateAddress;
use crate::typed::{Typed, decoded};
use crate::verbs::create::to_value;
use crate::verbs::rules::{self, Writing};
use crate::verbs::{Done, Outcome};
use crate::vm::refuse_leaving;

/// An address that can be had: one that has a row, or one that gets its first.
enum Free {
    Row(ObjectId),
    New(Address),
}

impl Free {
    fn address(&self, state: &State) -> Result<Address, Error> {
        match self {
            Self::New(address) => Ok(*address),
            Self::Row(id) => {
                let row = state
                    .get(*id)
                    .ok_or_else(|| internal("an address has no row"))?;
                Ok(decoded::<IpAddress>(row)?.spec.address)
            }
        }
    }
}

pub(crate) fn allocate<'a>(door: &Door<'a>, asked: &AllocateAddress) -> Done<'a> {
    let tenant = door.tenant(asked.tenant.as_deref())?;
    let vm = door.find(Kind::VirtualMachine, &asked.vm, tenant)?;
    // The tenant's own pools come first, then the cloud's.
    let pool = door
        .find(Kind::IpPool, &asked.pool, vm.tenant)
        .or_else(|_| door.find(Kind::IpPool, &asked.pool, None))?;
    let permission = Permission::new(Kind::IpAddress, Action::Create);
    let mut scopes = door.chain(vm.id);
    scopes.extend(door.chain(pool.id));
    let target = Target::new(Kind::IpAddress, scopes);
    let mut draft = door.draft(permission, &target, || forbidden(permission))?;
    door.refuse_if_read_only(vm.tenant)?;
    let typed_pool = decoded::<IpPool>(&pool)?;
    refuse_vm(door.state, &vm, &pool, asked)?;
    if typed_pool.spec.state != PoolState::Active {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!(
                "{} is {}: it gives nothing",
                call(&pool),
                typed_pool.spec.state.name()
            ),
        )
        .advise("name another pool, or make it active"));
    }
    let now = door.cx.now;
    if asked.leased_until.is_some_and(|until| until <= now) {
        return Err(Error::invalid(
            "leased_until",
            "has passed already: name a later time",
        ));
    }
    let free = match (&asked.address, asked.count) {
        (Some(text), 1) => vec![named(door.state, &pool, &typed_pool, text)?],
        (None, 1) => lowest_free(door.state, &pool, &typed_pool)?
            .into_iter()
            .collect(),
        _ => free_in_a_row(door.state, &pool, &typed_pool, asked)?,
    };
    if free.is_empty() {
        let problem = match asked.count {
            1 => format!(
                "is full: none of its {} addresses can be had",
                typed_pool.spec.size()
            ),
            many => format!(
                "has no {many} in a row that can be had among its {} addresses",
                typed_pool.spec.size()
            ),
        };
        let problem = format!("{} {problem}", call(&pool));
        return Err(Error::new(ErrorCode::NoCapacity, problem)
            .advise("release addresses, make the pool larger or name another one"));
    }
    refuse_reserved(door, &pool, &free)?;
    let owner = decoded::<VirtualMachine>(&vm)?;
    let start = free
        .first()
        .map(|free| free.address(door.state))
        .transpose()?;
    let give = |status: &mut IpAddressStatus| {
        status.state = AddressState::Allocated;
        status.owner_id = Some(vm.id);
        status.allocated_at = Some(now);
        status.leased_until = asked.leased_until;
        status.charged_group_id = owner.spec.user_group_id;
        status.charged_user_id = owner.status.charged_user_id;
        if asked.count > 1 {
            status.range_start = start;
            status.range_size = Some(asked.count);
        }
    };
    let mut first = None;
    for free in free {
        let outcome = match free {
            Free::Row(id) => {
                let before = draft.get(id);
                let after = draft.rewrite::<IpAddress>(id, |row, _, status| {
                    row.tenant = vm.tenant;
                    give(status);
                })?;
                let mut outcome = Outcome::new("ip_pool.allocate", 200, after);
                outcome.before = before;
                outcome
            }
            Free::New(address) => {
                let spec = IpAddressSpec {
                    ip_pool_id: pool.id,
                    address,
                    mac_address: None,
                    tags: Vec::new(),
                    description: String::new(),
                };
                rules::on_write(Writing {
                    door,
                    draft: &mut draft,
                    kind: Kind::IpAddress,
                    id: None,
                    tenant: vm.tenant,
                    parent: Some(pool.id),
                    old: None,
                    new: &to_value(&spec),
                })?;
                let mut status = IpAddressStatus {
                    address_scope_id: typed_pool.status.address_scope_id,
                    subnet_id: typed_pool.spec.subnet_id,
                    ..IpAddressStatus::default()
                };
                give(&mut status);
                let place = Place {
                    tenant: vm.tenant,
                    parent: Some(pool.id),
                    ..Place::default()
                };
                let object = draft.create::<IpAddress>(place, spec, status)?;
                Outcome::new("ip_pool.allocate", 201, object)
            }
        };
        first.get_or_insert(outcome);
    }
    let outcome = first.ok_or_else(|| internal("no address was given"))?;
    let note = match asked.count {
        1 => format!("to {}", call(&vm)),
        many => format!("to {}, the first of {many}", call(&vm)),
    };
    Ok((draft, outcome.note(note)))
}

fn refuse_vm(
    state: &State,
    vm: &Object,
    pool: &Object,
    asked: &AllocateAddress,
) -> Result<(), Error> {
    if pool.tenant.is_some() && pool.tenant != vm.tenant {
        return Err(Error::not_found(Kind::VirtualMachine.name(), &asked.vm));
    }
    let count = usize::try_from(asked.count).unwrap_or(usize::MAX);
    if !(1..=ADDRESSES_PER_VM_MAX).contains(&count) {
        let problem = format!("must be 1 to {ADDRESSES_PER_VM_MAX}, not {count}");
        return Err(Error::invalid("count", problem));
    }
    refuse_leaving(vm, &call(vm))?;
    let owned = state.count_by_key(key::IP_OWNER, &vm.id.to_string());
    if owned + count > ADDRESSES_PER_VM_MAX {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!(
                "{} has {owned} addresses, and a VM may have {ADDRESSES_PER_VM_MAX}",
                call(vm)
            ),
        )
        .advise("release one of them first"));
    }
    Ok(())
}

/// What is reserved of the cloud's own pools is given by who looks after them, and not to the first tenant that asks.
fn refuse_reserved(door: &Door<'_>, pool: &Object, free: &[Free]) -> Result<(), Error> {
    if pool.tenant.is_some() {
        return Ok(());
    }
    for one in free {
        let Free::Row(id) = one else { continue };
        let Some(row) = door.state.get(*id) else {
            continue;
        };
        let address = decoded::<IpAddress>(row)?;
        if address.status.state == AddressState::Reserved {
            let manage = Permission::new(Kind::IpAddress, Action::Manage);
            let target = Target::new(Kind::IpAddress, door.chain(pool.id));
            door.admit(manage, &target, || {
                refuse(
                    &address,
                    "allocated by you",
                    "name another address, or none, or ask an operator to give it to your VM",
                )
            })?;
        }
    }
    Ok(())
}

/// The one that is asked for.
fn named(state: &State, pool: &Object, typed: &Typed<IpPool>, text: &str) -> Result<Free, Error> {
    let address: Address = text
        .parse()
        .map_err(|problem: String| Error::invalid("address", problem))?;
    if !typed.spec.contains(address) {
        return Err(Error::invalid(
            "address",
            format!(
                "{address} is none of the pool's, which are {} to {}",
                typed.spec.first_address, typed.spec.last_address
            ),
        ));
    }
    let Some(row) = state
        .by_key(key::IP_POOL, &in_pool(pool.id, address), None)
        .next()
    else {
        return Ok(Free::New(address));
    };
    let typed = decoded::<IpAddress>(row)?;
    match typed.status.state {
        AddressState::Available | AddressState::Reserved => Ok(Free::Row(row.id)),
        AddressState::Allocated | AddressState::Frozen => Err(refuse(
            &typed,
            "allocated",
            "name another address, or none to get the lowest that can be had",
        )),
    }
}

/// The lowest that can be had in a row, from the one that is asked for or from anywhere; none if there are not so many.
/// Walks over the pool once.
fn free_in_a_row(
    state: &State,
    pool: &Arc<Object>,
    typed: &Typed<IpPool>,
    asked: &AllocateAddress,
) -> Result<Vec<Free>, Error> {
    let count = usize::try_from(asked.count).unwrap_or(usize::MAX);
    // The first of those that are asked for may be reserved.
    let (from, mut run) = match &asked.address {
        None => (typed.spec.first_address, Vec::new()),
        Some(text) => {
            let first = named(state, pool, typed, text)?;
            (first.address(state)?, vec![first])
        }
    };
    let scope = space::addresses(typed.status.address_scope_id);
    let mut had = rows_of(state, key::IP_AVAILABLE, pool.id).peekable();
    let numbers = from.number()..=typed.spec.last_address.number();
    for number in numbers.skip(run.len()) {
        while had.next_if(|(other, _)| *other < number).is_some() {}
        let address = Address::from_number(number);
        if let Some((_, row)) = had.next_if(|(other, _)| *other == number) {
            run.push(Free::Row(row.id));
        } else if state.holder(&scope, &address.bytes()).is_none() {
            run.push(Free::New(address));
        } else if asked.address.is_some() {
            let problem =
                format!("{address} cannot be had, so that there are no {count} from {from} on");
            return Err(Error::new(ErrorCode::Conflict, problem)
                .advise("name another first address, or none"));
        } else {
            run.clear();
        }
        if run.len() == count {
            return Ok(run);
        }
    }
    Ok(Vec::new())
}

/// The lowest that can be had. Walks over the pool's rows from the lowest to the first gap: at most as many as a
/// pool may have.
fn lowest_free(
    state: &State,
    pool: &Arc<Object>,
    typed: &Typed<IpPool>,
) -> Result<Option<Free>, Error> {
    let rows = |index: &'static str| rows_of(state, index, pool.id);
    let available = rows(key::IP_AVAILABLE).next();
    let last = typed.spec.last_address.number();
    let scope = space::addresses(typed.status.address_scope_id);
    let mut taken = rows(key::IP_POOL).map(|(number, _)| number).peekable();
    let mut next = typed.spec.first_address.number();
    while next <= last {
        if let Some((number, row)) = available
            && number <= next
        {
            return Ok(Some(Free::Row(row.id)));
        }
        if taken.next_if_eq(&next).is_none() {
            // No row of the pool's; a subnet may hold it all the same, as its gateway.
            let address = Address::from_number(next);
            if state.holder(&scope, &address.bytes()).is_none() {
                return Ok(Some(Free::New(address)));
            }
        }
        let Some(following) = next.checked_add(1) else {
            break;
        };
        next = following;
    }
    Ok(None)
}
