//! Secrets that are shown once: API tokens, and invitations to join.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};
use virtflow_client::{Answer, Call, Method};
use virtflow_model::Kind;
use virtflow_types::Timestamp;

use crate::contexts::Context;
use crate::failure::Failure;
use crate::generic::{report, target, text, trial, write};
use crate::grammar::{option, trying, writing};
use crate::noun::Form;
use crate::run::{Cluster, Run};
use crate::spec::value_of;
use crate::wait::Patience;
use crate::{nouns, safe};

pub(crate) fn grammar(kind: Kind, command: Command) -> Command {
    if kind == Kind::ApiToken {
        return command.subcommand(trying(writing(
            Command::new("create")
                .about("Make one and show it, once")
                .arg(
                    Arg::new("target")
                        .value_name("NAME")
                        .required(true)
                        .help("Its name"),
                )
                .arg(option(
                    "expires",
                    "SPAN",
                    "How long it is good, 90d; for ever if left out",
                ))
                .arg(
                    option(
                        "permission",
                        "KIND.ACTION",
                        "Narrow it to this; may be repeated",
                    )
                    .action(ArgAction::Append),
                )
                .arg(option("user", "USER", "For somebody else"))
                .arg(option(
                    "save-context",
                    "NAME",
                    "Keep it in a context and don't show it",
                )),
        )));
    }
    command.subcommand(trying(writing(
        Command::new("create")
            .about("Make one and show it, once")
            .arg(
                option("role", "ROLE", "What may join")
                    .value_parser(["agent", "controller"])
                    .default_value("agent"),
            )
            .arg(option("group", "GROUP", "Group that the host joins"))
            .arg(option("rack", "RACK", "Rack that the host stands in"))
            .arg(option(
                "serial",
                "SERIAL",
                "Only the machine with this serial number",
            ))
            .arg(option(
                "name",
                "NAME",
                "Name that the host or controller gets",
            ))
            .arg(option("ttl", "SPAN", "How long it is good, 15m")),
    )))
}

/// Sets `expires_at`, if a span was given.
pub(crate) fn with_expiry(
    spec: &mut Value,
    flag: &str,
    matches: &ArgMatches,
    now: Timestamp,
) -> Result<(), Failure> {
    if let Some(span) = text(matches, flag) {
        spec["expires_at"] = value_of(Form::Expiry, &[span], now)
            .map_err(|problem| Failure::usage(format!("--{flag}: {problem}")))?;
    }
    Ok(())
}

pub(crate) async fn create_api_token(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let mut spec = json!({});
    with_expiry(&mut spec, "expires", matches, run.now)?;
    if let Some(permissions) = matches.get_many::<String>("permission") {
        spec["permissions"] = permissions.map(String::as_str).collect();
    }
    let mut body = Map::new();
    body.insert("name".into(), target(matches).into());
    body.insert("spec".into(), spec);
    if let Some(user) = text(matches, "user") {
        body.insert("parent".into(), user.into());
    }
    let call = Call::new(Method::Post, &["api_tokens"])?
        .query_if("dry_run", trial(matches))
        .body(Value::Object(body));
    let answer = cluster.client.send(&write(call, matches)).await?;
    if answer.tried {
        return tried(run, cluster, Kind::ApiToken, answer, matches).await;
    }
    let mut data = answer.data;
    let token = secret_of(&data, "virtflow token delete")?;
    let Some(name) = text(matches, "save-context") else {
        run.output.data(&data, |_| token.clone())?;
        run.output
            .remark("this is the only time it is shown; hand it to programs in VIRTFLOW_TOKEN");
        return Ok(());
    };
    let context = Context {
        user: data["names"]["parent"]
            .as_str()
            .map(str::to_owned)
            .or(cluster.context.user.clone()),
        token: Some(token),
        session: None,
        ..cluster.context.clone()
    };
    cluster.store.change(|contexts| {
        contexts.contexts.insert(name.to_owned(), context);
        Ok(())
    })?;
    if let Value::Object(fields) = &mut data {
        fields.remove("token");
        fields.insert("context".into(), name.into());
    }
    run.output.data(&data, |_| {
        format!(
            "the token is kept in the context `{}`; use it with `virtflow context use`",
            safe::line(name)
        )
    })
}

pub(crate) async fn create_invite(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let mut spec = json!({ "role": text(matches, "role") });
    for (flag, field) in [
        ("group", "group"),
        ("rack", "rack"),
        ("serial", "serial_number"),
        ("name", "host_name"),
    ] {
        if let Some(value) = text(matches, flag) {
            spec[field] = value.into();
        }
    }
    with_expiry(&mut spec, "ttl", matches, run.now)?;
    invite(run, cluster, spec, matches).await
}

/// Makes an invitation and shows what the new machine needs.
pub(crate) async fn invite(
    run: &Run,
    cluster: &Cluster,
    spec: Value,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let is_controller = spec["role"] == "controller";
    let call = Call::new(Method::Post, &["join_tokens"])?
        .query_if("dry_run", trial(matches))
        .body(json!({ "spec": spec }));
    let answer = cluster.client.send(&write(call, matches)).await?;
    if answer.tried {
        return tried(run, cluster, Kind::JoinToken, answer, matches).await;
    }
    let mut data = answer.data;
    secret_of(&data, "virtflow invite delete")?;
    data["expires_at"] = data["spec"]["expires_at"].clone();
    run.output.data(&data, |data| {
        let line = |name: &str| {
            let value = data[name].as_str().unwrap_or_default();
            format!("{name}: {}", safe::line(value))
        };
        ["token", "ca_fingerprint", "expires_at"]
            .map(line)
            .join("\n")
    })?;
    if run.output.format.is_for_people() {
        let endpoints = cluster.client.endpoints();
        let endpoint = endpoints
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let fingerprint = data["ca_fingerprint"].as_str().unwrap_or_default();
        let daemon = if is_controller {
            "virtflow-controller"
        } else {
            "virtflow-agent"
        };
        let token = data["token"].as_str().unwrap_or_default();
        run.output.remark(&format!(
            "the token is shown once and good for one machine; to paste there, as root:\n  \
             VIRTFLOW_JOIN_TOKEN={token} {daemon} join --controller {endpoint} --ca-fingerprint {fingerprint}"
        ));
    }
    Ok(())
}

/// Shows what would be made. It has no secret, so nothing is kept either.
async fn tried(
    run: &Run,
    cluster: &Cluster,
    kind: Kind,
    answer: Answer,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let noun = nouns::of_kind(kind);
    report(run, cluster, noun, "created", answer, Patience::of(matches)).await
}

/// The secret that is shown once. A repeated key names what was made, but its secret is gone.
fn secret_of(data: &Value, delete: &str) -> Result<String, Failure> {
    if let Some(token) = data["token"].as_str() {
        return Ok(token.to_owned());
    }
    let id = data["id"].as_str().unwrap_or("ID");
    Err(Failure::local(
        "it was made before, under this key; its secret was shown then and is not kept",
    )
    .advise(format!("delete it with `{delete} {id}` and make another")))
}
