//! A cloud with one object of every kind, on a host, in a cluster, of a user; and callers with every built-in role at
//! every level it can be bound to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use virtflow_model::{By, Kind};
use virtflow_state::Op;
use virtflow_types::{ObjectId, Timestamp};

use super::rows::{self, Row, Somebody};
use super::samples;
use super::support::{PASSWORD, Reply, Rig, method_of};
use crate::api::routes::{self, Body, Route};
use crate::api::write::DRY_RUN;

/// The built-in roles, in the order of the table's columns.
pub(super) const ROLES: [&str; 8] = [
    "admin",
    "security_admin",
    "operator",
    "tenant_admin",
    "developer",
    "user",
    "viewer",
    "namespace_admin",
];
/// What a role can be bound over: the letters of a cell.
pub(super) const LEVELS: [&str; 6] = [
    "system",
    "tenant",
    "group",
    "cluster",
    "namespace",
    "object",
];

/// The cloud that is asked about, and who asks.
pub(super) struct World {
    pub(super) rig: Rig,
    /// One object of each kind.
    ids: BTreeMap<Kind, ObjectId>,
    made: BTreeMap<Kind, Value>,
    changes: BTreeMap<Kind, Value>,
    /// By role and level.
    callers: Vec<Vec<Somebody>>,
    roles: Vec<ObjectId>,
    others: Vec<Option<String>>,
    /// Stands in names and addresses that must not come twice.
    asked: AtomicU32,
}

fn id_of(text: &str) -> ObjectId {
    text.parse().unwrap()
}

impl World {
    pub(super) async fn start() -> Self {
        let mut rig = Rig::start_unlimited().await;
        rig.tenant_with("acme", "alice", "tenant_admin").await;
        rig.tenant_with("rival", "bob", "tenant_admin").await;
        rig.admin = rows::lasting_token(&rig, "admin").await;
        let rival = rows::lasting_token(&rig, "bob").await;
        let (mut ids, mut made, mut changes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut called = BTreeMap::new();
        for one in samples::all() {
            let id = samples::create(&rig, &one, &called).await;
            ids.insert(one.kind, id_of(&id));
            let mut body =
                json!({"spec": samples::with_ids(&another(one.kind, &one.spec), &called)});
            if one.in_tenant {
                body["tenant"] = "acme".into();
            }
            made.insert(one.kind, body);
            changes.insert(
                one.kind,
                if one.change.is_null() {
                    json!({})
                } else {
                    one.change.clone()
                },
            );
            called.insert(one.called, id);
        }
        let acme = rig.get("/tenants/acme", &rig.admin).await.id();
        ids.insert(Kind::Tenant, id_of(&acme));
        made.insert(Kind::Tenant, json!({"spec": {}}));
        changes.insert(Kind::Tenant, json!({"description": "ours"}));
        changes.insert(Kind::Baremetal, json!({"labels": {"a": "b"}}));
        changes.insert(
            Kind::Alert,
            json!({"silenced_until": "2030-01-01T00:00:00Z"}),
        );
        changes.insert(Kind::Notification, json!({"read": true}));
        // The only change there is makes it stay for good.
        changes.insert(Kind::ImageTag, json!({}));
        let mut world = Self {
            rig,
            ids,
            made,
            changes,
            callers: Vec::new(),
            roles: Vec::new(),
            others: Vec::new(),
            asked: 0.into(),
        };
        world.put_what_no_request_makes().await;
        world.put_callers(rival).await;
        world
    }

    pub(super) fn id(&self, kind: Kind) -> ObjectId {
        self.ids[&kind]
    }

    /// True where there is nothing to change in an object of the kind.
    pub(super) fn changes_nothing(&self, kind: Kind) -> bool {
        self.changes
            .get(&kind)
            .is_none_or(|change| *change == json!({}))
    }

    async fn put_what_no_request_makes(&mut self) {
        let acme = Some(self.id(Kind::Tenant));
        let (carol, group, quota) = (
            self.id(Kind::User),
            self.id(Kind::BaremetalGroup),
            self.id(Kind::BaremetalGroupTenantQuota),
        );
        let later = "2030-01-01T00:00:00Z";
        let plenty = json!({
            "liveness": "online",
            "foreign": {"domains": [{
                "domain_id": ObjectId::generate(), "name": "old", "state": "running", "cpu_cores": 1, "memory_mib": 128,
                "storage_gib": 1,
            }]},
            "cpu_milli": 64000, "memory_mib": 262_144, "storage_gib": 8192,
            "schedulable_cpu_milli": 64000, "schedulable_memory_mib": 262_144, "schedulable_storage_gib": 8192,
        });
        let host = Row::new(
            Kind::Baremetal,
            "h1",
            json!({"serial_number": "S1", "group_id": group}),
        )
        .status(plenty);
        let host_id = host.id;
        let residue = json!({
            "host_id": host_id, "vm_id": ObjectId::generate(), "vm_name": "gone", "placement_epoch": 1,
            "amounts": {"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1},
        });
        let controller = json!({
            "node_id": 99, "key_fingerprint": "09".repeat(32), "peer_address": "c9:1", "api_address": "c9:2",
            "agent_address": "c9:3",
        });
        let usage = json!({
            "period_id": self.id(Kind::BillingPeriod), "vm_id": ObjectId::generate(), "vm_name": "gone",
            "dimension": "cpu_core_hours", "quantity": "1", "measured_from": "2026-11-01T00:00:00Z",
            "measured_until": "2026-11-01T01:00:00Z", "price_id": self.id(Kind::Price),
        });
        let alert = json!({
            "rule": "host_lost", "source_kind": "virtual_machine", "source_id": ObjectId::generate(),
            "severity": "warning", "message": "it is silent",
        });
        let key = json!({
            "key": "order-1", "request_hash": "00", "object_id": carol, "http_status": 201, "expires_at": later,
        });
        let rows = vec![
            host,
            Row::new(Kind::Residue, "", residue),
            Row::new(Kind::Controller, "c9", controller),
            Row::new(Kind::BillingUsage, "", usage)
                .tenant(acme)
                .parent(self.id(Kind::BillingPeriod)),
            Row::new(Kind::Alert, "", alert).tenant(acme),
            Row::new(Kind::Session, "", json!({"expires_at": later})).parent(carol),
            Row::new(Kind::IdempotencyKey, "", key).parent(carol),
            Row::new(
                Kind::Notification,
                "",
                json!({"user_id": carol, "type": "alert", "message": "look"}),
            )
            .parent(carol)
            .status(json!({"retire_at": later})),
        ];
        for row in &rows {
            self.ids.insert(row.kind, row.id);
        }
        rows::put(&self.rig.app, rows).await;
        let (vm, now) = (self.id(Kind::VirtualMachine), Timestamp::now());
        let placed = json!({
            "phase": "running",
            "placement": {"host_id": host_id, "group_id": group, "quota_id": quota, "placed_at": now},
            "placement_epoch": 1,
        });
        rows::commit(&self.rig.app, move |head| {
            let mut object = head.get(vm).unwrap().next();
            let spec: Value = serde_json::from_str(&object.spec).unwrap();
            rows::write(&mut object, &spec, &placed);
            vec![Op::Put(Box::new(object))]
        })
        .await;
        // Begun when the VM was made.
        let operations = self
            .rig
            .get("/operations?limit=1000", &self.rig.admin)
            .await;
        let all = operations.data(200).as_array().unwrap().iter();
        let of_vm = |row: &&Value| row["spec"]["target_id"] == vm.to_string();
        let operation = all.clone().find(of_vm).unwrap()["id"].as_str().unwrap();
        self.ids.insert(Kind::Operation, id_of(operation));
    }

    async fn put_callers(&mut self, rival: String) {
        let acme = self.id(Kind::Tenant);
        let over = [
            None,
            Some(acme),
            Some(self.id(Kind::BaremetalGroup)),
            Some(self.id(Kind::K8sCluster)),
            Some(self.id(Kind::Namespace)),
        ];
        for role in ROLES {
            let role_id = id_of(
                &self
                    .rig
                    .get(&format!("/roles/{role}"), &self.rig.admin)
                    .await
                    .id(),
            );
            self.roles.push(role_id);
            let mut rows = Vec::new();
            let mut at_levels = Vec::new();
            for level in LEVELS {
                let name = format!("{level}-{role}").replace('_', "-");
                let tenant = Some(acme).filter(|_| level != "system");
                let one = rows::somebody(&name, tenant);
                rows.extend(one.rows.clone());
                at_levels.push(one);
            }
            for (one, scope) in at_levels.iter().zip(over) {
                rows.push(rows::binding(one.id, role_id, scope, scope.map(|_| acme)));
            }
            rows::put(&self.rig.app, rows).await;
            self.callers.push(at_levels);
        }
        let nobody = rows::somebody("nobody", Some(acme));
        let past = json!({"expires_at": "2026-01-01T00:00:00Z"});
        let admin = id_of(&self.rig.get("/users/admin", &self.rig.admin).await.id());
        let (expired, row) = rows::token_of(admin, "expired", past);
        let (revoked, gone) = rows::token_of(admin, "revoked", json!({}));
        let mut all = nobody.rows.clone();
        all.extend([row, gone.clone()]);
        rows::put(&self.rig.app, all).await;
        rows::remove(&self.rig.app, vec![gone.id]).await;
        self.others = vec![
            Some(nobody.token),
            Some(rival),
            None,
            Some(expired),
            Some(revoked),
        ];
    }

    /// Every caller's token, in the order of a line's cells.
    pub(super) fn tokens(&self) -> Vec<Option<&str>> {
        let roles = self
            .callers
            .iter()
            .flatten()
            .map(|one| Some(one.token.as_str()));
        roles
            .chain(self.others.iter().map(Option::as_deref))
            .collect()
    }

    /// Binds the last level's users over one object; gives the bindings.
    pub(super) async fn bind_over(&self, object: ObjectId) -> Vec<ObjectId> {
        let bind = self.callers.iter().zip(&self.roles);
        let rows: Vec<Row> = bind
            .map(|(levels, role)| {
                rows::binding(levels[LEVELS.len() - 1].id, *role, Some(object), None)
            })
            .collect();
        let ids = rows.iter().map(|row| row.id).collect();
        rows::put(&self.rig.app, rows).await;
        ids
    }

    /// Sends a request of a route about the object of its kind, as a trial where there are trials.
    pub(super) async fn send(&self, route: &Route, token: Option<&str>, put: &Value) -> Reply {
        let id = route.kind.map(|kind| self.id(kind));
        self.send_about(route, id, token, put, true).await
    }

    /// The same about another object, or in earnest.
    pub(super) async fn send_about(
        &self,
        route: &Route,
        id: Option<ObjectId>,
        token: Option<&str>,
        put: &Value,
        is_trial: bool,
    ) -> Reply {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let mut path = route.path.clone();
        if let Some(id) = id {
            path = path.replace("{id}", &id.to_string());
        }
        let label = label(route);
        if id.is_none() {
            let of_tenant = label == "configs-of-tenant";
            let kind = if of_tenant {
                Kind::Tenant
            } else {
                Kind::TenantConfig
            };
            path = path.replace("{id}", &self.id(kind).to_string());
        }
        if label == "promote" {
            // A row alone is no member that could be promoted: the one that leads is.
            let own = self.rig.app.store_id().to_string();
            path = format!("/controllers/{own}/promote");
        }
        let mut query = Vec::new();
        if is_trial && route.query.contains(&DRY_RUN) {
            query.push("dry_run=true");
        }
        if matches!(label.as_str(), "who-can" | "explain") {
            query.push("action=read&kind=tenant&object=acme");
        }
        if label == "configs-effective" {
            query.push("scope=genai.policy&tenant=acme");
        }
        if label == "lookup" {
            query.push("type=domain&name=firms&tenant=acme");
        }
        if label == "merge" {
            query.push("domains=firms&tenant=acme");
        }
        if label == "diff" {
            query.push("from=1&to=2");
        }
        if label == "list" && route.kind.is_some() {
            query.push("limit=1000");
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let method = method_of(route);
        // So that no network is held up for what it was refused.
        let [_, a, b, c] = asked.to_be_bytes();
        let mut ask = self
            .rig
            .ask(method, &path)
            .from(&format!("10.{a}.{b}.{c}:1"));
        if let Some(token) = token {
            ask = ask.token(token);
        }
        match self.body(route, &label, put, asked) {
            Some(body) => ask.json(&body).send().await,
            None => ask.send().await,
        }
    }

    fn body(&self, route: &Route, label: &str, put: &Value, asked: u32) -> Option<Value> {
        let web = self.id(Kind::VirtualMachine);
        Some(match (&route.body, label) {
            (_, "allocate") => json!({"vm": web}),
            (_, "snapshot") => json!({"name": format!("all-{asked}")}),
            // Each tells something else than the one before.
            (_, "heartbeat") => json!({"report": {"firmware_version": format!("1.{asked}")}}),
            (_, "adopt") => {
                json!({"domain": "old", "name": format!("adopted-{asked}"), "tenant": "acme"})
            }
            (_, "password") => json!({"password": PASSWORD}),
            (_, "login") => json!({"username": "bob", "password": PASSWORD}),
            (_, "refresh") => json!({"refresh_token": "vfr1.x.y"}),
            (_, "can-i") => json!({"permission": "virtual_machine.read"}),
            (_, "configs-post") => self.another_of(Kind::TenantConfig, asked),
            (_, "configs-put") => json!({"spec": put}),
            (Body::Create(kind), _) => self.another_of(*kind, asked),
            (Body::CreateMany(kind), _) => json!({"items": [self.another_of(*kind, asked)]}),
            (Body::Ids, _) => json!({"ids": [self.id(route.kind?)]}),
            (Body::Replace(_), _) => json!({"spec": put}),
            (Body::Merge(kind), _) => json!({"spec": self.changes.get(kind).unwrap_or(&json!({}))}),
            (Body::Other(_), _) => json!({}),
            (Body::Empty, _) => return None,
        })
    }

    /// What makes another object of a kind.
    fn another_of(&self, kind: Kind, asked: u32) -> Value {
        let mut body = self
            .made
            .get(&kind)
            .cloned()
            .unwrap_or_else(|| json!({"spec": {}}));
        if kind.filters().iter().any(|filter| filter.by == By::Name) {
            body["name"] = format!("another-{asked}").into();
        }
        if kind == Kind::ApiToken {
            body["parent"] = "carol".into();
        }
        body
    }
}

/// The spec of another one like this, where it cannot be the same again or names what need not be named.
fn another(kind: Kind, spec: &Value) -> Value {
    match kind {
        Kind::Rack | Kind::BaremetalGroup | Kind::Place => json!({}),
        Kind::Maintainer => json!({"account": "bob"}),
        Kind::CloudBox => json!({"serial_number": "CB-2"}),
        Kind::RoleBinding => {
            json!({"subject": "carol", "role": "developer", "scope": "tenant/acme"})
        }
        Kind::UserGroupMember => json!({"user_group": "lab", "user": "alice"}),
        Kind::IpAddress => json!({"ip_pool": "addresses", "address": "10.1.2.11"}),
        _ => spec.clone(),
    }
}

/// What the table of access calls a route.
pub(super) fn label(route: &Route) -> String {
    let parts: Vec<&str> = route
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    if parts.first() == Some(&"configs") && route.kind.is_none() {
        let verb = match parts[1..] {
            ["tenant", _] => "of-tenant".to_owned(),
            ["effective"] => "effective".to_owned(),
            _ => route.method.as_str().to_lowercase(),
        };
        return format!("configs-{verb}");
    }
    let word = match (
        route.method.as_str(),
        route.kind.is_some(),
        parts.as_slice(),
    ) {
        ("GET", true, [_]) => "list",
        ("POST", true, [_]) => "create",
        ("GET", true, [_, "{id}"]) => "get",
        ("PUT", ..) => "put",
        ("PATCH", ..) => "patch",
        ("DELETE", ..) => "delete",
        (_, false, []) => "index",
        (_, _, [.., last]) => last.trim_end_matches(".json"),
        (_, true, []) => "",
    };
    word.to_owned()
}

/// Every route there is, under one word of each kind, but those for many objects.
pub(super) fn every_route() -> Vec<Route> {
    let of_kinds = Kind::ALL
        .iter()
        .flat_map(|kind| routes::of_kind(*kind, kind.plural()));
    let all = routes::fixed().into_iter().chain(of_kinds);
    all.filter(|route| !is_of_many(route)).collect()
}

fn is_of_many(route: &Route) -> bool {
    route.path.starts_with("/bulk/")
}

/// The route that does for many objects what this one does for one, if there is one.
pub(super) fn many_of(route: &Route) -> Option<Route> {
    if !matches!(label(route).as_str(), "create" | "delete") {
        return None;
    }
    let kind = route.kind?;
    let mut all = routes::of_kind(kind, kind.plural()).into_iter();
    all.find(|many| is_of_many(many) && many.method == route.method)
}
