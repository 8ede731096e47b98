//! Tenants: who answers for one is of its users, or one of the cloud's.

use virtflow_types::Error;

use super::Writing;
use crate::verbs::create::id_in;

const FIELD: &str = "admin_user_id";

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
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
