//! What is named in documents, by name or by id: an object of the cluster, or one that another document asks for.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use virtflow_model::{Kind, Scope};
use virtflow_types::ObjectId;

use super::document::{Document, Whose};
use super::world::{Named, World};
use crate::failure::Failure;

impl World<'_> {
    /// The documents that ask for what a name or an id means.
    fn meant(&self, kind: Kind, text: &str) -> impl Iterator<Item = usize> {
        let all = self.documents.iter().enumerate();
        all.filter(move |(_, it)| it.kind == kind && it.goes_by(text))
            .map(|(at, _)| at)
    }

    /// What a name or an id leads to: an object of these documents, or one of the cluster.
    pub(super) async fn named(
        &mut self,
        kind: Kind,
        text: &str,
        tenant: Option<&str>,
    ) -> Result<Named, Failure> {
        let mut meant: Vec<usize> = self.meant(kind, text).collect();
        // Of several of one name, the name alone means the one that nothing tells apart.
        let is_plain = |at: &usize| self.documents[*at].apart() == Some("");
        if meant.len() > 1 && meant.iter().any(is_plain) {
            meant.retain(is_plain);
        }
        let of_tenant = |at: &usize| match &self.documents[*at].whose {
            Whose::Tenants(whose) => {
                let id = self
                    .meant(Kind::Tenant, whose)
                    .find_map(|it| self.id_of(it));
                Some(whose.as_str()) == tenant || (tenant.is_some() && id == tenant)
            }
            _ => false,
        };
        let own: Vec<usize> = meant.iter().copied().filter(of_tenant).collect();
        let one = match (own.as_slice(), meant.as_slice()) {
            ([one], _) | ([], [one]) => Some(*one),
            _ => None,
        };
        if let Some(at) = one {
            return Ok(match self.id_of(at) {
                Some(id) => Named::There(id.to_owned()),
                None => Named::Coming(at),
            });
        }
        if text.parse::<ObjectId>().is_ok() {
            return Ok(Named::There(text.to_owned()));
        }
        let within = tenant.filter(|_| kind.scope() != Scope::System);
        let key = (kind, within.map(str::to_owned), text.to_owned());
        if let Some(known) = self.names.get(&key) {
            return Ok(self.there_or_coming(known.clone(), &meant));
        }
        let mut object = match within {
            Some(tenant) => self.get(kind, text, Some(tenant)).await?,
            None => None,
        };
        if object.is_none() {
            object = self.get(kind, text, None).await?;
        }
        let id = object.and_then(|object| object["id"].as_str().map(str::to_owned));
        if id.is_some() {
            self.names.insert(key, id.clone());
        }
        Ok(self.there_or_coming(id, &meant))
    }

    fn there_or_coming(&self, id: Option<String>, meant: &[usize]) -> Named {
        let coming = meant.iter().find(|at| self.there[**at].is_none());
        match (id, coming) {
            (Some(id), _) => Named::There(id),
            (None, Some(at)) => Named::Coming(*at),
            (None, None) => Named::Missing,
        }
    }

    /// A tenant's id, where it is known, else what it was called.
    pub(super) fn tenants_id(&self, text: &str) -> String {
        let of_documents = self.meant(Kind::Tenant, text).find_map(|at| self.id_of(at));
        let key = (Kind::Tenant, None, text.to_owned());
        let known = of_documents.or_else(|| self.names.get(&key)?.as_deref());
        known.unwrap_or(text).to_owned()
    }

    /// The tenants, or the cloud itself, whose objects documents of a kind ask for.
    pub(super) fn owners(&self, kind: Kind) -> BTreeSet<Option<String>> {
        let all = self.documents.iter().zip(&self.there);
        all.filter(|(document, _)| document.kind == kind)
            .map(|(document, there)| match (there, &document.whose) {
                (Some(object), _) => object["tenant_id"].as_str().map(str::to_owned),
                (None, Whose::Tenants(tenant)) => Some(self.tenants_id(tenant)),
                (None, Whose::Unsaid) => self.home(),
                (None, Whose::Clouds) => None,
            })
            .collect()
    }

    /// Puts ids in the place of names, and ids of this cluster in the place of those that the documents were written
    /// with. Gives what is named and not there yet; that stays as it stands.
    pub(super) async fn fill(
        &mut self,
        at: usize,
        spec: &mut Map<String, Value>,
    ) -> Result<Vec<usize>, Failure> {
        let document = self.documents[at].clone();
        let rules = document.kind.rules();
        let tenant = self.tenant_of(&document).await?;
        let mut coming = Vec::new();
        for reference in rules.references {
            let said = match spec.remove(reference.field) {
                None => continue,
                Some(Value::String(text)) => text,
                Some(_) => {
                    spec.insert(format!("{}_id", reference.field), Value::Null);
                    continue;
                }
            };
            match self.named(reference.kind, &said, tenant.as_deref()).await? {
                Named::There(id) => {
                    spec.insert(format!("{}_id", reference.field), id.into());
                }
                Named::Coming(it) => {
                    coming.push(it);
                    spec.insert(reference.field.into(), said.into());
                }
                Named::Missing => {
                    return Err(self.missing(&document, reference.field, Some(&said)));
                }
            }
        }
        if let Some(any) = rules.anything
            && let Some(said) = spec.remove(any.field)
        {
            let said = said.as_str().unwrap_or("system").to_owned();
            let id = format!("{}_id", any.field);
            match self.anything(&document, any.field, &said).await? {
                None => {
                    spec.insert(id, Value::Null);
                }
                Some(Named::There(there)) => {
                    spec.insert(id, there.into());
                }
                Some(Named::Coming(it)) => {
                    coming.push(it);
                    spec.insert(any.field.into(), said.into());
                }
                Some(Named::Missing) => {
                    return Err(self.missing(&document, any.field, Some(&said)));
                }
            }
        }
        for value in spec.values_mut() {
            self.translate(value, &mut coming);
        }
        Ok(coming)
    }

    /// `system`, `kind/name`, or an id.
    async fn anything(
        &mut self,
        document: &Document,
        field: &str,
        said: &str,
    ) -> Result<Option<Named>, Failure> {
        if said == "system" {
            return Ok(None);
        }
        let Some((kind, name)) = said.split_once('/') else {
            let there = |_| Named::There(said.to_owned());
            let named = said.parse::<ObjectId>().map_or(Named::Missing, there);
            return Ok(Some(named));
        };
        let kind = Kind::parse(kind).ok_or_else(|| {
            document
                .at
                .refuse(format!("{field}: there is no kind `{kind}`"))
        })?;
        let tenant = self.tenant_of(document).await?;
        self.named(kind, name, tenant.as_deref()).await.map(Some)
    }

    /// The document that was written with this id.
    fn written_with(&self, id: &str) -> Option<usize> {
        let mut all = self.documents.iter();
        all.position(|it| it.id.as_deref() == Some(id))
    }

    /// An id that a document was written with becomes that of its object here.
    fn translate(&self, value: &mut Value, coming: &mut Vec<usize>) {
        match value {
            Value::String(text) => {
                let Some(at) = self.written_with(text) else {
                    return;
                };
                match self.id_of(at) {
                    Some(id) => id.clone_into(text),
                    None => coming.push(at),
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|it| self.translate(it, coming)),
            Value::Object(fields) => fields
                .values_mut()
                .for_each(|it| self.translate(it, coming)),
            _ => {}
        }
    }

    /// The documents whose objects a document names: its owner, what it lives under, what its spec refers to.
    pub(super) fn named_by(&self, at: usize) -> Vec<usize> {
        let document = &self.documents[at];
        let rules = document.kind.rules();
        let mut named = Vec::new();
        if let Whose::Tenants(tenant) = &document.whose {
            named.extend(self.meant(Kind::Tenant, tenant));
        }
        if let Some(text) = document.under() {
            let kind = rules.parent().map_or(Kind::User, |parent| parent.kind);
            named.extend(self.meant(kind, text));
        }
        for reference in rules.references {
            if let Some(text) = document.spec.get(reference.field).and_then(Value::as_str) {
                named.extend(self.meant(reference.kind, text));
            }
        }
        let any = rules
            .anything
            .and_then(|any| document.spec.get(any.field)?.as_str());
        if let Some((kind, name)) = any.and_then(|text| text.split_once('/'))
            && let Some(kind) = Kind::parse(kind)
        {
            named.extend(self.meant(kind, name));
        }
        for value in document.spec.values() {
            texts_in(value, &mut |text| named.extend(self.written_with(text)));
        }
        named.retain(|it| *it != at);
        named.sort_unstable();
        named.dedup();
        named
    }
}

/// Every text within a value.
pub(super) fn texts_in(value: &Value, seen: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => seen(text),
        Value::Array(items) => items.iter().for_each(|it| texts_in(it, seen)),
        Value::Object(fields) => fields.values().for_each(|it| texts_in(it, seen)),
        _ => {}
    }
}
