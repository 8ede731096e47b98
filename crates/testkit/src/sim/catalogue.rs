//! Clients that make, change and delete a few kinds that have no part of the workload to themselves: networks
//! whose blocks overlap, pools and addresses, disks, groups, tickets, quotas, and hosts that are closed for a
//! while. They race for names, blocks and quotas; what they were told must stand in the log.

use serde_json::{Value, json};
use virtflow_types::chance;

use super::api::{Api, Call, Reply};
use super::clients::Client;
use super::controller::lock;

/// Names that the clients share, of each kind.
const NAMES: u64 = 3;

/// A kind that is made, changed and deleted alike.
struct Sort {
    /// The kind's name.
    kind: &'static str,
    path: &'static str,
    /// What its names begin with.
    stem: &'static str,
    tenant: bool,
    spec: fn() -> Value,
    change: Change,
}

/// What of its spec is changed.
enum Change {
    /// Whatever it is by now.
    Blindly(fn(u64) -> Value),
    /// By what was seen, and only if it still is that.
    BySeen(fn(&Value) -> Value),
}

fn below(limit: u64) -> u64 {
    chance::number() % limit
}

fn described(serial: u64) -> Value {
    json!({"description": format!("change {serial}")})
}

static SORTS: [Sort; 6] = [
    Sort {
        kind: "vpc",
        path: "/vpcs",
        stem: "net",
        tenant: true,
        spec: || json!({"cidr": "10.1.0.0/16"}),
        change: Change::Blindly(described),
    },
    Sort {
        kind: "subnet",
        path: "/subnets",
        stem: "sub",
        tenant: true,
        spec: || {
            let block = ["10.1.0.0/23", "10.1.1.0/24", "10.1.2.0/24", "10.1.2.128/25"];
            let at = usize::try_from(below(4)).unwrap_or(0);
            json!({"vpc": format!("net-{}", below(NAMES)), "cidr": block[at]})
        },
        change: Change::Blindly(described),
    },
    Sort {
        kind: "ip_pool",
        path: "/ip_pools",
        stem: "pool",
        tenant: false,
        spec: || {
            let first = 10 + below(4) * 2;
            json!({"data_center": "dc1", "first_address": format!("203.0.113.{first}"),
                "last_address": format!("203.0.113.{}", first + 3)})
        },
        change: Change::Blindly(described),
    },
    Sort {
        kind: "private_data_disk",
        path: "/private_data_disks",
        stem: "disk",
        tenant: true,
        spec: || json!({"size_gib": 1 + below(4)}),
        // It only grows.
        change: Change::BySeen(|seen| {
            let size_gib = seen["size_gib"].as_u64().unwrap_or(0);
            json!({"size_gib": size_gib + 1})
        }),
    },
    Sort {
        kind: "user_group",
        path: "/user_groups",
        stem: "group",
        tenant: true,
        spec: || match below(2) {
            0 => json!({}),
            _ => json!({"parent_group": format!("group-{}", below(NAMES))}),
        },
        change: Change::Blindly(|serial| json!({"quota": {"vms": serial % 9}})),
    },
    Sort {
        kind: "help_ticket",
        path: "/help_tickets",
        stem: "",
        tenant: true,
        spec: || json!({"subject": "it does not work"}),
        change: Change::Blindly(described),
    },
];

/// An object that a client was told to be there, or to be gone.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) is_there: bool,
}

impl Client {
    /// The data of an answer that was given what it asked for.
    async fn tell(&self, api: &mut Api, call: Call<'_>) -> Option<Value> {
        let (method, path, body) = (call.method, call.path, call.body);
        let Reply::Answered(answer) = self.ask(api, call).await else {
            return None;
        };
        // Whatever became of what it is about, nothing here is asked in a wrong way.
        if answer.status == 400 {
            let what = format!("{method} {path} {body:?}: {}", answer.body);
            lock(&self.notes).wrong.push(what);
        }
        answer.is_ok().then(|| answer.data().clone())
    }

    async fn post(&self, api: &mut Api, path: &str, body: &Value) -> Option<Value> {
        let call = Call {
            method: "POST",
            path,
            headers: &[],
            body: Some(body),
        };
        self.tell(api, call).await
    }

    async fn get(&self, api: &mut Api, path: &str) -> Option<Vec<Value>> {
        let listed = self.tell(api, Call::plain("GET", path)).await?;
        listed.as_array().cloned()
    }

    fn told(&self, kind: &'static str, object: &Value, is_there: bool) {
        if let Some(id) = object["id"].as_str() {
            let id = id.to_owned();
            let told = Told { kind, id, is_there };
            lock(&self.notes).told.push(told);
        }
    }

    /// One thing with one object.
    pub(crate) async fn manage(&self, api: &mut Api, serial: u64) {
        match below(10) {
            0 => self.cut_quota(api).await,
            1 => self.close_host(api).await,
            2 => self.allocate(api).await,
            _ => {
                let at = usize::try_from(below(SORTS.len() as u64)).unwrap_or(0);
                self.handle(api, &SORTS[at], serial).await;
            }
        }
    }

    async fn handle(&self, api: &mut Api, sort: &Sort, serial: u64) {
        let name = format!("{}-{}", sort.stem, below(NAMES));
        let listed = match sort.stem {
            "" => format!("{}?limit=5", sort.path),
            _ => format!("{}?name={name}", sort.path),
        };
        let Some(listed) = self.get(api, &listed).await else {
            return;
        };
        match listed.first() {
            Some(object) if below(3) > 0 => self.change(api, sort, object, serial).await,
            _ => self.make(api, sort, name).await,
        }
    }

    async fn change(&self, api: &mut Api, sort: &Sort, seen: &Value, serial: u64) {
        let id = seen["id"].as_str().unwrap_or_default();
        let path = format!("{}/{id}", sort.path);
        if below(3) == 0 {
            if self.tell(api, Call::plain("DELETE", &path)).await.is_some() {
                self.told(sort.kind, seen, false);
            }
            return;
        }
        let (spec, generation) = match sort.change {
            Change::Blindly(spec) => (spec(serial), None),
            Change::BySeen(spec) => (spec(&seen["spec"]), Some(&seen["generation"])),
        };
        let headers = generation.map(|seen| ("if-match", format!("\"{seen}\"")));
        let call = Call {
            method: "PATCH",
            path: &path,
            headers: headers.as_slice(),
            body: Some(&json!({"spec": spec})),
        };
        self.tell(api, call).await;
    }

    async fn make(&self, api: &mut Api, sort: &Sort, name: String) {
        let mut body = json!({"spec": (sort.spec)()});
        if !sort.stem.is_empty() {
            body["name"] = name.into();
        }
        if sort.tenant {
            body["tenant"] = "acme".into();
        }
        if let Some(made) = self.post(api, sort.path, &body).await {
            self.told(sort.kind, &made, true);
        }
    }

    /// Addresses run out, and come back.
    async fn allocate(&self, api: &mut Api) {
        if below(2) == 0 {
            let pool = format!("pool-{}", below(NAMES));
            let path = format!("/ip_pools/{pool}/allocate?tenant=acme");
            let body = json!({"vm": format!("vm-{}", below(self.size.vm_names))});
            if let Some(given) = self.post(api, &path, &body).await {
                self.told("ip_address", &given, true);
            }
            return;
        }
        let Some(id) = self.one_of(api, "/ip_addresses?limit=20").await else {
            return;
        };
        let path = format!("/ip_addresses/{id}");
        if below(3) > 0 {
            let path = format!("{path}/release");
            self.tell(api, Call::plain("POST", &path)).await;
        } else if self.tell(api, Call::plain("DELETE", &path)).await.is_some() {
            self.told("ip_address", &json!({"id": id}), false);
        }
    }

    /// The id of any object that a list tells.
    async fn one_of(&self, api: &mut Api, path: &str) -> Option<String> {
        let listed = self.get(api, path).await?;
        let at = usize::try_from(below(listed.len().max(1) as u64)).ok()?;
        listed.get(at)?["id"].as_str().map(str::to_owned)
    }

    /// Below what is used, too: nothing may grow then.
    async fn cut_quota(&self, api: &mut Api) {
        let vms = 1 + below(self.size.tenant_vms);
        let body = json!({"spec": {"quota": {"vms": vms}}});
        let call = Call {
            method: "PATCH",
            path: "/tenants/acme",
            headers: &[],
            body: Some(&body),
        };
        self.tell(api, call).await;
    }

    /// Nothing new may come onto a closed host; mostly one is opened again.
    async fn close_host(&self, api: &mut Api) {
        let Some(id) = self.one_of(api, "/baremetals?limit=50").await else {
            return;
        };
        let verb = match below(3) {
            0 => "cordon",
            _ => "uncordon",
        };
        let path = format!("/baremetals/{id}/{verb}");
        self.tell(api, Call::plain("POST", &path)).await;
    }
}
