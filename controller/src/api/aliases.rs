//! Paths by which the first descriptions of the system call what is there: each is answered by the very handler of
//! the path that it stands for. New programs use the other.

use axum::http::Method;
use virtflow_model::Kind;

use super::routes::{self, Route};

/// A path and what it stands for.
#[derive(Debug)]
pub(crate) struct Alias {
    pub(crate) method: Method,
    /// It is answered with and without a slash at its end.
    pub(crate) path: &'static str,
    /// Another route of the same method.
    pub(crate) stands_for: &'static str,
}

const fn alias(method: Method, path: &'static str, stands_for: &'static str) -> Alias {
    Alias {
        method,
        path,
        stands_for,
    }
}

/// All of them, below `/api/v1`.
pub(crate) const ALIASES: &[Alias] = &[
    alias(Method::POST, "/vm/create", "/virtual_machines"),
    alias(Method::GET, "/vm", "/virtual_machines"),
    alias(Method::GET, "/vm/{id}", "/virtual_machines/{id}"),
    alias(Method::DELETE, "/vm/{id}", "/virtual_machines/{id}"),
    alias(Method::GET, "/ontologies/", "/ontologies"),
    alias(Method::POST, "/ontologies/", "/ontologies"),
    alias(Method::GET, "/ontologies/{id}/", "/ontologies/{id}"),
    alias(Method::PUT, "/ontologies/{id}/", "/ontologies/{id}"),
    alias(Method::DELETE, "/ontologies/{id}/", "/ontologies/{id}"),
    alias(Method::GET, "/configs/system", "/system_configs"),
    alias(Method::POST, "/configs/system", "/system_configs"),
    alias(Method::GET, "/configs/tenant", "/tenant_configs"),
    alias(Method::POST, "/configs/tenant", "/tenant_configs"),
];

impl Alias {
    /// The paths it is answered under.
    pub(crate) fn paths(&self) -> Vec<String> {
        match self.path.strip_suffix('/') {
            // Without the slash it is the path that it stands for.
            Some(_) => vec![self.path.to_owned()],
            None => vec![self.path.to_owned(), format!("{}/", self.path)],
        }
    }
}

/// The routes.
pub(crate) fn routes() -> Vec<Route> {
    let mut found = Vec::new();
    for alias in ALIASES {
        for path in alias.paths() {
            let word = alias.stands_for.split('/').nth(1).and_then(Kind::parse);
            let all = word.map(|kind| routes::of_kind(kind, kind.plural()));
            let route = all
                .into_iter()
                .flatten()
                .find(|route| route.method == alias.method && route.path == alias.stands_for);
            found.extend(route.map(|route| Route { path, ..route }));
        }
    }
    found
}
