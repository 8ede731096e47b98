//! What is the same for all kinds: list, get, describe, create, update, delete.

use clap::ArgMatches;
use serde_json::{Map, Value, json};
use virtflow_client::{Answer, Call, Method};
use virtflow_types::ObjectId;

use crate::failure::Failure;
use crate::grammar::ROWS_DEFAULT;
use crate::interrupt::{self, Again};
use crate::noun::Noun;
use crate::output::{Format, described};
use crate::run::{Cluster, Run};
use crate::wait::{self, Patience};
use crate::{edit, nouns, past, spec, table, watch};

/// Carries out a verb that all kinds share.
pub(crate) async fn run(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    verb: &str,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    match verb {
        "list" => list(run, cluster, noun, matches).await,
        "get" if is_set(matches, "watch") => {
            let object = fetch(cluster, noun, matches).await?;
            watch::object(run, cluster, noun, matches, &object).await
        }
        "get" => {
            let object = fetch(cluster, noun, matches).await?;
            let is_wide = run.output.format == Format::Wide;
            let rows = std::slice::from_ref(&object);
            run.output.data(&object, |_| match text(matches, "fields") {
                Some(fields) => table::of_fields(fields, rows),
                None => table::of_objects(noun, rows, run.now, is_wide),
            })
        }
        "describe" => {
            let object = fetch(cluster, noun, matches).await?;
            run.output.data(&object, described)
        }
        "history" => past::history(run, cluster, noun, matches).await,
        "blame" => past::blame(run, cluster, noun, matches).await,
        "create" => create(run, cluster, noun, matches, Map::new()).await,
        "update" => update(run, cluster, noun, matches).await,
        "edit" => edit::edit(run, cluster, noun, matches).await,
        "delete" => delete(run, cluster, noun, matches).await,
        other => Err(Failure::usage(format!(
            "{} has no command `{other}`",
            noun.word
        ))),
    }
}

/// A text that was given.
pub(crate) fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    let found = matches.try_get_one::<String>(name).ok().flatten();
    found.map(String::as_str)
}

/// A switch that was given.
pub(crate) fn is_set(matches: &ArgMatches, name: &str) -> bool {
    matches!(matches.try_get_one::<bool>(name), Ok(Some(true)))
}

/// The object that a command is about.
pub(crate) fn target(matches: &ArgMatches) -> &str {
    text(matches, "target").unwrap_or_default()
}

/// What the API is told where a change is only to be tried.
pub(crate) fn trial(matches: &ArgMatches) -> Option<&'static str> {
    is_set(matches, "dry-run").then_some("true")
}

/// A write, with the key that was given or a fresh one.
pub(crate) fn write(call: Call, matches: &ArgMatches) -> Call {
    let key = match text(matches, "idempotency-key") {
        Some(key) => key.to_owned(),
        None => ObjectId::generate().to_string(),
    };
    interrupt::repeats(Again::WithKey(key.clone()));
    call.idempotency_key(key)
}

async fn list(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = narrowed(noun, matches)?;
    if is_set(matches, "watch") {
        return watch::list(run, cluster, noun, matches, call).await;
    }
    let deleted = is_set(matches, "deleted").then_some("true");
    let fields = text(matches, "fields");
    let call = call
        .query_if("deleted", deleted)
        .query_if("at", text(matches, "at"))
        .query_if("sort", text(matches, "sort"))
        .query_if("q", text(matches, "search"))
        .query_if("fields", fields);
    let limit = matches.get_one::<usize>("limit").copied();
    let listed = cluster
        .client
        .list(&call, limit.unwrap_or(ROWS_DEFAULT))
        .await?;
    let shown = listed.rows.len();
    let rows = Value::Array(listed.rows);
    match fields {
        Some(fields) => run.output.data(&rows, |rows| {
            table::of_fields(fields, rows.as_array().map_or(&[], Vec::as_slice))
        })?,
        None => run.output.rows(noun, &rows, run.now)?,
    }
    if listed.more {
        run.output.warn(&format!(
            "{shown} shown, there are more: raise --limit or narrow the list"
        ));
    }
    Ok(())
}

/// The call of a list, with what narrows it.
pub(crate) fn narrowed(noun: &Noun, matches: &ArgMatches) -> Result<Call, Failure> {
    let mut call = Call::new(Method::Get, &[noun.collection()])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("name", text(matches, "name"));
    for option in noun.list_options() {
        let value = text(matches, &option.id).map(|value| match option.is_word {
            true => value.replace('-', "_"),
            false => value.to_owned(),
        });
        call = call.query_if(option.name, value);
    }
    Ok(call)
}

/// One object.
pub(crate) async fn fetch(
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<Value, Failure> {
    let call = Call::new(Method::Get, &[noun.collection(), target(matches)])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("fields", text(matches, "fields"))
        .query_if("at", text(matches, "at"));
    Ok(cluster.client.send(&call).await?.data)
}

/// Makes an object; `more` is what its body has beside name, tenant and spec.
pub(crate) async fn create(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
    more: Map<String, Value>,
) -> Result<(), Failure> {
    let mut body = more;
    body.insert(
        "spec".into(),
        spec::of_matches(noun.flags, matches, true, run.now)?,
    );
    if noun.facts().is_named {
        body.insert("name".into(), target(matches).into());
    }
    let is_of_spec = noun.flags.iter().any(|flag| flag.long == "tenant");
    if let Some(tenant) = text(matches, "tenant").filter(|_| !is_of_spec) {
        body.insert("tenant".into(), tenant.into());
    }
    let call = Call::new(Method::Post, &[noun.collection()])?
        .query_if("dry_run", trial(matches))
        .body(Value::Object(body));
    let answer = cluster.client.send(&write(call, matches)).await?;
    report(run, cluster, noun, "created", answer, Patience::of(matches)).await
}

async fn update(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let spec = spec::of_matches(noun.flags, matches, false, run.now)?;
    if spec.as_object().is_some_and(Map::is_empty) {
        return Err(Failure::usage("nothing is to be changed").advise(format!(
            "see `virtflow {} update --help` for what can be",
            noun.word
        )));
    }
    let call = Call::new(Method::Patch, &[noun.collection(), target(matches)])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("dry_run", trial(matches))
        .if_match(matches.get_one::<u64>("if-match").copied())
        .body(json!({ "spec": spec }));
    let answer = cluster.client.send(&write(call, matches)).await?;
    report(run, cluster, noun, "updated", answer, Patience::of(matches)).await
}

async fn delete(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let force = is_set(matches, "force").then_some("true");
    let call = Call::new(Method::Delete, &[noun.collection(), target(matches)])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("force", force)
        .query_if("dry_run", trial(matches))
        .if_match(matches.get_one::<u64>("if-match").copied());
    let mut answer = cluster.client.send(&write(call, matches)).await?;
    // The answer names the id alone: people recognise what they typed.
    if let Value::Object(gone) = &mut answer.data
        && !gone.contains_key("operation")
    {
        gone.entry("name").or_insert_with(|| target(matches).into());
    }
    report(run, cluster, noun, "deleted", answer, Patience::of(matches)).await
}

/// Says what a write did. If it began an operation and that is to be waited for, waits first.
pub(crate) async fn report(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    did: &str,
    answer: Answer,
    patience: Patience,
) -> Result<(), Failure> {
    let mut data = answer.data;
    if answer.tried {
        run.output
            .remark(&format!("would be {did}; nothing was done"));
        return run.output.data(&data, tried);
    }
    if data["operation"].is_null() {
        return run.output.data(&data, |object| {
            format!("{} {} {did}", noun.word, called(object))
        });
    }
    if !patience.wait {
        return run.output.data(&data, |data| {
            let id = data["operation"]["id"].as_str().unwrap_or_default();
            let name = aimed_at(&data["operation"]);
            format!("{} {name}: accepted, operation {id}", noun.word)
        });
    }
    let operation = wait::until_done(run, cluster, &data["operation"], patience.timeout).await?;
    let object = now_is(cluster, &operation).await;
    data["operation"] = operation;
    if let Some(object) = object {
        data["object"] = object;
    }
    run.output.data(&data, |data| {
        let name = aimed_at(&data["operation"]);
        match data.pointer("/object/status/phase").and_then(Value::as_str) {
            Some(phase) if did != "deleted" => format!("{} {name} {did}, {phase}", noun.word),
            _ => format!("{} {name} {did}", noun.word),
        }
    })
}

/// What would be there, and what it would do to people's rights.
fn tried(data: &Value) -> String {
    let mut shown = data.clone();
    let access = shown.as_object_mut().and_then(|data| data.remove("access"));
    let object = match &shown["object"] {
        Value::Null => described(&shown),
        object => described(object),
    };
    match access {
        Some(access) => format!("{object}\n\n{}", crate::access::effect(&access)),
        None => object,
    }
}

/// What an operation was about, as it is now; nothing if it is gone.
async fn now_is(cluster: &Cluster, operation: &Value) -> Option<Value> {
    let spec = &operation["spec"];
    let kind = virtflow_model::Kind::parse(spec["target_kind"].as_str()?)?;
    let noun = nouns::of_kind(kind);
    let call = Call::new(
        Method::Get,
        &[noun.collection(), spec["target_id"].as_str()?],
    )
    .ok()?;
    Some(cluster.client.send(&call).await.ok()?.data)
}

/// An object's name, or its id where it has none.
fn called(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().filter(|text| !text.is_empty());
    let called = text("name").or_else(|| text("id")).unwrap_or("?");
    crate::safe::line(called)
}

/// The name of what an operation is about.
fn aimed_at(operation: &Value) -> String {
    let spec = &operation["spec"];
    let text = |name: &str| spec[name].as_str().filter(|text| !text.is_empty());
    let name = text("target_name")
        .or_else(|| text("target_id"))
        .unwrap_or("?");
    crate::safe::line(name)
}
