//! Cordoning hosts, the end of a quarantine, and domains that are not VirtFlow's.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::{report, target, trial, write};
use crate::grammar::{switch, target as target_arg, trying, writing};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::table::of_cells;
use crate::wait::Patience;

pub(crate) fn grammar(command: Command) -> Command {
    let verb = |name: &'static str, about: &'static str| {
        trying(writing(Command::new(name).about(about).arg(target_arg())))
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
        .subcommand(
            Command::new("domains")
                .about("Domains there that are not VirtFlow's, what they take, and whether they could be adopted")
                .arg(target_arg()),
        )
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
    let call = acting(verb, matches)?;
    let answer = cluster.client.send(&write(call, matches)).await?;
    let did = match verb {
        "cordon" => "cordoned",
        "uncordon" => "uncordoned",
        _ => "released from quarantine",
    };
    report(run, cluster, noun, did, answer, Patience::of(matches)).await
}

fn acting(verb: &str, matches: &ArgMatches) -> Result<Call, Failure> {
    let call = Call::new(Method::Post, &["hosts", target(matches), verb])?;
    Ok(call.query_if("dry_run", trial(matches)).body(json!({})))
}

pub(crate) async fn domains(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["hosts", target(matches), "domains"])?;
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, domains_text)
}

fn domains_text(data: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let amount = |value: &Value, unit: &str| format!("{} {unit}", value.as_u64().unwrap_or(0));
    let domains = data["domains"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = domains
        .map(|domain| {
            let obstacles = domain["obstacles"].as_array().into_iter().flatten();
            let obstacles: Vec<String> = obstacles.map(text).collect();
            let starts = if domain["autostart"] == true {
                "with the host"
            } else {
                ""
            };
            vec![
                text(&domain["name"]),
                text(&domain["domain_id"]),
                text(&domain["state"]),
                starts.to_owned(),
                domain["cpu_cores"].as_u64().unwrap_or(0).to_string(),
                amount(&domain["memory_mib"], "MiB"),
                amount(&domain["storage_gib"], "GiB"),
                domain["gpus"].as_u64().unwrap_or(0).to_string(),
                obstacles.join(", "),
            ]
        })
        .collect();
    let unlisted = data["unlisted"].as_u64().unwrap_or(0);
    if rows.is_empty() && unlisted == 0 {
        return "no domains but VirtFlow's".to_owned();
    }
    let table = of_cells(
        &[
            "NAME",
            "UUID",
            "STATE",
            "STARTS",
            "CPU",
            "MEMORY",
            "DISK",
            "GPUS",
            "IN THE WAY",
        ],
        &rows,
    );
    let take = &data["take"];
    let take = format!(
        "VMs cannot have {} vCPUs, {}, {} and {} GPUs of this host because of them",
        take["cpu_cores"].as_u64().unwrap_or(0),
        amount(&take["memory_mib"], "MiB"),
        amount(&take["storage_gib"], "GiB"),
        take["gpus"].as_u64().unwrap_or(0),
    );
    let more = match unlisted {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    format!("{table}\n{more}{}", safe::line(&take))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_left_alone_where_that_is_asked() {
        for verb in ["cordon", "uncordon", "release-quarantine"] {
            let call = |line: &[&str]| {
                // The shared verbs come from elsewhere.
                let nouns = Command::new("host").subcommand(Command::new("delete"));
                let matches = grammar(nouns).get_matches_from(line);
                let (_, matches) = matches.subcommand().unwrap();
                format!("{:?}", acting(verb, matches).unwrap())
            };
            let tried = call(&["host", verb, "h1", "--dry-run"]);
            assert!(tried.contains(r#"query: [("dry_run", "true")]"#), "{tried}");
            let done = call(&["host", verb, "h1"]);
            assert!(done.contains("query: []"), "{done}");
        }
    }

    #[test]
    fn domains_are_told_with_what_is_in_the_way() {
        let data = json!({
            "domains": [
                {"name": "old", "domain_id": "u1", "state": "running", "cpu_cores": 2, "memory_mib": 512, "storage_gib": 20},
                {"name": "gpu", "domain_id": "u2", "state": "off", "autostart": true, "cpu_cores": 4, "memory_mib": 1024,
                 "storage_gib": 0, "gpus": 2, "obstacles": ["passthrough"]},
            ],
            "unlisted": 3,
            "take": {"cpu_cores": 6, "memory_mib": 1536, "storage_gib": 20, "gpus": 2},
        });
        let lines: Vec<String> = domains_text(&data).lines().map(str::to_owned).collect();
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&lines[1])[..4], ["old", "u1", "running", "2"]);
        assert!(lines[2].contains("with the host"), "{lines:?}");
        assert_eq!(words(&lines[2])[9..], ["0", "GiB", "2", "passthrough"]);
        assert_eq!(lines[3], "and 3 more");
        assert_eq!(
            lines[4],
            "VMs cannot have 6 vCPUs, 1536 MiB, 20 GiB and 2 GPUs of this host because of them"
        );
        let none = json!({"domains": [], "unlisted": 0});
        assert_eq!(domains_text(&none), "no domains but VirtFlow's");
    }
}
