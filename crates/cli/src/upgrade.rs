//! `virtflow upgrade`: which releases run together, and the end of an upgrade.

use serde_json::Value;
use virtflow_client::{Call, Method};
use virtflow_types::Timestamp;

use crate::confirm::{can_ask, confirm};
use crate::failure::Failure;
use crate::grammar::UpgradeCommand;
use crate::noun::Show;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::table::{of_cells, show};

/// Carries out one of its commands.
pub(crate) async fn run(
    run: &Run,
    cluster: &Cluster,
    command: &UpgradeCommand,
) -> Result<(), Failure> {
    match command {
        UpgradeCommand::Status => {
            let data = look(cluster).await?;
            run.output.data(&data, |data| status_text(data, run.now))
        }
        UpgradeCommand::Finish { dry_run, yes } => finish(run, cluster, *dry_run, *yes).await,
    }
}

async fn look(cluster: &Cluster) -> Result<Value, Failure> {
    let call = Call::new(Method::Get, &["upgrade"])?;
    Ok(cluster.client.send(&call).await?.data)
}

async fn finish(
    run: &Run,
    cluster: &Cluster,
    is_tried: bool,
    is_sure: bool,
) -> Result<(), Failure> {
    if !is_tried && !is_sure {
        if !can_ask() {
            return Err(Failure::usage(
                "`upgrade finish` cannot be taken back, and nobody can be asked here",
            )
            .advise("look at what it would do with --dry-run, then give --yes"));
        }
        // Where it is refused or changes nothing, there is nothing to ask.
        if let Some(version) = look(cluster).await?["raise_to"].as_u64() {
            confirm(&format!(
                "{}\nraise the cluster version to {version}?",
                no_way_back(version)
            ))?;
        }
    }
    let call = Call::new(Method::Post, &["upgrade", "finish"])?
        .query_if("dry_run", is_tried.then_some("true"))
        .body(serde_json::json!({}))
        .once();
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, |data| finish_text(data, is_tried))
}

fn no_way_back(version: u64) -> String {
    format!(
        "after this no controller can go back to a release that does not support cluster version {version}"
    )
}

fn finish_text(data: &Value, is_tried: bool) -> String {
    let version = data["cluster_version"].as_u64().unwrap_or_default();
    // An earlier request's answer, told again, does not say what was before it.
    let before = data["before"].as_u64().unwrap_or(version);
    match (before == version, is_tried) {
        (true, _) => format!("the cluster is at version {version}"),
        (false, true) => format!(
            "the cluster version would rise from {before} to {version}; {}",
            no_way_back(version)
        ),
        (false, false) => format!("the cluster version rose from {before} to {version}"),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn status_text(data: &Value, now: Timestamp) -> String {
    let plain = |value: &Value| show(Some(value), Show::Plain, now);
    let blocks: Vec<&Value> = items(&data["blocks"]).collect();
    let what_now = match (data["raise_to"].as_u64(), blocks.is_empty()) {
        (Some(version), _) => format!("can rise to {version}: `virtflow upgrade finish`"),
        (None, true) => "no controller supports a higher one".to_owned(),
        (None, false) => "cannot rise yet".to_owned(),
    };
    let rows: Vec<Vec<String>> = items(&data["controllers"])
        .map(|controller| {
            vec![
                plain(&controller["name"]),
                match controller["is_leader"] == true {
                    true => "leader".into(),
                    false => plain(&controller["role"]),
                },
                plain(&controller["version"]),
                plain(&controller["supports"]),
                plain(&controller["seen"]),
                plain(&controller["matched"]),
                plain(&controller["lag"]),
            ]
        })
        .collect();
    let agents: Vec<Vec<String>> = data["agents"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(version, hosts)| vec![safe::line(version), plain(hosts)])
        .collect();
    let mut parts = vec![
        format!(
            "cluster version: {}, {what_now}",
            plain(&data["cluster_version"])
        ),
        of_cells(
            &[
                "CONTROLLER",
                "ROLE",
                "VERSION",
                "SUPPORTS",
                "SEEN",
                "INDEX",
                "LAG",
            ],
            &rows,
        ),
    ];
    if !agents.is_empty() {
        parts.push(of_cells(&["AGENT", "HOSTS"], &agents));
    }
    for block in blocks {
        let line = format!(
            "{}: {}\n    do: {}",
            plain(&block["controller"]),
            plain(&block["why"]),
            plain(&block["advice"])
        );
        parts.push(safe::block(&line));
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn controller(name: &str, supports: u32, is_leader: bool) -> Value {
        json!({
            "name": name, "role": "voter", "is_leader": is_leader, "version": "0.2.0", "supports": supports,
            "seen": true, "matched": 120, "lag": 0,
        })
    }

    #[test]
    fn a_mixed_group_and_what_stands_in_its_way() {
        let mut silent = controller("c2", 1, false);
        silent["seen"] = json!(false);
        silent["lag"] = json!(7);
        let data = json!({
            "cluster_version": 1, "raise_to": null,
            "controllers": [controller("c1", 2, true), silent],
            "agents": {"0.1.0": 3, "0.2.0": 1},
            "blocks": [{
                "controller": "c2", "why": "it supports cluster version 1, others 2",
                "advice": "install the newer release on its machine and restart it",
            }],
        });
        assert_eq!(
            status_text(&data, Timestamp::EPOCH),
            "\
cluster version: 1, cannot rise yet
CONTROLLER  ROLE    VERSION  SUPPORTS  SEEN  INDEX  LAG
c1          leader  0.2.0    2         yes   120    0
c2          voter   0.2.0    1         no    120    7
AGENT  HOSTS
0.1.0  3
0.2.0  1
c2: it supports cluster version 1, others 2
    do: install the newer release on its machine and restart it"
        );
    }

    #[test]
    fn what_is_to_be_done_next_is_on_the_first_line() {
        for (raise_to, line) in [
            (
                json!(2),
                "cluster version: 1, can rise to 2: `virtflow upgrade finish`",
            ),
            (
                Value::Null,
                "cluster version: 1, no controller supports a higher one",
            ),
        ] {
            let data = json!({
                "cluster_version": 1, "raise_to": raise_to, "controllers": [], "agents": {}, "blocks": [],
            });
            let text = status_text(&data, Timestamp::EPOCH);
            assert_eq!(text.lines().next(), Some(line));
        }
    }

    #[test]
    fn an_end_says_what_it_did_and_what_it_would_do() {
        let raised = json!({"cluster_version": 2, "before": 1});
        assert_eq!(
            finish_text(&raised, false),
            "the cluster version rose from 1 to 2"
        );
        assert_eq!(
            finish_text(&raised, true),
            "the cluster version would rise from 1 to 2; after this no controller can go back to a release that does \
             not support cluster version 2"
        );
        for same in [
            json!({"cluster_version": 2, "before": 2}),
            json!({"cluster_version": 2}),
        ] {
            assert_eq!(finish_text(&same, false), "the cluster is at version 2");
        }
    }
}
