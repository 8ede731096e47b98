//! Another tenant's things: named in anything that is sent, they read like what does not exist; and what they do is
//! nowhere to be seen. What can be named is taken from what the kinds declare.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use virtflow_model::{By, ByPeople, Kind, Scope};

use super::support::{Reply, Rig, method_of};
use super::{rows, samples};
use crate::api::routes::{self, Gives};
use crate::api::write::DRY_RUN;

/// An id that nothing has.
const NOTHING: &str = "01a21000-0000-7000-8000-000000000001";

/// Fields that name an object of any kind: no declared reference of one kind says it.
const ANY: &[(Kind, &str)] = &[
    (Kind::RoleBinding, "scope"),
    (Kind::ResourceMaintainer, "resource"),
];

/// Ids in specs that name nothing for a request: who they are about was looked up by the system.
const WRITTEN_BY_THE_SYSTEM: &[Kind] = &[
    Kind::Operation,
    Kind::Residue,
    Kind::IdempotencyKey,
    Kind::Alert,
    Kind::BillingUsage,
];

/// Two tenants with one object of every kind each.
struct Twins {
    rig: Rig,
    /// The admin of `rival`.
    bob: String,
    /// Objects of `acme`, and those of the cloud.
    theirs: BTreeMap<Kind, String>,
    /// Objects of `rival`.
    own: BTreeMap<Kind, String>,
    /// Bodies that make another of those.
    bodies: BTreeMap<Kind, Value>,
}

impl Twins {
    async fn start() -> Self {
        let mut rig = Rig::start_with(|config| config.limits.tenant_requests_per_s = 0).await;
        rig.tenant_with("acme", "alice", "tenant_admin").await;
        rig.tenant_with("rival", "bob", "tenant_admin").await;
        rig.admin = rows::lasting_token(&rig, "admin").await;
        let bob = rows::lasting_token(&rig, "bob").await;
        let (mut theirs, mut own, mut bodies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut called, mut called_own) = (BTreeMap::new(), BTreeMap::new());
        for one in samples::all() {
            let id = samples::create(&rig, &one, &called).await;
            theirs.insert(one.kind, id.clone());
            called.insert(one.called, id.clone());
            let Some(mine) = samples::of_rival(&one) else {
                called_own.insert(one.called, id);
                continue;
            };
            let id = samples::create_in(&rig, &mine, &called_own, "rival").await;
            let mut body = samples::body_of(&mine, &called_own, "rival");
            if one
                .kind
                .filters()
                .iter()
                .any(|filter| filter.by == By::Name)
            {
                body["name"] = "another".into();
            }
            own.insert(one.kind, id.clone());
            bodies.insert(one.kind, body);
            called_own.insert(mine.called, id);
        }
        let id = |name: &'static str| {
            let rig = &rig;
            async move { rig.get(&format!("/tenants/{name}"), &rig.admin).await.id() }
        };
        theirs.insert(Kind::Tenant, id("acme").await);
        own.insert(Kind::Tenant, id("rival").await);
        Self {
            rig,
            bob,
            theirs,
            own,
            bodies,
        }
    }

    async fn send(&self, method: &'static str, path: &str, body: &Value) -> Reply {
        let ask = self.rig.ask(method, path).token(&self.bob);
        let ask = match body {
            Value::Null => ask,
            body => ask.json(body),
        };
        // A stream that should have been refused would never end.
        let sent = tokio::time::timeout(Duration::from_secs(60), ask.send()).await;
        sent.unwrap_or_else(|_| panic!("{method} {path} does not end"))
    }

    /// Sends it twice, with `ID` standing for another tenant's object and for nothing; what differs.
    async fn differs(
        &self,
        method: &'static str,
        path: &str,
        body: &Value,
        id: &str,
    ) -> Option<String> {
        let with = async |id: &str| {
            let body = serde_json::from_str(&body.to_string().replace("ID", id)).unwrap();
            let reply = self.send(method, &path.replace("ID", id), &body).await;
            let told = if reply.status >= 400 {
                reply.without_request_id()
            } else {
                reply.body["data"].to_string()
            };
            (reply.status, told.replace(id, "ID"))
        };
        let (foreign, nothing) = (with(id).await, with(NOTHING).await);
        (foreign != nothing).then(|| format!("{method} {path} {body}: {foreign:?}, {nothing:?}"))
    }

    /// That it is the reference that was refused: with an own object it is another answer.
    async fn is_asked(&self, method: &'static str, path: &str, body: &Value, own: &str) -> bool {
        let body = serde_json::from_str(&body.to_string().replace("ID", own)).unwrap();
        let reply = self.send(method, &path.replace("ID", own), &body).await;
        !(reply.status == 404 && reply.text.contains(own))
    }
}

/// True for what may be another tenant's.
fn is_tenants(kind: Kind) -> bool {
    kind.scope() != Scope::System || kind == Kind::Tenant || kind == Kind::BaremetalGroupTenantQuota
}

fn is_done(by: ByPeople) -> bool {
    !matches!(by, ByPeople::Never(_))
}

#[test]
fn every_id_in_a_spec_is_a_declared_reference() {
    for kind in Kind::ALL
        .iter()
        .filter(|kind| !WRITTEN_BY_THE_SYSTEM.contains(kind))
    {
        let declared: BTreeSet<&str> = kind
            .rules()
            .references
            .iter()
            .map(|one| one.field)
            .collect();
        let schema = kind.spec_schema();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let Some(field) = name
                .strip_suffix("_id")
                .filter(|_| field["format"] == "uuid")
            else {
                continue;
            };
            assert!(
                declared.contains(field) || ANY.contains(&(*kind, field)),
                "{}.{field}_id names something that nobody looks up",
                kind.name()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_object_named_anywhere_reads_like_none() {
    let twins = Twins::start().await;
    let mut wrong = Vec::new();
    let mut asked = 0;
    for kind in Kind::ALL {
        let rules = kind.rules();
        let of_any = ANY.iter().filter(|(any, _)| any == kind);
        let fields = rules
            .references
            .iter()
            .map(|reference| (reference.field, vec![reference.kind]))
            .chain(of_any.map(|(_, field)| (*field, Kind::ALL.to_vec())));
        for (field, targets) in fields {
            for target in targets.into_iter().filter(|target| is_tenants(*target)) {
                let Some(foreign) = twins.theirs.get(&target) else {
                    continue;
                };
                // By name as by id: an id is a name, too.
                for field in [field.to_owned(), format!("{field}_id")] {
                    let all = format!("/{}", kind.plural());
                    let is_tried = routes::of_kind(*kind, kind.plural()).iter().any(|route| {
                        route.gives == Gives::Made(*kind) && route.query.contains(&DRY_RUN)
                    });
                    let mut requests = Vec::new();
                    if let (true, Some(body)) = (is_done(rules.create), twins.bodies.get(kind)) {
                        let mut body = body.clone();
                        let spec = body["spec"].as_object_mut().unwrap();
                        let bare = field.trim_end_matches("_id");
                        spec.remove(bare);
                        spec.remove(&format!("{bare}_id"));
                        spec.insert(field.clone(), "ID".into());
                        let dry = if is_tried { "?dry_run=true" } else { "" };
                        requests.push(("POST", format!("{all}{dry}"), body));
                    }
                    if let (true, Some(own)) = (is_done(rules.update), twins.own.get(kind)) {
                        let path = format!("{all}/{own}?dry_run=true");
                        requests.push(("PATCH", path, json!({"spec": {&field: "ID"}})));
                    }
                    for (method, path, body) in requests {
                        asked += 1;
                        wrong.extend(twins.differs(method, &path, &body, foreign).await);
                        let own = twins.own.get(&target);
                        if method == "POST"
                            && let Some(own) = own
                            && !twins.is_asked(method, &path, &body, own).await
                        {
                            wrong.push(format!("{path} {body}: refused with one's own, too"));
                        }
                    }
                }
            }
        }
    }
    assert!(asked > 100, "{asked}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_object_asked_for_anywhere_reads_like_none() {
    let twins = Twins::start().await;
    let mut wrong = Vec::new();
    for (kind, foreign) in &twins.theirs {
        if !is_tenants(*kind) {
            continue;
        }
        // Every route on an object, with what else they take left out: it must not matter.
        for route in routes::of_kind(*kind, kind.plural()) {
            if !route.path.contains("{id}") {
                continue;
            }
            let method = method_of(&route);
            let body = match method {
                "GET" | "DELETE" => Value::Null,
                "PUT" | "PATCH" => json!({"spec": {}}),
                _ if route.path.ends_with("/allocate") => {
                    json!({"vm": twins.own[&Kind::VirtualMachine]})
                }
                _ if route.path.ends_with("/snapshot") => json!({"name": "all"}),
                _ if route.path.ends_with("/password") => json!({"password": "a long enough one"}),
                _ => json!({}),
            };
            wrong.extend(
                twins
                    .differs(method, &route.path.replace("{id}", "ID"), &body, foreign)
                    .await,
            );
        }
    }
    for kind in Kind::ALL {
        for filter in kind.filters() {
            let targets = match filter.by {
                By::Object(target) => vec![target],
                By::Any => Kind::ALL.to_vec(),
                By::Name | By::Word | By::Label | By::Labels | By::Text => continue,
            };
            for target in targets.into_iter().filter(|target| is_tenants(*target)) {
                let Some(foreign) = twins.theirs.get(&target) else {
                    continue;
                };
                for more in ["", "&watch=true"] {
                    if !more.is_empty() && (*kind == Kind::Controller || filter.by == By::Any) {
                        continue;
                    }
                    let path = format!("/{}?{}=ID{more}", kind.plural(), filter.name);
                    wrong.extend(twins.differs("GET", &path, &Value::Null, foreign).await);
                }
            }
        }
    }
    let (vm, user, tenant) = (Kind::VirtualMachine, Kind::User, Kind::Tenant);
    let own_pool = format!(
        "/ip_pools/{}/allocate?dry_run=true",
        twins.own[&Kind::IpPool]
    );
    let can = json!({"permission": "virtual_machine.read", "id": "ID"});
    for (method, path, body, kind) in [
        (
            "GET",
            "/auth/who-can?action=read&kind=vm&object=ID",
            Value::Null,
            vm,
        ),
        (
            "GET",
            "/auth/who-can?action=read&kind=vm&tenant=ID",
            Value::Null,
            tenant,
        ),
        (
            "GET",
            "/auth/explain?action=read&kind=vm&object=ID",
            Value::Null,
            vm,
        ),
        (
            "GET",
            "/auth/explain?action=read&kind=vm&tenant=ID",
            Value::Null,
            tenant,
        ),
        (
            "GET",
            "/auth/explain?action=read&kind=vm&user=ID",
            Value::Null,
            user,
        ),
        ("POST", "/auth/can-i", can, vm),
        ("GET", "/audit?tenant=ID", Value::Null, tenant),
        ("GET", "/audit?object=ID", Value::Null, vm),
        ("GET", "/audit?actor=ID", Value::Null, user),
        ("POST", &own_pool, json!({"vm": "ID"}), vm),
        (
            "POST",
            "/vms?dry_run=true",
            json!({"name": "x", "tenant": "ID", "spec": {"specification": "small"}}),
            tenant,
        ),
        (
            "POST",
            "/api_tokens",
            json!({"name": "x", "parent": "ID", "spec": {}}),
            user,
        ),
    ] {
        wrong.extend(
            twins
                .differs(method, path, &body, &twins.theirs[&kind])
                .await,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything that somebody can read without knowing ids, with what changes from one moment to the next left out.
async fn view(rig: &Rig, token: &str) -> Vec<(String, String)> {
    let mut view = Vec::new();
    let fixed = [
        "",
        "/capacity",
        "/permissions",
        "/auth/whoami",
        "/tenants/acme/usage",
    ];
    let mut paths: Vec<String> = fixed.iter().map(|path| (*path).to_owned()).collect();
    paths.push("/auth/who-can?action=read&kind=vm&tenant=acme&limit=1000".into());
    for kind in Kind::ALL {
        let all = format!("/{}", kind.plural());
        paths.push(format!("{all}?limit=1000"));
        if *kind != Kind::Controller {
            paths.push(format!("{all}?limit=1000&deleted=true"));
        }
        for filter in kind.filters() {
            match filter.by {
                By::Name => paths
                    .extend(["web", "karl", "another"].map(|name| format!("{all}?name={name}"))),
                By::Word if filter.name == "state" => {
                    let word = kind.words("state").first().map_or("x", String::as_str);
                    paths.push(format!("{all}?state={word}"));
                }
                By::Object(Kind::Tenant) => {
                    paths.push(format!("{all}?{}=acme&limit=1000", filter.name))
                }
                _ => {}
            }
        }
    }
    for path in paths {
        let reply = rig.get(&path, token).await;
        let told = if reply.status == 200 {
            format!(
                "{}{}",
                reply.body["data"], reply.body["meta"]["next_cursor"]
            )
        } else {
            reply.without_request_id()
        };
        view.push((path, told));
    }
    view
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_view_is_the_same_whatever_its_neighbour_has() {
    let rig = Rig::start_with(|config| config.limits.tenant_requests_per_s = 0).await;
    let alice = rig.tenant_with("acme", "alice", "tenant_admin").await;
    let (mut called, mut called_own) = (BTreeMap::new(), BTreeMap::new());
    let all = samples::all();
    for one in &all {
        let id = samples::create(&rig, one, &called).await;
        called.insert(one.called, id.clone());
        called_own.insert(one.called, id);
    }
    let before = view(&rig, &alice).await;
    rig.tenant_with("rival", "bob", "tenant_admin").await;
    let mut made = Vec::new();
    for mine in all.iter().filter_map(samples::of_rival) {
        let id = samples::create_in(&rig, &mine, &called_own, "rival").await;
        made.push(format!("/{}/{id}", mine.kind.plural()));
        called_own.insert(mine.called, id);
    }
    let with_neighbour = view(&rig, &alice).await;
    for (now, then) in with_neighbour.iter().zip(&before) {
        assert_eq!(now, then);
    }
    for path in made.iter().rev() {
        rig.ask("DELETE", path).token(&rig.admin).send().await;
    }
    let after = view(&rig, &alice).await;
    for (now, then) in after.iter().zip(&before) {
        assert_eq!(now, then);
    }
}
