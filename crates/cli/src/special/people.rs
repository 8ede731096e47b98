//! Passwords of users, and what tenants use of their quotas.

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};
use virtflow_client::{Call, Method};
use virtflow_model::Kind;
use virtflow_types::Timestamp;

use crate::failure::Failure;
use crate::generic::{create, is_set, report, target, text, trial, write};
use crate::grammar::{option, switch, target as target_arg, trying, verb, writing};
use crate::noun::{Noun, Show};
use crate::run::{Cluster, Run};
use crate::secret;
use crate::table::{of_cells, show};
use crate::wait::Patience;

pub(crate) fn grammar(kind: Kind, command: Command) -> Command {
    let about = "What it may take, and what it takes";
    let usage = match kind {
        Kind::Tenant => Command::new("usage").about(about).arg(target_arg()),
        _ => verb("usage", about),
    };
    let command = command.subcommand(usage);
    if kind != Kind::User {
        return command;
    }
    let file = || {
        option(
            "password-file",
            "FILE",
            "Read the password from a file; `-` is standard input",
        )
    };
    command
        .mut_subcommand("create", |create| {
            create
                .arg(file())
                .arg(switch("password", "Ask for the password").conflicts_with("password-file"))
        })
        .subcommand(trying(writing(
            Command::new("set-password")
                .visible_alias("passwd")
                .about("Set a password: one's own, or another's by who may")
                .arg(target_arg())
                .arg(file())
                .arg(option(
                    "old-password-file",
                    "FILE",
                    "One's own present password, from a file",
                ))
                .arg(switch(
                    "own",
                    "It is one's own: ask for the present one, too",
                )),
        )))
}

/// Without a password a user is made that cannot log in yet.
pub(crate) async fn create_user(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let mut more = Map::new();
    let file = text(matches, "password-file");
    if file.is_some() || is_set(matches, "password") {
        let prompt = format!("Password of {}", target(matches));
        more.insert(
            "password".into(),
            secret::password(file, &prompt, true)?.into(),
        );
    }
    create(run, cluster, noun, matches, more).await
}

pub(crate) async fn set_password(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let mut body = Map::new();
    let old_file = text(matches, "old-password-file");
    if old_file.is_some() || is_set(matches, "own") {
        let old = secret::password(old_file, "Present password", false)?;
        body.insert("old_password".into(), old.into());
    }
    let new = secret::password(text(matches, "password-file"), "New password", true)?;
    body.insert("password".into(), new.into());
    let call = Call::new(Method::Post, &["users", target(matches), "password"])?
        .query_if("dry_run", trial(matches))
        .body(Value::Object(body));
    let answer = cluster.client.send(&write(call, matches)).await?;
    let did = match answer.tried {
        true => "given a new password",
        false => "has a new password",
    };
    report(run, cluster, noun, did, answer, Patience::of(matches)).await
}

pub(crate) async fn usage(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["tenants", target(matches), "usage"])?;
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, |data| usage_text(data, run.now))
}

/// Of a user or a user group: of itself and of what is above it.
pub(crate) async fn usage_of_levels(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &[noun.kind.plural(), target(matches), "usage"])?;
    let call = call.query_if("tenant", text(matches, "tenant"));
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, |data| levels_text(data, run.now))
}

fn levels_text(data: &Value, now: Timestamp) -> String {
    let mut rows = Vec::new();
    for level in data["levels"].as_array().into_iter().flatten() {
        let word = |field: &str| level[field].as_str().unwrap_or_default();
        let whose = format!("{} {}", word("kind").replace('_', " "), word("name"));
        add_accounts(&mut rows, &whose, level, now);
    }
    of_cells(HEAD, &rows)
}

const HEAD: &[&str] = &["WHERE", "DIMENSION", "USED", "LIMIT", "AVAILABLE"];

fn add_accounts(rows: &mut Vec<Vec<String>>, whose: &str, level: &Value, now: Timestamp) {
    for (dimension, account) in level["accounts"].as_object().into_iter().flatten() {
        let form = form_of(dimension);
        rows.push(vec![
            whose.to_owned(),
            dimension.clone(),
            show(Some(&account["used"]), form, now),
            match &account["limit"] {
                Value::Null => "unlimited".into(),
                limit => show(Some(limit), form, now),
            },
            show(Some(&account["available"]), form, now),
        ]);
    }
}

fn usage_text(data: &Value, now: Timestamp) -> String {
    let whole = [json!({"group": "whole tenant", "accounts": data["accounts"]})];
    let quotas = data["quotas"].as_array().into_iter().flatten();
    let mut rows = Vec::new();
    for level in whole.iter().chain(quotas) {
        let group = level["group"].as_str().unwrap_or_default();
        add_accounts(&mut rows, group, level, now);
    }
    of_cells(HEAD, &rows)
}

/// How an amount in a dimension is shown.
pub(crate) fn form_of(dimension: &str) -> Show {
    match dimension {
        "memory_mib" => Show::Mib,
        "storage_gib" => Show::Gib,
        "cpu_milli" => Show::CpuMilli,
        _ => Show::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_a_user_and_of_what_is_above() {
        let vms = |used, limit, available| json!({"vms": {"limit": limit, "used": used, "available": available}});
        let data = json!({"levels": [
            {"kind": "user", "name": "alice", "accounts": vms(1, json!(null), json!(null))},
            {"kind": "user_group", "name": "lab", "accounts": vms(2, json!(3), json!(1))},
        ]});
        assert_eq!(
            levels_text(&data, Timestamp::EPOCH),
            "\
WHERE           DIMENSION  USED  LIMIT      AVAILABLE
user alice      vms        1     unlimited  -
user group lab  vms        2     3          1"
        );
    }

    #[test]
    fn usage_at_all_levels() {
        let data = json!({
            "accounts": {
                "cpu_cores": {"limit": 8, "used": 3, "available": 5},
                "memory_mib": {"limit": 8192, "used": 384, "available": 7808},
                "vms": {"limit": null, "used": 3, "available": null},
            },
            "quotas": [{"group": "g1", "accounts": {"cpu_milli": {"limit": 4000, "used": 1500, "available": 2500}}}],
        });
        assert_eq!(
            usage_text(&data, Timestamp::EPOCH),
            "\
WHERE         DIMENSION   USED    LIMIT      AVAILABLE
whole tenant  cpu_cores   3       8          5
whole tenant  memory_mib  384MiB  8GiB       7808MiB
whole tenant  vms         3       unlimited  -
g1            cpu_milli   1.5     4          2.5"
        );
    }
}
