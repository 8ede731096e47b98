//! Rules that a kind's own validation cannot check because they look at other objects. They are asked with the
//! draft open, on the state that the leader decides on, so nothing comes between the look and the change; a rule
//! that two objects could break at once in different changesets also has a claim or an account in the footprint.
//!
//! A kind with such rules has a file here and an arm below.

mod authored;
mod baremetal;
mod billing;
mod cloud_box;
mod config;
mod disk_attachment;
mod image;
mod image_tag;
mod image_version;
mod ip_address;
mod ip_pool;
mod maintainer;
mod ontology;
mod private_data_disk;
mod qa;
mod resource_maintainer;
mod role;
mod sets;
mod subnet;
mod template_version;
mod tenant;
mod user;
pub(super) mod user_group;
mod user_group_member;
mod virtual_machine;
mod vpc;

pub(crate) use ontology::ontology_named;
pub(crate) use template_version::latest_of;
pub(crate) use user_group::chain_of;

use serde_json::Value;
use virtflow_model::Kind;
use virtflow_state::Object;
use virtflow_types::{Error, ObjectId};

use crate::door::Door;
use crate::draft::{Draft, Place};
use crate::verbs::instance::take_latest;
use crate::verbs::user_groups;

/// What is about to be written.
pub(crate) struct Writing<'w, 'a> {
    pub(crate) door: &'w Door<'a>,
    /// For what else has to change with it.
    pub(crate) draft: &'w mut Draft<'a>,
    pub(crate) kind: Kind,
    /// Nothing yet for what is being made.
    pub(crate) id: Option<ObjectId>,
    pub(crate) tenant: Option<ObjectId>,
    pub(crate) parent: Option<ObjectId>,
    /// The spec as it stands; nothing for what is being made.
    pub(crate) old: Option<&'w Value>,
    /// The spec as it will stand, valid by itself, its references resolved.
    pub(crate) new: &'w Value,
}

/// Refuses what the state forbids, and changes in the draft what goes with the change.
pub(crate) fn on_write(mut writing: Writing<'_, '_>) -> Result<(), Error> {
    match writing.kind {
        Kind::Baremetal => baremetal::on_write(&mut writing),
        Kind::CloudBox => cloud_box::on_write(&writing),
        Kind::DiskAttachment => disk_attachment::on_write(&writing),
        Kind::HelpTicket | Kind::QaAnswer => authored::on_write(&writing),
        Kind::Image | Kind::Template => image::on_write(&writing),
        Kind::ImageTag => image_tag::on_write(&writing),
        Kind::ImageVersion => image_version::on_write(&mut writing),
        Kind::IpAddress => ip_address::on_write(&writing),
        Kind::IpPool => ip_pool::on_write(&writing),
        Kind::PrivateDataDisk => private_data_disk::on_write(&writing),
        Kind::QaQuestion => {
            authored::on_write(&writing)?;
            qa::on_write(&writing)
        }
        Kind::ResourceMaintainer => resource_maintainer::on_write(&writing),
        Kind::Role => role::on_write(&writing),
        Kind::Subnet => subnet::on_write(&writing),
        Kind::User => user::on_write(&writing),
        Kind::UserGroup => user_group::on_write(&writing),
        Kind::UserGroupMember => user_group_member::on_write(&writing),
        Kind::VirtualMachine => virtual_machine::on_write(&writing),
        Kind::Vpc => vpc::on_write(&writing),
        Kind::TemplateVersion => template_version::on_write(writing),
        Kind::Tenant => tenant::on_write(&writing),
        Kind::InstanceSetMember | Kind::Snapshot | Kind::BastionClusterAssociation => {
            sets::on_write(&writing)
        }
        Kind::SystemConfig | Kind::TenantConfig | Kind::UserConfig => config::on_write(&writing),
        Kind::Ontology => ontology::on_write(writing),
        _ => Ok(()),
    }
}

/// Fills in, before its validation, what an object that is being made gets by itself.
pub(crate) fn complete(
    door: &Door<'_>,
    kind: Kind,
    place: &Place,
    spec: &mut Value,
) -> Result<(), Error> {
    match kind {
        Kind::TemplateVersion => return template_version::complete(door, place, spec),
        Kind::Ontology => ontology::complete(door, place, spec),
        Kind::InstanceSet => return take_latest(door, spec),
        Kind::InstanceSetMember => return sets::complete(door.state, spec),
        Kind::K8sCluster | Kind::PrivateDataDisk => {
            let tenant = place.tenant.unwrap_or(ObjectId::NIL);
            return user_groups::fill(door, spec, tenant);
        }
        _ => {}
    }
    Ok(())
}

/// Changes in the draft what goes with an object that people delete, or refuses what must stay though nothing links
/// to it. What goes with its parent is not asked.
pub(crate) fn on_delete(draft: &mut Draft<'_>, kind: Kind, object: &Object) -> Result<(), Error> {
    match kind {
        Kind::BillingPeriod => billing::on_delete(object),
        Kind::ImageTag => image_tag::on_delete(object),
        Kind::ImageVersion => image_version::on_delete(draft, object),
        Kind::IpAddress => ip_address::on_delete(object),
        Kind::IpPool => ip_pool::on_delete(draft, object),
        Kind::Maintainer => maintainer::on_delete(draft, object.id),
        Kind::Ontology => ontology::on_delete(draft.state, object),
        Kind::QaAnswer => qa::on_delete(draft, object),
        Kind::SystemConfig => config::on_delete(draft.state, object),
        Kind::TemplateVersion => template_version::on_delete(draft, object),
        _ => Ok(()),
    }
}
