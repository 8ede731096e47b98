//! The API's document as a contract: for every operation requests are made from its own schemas, right ones and ones
//! that are nearly right, about objects that are there; every answer must be one that the document names, and none may
//! be a mistake of the controller's. All chance comes from one seed, so that what fails fails again.

mod lives;
mod told;
mod writer;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use virtflow_model::Kind;

use self::told::{Came, Contract, Operation};
use self::writer::{Try, Writer};
use super::by_schema::Maker;
use super::rows;
use super::support::Rig;
use super::world::{World, label};
use crate::api::write::DRY_RUN;

/// Another run is another number.
const SEED: u64 = 20_261_127;
/// Requests under way at once, where none of them changes anything.
const AT_ONCE: usize = 8;
/// Operations that perhaps no request of an administrator brings to an end here, and why.
const NEVER_DONE: &[(&str, &str, &str)] = &[
    (
        "DELETE",
        "/controllers/{id}",
        "the leader removes what is no member, perhaps before",
    ),
    ("POST", "/controllers/hand-over", "there is one controller"),
    (
        "POST",
        "/baremetals/{id}/release-quarantine",
        "nothing is quarantined",
    ),
    (
        "GET",
        "/virtual_machines/{id}/console",
        "no agent is connected",
    ),
];

/// Sends it, from one of many networks.
async fn attempt(rig: &Rig, operation: &Operation, one: &Try, token: &str, from: usize) -> Came {
    let [.., a, b, c] = from.to_be_bytes();
    let mut ask = rig.ask(operation.method, &one.path);
    ask = ask.token(token).from(&format!("11.{a}.{b}.{c}:1"));
    for (name, value) in &one.headers {
        ask = ask.header(name, value);
    }
    if let Some(body) = &one.body {
        ask = ask.json(body);
    }
    let (head, body) = ask.begin().await.into_parts();
    let content_type = head.headers.get("content-type");
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    // A stream would go on.
    let text = if content_type == "text/event-stream" {
        None
    } else {
        let bytes = body.collect().await.unwrap().to_bytes();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    };
    Came {
        status: head.status.as_u16(),
        content_type,
        text,
    }
}

/// What was asked and found.
#[derive(Default)]
struct Tally {
    requests: usize,
    /// Requests that were done, by operation.
    done: BTreeMap<String, usize>,
    statuses: BTreeMap<u16, usize>,
    /// Requests that are as the document has them, and those of them that were done.
    good: usize,
    good_done: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, contract: &Contract, operation: &Operation, what: &str, came: &Came) {
        self.requests += 1;
        *self.statuses.entry(came.status).or_default() += 1;
        let name = format!("{} {}", operation.method, operation.path);
        let done = self.done.entry(name).or_default();
        if came.status < 300 {
            *done += 1;
        }
        if let Err(problem) = contract.judge(operation, what, came) {
            let text = came.text.as_deref().unwrap_or("a stream");
            let text: String = text.chars().take(600).collect();
            let what: String = what.chars().take(1500).collect();
            self.wrong.push(format!(
                "{} {what}\n    {}: {problem}\n    {text}",
                operation.method, came.status
            ));
        }
    }
}

/// Asks everything of every operation: only tried where there are trials, or in earnest.
async fn ask_all(
    world: &World,
    contract: &Contract,
    operations: &[&Operation],
    who: (&str, &str),
    tally: &mut Tally,
    is_trial: bool,
) {
    let (name, token) = who;
    let mut from = tally.requests;
    let tries = operations.iter().enumerate().flat_map(|(n, operation)| {
        let there = world.there(operation.route.kind);
        let seed = SEED ^ (n as u64) << 20 ^ (name.len() as u64) << 12 ^ u64::from(is_trial);
        let mut writer = Writer {
            world,
            operation,
            maker: Maker::new(seed, contract.document, &there),
        };
        let all = writer.all(is_trial);
        all.into_iter()
            .map(|one| (*operation, one))
            .collect::<Vec<_>>()
    });
    let asked = tries.map(|(operation, one)| {
        from += 1;
        async move {
            let came = attempt(&world.rig, operation, &one, token, from).await;
            (operation, one, came)
        }
    });
    let at_once = if is_trial { AT_ONCE } else { 1 };
    let mut answers = futures::stream::iter(asked).buffered(at_once);
    while let Some((operation, one, came)) = answers.next().await {
        let body = one.body.map(|body| body.to_string()).unwrap_or_default();
        let what = format!("{} {:?} {body} as {name}", one.path, one.headers);
        tally.note(contract, operation, &what, &came);
        tally.good += usize::from(one.is_good);
        tally.good_done += usize::from(one.is_good && came.status < 300);
    }
}

/// What changes something and cannot be only tried, and what makes the cloud another one.
fn is_in_earnest(operation: &Operation) -> bool {
    operation.method != "GET" && !operation.route.query.contains(&DRY_RUN)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_one_that_the_document_names() {
    let world = World::start().await;
    let document = world.rig.get("/openapi.json", &world.rig.admin).await.body;
    let contract = Contract::new(document);
    let operations = contract.operations();
    let alice = rows::lasting_token(&world.rig, "alice").await;
    let admin = world.rig.admin.clone();
    let mut tally = Tally::default();
    lives::make_and_remove(&contract, &operations, &mut tally).await;

    // What is known to be right, first: it is what the rest is a mistake of.
    for operation in &operations {
        let route = &operation.route;
        let put = match (route.kind, label(route).as_str()) {
            (Some(kind), "put") => spec_of(&world, kind).await,
            (None, "configs-put") => spec_of(&world, Kind::TenantConfig).await,
            _ => Value::Null,
        };
        let id = route.kind.map(|kind| world.id(kind));
        let reply = world.send_about(route, id, Some(&admin), &put, true).await;
        let came = Came {
            status: reply.status,
            content_type: reply.headers["content-type"].to_str().unwrap().to_owned(),
            text: Some(reply.text),
        };
        tally.note(
            &contract,
            operation,
            &format!("{} as known", operation.path),
            &came,
        );
    }

    let (earnest, tried): (Vec<_>, Vec<_>) = operations.iter().partition(|one| is_in_earnest(one));
    for who in [("admin", admin.as_str()), ("alice", alice.as_str())] {
        ask_all(&world, &contract, &tried, who, &mut tally, true).await;
    }
    // In earnest what makes and changes; what was made meanwhile is found by what comes after it.
    let changing: Vec<_> = operations
        .iter()
        .filter(|one| matches!(one.method, "POST" | "PATCH"))
        .collect();
    for who in [("admin", admin.as_str()), ("alice", alice.as_str())] {
        ask_all(&world, &contract, &earnest, who, &mut tally, false).await;
        ask_all(&world, &contract, &changing, who, &mut tally, false).await;
    }
    let done: usize = tally.done.values().sum();
    println!(
        "{} requests of {} operations, {done} done; of {} right ones {}; {:?}",
        tally.requests,
        operations.len(),
        tally.good,
        tally.good_done,
        tally.statuses
    );
    for (operation, times) in &tally.done {
        println!("{times:6} {operation}");
    }
    let count = tally.wrong.len();
    let shown = tally
        .wrong
        .iter()
        .take(60)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(count == 0, "{count} wrong:\n{shown}");
    let excepted: BTreeSet<String> = NEVER_DONE
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    let never = tally.done.iter().filter(|(_, times)| **times == 0);
    let never: Vec<&String> = never
        .map(|(operation, _)| operation)
        .filter(|operation| !excepted.contains(*operation))
        .collect();
    assert!(never.is_empty(), "never done: {never:?}");
    let verdict = world.rig.get("/verify", &admin).await;
    assert_eq!(verdict.data(200)["divergences"], json!([]));
}

async fn spec_of(world: &World, kind: Kind) -> Value {
    let path = format!("/{}/{}", kind.plural(), world.id(kind));
    world.rig.get(&path, &world.rig.admin).await.data(200)["spec"].clone()
}
