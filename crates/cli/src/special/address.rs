//! Addresses of pools: who gets one, and whether it can be had.

use std::time::Duration;

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};

use crate::amount;
use crate::failure::Failure;
use crate::generic::{report, target, text, trial, write};
use crate::grammar::{option, trying, verb, writing};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::spec::expiry;
use crate::wait::Patience;

/// What is done to an address, and what it is then.
const ACTS: &[(&str, &str, &str)] = &[
    ("release", "Take it back from who has it", "released"),
    (
        "reserve",
        "Give it only to who asks for this very one",
        "reserved",
    ),
    (
        "freeze",
        "Give it to nobody, and leave it with who has it",
        "frozen",
    ),
    (
        "unfreeze",
        "Let it be what it was before it was frozen",
        "unfrozen",
    ),
];

pub(crate) fn of_pools(command: Command) -> Command {
    let allocate = trying(writing(verb("allocate", "Give an address of it to a VM")))
        .arg(option("vm", "VM", "The VM that gets it, by name or id").required(true))
        .arg(option(
            "address",
            "ADDRESS",
            "This very one, which may be reserved; the lowest that can be had if left out",
        ))
        .arg(
            option(
                "count",
                "NUMBER",
                "How many in a row, up to 64, which go back together; one if left out",
            )
            .value_parser(clap::value_parser!(u32).range(1..=64)),
        )
        .arg(
            option(
                "lease",
                "SPAN",
                "It goes back to the pool by itself then, 8h from now",
            )
            .value_parser(amount::span),
        );
    command.subcommand(allocate)
}

pub(crate) fn of_addresses(command: Command) -> Command {
    let acts = ACTS.iter();
    acts.fold(command, |command, (name, about, _)| {
        command.subcommand(trying(writing(verb(name, about))))
    })
}

pub(crate) async fn allocate(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let mut body = json!({ "vm": text(matches, "vm") });
    if let Some(address) = text(matches, "address") {
        body["address"] = address.into();
    }
    if let Some(count) = matches.get_one::<u32>("count") {
        body["count"] = (*count).into();
    }
    if let Some(span) = matches.get_one::<Duration>("lease") {
        let until = expiry(*span, run.now).map_err(Failure::usage)?;
        body["leased_until"] = until.to_string().into();
    }
    let call = Call::new(Method::Post, &["ip_pools", target(matches), "allocate"])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("dry_run", trial(matches))
        .body(body);
    let answer = cluster.client.send(&write(call, matches)).await?;
    if answer.tried {
        return report(
            run,
            cluster,
            noun,
            "allocated",
            answer,
            Patience::of(matches),
        )
        .await;
    }
    run.output.data(&answer.data, |given| {
        let (address, owner) = (address_of(given), &given["names"]["owner"]);
        let owner = owner.as_str().unwrap_or_default();
        let told = match given["status"]["range_size"].as_u64() {
            Some(size) => format!("{address} and the {} behind it are {owner}'s", size - 1),
            None => format!("{address} is {owner}'s"),
        };
        safe::line(&told)
    })
}

pub(crate) async fn act(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    verb: &str,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let did = ACTS.iter().find(|(name, ..)| *name == verb);
    let did = did.map_or(verb, |(_, _, did)| did);
    let call = Call::new(Method::Post, &["ip_addresses", target(matches), verb])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("dry_run", trial(matches))
        .body(json!({}));
    let answer = cluster.client.send(&write(call, matches)).await?;
    if answer.tried {
        return report(run, cluster, noun, did, answer, Patience::of(matches)).await;
    }
    run.output.data(&answer.data, |object| {
        safe::line(&format!("{} {did}", address_of(object)))
    })
}

fn address_of(object: &Value) -> &str {
    object["spec"]["address"].as_str().unwrap_or_default()
}
