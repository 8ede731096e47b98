//! Lists: one index is walked, a bounded number of rows a page, and only what the caller may see.

use std::sync::Arc;

use serde_json::Value;
use virtflow_model::{Action, Kind, Permission, Scope, key};
use virtflow_policy::Rights;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId, PAGE_OBJECTS_DEFAULT, PAGE_OBJECTS_MAX};

use super::cursor;
use super::filter::{self, Filter};
use super::totals::Totals;
use crate::cx::Cx;
use crate::door::Door;
use crate::limits::LIST_SCAN_MAX;

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
    /// Configuring this.
    pub scope: Option<String>,
    /// With these words or texts in these fields of the spec; a `tag` is among the `tags`.
    pub words: Vec<(String, String)>,
    /// `key=value`.
    pub label: Option<String>,
    /// Requirements on labels by commas: `env=prod,tier!=db,backup,!draft,zone in (a,b)`.
    pub labels: Option<String>,
    /// Naming these objects: declared references of the kind with an id or a name for each.
    pub references: Vec<(String, String)>,
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
            scope: None,
            words: Vec::new(),
            label: None,
            labels: None,
            references: Vec::new(),
            limit: 0,
            cursor: None,
        }
    }
}

/// One page, in the order in which the objects were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Objects as [`public`](fn@crate::read::public) gives them.
    pub objects: Vec<Value>,
    /// Where the next page begins; `None` if this is the last. A page may be short, even empty, and
    /// still have a next one: one call looks at a bounded number of objects.
    pub next_cursor: Option<String>,
}

/// One page as text, for answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPage {
    /// An array of JSON with the objects of a [`Page`].
    pub objects: String,
    /// As that of a [`Page`].
    pub next_cursor: Option<String>,
}

/// Lists what the asker may see.
pub fn list(state: &State, cx: &Cx, query: &ListQuery) -> Result<Page, Error> {
    let mut objects = Vec::new();
    let totals = Totals::default();
    let next_cursor = each(state, cx, query, |door, object| {
        objects.push(totals.shown(door, object));
    })?;
    Ok(Page {
        objects,
        next_cursor,
    })
}

/// [`list`] without values in between: what a page costs then is what is written.
pub fn list_text(state: &State, cx: &Cx, query: &ListQuery) -> Result<TextPage, Error> {
    let mut objects = String::from("[");
    let totals = Totals::default();
    let next_cursor = each(state, cx, query, |door, object| {
        if objects.len() > 1 {
            objects.push(',');
        }
        totals.write(door, object, &mut objects);
    })?;
    objects.push(']');
    Ok(TextPage {
        objects,
        next_cursor,
    })
}

/// Shows one page, and tells where the next one begins.
fn each(
    state: &State,
    cx: &Cx,
    query: &ListQuery,
    mut show: impl FnMut(&Door<'_>, &Object),
) -> Result<Option<String>, Error> {
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
    let filter = Filter::of(&door, query)?;
    let question = question(query, &filter);
    let after = match &query.cursor {
        Some(text) => Some(cursor::read(text, &question)?),
        None => None,
    };
    let mut shown = 0;
    let mut last = None;
    let source = source(&door, query, &filter, after);
    for (looked, object) in source.enumerate() {
        if shown == limit || looked == LIST_SCAN_MAX {
            return Ok(last.map(|last| cursor::write(last, &question)));
        }
        last = Some(object.id);
        if object.kind == query.kind.name() && filter.matches(object, query) && door.sees(object) {
            show(&door, object);
            shown += 1;
        }
    }
    Ok(None)
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
    if let Some(resource) = filter.resource {
        let index = filter::of_anything(query.kind);
        return Box::new(state.by_key(index, &resource.to_string(), after));
    }
    let linking = |target: ObjectId| {
        let ids = state.linking_to_after(target, after);
        Box::new(ids.filter_map(|id| state.get(id)))
    };
    let linked = |is_tenants: bool| {
        let mut ids = filter.linked_of(query.kind);
        ids.find(|id| state.get(*id).is_some_and(|it| it.tenant.is_some()) == is_tenants)
    };
    let mut by_status = filter.linked_by_status.iter().map(|(_, id)| *id);
    if let Some(target) = by_status.next() {
        return linking(target);
    }
    if let Some(target) = filter.parent.or_else(|| linked(true)) {
        return linking(target);
    }
    if let Some(label) = filter.indexed_label(query) {
        return Box::new(state.by_key(key::LABEL, &format!("{kind}/{label}"), after));
    }
    if let (Some(group), Kind::Baremetal) = (filter.group, query.kind) {
        return Box::new(state.by_key(key::HOST_GROUP, &group.to_string(), after));
    }
    if let Some(tenant) = one_tenant(door, filter, query.kind) {
        return Box::new(state.by_key(key::TENANT, &format!("{kind}/{tenant}"), after));
    }
    // What the cloud owns may be named by everybody's: a tenant's own key, above, is narrower.
    if let Some(target) = linked(false) {
        return linking(target);
    }
    if let (Some(phase), Kind::VirtualMachine) = (&query.phase, query.kind) {
        return Box::new(state.by_key(key::VM_PHASE, phase, after));
    }
    if let (Some(far), Kind::Operation) = (&query.state, query.kind) {
        return Box::new(state.by_key(key::OPERATION_STATE, far, after));
    }
    Box::new(state.of_kind(kind, after))
}

/// The one tenant under whose key all is that a list may have: the only one whose objects the asker sees, so that
/// nobody pays for their neighbours, or the one that is asked about.
pub(super) fn one_tenant(door: &Door<'_>, filter: &Filter, kind: Kind) -> Option<ObjectId> {
    // Objects of the system that concern a tenant, quotas, are not under its key; they are few.
    let named = filter.tenant.filter(|_| kind.scope() != Scope::System);
    only_tenant(&door.rights, kind).or(named)
}

/// The one tenant outside which the asker sees nothing of a kind.
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

/// What tells one list from another.
pub(super) fn question(query: &ListQuery, filter: &Filter) -> String {
    format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        query.kind.name(),
        filter.tenant,
        filter.parent,
        filter.resource,
        query.name,
        filter.host,
        query.phase,
        filter.group,
        filter.subject,
        query.state,
        query.scope,
        query.words,
        query.label,
        query.labels,
        filter.references
    )
}
