//! What a list asks for, with its names looked up, and whether an object is that.

use serde_json::Value;
use virtflow_model::kinds::Baremetal;
use virtflow_model::{By, Kind, LOCKED, Reference, key};
use virtflow_state::Object;
use virtflow_types::{Error, ObjectId, Timestamp};

use super::list::ListQuery;
use super::search::label_place;
use super::selector::Selector;
use crate::door::Door;
use crate::typed::decoded;
use crate::views::ViewPart;

/// The only word that is asked for and stands in the status: that of hosts.
const HEALTH: &str = "health";

/// Filters by what stands in the status and is linked from there: kind, parameter, field.
const STATUS_LINKS: &[(Kind, &str, &str)] = &[
    (Kind::IpAddress, "owner", "owner_id"),
    (Kind::IpAddress, "subnet", "subnet_id"),
];

/// Whether that is among the tags; where tags have values, `key` or `key=value`.
fn has_tag(tags: &Value, asked: &str) -> bool {
    match tags {
        Value::Array(tags) => tags.iter().any(|tag| *tag == *asked),
        Value::Object(tags) => match asked.split_once('=') {
            Some((key, value)) => tags.get(key).is_some_and(|tag| *tag == *value),
            None => tags.contains_key(asked),
        },
        _ => false,
    }
}

/// A query with its names looked up.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) tenant: Option<ObjectId>,
    pub(super) parent: Option<ObjectId>,
    /// What is looked after.
    pub(super) resource: Option<ObjectId>,
    pub(super) host: Option<ObjectId>,
    pub(super) group: Option<ObjectId>,
    pub(super) subject: Option<ObjectId>,
    /// What labels have to be.
    labels: Option<Selector>,
    /// When it is asked.
    now: Timestamp,
    /// Declared references and what they have to name.
    pub(super) references: Vec<(&'static Reference, ObjectId)>,
    /// Fields of the status whose object is always linked, and what they have to name.
    pub(super) linked_by_status: Vec<(&'static str, ObjectId)>,
}

impl Filter {
    /// Looks up, with the asker's eyes, what the query names.
    pub(super) fn of(door: &Door<'_>, query: &ListQuery) -> Result<Self, Error> {
        refuse_unknown(query)?;
        let kind = query.kind;
        let tenant = match &query.tenant {
            Some(text) => Some(door.find(Kind::Tenant, text, None)?.id),
            None => None,
        };
        // A name may be in several tenants: the one that is asked about comes first.
        let find = |what: Kind, text: &str| {
            door.find(what, text, tenant)
                .or_else(|_| door.find(what, text, None))
                .map(|object| object.id)
        };
        let labels = query.labels.as_deref();
        let mut filter = Self {
            tenant,
            now: door.cx.now,
            labels: labels
                .map(|text| Selector::read("labels", text))
                .transpose()?,
            ..Self::default()
        };
        if let (Some(By::Object(what)), Some(text)) = (by_of(kind, "parent"), &query.parent) {
            filter.parent = Some(find(what, text)?);
        }
        let mut declared: Vec<(&str, &str)> = Vec::new();
        for (name, text) in [
            ("host", &query.host),
            ("group", &query.group),
            ("subject", &query.subject),
        ] {
            let Some(text) = text else { continue };
            // Some of these say more than the field of that name, or have an index of their own.
            match (name, kind) {
                ("host", Kind::VirtualMachine | Kind::Residue) => {
                    filter.host = Some(find(Kind::Baremetal, text)?);
                }
                ("group", Kind::VirtualMachine | Kind::Baremetal) => {
                    filter.group = Some(find(Kind::BaremetalGroup, text)?);
                }
                ("subject", Kind::RoleBinding) => filter.subject = Some(find(Kind::User, text)?),
                _ => declared.push((name, text)),
            }
        }
        let references = query.references.iter();
        declared.extend(references.map(|(name, text)| (name.as_str(), text.as_str())));
        for (name, text) in declared {
            if by_of(kind, name) == Some(By::Any) {
                let problem =
                    || Error::invalid(name, "must be `kind/name`, or the id of an object");
                filter.resource = Some(match text.split_once('/') {
                    Some((what, named)) => find(Kind::parse(what).ok_or_else(problem)?, named)?,
                    None => text.parse().map_err(|_| problem())?,
                });
            }
            let by_status = STATUS_LINKS
                .iter()
                .find(|(of, field, _)| (*of, *field) == (kind, name));
            if let Some((_, _, at)) = by_status
                && let Some(By::Object(what)) = by_of(kind, name)
            {
                filter.linked_by_status.push((at, find(what, text)?));
            }
            let mut references = kind.rules().references.iter();
            if let Some(reference) = references.find(|reference| reference.field == name) {
                let id = find(reference.kind, text)?;
                filter.references.push((reference, id));
            }
        }
        Ok(filter)
    }

    /// `key=value` that is asked for and that an index of the kind's labels leads to.
    pub(super) fn indexed_label(&self, query: &ListQuery) -> Option<String> {
        if !query.kind.labels_are_indexed() {
            return None;
        }
        let pair = || self.labels.as_ref()?.pair();
        let of_pair = || pair().map(|(label, value)| format!("{label}={value}"));
        query.label.clone().or_else(of_pair)
    }

    /// What SQL can tell of it: values, each with the places that may have it. Nothing that matches is left out.
    pub(super) fn conditions(&self, query: &ListQuery) -> Vec<(Vec<(ViewPart, String)>, String)> {
        let spec = |path: String| (ViewPart::Spec, path);
        let status = |path: &str| (ViewPart::Status, path.to_owned());
        let mut conditions = Vec::new();
        let references = self.references.iter();
        conditions.extend(references.map(|(reference, id)| {
            (
                vec![spec(format!("$.{}_id", reference.field))],
                id.to_string(),
            )
        }));
        let by_status = self.linked_by_status.iter();
        conditions.extend(
            by_status.map(|(at, id)| (vec![status(&format!("$.status.{at}"))], id.to_string())),
        );
        if let Some(host) = self.host {
            let places = vec![
                spec("$.host_id".into()),
                status("$.status.placement.host_id"),
            ];
            conditions.push((places, host.to_string()));
        }
        if let Some(group) = self.group {
            let places = vec![
                spec("$.group_id".into()),
                status("$.status.placement.group_id"),
            ];
            conditions.push((places, group.to_string()));
        }
        if let Some(phase) = &query.phase {
            conditions.push((vec![status("$.status.phase")], phase.clone()));
        }
        if let Some(state) = &query.state
            && !asks_for_locked(query)
        {
            let of_status = ["$.status.state", "$.status.liveness"].map(status);
            let places = of_status.into_iter().chain([spec("$.state".into())]);
            conditions.push((places.collect(), state.clone()));
        }
        if let Some(scope) = &query.scope {
            conditions.push((vec![spec("$.scope".into())], scope.clone()));
        }
        for (field, word) in &query.words {
            match (field.as_str(), word.as_str()) {
                // An array, and what rows of before it was told do not have.
                ("tag", _) | (HEALTH, "unknown") => {}
                (HEALTH, _) => conditions.push((vec![status("$.status.health")], word.clone())),
                _ => conditions.push((vec![spec(format!("$.{field}"))], word.clone())),
            }
        }
        let label = query
            .label
            .as_deref()
            .and_then(|label| label.split_once('='));
        let pair = self.labels.as_ref().and_then(Selector::pair);
        for (label, value) in label.into_iter().chain(pair) {
            let places = label_place(query.kind, label);
            conditions.extend(places.map(|places| (places, value.to_owned())));
        }
        conditions
    }

    /// What is named by references whose links lead back to all that name it.
    pub(super) fn linked_of(&self, kind: Kind) -> impl Iterator<Item = ObjectId> + '_ {
        let references = self.references.iter();
        references
            .filter(move |(reference, _)| kind.is_linked(reference.field))
            .map(|(_, id)| *id)
    }

    /// True if an object is what the query asks for.
    pub(super) fn matches(&self, object: &Object, query: &ListQuery) -> bool {
        if !same(self.parent, object.parent)
            || query
                .name
                .as_ref()
                .is_some_and(|name| *name != object.name.as_str())
            || !self.may_be_of_tenant(object, query.kind)
            || !self.matches_keys(object, query)
        {
            return false;
        }
        // Links tell what is not named without reading the JSON: a page may look at ten thousand objects.
        let links = &object.footprint.links;
        if self.linked_of(query.kind).any(|id| !links.contains(&id)) {
            return false;
        }
        if self
            .linked_by_status
            .iter()
            .any(|(_, id)| !links.contains(id))
        {
            return false;
        }
        if query.kind == Kind::Baremetal && !self.matches_host(object, query) {
            return false;
        }
        self.matches_fields(object, query)
    }

    /// Whose tenant it is tells of most kinds that they are of another, without reading the JSON: a thousand watchers of as
    /// many tenants look at each change. Some objects name in their spec the tenant that they are about.
    fn may_be_of_tenant(&self, object: &Object, kind: Kind) -> bool {
        let mut references = kind.rules().references.iter();
        same(self.tenant, object.tenant) || references.any(|it| it.kind == Kind::Tenant)
    }

    /// What index keys say.
    fn matches_keys(&self, object: &Object, query: &ListQuery) -> bool {
        let has_key = |name: &str, value: &str| {
            object
                .footprint
                .keys
                .iter()
                .any(|key| key.name == name && key.value == value)
        };
        if let Some(label) = query
            .label
            .as_ref()
            .filter(|_| query.kind.labels_are_indexed())
            && !has_key(key::LABEL, &format!("{}/{label}", query.kind.name()))
        {
            return false;
        }
        if let Some(resource) = self.resource
            && !has_key(of_anything(query.kind), &resource.to_string())
        {
            return false;
        }
        if let Some(host) = self.host {
            let host = host.to_string();
            if !has_key(key::VM_HOST, &host) && !has_key(key::RESIDUE_HOST, &host) {
                return false;
            }
        }
        if let Some(subject) = self.subject
            && !has_key(key::BINDING_SUBJECT, &subject.to_string())
        {
            return false;
        }
        match (query.kind, &query.phase, &query.state) {
            (Kind::VirtualMachine, Some(phase), _) => has_key(key::VM_PHASE, phase),
            (Kind::Operation, _, Some(far)) => has_key(key::OPERATION_STATE, far),
            _ => true,
        }
    }

    /// What stands in spec and status, where no index key has said it already.
    fn matches_fields(&self, object: &Object, query: &ListQuery) -> bool {
        let of_tenant = same(self.tenant, object.tenant);
        let phase = query
            .phase
            .as_ref()
            .filter(|_| query.kind != Kind::VirtualMachine);
        let state = query
            .state
            .as_ref()
            .filter(|_| !matches!(query.kind, Kind::Operation | Kind::Baremetal));
        let label = query
            .label
            .as_ref()
            .filter(|_| !query.kind.labels_are_indexed());
        let group = self.group.filter(|_| query.kind != Kind::Baremetal);
        if of_tenant
            && group.is_none()
            && self.references.is_empty()
            && self.linked_by_status.is_empty()
            && self.labels.is_none()
            && query.scope.is_none()
            && query.words.iter().all(|(field, _)| field == HEALTH)
            && [phase, state, label].iter().all(Option::is_none)
        {
            return true;
        }
        let spec = json(&object.spec);
        let status = json(&object.status)["status"].take();
        let is = |value: &Value, id: ObjectId| value.as_str() == Some(id.to_string().as_str());
        if let Some(group) = group
            && !is(&spec["group_id"], group)
            && !is(&status["placement"]["group_id"], group)
        {
            return false;
        }
        if let Some(tenant) = self.tenant
            && !of_tenant
            && !is(&spec["tenant_id"], tenant)
        {
            return false;
        }
        let mut references = self.references.iter();
        if !references.all(|(reference, id)| is(&spec[format!("{}_id", reference.field)], *id)) {
            return false;
        }
        let mut by_status = self.linked_by_status.iter();
        if !by_status.all(|(at, id)| is(&status[*at], *id)) {
            return false;
        }
        let mut selectors = self.labels.iter();
        if !selectors.all(|selector| selector.holds(&spec["labels"])) {
            return false;
        }
        let mut words = query.words.iter();
        let has_words = words.all(|(field, word)| match field.as_str() {
            "tag" => has_tag(&spec["tags"], word),
            // It was looked at in the typed value.
            HEALTH => true,
            field => spec[field] == **word,
        });
        let scope = query.scope.as_ref();
        let has_state = |state: &String| match asks_for_locked(query) {
            true => is_locked(&status, self.now),
            false => spec["state"] == **state || status["state"] == **state,
        };
        has_words
            && scope.is_none_or(|scope| spec["scope"] == **scope)
            && phase.is_none_or(|phase| status["phase"] == **phase)
            && state.is_none_or(has_state)
            && label.is_none_or(|label| {
                label
                    .split_once('=')
                    .is_some_and(|(key, value)| spec["labels"][key] == *value)
            })
    }

    /// What a host's typed value answers, which is kept beside it once it was read.
    fn matches_host(&self, object: &Object, query: &ListQuery) -> bool {
        let Ok(host) = decoded::<Baremetal>(object) else {
            return false;
        };
        let of_group = self.group.is_none_or(|group| host.spec.group_id == group);
        let in_state = query.state.as_ref().is_none_or(|state| {
            host.spec.state.name() == state || host.status.liveness.name() == state
        });
        let mut words = query.words.iter();
        let in_health =
            words.all(|(field, word)| field != HEALTH || host.status.health.name() == word);
        of_group && in_state && in_health
    }
}

/// The index by what an object of the kind is about.
pub(super) const fn of_anything(kind: Kind) -> &'static str {
    match kind {
        Kind::Operation => key::OPERATION_TARGET,
        _ => key::MAINTAINER_END,
    }
}

/// True if users are asked for whose logins are refused for a while.
fn asks_for_locked(query: &ListQuery) -> bool {
    query.kind == Kind::User && query.state.as_deref() == Some(LOCKED)
}

fn is_locked(status: &Value, now: Timestamp) -> bool {
    let until = status["locked_until"].as_str();
    let until = until.and_then(|text| text.parse::<Timestamp>().ok());
    until.is_some_and(|until| until > now)
}

fn same(asked: Option<ObjectId>, has: Option<ObjectId>) -> bool {
    asked.is_none() || asked == has
}

fn by_of(kind: Kind, name: &str) -> Option<By> {
    let mut filters = kind.filters().iter();
    filters
        .find(|filter| filter.name == name)
        .map(|filter| filter.by)
}

/// Refuses what says nothing about the kind.
fn refuse_unknown(query: &ListQuery) -> Result<(), Error> {
    let given = [
        ("tenant", query.tenant.is_some()),
        ("parent", query.parent.is_some()),
        ("name", query.name.is_some()),
        ("host", query.host.is_some()),
        ("phase", query.phase.is_some()),
        ("group", query.group.is_some()),
        ("subject", query.subject.is_some()),
        ("state", query.state.is_some()),
        ("scope", query.scope.is_some()),
        ("label", query.label.is_some()),
        ("labels", query.labels.is_some()),
    ];
    let given = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name);
    let references = query.references.iter().map(|(name, _)| name.as_str());
    let words = query.words.iter().map(|(name, _)| name.as_str());
    for name in given.chain(references).chain(words) {
        if by_of(query.kind, name).is_none() {
            let known: Vec<&str> = query
                .kind
                .filters()
                .iter()
                .map(|known| known.name)
                .collect();
            return Err(Error::invalid(
                name,
                format!(
                    "says nothing about {}; its lists know {}",
                    query.kind.with_article(),
                    known.join(", ")
                ),
            ));
        }
    }
    refuse_unknown_words(query)
}

/// A word that no object can have finds nothing, and is more likely a slip than a question.
fn refuse_unknown_words(query: &ListQuery) -> Result<(), Error> {
    let asked = [("phase", &query.phase), ("state", &query.state)];
    let asked = asked
        .into_iter()
        .filter_map(|(name, word)| Some((name, word.as_ref()?)));
    let others = query.words.iter().map(|(name, word)| (name.as_str(), word));
    for (name, word) in asked.chain(others) {
        let words = query.kind.words(name);
        if !words.is_empty() && !words.contains(word) {
            let problem = format!("`{word}` is none of {}", words.join(", "));
            return Err(Error::invalid(name, problem));
        }
    }
    Ok(())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
