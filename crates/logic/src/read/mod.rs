//! Reads: on one unmoving image, with the asker's eyes. What may not be seen reads as absent.

mod access;
mod audit;
mod bill;
mod capacity;
mod config;
mod cursor;
mod discovery;
mod effect;
mod fields;
mod filter;
mod foreign;
#[cfg(test)]
mod fuzz;
mod list;
mod ontology;
mod past;
mod placement;
mod public;
mod search;
mod selector;
mod totals;
mod upgrade;
mod view;
mod watch;
mod whoami;

use std::sync::Arc;

use virtflow_model::kinds::Operation;
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::{Kind, Permission, key, space};
use virtflow_policy::{Decision, Target, authorize};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId};

use crate::cx::Cx;
use crate::door::{Door, forbidden};
use crate::typed::decoded;

pub use access::{AccessQuestion, explain_access, permission_of, who_can};
pub use audit::{audit_actor, audit_scope};
pub use bill::bill;
pub use capacity::{capacity, usage, usage_of_level};
pub use config::{EffectiveQuery, Layers, Whom, effective, effective_for, effective_of};
pub use discovery::{TargetRole, monitoring_targets};
pub use effect::access_effect;
pub use fields::Fields;
pub use foreign::foreign_domains;
pub use list::{ListQuery, Page, TextPage, list, list_text};
pub(crate) use ontology::ontologies_called;
pub use ontology::{MergeQuery, OntologyQuery, merged, ontology};
pub use past::{Meant, Past, PastList};
pub use placement::{ConsoleTarget, console_of, placement};
pub(crate) use public::SECRETS;
pub use public::{public, public_text};
pub use search::{Plan, PlanOrder, Search};
pub use totals::{depends_on_asker, shown};
pub use upgrade::upgrade_view;
pub use view::{cluster_view, verify_report};
pub use watch::{Sight, Watch};
pub use whoami::{can_i, whoami};

/// One object by id or name; within `tenant`, by id or name, if one is given.
pub fn get(
    state: &State,
    cx: &Cx,
    kind: Kind,
    target: &str,
    tenant: Option<&str>,
) -> Result<Arc<Object>, Error> {
    let door = Door::open(state, cx)?;
    let tenant = door.tenant(tenant)?;
    door.find(kind, target, tenant)
}

/// Lets in something that is done outside the state: a look at a console, a question about the cluster.
/// With a target it gives the object, without one it asks for the permission over the whole system.
pub fn authorize_only(
    state: &State,
    cx: &Cx,
    permission: Permission,
    target: Option<&str>,
    tenant: Option<&str>,
) -> Result<Option<Arc<Object>>, Error> {
    let door = Door::open(state, cx)?;
    let Some(target) = target else {
        let everything = Target::new(permission.kind, Vec::new());
        return match authorize(&door.rights, permission, &everything) {
            Decision::Allowed => Ok(None),
            Decision::Forbidden { .. } | Decision::Invisible => Err(forbidden(permission)),
        };
    };
    let tenant = door.tenant(tenant)?;
    let object = door.find(permission.kind, target, tenant)?;
    door.admit(permission, &door.target_of(&object), || {
        Error::not_found(permission.kind.name(), target)
    })?;
    Ok(Some(object))
}

/// How far an operation is; `None` if the object is none.
pub fn operation_state(object: &Object) -> Option<OperationState> {
    Some(decoded::<Operation>(object).ok()?.status.state)
}

/// An object by its exact name within a tenant or the system, whoever asks.
pub(crate) fn named(
    state: &State,
    kind: Kind,
    within: Option<ObjectId>,
    name: &str,
) -> Option<Arc<Object>> {
    let object = state.holder(&space::names(kind, within), name.as_bytes())?;
    Some(object.clone())
}

/// The objects that a user's credentials, bindings or operations index names.
pub(crate) fn of_user<'a>(
    state: &'a State,
    user: ObjectId,
) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
    state.by_key(key::CREDENTIAL_USER, &user.to_string(), None)
}
