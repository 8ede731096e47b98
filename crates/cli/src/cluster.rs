//! The cluster as a whole: status, capacity, and whether its books are right.

use serde_json::{Value, json};
use virtflow_client::{Call, Method};
use virtflow_types::Timestamp;

use crate::failure::{Failure, exit};
use crate::noun::Show;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::special::form_of;
use crate::table::{of_cells, show};

/// Dimensions of hosts and groups, in the order of the table.
const DIMENSIONS: &[(&str, &str)] = &[
    ("cpu_milli", "CPU"),
    ("memory_mib", "MEMORY"),
    ("storage_gib", "STORAGE"),
    ("gpus", "GPUS"),
];

/// Divergences that are shown to people.
const DIVERGENCES_SHOWN_MAX: usize = 50;

async fn ask(cluster: &Cluster, what: &str) -> Result<Value, Failure> {
    let call = Call::new(Method::Get, &[what])?;
    Ok(cluster.client.send(&call).await?.data)
}

pub(crate) async fn status(run: &Run, cluster: &Cluster) -> Result<(), Failure> {
    let data = ask(cluster, "status").await?;
    run.output.data(&data, |data| status_text(data, run.now))
}

fn status_text(data: &Value, now: Timestamp) -> String {
    let plain = |value: &Value| show(Some(value), Show::Plain, now);
    let mut parts = vec![safe::line(&format!(
        "leader: {}, term {}, index {}",
        match &data["leader"] {
            Value::Null => "none".into(),
            leader => plain(leader),
        },
        plain(&data["term"]),
        plain(&data["index"]),
    ))];
    let rows: Vec<Vec<String>> = items(&data["controllers"])
        .map(|controller| {
            let role = match controller["is_leader"] == true {
                true => "leader".into(),
                false => plain(&controller["role"]),
            };
            vec![
                plain(&controller["name"]),
                role,
                plain(&controller["lag"]),
                plain(&controller["api_address"]),
            ]
        })
        .collect();
    parts.push(of_cells(&["CONTROLLER", "ROLE", "LAG", "API"], &rows));
    // What else the cluster tells is shown as it is told: counts by word, lists, single values.
    let shown = ["leader", "term", "index", "controllers", "node", "cluster"];
    let Value::Object(fields) = data else {
        return parts.join("\n");
    };
    for (field, value) in fields {
        if !shown.contains(&field.as_str()) {
            parts.push(safe::block(&told(field, value)));
        }
    }
    parts.join("\n")
}

/// A field of the status as one line, or as lines below its name where it is a list.
fn told(field: &str, value: &Value) -> String {
    let name = field.replace('_', " ");
    match value {
        Value::Object(fields)
            if fields
                .values()
                .all(|value| !value.is_object() && !value.is_array()) =>
        {
            let parts: Vec<String> = fields
                .iter()
                .map(|(word, value)| format!("{} {}", word.replace('_', " "), bare(value)))
                .collect();
            format!(
                "{name}: {}",
                if parts.is_empty() {
                    "none".into()
                } else {
                    parts.join(", ")
                }
            )
        }
        Value::Object(fields) => {
            let lines: Vec<String> = fields
                .iter()
                .map(|(word, value)| format!("\n  {}", told(word, value).replace('\n', "\n  ")))
                .collect();
            format!("{name}:{}", lines.concat())
        }
        Value::Array(items) if items.is_empty() => format!("{name}: none"),
        Value::Array(items) => {
            let lines: Vec<String> = items
                .iter()
                .map(|item| format!("\n  {}", one_line(item)))
                .collect();
            format!("{name}:{}", lines.concat())
        }
        other => format!("{name}: {}", bare(other)),
    }
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let parts: Vec<String> = fields
                .iter()
                .map(|(word, value)| format!("{} {}", word.replace('_', " "), bare(value)))
                .collect();
            parts.join(", ")
        }
        other => bare(other),
    }
}

fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Exits with 1 if anything diverges.
pub(crate) async fn verify(run: &Run, cluster: &Cluster) -> Result<(), Failure> {
    let data = ask(cluster, "verify").await?;
    let found = data["divergences"].as_array().map_or(0, Vec::len);
    run.output.data(&data, verify_text)?;
    if found == 0 {
        return Ok(());
    }
    Err(Failure::new(exit::FAILURE, "diverged", format!("{found} divergences were found"))
        .advise("keep the data folders and the logs, and compare the controllers with `virtflow-controller verify`")
        .with_details(json!({ "divergences": found })))
}

fn verify_text(data: &Value) -> String {
    let count = |name: &str| bare(&data[name]);
    let mut lines = vec![format!(
        "{} objects and {} accounts were derived again",
        count("objects"),
        count("accounts")
    )];
    let found: Vec<&Value> = items(&data["divergences"]).collect();
    lines.push(match found.len() {
        0 => "nothing diverges".into(),
        n => format!("{n} diverge:"),
    });
    for each in found.iter().take(DIVERGENCES_SHOWN_MAX) {
        lines.push(format!("  {}", safe::line(&one_line(each))));
    }
    if found.len() > DIVERGENCES_SHOWN_MAX {
        lines.push(format!(
            "  and {} more: see -o json",
            found.len() - DIVERGENCES_SHOWN_MAX
        ));
    }
    lines.join("\n")
}

pub(crate) async fn capacity(run: &Run, cluster: &Cluster) -> Result<(), Failure> {
    let data = ask(cluster, "capacity").await?;
    run.output.data(&data, |data| capacity_text(data, run.now))
}

fn capacity_text(data: &Value, now: Timestamp) -> String {
    let mut heads = vec!["GROUP", "HOST", "LIVENESS", "VMS"];
    heads.extend(DIMENSIONS.iter().map(|(_, head)| *head));
    heads.push("LOAD");
    let plain = |value: &Value| show(Some(value), Show::Plain, now);
    let amounts = |entry: &Value| -> Vec<String> {
        let cells = DIMENSIONS.iter().map(|(dimension, _)| {
            let amount = |part: &str| show(Some(&entry[part][*dimension]), form_of(dimension), now);
            if entry["total"][*dimension].is_null() {
                "-".into()
            } else {
                format!("{} of {}", amount("allocated"), amount("total"))
            }
        });
        cells.collect()
    };
    let mut rows = Vec::new();
    for group in items(&data["groups"]) {
        let mut row = vec![plain(&group["name"]), "all".into(), "-".into(), "-".into()];
        row.extend(amounts(group));
        row.push("-".into());
        rows.push(row);
        for host in items(&group["hosts"]) {
            let mut state = plain(&host["liveness"]);
            for (word, usual) in [
                (&host["health"], &["unknown", "healthy"][..]),
                (&host["state"], &["active"]),
            ] {
                if let Some(word) = word.as_str().filter(|word| !usual.contains(word)) {
                    state = format!("{state}, {word}");
                }
            }
            let mut row = vec![
                String::new(),
                plain(&host["name"]),
                state,
                plain(&host["vms"]),
            ];
            row.extend(amounts(host));
            row.push(match host["live"]["load1_milli"].as_u64() {
                Some(milli) => format!("{}.{:02}", milli / 1000, milli % 1000 / 10),
                None => "-".into(),
            });
            rows.push(row);
        }
    }
    of_cells(&heads, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_at_a_glance() {
        let data = json!({
            "leader": "c1", "term": 3, "index": 120,
            "controllers": [
                {"name": "c1", "role": "voter", "is_leader": true, "lag": 0, "api_address": "10.0.0.1:8443"},
                {"name": "c2", "role": "voter", "is_leader": false, "lag": null, "api_address": "10.0.0.2:8443"},
            ],
            "hosts": {"online": 2, "offline": 0},
            "overdue": [{"kind": "virtual_machine", "name": "web\u{1b}[1m"}],
            "residues": [],
            "node": {"digest": "ff"},
        });
        assert_eq!(
            status_text(&data, Timestamp::EPOCH),
            "\
leader: c1, term 3, index 120
CONTROLLER  ROLE    LAG  API
c1          leader  0    10.0.0.1:8443
c2          voter   -    10.0.0.2:8443
hosts: offline 0, online 2
overdue:
  kind virtual_machine, name web\\u{1b}[1m
residues: none"
        );
        let nobody = json!({"leader": null, "term": 4, "index": 9, "controllers": []});
        assert!(status_text(&nobody, Timestamp::EPOCH).starts_with("leader: none, term 4"));
    }

    #[test]
    fn what_is_taken_of_what_there_is() {
        let amounts = |cpu: u64, memory: u64, storage: u64, gpus: u64| json!({"cpu_milli": cpu, "memory_mib": memory, "storage_gib": storage, "gpus": gpus});
        let data = json!({"groups": [{
            "name": "g1",
            "total": amounts(8000, 2048, 40, 2), "allocated": amounts(1000, 128, 1, 1),
            "hosts": [{
                "name": "h1", "liveness": "online", "health": "healthy", "state": "cordoned", "vms": 1,
                "total": amounts(4000, 1024, 20, 2), "allocated": amounts(1000, 128, 1, 1),
                "live": {"load1_milli": 1250},
            }, {
                "name": "h2", "liveness": "online", "health": "warning", "state": "active", "vms": 0,
                "total": amounts(4000, 1024, 20, 0), "allocated": amounts(0, 0, 0, 0),
            }],
        }]});
        assert_eq!(
            capacity_text(&data, Timestamp::EPOCH),
            "\
GROUP  HOST  LIVENESS          VMS  CPU     MEMORY          STORAGE        GPUS    LOAD
g1     all   -                 -    1 of 8  128MiB of 2GiB  1GiB of 40GiB  1 of 2  -
       h1    online, cordoned  1    1 of 4  128MiB of 1GiB  1GiB of 20GiB  1 of 2  1.25
       h2    online, warning   0    0 of 4  0 of 1GiB       0 of 20GiB     0 of 0  -"
        );
    }

    #[test]
    fn divergences_are_listed_up_to_a_limit() {
        let sound = json!({"objects": 7, "accounts": 3, "divergences": []});
        assert_eq!(
            verify_text(&sound),
            "7 objects and 3 accounts were derived again\nnothing diverges"
        );
        let many: Vec<Value> = (0..51).map(|n| json!(format!("account {n}"))).collect();
        let text = verify_text(&json!({"objects": 7, "accounts": 3, "divergences": many}));
        assert_eq!(
            text.lines().count(),
            2 + DIVERGENCES_SHOWN_MAX + 1,
            "{text}"
        );
        assert!(text.ends_with("and 1 more: see -o json"), "{text}");
    }
}
