//! Making an object of any kind that people make.

use serde_json::{Value, json};
use virtflow_model::kinds::{TenantConfig, UserConfig};
use virtflow_model::{Action, ByPeople, Kind, Owner, PerKind, Permission, Resource, Scope, Tie};
use virtflow_policy::Target;
use virtflow_types::{Error, ErrorCode, Name, ObjectId, Text};

use super::rules::{self, Writing};
use super::{Done, Outcome, config, credentials, ip, parse_spec, references, vm_create};
use crate::door::Door;
use crate::draft::{Draft, Place};
use crate::request::Create;

pub(crate) fn run<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    match create.kind.rules().create {
        ByPeople::Plainly => create.kind.dispatch(Plain { door, create }),
        ByPeople::Never(advice) => Err(Error::new(
            ErrorCode::Invalid,
            format!("{} is not created by this call", create.kind.with_article()),
        )
        .advise(advice)),
        ByPeople::ByVerb => match create.kind {
            Kind::VirtualMachine => vm_create::run(door, create),
            Kind::Instance => super::instance::create(door, create),
            Kind::InstanceSet => super::instance_set::create(door, create),
            Kind::ApiToken => credentials::create_api_token(door, create),
            Kind::JoinToken => credentials::create_join_token(door, create),
            Kind::RoleBinding => credentials::create_binding(door, create),
            Kind::User => super::user::create(door, create),
            Kind::PrivateDataDisk => super::charged::disk(door, create),
            Kind::K8sCluster => super::charged::cluster(door, create),
            Kind::IpPool => ip::create_pool(door, create),
            Kind::SystemConfig => config::create_system(door, create),
            Kind::TenantConfig => config::create_lower::<TenantConfig>(door, create),
            Kind::UserConfig => config::create_lower::<UserConfig>(door, create),
            Kind::IpAddress => ip::create_address(door, create),
            other => Err(no_verb(other, "create")),
        },
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
        make::<R>(self.door, self.create, |_, _, _| {
            parse_status::<R>(json!({}))
        })
    }
}

/// Makes an object as every kind is made; `settle` gives its first status and may set what follows from what
/// its spec names, such as whose it is, and what of its spec is not kept as it was sent.
pub(super) fn make<'a, R: Resource>(
    door: &Door<'a>,
    create: &Create,
    settle: impl FnOnce(&Draft<'a>, &mut Place, &mut R::Spec) -> Result<R::Status, Error>,
) -> Done<'a> {
    let mut spec = create.spec.clone();
    let mut place = place_within::<R>(door, create, &mut spec)?;
    references::resolve(door, R::KIND, &mut spec, None, place.tenant)?;
    let permission = Permission::new(R::KIND, Action::Create);
    let mut target = Target::new(R::KIND, scopes_to_be::<R>(door, &place, &spec));
    target.owner = owner_to_be::<R>(door, &place, &spec);
    let mut draft = door.draft(permission, &target, || crate::door::forbidden(permission))?;
    rules::complete(door, R::KIND, &place, &mut spec)?;
    let mut spec: R::Spec = parse_spec(&spec)?;
    R::validate(&spec)?;
    let status = settle(&draft, &mut place, &mut spec)?;
    door.refuse_if_read_only(place.tenant)?;
    rules::on_write(Writing {
        door,
        draft: &mut draft,
        kind: R::KIND,
        id: None,
        tenant: place.tenant,
        parent: place.parent,
        old: None,
        new: &to_value(&spec),
    })?;
    let object = draft.create::<R>(place, spec, status)?;
    let action = format!("{}.create", R::KIND.name());
    Ok((draft, Outcome::new(action, 201, object)))
}

/// What an object that is not made yet will lie within.
fn scopes_to_be<R: Resource>(door: &Door<'_>, place: &Place, spec: &Value) -> Vec<ObjectId> {
    let mut scopes: Vec<ObjectId> = place.tenant.into_iter().collect();
    for reference in R::RULES.references {
        if reference.tie != Tie::Loose
            && let Some(id) = id_in(spec, &format!("{}_id", reference.field))
        {
            scopes.extend(door.chain(id));
        }
    }
    scopes
}

/// Whose own an object will be that is not made yet. One's own are made in one's own tenant only.
fn owner_to_be<R: Resource>(door: &Door<'_>, place: &Place, spec: &Value) -> Option<ObjectId> {
    if place.tenant != door.rights.home {
        return None;
    }
    match R::RULES.owner {
        Owner::Nobody | Owner::Itself => None,
        Owner::Parent => place.parent,
        Owner::Creator => door.cx.user_id(),
        Owner::Named(field) => id_in(spec, field),
    }
}

/// Name, parent and tenant of what is to be made. A parent is named in the spec or beside it; what lives under
/// it has its tenant.
fn place_within<R: Resource>(
    door: &Door<'_>,
    create: &Create,
    spec: &mut Value,
) -> Result<Place, Error> {
    let Some(reference) = R::RULES.parent() else {
        return place::<R>(door, create);
    };
    let (field, id_field) = (reference.field, format!("{}_id", reference.field));
    let Value::Object(fields) = spec else {
        return Err(Error::invalid("spec", "must be an object"));
    };
    let named = [
        fields.remove(field),
        fields.remove(&id_field),
        create.parent.clone().map(Value::from),
    ];
    let mut given = named.into_iter().flatten().filter(|value| !value.is_null());
    let at = format!("spec.{field}");
    // What lives under a user and is theirs is the asker's, unless somebody else is named.
    let own = || match (R::RULES.owner, door.cx.user_id()) {
        (Owner::Parent, Some(user)) => Some(Value::from(user.to_string())),
        _ => None,
    };
    let named = given.next().or_else(own).ok_or_else(|| {
        Error::invalid(
            &at,
            format!(
                "is missing: {} lives under {}",
                R::KIND.with_article(),
                reference.kind.with_article()
            ),
        )
    })?;
    if given.next().is_some() {
        return Err(Error::invalid(&at, "is given twice"));
    }
    let named = named
        .as_str()
        .ok_or_else(|| Error::invalid(&at, "must be a name or an id"))?;
    let tenant = door.tenant(create.tenant.as_deref())?;
    // The cloud's own is named without a tenant, whatever lives under it.
    let tenant = tenant.filter(|_| reference.kind.scope() != Scope::System);
    let parent = door
        .find(reference.kind, named, tenant.or(door.rights.home))
        .or_else(|_| door.find(reference.kind, named, tenant))?;
    fields.insert(id_field, parent.id.to_string().into());
    Ok(Place {
        id: None,
        name: name::<R>(create)?,
        tenant: parent.tenant,
        parent: Some(parent.id),
    })
}

/// The name of what is to be made.
fn name<R: Resource>(create: &Create) -> Result<Text, Error> {
    match (&create.name, R::NAMED) {
        (Some(name), true) => Ok(Name::new(name)
            .map_err(|error| Error::invalid("name", error.to_string()))?
            .as_str()
            .into()),
        (None, false) => Ok("".into()),
        (None, true) => Err(Error::invalid("name", "is missing")),
        (Some(_), false) => Err(Error::invalid(
            "name",
            format!("{} has no name", R::KIND.with_article()),
        )),
    }
}

/// Name and tenant of what is to be made.
pub(crate) fn place<R: Resource>(door: &Door<'_>, create: &Create) -> Result<Place, Error> {
    let name = name::<R>(create)?;
    if create.parent.is_some() && R::RULES.parent().is_none() && R::RULES.owner != Owner::Parent {
        return Err(Error::invalid(
            "parent",
            format!("{} lives under nothing", R::KIND.with_article()),
        ));
    }
    let named = door.tenant(create.tenant.as_deref())?;
    let home = door.rights.home;
    let tenant = match R::SCOPE {
        Scope::System if named.is_some() => {
            return Err(Error::invalid(
                "tenant",
                format!("{} belongs to no tenant", R::KIND.with_article()),
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
            format!("first status of {}: {error}", R::KIND.with_article()),
        )
    })
}

pub(crate) fn to_value<S: serde::Serialize>(spec: &S) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

pub(crate) fn id_in(spec: &Value, field: &str) -> Option<ObjectId> {
    spec[field].as_str()?.parse().ok()
}

/// A kind declares a verb of its own and has none: a mistake of this program's, which a test finds.
pub(crate) fn no_verb(kind: Kind, verb: &str) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!(
            "{} has no verb of its own to {verb} it",
            kind.with_article()
        ),
    )
}
