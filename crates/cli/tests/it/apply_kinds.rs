//! Every kind that people make by documents: made, then unchanged, then unchanged as `get` and `list` print it.

use std::collections::BTreeSet;

use serde_json::Value;
use virtflow_model::{ByPeople, Kind};

use crate::cloud::Cloud;

const KINDS: &str = include_str!("kinds.yaml");
/// What making one gives a secret; a document is no place for it.
const SECRET: &[Kind] = &[Kind::ApiToken, Kind::JoinToken];

fn kinds_of(told: &Value) -> BTreeSet<&str> {
    let objects = told["objects"].as_array().unwrap().iter();
    objects.map(|it| it["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_goes_round() {
    let cloud = Cloud::start().await;
    let made = cloud.apply(KINDS, &["-o", "json"]).await.good();
    let made: Value = serde_json::from_str(&made).unwrap();
    let count = made["objects"].as_array().unwrap().len();
    assert_eq!(made["summary"]["created"], count, "{made}");
    let told = kinds_of(&made);
    for kind in Kind::ALL {
        let by_people = !matches!(kind.rules().create, ByPeople::Never(_));
        assert_eq!(
            told.contains(kind.name()),
            by_people && !SECRET.contains(kind),
            "{}",
            kind.name()
        );
    }

    let again = cloud.apply(KINDS, &["-o", "json"]).await.good();
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["summary"]["unchanged"], count, "{again}");

    let mut printed = String::new();
    for object in made["objects"].as_array().unwrap() {
        let kind = object["kind"].as_str().unwrap().replace('_', "-");
        let get = [
            kind.as_str(),
            "get",
            object["id"].as_str().unwrap(),
            "-o",
            "yaml",
        ];
        printed.push_str("---\n");
        printed.push_str(&cloud.run(&get).await.good());
    }
    let round = cloud.apply(&printed, &["-o", "json"]).await.good();
    let round: Value = serde_json::from_str(&round).unwrap();
    assert_eq!(round["summary"]["unchanged"], count, "{round}");
    let verdict = cloud.json(&["verify"]).await;
    assert_eq!(verdict["divergences"], serde_json::json!([]));

    // Another tenant has the like under the same names; only these are unique in the whole cloud.
    let mut theirs = KINDS.replace("acme", "rival");
    for (ours, other) in [
        ("carol", "dora"),
        ("CB-1", "CB-2"),
        (
            "01a21000-0000-7000-8000-000000000001",
            "01a21000-0000-7000-8000-000000000002",
        ),
    ] {
        theirs = theirs.replace(ours, other);
    }
    let made = cloud.apply(&theirs, &["-o", "json"]).await.good();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["summary"]["changed"], 0, "{made}");
    let there = KINDS
        .lines()
        .filter(|line| !line.contains("acme") && line.contains("kind: "))
        .count();
    assert_eq!(made["summary"]["unchanged"], there, "{made}");
    everything_is_unchanged(&cloud).await;
}

/// What there is of every kind, whoever made it, as `list` prints it.
async fn everything_is_unchanged(cloud: &Cloud) {
    let mut printed = String::new();
    let mut count = 0;
    for kind in Kind::ALL {
        let word = kind.name().replace('_', "-");
        let yaml = cloud.run(&[&word, "list", "-o", "yaml"]).await.good();
        let rows: Vec<Value> = serde_yaml_ng::from_str(&yaml).unwrap();
        if !rows.is_empty() {
            count += rows.len();
            printed.push_str("---\n");
            printed.push_str(&yaml);
        }
    }
    let told = cloud.apply(&printed, &["-o", "json"]).await.good();
    let told: Value = serde_json::from_str(&told).unwrap();
    let objects = told["objects"].as_array().unwrap();
    let changed: Vec<&Value> = objects
        .iter()
        .filter(|it| it["did"] != "unchanged")
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(told["summary"]["unchanged"], count);
}

/// Whose an object is need not be said where it follows from what it names.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_that_follows_what_it_names_is_found_without_a_tenant() {
    let cloud = Cloud::start().await;
    let follows = |line: &str| {
        Kind::ALL.iter().any(|kind| {
            let rules = kind.rules();
            line.contains(&format!("kind: {},", kind.name()))
                && (rules.parent().is_some() || rules.anything.is_some())
        })
    };
    let lines = KINDS.lines().map(|line| match follows(line) {
        true => line.replace("tenant: acme, ", ""),
        false => line.to_owned(),
    });
    let text: String = lines.map(|line| line + "\n").collect();
    let untold = KINDS.matches("tenant: acme, ").count() - text.matches("tenant: acme, ").count();
    assert_eq!(untold, 19, "{text}");
    let made = cloud.apply(&text, &["-o", "json"]).await.good();
    let made: Value = serde_json::from_str(&made).unwrap();
    let count = made["objects"].as_array().unwrap().len();
    assert_eq!(made["summary"]["created"], count, "{made}");
    let again = cloud.apply(&text, &["-o", "json"]).await.good();
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["summary"]["unchanged"], count, "{again}");
    everything_is_unchanged(&cloud).await;
}

const BINDINGS: &str = "\
{kind: tenant, name: acme}
--- {kind: tenant, name: rival}
--- {kind: user, name: carol, tenant: acme}
--- {kind: user_group, name: lab, tenant: acme}
--- {kind: vpc, name: net, tenant: acme, spec: {cidr: 10.1.0.0/16}}
--- {kind: vpc, name: net, tenant: rival, spec: {cidr: 10.1.0.0/16}}
--- {kind: data_center, name: dc, spec: {region: north}}
--- {kind: baremetal_group, name: hosts, spec: {data_center: dc}}
--- {kind: role_binding, spec: {subject: carol, role: viewer, scope: tenant/acme}}
--- {kind: role_binding, spec: {subject: carol, role: viewer, scope: tenant/rival}}
--- {kind: role_binding, tenant: rival, spec: {subject: carol, role: tenant_admin, scope: tenant/rival}}
--- {kind: role_binding, tenant: acme, spec: {subject: carol, role: viewer, scope: vpc/net}}
--- {kind: role_binding, tenant: rival, spec: {subject: carol, role: viewer, scope: vpc/net}}
--- {kind: role_binding, spec: {subject: carol, role: viewer, scope: baremetal_group/hosts}}
--- {kind: role_binding, spec: {subject: carol, role: viewer, scope: system}}
--- {kind: role_binding, spec: {subject_group: lab, role: viewer, scope: tenant/acme}}
--- {kind: role_binding, tenant: acme, spec: {subject: admin, role: viewer, scope: tenant/acme}}
--- {kind: rack, name: last}
";

/// A binding is the tenant's that it reaches into, whosever its subject is and whatever its document says.
#[tokio::test(flavor = "multi_thread")]
async fn bindings_over_whatever_are_found_again() {
    let cloud = Cloud::start().await;
    let made = cloud.apply(BINDINGS, &[]).await.good();
    assert!(
        made.ends_with("18 created, 0 changed, 0 unchanged, 0 deleted\n"),
        "{made}"
    );
    let bindings = cloud.json(&["role-binding", "list"]).await;
    let over = |tenant: Value| {
        let bindings = bindings.as_array().unwrap().iter();
        bindings
            .filter(|it| it["names"]["tenant"] == tenant)
            .count()
    };
    // One over the system came with the cluster.
    assert_eq!(
        (over("acme".into()), over("rival".into()), over(Value::Null)),
        (4, 3, 3)
    );
    let again = cloud.apply(BINDINGS, &[]).await.good();
    assert!(
        again.ends_with("0 created, 0 changed, 18 unchanged, 0 deleted\n"),
        "{again}"
    );
    everything_is_unchanged(&cloud).await;
}

const POOLS: &str = "\
{kind: tenant, name: acme}
--- {kind: tenant, name: rival}
--- {kind: data_center, name: dc, spec: {region: north}}
--- {kind: vpc, name: net, tenant: acme, spec: {cidr: 10.1.0.0/16}}
--- {kind: vpc, name: net, tenant: rival, spec: {cidr: 10.1.0.0/16}}
--- {kind: subnet, name: ours, tenant: acme, spec: {vpc: net, cidr: 10.1.2.0/24, gateway: 10.1.2.1}}
--- {kind: subnet, name: theirs, tenant: rival, spec: {vpc: net, cidr: 10.1.2.0/24, gateway: 10.1.2.1}}
--- {kind: ip_pool, name: pool, spec: {data_center: dc, subnet: ours, first_address: 10.1.2.10, last_address: 10.1.2.20}}
";
const THEIR_POOL: &str = "\
{kind: ip_pool, name: pool, spec: {data_center: dc, subnet: theirs, first_address: 10.1.2.10, last_address: 10.1.2.20}}
";

/// A pool is its subnet's tenant's; two tenants may have one of a name in a data centre.
#[tokio::test(flavor = "multi_thread")]
async fn pools_of_one_name_are_told_apart_by_whose_they_are() {
    let cloud = Cloud::start().await;
    let made = cloud.apply(POOLS, &[]).await.good();
    assert!(made.contains("8 created, 0 changed, 0 unchanged"), "{made}");
    for text in [THEIR_POOL.to_owned(), format!("{POOLS}--- {THEIR_POOL}")] {
        let done = cloud.apply(&text, &[]).await.good();
        assert!(done.contains(" 0 changed, "), "{done}");
    }
    let pools = cloud.json(&["ip-pool", "list"]).await;
    assert_eq!(pools.as_array().unwrap().len(), 2, "{pools}");
    let wider = THEIR_POOL
        .replace(".20}", ".30}")
        .replace("name: pool,", "name: pool, tenant: rival,");
    let done = cloud.apply(&wider, &[]).await.good();
    assert_eq!(
        done,
        "ip_pool rival/pool changed\n    ~ last_address: \"10.1.2.20\" -> \"10.1.2.30\"\n\
         0 created, 1 changed, 0 unchanged, 0 deleted\n"
    );
    everything_is_unchanged(&cloud).await;
}

const GENERATIONS: &str = "\
{kind: tenant, name: acme}
--- {kind: virtual_machine, name: new, tenant: acme, spec: {specification: small/gen3}}
--- {kind: virtual_machine, name: old, tenant: acme, spec: {specification: small}}
--- {kind: virtual_machine_specification, name: small, spec: {cpu_cores: 4, memory_mib: 512, storage_gib: 4, hardware_generation: gen4}}
--- {kind: virtual_machine_specification, name: small, spec: {cpu_cores: 2, memory_mib: 512, storage_gib: 4, hardware_generation: gen3}}
--- {kind: virtual_machine_specification, name: small, spec: {cpu_cores: 1, memory_mib: 512, storage_gib: 4}}
";

#[tokio::test(flavor = "multi_thread")]
async fn specifications_of_one_name_are_told_apart_by_their_generation() {
    let cloud = Cloud::start().await;
    let made = cloud.apply(GENERATIONS, &[]).await.good();
    assert!(
        made.contains("virtual_machine_specification small/gen3 created\n"),
        "{made}"
    );
    assert!(
        made.ends_with("6 created, 0 changed, 0 unchanged, 0 deleted\n"),
        "{made}"
    );
    for (vm, cores) in [("new", 2), ("old", 1)] {
        let vm = cloud.json(&["vm", "get", vm]).await;
        assert_eq!(vm["spec"]["cpu_cores"], cores, "{vm}");
    }
    let again = cloud.apply(GENERATIONS, &[]).await.good();
    assert!(
        again.ends_with("0 created, 0 changed, 6 unchanged, 0 deleted\n"),
        "{again}"
    );
    everything_is_unchanged(&cloud).await;

    let twice = "{kind: virtual_machine_specification, name: s, spec: {cpu_cores: 1, memory_mib: 512, storage_gib: 4, hardware_generation: g}}";
    let said = cloud
        .apply(&format!("{twice}\n--- {twice}\n"), &[])
        .await
        .bad(2);
    assert!(
        said.contains("virtual_machine_specification s/g stands here a second time"),
        "{said}"
    );
    // In a cluster where none of it is: what the VMs were made of is found by what it was printed with.
    let vms = cloud.run(&["vm", "list", "-o", "yaml"]).await.good();
    let specs = cloud.run(&["spec", "list", "-o", "yaml"]).await.good();
    for vm in ["new", "old"] {
        cloud.run(&["vm", "delete", vm, "--wait"]).await.good();
    }
    for spec in ["small/gen3", "small/gen4", "small"] {
        cloud.run(&["spec", "delete", spec]).await.good();
    }
    let done = cloud.apply(&format!("{vms}---\n{specs}"), &[]).await.good();
    assert!(
        done.ends_with("5 created, 0 changed, 0 unchanged, 0 deleted\n"),
        "{done}"
    );
    let vm = cloud.json(&["vm", "get", "new"]).await;
    assert_eq!(vm["names"]["specification"], "small", "{vm}");
}
