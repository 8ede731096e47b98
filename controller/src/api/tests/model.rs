//! The whole model through the API: one object of every kind that people make, and what every kind has in common,
//! done to it by hand-written requests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use virtflow_model::{ByPeople, Kind};

use super::support::{PASSWORD, Rig};

/// One object, made after those above it. In its spec `@called` stands for the id of one of those.
struct Made {
    kind: Kind,
    /// By which the others refer to it; also its name, where the kind has names.
    called: &'static str,
    in_tenant: bool,
    spec: Value,
    /// What can be changed of it, and to what; null where nothing can.
    change: Value,
}

fn made(kind: Kind, called: &'static str, in_tenant: bool, spec: Value, change: Value) -> Made {
    Made {
        kind,
        called,
        in_tenant,
        spec,
        change,
    }
}

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[rustfmt::skip]
fn facilities() -> Vec<Made> {
    vec![
        made(Kind::DataCenter, "dc", false, json!({"region": "north"}), json!({"state": "maintenance"})),
        made(Kind::Rack, "rack", false, json!({"data_center": "dc"}), json!({"as_number": 64512})),
        made(Kind::BaremetalGroup, "hosts", false, json!({"data_center": "dc"}), json!({"cpu_overcommit_percent": 200})),
        made(Kind::VirtualMachineSpecification, "small", false, json!({"cpu_cores": 1, "memory_mib": 512, "storage_gib": 4}), json!({"hardware_generation": "g1"})),
        made(Kind::JoinToken, "invite", false, json!({"role": "agent", "group": "hosts"}), Value::Null),
        made(Kind::Role, "starter", false, json!({"permissions": ["virtual_machine.read"]}), json!({"description": "looks"})),
        made(Kind::Maintainer, "ada", false, json!({"account": "ada"}), json!({"email": "ada@example.org"})),
        made(Kind::MaintainerGroup, "night", false, json!({"manager": "ada"}), json!({"description": "at night"})),
        made(Kind::MaintainerGroupMember, "night-ada", false, json!({"maintainer_group": "night", "maintainer": "ada"}), Value::Null),
        made(Kind::ResourceMaintainer, "rack-ada", false, json!({"resource": "rack/rack", "maintainer": "ada"}), Value::Null),
        made(Kind::StoragePool, "pool", false, json!({"data_center": "dc", "backend": "directory", "path": "/srv/pool"}), json!({"description": "ours"})),
        made(Kind::ServiceMesh, "mesh", false, json!({"type": "cilium"}), json!({"description": "ours"})),
        made(Kind::Price, "core-hour", false, json!({"dimension": "cpu_core_hours", "currency": "EUR", "amount": "0.0123", "valid_from": "2026-01-01T00:00:00Z"}), json!({"description": "a core for an hour"})),
        made(Kind::Doc, "first-vm", false, json!({"title": "Your first VM", "body": "Choose a size."}), json!({"published": true})),
        made(Kind::SystemConfig, "policy", false, json!({"scope": "genai.policy", "schema": {"models": {"merge": "subset", "secret": false}}, "values": {"models": ["a", "b"]}}), json!({"description": "all"})),
    ]
}

#[rustfmt::skip]
fn of_people() -> Vec<Made> {
    vec![
        made(Kind::BaremetalGroupTenantQuota, "share", false, json!({"group": "hosts", "tenant": "acme", "cpu_quota_percentage": 50, "memory_mib": 65536, "storage_gib": 1024}), json!({"memory_mib": 32768})),
        made(Kind::User, "carol", true, json!({}), json!({"display_name": "Carol"})),
        made(Kind::ApiToken, "script", true, json!({}), Value::Null),
        made(Kind::UserGroup, "lab", true, json!({"quota": {"vms": 5}}), json!({"description": "the lab"})),
        made(Kind::UserGroupMember, "lab-carol", true, json!({"user_group": "lab", "user": "carol"}), Value::Null),
        made(Kind::RoleBinding, "carol-views", true, json!({"subject": "carol", "role": "viewer", "scope": "tenant/acme"}), Value::Null),
        made(Kind::UserPreferences, "carols", true, json!({"user": "carol"}), json!({"notifications": {"email": false}})),
        made(Kind::TenantConfig, "narrower", true, json!({"scope": "genai.policy", "values": {"models": ["a"]}}), json!({"description": "less"})),
        made(Kind::UserConfig, "carols-own", true, json!({"user": "carol", "scope": "genai.policy", "values": {"models": ["a"]}}), json!({"description": "hers"})),
        made(Kind::Ontology, "firms", true, json!({"type": "domain", "name": "firms", "version": "1.0.0", "entity_classes": [{"name": "person"}, {"name": "firm"}], "object_properties": [{"name": "works_for", "domain": ["person"], "range": ["firm"]}]}), json!({"description": "who works where"})),
        made(Kind::HelpTicket, "no-console", true, json!({"subject": "No console"}), json!({"state": "in_progress"})),
        made(Kind::QaQuestion, "second-disk", true, json!({"title": "How do I get a second disk?"}), json!({"tags": ["disk"]})),
        made(Kind::QaAnswer, "make-it", true, json!({"question": "@second-disk", "body": "Make it, then attach it."}), json!({"body": "Make it and attach it."})),
        made(Kind::BillingPeriod, "november", true, json!({"period": "2026-11", "currency": "EUR"}), json!({"state": "open"})),
    ]
}

#[rustfmt::skip]
fn of_machines() -> Vec<Made> {
    vec![
        made(Kind::VirtualMachine, "web", true, json!({"specification": "small"}), json!({"labels": {"stage": "test"}})),
        made(Kind::Template, "web-server", true, json!({}), json!({"description": "for the web"})),
        made(Kind::TemplateVersion, "v1", true, json!({"template": "web-server", "cpu_cores": 1, "memory_mib": 512, "storage_gib": 4}), Value::Null),
        made(Kind::Instance, "shop", true, json!({"specification": "small"}), json!({"description": "the shop"})),
        made(Kind::InstanceSet, "project", true, json!({"type": "project"}), json!({"description": "one project"})),
        made(Kind::InstanceSetMember, "project-web", true, json!({"set": "project", "vm": "web"}), json!({"role": "front"})),
        made(Kind::Snapshot, "before", true, json!({"vm": "web"}), json!({"description": "before the upgrade"})),
        made(Kind::K8sCluster, "k8s", true, json!({"version": "1.31.0"}), json!({"description": "staging"})),
        made(Kind::NodePool, "workers", true, json!({"cluster": "k8s", "specification": "small", "min_nodes": 1, "node_count": 2, "max_nodes": 3}), json!({"node_count": 3})),
        made(Kind::Namespace, "shop-ns", true, json!({"cluster": "k8s"}), json!({"labels": {"team": "shop"}})),
        made(Kind::K8sClusterPlugin, "dns", true, json!({"cluster": "k8s", "version": "0.7.2"}), json!({"version": "0.7.3"})),
        made(Kind::BastionClusterAssociation, "door", true, json!({"cluster": "k8s", "vm": "web"}), Value::Null),
        made(Kind::K8sClusterToServiceMesh, "meshed", true, json!({"cluster": "k8s", "service_mesh": "mesh", "role": "primary"}), json!({"role": "secondary"})),
        made(Kind::CloudBox, "box", true, json!({"serial_number": "CB-1"}), json!({"location": "room 4"})),
        made(Kind::Vpc, "net", true, json!({"cidr": "10.1.0.0/16"}), json!({"description": "ours"})),
        made(Kind::Subnet, "front", true, json!({"vpc": "net", "cidr": "10.1.2.0/24", "gateway": "10.1.2.1"}), json!({"description": "in front"})),
        made(Kind::Place, "branch", true, json!({"subnet": "front"}), json!({"location": "second floor"})),
        made(Kind::IpPool, "addresses", true, json!({"data_center": "dc", "subnet": "front", "first_address": "10.1.2.10", "last_address": "10.1.2.20"}), json!({"description": "for guests"})),
        made(Kind::IpAddress, "ten", true, json!({"ip_pool": "addresses", "address": "10.1.2.10"}), json!({"description": "the first"})),
        made(Kind::Image, "debian", true, json!({"type": "os_base"}), json!({"os_version": "13"})),
        made(Kind::ImageVersion, "v13", true, json!({"image": "debian", "sha256": SHA256, "size_bytes": 1024, "source_url": "https://images.example/13.qcow2"}), json!({"release_notes": "new"})),
        made(Kind::ImageTag, "stable", true, json!({"image": "debian", "version": "v13"}), json!({"immutable": false})),
        made(Kind::PrivateDataDisk, "data", true, json!({"size_gib": 10}), json!({"size_gib": 20})),
        made(Kind::DiskAttachment, "web-data", true, json!({"vm": "web", "disk": "data"}), Value::Null),
    ]
}

/// What people make beside those: the tenant that the story begins with.
const BEFORE: &[Kind] = &[Kind::Tenant];

fn with_ids(value: &Value, ids: &BTreeMap<&str, String>) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('@') {
            Some(called) => ids[called].clone().into(),
            None => text.clone().into(),
        },
        Value::Object(fields) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(name, field)| (name.clone(), with_ids(field, ids)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

async fn create(rig: &Rig, one: &Made, ids: &BTreeMap<&str, String>) -> String {
    let mut body = json!({"spec": with_ids(&one.spec, ids)});
    if one.in_tenant {
        body["tenant"] = "acme".into();
    }
    match one.kind {
        Kind::User => body["password"] = PASSWORD.into(),
        Kind::ApiToken => body["parent"] = "carol".into(),
        _ => {}
    }
    let path = format!("/{}", one.kind.plural());
    let with_name = {
        let mut body = body.clone();
        body["name"] = one.called.into();
        body
    };
    let named = rig
        .ask("POST", &path)
        .token(&rig.admin)
        .json(&with_name)
        .send()
        .await;
    let reply = if named.status == 400 && named.text.contains("has no name") {
        rig.ask("POST", &path)
            .token(&rig.admin)
            .json(&body)
            .send()
            .await
    } else {
        named
    };
    assert!(
        matches!(reply.status, 201 | 202),
        "{}: {}",
        one.called,
        reply.text
    );
    let made = &reply.body["data"];
    let made = if made["object"].is_object() {
        &made["object"]
    } else {
        made
    };
    made["id"].as_str().unwrap().to_owned()
}

/// What all kinds have: reading, listing, changing, a past, an account of who did it.
async fn common(rig: &Rig, one: &Made, id: &str) {
    let path = format!("/{}/{id}", one.kind.plural());
    let got = rig.get(&path, &rig.admin).await;
    assert_eq!(got.data(200)["kind"], one.kind.name());
    let list = rig
        .get(&format!("/{}?limit=1000", one.kind.plural()), &rig.admin)
        .await;
    let listed = list.data(200).as_array().unwrap().iter();
    assert_eq!(
        listed.filter(|row| row["id"] == *id).count(),
        1,
        "{}",
        one.called
    );
    if !one.change.is_null() {
        let body = json!({"spec": one.change});
        let changed = rig
            .ask("PATCH", &path)
            .token(&rig.admin)
            .json(&body)
            .send()
            .await;
        let spec = &changed.data(200)["spec"];
        for (field, value) in one.change.as_object().unwrap() {
            if value.is_object() {
                continue;
            }
            assert_eq!(&spec[field], value, "{}.{field}", one.called);
        }
    }
    let history = rig.get(&format!("{path}/history"), &rig.admin).await;
    assert!(
        !history.data(200).as_array().unwrap().is_empty(),
        "{}",
        one.called
    );
    let audit = rig.get(&format!("/audit?object={id}"), &rig.admin).await;
    assert!(
        !audit.data(200).as_array().unwrap().is_empty(),
        "{}",
        one.called
    );
    let unknown = json!({"spec": {"no_such_field": 1}});
    let refused = rig
        .ask("PUT", &path)
        .token(&rig.admin)
        .json(&unknown)
        .send()
        .await;
    assert_eq!(refused.error(400), "invalid", "{}", one.called);
}

#[tokio::test]
async fn every_kind_is_made_read_listed_changed_remembered_and_removed() {
    let rig = Rig::start().await;
    rig.tenant_with("acme", "alice", "tenant_admin").await;
    let bob = rig.tenant_with("rival", "bob", "tenant_admin").await;
    let all: Vec<Made> = facilities()
        .into_iter()
        .chain(of_people())
        .chain(of_machines())
        .collect();
    let told: BTreeSet<Kind> = all
        .iter()
        .map(|one| one.kind)
        .chain(BEFORE.iter().copied())
        .collect();
    for kind in Kind::ALL {
        let by_people = !matches!(kind.rules().create, ByPeople::Never(_));
        assert_eq!(told.contains(kind), by_people, "{}", kind.name());
    }
    let mut ids = BTreeMap::new();
    for one in &all {
        let id = create(&rig, one, &ids).await;
        common(&rig, one, &id).await;
        ids.insert(one.called, id);
    }
    let verdict = rig.get("/verify", &rig.admin).await;
    assert_eq!(verdict.data(200)["divergences"], json!([]));

    // The neighbour sees nothing of the tenant's, and cannot name it in anything of theirs.
    let never = "01a21000-0000-7000-8000-000000000001";
    for one in all.iter().filter(|one| one.in_tenant) {
        let id = &ids[one.called];
        for path in ["", "/history", "/blame"] {
            let path = |id: &str| format!("/{}/{id}{path}", one.kind.plural());
            let other = rig.get(&path(id), &bob).await;
            let none = rig.get(&path(never), &bob).await;
            assert_eq!(other.error(404), "not_found", "{}", one.called);
            assert_eq!(
                other.without_request_id(),
                none.without_request_id().replace(never, id)
            );
        }
        let deleted = rig
            .ask("DELETE", &format!("/{}/{id}", one.kind.plural()))
            .token(&bob)
            .send()
            .await;
        assert_eq!(deleted.error(404), "not_found", "{}", one.called);
    }

    for one in all.iter().rev() {
        let path = format!("/{}/{}", one.kind.plural(), ids[one.called]);
        let gone = rig.ask("DELETE", &path).token(&rig.admin).send().await;
        assert!(
            matches!(gone.status, 200 | 202),
            "{}: {}",
            one.called,
            gone.text
        );
    }
    for one in &all {
        let path = format!("/{}/{}", one.kind.plural(), ids[one.called]);
        assert_eq!(
            rig.get(&path, &rig.admin).await.error(404),
            "not_found",
            "{}",
            one.called
        );
    }
    let verdict = rig.get("/verify", &rig.admin).await;
    assert_eq!(verdict.data(200)["divergences"], json!([]));
    let held = verdict.data(200)["accounts_in_use"].as_array().unwrap();
    assert!(held.is_empty(), "{held:?}");
}
