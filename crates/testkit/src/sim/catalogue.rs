//! Clients that make, change and delete a few kinds that have no part of the workload to themselves: networks
//! whose blocks overlap, pools and addresses, disks, groups, tickets, quotas, and hosts that are closed for a
//! while. They race for names, blocks and quotas; what they were told must stand in the log.

use serde_json::{Value, json};
use virtflow_types::chance;

use super::api::{Api, Call, Reply};
use super::clients::{Client, text};
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
    change: fn(u64) -> Value,
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
        change: described,
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
        change: described,
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
        change: described,
    },
    Sort {
        kind: "private_data_disk",
        path: "/private_data_disks",
        stem: "disk",
        tenant: true,
        spec: || json!({"size_gib": 1 + below(4)}),
        change: |serial| json!({"size_gib": 1 + serial % 64}),
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
        change: |serial| json!({"quota": {"vms": serial % 9}}),
    },
    Sort {
        kind: "help_ticket",
        path: "/help_tickets",
        stem: "",
        tenant: true,
        spec: || json!({"subject": "it does not work"}),
        change: described,
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
    async fn tell(
        &self,
        api: &mut Api,
        method: &'static str,
        path: &str,
        body: Option<Value>,
    ) -> Option<Value> {
        let call = Call {
            method,
            path,
            headers: &[],
            body: body.as_ref(),
        };
        let Reply::Answered(answer) = self.ask(api, call).await else {
            return None;
        };
        if answer.status == 400 || answer.status == 422 {
            let what = format!("{method} {path} {body:?}: {}", answer.body);
            lock(&self.notes).wrong.push(what);
        }
        answer.is_ok().then(|| answer.data().clone())
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
        let Some(listed) = self.tell(api, "GET", &listed, None).await else {
            return;
        };
        let found = listed.as_array().and_then(|all| all.first()).cloned();
        match found {
            Some(object) if below(3) > 0 => {
                let path = format!(
                    "{}/{}",
                    sort.path,
                    object["id"].as_str().unwrap_or_default()
                );
                if below(3) > 0 {
                    let body = json!({"spec": (sort.change)(serial)});
                    self.tell(api, "PATCH", &path, Some(body)).await;
                } else if self.tell(api, "DELETE", &path, None).await.is_some() {
                    self.told(sort.kind, &object, false);
                }
            }
            _ => {
                let mut body = json!({"spec": (sort.spec)()});
                if !sort.stem.is_empty() {
                    body["name"] = name.into();
                }
                if sort.tenant {
                    body["tenant"] = "acme".into();
                }
                if let Some(made) = self.tell(api, "POST", sort.path, Some(body)).await {
                    self.told(sort.kind, &made, true);
                }
            }
        }
    }

    /// Addresses run out, and come back.
    async fn allocate(&self, api: &mut Api) {
        let pool = format!("pool-{}", below(NAMES));
        if below(2) == 0 {
            let path = format!("/ip_pools/{pool}/allocate");
            if let Some(given) = self.tell(api, "POST", &path, Some(json!({}))).await {
                self.told("ip_address", &given, true);
            }
            return;
        }
        let listed = self.tell(api, "GET", "/ip_addresses?limit=20", None).await;
        let listed = listed.unwrap_or_default();
        let listed = listed.as_array().map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(below(listed.len().max(1) as u64)).unwrap_or(0);
        let Some(id) = listed.get(at).and_then(|one| one["id"].as_str()) else {
            return;
        };
        let path = format!("/ip_addresses/{id}");
        if below(3) == 0 {
            if self.tell(api, "DELETE", &path, None).await.is_some() {
                self.told("ip_address", &json!({"id": id}), false);
            }
        } else {
            let path = format!("{path}/release");
            self.tell(api, "POST", &path, Some(json!({}))).await;
        }
    }

    /// Below what is used, too: nothing may grow then.
    async fn cut_quota(&self, api: &mut Api) {
        let vms = 1 + below(self.size.tenant_vms);
        let body = json!({"spec": {"quota": {"vms": vms}}});
        self.tell(api, "PATCH", "/tenants/acme", Some(body)).await;
    }

    /// Nothing new may come onto a closed host; half of the time it is opened again.
    async fn close_host(&self, api: &mut Api) {
        let listed = self.tell(api, "GET", "/baremetals?limit=50", None).await;
        let listed = listed.unwrap_or_default();
        let listed = listed.as_array().map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(below(listed.len().max(1) as u64)).unwrap_or(0);
        let Some(id) = listed.get(at).and_then(|one| one["id"].as_str()) else {
            return;
        };
        let verb = match below(3) {
            0 => "cordon",
            _ => "uncordon",
        };
        let path = format!("/baremetals/{id}/{verb}");
        self.tell(api, "POST", &path, Some(json!({}))).await;
    }
}
