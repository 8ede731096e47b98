//! Whatever a cluster says, of whatever kind: a terminal shows it and does not obey it. Answers are made from the
//! API's own document, with spells in the place of every text.

use serde_json::{Map, Value, json};
use virtflow_model::Kind;

use crate::fake::{Fake, Reply, Seen, status};

/// Colours, a window's title, the clipboard, the cursor, a sequence of one byte, and a turn of the direction of writing.
const SPELL: &str =
    "a\u{1b}[31m\u{1b}]0;t\u{7}\u{1b}]52;c;ZQ==\u{1b}\\\r\u{8}\u{9b}2J\u{7f}\u{202e}\u{2028}\nb";
const DEPTH_MAX: usize = 6;

/// A value of the form that a schema describes; a text is always the spell.
fn made(document: &Value, schema: &Value, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.strip_prefix('#').unwrap();
        return made(document, document.pointer(pointer).unwrap(), depth);
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        if let Some(first) = schema[word].as_array().and_then(|all| all.first()) {
            return made(document, first, depth + 1);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].as_str(),
        kind => kind.as_str(),
    };
    match kind {
        Some("array") => json!([made(document, &schema["items"], depth + 1)]),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("object") => {
            let mut object = Map::new();
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                object.insert(name.clone(), made(document, schema, depth + 1));
            }
            if schema["additionalProperties"].is_object() {
                let value = made(document, &schema["additionalProperties"], depth + 1);
                object.insert(SPELL.to_owned(), value);
            }
            Value::Object(object)
        }
        Some("string") | None => SPELL.into(),
        Some(other) => panic!("a form of the type {other}"),
    }
}

/// The path of the document that a request is for.
fn path_of<'d>(document: &'d Value, seen: &Seen) -> Option<&'d Value> {
    let target = format!("/api/v1{}", seen.target.split('?').next()?);
    let parts: Vec<&str> = target.split('/').collect();
    let fits = |path: &str| {
        let path: Vec<&str> = path.split('/').collect();
        path.len() == parts.len()
            && path
                .iter()
                .zip(&parts)
                .all(|(form, part)| form.starts_with('{') || form == part)
    };
    let paths = document["paths"].as_object()?;
    let exact = paths.get(&target);
    exact.or_else(|| paths.iter().find(|(path, _)| fits(path)).map(|(_, it)| it))
}

fn answer(document: &Value, seen: &Seen) -> Reply {
    let operation = path_of(document, seen).map(|path| &path[seen.method.to_lowercase()]);
    let responses = operation.and_then(|it| it["responses"].as_object());
    let good = responses.and_then(|all| all.iter().find(|(status, _)| status.starts_with('2')));
    let Some((number, response)) = good else {
        let error = json!({"code": "invalid", "message": SPELL, "advice": SPELL, "fields": [
            {"field": SPELL, "problem": SPELL}, {"field": SPELL, "problem": SPELL}]});
        return status(400, &json!({"meta": {"request_id": SPELL}, "error": error}));
    };
    let response = match response["$ref"].as_str() {
        Some(name) => document.pointer(name.strip_prefix('#').unwrap()).unwrap(),
        None => response,
    };
    let schema = &response["content"]["application/json"]["schema"];
    let mut body = made(document, schema, 0);
    // The envelope is the client's affair.
    body["status"] = "ok".into();
    body["meta"] = json!({});
    status(number.parse().unwrap(), &body)
}

fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// That neither stream holds anything that a terminal obeys; true if the spell was there to be shown.
async fn is_shown(fake: &Fake, line: &[&str]) -> bool {
    let ended = fake.run(line).await;
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains(is_obeyed), "{line:?}: {ended:?}");
        assert!(!text.contains("panicked"), "{line:?}: {ended:?}");
    }
    [&ended.out, &ended.err].iter().any(|text| {
        ["\\u{1b}", "\\u001b", "\\e", "\\x1b"]
            .iter()
            .any(|it| text.to_lowercase().contains(it))
    })
}

async fn server() -> Fake {
    let document: Value =
        serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
    Fake::start(move |seen| answer(&document, seen)).await
}

async fn kinds(part: usize) {
    let fake = server().await;
    for kind in Kind::ALL.iter().skip(part).step_by(6) {
        let word = kind.name();
        for (verb, form) in [
            (&["list"][..], "wide"),
            (&["list"], "custom-columns=A:.name,B:.spec,C:.status"),
            (&["get", "x"], "yaml"),
            (&["get", "x"], "json"),
            (&["describe", "x"], "table"),
        ] {
            let mut line = vec![word];
            line.extend(verb);
            line.extend(["-o", form]);
            let is_there = is_shown(&fake, &line).await;
            assert!(is_there, "{line:?}: there was nothing to show");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_1() {
    kinds(0).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn kinds_2() {
    kinds(1).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn kinds_3() {
    kinds(2).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn kinds_4() {
    kinds(3).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn kinds_5() {
    kinds(4).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn kinds_6() {
    kinds(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_other_commands() {
    let fake = server().await;
    fake.write("racks.yaml", "kind: rack\nname: r1\nspec: {as_number: 7}\n");
    let mut shown = 0;
    for line in [
        "status",
        "whoami",
        "doctor",
        "doctor --verify",
        "capacity",
        "verify",
        "upgrade status",
        "audit",
        "audit --export",
        "audit verify",
        "diff 1..2",
        "config effective genai.policy",
        "auth who-can delete vm",
        "auth explain delete vm x",
        "can-i virtual_machine.read x",
        "vm history x",
        "vm blame x",
        "vm placement x",
        "vm console x --log",
        "host domains x",
        "tenant usage x",
        "user usage x",
        "user-group usage x",
        "rack create x",
        "rack update x --as-number 7",
        "rack delete x",
        "rack delete x y",
        "vm create x --wait --timeout 0s",
        "vm start x --wait --timeout 0s",
        "vm stop x",
        "vm adopt x y",
        "operation wait x --timeout 0s",
        "operation cancel x",
        "host cordon x",
        "host preflight x",
        "token create x",
        "invite create",
        "user set-password x --password-file /dev/null",
        "apply -f racks.yaml",
        "apply -f racks.yaml --dry-run",
        "rack create -f racks.yaml",
        "ontology lookup domain x",
        "ontology merge --base x",
        "system-config reveal x",
        "tenant-config reveal x",
        "controller add x",
        "controller promote x",
        "controller remove x",
        "controller hand-over",
        "upgrade finish --dry-run",
        "upgrade finish --yes",
        "ip-pool allocate x",
        "logout",
        "rack list --fields name,spec",
        "bill list",
        "bill describe x",
        "support-bundle --out bundle.tar.gz",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        shown += usize::from(is_shown(&fake, &words).await);
    }
    assert!(shown >= 25, "the spell was seen in {shown} answers only");
}

#[tokio::test(flavor = "multi_thread")]
async fn watching() {
    let object =
        json!({"id": "x", "kind": SPELL, "name": SPELL, "spec": {"labels": {SPELL: SPELL}}});
    for form in [
        "table",
        "wide",
        "json",
        "yaml",
        "custom-columns=A:.name,B:.spec",
    ] {
        let event =
            format!("event: added\ndata: {object}\n\nevent: bookmark\nid: 7\ndata: {{}}\n\n");
        let error = json!({"code": "invalid", "message": SPELL});
        let text = format!("{event}event: error\ndata: {error}\n\n");
        let fake =
            Fake::start(move |_| crate::fake::raw(200, "text/event-stream", text.clone())).await;
        assert!(
            is_shown(&fake, &["rack", "list", "--watch", "-o", form]).await,
            "{form}"
        );
    }
}

/// A refusal may say whatever it likes, and however much.
#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    for form in ["table", "json", "yaml"] {
        let error =
            json!({"code": SPELL, "message": SPELL, "advice": SPELL, "details": {SPELL: SPELL}});
        let fake = Fake::start(move |_| {
            status(400, &json!({"meta": {"request_id": SPELL}, "error": error}))
        })
        .await;
        assert!(
            is_shown(&fake, &["rack", "list", "-o", form]).await,
            "{form}"
        );
    }
    let error =
        json!({"code": "invalid", "message": "x".repeat(1 << 20), "advice": "y".repeat(1 << 20)});
    let fake = Fake::start(move |_| status(400, &json!({"error": error}))).await;
    let said = fake.run(&["rack", "list"]).await.bad(2);
    assert!(said.len() < 5000, "{} bytes are told", said.len());
}
