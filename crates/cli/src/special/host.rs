//! Cordoning hosts, and the end of a quarantine.

use clap::{ArgMatches, Command};
use serde_json::json;
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::{report, target, write};
use crate::grammar::{switch, target as target_arg, writing};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::wait::Patience;

pub(crate) fn grammar(command: Command) -> Command {
    let verb = |name: &'static str, about: &'static str| {
        writing(Command::new(name).about(about).arg(target_arg()))
    };
    command
        .subcommand(verb(
            "cordon",
            "Place no more VMs there; those it has go on",
        ))
        .subcommand(verb("uncordon", "Place VMs there again"))
        .subcommand(verb(
            "release-quarantine",
            "Believe it again, after two machines had its key",
        ))
        .mut_subcommand("delete", |delete| {
            delete.arg(switch("force", "Also with VMs that are lost with it"))
        })
}

pub(crate) async fn act(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    verb: &str,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Post, &["hosts", target(matches), verb])?.body(json!({}));
    let answer = cluster.client.send(&write(call, matches)).await?;
    let did = match verb {
        "cordon" => "cordoned",
        "uncordon" => "uncordoned",
        _ => "released from quarantine",
    };
    report(run, cluster, noun, did, answer, Patience::of(matches)).await
}
