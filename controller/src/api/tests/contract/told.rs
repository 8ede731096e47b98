//! The document, ready to judge answers by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use jsonschema::{Draft, Registry, Validator};
use serde_json::{Value, json};
use virtflow_model::Kind;

use super::super::support::method_of;
use super::super::world::every_route;
use crate::api::aliases;
use crate::api::routes::{self, Route};

/// The errors and their statuses, beside this package.
const ERRORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
/// Where the document is known to the validator.
const DOCUMENT: &str = "urn:virtflow:openapi";
/// What answers 503 for a reason of this cloud's, and why.
const UNAVAILABLE: &[(&str, &str)] = &[("GET", "/virtual_machines/{id}/console")];

/// One operation, as the document tells it.
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// Below `/api/v1`.
    pub(super) path: String,
    /// Where it stands in the document.
    pub(super) at: String,
    pub(super) told: &'static Value,
    /// The route it was made from.
    pub(super) route: Route,
}

/// What came back.
pub(super) struct Came {
    pub(super) status: u16,
    pub(super) content_type: String,
    /// None of a stream.
    pub(super) text: Option<String>,
}

/// The document, ready to judge bodies by.
pub(super) struct Contract {
    pub(super) document: &'static Value,
    pub(super) registry: &'static Registry<'static>,
    pub(super) compiled: Mutex<HashMap<String, Arc<Validator>>>,
    /// Statuses of each error code.
    pub(super) errors: BTreeMap<String, BTreeSet<u16>>,
}

impl Contract {
    pub(super) fn new(document: Value) -> Self {
        let document: &'static Value = Box::leak(Box::new(document));
        let resource = Draft::Draft202012.create_resource_ref(document);
        let registry = Registry::new().add(DOCUMENT, resource).unwrap();
        let registry = Box::leak(Box::new(registry.prepare().unwrap()));
        Self {
            document,
            registry,
            compiled: Mutex::default(),
            errors: errors(),
        }
    }

    pub(super) fn operations(&self) -> Vec<Operation> {
        let mut routes: BTreeMap<(String, &'static str), Route> = BTreeMap::new();
        let of_many = Kind::ALL
            .iter()
            .flat_map(|kind| routes::of_kind(*kind, kind.plural()))
            .filter(|route| route.path.starts_with("/bulk/"));
        for route in every_route().into_iter().chain(of_many) {
            routes.insert((route.path.clone(), method_of(&route)), route);
        }
        for route in aliases::routes() {
            routes.insert((route.path.clone(), method_of(&route)), route);
        }
        let mut found = Vec::new();
        for (path, methods) in self.document["paths"].as_object().unwrap() {
            let short = path.strip_prefix("/api/v1").unwrap();
            for (method, told) in methods.as_object().unwrap() {
                let method = method.to_uppercase();
                let known = routes
                    .keys()
                    .find(|(path, of)| path == short && *of == method)
                    .unwrap_or_else(|| panic!("{method} {path} is no route"))
                    .clone();
                let route = routes.remove(&known).unwrap();
                let at = path.replace('~', "~0").replace('/', "~1");
                found.push(Operation {
                    method: known.1,
                    path: short.to_owned(),
                    at: format!("/paths/{at}/{}", method.to_lowercase()),
                    told,
                    route,
                });
            }
        }
        // Whatever exists for people is in the document.
        let untold: Vec<_> = routes
            .values()
            .filter(|route| route.is_told && !route.path.ends_with('/'))
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        assert!(untold.is_empty(), "not in the document: {untold:?}");
        found
    }

    /// The fields of a spec as it may be sent.
    pub(super) fn creation(&self, kind: Kind) -> &'static Value {
        let at = format!("/paths/~1api~1v1~1{}/post/requestBody", kind.plural());
        let body = self.document.pointer(&at).unwrap();
        let path = body["content"]["application/json"]["schema"]["$ref"].as_str();
        let schema = path.and_then(|path| self.document.pointer(path.trim_start_matches('#')));
        &schema.unwrap()["properties"]["spec"]["properties"]
    }

    /// Where the response of a status stands in the document: by number, or not at all.
    pub(super) fn response(&self, operation: &Operation, status: u16) -> Option<String> {
        let at = format!("{}/responses/{status}", operation.at);
        let response = self.document.pointer(&at)?;
        match response["$ref"].as_str() {
            Some(path) => Some(path.trim_start_matches('#').to_owned()),
            None => Some(at),
        }
    }

    pub(super) fn validator(&self, at: &str) -> Arc<Validator> {
        let mut compiled = self.compiled.lock().unwrap();
        let found = compiled.entry(at.to_owned()).or_insert_with(|| {
            let at = at.replace('{', "%7B").replace('}', "%7D");
            let schema = json!({"$ref": format!("{DOCUMENT}#{at}")});
            let validator = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .with_registry(self.registry)
                .should_validate_formats(true)
                .build(&schema);
            Arc::new(validator.unwrap_or_else(|error| panic!("{at}: {error}")))
        });
        Arc::clone(found)
    }

    /// What is wrong with an answer.
    pub(super) fn judge(
        &self,
        operation: &Operation,
        asked: &str,
        came: &Came,
    ) -> Result<(), String> {
        let (method, path) = (operation.method, operation.path.as_str());
        if came.status >= 500 && !(came.status == 503 && UNAVAILABLE.contains(&(method, path))) {
            return Err("a mistake of ours".into());
        }
        let Some(response) = self.response(operation, came.status) else {
            return Err("the document does not name this status".into());
        };
        let content = self
            .document
            .pointer(&format!("{response}/content"))
            .unwrap();
        if content[&came.content_type].is_null() {
            return Err(format!(
                "the document does not name `{}`",
                came.content_type
            ));
        }
        let Some(text) = &came.text else {
            return Ok(());
        };
        let mut body: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if came.status == 200 && asked.contains("fields=") {
            // Parts of objects lack what is required of whole ones, as the parameter says.
            if !body["data"].is_array() {
                return Ok(());
            }
            body["data"] = json!([]);
        }
        let media = came.content_type.replace('/', "~1");
        let validator = self.validator(&format!("{response}/content/{media}/schema"));
        let problems: Vec<String> = validator
            .iter_errors(&body)
            .take(3)
            .map(|error| {
                let told = error.to_string();
                let told: String = told.chars().take(300).collect();
                format!("{}: {told}", error.instance_path())
            })
            .collect();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        if came.status < 400 {
            return Ok(());
        }
        let code = body["error"]["code"].as_str().unwrap_or_default();
        match self.errors.get(code) {
            Some(statuses) if statuses.contains(&came.status) => Ok(()),
            Some(statuses) => Err(format!("`{code}` is told under {statuses:?}")),
            None => Err(format!("`{code}` is in no catalogue")),
        }
    }
}

/// Codes and their statuses as the catalogue has them: the usual one, and in a second table the more precise ones.
pub(super) fn errors() -> BTreeMap<String, BTreeSet<u16>> {
    let mut found: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for line in std::fs::read_to_string(ERRORS).unwrap().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (Some(code), Some(status)) = (cells.get(1), cells.get(2)) else {
            continue;
        };
        if let (Some(code), Ok(status)) = (
            code.strip_prefix('`')
                .and_then(|code| code.strip_suffix('`')),
            status.parse(),
        ) {
            found.entry(code.to_owned()).or_default().insert(status);
        }
    }
    assert!(found.len() >= 15, "{found:?}");
    found
}
