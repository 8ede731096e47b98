//! The membership of the cluster.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::{report, target, write};
use crate::grammar::{option, target as target_arg, writing};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::special::tokens;
use crate::wait::Patience;

pub(crate) fn grammar(command: Command) -> Command {
    let verb = |name: &'static str, about: &'static str| {
        writing(Command::new(name).about(about).arg(target_arg()))
    };
    command
        .subcommand(writing(
            Command::new("add")
                .about("Make a one-time right to join, and say how it is used")
                .arg(
                    clap::Arg::new("target")
                        .value_name("NAME")
                        .required(true)
                        .help("Name of the new controller"),
                )
                .arg(option("ttl", "SPAN", "How long the right is good, 15m")),
        ))
        .subcommand(verb("promote", "Let a learner vote"))
        .subcommand(verb("remove", "Take it out for good"))
        .subcommand(writing(
            Command::new("hand-over").about("Let another controller lead"),
        ))
}

pub(crate) async fn add(run: &Run, cluster: &Cluster, matches: &ArgMatches) -> Result<(), Failure> {
    let mut spec = json!({"role": "controller", "host_name": target(matches)});
    tokens::with_expiry(&mut spec, "ttl", matches, run.now)?;
    tokens::invite(run, cluster, spec, matches).await
}

pub(crate) async fn promote(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call =
        Call::new(Method::Post, &["controllers", target(matches), "promote"])?.body(json!({}));
    let answer = cluster.client.send(&write(call, matches)).await?;
    report(
        run,
        cluster,
        noun,
        "promoted",
        answer,
        Patience::of(matches),
    )
    .await
}

pub(crate) async fn remove(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Delete, &["controllers", target(matches)])?;
    let answer = cluster.client.send(&write(call, matches)).await?;
    report(run, cluster, noun, "removed", answer, Patience::of(matches)).await
}

pub(crate) async fn hand_over(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Post, &["controllers", "hand-over"])?.body(json!({}));
    let data = cluster.client.send(&write(call, matches)).await?.data;
    run.output.data(&data, |data| {
        match data.pointer("/leader/name").and_then(Value::as_str) {
            Some(name) => safe::line(&format!("leadership was handed over to {name}")),
            None => "leadership was handed over".into(),
        }
    })
}
