//! The first changeset of a cluster.

use virtflow_model::Resource;
use virtflow_model::kinds::api_token::{ApiTokenSpec, ApiTokenStatus};
use virtflow_model::kinds::controller::{ControllerSpec, ControllerStatus};
use virtflow_model::kinds::role::RoleStatus;
use virtflow_model::kinds::role_binding::{RoleBindingSpec, RoleBindingStatus};
use virtflow_model::kinds::user::{UserSpec, UserStatus};
use virtflow_model::kinds::{ApiToken, Controller, Role, RoleBinding, User};
use virtflow_policy::BUILT_IN_ROLES;
use virtflow_state::{Changeset, Op, State};
use virtflow_types::{Error, Incarnation, Name, ObjectId, RequestId, Timestamp};

use crate::audit::Entry;
use crate::cx::Cx;
use crate::draft::{Draft, Place};
use crate::request::NewSecret;

/// What a cluster begins with.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// The cluster.
    pub cluster_id: ObjectId,
    /// Its first life.
    pub incarnation: Incarnation,
    /// The request.
    pub request_id: RequestId,
    /// The clock.
    pub now: Timestamp,
    /// Name of the first administrator.
    pub admin_name: String,
    /// Argon2id hash of their password.
    pub admin_password_hash: String,
    /// An API token for them, if one is wanted.
    pub admin_token: Option<NewSecret>,
    /// The first controller's store.
    pub store_id: ObjectId,
    /// Its name.
    pub controller_name: String,
    /// Its number, key and addresses.
    pub controller: ControllerSpec,
    /// Its software's version.
    pub version: String,
    /// The highest cluster version it supports: the cluster begins with it.
    pub supports: u32,
}

/// Marks the store, and makes the built-in roles, the first administrator and the first controller.
pub fn genesis(genesis: &Genesis) -> Result<Changeset, Error> {
    let empty = State::empty();
    let cx = Cx::system(genesis.request_id, genesis.now);
    let mut draft = Draft::new(&empty, &cx);
    let named = |name: &str, field: &str| {
        Name::new(name)
            .map(|name| Place {
                name: name.as_str().into(),
                ..Place::default()
            })
            .map_err(|error| Error::invalid(field, error.to_string()))
    };
    let mut admin_role = None;
    for role in BUILT_IN_ROLES {
        let spec = crate::loops::spec_of(role);
        Role::validate(&spec)?;
        let made = draft.create::<Role>(named(role.name, "role")?, spec, RoleStatus {})?;
        admin_role.get_or_insert(made.id);
    }
    let status = UserStatus {
        password_hash: genesis.admin_password_hash.clone(),
        ..UserStatus::default()
    };
    let spec = UserSpec {
        display_name: "first administrator".into(),
        ..UserSpec::default()
    };
    let admin = draft.create::<User>(named(&genesis.admin_name, "admin_name")?, spec, status)?;
    let spec = RoleBindingSpec {
        subject_id: Some(admin.id),
        subject_group_id: None,
        // The first of the list is the role that holds everything; a test keeps it there.
        role_id: admin_role.unwrap_or(ObjectId::NIL),
        scope_id: None,
    };
    draft.create::<RoleBinding>(Place::default(), spec, RoleBindingStatus {})?;
    if let Some(token) = &genesis.admin_token {
        let place = Place {
            id: Some(token.id),
            name: "first".into(),
            tenant: None,
            parent: Some(admin.id),
        };
        let status = ApiTokenStatus {
            secret_hash: token.hash.clone(),
            ..ApiTokenStatus::default()
        };
        draft.create::<ApiToken>(place, ApiTokenSpec::default(), status)?;
    }
    Controller::validate(&genesis.controller)?;
    let place = Place {
        id: Some(genesis.store_id),
        ..named(&genesis.controller_name, "name")?
    };
    let status = ControllerStatus {
        version: genesis.version.clone(),
        supports: genesis.supports,
        // It announces that, as all others do, once it runs.
        status_address: String::new(),
        removed: false,
    };
    let controller = draft.create::<Controller>(place, genesis.controller.clone(), status)?;
    draft.audit(&Entry {
        action: "cluster.genesis",
        object: &controller,
        before: None,
        note: &format!(
            "cluster {} with administrator `{}`",
            genesis.cluster_id, genesis.admin_name
        ),
    });
    let mut changeset = draft.finish();
    changeset
        .ops
        .insert(0, Op::Genesis(genesis.incarnation, genesis.cluster_id));
    changeset.ops.push(Op::ClusterVersion(genesis.supports));
    Ok(changeset)
}
