//! Every change leaves a record: each route that changes something is sent in earnest, and the record with its request's
//! id is looked for. The routes come from the list that the router is made from.

use serde_json::{Value, json};
use virtflow_logic::{Refusal, refusals_summary};
use virtflow_model::{ByPeople, Kind};
use virtflow_types::{ErrorCode, RequestId, Timestamp};

use super::support::Rig;
use super::world::{World, every_route, label};

/// Routes that change nothing in this cloud when they are asked for, and why.
const REFUSED: &[(Kind, &str)] = &[
    // Nothing is quarantined.
    (Kind::Baremetal, "release-quarantine"),
    // The VM runs, and is then being stopped.
    (Kind::Operation, "cancel"),
    (Kind::VirtualMachine, "start"),
    (Kind::VirtualMachine, "reboot"),
    (Kind::InstanceSet, "start"),
    (Kind::InstanceSet, "stop"),
    // It is open already.
    (Kind::BillingPeriod, "patch"),
    // There is one voter, and no learner.
    (Kind::Controller, "promote"),
    (Kind::Controller, "hand-over"),
    // They are needed by others of the samples.
    (Kind::Tenant, "delete"),
    (Kind::Baremetal, "delete"),
];

/// The records of a request.
async fn records(world: &World, request_id: &str) -> Vec<Value> {
    let trail = world.rig.get("/audit?limit=20", &world.rig.admin).await;
    let rows = trail.data(200).as_array().unwrap().iter();
    rows.filter(|row| row["request_id"] == request_id)
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_every_kind_leaves_a_record() {
    let world = World::start().await;
    let admin = Some(world.rig.admin.as_str());
    let admin_id = world.rig.get("/users/admin", &world.rig.admin).await.id();
    let mut wrong = Vec::new();
    let mut routes = every_route();
    routes.retain(|route| route.method != "GET" && route.kind.is_some());
    // Who needs another is deleted before it. A session comes first: a new password ends it, too.
    let (mut deletes, mut in_order): (Vec<_>, Vec<_>) = routes
        .into_iter()
        .partition(|route| route.method == "DELETE");
    deletes.reverse();
    in_order.extend(deletes);
    in_order.sort_by_key(|route| route.kind != Some(Kind::Session));
    for route in &in_order {
        let (kind, word) = (route.kind.unwrap(), label(route));
        let rules = kind.rules();
        let by = match word.as_str() {
            "create" => rules.create,
            // `patch` is what changes something: to put what is there changes nothing.
            "put" => continue,
            "patch" => rules.update,
            "delete" => rules.delete,
            _ => ByPeople::Plainly,
        };
        if matches!(by, ByPeople::Never(_)) || REFUSED.contains(&(kind, word.as_str())) {
            continue;
        }
        let reply = world
            .send_about(route, Some(world.id(kind)), admin, &json!({}), false)
            .await;
        let is_needed = matches!(reply.status, 409) && matches!(word.as_str(), "create" | "delete");
        if is_needed {
            continue;
        }
        if !(200..300).contains(&reply.status) {
            wrong.push(format!("{} {}: {}", route.method, route.path, reply.text));
            continue;
        }
        let request_id = reply.body["meta"]["request_id"].as_str().unwrap();
        let records = records(&world, request_id).await;
        let is_told = records.iter().any(|record| {
            let action = record["action"].as_str().unwrap_or_default();
            record["actor"] == admin_id.as_str()
                && record["outcome"] == "success"
                && action.split('.').next().and_then(Kind::of_name).is_some()
        });
        // A wish that is fulfilled already changes nothing, and is recorded nowhere.
        let is_same = word == "patch" && world.changes_nothing(kind);
        if !is_told && !is_same {
            wrong.push(format!(
                "{} {}: no record: {records:?}",
                route.method, route.path
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Who did something is named as people know them; a name that the asker does not see is nobody's.
#[tokio::test]
async fn records_are_found_by_the_name_of_who_did_it() {
    let rig = Rig::start().await;
    let dev = rig.tenant_with("acme", "dev", "developer").await;
    let boss = rig.user("acme", "boss", "tenant_admin").await;
    rig.tenant_with("globex", "other", "developer").await;
    let made = rig.ask("POST", "/templates").token(&dev);
    made.json(&json!({"name": "t", "spec": {}}))
        .send()
        .await
        .data(201);
    let by =
        async |actor: &str, token: &str| rig.get(&format!("/audit?actor={actor}"), token).await;
    let found = by("dev", &boss).await;
    let rows = found.data(200).as_array().unwrap();
    assert!(
        rows.iter().any(|row| row["action"] == "template.create"),
        "{rows:?}"
    );
    assert!(
        rows.iter().all(|row| row["actor_name"] == "dev"),
        "{rows:?}"
    );
    let id = rig.get("/users/dev", &boss).await.id();
    assert_eq!(by(&id, &boss).await.data(200), found.data(200));
    let unseen = by("other", &boss).await;
    assert_eq!(unseen.error(404), "not_found");
    let seen = by("other", &rig.admin).await;
    assert!(!seen.data(200).as_array().unwrap().is_empty());
    assert_eq!(by("system", &rig.admin).await.status, 200);
}

/// What SQL has no column for is looked for in the records, page by page, and pages are whole.
#[tokio::test]
async fn records_are_found_by_how_it_ended_what_was_done_and_to_which_kind() {
    let rig = Rig::start().await;
    for n in 0..5 {
        let body = json!({"name": format!("r-{n}")});
        rig.make("/racks", body).await;
        let body = json!({"name": format!("d-{n}")});
        rig.make("/data_centers", body).await;
    }
    let now = Timestamp::now();
    let refused = Refusal {
        actor: "dev".into(),
        action: "POST /api/v1/racks".into(),
        object: "/api/v1/racks".into(),
        source: "192.0.2.1".into(),
        code: ErrorCode::Forbidden,
        count: 1,
        first: now,
        last: now,
    };
    let told = refusals_summary(
        &rig.app.node().image(),
        RequestId::generate(),
        now,
        &[refused],
    );
    rig.app.node().propose(told).await.unwrap();
    let all = async |query: &str| {
        let mut rows: Vec<Value> = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = rig
                .get(&format!("/audit?limit=2&{query}{cursor}"), &rig.admin)
                .await;
            let found = page.data(200).as_array().unwrap();
            assert!(found.len() <= 2);
            rows.extend(found.iter().cloned());
            match page.body["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    };
    let names = |rows: &[Value]| -> Vec<String> {
        let names = rows
            .iter()
            .map(|row| row["name"].as_str().unwrap_or_default().to_owned());
        names.collect()
    };
    let racks = all("kind=rack&outcome=success").await;
    assert_eq!(names(&racks), ["r-4", "r-3", "r-2", "r-1", "r-0"]);
    assert!(racks.iter().all(|row| row["action"] == "rack.create"));
    let made = all("action=data_center.create").await;
    assert_eq!(names(&made), ["d-4", "d-3", "d-2", "d-1", "d-0"]);
    assert_eq!(all("action=data_center.delete").await, [Value::Null; 0]);
    let everything = all("").await;
    let successes = all("outcome=success").await;
    let denied = all("outcome=denied").await;
    assert_eq!(everything.len(), successes.len() + denied.len());
    // What was refused before there was an object is told by the path that was asked for.
    let denied = all("outcome=denied&kind=rack").await;
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["action"], "rack.create");
    assert_eq!(denied[0]["request"], "POST /api/v1/racks");
    assert_eq!(denied[0]["count"], 1);
    assert!(denied[0]["place"].as_u64().unwrap() > 1);
}
