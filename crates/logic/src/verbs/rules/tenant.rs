//! Tenants: who answers for one is of its users, or one of the cloud's; their VLANs carry nobody else's VPCs.

use serde_json::Value;
use virtflow_model::space;
use virtflow_types::Error;

use super::Writing;
use crate::verbs::create::id_in;

const FIELD: &str = "admin_user_id";

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    check_vlan(writing)?;
    if writing
        .old
        .is_some_and(|old| old[FIELD] == writing.new[FIELD])
    {
        return Ok(());
    }
    let user = id_in(writing.new, FIELD).and_then(|id| writing.door.state.get(id));
    if user.is_some_and(|user| user.tenant.is_some() && user.tenant != writing.id) {
        return Err(Error::invalid(
            "spec.admin_user",
            "is a user of another tenant: name one of its own, or one of the cloud's",
        ));
    }
    Ok(())
}

fn check_vlan(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let vlan = |spec: &Value| {
        spec["vlan_id"]
            .as_u64()
            .and_then(|id| u16::try_from(id).ok())
    };
    let Some(id) = vlan(writing.new) else {
        return Ok(());
    };
    if writing.old.and_then(vlan) == Some(id) {
        return Ok(());
    }
    let carried = writing
        .door
        .state
        .holder(space::VPC_VLAN, &id.to_be_bytes());
    match carried {
        Some(vpc) if vpc.tenant != writing.id => Err(Error::invalid(
            "spec.vlan_id",
            format!("VLAN {id} carries the VPC `{}` of another tenant", vpc.name),
        )),
        _ => Ok(()),
    }
}
