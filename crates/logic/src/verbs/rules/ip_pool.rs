//! Pools: within their subnet; one that goes takes along what nobody has.

use virtflow_model::key;
use virtflow_model::kinds::ip_address::AddressState;
use virtflow_model::kinds::ip_pool::IpPoolSpec;
use virtflow_model::kinds::{IpAddress, Subnet};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::draft::Draft;
use crate::limits::CASCADE_MAX;
use crate::typed::decoded;
use crate::verbs::ip::rows_of;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let new: IpPoolSpec = parse_spec(writing.new)?;
    let Some(subnet) = new.subnet_id else {
        return Ok(());
    };
    let cidr = writing.draft.typed::<Subnet>(subnet)?.spec.cidr;
    let ends = [
        ("spec.first_address", new.first_address),
        ("spec.last_address", new.last_address),
    ];
    for (field, end) in ends {
        if !cidr.contains(end) {
            return Err(Error::invalid(
                field,
                format!("{end} does not lie within the subnet's {cidr}"),
            ));
        }
    }
    Ok(())
}

/// Addresses that were given back are rows without a meaning of their own. Any other is in the way.
pub(super) fn on_delete(draft: &mut Draft<'_>, pool: &Object) -> Result<(), Error> {
    let rows = rows_of(draft.state, key::IP_POOL, pool.id).map(|(_, row)| row);
    let rows: Vec<_> = rows.take(CASCADE_MAX + 1).collect();
    for row in &rows {
        let address = decoded::<IpAddress>(row)?;
        if address.status.state != AddressState::Available {
            return Err(Error::new(
                ErrorCode::InUse,
                format!(
                    "{} is still needed: its address {} is {}",
                    crate::explain::call(pool),
                    address.spec.address,
                    address.status.state.name()
                ),
            )
            .advise("release or unfreeze every address of the pool first"));
        }
    }
    if rows.len() > CASCADE_MAX {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("more than {CASCADE_MAX} addresses would go with it, more than one step takes"),
        )
        .advise("delete some of its addresses first"));
    }
    for row in rows {
        draft.delete_bindings_over(row.id)?;
        draft.delete(row.id);
    }
    Ok(())
}
