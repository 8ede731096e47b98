//! VPCs: the number of a VLAN is the whole cloud's matter.

use virtflow_model::kinds::vpc::VpcSpec;
use virtflow_model::kinds::{Tenant, Vpc};
use virtflow_model::{Action, Permission, Resource, space};
use virtflow_types::Error;

use super::Writing;
use crate::typed::decoded;
use crate::verbs::parse_spec;

/// A tenant has its own VLAN; who looks after all VPCs gives any that is no other tenant's.
pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let new: VpcSpec = parse_spec(writing.new)?;
    let old = writing.old.map(parse_spec::<VpcSpec>).transpose()?;
    let Some(vlan) = new.vlan_id else {
        return Ok(());
    };
    if old.is_some_and(|old| old.vlan_id == Some(vlan)) {
        return Ok(());
    }
    let door = writing.door;
    let own = writing.tenant.and_then(|tenant| door.state.get(tenant));
    let own = own.map(|tenant| decoded::<Tenant>(tenant)).transpose()?;
    if own.is_some_and(|own| own.spec.vlan_id == Some(vlan)) {
        return Ok(());
    }
    let any = Permission::new(Vpc::KIND, Action::Manage);
    if !door.rights.over(&[]).contains(any) {
        return Err(Error::invalid(
            "spec.vlan_id",
            format!(
                "VLAN {vlan} is not your tenant's: leave it out, take a VNI, or ask an operator for the VLAN"
            ),
        ));
    }
    if door
        .state
        .holder(space::VLAN, &vlan.to_be_bytes())
        .is_some()
    {
        return Err(Error::invalid(
            "spec.vlan_id",
            format!("VLAN {vlan} is another tenant's"),
        ));
    }
    Ok(())
}
