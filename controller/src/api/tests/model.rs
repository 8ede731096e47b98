//! The whole model through the API: one object of every kind that people make, and what every kind has in common,
//! done to it by hand-written requests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use virtflow_model::{ByPeople, Kind};

use super::samples::{Made, all, create};
use super::support::Rig;

/// What people make beside those: the tenant that the story begins with.
const BEFORE: &[Kind] = &[Kind::Tenant];

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
    let all = all();
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
