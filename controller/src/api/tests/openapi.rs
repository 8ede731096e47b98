//! The API's document: the one checked in is the one served, and it says what the routes do.

use std::path::Path;

use serde_json::{Value, json};

use super::support::Rig;
use crate::api::openapi::whole;

/// Writes it anew when this is set.
const WRITE: &str = "VIRTFLOW_WRITE_OPENAPI";

fn checked_in() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json")
}

#[test]
fn the_document_that_is_checked_in_is_the_one_that_is_served() {
    let document = serde_json::to_string_pretty(&whole()).unwrap() + "\n";
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(checked_in(), &document).unwrap();
    }
    let kept = std::fs::read_to_string(checked_in()).unwrap_or_default();
    assert!(
        kept == document,
        "docs/openapi.json is not what the routes say; write it anew: {WRITE}=1 cargo nextest run -p virtflow-controller openapi"
    );
}

/// Every `$ref` of a document leads to something in it.
fn dangling(document: &Value, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field.as_str()) {
                    ("$ref", Some(path)) => {
                        if document.pointer(path.trim_start_matches('#')).is_none() {
                            found.push(path.to_owned());
                        }
                    }
                    _ => dangling(document, field, found),
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| dangling(document, item, found)),
        _ => {}
    }
}

#[test]
fn everything_it_refers_to_is_in_it_and_no_operation_is_named_twice() {
    let document = whole();
    let mut found = Vec::new();
    dangling(&document, &document, &mut found);
    assert!(found.is_empty(), "{found:?}");
    let mut names: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// What needs nothing but an administrator's token is really there under the path and method that it tells.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_tells_is_there() {
    let rig = Rig::start().await;
    let told = rig.get("/openapi.json", &rig.admin).await;
    let document = told.body.clone();
    assert_eq!(document["openapi"], "3.1.0");
    rig.make("/configs", json!({"spec": {"scope": "a.b"}}))
        .await;
    let ontology = json!({"type": "base", "name": "core", "version": "1.0.0", "entity_classes": [], "object_properties": []});
    rig.make("/ontologies", json!({"spec": ontology})).await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        if operations["get"].is_null() || path.contains('{') {
            continue;
        }
        let question = match path {
            "/auth/who-can" | "/auth/explain" => "?action=read&kind=rack",
            "/diff" => "?from=1",
            "/configs/effective" => "?scope=a.b",
            "/ontologies/lookup" => "?type=base&name=core",
            "/ontologies/merge" => "?base=core",
            _ => "",
        };
        let reply = rig.get(&format!("{path}{question}"), &rig.admin).await;
        reply.data(200);
    }
}

/// A list tells the parameters of its kind, takes each of them, and names them when it refuses another.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_takes_the_parameters_it_tells_and_no_others() {
    let rig = Rig::start().await;
    let document = whole();
    let told = |path: &str| -> Vec<String> {
        let parameters = &document["paths"][format!("/api/v1{path}")]["get"]["parameters"];
        let names = parameters.as_array().unwrap().iter();
        names
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        told("/racks"),
        [
            "name",
            "data_center",
            "sort",
            "q",
            "limit",
            "cursor",
            "fields",
            "watch",
            "from",
            "deleted",
            "at"
        ]
    );
    rig.make("/data_centers", json!({"name": "dc1", "spec": {}}))
        .await;
    for (name, dc) in [("r1", json!("dc1")), ("r2", Value::Null)] {
        rig.make("/racks", json!({"name": name, "spec": {"data_center": dc}}))
            .await;
    }
    let reply = rig.get("/racks?data_center=dc1", &rig.admin).await;
    let racks = reply.data(200).as_array().unwrap();
    assert_eq!(racks.len(), 1);
    assert_eq!(racks[0]["name"], "r1");
    let reply = rig.get("/racks?data_center=dc2", &rig.admin).await;
    assert_eq!(reply.error(404), "not_found");
    for kind in virtflow_model::Kind::ALL {
        let path = format!("/{}", kind.plural());
        for name in told(&path) {
            let value = match name.as_str() {
                "limit" | "at" => "1",
                "sort" => "-created_at",
                "fields" => "id",
                // An id, a stream that goes on, and what only a stream takes: others are answered with a refusal.
                "cursor" | "watch" | "from" | "resource" | "target" => continue,
                "deleted" => "true",
                name => kind.words(name).first().map_or("nothing", String::as_str),
            };
            let reply = rig.get(&format!("{path}?{name}={value}"), &rig.admin).await;
            let code = reply.body["error"]["code"].as_str();
            assert!(
                matches!(code, None | Some("not_found")),
                "{path}: {name}: {}",
                reply.text
            );
        }
        let reply = rig.get(&format!("{path}?colour=red"), &rig.admin).await;
        assert_eq!(reply.error(400), "invalid");
        let problem = reply.body["error"]["fields"][0]["problem"]
            .as_str()
            .unwrap();
        assert!(problem.ends_with(&told(&path).join(", ")), "{problem}");
    }
}
