//! REST: decode, one call of `logic`, encode. No rules live here.
//!
//! `request` is what every request goes through (id, limits, who asks, where it is answered),
//! `envelope` how every answer looks; the other files are groups of routes. Reads are answered from
//! an image that a quorum confirmed after the request arrived, writes are decided by the leader on its
//! newest state, where `logic` authorises them again.

mod access;
mod access_token;
mod addresses;
mod aliases;
mod answers;
mod audit;
mod auth;
mod billing;
mod bulk;
mod cloud_boxes;
mod configs;
mod controllers;
mod credential;
mod discovery;
mod envelope;
mod forward;
#[cfg(test)]
mod fuzz;
mod gate;
mod hashing;
mod hosts;
mod json;
mod kinds;
mod metrics;
mod moment;
mod ontologies;
mod openapi;
mod operations;
pub mod password;
mod past;
mod query;
mod refusals;
mod request;
mod routes;
mod seal;
mod search;
mod secrets;
mod sets;
mod sql;
mod status;
mod tenants;
#[cfg(test)]
mod tests;
mod upgrade;
mod uses;
mod vms;
mod watch;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use virtflow_model::Kind;
use virtflow_types::ObjectId;

use self::access_token::AccessTokens;
use self::gate::{Gate, Rate};
use self::hashing::Hashing;
use self::metrics::HttpMetrics;
use self::refusals::Refusals;
use self::uses::Uses;
use self::watch::{Recent, Watchers};
use crate::app::App;

/// Requests of one network that were refused for their credentials.
const REFUSED_RATE: Rate = Rate {
    per_s: 10.0,
    burst: 200.0,
};
/// Logins of one network.
const LOGIN_RATE: Rate = Rate {
    per_s: 1.0,
    burst: 30.0,
};

/// Who may come how often.
#[derive(Debug)]
struct Gates {
    /// Absent where API tokens are no more limited than their users.
    tokens: Option<Gate<ObjectId>>,
    users: Gate<ObjectId>,
    /// Absent where tenants are not limited.
    tenants: Option<Gate<ObjectId>>,
    refused: Gate<u128>,
    logins: Gate<u128>,
}

/// What the routes share.
#[derive(Debug, Clone)]
pub(crate) struct Api(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    app: App,
    access_tokens: AccessTokens,
    hashing: Hashing,
    gates: Gates,
    refusals: Arc<Refusals>,
    uses: Arc<Uses>,
    metrics: HttpMetrics,
    recent: Arc<Recent>,
    watchers: Watchers,
}

impl Api {
    fn app(&self) -> &App {
        &self.0.app
    }
    fn access_tokens(&self) -> &AccessTokens {
        &self.0.access_tokens
    }
    fn hashing(&self) -> &Hashing {
        &self.0.hashing
    }
    fn gates(&self) -> &Gates {
        &self.0.gates
    }
    fn uses(&self) -> &Uses {
        &self.0.uses
    }
    fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }
    fn recent(&self) -> &Recent {
        &self.0.recent
    }
    fn watchers(&self) -> &Watchers {
        &self.0.watchers
    }
    fn metrics(&self) -> &HttpMetrics {
        &self.0.metrics
    }
}

/// The API. Every request must carry [`crate::app::Caller`]. Needs a Tokio runtime: a task that
/// records refusals and one that follows the changes run until the controller stops.
pub fn router(app: App) -> Router {
    let refusals = Arc::new(Refusals::default());
    let uses = Arc::new(Uses::default());
    let (recent, kept) = watch::follow(&app);
    let limits = &app.config().limits;
    let rate = |per_s, burst| Rate {
        per_s: f64::from(per_s),
        burst: f64::from(burst),
    };
    let gate = |per_s, burst| (per_s > 0).then(|| Gate::new(rate(per_s, burst)));
    let api = Api(Arc::new(Shared {
        access_tokens: AccessTokens::new(app.jwt_key(), app.cluster_id()),
        hashing: Hashing::default(),
        gates: Gates {
            tokens: gate(limits.token_requests_per_s, limits.token_requests_burst),
            users: Gate::new(rate(limits.user_requests_per_s, limits.user_requests_burst)),
            tenants: gate(limits.tenant_requests_per_s, limits.tenant_requests_burst),
            refused: Gate::new(REFUSED_RATE),
            logins: Gate::new(LOGIN_RATE),
        },
        metrics: app.registry(HttpMetrics::register),
        refusals: Arc::clone(&refusals),
        uses: Arc::clone(&uses),
        recent,
        watchers: Watchers::default(),
        app: app.clone(),
    }));
    tokio::spawn(kept);
    tokio::spawn(refusals::propose(app, refusals, uses));
    routes()
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED })
        .layer(from_fn_with_state(api.clone(), request::handle))
        .with_state(api)
}

/// Every route there is.
fn routes() -> Router<Api> {
    let of_kinds = Kind::ALL
        .iter()
        .flat_map(|kind| words(*kind).flat_map(|word| routes::of_kind(*kind, word)));
    routes::fixed()
        .into_iter()
        .chain(of_kinds)
        .chain(aliases::routes())
        .fold(Router::new(), |router, route| {
            router.route(&format!("/api/v1{}", route.path), route.handler)
        })
}

/// The words of a kind in paths: its plural, and its short names in the plural.
fn words(kind: Kind) -> impl Iterator<Item = &'static str> {
    let short = kind
        .aliases()
        .iter()
        .copied()
        .filter(|alias| alias.ends_with('s'));
    std::iter::once(kind.plural()).chain(short)
}

/// The paths of a kind.
fn paths(kind: Kind) -> impl Iterator<Item = String> {
    words(kind).map(|word| format!("/api/v1/{word}"))
}
