//! Requests of one operation, made from what the document says of it: right ones, and others.

use std::collections::BTreeMap;

use serde_json::Value;
use virtflow_model::{By, Kind};

use super::super::by_schema::{Maker, Optional};
use super::super::world::World;
use super::told::Operation;
use crate::api::write::DRY_RUN;

/// Bodies of an operation that are made from its schema, and how many of each are spoiled.
const BODIES: usize = 4;
const SPOILT: usize = 8;
/// Spoilt requests without a body.
const SPOILT_READS: usize = 5;

/// A request to be sent.
#[derive(Debug, Clone)]
pub(super) struct Try {
    /// As the document has it, no more and no less.
    pub(super) is_good: bool,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

/// As it stands in a path or a query.
pub(super) fn escaped(text: &str) -> String {
    let mut written = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            written.push_str(&format!("%{byte:02X}"));
        }
    }
    written
}

impl World {
    /// Ids of what there is by the names of the fields and parameters that name it.
    pub(super) fn there(&self, kind: Option<Kind>) -> BTreeMap<String, String> {
        let mut there = BTreeMap::new();
        let id = |kind: Kind| self.id(kind).to_string();
        for (field, of) in [
            ("tenant", Kind::Tenant),
            ("user", Kind::User),
            ("object", Kind::VirtualMachine),
            ("vm", Kind::VirtualMachine),
            ("resource", Kind::Rack),
            ("scope", Kind::Tenant),
        ] {
            there.insert(field.to_owned(), id(of));
        }
        let Some(kind) = kind else {
            return there;
        };
        for filter in kind.filters() {
            if let By::Object(of) = filter.by {
                there.insert(filter.name.to_owned(), id(of));
            }
        }
        for reference in kind.rules().references {
            let id = id(reference.kind);
            there.insert(format!("{}_id", reference.field), id.clone());
            there.insert(reference.field.to_owned(), id);
        }
        there
    }
}

/// Makes requests of one operation.
pub(super) struct Writer<'a> {
    pub(super) world: &'a World,
    pub(super) operation: &'a Operation,
    pub(super) maker: Maker<'a>,
}

impl Writer<'_> {
    /// The path with the object in its place.
    pub(super) fn path(&self, id: &str) -> String {
        self.operation.path.replace("{id}", &escaped(id))
    }

    /// The object that it is about.
    pub(super) fn target(&self) -> String {
        let world = self.world;
        match (self.operation.route.kind, self.operation.path.as_str()) {
            (_, "/controllers/{id}/promote") => world.rig.app.store_id().to_string(),
            (Some(kind), _) => world.id(kind).to_string(),
            (None, "/configs/tenant/{id}") => world.id(Kind::Tenant).to_string(),
            (None, _) => world.id(Kind::TenantConfig).to_string(),
        }
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = &'static Value> {
        let told: &'static Value = self.operation.told;
        told["parameters"].as_array().into_iter().flatten()
    }

    pub(super) fn in_query(&self) -> Vec<&'static Value> {
        self.parameters()
            .filter(|one| one["in"] == "query")
            .collect()
    }

    /// Parameters as the document allows them: what is required, and others now and then.
    pub(super) fn query(&mut self, is_trial: bool) -> Vec<(String, String)> {
        let mut query = Vec::new();
        for parameter in self.in_query() {
            let name = parameter["name"].as_str().unwrap();
            if name == DRY_RUN {
                if is_trial {
                    query.push((name.to_owned(), "true".to_owned()));
                }
                continue;
            }
            if parameter["required"] != true && !self.maker.chance.one_in(6) {
                continue;
            }
            let value = match self.maker.value(&parameter["schema"], name, Optional::All) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            query.push((name.to_owned(), value));
        }
        query
    }

    /// A request that the document allows.
    pub(super) fn good(&mut self, is_trial: bool, optional: Optional) -> Try {
        let query = self.query(is_trial);
        let body = self.operation.told["requestBody"]["content"]["application/json"].get("schema");
        let body = body.map(|schema| self.maker.value(schema, "", optional));
        Try {
            is_good: true,
            path: with_query(self.path(&self.target()), &query),
            headers: Vec::new(),
            body,
        }
    }

    /// A request that is about something else, or asks in another way.
    pub(super) fn odd(&mut self, is_trial: bool, body: Option<Value>) -> Try {
        let mut query = self.query(is_trial);
        let mut target = self.target();
        let mut headers = Vec::new();
        let chance = &mut self.maker.chance;
        match chance.below(5) {
            0 => {
                let all: Vec<Kind> = Kind::ALL.to_vec();
                let kind = *chance.pick(&all).unwrap();
                target = self.world.id(kind).to_string();
            }
            1 => target = self.maker.odd_text(),
            2 => {
                let all = self.in_query();
                let name = match self.maker.chance.pick(&all) {
                    Some(parameter) => parameter["name"].as_str().unwrap().to_owned(),
                    None => self.maker.odd_text(),
                };
                query.retain(|(there, _)| *there != name);
                query.push((name, self.maker.odd_text()));
            }
            3 => {
                let name = *chance
                    .pick(&["if-match", "idempotency-key", "last-event-id"])
                    .unwrap();
                let id = self.world.id(Kind::Rack);
                let values = [
                    "*",
                    "\"1\"",
                    "\"0\"",
                    "7",
                    "\"18446744073709551615\"",
                    "x y",
                    "",
                    "key-1",
                ];
                let value = *chance.pick(&values).unwrap();
                let value = if value == "7" {
                    format!("\"{id}.1\"")
                } else {
                    value.to_owned()
                };
                headers.push((name, value));
            }
            _ => {
                let all = self.in_query();
                if let Some(parameter) = self.maker.chance.pick(&all) {
                    let name = parameter["name"].as_str().unwrap();
                    query.retain(|(there, _)| there != name);
                    let number = self.maker.chance.odd_number();
                    query.push((name.to_owned(), number.to_string()));
                }
            }
        }
        // A header and a target are bounded by the server long before this; an empty one is another path.
        target.truncate(target.floor_char_boundary(600));
        for (_, value) in &mut query {
            value.truncate(value.floor_char_boundary(2000));
        }
        if target.is_empty() || matches!(target.as_str(), "." | "..") {
            target = "%".into();
        }
        Try {
            is_good: false,
            path: with_query(self.path(&target), &query),
            headers,
            body,
        }
    }

    /// What is asked of it.
    pub(super) fn all(&mut self, is_trial: bool) -> Vec<Try> {
        let mut all = Vec::new();
        let has_body = !self.operation.told["requestBody"].is_null();
        if !has_body {
            all.push(self.good(is_trial, Optional::None));
            all.push(self.good(is_trial, Optional::Some));
            for _ in 0..SPOILT_READS {
                all.push(self.odd(is_trial, None));
            }
            return all;
        }
        let mut goods = Vec::new();
        for n in 0..BODIES {
            let optional = match n {
                0 => Optional::None,
                1 => Optional::All,
                _ => Optional::Some,
            };
            goods.push(self.good(is_trial, optional));
        }
        all.extend(goods.iter().cloned());
        let spoilt = if is_trial { SPOILT } else { SPOILT / 2 };
        for n in 0..spoilt {
            let mut bad = goods[n % goods.len()].clone();
            bad.is_good = false;
            let body = bad.body.get_or_insert_default();
            for _ in 0..=self.maker.chance.below(2) {
                self.maker.spoil(body);
            }
            all.push(bad);
        }
        for n in 0..2 {
            let body = goods[n % goods.len()].body.clone();
            all.push(self.odd(is_trial, body));
        }
        all
    }
}

pub(super) fn with_query(path: String, query: &[(String, String)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    if pairs.is_empty() {
        path
    } else {
        format!("{path}?{}", pairs.join("&"))
    }
}
