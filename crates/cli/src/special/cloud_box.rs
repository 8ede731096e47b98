//! What a cloud box tells of itself, sent by hand or by a script on it.

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::{report, target, text, trial, write};
use crate::grammar::{option, trying, verb, writing};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::wait::Patience;

/// Options: name, field, what stands behind it, what it is.
const TELLS: &[(&str, &str, &str, &str)] = &[
    (
        "firmware",
        "firmware_version",
        "VERSION",
        "The firmware it runs",
    ),
    ("address", "address", "ADDRESS", "The address it has"),
    ("mac", "mac", "MAC", "The address of its network card"),
    ("error", "error", "TEXT", "What is wrong with it"),
    ("cpu", "cpu_used_percent", "PERCENT", "CPU in use"),
    ("memory", "memory_used_percent", "PERCENT", "Memory in use"),
    (
        "storage",
        "storage_used_percent",
        "PERCENT",
        "Storage in use",
    ),
    (
        "temperature",
        "temperature_celsius",
        "DEGREES",
        "Its temperature, Celsius",
    ),
    (
        "uptime",
        "uptime_s",
        "SECONDS",
        "Seconds since it was switched on",
    ),
];
/// The first of these are texts, the others numbers.
const TEXTS: usize = 4;

pub(crate) fn grammar(command: Command) -> Command {
    let heartbeat = verb(
        "heartbeat",
        "Tell of a box: that it is there, and how it is",
    );
    let heartbeat = TELLS
        .iter()
        .fold(heartbeat, |command, (name, _, value, help)| {
            command.arg(option(name, value, help).allow_hyphen_values(true))
        });
    command.subcommand(trying(writing(heartbeat)))
}

pub(crate) async fn heartbeat(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let mut told = Map::new();
    for (at, (name, field, ..)) in TELLS.iter().enumerate() {
        let Some(given) = text(matches, name) else {
            continue;
        };
        let value = if at < TEXTS {
            given.into()
        } else {
            number(given)
                .ok_or_else(|| Failure::usage(format!("--{name}: `{given}` is no number")))?
        };
        told.insert((*field).to_owned(), value);
    }
    let call = Call::new(Method::Post, &["cloud_boxes", target(matches), "heartbeat"])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("dry_run", trial(matches))
        .body(json!({"report": told}));
    let answer = cluster.client.send(&write(call, matches)).await?;
    report(run, cluster, noun, "heard", answer, Patience::of(matches)).await
}

/// Whole if it is written so.
fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| json!(number))
}
