//! Disks: no fewer attachments are allowed than there are.

use virtflow_model::dimension;
use virtflow_model::kinds::private_data_disk::PrivateDataDiskSpec;
use virtflow_types::{AccountKey, Error};

use super::Writing;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let Some(id) = writing.id else {
        return Ok(());
    };
    let new: PrivateDataDiskSpec = parse_spec(writing.new)?;
    let account = AccountKey::new(id, dimension::ATTACHMENTS);
    let used = writing
        .draft
        .state
        .account(&account)
        .map_or(0, |account| account.used);
    if u64::from(new.max_attachments) < used {
        return Err(Error::invalid(
            "spec.max_attachments",
            format!("{used} VMs have the disk: detach it from some first"),
        ));
    }
    Ok(())
}
