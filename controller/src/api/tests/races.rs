//! Rules that span objects, raced: many clients ask for more than a rule allows, all at once and on all controllers.
//! What comes of it is held against the rule itself; then every controller derives its ledgers and indexes anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_types::{ObjectId, Timestamp};

use super::followers::joined_by_two;
use super::rows::{self, Row};
use super::samples;
use super::support::{Reply, Rig, ask};
use crate::app::App;

/// Who asks at once.
const CLIENTS: usize = 24;

/// A request of one of them.
#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    path: String,
    body: Value,
    key: Option<&'static str>,
}

fn asked(method: &'static str, path: impl Into<String>, body: Value) -> Asked {
    let path = path.into();
    Asked {
        method,
        path,
        body,
        key: None,
    }
}

fn post(path: &str, body: Value) -> Asked {
    asked("POST", path, body)
}

/// In the tenant `acme`; without a name where the kind has none.
fn make(path: &str, name: impl Into<String>, spec: Value) -> Asked {
    let name = name.into();
    let mut body = json!({"tenant": "acme", "spec": spec});
    if !name.is_empty() {
        body["name"] = name.into();
    }
    post(path, body)
}

fn patch(path: impl Into<String>, spec: Value) -> Asked {
    asked("PATCH", path, json!({"spec": spec}))
}

fn delete(path: impl Into<String>) -> Asked {
    asked("DELETE", path, json!({}))
}

/// One request for each client.
fn each(request: impl Fn(usize) -> Asked) -> Vec<Asked> {
    (0..CLIENTS).map(request).collect()
}

/// Three controllers, and a tenant `acme` with one object of each kind.
struct Race {
    rig: Rig,
    apps: [App; 3],
    ids: BTreeMap<&'static str, String>,
    _dir: tempfile::TempDir,
}

impl Race {
    async fn start() -> Self {
        let rig = Rig::start_unlimited().await;
        let (mut rig, [second, third], dir) = joined_by_two(rig).await;
        rig.make("/tenants", json!({"name": "acme"})).await;
        rig.admin = rows::lasting_token(&rig, "admin").await;
        let mut ids = BTreeMap::new();
        for one in samples::all() {
            let id = samples::create(&rig, &one, &ids).await;
            ids.insert(one.called, id);
        }
        let apps = [rig.app.clone(), second, third];
        Self {
            rig,
            apps,
            ids,
            _dir: dir,
        }
    }

    /// The answers, in the order of the requests.
    async fn run(&self, requests: Vec<Asked>) -> Vec<Reply> {
        let begin = |(n, request): (usize, Asked)| {
            let (app, token) = (
                self.apps[n % self.apps.len()].clone(),
                self.rig.admin.clone(),
            );
            tokio::spawn(async move {
                let mut ask = ask(&app, request.method, &request.path).token(&token);
                if let Some(key) = request.key {
                    ask = ask.header("idempotency-key", key);
                }
                ask.json(&request.body).send().await
            })
        };
        let tasks: Vec<_> = requests.into_iter().enumerate().map(begin).collect();
        let mut replies = Vec::new();
        for task in tasks {
            replies.push(task.await.unwrap());
        }
        replies
    }

    /// The answers to the even and to the odd ones of two kinds of requests.
    async fn two(&self, request: impl Fn(usize) -> Asked) -> (Vec<Reply>, Vec<Reply>) {
        let replies = self.run(each(request)).await.into_iter().enumerate();
        let (even, odd): (Vec<_>, Vec<_>) = replies.partition(|(n, _)| n % 2 == 0);
        let alone = |of: Vec<(usize, Reply)>| of.into_iter().map(|(_, reply)| reply).collect();
        (alone(even), alone(odd))
    }

    /// Exactly so many are done; all others are refused, for this reason.
    async fn only(&self, count: usize, refused: &str, requests: Vec<Asked>) -> Vec<Reply> {
        let first = requests[0].path.clone();
        let (done, others) = apart(self.run(requests).await);
        assert_eq!(done.len(), count, "{first}: {:?}", others.first());
        for other in others {
            assert_eq!(
                other.body["error"]["code"], refused,
                "{first}: {}",
                other.text
            );
        }
        done
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let reply = self.rig.get(path, &self.rig.admin).await;
        reply.data(200).as_array().unwrap().clone()
    }

    async fn spec(&self, path: &str) -> Value {
        self.rig.get(path, &self.rig.admin).await.data(200)["spec"].clone()
    }

    /// What was made before the race.
    async fn made(&self, request: Asked) -> String {
        let reply = self.run(vec![request]).await.remove(0);
        assert!(reply.status < 300, "{}", reply.text);
        id_of(&reply)
    }

    /// Every controller finds its ledgers and indexes right.
    async fn verify(&self) {
        for app in &self.apps {
            let verdict = ask(app, "GET", "/verify")
                .token(&self.rig.admin)
                .send()
                .await;
            assert_eq!(
                verdict.data(200)["divergences"],
                json!([]),
                "{}",
                app.name()
            );
        }
    }
}

/// Those that were done, and those that were refused.
fn apart(replies: Vec<Reply>) -> (Vec<Reply>, Vec<Reply>) {
    replies.into_iter().partition(|reply| reply.status < 300)
}

fn index_of(reply: &Reply) -> u64 {
    reply.body["meta"]["index"].as_u64().unwrap()
}

/// Once the first of `ending` was done, none of `others` was: all of them would have changed something. Many changes
/// share one entry of the log, within which their indexes tell no order.
fn nothing_after(ending: &[Reply], others: &[Reply]) {
    let done = |replies: &[Reply]| -> Vec<u64> {
        let done = replies.iter().filter(|reply| reply.status < 300);
        done.map(index_of).collect()
    };
    let end = done(ending).into_iter().min().expect("somebody ended it");
    for index in done(others) {
        assert!(index <= end, "ended at {end}, changed at {index}");
    }
}

/// The id of what was made, beside an operation or alone.
fn id_of(reply: &Reply) -> String {
    let data = &reply.body["data"];
    let object = data.get("object").unwrap_or(data);
    object["id"].as_str().expect(&reply.text).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unique_is_made_once() {
    let race = Race::start().await;
    let taken = "already_exists";
    let small = json!({"specification": "small"});
    let vms = each(|_| make("/virtual_machines", "same", small.clone()));
    race.only(1, taken, vms).await;
    let instances = each(|_| make("/instances", "one", small.clone()));
    race.only(1, taken, instances).await;
    let tenants = each(|_| post("/tenants", json!({"name": "newco"})));
    race.only(1, taken, tenants).await;
    let users = each(|n| {
        let tenant = ["acme", "newco"][n / 3 % 2];
        post("/users", json!({"name": "dora", "tenant": tenant}))
    });
    race.only(1, taken, users).await;
    let binding = json!({"subject": "carol", "role": "viewer", "scope": "tenant/acme"});
    let bindings = each(|_| post("/role_bindings", json!({"spec": binding})));
    race.only(1, taken, bindings).await;
    let second = race.made(post(
        "/maintainers",
        json!({"name": "bo", "spec": {"account": "bo"}}),
    ));
    second.await;
    let assigned = json!({"resource": "rack/rack", "maintainer": "bo"});
    let assigned = each(|_| post("/resource_maintainers", json!({"spec": assigned})));
    race.only(1, taken, assigned).await;
    let boxes = each(|n| {
        make(
            "/cloud_boxes",
            format!("b{n}"),
            json!({"serial_number": "CB-7"}),
        )
    });
    race.only(1, taken, boxes).await;
    let periods = json!({"period": "2026-12", "currency": "EUR"});
    let periods = each(|_| make("/billing_periods", "", periods.clone()));
    race.only(1, taken, periods).await;
    let places = each(|n| {
        make(
            "/places",
            format!("p{n}"),
            json!({"subnet": race.ids["front"]}),
        )
    });
    race.only(0, taken, places).await;

    // Each of them is told of the one that was made.
    let keyed = each(|_| Asked {
        key: Some("order-7"),
        ..make("/virtual_machines", "keyed", small.clone())
    });
    let (done, refused) = apart(race.run(keyed).await);
    assert!(refused.is_empty(), "{:?}", refused[0]);
    let made: BTreeSet<String> = done.iter().map(id_of).collect();
    assert_eq!(made.len(), 1);
    race.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_quota_and_no_host_is_given_out_twice() {
    let race = Race::start().await;
    let small = json!({"specification": "small"});
    // Two VMs are there.
    race.made(patch("/tenants/acme", json!({"quota": {"vms": 7}})))
        .await;
    let vms = each(|n| make("/virtual_machines", format!("t{n}"), small.clone()));
    race.only(5, "quota_exceeded", vms).await;
    race.made(patch("/tenants/acme", json!({"quota": {"vms": 100}})))
        .await;
    // The group `lab` may have five, and its parent four.
    let above = race
        .made(make("/user_groups", "above", json!({"quota": {"vms": 4}})))
        .await;
    race.made(patch("/user_groups/lab", json!({"parent_group_id": above})))
        .await;
    let of_lab = json!({"specification": "small", "user_group": "lab"});
    let vms = each(|n| make("/virtual_machines", format!("g{n}"), of_lab.clone()));
    race.only(4, "quota_exceeded", vms).await;

    // One disk is there, and no address is taken.
    let numbers = json!({"quota": {"disks": 4, "addresses": 3}});
    race.made(patch("/tenants/acme", numbers)).await;
    let gib = json!({"size_gib": 1});
    let disks = each(|n| make("/private_data_disks", format!("d{n}"), gib.clone()));
    race.only(3, "quota_exceeded", disks).await;
    let web = json!({"vm": race.ids["web"]});
    let given = each(|_| post("/ip_pools/addresses/allocate?tenant=acme", web.clone()));
    race.only(3, "quota_exceeded", given).await;

    let group = race
        .rig
        .get("/baremetal_groups/hosts", &race.rig.admin)
        .await
        .id();
    let hosts = ["SN-1", "SN-2", "SN-3"].map(|serial| {
        let spec = json!({"serial_number": serial, "group_id": group, "rental": "exclusive"});
        let status = json!({
            "liveness": "online", "cpu_milli": 4000, "memory_mib": 4096, "storage_gib": 100,
            "schedulable_cpu_milli": 8000, "schedulable_memory_mib": 4096, "schedulable_storage_gib": 100,
        });
        Row::new(Kind::Baremetal, &serial.to_lowercase(), spec).status(status)
    });
    rows::put(&race.rig.app, hosts.to_vec()).await;
    let share = json!({"cpu_quota_percentage": 100});
    let quota = format!("/baremetal_group_tenant_quotas/{}", race.ids["share"]);
    race.made(patch(quota, share)).await;
    let whole = json!({"specification": "small", "rental": "exclusive"});
    let whole = each(|n| make("/instances", format!("w{n}"), whole.clone()));
    let rented = race.only(3, "no_capacity", whole).await;
    let of = |reply: &Reply| reply.data(201)["status"]["rented"]["host_id"].to_string();
    let hosts: BTreeSet<String> = rented.iter().map(of).collect();
    assert_eq!(hosts.len(), 3);
    race.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_becomes_one_vm_whoever_asks_for_it() {
    let race = Race::start().await;
    let group = race
        .rig
        .get("/baremetal_groups/hosts", &race.rig.admin)
        .await
        .id();
    let old = |number: u128, name: &str| {
        json!({
            "domain_id": ObjectId::from_u128(number), "name": name, "state": "running", "cpu_cores": 1,
            "memory_mib": 512, "storage_gib": 4,
        })
    };
    let host = Row::new(
        Kind::Baremetal,
        "old-host",
        // So that nothing else is placed on it; what is there may be adopted.
        json!({"serial_number": "SN-OLD", "group_id": group, "state": "cordoned"}),
    )
    .status(json!({
        "liveness": "online", "cpu_milli": 40_000, "memory_mib": 40_960, "storage_gib": 1000,
        "schedulable_cpu_milli": 40_000, "schedulable_memory_mib": 40_960, "schedulable_storage_gib": 1000,
        "foreign": {
            "domains": [old(1, "db"), old(2, "mail")],
            "take": {"cpu_cores": 2, "memory_mib": 1024, "storage_gib": 8},
        },
    }));
    rows::put(&race.rig.app, vec![host]).await;
    let share = json!({"cpu_quota_percentage": 100, "memory_mib": 40_960, "storage_gib": 1000});
    let quota = format!("/baremetal_group_tenant_quotas/{}", race.ids["share"]);
    race.made(patch(quota, share)).await;
    let adopt = |n: usize| {
        let body = json!({"domain": "db", "tenant": "acme", "name": format!("db-{n}")});
        post("/hosts/old-host/adopt", body)
    };
    let made = race.only(1, "already_exists", each(adopt)).await;
    let told = made[0].data(202);
    assert_eq!(told["operation"]["spec"]["verb"], "virtual_machine.adopt");
    let vms = race.list("/virtual_machines?host=old-host").await;
    assert_eq!(vms.len(), 1);
    assert_eq!(vms[0]["spec"]["memory_mib"], 512);
    let left = race
        .rig
        .get("/hosts/old-host/domains", &race.rig.admin)
        .await;
    let left = left.data(200);
    assert_eq!(left["domains"].as_array().unwrap().len(), 1);
    assert_eq!(left["domains"][0]["name"], "mail");
    assert_eq!(
        left["take"],
        json!({"cpu_cores": 1, "memory_mib": 512, "storage_gib": 4})
    );
    race.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_stay_a_tree_and_what_is_needed_stays() {
    let race = Race::start().await;
    let names = ["a", "b", "c", "d"];
    let mut groups = Vec::new();
    for name in names {
        groups.push(race.made(make("/user_groups", name, json!({}))).await);
    }
    // Around in a ring, which one of them must not close.
    let ring = each(|n| {
        let (child, parent) = (n % groups.len(), (n + 1) % groups.len());
        patch(
            format!("/user_groups/{}", groups[child]),
            json!({"parent_group_id": groups[parent]}),
        )
    });
    let (done, refused) = apart(race.run(ring).await);
    assert!(!done.is_empty() && !refused.is_empty());
    for group in &groups {
        let mut at = json!(group);
        for _ in 0..=groups.len() {
            if !at.is_null() {
                let path = format!("/user_groups/{}", at.as_str().unwrap());
                at = race.spec(&path).await["parent_group_id"].clone();
            }
        }
        assert!(at.is_null(), "the groups go round in a ring");
    }

    // A network goes, or gets subnets; not both.
    let net = race
        .made(make("/vpcs", "short", json!({"cidr": "10.9.0.0/16"})))
        .await;
    let both = each(|n| match n % 2 {
        0 => delete(format!("/vpcs/{net}")),
        _ => make(
            "/subnets",
            format!("s{n}"),
            json!({"vpc_id": net, "cidr": format!("10.9.{n}.0/24")}),
        ),
    });
    let (done, _) = apart(race.run(both).await);
    assert!(!done.is_empty());
    let is_there = race
        .rig
        .get(&format!("/vpcs/{net}"), &race.rig.admin)
        .await
        .status
        == 200;
    let subnets = race.list("/subnets?tenant=acme&limit=1000").await;
    let within = subnets
        .iter()
        .filter(|subnet| subnet["spec"]["vpc_id"] == json!(net));
    assert_eq!(within.count() > 0, is_there);

    // A tenant goes, or gets users; one that goes has none in the end.
    race.made(post("/tenants", json!({"name": "brief"}))).await;
    let (ending, others) = race
        .two(|n| match n % 2 {
            0 => delete("/tenants/brief"),
            _ => post(
                "/users",
                json!({"name": format!("brief-{n}"), "tenant": "brief"}),
            ),
        })
        .await;
    if ending.iter().any(|reply| reply.status < 300) {
        nothing_after(&ending, &others);
    }
    race.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_do_not_overlap_and_an_address_has_one_owner() {
    let race = Race::start().await;
    let cidrs = [
        "10.1.8.0/22",
        "10.1.9.0/24",
        "10.1.10.0/23",
        "10.1.8.0/24",
        "10.1.0.0/18",
    ];
    let subnets = each(|n| {
        let cidr = cidrs[n % cidrs.len()];
        make(
            "/subnets",
            format!("s{n}"),
            json!({"vpc": "net", "cidr": cidr}),
        )
    });
    let (done, _) = apart(race.run(subnets).await);
    assert!(!done.is_empty());
    let ranges: Vec<(u32, u32)> = race
        .list("/subnets?tenant=acme&limit=1000")
        .await
        .iter()
        .map(|subnet| range_of(subnet["spec"]["cidr"].as_str().unwrap()))
        .collect();
    assert!(ranges.len() > 1);
    for (n, (from, to)) in ranges.iter().enumerate() {
        let mut others = ranges[n + 1..].iter();
        assert!(
            others.all(|(other, end)| end < from || to < other),
            "{ranges:?}"
        );
    }

    let vm = race.ids["web"].clone();
    // The pool has eleven, of which one is known by name and nobody's.
    let wanted = each(|_| {
        post(
            "/ip_pools/addresses/allocate?tenant=acme",
            json!({"vm": vm}),
        )
    });
    let given = race.only(11, "no_capacity", wanted).await;
    let addresses: BTreeSet<String> = given
        .iter()
        .map(|reply| reply.body["data"]["spec"]["address"].to_string())
        .collect();
    assert_eq!(addresses.len(), 11);
    let more = race
        .made(make(
            "/subnets",
            "more",
            json!({"vpc": "net", "cidr": "10.1.200.0/24"}),
        ))
        .await;
    let pool = json!({"data_center": "dc", "subnet": more, "first_address": "10.1.200.10", "last_address": "10.1.200.90"});
    let pool = race.made(make("/ip_pools", "more", pool)).await;
    let same = json!({"ip_pool": pool, "address": "10.1.200.50"});
    let same = each(|_| make("/ip_addresses", "", same.clone()));
    race.only(1, "already_exists", same).await;
    let places = each(|n| make("/places", format!("p{n}"), json!({"subnet": more})));
    race.only(1, "already_exists", places).await;
    race.verify().await;
}

/// First and last address.
fn range_of(cidr: &str) -> (u32, u32) {
    let (address, length) = cidr.split_once('/').unwrap();
    let first = u32::from(address.parse::<Ipv4Addr>().unwrap());
    let bits: u32 = length.parse().unwrap();
    (first, first + (u32::MAX >> bits))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_versions_and_tags_keep_to_their_rules() {
    let race = Race::start().await;
    let mut vms = Vec::new();
    for n in 0..8 {
        let request = make(
            "/virtual_machines",
            format!("v{n}"),
            json!({"specification": "small"}),
        );
        vms.push(race.made(request).await);
    }
    let alone = race
        .made(make("/private_data_disks", "alone", json!({"size_gib": 1})))
        .await;
    let shared = json!({"size_gib": 1, "share_mode": "shared", "max_attachments": 3});
    let shared = race
        .made(make("/private_data_disks", "together", shared))
        .await;
    for (disk, most) in [(alone, 1), (shared, 3)] {
        // Each VM asks three times.
        let attach = each(|n| {
            let spec = json!({"vm_id": vms[n % vms.len()], "disk_id": disk});
            make("/disk_attachments", "", spec)
        });
        let (done, refused) = apart(race.run(attach).await);
        assert_eq!(done.len(), most, "{:?}", refused[0]);
        let by: BTreeSet<String> = done
            .iter()
            .map(|reply| reply.body["data"]["spec"]["vm_id"].to_string())
            .collect();
        assert_eq!(by.len(), most);
    }

    let mut versions = vec![race.ids["v1"].clone()];
    for n in 2..6 {
        let spec =
            json!({"template": "web-server", "cpu_cores": 1, "memory_mib": 64, "storage_gib": 1});
        versions.push(
            race.made(make("/template_versions", format!("v{n}"), spec))
                .await,
        );
    }
    let latest = each(|n| {
        patch(
            format!("/template_versions/{}", versions[n % versions.len()]),
            json!({"latest": true}),
        )
    });
    race.run(latest).await;
    let all = race.list("/template_versions?tenant=acme&limit=1000").await;
    assert_eq!(all.len(), 5);
    assert_eq!(
        all.iter()
            .filter(|version| version["spec"]["latest"] == true)
            .count(),
        1
    );

    let second = json!({"image": "debian", "sha256": "00".repeat(32), "size_bytes": 9, "source_url": "https://images.example/14.qcow2"});
    let second = race.made(make("/image_versions", "v14", second)).await;
    let tag = format!("/image_tags/{}", race.ids["stable"]);
    let versions = [race.ids["v13"].clone(), second];
    let (freezing, moving) = race
        .two(|n| match n % 2 {
            0 => patch(&tag, json!({"immutable": true})),
            _ => patch(&tag, json!({"version_id": versions[n / 2 % 2]})),
        })
        .await;
    let end = freezing
        .iter()
        .filter(|reply| reply.status < 300)
        .map(index_of)
        .min()
        .unwrap();
    let frozen = race.spec(&tag).await;
    assert_eq!(frozen["immutable"], true);
    // What moved it last moved it before; to say again what is so is no move.
    let moved = moving
        .iter()
        .filter(|reply| reply.status < 300 && index_of(reply) > end);
    for late in moved {
        assert_eq!(
            late.body["data"]["spec"]["version_id"],
            frozen["version_id"]
        );
    }
    race.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_boxes_and_what_is_closed_keep_to_their_rules() {
    let race = Race::start().await;
    let mut meshes = Vec::new();
    for n in 0..6 {
        let body = json!({"name": format!("m{n}"), "spec": {"type": "istio"}});
        meshes.push(race.made(post("/service_meshes", body)).await);
    }
    race.made(delete(format!(
        "/k8s_cluster_to_service_meshes/{}",
        race.ids["meshed"]
    )))
    .await;
    let primary = each(|n| {
        let spec =
            json!({"cluster": "k8s", "service_mesh": meshes[n % meshes.len()], "role": "primary"});
        make("/k8s_cluster_to_service_meshes", "", spec)
    });
    let (done, _) = apart(race.run(primary).await);
    assert_eq!(done.len(), 1);

    let pool = format!("/node_pools/{}", race.ids["workers"]);
    let sizes = [
        json!({"max_nodes": 2}),
        json!({"node_count": 3}),
        json!({"min_nodes": 2}),
        json!({"node_count": 1}),
        json!({"max_nodes": 5}),
        json!({"min_nodes": 1}),
    ];
    race.run(each(|n| patch(&pool, sizes[n % sizes.len()].clone())))
        .await;
    let spec = race.spec(&pool).await;
    let size = |field: &str| spec[field].as_u64().unwrap();
    assert!(size("min_nodes") <= size("node_count") && size("node_count") <= size("max_nodes"));

    // A VM goes only when no box is bound to it.
    let vm = race
        .made(make(
            "/virtual_machines",
            "boxed",
            json!({"specification": "small"}),
        ))
        .await;
    let until = Timestamp::now().plus(Duration::from_secs(3600));
    let bound = json!({"state": "online", "bound_vm_id": vm, "bound_until": until});
    let cloud_box = format!("/cloud_boxes/{}", race.ids["box"]);
    let (deleting, _) = race
        .two(|n| match n % 2 {
            0 => delete(format!("/virtual_machines/{vm}")),
            _ => patch(&cloud_box, bound.clone()),
        })
        .await;
    let is_bound = !race.spec(&cloud_box).await["bound_vm_id"].is_null();
    assert_ne!(is_bound, deleting.iter().any(|reply| reply.status < 300));

    let period = format!("/billing_periods/{}", race.ids["november"]);
    let (closing, _) = race
        .two(|n| patch(&period, json!({"state": (["closed", "open"][n % 2])})))
        .await;
    assert!(closing.iter().any(|reply| reply.status < 300));
    assert_eq!(race.spec(&period).await["state"], "closed");

    let ticket = format!("/help_tickets/{}", race.ids["no-console"]);
    let (closing, others) = race
        .two(|n| match n % 2 {
            0 => patch(&ticket, json!({"state": "closed"})),
            _ => patch(&ticket, json!({"description": format!("and {n}")})),
        })
        .await;
    nothing_after(&closing, &others);
    assert_eq!(race.spec(&ticket).await["state"], "closed");
    race.verify().await;
}
