//! Making what takes the quota of its tenant, of a user group and of who makes it, and outlives that user: disks and
//! clusters.

use virtflow_model::kinds::k8s_cluster::K8sClusterStatus;
use virtflow_model::kinds::private_data_disk::PrivateDataDiskStatus;
use virtflow_model::kinds::{K8sCluster, PrivateDataDisk};

use super::Done;
use super::create::make;
use crate::door::Door;
use crate::request::Create;

pub(crate) fn disk<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    make::<PrivateDataDisk>(door, create, |_, _, _| {
        Ok(PrivateDataDiskStatus {
            charged_user_id: door.cx.user_id(),
            ..PrivateDataDiskStatus::default()
        })
    })
}

pub(crate) fn cluster<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    make::<K8sCluster>(door, create, |_, _, _| {
        Ok(K8sClusterStatus {
            charged_user_id: door.cx.user_id(),
            ..K8sClusterStatus::default()
        })
    })
}
