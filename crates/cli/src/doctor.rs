//! `virtflow doctor`: what is wrong with the cluster, since when, and what to do about it, for whoever is on call. It reads
//! what the API tells to those who may see the whole system and changes nothing.

mod rules;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use virtflow_client::{Call, ClientError, Method};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, Timestamp};

use self::rules::findings;
use crate::failure::{Failure, exit};
use crate::run::{Cluster, Run};
use crate::{amount, safe};

/// Objects of one sort that are looked at; more are only said to be there.
const EACH_MAX: usize = 100;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Much does not work, or data is in danger.
    Critical,
    /// Something does not work.
    Error,
    /// It may become worse.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq)]
struct Finding {
    severity: Severity,
    /// One word for programs.
    code: &'static str,
    /// What it is about, as people call it.
    object: String,
    id: Option<String>,
    since: Option<Timestamp>,
    what: String,
    /// A command, or what else to do.
    advice: String,
}

/// What was read.
#[derive(Debug, Default)]
struct Seen {
    status: Value,
    capacity: Value,
    /// Hosts that are not online, as objects.
    hosts: Vec<Value>,
    vms: Vec<Value>,
    operations: Vec<Value>,
    residues: Vec<Value>,
    alerts: Vec<Value>,
    divergences: Vec<Value>,
    /// Kinds of which there is more than was looked at.
    more: Vec<&'static str>,
}

/// Carries out `virtflow doctor`. Ends with an exit code of its own if anything was found.
pub(crate) async fn doctor(run: &Run, cluster: &Cluster, verify: bool) -> Result<(), Failure> {
    let found = find(cluster, run.now, verify).await?;
    run.output
        .data(&told(&found, verify), |_| text(&found, run.now))?;
    match found.len() {
        0 => Ok(()),
        n => Err(Failure::new(exit::FOUND, "found", format!("{n} findings"))),
    }
}

/// What it would say, for programs.
pub(crate) async fn report(cluster: &Cluster, now: Timestamp) -> Result<Value, Failure> {
    Ok(told(&find(cluster, now, false).await?, false))
}

async fn find(cluster: &Cluster, now: Timestamp, verify: bool) -> Result<Vec<Finding>, Failure> {
    let seen = look(cluster, verify).await?;
    let mut found = findings(&seen, now);
    found.sort_by_key(|it| (it.severity, it.since.unwrap_or(now)));
    Ok(found)
}

fn told(found: &[Finding], verify: bool) -> Value {
    json!({
        "findings": found.iter().map(to_json).collect::<Value>(),
        "verified": verify,
    })
}

async fn look(cluster: &Cluster, verify: bool) -> Result<Seen, Failure> {
    let ask = async |path: &[&str]| -> Result<Value, ClientError> {
        let call = Call::new(Method::Get, path)?;
        Ok(cluster.client.send(&call).await?.data)
    };
    let mut seen = Seen {
        status: ask(&["status"]).await?,
        capacity: ask(&["capacity"]).await?,
        ..Seen::default()
    };
    for host in hosts_of(&seen.capacity) {
        let is_well = matches!(host["liveness"].as_str(), Some("online" | "never"));
        if is_well {
            continue;
        }
        if seen.hosts.len() == EACH_MAX {
            seen.more.push("hosts that are not online");
            break;
        }
        match ask(&["baremetals", host["id"].as_str().unwrap_or_default()]).await {
            Ok(host) => seen.hosts.push(host),
            // It went meanwhile.
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut list = async |kind: Kind, by: &str, word: &str| -> Result<Vec<Value>, ClientError> {
        let call = Call::new(Method::Get, &[kind.plural()])?;
        let call = if by.is_empty() {
            call
        } else {
            call.query(by, word)
        };
        let listed = cluster.client.list(&call, EACH_MAX).await?;
        if listed.more {
            seen.more.push(kind.plural());
        }
        Ok(listed.rows)
    };
    let vms = list(Kind::VirtualMachine, "phase", "error").await?;
    let operations = list(Kind::Operation, "state", "pending").await?;
    let residues = list(Kind::Residue, "", "").await?;
    let alerts = list(Kind::Alert, "state", "active").await?;
    (seen.vms, seen.operations, seen.residues, seen.alerts) = (vms, operations, residues, alerts);
    if verify {
        let report = ask(&["verify"]).await?;
        seen.divergences = report["divergences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
    }
    Ok(seen)
}

fn hosts_of(capacity: &Value) -> impl Iterator<Item = &Value> {
    items(&capacity["groups"]).flat_map(|group| items(&group["hosts"]))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn to_json(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.word(),
        "code": finding.code,
        "object": finding.object,
        "id": finding.id,
        "since": finding.since,
        "what": finding.what,
        "do": finding.advice,
    })
}

fn text(found: &[Finding], now: Timestamp) -> String {
    if found.is_empty() {
        return "nothing is wrong that can be seen from here".into();
    }
    let blocks = found.iter().map(|it| {
        let since = it
            .since
            .map(|since| format!(", for {}", amount::show_span(now.since(since))));
        safe::block(&format!(
            "{}: {}{}\n    {}\n    do: {}",
            it.severity.word(),
            safe::line(&it.object),
            since.unwrap_or_default(),
            safe::line(&it.what),
            safe::line(&it.advice)
        ))
    });
    blocks.collect::<Vec<_>>().join("\n")
}
