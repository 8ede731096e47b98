//! Images: what all tenants see is the cloud's own.

use virtflow_types::Error;

use super::Writing;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.tenant.is_some() && writing.new["visibility"] == "public" {
        return Err(Error::invalid(
            "spec.visibility",
            "a tenant's image is private: only the cloud's own are public",
        ));
    }
    Ok(())
}
