//! Lists: one index is walked, a bounded number of rows a page, and only what the caller may see.

use std::sync::Arc;

use serde_json::Value;
use virtflow_model::kinds::Baremetal;
use virtflow_model::{Action, Kind, PerKind, Permission, Resource, Scope, key};
use virtflow_policy::Rights;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId, PAGE_OBJECTS_DEFAULT, PAGE_OBJECTS_MAX};

use super::{cursor, public};
use crate::cx::Cx;
use crate::door::Door;
use crate::limits::LIST_SCAN_MAX;
use crate::typed::decoded;

/// What a list asks for; all filters must hold.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// The kind.
    pub kind: Kind,
    /// Of this tenant, by id or name.
    pub tenant: Option<String>,
    /// Under this object, by id; for credentials a user's name will do. Assignments of maintainers: with this
    /// object, maintainer or group at either end.
    pub parent: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// VMs and residues on this host, by id or name.
    pub host: Option<String>,
    /// In this phase.
    pub phase: Option<String>,
    /// Hosts of this group, quotas and VMs in it, by id or name.
    pub group: Option<String>,
    /// Bindings of this user, by id or name.
    pub subject: Option<String>,
    /// In this administrative state, or, for operations, that far.
    pub state: Option<String>,
    /// `key=value`.
    pub label: Option<String>,
    /// Objects on a page; 0 is [`PAGE_OBJECTS_DEFAULT`], at most [`PAGE_OBJECTS_MAX`].
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl ListQuery {
    /// Everything of a kind.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            tenant: None,
            parent: None,
            name: None,
            host: None,
            phase: None,
            group: None,
            subject: None,
            state: None,
            label: None,
            limit: 0,
            cursor: None,
        }
    }
}

/// One page, in the order in which the objects were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Objects as [`public`] gives them.
    pub objects: Vec<Value>,
    /// Where the next page begins; `None` if this is the last. A page may be short, even empty, and
    /// still have a next one: one call looks at a bounded number of objects.
    pub next_cursor: Option<String>,
}

/// The query with its names looked up.
#[derive(Default)]
struct Filter {
    tenant: Option<ObjectId>,
    parent: Option<ObjectId>,
    host: Option<ObjectId>,
    group: Option<ObjectId>,
    subject: Option<ObjectId>,
}

/// Lists what the asker may see.
pub fn list(state: &State, cx: &Cx, query: &ListQuery) -> Result<Page, Error> {
    let door = Door::open(state, cx)?;
    let limit = match query.limit {
        0 => PAGE_OBJECTS_DEFAULT,
        n if n <= PAGE_OBJECTS_MAX => n,
        n => {
            return Err(Error::invalid(
                "limit",
                format!("must be 1 to {PAGE_OBJECTS_MAX}, not {n}"),
            ));
        }
    };
    let filter = resolve(&door, query)?;
    let question = question(query, &filter);
    let after = match &query.cursor {
        Some(text) => Some(cursor::read(text, &question)?),
        None => None,
    };
    let mut page = Page {
        objects: Vec::new(),
        next_cursor: None,
    };
    let mut last = None;
    let source = source(&door, query, &filter, after);
    for (looked, object) in source.enumerate() {
        if page.objects.len() == limit || looked == LIST_SCAN_MAX {
            page.next_cursor = last.map(|last| cursor::write(last, &question));
            break;
        }
        last = Some(object.id);
        if object.kind == query.kind.name() && matches(object, query, &filter) && door.sees(object)
        {
            page.objects.push(public(state, object));
        }
    }
    Ok(page)
}

fn resolve(door: &Door<'_>, query: &ListQuery) -> Result<Filter, Error> {
    let find = |kind: Kind, text: &Option<String>| match text {
        Some(text) => door.find(kind, text, None).map(|object| Some(object.id)),
        None => Ok(None),
    };
    let parent = match (&query.parent, query.kind) {
        (None, _) => None,
        (Some(text), Kind::ApiToken | Kind::Session) => Some(door.find(Kind::User, text, None)?.id),
        (Some(text), _) => Some(
            text.parse()
                .map_err(|error| Error::invalid("parent", format!("{error}")))?,
        ),
    };
    Ok(Filter {
        tenant: find(Kind::Tenant, &query.tenant)?,
        parent,
        host: find(Kind::Baremetal, &query.host)?,
        group: find(Kind::BaremetalGroup, &query.group)?,
        subject: find(Kind::User, &query.subject)?,
    })
}

/// The narrowest index that the query names.
fn source<'a>(
    door: &Door<'a>,
    query: &ListQuery,
    filter: &Filter,
    after: Option<ObjectId>,
) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
    let state = door.state;
    let kind = query.kind.name();
    if let Some(name) = &query.name {
        return Box::new(state.by_key(key::NAME, &format!("{kind}/{name}"), after));
    }
    if let Some(host) = filter.host {
        let index = match query.kind {
            Kind::Residue => key::RESIDUE_HOST,
            _ => key::VM_HOST,
        };
        return Box::new(state.by_key(index, &host.to_string(), after));
    }
    if let Some(subject) = filter.subject {
        return Box::new(state.by_key(key::BINDING_SUBJECT, &subject.to_string(), after));
    }
    if let (Some(user), Kind::ApiToken | Kind::Session) = (filter.parent, query.kind) {
        return Box::new(state.by_key(key::CREDENTIAL_USER, &user.to_string(), after));
    }
    if let (Some(end), Kind::ResourceMaintainer) = (filter.parent, query.kind) {
        return Box::new(state.by_key(key::MAINTAINER_END, &end.to_string(), after));
    }
    if let Some(label) = &query.label {
        return Box::new(state.by_key(key::LABEL, &format!("{kind}/{label}"), after));
    }
    if let (Some(group), Kind::Baremetal) = (filter.group, query.kind) {
        return Box::new(state.by_key(key::HOST_GROUP, &group.to_string(), after));
    }
    // Objects of the system that concern a tenant, quotas, are not under its key; they are few.
    let indexed = query.kind.dispatch(ScopeOf) != Scope::System;
    if let Some(tenant) = filter
        .tenant
        .filter(|_| indexed)
        .or_else(|| only_tenant(&door.rights, query.kind))
    {
        return Box::new(state.by_key(key::TENANT, &format!("{kind}/{tenant}"), after));
    }
    if let (Some(phase), Kind::VirtualMachine) = (&query.phase, query.kind) {
        return Box::new(state.by_key(key::VM_PHASE, phase, after));
    }
    if let (Some(far), Kind::Operation) = (&query.state, query.kind) {
        return Box::new(state.by_key(key::OPERATION_STATE, far, after));
    }
    Box::new(state.of_kind(kind, after))
}

struct ScopeOf;

impl PerKind for ScopeOf {
    type Out = Scope;
    fn run<R: Resource>(self) -> Scope {
        R::SCOPE
    }
}

/// The one tenant outside which the asker sees nothing of a kind: then its index is enough, and nobody
/// pays for their neighbours.
fn only_tenant(rights: &Rights, kind: Kind) -> Option<ObjectId> {
    if kind != Kind::VirtualMachine {
        return None;
    }
    let read = Permission::new(kind, Action::Read);
    let mut scopes = rights
        .grants
        .iter()
        .filter(|grant| grant.permissions.contains(read))
        .map(|grant| grant.scope);
    let first = scopes.next()??;
    (Some(first) == rights.home && scopes.all(|scope| scope == Some(first))).then_some(first)
}

fn matches(object: &Object, query: &ListQuery, filter: &Filter) -> bool {
    let same = |asked: Option<ObjectId>, has: Option<ObjectId>| asked.is_none() || asked == has;
    let has_key = |name: &str, value: &str| {
        object
            .footprint
            .keys
            .iter()
            .any(|key| key.name == name && key.value == value)
    };
    let is_under = match (filter.parent, query.kind) {
        (Some(end), Kind::ResourceMaintainer) => has_key(key::MAINTAINER_END, &end.to_string()),
        (parent, _) => same(parent, object.parent),
    };
    if !is_under
        || query
            .name
            .as_ref()
            .is_some_and(|name| *name != object.name.as_str())
    {
        return false;
    }
    if let Some(label) = &query.label
        && !has_key(key::LABEL, &format!("{}/{label}", query.kind.name()))
    {
        return false;
    }
    if let Some(host) = filter.host {
        let host = host.to_string();
        if !has_key(key::VM_HOST, &host) && !has_key(key::RESIDUE_HOST, &host) {
            return false;
        }
    }
    if let Some(subject) = filter.subject
        && !has_key(key::BINDING_SUBJECT, &subject.to_string())
    {
        return false;
    }
    // What an index key says is said without reading the JSON: a page may look at ten thousand objects.
    if let Some(phase) = &query.phase {
        let is = match query.kind {
            Kind::VirtualMachine => has_key(key::VM_PHASE, phase),
            _ => json(&object.status)["status"]["phase"] == **phase,
        };
        if !is {
            return false;
        }
    }
    if let (Some(far), Kind::Operation) = (&query.state, query.kind)
        && !has_key(key::OPERATION_STATE, far)
    {
        return false;
    }
    if query.kind == Kind::Baremetal {
        return matches_host(object, query, filter);
    }
    let of_tenant = same(filter.tenant, object.tenant);
    if of_tenant && filter.group.is_none() && query.state.is_none() {
        return true;
    }
    let spec = json(&object.spec);
    let status = json(&object.status)["status"].take();
    let is = |value: &Value, id: ObjectId| value.as_str() == Some(id.to_string().as_str());
    if let Some(group) = filter.group
        && !is(&spec["group_id"], group)
        && !is(&status["placement"]["group_id"], group)
    {
        return false;
    }
    if let Some(tenant) = filter.tenant
        && !of_tenant
        && !is(&spec["tenant_id"], tenant)
    {
        return false;
    }
    query.state.as_ref().is_none_or(|state| {
        spec["state"] == **state || status["state"] == **state || status["liveness"] == **state
    })
}

/// What a host's typed value answers, which is kept beside it once it was read.
fn matches_host(object: &Object, query: &ListQuery, filter: &Filter) -> bool {
    let Ok(host) = decoded::<Baremetal>(object) else {
        return false;
    };
    let of_group = filter.group.is_none_or(|group| host.spec.group_id == group);
    let in_state = query.state.as_ref().is_none_or(|state| {
        host.spec.state.name() == state || host.status.liveness.name() == state
    });
    of_group && in_state && filter.tenant.is_none()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn question(query: &ListQuery, filter: &Filter) -> String {
    format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        query.kind.name(),
        filter.tenant,
        filter.parent,
        query.name,
        filter.host,
        query.phase,
        filter.group,
        filter.subject,
        query.state,
        query.label
    )
}
