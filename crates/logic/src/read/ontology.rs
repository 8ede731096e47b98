//! Ontologies by name, the tenant's own before those for all, and what several of them are together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use virtflow_model::kinds::Ontology;
use virtflow_model::kinds::ontology::{
    EntityClass, ObjectProperty, OntologyType, default_key, line, version_key,
};
use virtflow_model::{Kind, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::cx::Cx;
use crate::door::Door;
use crate::limits::{
    MERGE_CONFLICTS_TOLD_MAX, MERGED_ENTRIES_MAX, MERGED_ONTOLOGIES_MAX,
    MERGED_PROPERTY_CLASSES_MAX,
};
use crate::typed::{Typed, decoded};

/// An ontology by name.
#[derive(Debug, Clone)]
pub struct OntologyQuery {
    /// Its type.
    pub ontology_type: OntologyType,
    /// Its name.
    pub name: String,
    /// Its version; absent: the default.
    pub version: Option<String>,
    /// Whose own comes first, by id or name; absent: the asker's tenant.
    pub tenant: Option<String>,
}

/// Ontologies that are to be one: each `NAME`, `NAME@VERSION` or an id.
#[derive(Debug, Clone, Default)]
pub struct MergeQuery {
    /// The base; what the others inherit from comes along by itself.
    pub base: Option<String>,
    /// Domains, in their order.
    pub domains: Vec<String>,
    /// The major one.
    pub major: Option<String>,
    /// Whose own come first, by id or name; absent: the asker's tenant.
    pub tenant: Option<String>,
}

/// An ontology that is in use, by type, name and version: the tenant's own if there is one, else the one for all.
///
/// Fails with `not_found` if there is none that the asker sees.
pub fn ontology(state: &State, cx: &Cx, query: &OntologyQuery) -> Result<Arc<Object>, Error> {
    let door = Door::open(state, cx)?;
    let tenant = door.tenant(query.tenant.as_deref())?.or(door.rights.home);
    let version = query.version.as_deref();
    look_up(&door, tenant, query.ontology_type, &query.name, version)
}

/// Those of that name and version (none: the default) that the asker sees, in use or not: the tenant's own, then the one
/// for all.
pub(crate) fn ontologies_called<'d>(
    door: &'d Door<'_>,
    tenant: Option<ObjectId>,
    of: OntologyType,
    name: &'d str,
    version: Option<&'d str>,
) -> impl Iterator<Item = &'d Arc<Object>> {
    let whose = tenant.map(Some).into_iter().chain([None]);
    whose.filter_map(move |whose| {
        let line = line(whose, of, name);
        let (space, at) = match version {
            Some(version) => (space::ONTOLOGY, version_key(&line, version)),
            None => (space::SINGLE, default_key(&line)),
        };
        let found = door.state.holder(space, at.as_bytes())?;
        door.sees(found).then_some(found)
    })
}

fn look_up(
    door: &Door<'_>,
    tenant: Option<ObjectId>,
    of: OntologyType,
    name: &str,
    version: Option<&str>,
) -> Result<Arc<Object>, Error> {
    for found in ontologies_called(door, tenant, of, name, version) {
        if decoded::<Ontology>(found)?.spec.active {
            return Ok(found.clone());
        }
    }
    let called = match version {
        Some(version) => format!("{}/{name}@{version}", of.name()),
        None => format!("{}/{name}", of.name()),
    };
    Err(Error::not_found(Kind::Ontology.name(), &called))
}

/// What a base, domains and a major ontology are together, with what they inherit from.
///
/// Each comes after what it inherits from: the base, the domains in their order, the major one. Where two describe a
/// class otherwise the later is taken and `conflicts` tells it; a property of several leads from and to the classes
/// of all of them.
///
/// Fails with `not_found` for what the asker does not see, with `invalid` for a domain that the major ontology does
/// not name under `compatible_domains`, and with `limit_exceeded` if it grows too large.
pub fn merged(state: &State, cx: &Cx, query: &MergeQuery) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let tenant = door.tenant(query.tenant.as_deref())?.or(door.rights.home);
    let find = |field: &str, of: OntologyType, text: &str| meant(&door, tenant, field, of, text);
    let base = query
        .base
        .as_deref()
        .map(|text| find("base", OntologyType::Base, text));
    let domains = query.domains.iter();
    let domains = domains.map(|text| find("domains", OntologyType::Domain, text));
    let major = query
        .major
        .as_deref()
        .map(|text| find("major", OntologyType::Major, text));
    let (base, major) = (base.transpose()?, major.transpose()?);
    let domains: Vec<Arc<Object>> = domains.collect::<Result<_, _>>()?;
    if let Some(major) = &major {
        refuse_incompatible(&*decoded::<Ontology>(major)?, &domains)?;
    }
    let mut parts = Parts {
        door: &door,
        seen: BTreeSet::new(),
        found: Vec::new(),
    };
    for part in base.iter().chain(&domains).chain(&major) {
        parts.add(part)?;
    }
    if parts.found.is_empty() {
        return Err(Error::invalid(
            "domains",
            "is missing: name a base, domains or a major ontology",
        ));
    }
    together(&parts.found)
}

/// What a text means: an id, a name, or a name and a version.
fn meant(
    door: &Door<'_>,
    tenant: Option<ObjectId>,
    field: &str,
    of: OntologyType,
    text: &str,
) -> Result<Arc<Object>, Error> {
    if text.parse::<ObjectId>().is_err() {
        return match text.rsplit_once('@') {
            Some((name, version)) => look_up(door, tenant, of, name, Some(version)),
            None => look_up(door, tenant, of, text, None),
        };
    }
    let found = door.find(Kind::Ontology, text, None)?;
    if found.tenant.is_some() && found.tenant != tenant {
        return Err(Error::not_found(Kind::Ontology.name(), text));
    }
    let is = decoded::<Ontology>(&found)?.spec.ontology_type;
    if is != of {
        let problem = format!(
            "`{text}` is of the type `{}`, not `{}`",
            is.name(),
            of.name()
        );
        return Err(Error::invalid(field, problem));
    }
    Ok(found)
}

fn refuse_incompatible(major: &Typed<Ontology>, domains: &[Arc<Object>]) -> Result<(), Error> {
    let known = &major.spec.compatible_domains;
    for domain in domains {
        let domain = decoded::<Ontology>(domain)?;
        if !known.contains(&domain.spec.name) {
            let names = match known.is_empty() {
                true => "it names none".to_owned(),
                false => format!("those are {}", known.join(", ")),
            };
            let problem = format!(
                "`{}` is none of the domains that `{}` {} is compatible with: {names}",
                domain.spec.name, major.spec.name, major.spec.version
            );
            return Err(Error::invalid("domains", problem)
                .advise("leave that domain out, or name it under `compatible_domains`"));
        }
    }
    Ok(())
}

/// An ontology that is merged.
type Part = (Arc<Object>, Arc<Typed<Ontology>>);

/// What is merged, in its order, each once.
struct Parts<'d, 'a> {
    door: &'d Door<'a>,
    seen: BTreeSet<ObjectId>,
    found: Vec<Part>,
}

impl Parts<'_, '_> {
    /// Adds one behind what it inherits from. It ends: what is inherited from was there before its heirs.
    fn add(&mut self, object: &Arc<Object>) -> Result<(), Error> {
        if !self.seen.insert(object.id) {
            return Ok(());
        }
        if self.seen.len() > MERGED_ONTOLOGIES_MAX {
            return Err(too_much(&format!("{MERGED_ONTOLOGIES_MAX} ontologies")));
        }
        let typed = decoded::<Ontology>(object)?;
        for id in &typed.spec.inherits_from {
            let inherited = self.door.find(Kind::Ontology, &id.to_string(), None)?;
            self.add(&inherited)?;
        }
        self.found.push((object.clone(), typed));
        Ok(())
    }
}

fn too_much(what: &str) -> Error {
    Error::new(
        ErrorCode::LimitExceeded,
        format!("together they have more than {what}"),
    )
    .advise("merge fewer of them")
}

fn together(parts: &[Part]) -> Result<Value, Error> {
    let mut together = Together::default();
    for part in parts {
        for class in &part.1.spec.entity_classes {
            together.add_class(part, class);
        }
        for property in &part.1.spec.object_properties {
            together.add_property(property)?;
        }
        if together.classes.len().max(together.properties.len()) > MERGED_ENTRIES_MAX {
            return Err(too_much(&format!(
                "{MERGED_ENTRIES_MAX} classes or properties"
            )));
        }
    }
    let told = parts.iter().map(|(object, typed)| {
        json!({
            "id": object.id,
            "tenant_id": object.tenant,
            "type": typed.spec.ontology_type,
            "name": typed.spec.name,
            "version": typed.spec.version,
        })
    });
    let classes = together.classes.iter().map(|(class, _)| class);
    Ok(json!({
        "parts": told.collect::<Vec<_>>(),
        "entity_classes": classes.collect::<Vec<_>>(),
        "object_properties": together.properties,
        "missing_classes": together.missing_classes(),
        "conflicts": together.conflicts,
        "conflicts_not_told": together.conflicts_not_told,
    }))
}

/// What the parts so far are together.
#[derive(Default)]
struct Together<'p> {
    /// Each with the part whose description it has.
    classes: Vec<(&'p EntityClass, &'p Part)>,
    class_at: BTreeMap<&'p str, usize>,
    properties: Vec<ObjectProperty>,
    property_at: BTreeMap<&'p str, usize>,
    conflicts: Vec<Value>,
    conflicts_not_told: usize,
}

impl<'p> Together<'p> {
    /// The later description is taken, if there is one.
    fn add_class(&mut self, part: &'p Part, class: &'p EntityClass) {
        let Some(at) = self.class_at.get(class.name.as_str()).copied() else {
            self.class_at.insert(&class.name, self.classes.len());
            self.classes.push((class, part));
            return;
        };
        let (before, of) = self.classes[at];
        if class.description.is_empty() || class.description == before.description {
            return;
        }
        self.classes[at] = (class, part);
        if before.description.is_empty() {
            return;
        }
        if self.conflicts.len() == MERGE_CONFLICTS_TOLD_MAX {
            self.conflicts_not_told += 1;
            return;
        }
        self.conflicts.push(json!({
            "entity_class": class.name,
            "taken": {"from": called(part), "description": class.description},
            "left_out": {"from": called(of), "description": before.description},
        }));
    }

    /// It leads from and to the classes of all that have it.
    fn add_property(&mut self, property: &'p ObjectProperty) -> Result<(), Error> {
        let Some(at) = self.property_at.get(property.name.as_str()).copied() else {
            self.property_at
                .insert(&property.name, self.properties.len());
            self.properties.push(property.clone());
            return Ok(());
        };
        let merged = &mut self.properties[at];
        for (names, more) in [
            (&mut merged.domain, &property.domain),
            (&mut merged.range, &property.range),
        ] {
            for name in more {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            if names.len() > MERGED_PROPERTY_CLASSES_MAX {
                let what = format!(
                    "{MERGED_PROPERTY_CLASSES_MAX} classes on a side of the property `{}`",
                    property.name
                );
                return Err(too_much(&what));
            }
        }
        Ok(())
    }

    /// What properties lead from or to and no part describes.
    fn missing_classes(&self) -> BTreeSet<&str> {
        let properties = self.properties.iter();
        let named = properties.flat_map(|property| property.domain.iter().chain(&property.range));
        let named = named.map(String::as_str);
        named
            .filter(|name| !self.class_at.contains_key(name))
            .collect()
    }
}

/// `domain/shop@1.0.0`
fn called((_, typed): &Part) -> String {
    let spec = &typed.spec;
    format!(
        "{}/{}@{}",
        spec.ontology_type.name(),
        spec.name,
        spec.version
    )
}
