//! Images and templates: what all tenants see of images is the cloud's own, and what is shown to groups of users is shown
//! to those of its tenant.

use virtflow_model::Kind;
use virtflow_types::{Error, ObjectId};

use super::Writing;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.kind == Kind::Image
        && writing.tenant.is_some()
        && writing.new["visibility"] == "public"
    {
        return Err(Error::invalid(
            "spec.visibility",
            "a tenant's image is private: only the cloud's own are public",
        ));
    }
    let old = writing.old.map(|old| &old["user_group_ids"]);
    if old == Some(&writing.new["user_group_ids"]) {
        return Ok(());
    }
    let groups = writing.new["user_group_ids"].as_array();
    let groups = groups.into_iter().flatten();
    for id in groups.filter_map(|id| id.as_str()) {
        let found = id.parse::<ObjectId>().ok();
        let found = found.and_then(|id| writing.draft.get(id));
        let found =
            found.filter(|group| group.kind == Kind::UserGroup.name() && writing.door.sees(group));
        let found = found.ok_or_else(|| Error::not_found(Kind::UserGroup.name(), id))?;
        if found.tenant != writing.tenant {
            return Err(Error::invalid(
                "spec.user_group_ids",
                format!("user group `{}` is of another tenant", found.name),
            ));
        }
    }
    Ok(())
}
