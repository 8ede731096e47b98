//! Ontologies: one version of a name is the default, and what one inherits from exists.

use serde::Deserialize;
use serde_json::Value;
use virtflow_model::kinds::Ontology;
use virtflow_model::kinds::ontology::{OntologySpec, OntologyType, default_key};
use virtflow_model::{Kind, key, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::Writing;
use crate::door::Door;
use crate::draft::Place;
use crate::read::ontologies_called;
use crate::typed::decoded;
use crate::verbs::parse_spec;

fn default_of<'a>(
    state: &'a State,
    tenant: Option<ObjectId>,
    spec: &OntologySpec,
) -> Option<&'a Object> {
    let at = default_key(&spec.line(tenant));
    state
        .holder(space::SINGLE, at.as_bytes())
        .map(|object| &**object)
}

/// The first version of a name is its default by itself.
pub(super) fn complete(door: &Door<'_>, place: &Place, spec: &mut Value) {
    // What cannot be read yet is refused right after, with the path of what is wrong.
    if let Ok(typed) = OntologySpec::deserialize(&*spec)
        && default_of(door.state, place.tenant, &typed).is_none()
    {
        spec["default_version"] = true.into();
    }
}

pub(super) fn on_write(writing: Writing<'_, '_>) -> Result<(), Error> {
    let spec: OntologySpec = parse_spec(writing.new)?;
    let state = writing.door.state;
    if writing.tenant.is_none() && spec.ontology_type == OntologyType::Major {
        return Err(Error::invalid(
            "spec.type",
            "an ontology of type `major` is a tenant's; only `base` and `domain` are for all",
        ));
    }
    if writing.old.is_none() {
        for id in &spec.inherits_from {
            inherited(&writing, *id)?;
        }
    }
    if spec.default_version
        && let Some(former) = default_of(state, writing.tenant, &spec)
        && Some(former.id) != writing.id
    {
        let former = former.id;
        writing
            .draft
            .update::<Ontology>(former, |spec, _| spec.default_version = false)?;
    }
    Ok(())
}

/// What `TYPE/NAME@VERSION` means to a tenant: its own, else the one for all.
///
/// The version has to be named: an object says what it builds on, whatever is the default later.
pub(crate) fn ontology_named(
    door: &Door<'_>,
    text: &str,
    tenant: Option<ObjectId>,
) -> Result<ObjectId, Error> {
    let parts = text.split_once('/').and_then(|(of, rest)| {
        let of = OntologyType::parse(of)?;
        let (name, version) = rest.rsplit_once('@')?;
        Some((of, name, version))
    });
    let (of, name, version) = parts.ok_or_else(|| {
        let problem = format!("`{text}` is neither an id nor `TYPE/NAME@VERSION`");
        Error::invalid("spec.inherits_from", problem).advise("such as `base/core@1.0.0`")
    })?;
    let mut found = ontologies_called(door, tenant, of, name, Some(version));
    let found = found.next().map(|object| object.id);
    found.ok_or_else(|| missing(text))
}

fn missing(called: impl std::fmt::Display) -> Error {
    Error::invalid(
        "spec.inherits_from",
        format!("there is no ontology {called}"),
    )
    .advise("name ontologies of your tenant or global ones, by id or as `TYPE/NAME@VERSION`")
}

/// It exists for the asker, and is the tenant's own or for all.
fn inherited(writing: &Writing<'_, '_>, id: ObjectId) -> Result<(), Error> {
    let missing = || missing(id);
    let found = writing.door.state.get(id).ok_or_else(missing)?;
    let of_all = found.tenant.is_none();
    let is_there = found.kind == Kind::Ontology.name()
        && (of_all || found.tenant == writing.tenant)
        && writing.door.sees(found);
    if is_there { Ok(()) } else { Err(missing()) }
}

/// The default goes last.
pub(super) fn on_delete(state: &State, object: &Object) -> Result<(), Error> {
    let spec = &decoded::<Ontology>(object)?.spec;
    let versions = state.by_key(key::ONTOLOGY, &spec.line(object.tenant), None);
    if spec.default_version && versions.take(2).count() > 1 {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("version {} is the default of its name", spec.version),
        )
        .advise("make another version the default first"));
    }
    Ok(())
}
