//! What is secret of configurations: kept sealed, masked wherever it could be read, told to who may know it. And what
//! layers are together, as the documentation shows it.

use std::path::Path;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::support::{Reply, Rig};

const FIRST: &str = "sk-first-of-all-keys";
const SECOND: &str = "sk-second-of-all-keys";

fn schema() -> Value {
    json!({
        "api_key": {"merge": "override", "secret": true},
        "allowed_models": {"merge": "subset"},
        "default_fallback": {"merge": "override"},
        "models": {"merge": "append"},
    })
}

async fn send(rig: &Rig, method: &'static str, path: &str, token: &str, body: Value) -> Reply {
    rig.ask(method, path).token(token).json(&body).send().await
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut all = Vec::new();
    files(folder, &mut all);
    let has = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(text.len()).any(|at| at == text.as_bytes())
    };
    let holding = all.iter().filter(|path| has(path));
    holding
        .map(|path| path.strip_prefix(folder).unwrap().display().to_string())
        .collect()
}

#[tokio::test]
async fn a_secret_is_in_no_answer_and_in_no_stored_byte() {
    let rig = Rig::start().await;
    let chief = rig.tenant_with("acme", "chief", "tenant_admin").await;
    let system = json!({"spec": {"scope": "genai.policy", "schema": schema()}});
    rig.make("/configs", system).await;
    let spec = json!({"scope": "genai.policy", "values": {"api_key": FIRST}, "description": "plain-to-see"});
    let tried = "/tenant_configs?dry_run=true";
    let mut answers = vec![send(&rig, "POST", tried, &chief, json!({"spec": spec})).await];
    let with_key = rig.ask("POST", "/tenant_configs").token(&chief);
    let with_key = with_key.header("idempotency-key", "once");
    let made = with_key.json(&json!({"spec": spec})).send().await;
    let (one, first) = (
        format!("/tenant_configs/{}", made.id()),
        made.data(201).clone(),
    );
    assert_eq!(first["spec"]["values"]["api_key"], json!({"secret": 1}));
    answers.push(made);
    let begin = answers[1].body["meta"]["index"].as_u64().unwrap();
    let put =
        |secret: Value| json!({"spec": {"scope": "genai.policy", "values": {"api_key": secret}}});
    answers.push(send(&rig, "PUT", &one, &chief, put(json!({"secret": 1}))).await);
    answers.push(send(&rig, "PUT", &one, &chief, put(SECOND.into())).await);
    assert_eq!(
        answers[3].data(200)["spec"]["values"]["api_key"],
        json!({"secret": 3})
    );
    let end = answers[3].body["meta"]["index"].as_u64().unwrap();
    answers.push(send(&rig, "PUT", &one, &chief, put(json!([FIRST]))).await);
    answers.push(
        send(
            &rig,
            "PUT",
            &one,
            &chief,
            json!({"spec": {"scope": "genai.policy", "values": {"allowed_models": FIRST}}}),
        )
        .await,
    );
    assert_eq!(answers[4].error(400), "invalid");
    let many = json!({"items": [{"spec": {"scope": "genai.policy", "active": false, "values": {"api_key": FIRST}}}]});
    for path in ["/bulk/tenant_configs", "/bulk/tenant_configs?atomic=true"] {
        let made = send(&rig, "POST", path, &chief, many.clone()).await;
        assert!(matches!(made.status, 200 | 201), "{path}: {}", made.text);
        answers.push(made);
    }
    for path in [
        one.clone(),
        format!("{one}?fields=spec,status"),
        format!("{one}?at={begin}"),
        format!("{one}/history"),
        format!("{one}/blame"),
        "/tenant_configs".into(),
        "/tenant_configs?q=acme".into(),
        format!("/tenant_configs?at={end}"),
        format!("/diff?from={begin}&to={end}"),
        "/audit?limit=100".into(),
        "/configs/tenant/acme".into(),
        "/configs/effective?scope=genai.policy&tenant=acme".into(),
    ] {
        let answer = rig.get(&path, &rig.admin).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answers.push(answer);
    }
    let stream = rig.ask("GET", "/tenant_configs?watch=true").token(&chief);
    let mut stream = stream.begin().await.into_body();
    let event = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    let event = String::from_utf8(event.to_vec()).unwrap();
    let masked = "\"api_key\":{\"secret\":";
    assert!(event.contains(masked), "{event}");
    let past = &answers
        .iter()
        .find(|answer| answer.text.contains("updated_by") && answer.text.contains("change"))
        .unwrap()
        .text;
    assert!(past.contains(masked), "{past}");
    answers.push(send(&rig, "DELETE", &one, &chief, json!({})).await);
    answers.push(rig.get("/tenant_configs?deleted=true", &rig.admin).await);
    for text in answers.iter().map(|answer| &answer.text).chain([&event]) {
        for secret in [FIRST, SECOND] {
            // What is refused is not repeated, unless it was sent for a field that is not secret.
            let is_own_mistake = text.contains("spec.values.allowed_models");
            assert!(is_own_mistake || !text.contains(secret), "{text}");
        }
        assert!(!text.contains("sealed_values"), "{text}");
    }
    let backup = rig.folder().join("backup");
    let written = rig.app.node().image().index();
    rig.app.shadow().wait_written(written).await.unwrap();
    rig.app.shadow().backup(&backup).await.unwrap();
    let plain = holding(rig.folder(), "plain-to-see");
    for part in ["data/raft", "data/shadow", "backup"] {
        assert!(
            plain.iter().any(|path| path.starts_with(part)),
            "{part}: {plain:?}"
        );
    }
    for secret in [FIRST, SECOND] {
        assert_eq!(
            holding(rig.folder(), secret),
            Vec::<String>::new(),
            "{secret}"
        );
    }
}

#[tokio::test]
async fn a_secret_is_revealed_to_who_may_know_it_and_recorded() {
    let rig = Rig::start().await;
    let chief = rig.tenant_with("acme", "chief", "tenant_admin").await;
    let dave = rig.user("acme", "dave", "developer").await;
    let system = json!({"spec": {"scope": "genai.policy", "schema": schema(), "values": {"api_key": FIRST}}});
    let system = rig.make("/configs", system).await.id();
    let spec = json!({"scope": "genai.policy", "values": {"api_key": SECOND}});
    let made = send(
        &rig,
        "POST",
        "/tenant_configs",
        &chief,
        json!({"spec": spec}),
    )
    .await;
    let one = format!("/tenant_configs/{}/reveal", made.id());
    let refused = send(&rig, "POST", &one, &dave, json!({})).await;
    assert_eq!(refused.error(403), "forbidden");
    let of_cloud = format!("/system_configs/{system}/reveal");
    let refused = send(&rig, "POST", &of_cloud, &chief, json!({})).await;
    assert_eq!(refused.error(403), "forbidden");
    let told = send(&rig, "POST", &one, &chief, json!({})).await;
    assert_eq!(told.data(200)["secrets"], json!({"api_key": SECOND}));
    assert_eq!(
        told.data(200)["spec"]["values"]["api_key"],
        json!({"secret": 1})
    );
    assert!(!told.text.contains("sealed_values"), "{}", told.text);
    let told = send(&rig, "POST", &of_cloud, &rig.admin, json!({})).await;
    assert_eq!(told.data(200)["secrets"], json!({"api_key": FIRST}));
    let trail = rig.get("/audit?limit=20", &rig.admin).await;
    let has = |action: &str, name: &str| {
        let rows = trail.data(200).as_array().unwrap().iter();
        rows.filter(|row| row["action"] == action && row["actor_name"] == name)
            .count()
    };
    assert_eq!(has("tenant_config.reveal", "chief"), 1);
    assert_eq!(has("system_config.reveal", "admin"), 1);
    // A repeated key records nothing anew, and so tells nothing.
    for secrets in [json!({"api_key": SECOND}), Value::Null] {
        let ask = rig.ask("POST", &one).token(&chief);
        let ask = ask.header("idempotency-key", "again").json(&json!({}));
        assert_eq!(ask.send().await.data(200)["secrets"], secrets);
    }
}

/// The hash that is kept of a request with a secret is not one that a guess could be tried on.
#[tokio::test]
async fn a_repeated_request_with_a_secret_is_known_again() {
    let rig = Rig::start().await;
    let body = |secret: &str| json!({"spec": {"scope": "genai.policy", "schema": schema(), "values": {"api_key": secret}}});
    let ask = async |secret: &str| {
        let ask = rig.ask("POST", "/system_configs").token(&rig.admin);
        let ask = ask.header("idempotency-key", "once").json(&body(secret));
        ask.send().await
    };
    let first = ask(FIRST).await;
    let again = ask(FIRST).await;
    assert_eq!(first.data(201)["id"], again.data(201)["id"]);
    assert_eq!(again.body["meta"]["replayed"], true);
    assert_eq!(ask(SECOND).await.error(409), "conflict");
    let plain = {
        let mut hasher = blake3::Hasher::new();
        let body = body(FIRST).to_string();
        for part in [&b"POST"[..], b"/api/v1/system_configs", body.as_bytes()] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize().to_hex().to_string()
    };
    let keys = rig.get("/idempotency_keys?limit=100", &rig.admin).await;
    let kept = keys.data(200).as_array().unwrap().iter();
    let kept: Vec<&Value> = kept.filter(|row| row["spec"]["key"] == "once").collect();
    assert_eq!(kept.len(), 1, "{}", keys.text);
    assert_ne!(kept[0]["spec"]["request_hash"], plain);
}

/// What `docs/configuration.md` shows, sent as it stands there and answered as it stands there.
#[tokio::test]
async fn the_example_of_the_documentation_is_true() {
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut blocks = page.split("```json\n").skip(1);
    let mut block = || -> Value {
        let block = blocks.next().unwrap().split("```").next().unwrap();
        serde_json::from_str(block).unwrap()
    };
    let rig = Rig::start().await;
    let chief = rig.tenant_with("acme", "chief", "tenant_admin").await;
    rig.make("/configs", block()).await;
    let body = block();
    send(&rig, "POST", "/configs", &chief, body).await.data(201);
    let body = block();
    send(&rig, "POST", "/configs", &chief, body).await.data(201);
    let path = "/configs/effective?scope=genai.policy";
    let found = rig.get(path, &chief).await;
    let shown = block();
    for part in ["values", "fields"] {
        assert_eq!(found.data(200)[part], shown[part], "{part}");
    }
    let same = "/configs/effective?scope=genai.policy&tenant_id=acme&user=chief";
    assert_eq!(rig.get(same, &rig.admin).await.data(200), found.data(200));
    for (path, field) in [
        ("/configs/effective", "scope"),
        (
            "/configs/effective?scope=genai.policy&tenant=acme&tenant_id=acme",
            "tenant",
        ),
        ("/ontologies/lookup?name=x", "type"),
        ("/ontologies/lookup?type=minor&name=x", "type"),
        ("/ontologies/lookup?type=base", "name"),
        ("/ontologies/merge?domains=,", "domains"),
    ] {
        let refused = rig.get(path, &chief).await;
        assert_eq!(refused.error(400), "invalid", "{path}");
        assert_eq!(refused.body["error"]["fields"][0]["field"], field, "{path}");
    }
}

/// What held then: layers that were changed or deleted since count as they were, for whom it is asked with the rights
/// of now.
#[tokio::test]
async fn what_held_at_a_moment_is_merged_as_it_was() {
    let rig = Rig::start().await;
    let chief = rig.tenant_with("acme", "chief", "tenant_admin").await;
    let other = rig.tenant_with("globex", "boss", "tenant_admin").await;
    let index = async |token: &str| {
        let found = rig.get("/configs/effective?scope=net", token).await;
        found.body["meta"]["index"].as_u64().unwrap()
    };
    let before = rig.get("/tenants", &rig.admin).await.body["meta"]["index"].clone();
    let system = json!({"spec": {"scope": "net", "values": {"zones": ["a", "b", "c"]}}});
    let system = rig.make("/configs", system).await.id();
    let only_system = index(&chief).await;
    let narrow = json!({"tenant": "acme", "spec": {"scope": "net", "values": {"zones": ["b"]}}});
    let narrow = send(&rig, "POST", "/configs", &chief, narrow).await.id();
    let narrowed = index(&chief).await;
    let theirs = json!({"tenant": "globex", "spec": {"scope": "net", "values": {"zones": ["c"]}}});
    send(&rig, "POST", "/configs", &other, theirs)
        .await
        .data(201);
    let wider = json!({"spec": {"values": {"zones": ["b", "c"]}}});
    let path = format!("/tenant_configs/{narrow}");
    send(&rig, "PATCH", &path, &chief, wider).await.data(200);
    let widened = index(&chief).await;
    send(&rig, "DELETE", &path, &chief, json!(null))
        .await
        .data(200);
    let all = json!({"spec": {"values": {"zones": ["a", "b"]}}});
    let path = format!("/system_configs/{system}");
    send(&rig, "PATCH", &path, &rig.admin, all).await.data(200);

    let at = async |moment: u64, token: &str| {
        let path = format!("/configs/effective?scope=net&at={moment}");
        rig.get(&path, token).await
    };
    for (moment, zones) in [
        (only_system, json!(["a", "b", "c"])),
        (narrowed, json!(["b"])),
        (widened, json!(["b", "c"])),
        (index(&chief).await, json!(["a", "b"])),
    ] {
        let then = at(moment, &chief).await;
        assert_eq!(then.data(200)["values"]["zones"], zones, "{moment}");
    }
    let none = at(before.as_u64().unwrap(), &chief).await;
    assert_eq!(none.error(404), "not_found");
    let foreign = format!("/configs/effective?scope=net&tenant=acme&at={narrowed}");
    assert_eq!(rig.get(&foreign, &other).await.error(404), "not_found");
    let odd = rig
        .get("/configs/effective?scope=net&at=soon", &chief)
        .await;
    assert_eq!(odd.error(400), "invalid");
}

#[tokio::test]
async fn ontologies_are_found_by_name_and_merged() {
    let rig = Rig::start().await;
    let chief = rig.tenant_with("acme", "chief", "tenant_admin").await;
    let spec = |of: &str, name: &str, class: &str| {
        json!({"spec": {
            "type": of, "name": name, "version": "1.0.0",
            "entity_classes": [{"name": class}], "object_properties": [],
        }})
    };
    rig.make("/ontologies", spec("base", "core", "thing")).await;
    rig.make("/ontologies", spec("domain", "shop", "good"))
        .await;
    let own = spec("domain", "shop", "ware");
    let own = send(&rig, "POST", "/ontologies", &chief, own).await.id();
    let mut trade = spec("major", "trade", "contract");
    trade["spec"]["compatible_domains"] = json!(["shop"]);
    send(&rig, "POST", "/ontologies", &chief, trade)
        .await
        .data(201);
    let path = "/ontologies/lookup?type=domain&name=shop";
    assert_eq!(rig.get(path, &chief).await.id(), own);
    assert_ne!(rig.get(path, &rig.admin).await.id(), own);
    let short = rig.get(&format!("{path}&fields=spec.name"), &chief).await;
    assert_eq!(short.data(200), &json!({"spec": {"name": "shop"}}));
    let path = "/ontologies/merge?base=core&domains=shop@1.0.0&major=trade";
    let found = rig.get(path, &chief).await;
    let names: Vec<&Value> = found.data(200)["entity_classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| &class["name"])
        .collect();
    assert_eq!(names, ["thing", "ware", "contract"]);
    let same = format!("{path}&tenant=acme");
    assert_eq!(rig.get(&same, &rig.admin).await.data(200), found.data(200));
}
