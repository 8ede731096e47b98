//! Every route there is, with what is told of it: the router and the API's document are made from one list, so
//! that neither can know of a route that the other does not.

use axum::http::Method;
use axum::routing::{self, MethodRouter};
use schemars::JsonSchema;
use serde_json::Value;
use virtflow_model::{ByPeople, Kind, schema_of};
use virtflow_pki::TokenPrefix;

use super::write::DRY_RUN;
use super::{
    Api, access, addresses, audit, auth, bulk, configs, controllers, discovery, hosts, kinds,
    moment, openapi, operations, past, secrets, status, tenants, upgrade, vms,
};

/// A route below `/api/v1`.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// With `{id}` where an object's id or name stands.
    pub(crate) path: String,
    pub(crate) handler: MethodRouter<Api>,
    /// One line for people.
    pub(crate) summary: String,
    /// The kind it is about.
    pub(crate) kind: Option<Kind>,
    /// Parameters it knows.
    pub(crate) query: Vec<&'static str>,
    /// The form of its body.
    pub(crate) body: Body,
    pub(crate) gives: Gives,
    /// False for what exists only to say what to do instead.
    pub(crate) is_told: bool,
}

/// The form of a body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// None, or an empty object.
    Empty,
    /// Name, tenant and spec of a new object.
    Create(Kind),
    /// A whole spec.
    Replace(Kind),
    /// What of a spec changes.
    Merge(Kind),
    /// Names and specs of new objects.
    CreateMany(Kind),
    /// Names and ids of objects.
    Ids,
    /// This schema.
    Other(Value),
}

/// What comes back as `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gives {
    /// An object.
    One(Kind),
    /// A new object.
    Made(Kind),
    /// A page of objects.
    Page(Kind),
    /// An object and the operation that was begun, if it takes time.
    Begun,
    /// Something of its own.
    Data,
    /// The same without an envelope.
    Document,
}

impl Route {
    fn new(method: Method, path: String, handler: MethodRouter<Api>, summary: &str) -> Self {
        Self {
            method,
            path,
            handler,
            summary: summary.to_owned(),
            kind: None,
            query: Vec::new(),
            body: Body::Empty,
            gives: Gives::Data,
            is_told: true,
        }
    }
    fn get(path: &str, handler: MethodRouter<Api>, summary: &str) -> Self {
        Self::new(Method::GET, path.to_owned(), handler, summary)
    }
    fn post(path: &str, handler: MethodRouter<Api>, summary: &str) -> Self {
        Self::new(Method::POST, path.to_owned(), handler, summary)
    }
    fn query(mut self, query: &[&'static str]) -> Self {
        self.query = query.to_vec();
        self
    }
    fn takes(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
    fn takes_a<T: JsonSchema>(self) -> Self {
        self.takes(Body::Other(schema_of::<T>()))
    }
    fn gives(mut self, gives: Gives) -> Self {
        self.gives = gives;
        self
    }
    /// Told only if people may do it.
    fn if_done(mut self, by: ByPeople) -> Self {
        self.is_told = !matches!(by, ByPeople::Never(_));
        self
    }
}

/// Routes that are about no kind.
pub(crate) fn fixed() -> Vec<Route> {
    vec![
        Route::get("", routing::get(kinds::index), "What there is"),
        Route::get(
            "/openapi.json",
            routing::get(openapi::document),
            "This document",
        )
        .gives(Gives::Document),
        Route::get(
            "/permissions",
            routing::get(kinds::permissions),
            "The catalogue that roles are made from",
        ),
        Route::post(
            "/auth/login",
            routing::post(auth::login),
            "Open a session: an access token of some minutes, and a refresh token",
        )
        .takes_a::<auth::LoginBody>(),
        Route::post(
            "/auth/refresh",
            routing::post(auth::refresh),
            "A new access token; the refresh token is used up and comes anew",
        )
        .takes_a::<auth::RefreshBody>(),
        Route::post(
            "/auth/logout",
            routing::post(auth::logout),
            "End this session",
        ),
        Route::get(
            "/auth/whoami",
            routing::get(auth::whoami),
            "Who you are, and what you may",
        ),
        Route::post(
            "/auth/can-i",
            routing::post(auth::can_i),
            "Whether you may do something",
        )
        .takes_a::<auth::CanBody>(),
        Route::get(
            "/auth/who-can",
            routing::get(access::who_can),
            "Who may do something, and the role bindings that allow it",
        )
        .query(access::WHO_CAN),
        Route::get(
            "/auth/explain",
            routing::get(access::explain),
            "Why you, or another user, may do something, or what is missing",
        )
        .query(access::EXPLAIN),
        Route::get(
            "/audit",
            routing::get(audit::list),
            "Who did what, newest first",
        )
        .query(audit::PARAMETERS),
        Route::get(
            "/diff",
            routing::get(moment::diff),
            "What was made, changed and deleted between two moments",
        )
        .query(moment::DIFF),
        Route::get(
            "/configs/tenant/{id}",
            routing::get(configs::of_tenant),
            "The layers of configuration of a tenant",
        )
        .query(configs::OF_TENANT)
        .gives(Gives::Page(Kind::TenantConfig)),
        Route::post(
            "/configs",
            routing::post(configs::create),
            "Make a layer of configuration: of a user, a tenant or the cloud",
        )
        .query(&[DRY_RUN]),
        Route::get(
            "/configs/{id}",
            routing::get(configs::get),
            "Get a layer of configuration",
        )
        .query(&["tenant", "at", kinds::FIELDS]),
        Route::new(
            Method::PUT,
            "/configs/{id}".to_owned(),
            routing::put(configs::replace),
            "Replace the spec of a layer of configuration",
        )
        .query(&["tenant", DRY_RUN]),
        Route::new(
            Method::DELETE,
            "/configs/{id}".to_owned(),
            routing::delete(configs::delete),
            "Delete a layer of configuration",
        )
        .query(&["tenant", "force", DRY_RUN]),
        Route::get(
            "/status",
            routing::get(status::status),
            "Who leads, which hosts live, what is late",
        ),
        Route::get(
            "/upgrade",
            routing::get(upgrade::status),
            "Which releases run, what the cluster version can be raised to, and what stands in the way",
        ),
        Route::post(
            "/upgrade/finish",
            routing::post(upgrade::finish),
            "Raise the cluster version to what all controllers support; none can go back to an older release then",
        )
        .query(&[DRY_RUN]),
        Route::get(
            "/node",
            routing::get(status::node),
            "What the controller that is asked knows of itself: its status, settings and numbers",
        ),
        Route::get(
            "/discovery/prometheus",
            routing::get(discovery::prometheus),
            "Which controllers and hosts monitoring can ask, for Prometheus' HTTP service discovery",
        )
        .query(discovery::PARAMETERS)
        .gives(Gives::Document),
        Route::get(
            "/verify",
            routing::get(status::verify),
            "Every ledger and index derived again from the rows, and compared",
        ),
        Route::get(
            "/capacity",
            routing::get(status::capacity),
            "What groups and hosts have, and what is taken",
        ),
    ]
}

/// The routes of a kind under one of its words.
pub(crate) fn of_kind(kind: Kind, word: &str) -> Vec<Route> {
    let rules = kind.rules();
    let all = format!("/{word}");
    let one = format!("/{word}/{{id}}");
    let noun = kind.name().replace('_', " ");
    let say = |what: &str| format!("{what} {noun}");
    let (list, get) = match kind {
        Kind::Controller => (
            routing::get(controllers::list),
            routing::get(controllers::get),
        ),
        Kind::Operation => (kinds::list(kind), operations::one()),
        _ => (kinds::list(kind), kinds::get(kind)),
    };
    let create = match kind {
        Kind::ApiToken => secrets::create(kind, TokenPrefix::Api),
        Kind::JoinToken => secrets::create(kind, TokenPrefix::Join),
        _ => kinds::create(kind),
    };
    let delete = match kind {
        Kind::Controller => routing::delete(controllers::remove),
        _ => kinds::delete_one(kind),
    };
    let get_query: &[&'static str] = match kind {
        Kind::Operation => &["wait", "tenant", kinds::FIELDS],
        Kind::Controller => &[],
        _ => &["tenant", "at", kinds::FIELDS],
    };
    let delete_query: &[&'static str] = match kind {
        Kind::Controller => &["force"],
        _ => &["tenant", "force", DRY_RUN],
    };
    let mut routes = vec![
        Route::get(&all, list, &say("List every"))
            .query(&match kind {
                Kind::Controller => kinds::list_parameters(kind),
                _ => kinds::listed(kind),
            })
            .gives(Gives::Page(kind)),
        Route::post(&all, create, &say("Make a"))
            .query(match kind {
                Kind::ApiToken | Kind::JoinToken => &[],
                _ => &[DRY_RUN],
            })
            .takes(Body::Create(kind))
            .gives(Gives::Made(kind))
            .if_done(rules.create),
        Route::get(&one, get, &say("Get a"))
            .query(get_query)
            .gives(Gives::One(kind)),
        Route::new(
            Method::PUT,
            one.clone(),
            kinds::replace(kind),
            &say("Replace the spec of a"),
        )
        .query(&["tenant", DRY_RUN])
        .takes(Body::Replace(kind))
        .gives(Gives::One(kind))
        .if_done(rules.update),
        Route::new(
            Method::PATCH,
            one.clone(),
            kinds::merge(kind),
            &say("Change the spec of a"),
        )
        .query(&["tenant", DRY_RUN])
        .takes(Body::Merge(kind))
        .gives(Gives::One(kind))
        .if_done(rules.update),
        Route::new(Method::DELETE, one.clone(), delete, &say("Delete a"))
            .query(delete_query)
            .gives(Gives::Begun)
            .if_done(rules.delete),
    ];
    routes.push(
        Route::get(
            &format!("{one}/history"),
            past::history(kind),
            &say("Every version that is kept of a"),
        )
        .query(past::PARAMETERS),
    );
    routes.push(
        Route::get(
            &format!("{one}/blame"),
            past::blame(kind),
            &say("Who set each field of a"),
        )
        .query(&["tenant"]),
    );
    routes.extend(of_many(kind, word));
    routes.extend(verbs(kind, &all, &one));
    for route in &mut routes {
        route.kind = Some(kind);
    }
    routes
}

/// Making and deleting many in one request. What is shown once, or is done outside the state too, goes alone.
fn of_many(kind: Kind, word: &str) -> Vec<Route> {
    if matches!(kind, Kind::ApiToken | Kind::JoinToken | Kind::Controller) {
        return Vec::new();
    }
    let rules = kind.rules();
    let path = format!("/bulk/{word}");
    let noun = kind.name().replace('_', " ");
    let say = |what: &str| {
        format!(
            "{what} up to {} of kind {noun}, each on its own",
            bulk::ITEMS_MAX
        )
    };
    vec![
        Route::post(&path, bulk::create(kind), &say("Make"))
            .query(&[DRY_RUN])
            .takes(Body::CreateMany(kind))
            .if_done(rules.create),
        Route::new(
            Method::DELETE,
            path.clone(),
            bulk::delete(kind),
            &say("Delete"),
        )
        .query(&bulk::deletion_parameters(kind))
        .takes(Body::Ids)
        .if_done(rules.delete),
    ]
}

/// What a kind has beside that.
fn verbs(kind: Kind, all: &str, one: &str) -> Vec<Route> {
    let of_one = |verb: &str| format!("{one}/{verb}");
    let power = |verb: &str, handler, summary| {
        Route::post(&of_one(verb), handler, summary)
            .query(&["tenant", DRY_RUN])
            .gives(Gives::Begun)
    };
    let host = |verb: &str, handler, summary| {
        Route::post(&of_one(verb), handler, summary)
            .query(&[DRY_RUN])
            .gives(Gives::One(Kind::Baremetal))
    };
    let address = |verb: &str, handler, summary| {
        Route::post(&of_one(verb), handler, summary)
            .query(&["tenant", DRY_RUN])
            .gives(Gives::One(Kind::IpAddress))
    };
    match kind {
        Kind::VirtualMachine => vec![
            power(
                "start",
                routing::post(vms::start),
                "Start a virtual machine",
            ),
            power("stop", routing::post(vms::stop), "Stop a virtual machine")
                .takes_a::<vms::PowerBody>(),
            power(
                "reboot",
                routing::post(vms::reboot),
                "Reboot a virtual machine",
            )
            .takes_a::<vms::PowerBody>(),
            Route::get(
                &of_one("console"),
                routing::get(vms::console),
                "The end of its serial console",
            )
            .query(&["tenant", "bytes"]),
            Route::get(
                &of_one("placement"),
                routing::get(vms::placement),
                "Where it is, or which host refused it and why",
            )
            .query(&["tenant"]),
        ],
        Kind::Baremetal => vec![
            host(
                "cordon",
                routing::post(hosts::cordon),
                "Keep new VMs away from a host",
            ),
            host(
                "uncordon",
                routing::post(hosts::uncordon),
                "Let a host take VMs again",
            ),
            host(
                "release-quarantine",
                routing::post(hosts::release_quarantine),
                "Believe a host again after two boots showed one key",
            ),
        ],
        Kind::IpPool => vec![
            Route::post(
                &of_one("allocate"),
                routing::post(addresses::allocate),
                "Give an address of a pool to a virtual machine",
            )
            .query(&["tenant", DRY_RUN])
            .takes_a::<addresses::AllocateBody>()
            .gives(Gives::Made(Kind::IpAddress)),
        ],
        Kind::IpAddress => vec![
            address(
                "release",
                routing::post(addresses::release),
                "Let an address go back to its pool",
            ),
            address(
                "reserve",
                routing::post(addresses::reserve),
                "Keep an address for who asks for this very one",
            ),
            address(
                "freeze",
                routing::post(addresses::freeze),
                "Leave an address as it is until it is unfrozen",
            ),
            address(
                "unfreeze",
                routing::post(addresses::unfreeze),
                "Let a frozen address be again what it was",
            ),
        ],
        Kind::User => vec![
            Route::post(
                &of_one("password"),
                routing::post(auth::set_password),
                "Set a password: one's own with the old one beside it",
            )
            .takes_a::<auth::PasswordBody>()
            .gives(Gives::One(Kind::User)),
        ],
        Kind::Tenant => vec![Route::get(
            &of_one("usage"),
            routing::get(tenants::usage),
            "What it uses of its quotas",
        )],
        Kind::Operation => vec![
            Route::post(
                &of_one("cancel"),
                routing::post(operations::cancel),
                "Give an operation up",
            )
            .gives(Gives::One(Kind::Operation)),
        ],
        Kind::Controller => vec![
            Route::post(
                &format!("{all}/hand-over"),
                routing::post(controllers::hand_over),
                "The leader makes another one lead",
            ),
            Route::post(
                &of_one("promote"),
                routing::post(controllers::promote),
                "Give a learner a vote, once it has caught up",
            )
            .gives(Gives::One(Kind::Controller)),
        ],
        _ => Vec::new(),
    }
}
