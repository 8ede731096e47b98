//! Every kind that people make by documents: made, then unchanged, then unchanged as `get` prints it.

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
}
