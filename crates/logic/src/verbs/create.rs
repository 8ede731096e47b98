//! Making an object of any kind that people make.

use serde_json::{Value, json};
use virtflow_model::kinds::BaremetalGroupTenantQuota;
use virtflow_model::{Action, Kind, PerKind, Permission, Resource, Scope};
use virtflow_policy::Target;
use virtflow_types::{Error, ErrorCode, Name, ObjectId};

use super::{Done, Outcome, credentials, parse_spec, references, vm_create};
use crate::door::Door;
use crate::draft::Place;
use crate::request::Create;

pub(crate) fn run<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    match create.kind {
        Kind::VirtualMachine => vm_create::run(door, create),
        Kind::ApiToken => credentials::create_api_token(door, create),
        Kind::JoinToken => credentials::create_join_token(door, create),
        Kind::RoleBinding => credentials::create_binding(door, create),
        Kind::User => super::user::create(door, create),
        Kind::Tenant
        | Kind::Role
        | Kind::DataCenter
        | Kind::Rack
        | Kind::BaremetalGroup
        | Kind::BaremetalGroupTenantQuota
        | Kind::VirtualMachineSpecification => create.kind.dispatch(Plain { door, create }),
        Kind::Baremetal => Err(not_made_so(
            create.kind,
            "a host registers itself: make an invitation with `virtflow invite create` and run `virtflow-agent join`",
        )),
        Kind::Controller => Err(not_made_so(
            create.kind,
            "a controller registers itself: make an invitation for a controller and run `virtflow-controller join`",
        )),
        Kind::Session => Err(not_made_so(create.kind, "log in: POST /api/v1/auth/login")),
        Kind::Operation | Kind::Residue | Kind::IdempotencyKey => {
            Err(not_made_so(create.kind, "the system makes these"))
        }
    }
}

/// Kinds without rules beyond their own validation.
struct Plain<'d, 'a> {
    door: &'d Door<'a>,
    create: &'d Create,
}

impl<'a> PerKind for Plain<'_, 'a> {
    type Out = Done<'a>;

    fn run<R: Resource>(self) -> Done<'a> {
        let Plain { door, create } = self;
        let mut spec = create.spec.clone();
        let place = place::<R>(door, create)?;
        references::resolve(door, R::KIND, &mut spec, None, place.tenant)?;
        let mut scopes: Vec<ObjectId> = place.tenant.into_iter().collect();
        if R::KIND == BaremetalGroupTenantQuota::KIND {
            scopes.extend(id_in(&spec, "group_id"));
        }
        let permission = Permission::new(R::KIND, Action::Create);
        let mut draft = door.draft(permission, &Target::new(R::KIND, scopes), || {
            crate::door::forbidden(permission)
        })?;
        door.refuse_if_read_only(place.tenant)?;
        let spec: R::Spec = parse_spec(&spec)?;
        R::validate(&spec)?;
        if R::KIND == Kind::Role {
            credentials::check_role(door, &to_value(&spec))?;
        }
        let status = parse_status::<R>(json!({}))?;
        let object = draft.create::<R>(place, spec, status)?;
        let action = format!("{}.create", R::KIND.name());
        Ok((draft, Outcome::new(action, 201, object)))
    }
}

/// Name and tenant of what is to be made.
pub(crate) fn place<R: Resource>(door: &Door<'_>, create: &Create) -> Result<Place, Error> {
    let name = match (&create.name, R::NAMED) {
        (Some(name), true) => Name::new(name)
            .map_err(|error| Error::invalid("name", error.to_string()))?
            .as_str()
            .into(),
        (None, false) => "".into(),
        (None, true) => return Err(Error::invalid("name", "is missing")),
        (Some(_), false) => {
            return Err(Error::invalid(
                "name",
                format!("a {} has no name", R::KIND.name()),
            ));
        }
    };
    let named = door.tenant(create.tenant.as_deref())?;
    let home = door.rights.home;
    let tenant = match R::SCOPE {
        Scope::System if named.is_some() => {
            return Err(Error::invalid(
                "tenant",
                format!("a {} belongs to no tenant", R::KIND.name()),
            ));
        }
        Scope::System => None,
        Scope::Tenant => Some(named.or(home).ok_or_else(|| {
            Error::invalid("tenant", "is missing: you belong to no tenant, so name one")
        })?),
        Scope::Either => named.or(home),
    };
    Ok(Place {
        id: None,
        name,
        tenant,
        parent: None,
    })
}

/// A kind's first status from what little is known.
pub(crate) fn parse_status<R: Resource>(status: Value) -> Result<R::Status, Error> {
    serde_json::from_value(status).map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            format!("first status of a {}: {error}", R::KIND.name()),
        )
    })
}

pub(crate) fn to_value<S: serde::Serialize>(spec: &S) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

pub(crate) fn id_in(spec: &Value, field: &str) -> Option<ObjectId> {
    spec[field].as_str()?.parse().ok()
}

fn not_made_so(kind: Kind, advice: &str) -> Error {
    Error::new(
        ErrorCode::Invalid,
        format!("a {} is not created by this call", kind.name()),
    )
    .advise(advice)
}
