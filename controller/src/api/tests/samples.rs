//! One object of every kind that people make, put down by hand: what tests of all kinds work on.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::Kind;

use super::support::{PASSWORD, Rig};

/// One object, made after those above it. In its spec `@called` stands for the id of one of those.
pub(super) struct Made {
    pub(super) kind: Kind,
    /// By which the others refer to it; also its name, where the kind has names.
    pub(super) called: &'static str,
    pub(super) in_tenant: bool,
    pub(super) spec: Value,
    /// What can be changed of it, and to what; null where nothing can.
    pub(super) change: Value,
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
        made(Kind::Role, "starter", false, json!({"permissions": ["tenant.read"]}), json!({"description": "looks"})),
        made(Kind::Maintainer, "ada", false, json!({"account": "ada"}), json!({"email": "ada@example.org"})),
        made(Kind::MaintainerGroup, "night", false, json!({"manager": "ada"}), json!({"description": "at night"})),
        made(Kind::MaintainerGroupMember, "night-ada", false, json!({"maintainer_group": "night", "maintainer": "ada"}), Value::Null),
        made(Kind::ResourceMaintainer, "rack-ada", false, json!({"resource": "rack/rack", "maintainer": "ada"}), Value::Null),
        made(Kind::StoragePool, "pool", false, json!({"data_center": "dc", "backend": "directory", "path": "/srv/pool"}), json!({"description": "ours"})),
        made(Kind::ServiceMesh, "mesh", false, json!({"type": "cilium"}), json!({"description": "ours"})),
        made(Kind::Price, "core-hour", false, json!({"dimension": "cpu_core_hours", "currency": "EUR", "amount": "0.0123", "valid_from": "2026-01-01T00:00:00Z"}), json!({"description": "a core for an hour"})),
        made(Kind::Doc, "first-vm", false, json!({"title": "Your first VM", "body": "Choose a size.", "published": true}), json!({"category": "start"})),
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
        made(Kind::RoleBinding, "carol-uses", true, json!({"subject": "carol", "role": "user", "scope": "tenant/acme"}), Value::Null),
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
        made(Kind::InstanceSetMember, "project-shop", true, json!({"set": "project", "instance": "shop"}), json!({"role": "front"})),
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
        made(Kind::IpPool, "addresses", true, json!({"data_center": "dc", "subnet": "@front", "first_address": "10.1.2.10", "last_address": "10.1.2.20"}), json!({"description": "for guests"})),
        made(Kind::IpAddress, "ten", true, json!({"ip_pool": "addresses", "address": "10.1.2.10"}), json!({"description": "the first"})),
        made(Kind::Image, "debian", true, json!({"type": "os_base"}), json!({"os_version": "13"})),
        made(Kind::ImageVersion, "v13", true, json!({"image": "debian", "sha256": SHA256, "size_bytes": 1024, "source_url": "https://images.example/13.qcow2"}), json!({"release_notes": "new"})),
        made(Kind::ImageTag, "stable", true, json!({"image": "debian", "version": "v13"}), json!({"immutable": false})),
        made(Kind::PrivateDataDisk, "data", true, json!({"size_gib": 10}), json!({"size_gib": 20})),
        made(Kind::DiskAttachment, "web-data", true, json!({"vm": "web", "disk": "data"}), Value::Null),
    ]
}

/// All of them, in the order in which they can be made.
pub(super) fn all() -> Vec<Made> {
    let parts = [facilities(), of_people(), of_machines()];
    parts.into_iter().flatten().collect()
}

pub(super) fn with_ids(value: &Value, ids: &BTreeMap<&str, String>) -> Value {
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

/// What only a tenant of `acme`'s has, as another tenant `rival` has it too: its user is `karl`.
pub(super) fn of_rival(one: &Made) -> Option<Made> {
    let is_theirs = one.in_tenant || one.kind == Kind::BaremetalGroupTenantQuota;
    let text = one.spec.to_string();
    let theirs = [
        ("acme", "rival"),
        ("carol", "karl"),
        ("CB-1", "CB-2"),
        ("addresses", "more-addresses"),
    ]
    .iter()
    .fold(text, |text, (ours, theirs)| text.replace(ours, theirs));
    is_theirs.then(|| Made {
        spec: serde_json::from_str(&theirs).unwrap(),
        called: match one.called {
            "carol" => "karl",
            // Pools are named within their data centre.
            "addresses" => "more-addresses",
            other => other,
        },
        change: one.change.clone(),
        ..*one
    })
}

/// The admin makes one, in the tenant `acme` if it is a tenant's.
pub(super) async fn create(rig: &Rig, one: &Made, ids: &BTreeMap<&str, String>) -> String {
    create_in(rig, one, ids, "acme").await
}

/// What the request to make one has in its body, beside its name.
pub(super) fn body_of(one: &Made, ids: &BTreeMap<&str, String>, tenant: &str) -> Value {
    let mut body = json!({"spec": with_ids(&one.spec, ids)});
    if one.in_tenant {
        body["tenant"] = tenant.into();
    }
    match (one.kind, tenant) {
        (Kind::User, _) => body["password"] = PASSWORD.into(),
        (Kind::ApiToken, "acme") => body["parent"] = "carol".into(),
        (Kind::ApiToken, _) => body["parent"] = "karl".into(),
        _ => {}
    }
    body
}

/// The admin makes one, in this tenant if it is a tenant's.
pub(super) async fn create_in(
    rig: &Rig,
    one: &Made,
    ids: &BTreeMap<&str, String>,
    tenant: &str,
) -> String {
    let body = body_of(one, ids, tenant);
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
