//! The membership of the cluster.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::{report, target, trial, write};
use crate::grammar::{option, target as target_arg, trying, writing};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::special::tokens;
use crate::wait::Patience;

pub(crate) fn grammar(command: Command) -> Command {
    let verb = |name: &'static str, about: &'static str| {
        trying(writing(Command::new(name).about(about).arg(target_arg())))
    };
    command
        .subcommand(trying(writing(
            Command::new("add")
                .about("Make a one-time right to join, and say how it is used")
                .arg(
                    clap::Arg::new("target")
                        .value_name("NAME")
                        .required(true)
                        .help("Name of the new controller"),
                )
                .arg(option("ttl", "SPAN", "How long the right is good, 15m")),
        )))
        .subcommand(verb("promote", "Let a learner vote"))
        .subcommand(verb("remove", "Take it out for good"))
        .subcommand(trying(writing(
            Command::new("hand-over").about("Let another controller lead"),
        )))
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
    let call = Call::new(Method::Post, &["controllers", target(matches), "promote"])?
        .query_if("dry_run", trial(matches))
        .body(json!({}));
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
    let call = Call::new(Method::Delete, &["controllers", target(matches)])?
        .query_if("dry_run", trial(matches));
    let answer = cluster.client.send(&write(call, matches)).await?;
    report(run, cluster, noun, "removed", answer, Patience::of(matches)).await
}

pub(crate) async fn hand_over(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = handing_over(matches)?;
    let answer = cluster.client.send(&write(call, matches)).await?;
    run.output.data(&answer.data, |data| {
        match data.pointer("/leader/name").and_then(Value::as_str) {
            Some(name) => safe::line(&format!("leadership was handed over to {name}")),
            None if answer.tried => "leadership would be handed over; nothing was done".into(),
            None => "leadership was handed over".into(),
        }
    })
}

fn handing_over(matches: &ArgMatches) -> Result<Call, Failure> {
    let call = Call::new(Method::Post, &["controllers", "hand-over"])?;
    Ok(call.query_if("dry_run", trial(matches)).body(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trial that were none would hand over.
    #[test]
    fn handing_over_is_only_tried_if_that_is_asked() {
        let call = |line: &[&str]| {
            let matches = grammar(Command::new("controller")).get_matches_from(line);
            let (_, matches) = matches.subcommand().unwrap();
            format!("{:?}", handing_over(matches).unwrap())
        };
        let tried = call(&["controller", "hand-over", "--dry-run"]);
        assert!(tried.contains(r#"query: [("dry_run", "true")]"#), "{tried}");
        let done = call(&["controller", "hand-over"]);
        assert!(done.contains("query: []"), "{done}");
    }
}
