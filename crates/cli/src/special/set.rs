//! What is done to all members of a set.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};

use crate::bulk;
use crate::failure::Failure;
use crate::generic::{is_set, target, text, trial, write};
use crate::grammar::{option, switch, trying, verb, waiting, writing};
use crate::run::{Cluster, Run};

/// Most members of a set that something is done to.
const MEMBERS_MAX: usize = 100;

pub(crate) fn grammar(command: Command) -> Command {
    let verb = |name, about| trying(writing(verb(name, about)));
    command
        .subcommand(waiting(verb("start", "Let all of its VMs run")))
        .subcommand(
            waiting(verb("stop", "Shut all of its VMs down"))
                .arg(switch("force", "At once, without asking the guests")),
        )
        .subcommand(
            verb("snapshot", "Take a snapshot of each of its VMs")
                .arg(option("as", "NAME", "What each snapshot is called").required(true)),
        )
}

pub(crate) async fn act(
    run: &Run,
    cluster: &Cluster,
    verb: &str,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let tenant = text(matches, "tenant");
    let members = Call::new(Method::Get, &["instance_set_members"])?
        .query("parent", target(matches))
        .query_if("tenant", tenant);
    // In the order in which they are told of.
    let members = cluster.client.list(&members, MEMBERS_MAX).await?.rows;
    let members: Vec<(Value, String)> = members
        .iter()
        .map(|member| {
            // Of an instance that a VM realises, it is done to the VM.
            let is_vm = member["spec"]["vm_id"].is_string();
            let (field, id) = if is_vm {
                ("vm", "vm_id")
            } else {
                ("instance", "instance_id")
            };
            let name = member["names"][field].as_str().unwrap_or_default();
            (member["spec"][id].clone(), format!("{field} {name}"))
        })
        .collect();
    let (body, did) = match verb {
        "start" => (json!({}), "started"),
        "stop" => (json!({"force": is_set(matches, "force")}), "stopped"),
        _ => (json!({"name": text(matches, "as")}), "snapshot recorded"),
    };
    let call = Call::new(Method::Post, &["instance_sets", target(matches), verb])?
        .query_if("tenant", tenant)
        .query_if("dry_run", trial(matches))
        .body(body);
    let answer = cluster.client.send(&write(call, matches)).await?;
    if members.is_empty() {
        run.output
            .remark("the set has no members: nothing was done");
    }
    bulk::outcomes(run, cluster, matches, &answer.data, &members, did).await
}
