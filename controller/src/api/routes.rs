//! Every route there is, with what is told of it: the router and the API's document are made from one list, so
//! that neither can know of a route that the other does not.

use axum::http::Method;
use axum::routing::{self, MethodRouter};
use schemars::JsonSchema;
use serde_json::Value;
use virtflow_model::{ByPeople, Kind, schema_of, with_article};
use virtflow_pki::TokenPrefix;

use super::write::DRY_RUN;
use super::{
    Api, access, addresses, answers, audit, auth, billing, bulk, cloud_boxes, configs, controllers,
    discovery, hosts, kinds, moment, ontologies, openapi, operations, past, secrets, sets, status,
    tenants, upgrade, vms,
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
    /// Those of them that it cannot do without.
    pub(crate) needs: Vec<&'static str>,
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
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Gives {
    /// An object.
    One(Kind),
    /// An object of one of these kinds.
    OneOf(&'static [Kind]),
    /// A new object.
    Made(Kind),
    /// An object, and beside what it has members of this schema.
    OneAnd(Kind, Value),
    /// A new object, and the same.
    MadeAnd(Kind, Value),
    /// A new object of one of these kinds.
    MadeOne(&'static [Kind]),
    /// A page of objects.
    Page(Kind),
    /// An object of the kind, and the operation that was begun if it takes time.
    Begun(Kind),
    /// That it is gone, or the operation that was begun if that takes time.
    Gone(Kind),
    /// Something of its own, of this schema.
    Data(Value),
    /// The same without an envelope.
    Document(Value),
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
            needs: Vec::new(),
            body: Body::Empty,
            gives: Gives::Data(Value::Null),
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
    fn needs(mut self, needs: &[&'static str]) -> Self {
        self.needs = needs.to_vec();
        self
    }
    fn takes(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
    fn takes_a<T: JsonSchema>(self) -> Self {
        self.takes(Body::Other(schema_of::<T>()))
    }
    fn gives_data(self, schema: Value) -> Self {
        self.gives(Gives::Data(schema))
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
        Route::get("", routing::get(kinds::index), "What there is").gives_data(answers::index()),
        Route::get(
            "/openapi.json",
            routing::get(openapi::document),
            "This document",
        )
        .gives(Gives::Document(serde_json::json!({"type": "object"}))),
        Route::get(
            "/permissions",
            routing::get(kinds::permissions),
            "The catalogue that roles are made from",
        )
        .gives_data(answers::permissions()),
        Route::post(
            "/auth/login",
            routing::post(auth::login),
            "Open a session: an access token of some minutes, and a refresh token",
        )
        .gives_data(answers::tokens())
        .takes_a::<auth::LoginBody>(),
        Route::post(
            "/auth/refresh",
            routing::post(auth::refresh),
            "A new access token; the refresh token is used up and comes anew",
        )
        .gives_data(answers::tokens())
        .takes_a::<auth::RefreshBody>(),
        Route::post(
            "/auth/logout",
            routing::post(auth::logout),
            "End this session",
        )
        .gives(Gives::Gone(Kind::Session)),
        Route::get(
            "/auth/whoami",
            routing::get(auth::whoami),
            "Who you are, and what you may",
        )
        .gives_data(answers::whoami()),
        Route::post(
            "/auth/can-i",
            routing::post(auth::can_i),
            "Whether you may do something",
        )
        .gives_data(answers::can_i())
        .takes_a::<auth::CanBody>(),
        Route::get(
            "/auth/who-can",
            routing::get(access::who_can),
            "Who may do something, and the role bindings that allow it",
        )
        .gives_data(answers::who_can())
        .query(access::WHO_CAN)
        .needs(&["action", "kind"]),
        Route::get(
            "/auth/explain",
            routing::get(access::explain),
            "Why you, or another user, may do something, or what is missing",
        )
        .gives_data(answers::explain())
        .query(access::EXPLAIN)
        .needs(&["action", "kind"]),
        Route::get(
            "/audit",
            routing::get(audit::list),
            "Who did what, newest first",
        )
        .gives_data(answers::audit())
        .query(audit::PARAMETERS),
        Route::get(
            "/diff",
            routing::get(moment::diff),
            "What was made, changed and deleted between two moments",
        )
        .gives_data(answers::diff())
        .query(moment::DIFF)
        .needs(&["from"]),
        Route::get(
            "/configs/effective",
            routing::get(configs::effective),
            "What holds of a scope of configuration for a tenant or a user, and which layer each field came from",
        )
        .gives_data(answers::effective())
        .query(configs::EFFECTIVE)
        .needs(&["scope"]),
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
        .takes(Body::Other(openapi::any_creation(&configs::LAYERS)))
        .gives(Gives::MadeOne(&configs::LAYERS))
        .query(&[DRY_RUN]),
        Route::get(
            "/configs/{id}",
            routing::get(configs::get),
            "Get a layer of configuration",
        )
        .gives(Gives::OneOf(&configs::LAYERS))
        .query(&["tenant", "at", kinds::FIELDS]),
        Route::new(
            Method::PUT,
            "/configs/{id}".to_owned(),
            routing::put(configs::replace),
            "Replace the spec of a layer of configuration",
        )
        .takes(Body::Other(openapi::any_replacement(&configs::LAYERS)))
        .gives(Gives::OneOf(&configs::LAYERS))
        .query(&["tenant", DRY_RUN]),
        Route::new(
            Method::DELETE,
            "/configs/{id}".to_owned(),
            routing::delete(configs::delete),
            "Delete a layer of configuration",
        )
        .gives(Gives::Gone(Kind::TenantConfig))
        .query(&["tenant", "force", DRY_RUN]),
        Route::get(
            "/status",
            routing::get(status::status),
            "Who leads, which hosts live, what is late",
        )
        .gives_data(answers::status()),
        Route::get(
            "/upgrade",
            routing::get(upgrade::status),
            "Which releases run, what the cluster version can be raised to, and what stands in the way",
        )
        .gives_data(answers::upgrade()),
        Route::post(
            "/upgrade/finish",
            routing::post(upgrade::finish),
            "Raise the cluster version to what all controllers support; none can go back to an older release then",
        )
        .gives_data(answers::finish())
        .query(&[DRY_RUN]),
        Route::get(
            "/node",
            routing::get(status::node),
            "What the controller that is asked knows of itself: its status, settings and numbers",
        )
        .gives_data(answers::node()),
        Route::get(
            "/discovery/prometheus",
            routing::get(discovery::prometheus),
            "Which controllers and hosts monitoring can ask, for Prometheus' HTTP service discovery",
        )
        .query(discovery::PARAMETERS)
        .gives(Gives::Document(answers::targets())),
        Route::get(
            "/verify",
            routing::get(status::verify),
            "Every ledger and index derived again from the rows, and compared",
        )
        .gives_data(answers::verify()),
        Route::get(
            "/capacity",
            routing::get(status::capacity),
            "What groups and hosts have, and what is taken",
        )
        .gives_data(answers::capacity()),
    ]
}

/// The routes of a kind under one of its words.
pub(crate) fn of_kind(kind: Kind, word: &str) -> Vec<Route> {
    let rules = kind.rules();
    let all = format!("/{word}");
    let one = format!("/{word}/{{id}}");
    let noun = kind.name().replace('_', " ");
    let say = |what: &str| format!("{what} {noun}");
    let say_one = |what: &str| format!("{what} {}", with_article(&noun));
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
        Kind::Controller => &["force", DRY_RUN],
        _ => &["tenant", "force", DRY_RUN],
    };
    let mut routes = vec![
        Route::get(&all, list, &say("List every"))
            .query(&match kind {
                Kind::Controller => kinds::list_parameters(kind),
                _ => kinds::listed(kind),
            })
            .gives(Gives::Page(kind)),
        Route::post(&all, create, &say_one("Make"))
            .query(&[DRY_RUN])
            .takes(Body::Create(kind))
            .gives(match kind {
                Kind::ApiToken | Kind::JoinToken => Gives::MadeAnd(kind, answers::token()),
                _ => Gives::Made(kind),
            })
            .if_done(rules.create),
        Route::get(&one, get, &say_one("Get"))
            .query(get_query)
            .gives(Gives::One(kind)),
        Route::new(
            Method::PUT,
            one.clone(),
            kinds::replace(kind),
            &say_one("Replace the spec of"),
        )
        .query(&["tenant", DRY_RUN])
        .takes(Body::Replace(kind))
        .gives(Gives::One(kind))
        .if_done(rules.update),
        Route::new(
            Method::PATCH,
            one.clone(),
            kinds::merge(kind),
            &say_one("Change the spec of"),
        )
        .query(&["tenant", DRY_RUN])
        .takes(Body::Merge(kind))
        .gives(Gives::One(kind))
        .if_done(rules.update),
        Route::new(Method::DELETE, one.clone(), delete, &say_one("Delete"))
            .query(delete_query)
            .gives(match kind {
                // What is left of it says so.
                Kind::Controller => Gives::One(kind),
                _ => Gives::Gone(kind),
            })
            .if_done(rules.delete),
    ];
    routes.push(
        Route::get(
            &format!("{one}/history"),
            past::history(kind),
            &say_one("Every version that is kept of"),
        )
        .gives_data(answers::history(&openapi::shown_as(kind)))
        .query(past::PARAMETERS),
    );
    routes.push(
        Route::get(
            &format!("{one}/blame"),
            past::blame(kind),
            &say_one("Who set each field of"),
        )
        .gives_data(answers::blame())
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
            "{what} up to {} of kind {noun}, each on its own or all or none",
            bulk::ITEMS_MAX
        )
    };
    vec![
        Route::post(&path, bulk::create(kind), &say("Make"))
            .gives_data(answers::many())
            .query(&[bulk::ATOMIC, DRY_RUN])
            .takes(Body::CreateMany(kind))
            .if_done(rules.create),
        Route::new(
            Method::DELETE,
            path.clone(),
            bulk::delete(kind),
            &say("Delete"),
        )
        .gives_data(answers::many())
        .query(&bulk::deletion_parameters(kind))
        .takes(Body::Ids)
        .if_done(rules.delete),
    ]
}

fn usage_of_level(path: &str, kind: Kind) -> Route {
    Route::get(
        path,
        tenants::usage_of(kind),
        "What it uses of its quotas, and what is used of those above it",
    )
    .query(&["tenant"])
    .gives_data(answers::usage_of_level())
}

/// What a kind has beside that.
fn verbs(kind: Kind, all: &str, one: &str) -> Vec<Route> {
    let of_one = |verb: &str| format!("{one}/{verb}");
    let power = |verb: &str, handler, summary| {
        Route::post(&of_one(verb), handler, summary)
            .query(&["tenant", DRY_RUN])
            .gives(Gives::Begun(Kind::VirtualMachine))
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
            .gives_data(answers::console())
            .query(&["tenant", "bytes"]),
            Route::get(
                &of_one("placement"),
                routing::get(vms::placement),
                "Where it is, or which host refused it and why",
            )
            .gives_data(answers::placement())
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
            Route::get(
                &of_one("domains"),
                routing::get(hosts::domains),
                "The domains of a host that are not VirtFlow's, and what they take of it",
            )
            .gives_data(answers::domains()),
            Route::post(
                &of_one("adopt"),
                routing::post(hosts::adopt),
                "Make a virtual machine of a domain that a host has already",
            )
            .query(&[DRY_RUN])
            .takes_a::<hosts::AdoptBody>()
            .gives(Gives::Begun(Kind::VirtualMachine)),
        ],
        Kind::CloudBox => vec![
            Route::post(
                &of_one("heartbeat"),
                routing::post(cloud_boxes::heartbeat),
                "A box tells of itself: that it is there, what it has, how busy it is",
            )
            .query(&["tenant", DRY_RUN])
            .takes_a::<cloud_boxes::HeartbeatBody>()
            .gives(Gives::OneAnd(kind, answers::report_every())),
        ],
        Kind::InstanceSet => {
            let verb = |verb: &str, handler, summary| {
                Route::post(&of_one(verb), handler, summary)
                    .query(sets::PARAMETERS)
                    .gives_data(answers::many())
            };
            vec![
                verb(
                    "start",
                    routing::post(sets::start),
                    "Start every virtual machine of a set",
                ),
                verb(
                    "stop",
                    routing::post(sets::stop),
                    "Stop every virtual machine of a set",
                )
                .takes_a::<vms::PowerBody>(),
                verb(
                    "snapshot",
                    routing::post(sets::snapshot),
                    "Take a snapshot of every virtual machine of a set",
                )
                .takes_a::<sets::SnapshotBody>(),
            ]
        }
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
        Kind::UserGroup => vec![usage_of_level(&of_one("usage"), kind)],
        Kind::User => vec![
            usage_of_level(&of_one("usage"), kind),
            Route::post(
                &of_one("password"),
                routing::post(auth::set_password),
                "Set a password: one's own with the old one beside it",
            )
            .query(&[DRY_RUN])
            .takes_a::<auth::PasswordBody>()
            .gives(Gives::One(Kind::User)),
        ],
        Kind::SystemConfig | Kind::TenantConfig | Kind::UserConfig => vec![
            Route::post(
                &of_one("reveal"),
                configs::reveal(kind),
                "What its secret fields hold; who asked is recorded",
            )
            .query(&["tenant"])
            .gives(Gives::OneAnd(kind, answers::secrets())),
        ],
        Kind::Ontology => vec![
            Route::get(
                &format!("{all}/lookup"),
                routing::get(ontologies::look_up),
                "An ontology by type, name and version or the default: the tenant's own, else the one for all",
            )
            .query(ontologies::LOOK_UP)
            .needs(&["type", "name"])
            .gives(Gives::One(kind)),
            Route::get(
                &format!("{all}/merge"),
                routing::get(ontologies::merge),
                "What a base, domains and a major ontology are together",
            )
            .gives_data(answers::merged())
            .query(ontologies::MERGE),
        ],
        Kind::Tenant => vec![Route::get(
            &of_one("usage"),
            routing::get(tenants::usage),
            "What it uses of its quotas",
        ).gives_data(answers::usage())],
        Kind::BillingPeriod => vec![Route::get(
            &of_one("bill"),
            routing::get(billing::bill),
            "What it comes to, and what was used since and is not on it yet",
        ).gives_data(answers::bill())],
        Kind::Operation => vec![
            Route::post(
                &of_one("cancel"),
                routing::post(operations::cancel),
                "Give an operation up",
            )
            .query(&[DRY_RUN])
            .gives_data(answers::begun()),
        ],
        Kind::Controller => vec![
            Route::post(
                &format!("{all}/hand-over"),
                routing::post(controllers::hand_over),
                "The leader makes another one lead",
            )
            .query(&[DRY_RUN])
            .gives_data(answers::leader()),
            Route::post(
                &of_one("promote"),
                routing::post(controllers::promote),
                "Give a learner a vote, once it has caught up",
            )
            .query(&[DRY_RUN])
            .gives(Gives::One(Kind::Controller)),
        ],
        _ => Vec::new(),
    }
}
