//! Virtual machines: their power has verbs.

use virtflow_types::Error;

use super::Writing;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing
        .old
        .is_some_and(|old| old["power"] != writing.new["power"])
    {
        return Err(Error::invalid(
            "spec.power",
            "is changed by start and stop, which begin an operation",
        ));
    }
    Ok(())
}
