//! Making a disk: it takes the quota of its tenant, of a user group and of who makes it.

use virtflow_model::kinds::PrivateDataDisk;
use virtflow_model::kinds::private_data_disk::PrivateDataDiskStatus;

use super::Done;
use super::create::make;
use crate::door::Door;
use crate::request::Create;

pub(crate) fn create<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    make::<PrivateDataDisk>(door, create, |_, _, _| {
        Ok(PrivateDataDiskStatus {
            charged_user_id: door.cx.user_id(),
            ..PrivateDataDiskStatus::default()
        })
    })
}
