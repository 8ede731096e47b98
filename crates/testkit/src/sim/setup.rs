//! How a cluster begins: the operator makes what it is made of and invites machines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use virtflow_types::chance;

use super::api::{Api, Call, Reply};
use super::controller::{Invitations, Shared, lock};
use super::trace;

#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) controllers: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) invitations: Shared<Invitations>,
    /// Controllers that were removed and whose machines are to be wiped.
    pub(crate) wipes: Shared<Vec<String>>,
    /// What the tenant may use: less than clients ask for.
    pub(crate) tenant_vms: u64,
    /// Whether things may be changed now.
    pub(crate) open: Arc<AtomicBool>,
}

/// The one thing a setup does not go on without.
async fn made(api: &mut Api, path: &str, body: Value) -> Value {
    let key = format!("setup-{path}-{body}");
    let headers = [(
        "idempotency-key",
        blake3::hash(key.as_bytes()).to_hex()[..32].to_owned(),
    )];
    loop {
        let call = Call {
            method: "POST",
            path,
            headers: &headers,
            body: Some(&body),
        };
        match api.call("c1", call).await {
            Reply::Answered(answer) if answer.is_ok() => return answer.data().clone(),
            Reply::Answered(answer) if answer.status != 503 => {
                panic!("setting up {path}: {}", answer.body)
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

impl Setup {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (ca, token) = loop {
            let known = {
                let invitations = lock(&self.invitations);
                invitations.ca.zip(invitations.admin_token.clone())
            };
            match known {
                Some(known) => break known,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let mut api = Api::new(ca, &token)?;
        let api = &mut api;
        made(api, "/data_centers", json!({"name": "dc1"})).await;
        made(
            api,
            "/racks",
            json!({"name": "r1", "spec": {"data_center": "dc1"}}),
        )
        .await;
        made(
            api,
            "/baremetal_groups",
            json!({"name": "g1", "spec": {"data_center": "dc1"}}),
        )
        .await;
        made(
            api,
            "/virtual_machine_specifications",
            json!({"name": "small", "spec": {"cpu_cores": 1, "memory_mib": 256, "storage_gib": 1}}),
        )
        .await;
        made(
            api,
            "/tenants",
            json!({"name": "acme", "spec": {"quota": {"vms": self.tenant_vms}}}),
        )
        .await;
        made(
            api,
            "/baremetal_group_tenant_quotas",
            json!({"spec": {"group": "g1", "tenant": "acme",
                "cpu_quota_percentage": 100.0, "memory_mib": 65536, "storage_gib": 1000}}),
        )
        .await;
        let expires = "2026-01-01T01:00:00Z";
        for name in self.controllers.iter().skip(1) {
            let body = json!({"spec": {"role": "controller", "host_name": name,
                "expires_at": expires}});
            self.invite(api, name, body).await;
        }
        for name in &self.hosts {
            let body = json!({"spec": {"role": "agent", "group": "g1", "rack": "r1",
                "host_name": name, "expires_at": expires}});
            self.invite(api, name, body).await;
        }
        trace::note("everything is set up, everybody invited");
        loop {
            tokio::time::sleep(Duration::from_millis(3000 + chance::number() % 12_000)).await;
            if !self.open.load(Ordering::Relaxed) {
                continue;
            }
            match chance::number() % 3 {
                0 => self.replace(api).await,
                _ => self.hand_over(api).await,
            }
        }
    }

    /// Asks any controller; what it says if it is not refused.
    async fn ask(
        &self,
        api: &mut Api,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Value> {
        let (status, data) = self.tell(api, method, path, body).await?;
        (200..300).contains(&status).then_some(data)
    }

    /// The status and the data of an answer; nothing if there was none.
    async fn tell(
        &self,
        api: &mut Api,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let at = usize::try_from(chance::number()).unwrap_or(0) % self.controllers.len();
        let call = Call {
            method,
            path,
            headers: &[],
            body,
        };
        let reply = api.call(&self.controllers[at], call).await;
        match reply {
            Reply::Answered(answer) => {
                trace::note(format!(
                    "operator: {method} {path}: {} {}",
                    answer.status,
                    answer.code()
                ));
                Some((answer.status, answer.data().clone()))
            }
            _ => {
                trace::note(format!("operator: {method} {path}: no answer"));
                None
            }
        }
    }

    async fn hand_over(&self, api: &mut Api) {
        self.ask(api, "POST", "/controllers/hand-over", Some(&json!({})))
            .await;
    }

    /// Takes a controller out, has its machine wiped, and invites it anew, as another member.
    async fn replace(&self, api: &mut Api) {
        let Some(listed) = self.ask(api, "GET", "/controllers", None).await else {
            return;
        };
        let members = listed.as_array().cloned().unwrap_or_default();
        let votes = |member: &&Value| member["member"]["role"] == "voter";
        if members.iter().filter(votes).count() != self.controllers.len() {
            return;
        }
        // The first one is where newcomers knock.
        let at = 1 + usize::try_from(chance::number()).unwrap_or(0) % (self.controllers.len() - 1);
        let name = self.controllers[at].clone();
        // A removal that was begun ends, whoever leads then: without a clear answer it is asked for again.
        let removal = format!("/controllers/{name}");
        while !matches!(
            self.tell(api, "DELETE", &removal, None).await,
            Some((200 | 404, _))
        ) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let body = json!({"spec": {"role": "controller", "host_name": name,
            "expires_at": "2026-01-01T01:00:00Z"}});
        lock(&self.invitations).tokens.remove(&name);
        lock(&self.wipes).push(name.clone());
        loop {
            let made = self.ask(api, "POST", "/join_tokens", Some(&body)).await;
            if let Some(token) = made.as_ref().and_then(|made| made["token"].as_str()) {
                lock(&self.invitations)
                    .tokens
                    .insert(name, token.to_owned());
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn invite(&self, api: &mut Api, name: &str, body: Value) {
        let made = made(api, "/join_tokens", body).await;
        let token = made["token"].as_str().unwrap_or_default().to_owned();
        lock(&self.invitations)
            .tokens
            .insert(name.to_owned(), token);
    }
}
