//! Subnets: within their VPC; public ones are the whole cloud's matter; the gateway stays while there are addresses.

use virtflow_model::kinds::subnet::SubnetSpec;
use virtflow_model::kinds::{Subnet, Vpc};
use virtflow_model::{Action, Permission, Resource, key, space};
use virtflow_policy::Target;
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::door::forbidden;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let new: SubnetSpec = parse_spec(writing.new)?;
    let Some(old) = writing.old else {
        return on_create(writing, &new);
    };
    let old: SubnetSpec = parse_spec(old)?;
    if let Some(id) = writing.id.filter(|_| old.gateway != new.gateway) {
        let addresses = writing
            .door
            .state
            .count_by_key(key::IP_SUBNET, &id.to_string());
        if addresses > 0 {
            return Err(Error::new(
                ErrorCode::InUse,
                format!("the gateway stays while the subnet has addresses: it has {addresses}"),
            )
            .advise("delete its addresses first, or make another subnet"));
        }
    }
    Ok(())
}

fn on_create(writing: &Writing<'_, '_>, new: &SubnetSpec) -> Result<(), Error> {
    let vpc = writing.parent.unwrap_or(new.vpc_id);
    let vpc = writing.draft.typed::<Vpc>(vpc)?;
    if !vpc.spec.cidr.covers(new.cidr) {
        return Err(Error::invalid(
            "spec.cidr",
            format!(
                "{} does not lie within the VPC's {}",
                new.cidr, vpc.spec.cidr
            ),
        ));
    }
    refuse_overlap(writing, new)?;
    if new.public {
        // Its addresses are taken from all tenants, so a right over one of them is not enough.
        let permission = Permission::new(Subnet::KIND, Action::Manage);
        let everywhere = Target::new(Subnet::KIND, Vec::new());
        writing
            .door
            .admit(permission, &everywhere, || forbidden(permission))?;
    }
    Ok(())
}

/// The state refuses an overlap too; here it can be told whose it is.
fn refuse_overlap(writing: &Writing<'_, '_>, new: &SubnetSpec) -> Result<(), Error> {
    let (first, last) = (new.cidr.first().bytes(), new.cidr.last().bytes());
    let state = writing.door.state;
    let of_vpc = space::subnets(Some(new.vpc_id));
    let Some((_, holder)) = state.overlapping(&of_vpc, &first, &last).next() else {
        return Ok(());
    };
    let other = writing.draft.typed::<Subnet>(holder)?.spec.cidr;
    let name = state.get(holder).map_or("", |subnet| &subnet.name);
    Err(Error::new(
        ErrorCode::AlreadyExists,
        format!(
            "{} overlaps another subnet's block: `{name}` has {other}",
            new.cidr
        ),
    )
    .advise("choose a block that no other subnet of the VPC has a part of"))
}
