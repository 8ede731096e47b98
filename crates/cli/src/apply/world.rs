//! What documents mean in a cluster: the objects that are there already, and the ids of what is named.

use std::collections::BTreeMap;

use serde_json::Value;
use virtflow_client::{Call, ClientError, Method};
use virtflow_model::{Kind, Owner, Reference, Scope};
use virtflow_types::ErrorCode;

use super::document::{Document, Facts, Whose};
use super::typed;
use crate::failure::Failure;
use crate::run::Cluster;

/// Objects without names that are compared with a document.
const COMPARED_MAX: usize = 1000;

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// An object, by its id.
    There(String),
    /// What this document asks for and what is not there yet.
    Coming(usize),
    /// Nothing.
    Missing,
}

/// Who asks.
#[derive(Debug, Clone)]
struct Asker {
    id: Option<String>,
    tenant: Option<String>,
}

/// What narrows a list to an owner's, and, where a list cannot be narrowed so, the tenant a row must be of.
#[derive(Debug, Default)]
struct Within {
    query: Vec<(&'static str, String)>,
    tenant: Option<Option<String>>,
}

impl Within {
    fn by(parameter: &'static str, id: String) -> Self {
        Self {
            query: vec![(parameter, id)],
            tenant: None,
        }
    }
    fn of(tenant: Option<String>) -> Self {
        Self {
            query: Vec::new(),
            tenant: Some(tenant),
        }
    }
}

/// The documents of a command and what is known of them.
#[derive(Debug)]
pub(super) struct World<'c> {
    cluster: &'c Cluster,
    pub(super) documents: Vec<Document>,
    /// The objects that they mean, as they were read last.
    pub(super) there: Vec<Option<Value>>,
    pub(super) names: BTreeMap<(Kind, Option<String>, String), Option<String>>,
    asker: Option<Asker>,
}

impl<'c> World<'c> {
    /// Looks up every document's object. An owner is looked up before what is its.
    pub(super) async fn look(
        cluster: &'c Cluster,
        documents: Vec<Document>,
    ) -> Result<Self, Failure> {
        let mut order: Vec<usize> = (0..documents.len()).collect();
        order.sort_by_key(|at| rank(documents[*at].kind));
        let mut world = Self {
            cluster,
            there: documents.iter().map(|_| None).collect(),
            documents,
            names: BTreeMap::new(),
            asker: None,
        };
        world.refuse_twins()?;
        for at in order {
            world.there[at] = world.find(at).await?;
        }
        world.refuse_two_for_one()?;
        Ok(world)
    }

    /// The id of a document's object.
    pub(super) fn id_of(&self, at: usize) -> Option<&str> {
        self.there[at].as_ref()?["id"].as_str()
    }

    /// Two documents that cannot be told apart are refused before anything is looked up.
    fn refuse_twins(&self) -> Result<(), Failure> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (at, document) in self.documents.iter().enumerate() {
            let (kind, whose) = (document.kind, &document.whose);
            let key = match (&document.name, &document.id) {
                (Some(name), _) => {
                    let (under, apart) = (document.under(), document.apart());
                    let named =
                        is_named_within_tenants_only(kind).then(|| said_references(document));
                    format!("{kind:?} {whose:?} {under:?} {name} {apart:?} {named:?}")
                }
                (None, Some(id)) => format!("{kind:?} {id}"),
                (None, None) => format!(
                    "{kind:?} {whose:?} {:?} {:?}",
                    document.under(),
                    document.spec
                ),
            };
            if let Some(before) = seen.insert(key, at) {
                return Err(self.twins(before, at));
            }
        }
        Ok(())
    }

    fn refuse_two_for_one(&self) -> Result<(), Failure> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for at in 0..self.documents.len() {
            if let Some(before) = self.id_of(at).and_then(|id| seen.insert(id, at)) {
                return Err(self.twins(before, at));
            }
        }
        Ok(())
    }

    fn twins(&self, before: usize, at: usize) -> Failure {
        let (document, before) = (&self.documents[at], &self.documents[before]);
        document.at.refuse(format!(
            "{} stands here a second time; the first is in {}",
            document.call(),
            before.at
        ))
    }

    /// Reads an object again; nothing if it is gone.
    pub(super) async fn read_again(&mut self, at: usize) -> Result<(), Failure> {
        self.there[at] = match self.id_of(at).map(str::to_owned) {
            Some(id) => self.get(self.documents[at].kind, &id, None).await?,
            None => self.find(at).await?,
        };
        Ok(())
    }

    pub(super) async fn get(
        &self,
        kind: Kind,
        target: &str,
        tenant: Option<&str>,
    ) -> Result<Option<Value>, Failure> {
        let call = Call::new(Method::Get, &[kind.plural(), target])?.query_if("tenant", tenant);
        match self.cluster.client.send(&call).await {
            Ok(answer) => Ok(Some(answer.data)),
            Err(ClientError::Api(error)) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The tenant of whoever asks, as far as that had to be known.
    pub(super) fn home(&self) -> Option<String> {
        self.asker.as_ref()?.tenant.clone()
    }

    async fn asker(&mut self) -> Result<Asker, Failure> {
        if let Some(asker) = &self.asker {
            return Ok(asker.clone());
        }
        let call = Call::new(Method::Get, &["auth", "whoami"])?;
        let data = self.cluster.client.send(&call).await?.data;
        let text = |pointer: &str| {
            data.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let asker = Asker {
            id: text("/user/id"),
            tenant: text("/user/tenant_id"),
        };
        self.asker = Some(asker.clone());
        Ok(asker)
    }

    /// The object that a document means, if it is there.
    async fn find(&mut self, at: usize) -> Result<Option<Value>, Failure> {
        let document = self.documents[at].clone();
        let kind = document.kind;
        if !kind.is_named()
            && let Some(id) = &document.id
            && let Some(object) = self.get(kind, id, None).await?
        {
            return Ok(Some(object));
        }
        let Some(Within { mut query, tenant }) = self.within(&document).await? else {
            return Ok(None);
        };
        match &document.name {
            Some(name) => query.push(("name", name.clone())),
            None => {
                let Some(mut references) = self.references(&document).await? else {
                    return Ok(None);
                };
                query.append(&mut references);
            }
        }
        let call = Call::new(Method::Get, &[kind.plural()])?;
        let call = query
            .into_iter()
            .fold(call, |call, (name, value)| call.query(name, value));
        let listed = self.cluster.client.list(&call, COMPARED_MAX).await?;
        let mut rows = listed.rows;
        if let Some(tenant) = &tenant {
            rows.retain(|row| row["tenant_id"].as_str() == tenant.as_deref());
        }
        // Of several of one name it is the one that says the same in what tells them apart.
        if let (Some(field), Some(wanted)) = (kind.rules().told_apart, document.apart()) {
            rows.retain(|row| row["spec"][field].as_str().unwrap_or_default() == wanted);
        }
        if document.name.is_none() {
            if listed.more {
                return Err(document.at.refuse(format!(
                    "there are more than {COMPARED_MAX} objects of the kind {} that this could be: give its `id`",
                    kind.name()
                )));
            }
            let mut wanted = document.spec.clone();
            self.fill(at, &mut wanted).await?;
            return Ok(typed::same(kind, rows, &wanted));
        }
        if is_named_within_tenants_only(kind) {
            rows = self.whose(&document, rows).await?;
        }
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            n => Err(document.at.refuse(format!(
                "{n} objects are called so: say whose it is, as `tenant` or `parent`"
            ))),
        }
    }

    /// Of objects of one name under what is the cloud's, a document's: that which names the same; if none does, that
    /// of the tenant whose it is said to be.
    async fn whose(
        &mut self,
        document: &Document,
        rows: Vec<Value>,
    ) -> Result<Vec<Value>, Failure> {
        let named = self.references(document).await?.unwrap_or_default();
        if !named.is_empty() {
            let names_them = |row: &&Value| {
                let mut named = named.iter();
                named.all(|(field, id)| row["spec"][format!("{field}_id")] == **id)
            };
            let same: Vec<Value> = rows.iter().filter(names_them).cloned().collect();
            if !same.is_empty() {
                return Ok(same);
            }
        }
        let tenant = self.tenant_of(document).await?;
        let theirs = rows.into_iter();
        Ok(theirs
            .filter(|row| row["tenant_id"].as_str() == tenant.as_deref())
            .collect())
    }

    /// Where a document's object is to be looked for; nothing if its owner is not there yet.
    async fn within(&mut self, document: &Document) -> Result<Option<Within>, Failure> {
        let kind = document.kind;
        if let Some((parent_kind, _)) = lives_under(kind) {
            return match self.parent(document, parent_kind).await? {
                Named::There(id) => Ok(Some(Within::by("parent", id))),
                Named::Coming(_) => Ok(None),
                Named::Missing => Err(self.missing(document, "parent", document.under())),
            };
        }
        if kind.scope() == Scope::System || is_where_it_reaches(kind) {
            return Ok(Some(Within::default()));
        }
        match &document.whose {
            Whose::Tenants(tenant) => match self.named(Kind::Tenant, tenant, None).await? {
                Named::There(id) => Ok(Some(Within::by("tenant", id))),
                Named::Coming(_) => Ok(None),
                Named::Missing => Err(self.missing(document, "tenant", Some(tenant))),
            },
            Whose::Clouds => Ok(Some(Within::of(None))),
            Whose::Unsaid => {
                let home = self.asker().await?.tenant;
                if home.is_none() && kind.scope() == Scope::Tenant {
                    return Err(document.at.refuse(
                        "`tenant` is missing: you belong to no tenant, so say whose it is",
                    ));
                }
                Ok(Some(Within::of(home)))
            }
        }
    }

    /// What a document's object lives under. What lives under a user and is theirs is the asker's, unless somebody
    /// else is named.
    pub(super) async fn parent(
        &mut self,
        document: &Document,
        kind: Kind,
    ) -> Result<Named, Failure> {
        let tenant = self.tenant_of(document).await?;
        if let Some(text) = document.under() {
            return self.named(kind, text, tenant.as_deref()).await;
        }
        match self.asker().await?.id {
            Some(id) if document.kind.rules().owner == Owner::Parent => Ok(Named::There(id)),
            _ => Err(document.at.refuse(format!(
                "{} lives under {}: name it as `parent`",
                document.kind.with_article(),
                kind.with_article()
            ))),
        }
    }

    /// What narrows a list to objects that name the same; nothing if something of it is not there yet.
    async fn references(
        &mut self,
        document: &Document,
    ) -> Result<Option<Vec<(&'static str, String)>>, Failure> {
        let tenant = self.tenant_of(document).await?;
        let mut query = Vec::new();
        for (reference, text) in said_references(document) {
            match self.named(reference.kind, text, tenant.as_deref()).await? {
                Named::There(id) => query.push((reference.field, id)),
                Named::Coming(_) => return Ok(None),
                Named::Missing => return Err(self.missing(document, reference.field, Some(text))),
            }
        }
        Ok(Some(query))
    }

    pub(super) fn missing(&self, document: &Document, field: &str, text: Option<&str>) -> Failure {
        document.at.refuse(format!(
            "{field}: there is no `{}`, neither in the cluster nor in these documents",
            text.unwrap_or_default()
        ))
    }

    /// Within which tenant a document's names are looked up first.
    pub(super) async fn tenant_of(
        &mut self,
        document: &Document,
    ) -> Result<Option<String>, Failure> {
        Ok(match &document.whose {
            Whose::Tenants(tenant) => match self.named(Kind::Tenant, tenant, None).await? {
                Named::There(id) => Some(id),
                _ => Some(tenant.clone()),
            },
            Whose::Clouds => None,
            Whose::Unsaid => self.asker().await?.tenant,
        })
    }
}

/// The kind that objects of a kind live under, and the field of the spec that names it, if there is one.
pub(super) fn lives_under(kind: Kind) -> Option<(Kind, Option<&'static str>)> {
    let rules = kind.rules();
    let named = rules
        .parent()
        .map(|parent| (parent.kind, Some(parent.field)));
    named.or_else(|| (rules.owner == Owner::Parent).then_some((Kind::User, None)))
}

/// What a document names beside what its object lies under, by name or id.
fn said_references(document: &Document) -> Vec<(&'static Reference, &str)> {
    let rules = document.kind.rules();
    let references = rules.references.iter();
    let others = references.filter(|reference| rules.parent() != Some(*reference));
    let said = |reference: &'static Reference| {
        let by_name = document.spec.get(reference.field);
        let by_id = || document.spec.get(&format!("{}_id", reference.field));
        Some((reference, by_name.or_else(by_id)?.as_str()?))
    };
    others.filter_map(said).collect()
}

/// True if an object is the tenant's whose is what it names, whatever is said of it: a binding that of its scope.
pub(super) fn is_where_it_reaches(kind: Kind) -> bool {
    kind.rules().anything.is_some()
}

/// True if objects of several tenants live under one that is the cloud's: a pool of addresses, in its data centre, is
/// the tenant's whose its subnet is.
fn is_named_within_tenants_only(kind: Kind) -> bool {
    let above = lives_under(kind).map(|(above, _)| above.scope());
    above == Some(Scope::System) && kind.scope() != Scope::System
}

/// An owner's rank is below that of what is its, and what has a name below what is known by what it refers to.
fn rank(kind: Kind) -> usize {
    let own = if kind.is_named() { 0 } else { 100 };
    let above = match (kind.rules().parent(), kind.scope()) {
        (Some(parent), _) => rank(parent.kind) + 1,
        (None, Scope::System) => 0,
        (None, _) => 1,
    };
    own + above
}
