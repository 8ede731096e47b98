//! One object of every kind is made, asked for again with the same key, and removed, all in earnest; and what else only
//! happens once.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::{By, Kind};
use virtflow_types::ObjectId;

use super::super::support::Rig;
use super::super::{rows, samples};
use super::told::{Contract, Operation};
use super::writer::Try;
use super::{Tally, attempt};
use crate::api::configs::LAYERS;
use crate::api::routes::Body;
use crate::testing::ADMIN_PASSWORD;

/// A cloud, its document, and what was found.
struct Lives<'a> {
    rig: Rig,
    contract: &'a Contract,
    operations: &'a [Operation],
    tally: &'a mut Tally,
}

impl Lives<'_> {
    /// Asks as somebody, under a key that is the same for the same; gives what is told.
    async fn ask_as(&mut self, token: &str, which: (&str, &str), path: &str, body: Value) -> Value {
        let mut all = self.operations.iter();
        let operation = all
            .find(|one| (one.method, one.path.as_str()) == which)
            .unwrap_or_else(|| panic!("{which:?} is no operation"));
        let key = path.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let one = Try {
            is_good: true,
            path: path.to_owned(),
            headers: vec![("idempotency-key", key)],
            body: Some(body).filter(|body| !body.is_null()),
        };
        let from = self.tally.requests;
        let came = attempt(&self.rig, operation, &one, token, from).await;
        let what = format!("{path} {:?}", one.body);
        self.tally.note(self.contract, operation, &what, &came);
        let told: Value = serde_json::from_str(&came.text.unwrap()).unwrap();
        told["data"].clone()
    }

    async fn ask(&mut self, which: (&str, &str), path: &str, body: Value) -> Value {
        let admin = self.rig.admin.clone();
        self.ask_as(&admin, which, path, body).await
    }

    /// Makes one, and says it twice; elsewhere it is tried.
    async fn make(&mut self, kind: Kind, body: &Value) -> Value {
        let all = format!("/{}", kind.plural());
        let others: Vec<&str> = self
            .operations
            .iter()
            .filter(|one| {
                let is_layer = one.path == "/configs" && LAYERS.contains(&kind);
                let is_same = one.route.body == Body::Create(kind) && one.path != all;
                one.method == "POST" && (is_layer || is_same)
            })
            .map(|one| one.path.as_str())
            .collect();
        for other in others {
            let path = format!("{other}?dry_run=true");
            self.ask(("POST", other), &path, body.clone()).await;
        }
        self.try_with_defaults(kind, &all, body).await;
        let made = self.ask(("POST", &all), &all, body.clone()).await;
        self.ask(("POST", &all), &all, body.clone()).await;
        made
    }

    /// What the document calls a default makes no difference when it is said.
    async fn try_with_defaults(&mut self, kind: Kind, all: &str, body: &Value) {
        if matches!(kind, Kind::ApiToken | Kind::JoinToken) {
            // They are not tried: what is said makes one.
            return;
        }
        let told = self.contract.creation(kind);
        let mut said = body.clone();
        for (field, told) in told.as_object().into_iter().flatten() {
            let named = field.strip_suffix("_id").unwrap_or(field);
            let is_given = !said["spec"][field].is_null() || !said["spec"][named].is_null();
            if let Some(default) = told.get("default").filter(|_| !is_given) {
                said["spec"][field] = default.clone();
            }
        }
        let spec_of = async |this: &mut Self, path: &str, body: &Value| {
            let told = this.ask(("POST", all), path, body.clone()).await;
            told.get("object").unwrap_or(&told)["spec"].clone()
        };
        let without = spec_of(self, &format!("{all}?dry_run=true"), body).await;
        let with = spec_of(self, &format!("{all}?dry_run=true&"), &said).await;
        if with != without {
            let wrong = format!("{all} with its defaults {said}: {with}, without {without}");
            self.tally.wrong.push(wrong);
        }
    }

    async fn remove(&mut self, kind: Kind, id: &str) {
        let own = format!("/{}/{{id}}", kind.plural());
        let others: Vec<&str> = self
            .operations
            .iter()
            .filter(|one| {
                let is_layer = one.path == "/configs/{id}" && LAYERS.contains(&kind);
                let is_same = one.route.kind == Some(kind) && one.path.contains("{id}");
                let is_delete = one.method == "DELETE" && one.path != own;
                is_delete && (is_layer || is_same)
            })
            .map(|one| one.path.as_str())
            .collect();
        for other in others {
            let path = format!("{}?dry_run=true", other.replace("{id}", id));
            self.ask(("DELETE", other), &path, Value::Null).await;
        }
        self.ask(("DELETE", &own), &own.replace("{id}", id), Value::Null)
            .await;
    }

    async fn session(&mut self) {
        let login = json!({"username": "admin", "password": ADMIN_PASSWORD});
        let tokens = self
            .ask(("POST", "/auth/login"), "/auth/login", login)
            .await;
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        let path = "/auth/refresh";
        let tokens = self.ask(("POST", path), path, refresh).await;
        let token = tokens["access_token"].as_str().unwrap().to_owned();
        let path = "/auth/logout";
        self.ask_as(&token, ("POST", path), path, Value::Null).await;
    }
}

/// The object that an answer is about.
fn id_of(told: &Value) -> String {
    let object = told.get("object").unwrap_or(told);
    object["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{told}"))
        .to_owned()
}

pub(super) async fn make_and_remove(
    contract: &Contract,
    operations: &[Operation],
    tally: &mut Tally,
) {
    let rig = Rig::start_unlimited().await;
    rig.tenant_with("acme", "alice", "tenant_admin").await;
    let mut lives = Lives {
        rig,
        contract,
        operations,
        tally,
    };
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    let all = samples::all();
    for one in &all {
        let mut body = samples::body_of(one, &ids, "acme");
        let mut filters = one.kind.filters().iter();
        if filters.any(|filter| filter.by == By::Name) {
            body["name"] = one.called.into();
        }
        let made = lives.make(one.kind, &body).await;
        let wrong = &lives.tally.wrong;
        assert!(!made.is_null(), "{} was not made: {wrong:?}", one.called);
        ids.insert(one.called, id_of(&made));
    }

    // A VM that waits for a host is given up.
    let idle = json!({"name": "idle", "tenant": "acme", "spec": {"specification": "small"}});
    let path = "/virtual_machines?dry_run=false";
    let made = lives.ask(("POST", "/virtual_machines"), path, idle).await;
    let begun = made["operation"]["id"].as_str().unwrap();
    let path = format!("/operations/{begun}/cancel");
    lives
        .ask(("POST", "/operations/{id}/cancel"), &path, Value::Null)
        .await;
    let group: ObjectId = ids["hosts"].parse().unwrap();
    let spec = json!({"serial_number": "S1", "group_id": group});
    let host = rows::Row::new(Kind::Baremetal, "h1", spec);
    let mut going = vec![
        (Kind::Baremetal, host.id.to_string()),
        (Kind::VirtualMachine, id_of(&made)),
    ];
    rows::put(&lives.rig.app, vec![host]).await;

    // Who needs another goes before it.
    let samples = all.iter().rev();
    going.extend(samples.map(|one| (one.kind, ids[one.called].clone())));
    let rig = &lives.rig;
    let alice = rig.get("/users/alice", &rig.admin).await.id();
    let bindings = format!("/role_bindings?subject={alice}");
    let bindings = rig.get(&bindings, &rig.admin).await;
    for binding in bindings.data(200).as_array().unwrap() {
        going.push((Kind::RoleBinding, id_of(binding)));
    }
    going.push((Kind::User, alice));
    let acme = rig.get("/tenants/acme", &rig.admin).await.id();
    going.push((Kind::Tenant, acme));
    for (kind, id) in going {
        lives.remove(kind, &id).await;
    }
    lives.session().await;
    let verdict = lives.rig.get("/verify", &lives.rig.admin).await;
    assert_eq!(verdict.data(200)["divergences"], json!([]));
}
