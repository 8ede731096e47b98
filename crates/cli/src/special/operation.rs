//! Waiting for operations, and giving them up.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::{report, target, trial, write};
use crate::grammar::{WAIT_DEFAULT, option, target as target_arg, trying, writing};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::wait::{Patience, until_done};

pub(crate) fn grammar(command: Command) -> Command {
    command
        .subcommand(
            Command::new("wait")
                .about("Wait until it is done")
                .arg(target_arg())
                .arg(
                    option("timeout", "SPAN", "How long to wait")
                        .default_value(WAIT_DEFAULT)
                        .value_parser(crate::amount::span),
                ),
        )
        .subcommand(trying(writing(
            Command::new("cancel")
                .about("Give it up, where that is still possible")
                .arg(target_arg()),
        )))
}

pub(crate) async fn wait(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["operations", target(matches)])?;
    let operation = cluster.client.send(&call).await?.data;
    let timeout = Patience::of(matches).timeout;
    let operation = until_done(run, cluster, &operation, timeout).await?;
    run.output.data(&operation, |operation| {
        let text = |pointer| {
            operation
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("?")
        };
        safe::line(&format!(
            "{} {}: {}",
            text("/spec/verb"),
            text("/spec/target_name"),
            text("/status/state")
        ))
    })
}

pub(crate) async fn cancel(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Post, &["operations", target(matches), "cancel"])?
        .query_if("dry_run", trial(matches))
        .body(json!({}));
    let mut answer = cluster.client.send(&write(call, matches)).await?;
    // The operation is the object here, wherever it stands in the answer.
    if !answer.data["operation"].is_null() {
        answer.data = answer.data["operation"].take();
    }
    report(
        run,
        cluster,
        noun,
        "cancelled",
        answer,
        Patience::of(matches),
    )
    .await
}
