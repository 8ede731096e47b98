//! What counts as wrong: a rule for each sort of trouble, over what was read and the time.

use std::time::Duration;

use serde_json::Value;
use virtflow_model::Kind;
use virtflow_types::Timestamp;

use super::{EACH_MAX, Finding, Seen, Severity, hosts_of, items};
use crate::{amount, nouns};

/// A controller that has not answered the leader for so long is not heard.
const MEMBER_SILENT_MS: u64 = 5_000;
/// Entries of the log that a controller may be behind.
const MEMBER_LAG_MAX: u64 = 10_000;
/// How far a clock may be off, in milliseconds.
const CLOCK_MS_MAX: i64 = 500;
/// Certificates are renewed at a third of their life: one that ends so soon was not.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(3 * 24 * 3600);
/// Then it is bad.
const CERTIFICATE_ERROR: Duration = Duration::from_secs(24 * 3600);
/// A disk with less than this free is short, in percent.
const DISK_WARNING_PERCENT: u64 = 10;
/// Then it is bad.
const DISK_ERROR_PERCENT: u64 = 3;
/// An online host whose last beat is so old is about to be lost.
const BEAT_LATE_MS: u64 = 10_000;

/// What is wrong with what was seen; a pure function.
pub(super) fn findings(seen: &Seen, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    leader(&seen.status, now, &mut found);
    members(&seen.status, &mut found);
    found.extend(items(&seen.status["overdue"]).map(overdue));
    let known = items(&seen.status["overdue"]).count() as u64;
    let late = seen.status["overdue_count"].as_u64().unwrap_or_default();
    if late > known {
        found.push(about_cluster(
            Severity::Error,
            "overdue",
            format!("{} more objects are past their deadline", late - known),
            "virtflow operation list --state running",
        ));
    }
    found.extend(seen.hosts.iter().filter_map(silent_host));
    for host in hosts_of(&seen.capacity) {
        found.extend(unwell_host(host));
        live_host(host, &mut found);
    }
    found.extend(seen.vms.iter().map(failed_vm));
    found.extend(seen.operations.iter().filter_map(blocked));
    found.extend(seen.residues.iter().map(residue));
    found.extend(seen.alerts.iter().filter_map(|alert| alerted(alert, now)));
    for kind in &seen.more {
        found.push(about_cluster(
            Severity::Warning,
            "more",
            format!(
                "there are more {} than the {EACH_MAX} that were looked at",
                kind.replace('_', " ")
            ),
            "virtflow status",
        ));
    }
    for divergence in &seen.divergences {
        found.push(about_cluster(
            Severity::Critical,
            "diverged",
            divergence
                .as_str()
                .map_or_else(|| divergence.to_string(), str::to_owned),
            "keep the data folders and compare the controllers with `virtflow-controller verify`",
        ));
    }
    found
}

fn about_cluster(severity: Severity, code: &'static str, what: String, advice: &str) -> Finding {
    Finding {
        severity,
        code,
        object: "cluster".into(),
        id: None,
        since: None,
        what,
        advice: advice.into(),
    }
}

/// What the leader says of itself.
fn leader(status: &Value, now: Timestamp, found: &mut Vec<Finding>) {
    let node = &status["node"];
    let name = text_of(node, "/name");
    let mut add = |severity, code, what: String, advice: &str| {
        found.push(Finding {
            object: format!("controller {name}"),
            ..about_cluster(severity, code, what, advice)
        });
    };
    for (field, code) in [("fatal", "fatal"), ("writes_stopped", "writes_stopped")] {
        if let Some(why) = node[field].as_str() {
            let advice = format!("look at the log on {name}: journalctl -u virtflow-controller");
            add(Severity::Critical, code, why.to_owned(), &advice);
        }
    }
    let offset = node["clock_offset_ms"].as_i64().unwrap_or_default();
    if offset.abs() > CLOCK_MS_MAX {
        let what = format!("its clock is {offset} ms off from those of the others");
        add(
            Severity::Warning,
            "clock",
            what,
            &format!("look at the time service on {name}: timedatectl"),
        );
    }
    if let Some(end) = moment(node, "/certificate_expires_at") {
        let left = if end > now {
            end.since(now)
        } else {
            Duration::ZERO
        };
        let what = match left.is_zero() {
            true => "its certificate has expired".to_owned(),
            false => format!(
                "its certificate expires in {} and was not renewed",
                amount::show_span(left)
            ),
        };
        let advice = format!("look at the log on {name}: journalctl -u virtflow-controller");
        match left {
            left if left < CERTIFICATE_ERROR => add(Severity::Error, "certificate", what, &advice),
            left if left < CERTIFICATE_WARNING => {
                add(Severity::Warning, "certificate", what, &advice)
            }
            _ => {}
        }
    }
    let loops = node["loops"].as_object().into_iter().flatten();
    for (loop_name, state) in loops {
        if let Some(error) = state["last_error"].as_str() {
            let what = format!("its loop {loop_name} failed in its last pass: {error}");
            add(
                Severity::Error,
                "loop",
                what,
                &format!("look at the log on {name}: journalctl -u virtflow-controller"),
            );
        }
    }
}

/// What the leader says of the others.
fn members(status: &Value, found: &mut Vec<Finding>) {
    for member in items(&status["controllers"]) {
        if member["is_leader"] == true {
            continue;
        }
        let name = text_of(member, "/name");
        let mut add = |severity, code, what: String| {
            found.push(Finding {
                object: format!("controller {name}"),
                id: member["id"].as_str().map(str::to_owned),
                ..about_cluster(
                    severity,
                    code,
                    what,
                    &format!("look at it: systemctl status virtflow-controller on {name}"),
                )
            });
        };
        match member["last_ack_ms_ago"].as_u64() {
            None => add(
                Severity::Error,
                "member_silent",
                "it has not answered this leader yet".into(),
            ),
            Some(ago) if ago > MEMBER_SILENT_MS => {
                let ago = amount::show_span(Duration::from_millis(ago));
                add(
                    Severity::Error,
                    "member_silent",
                    format!("it last answered the leader {ago} ago"),
                );
            }
            Some(_) => {}
        }
        if let Some(lag) = member["lag"].as_u64().filter(|lag| *lag > MEMBER_LAG_MAX) {
            add(
                Severity::Warning,
                "member_lags",
                format!("it is {lag} entries behind"),
            );
        }
    }
}

fn overdue(object: &Value) -> Finding {
    let kind = Kind::parse(text_of(object, "/kind"));
    let word = kind.map_or("object", |kind| nouns::of_kind(kind).word);
    let id = text_of(object, "/id");
    let name = Some(text_of(object, "/name"))
        .filter(|name| !name.is_empty())
        .unwrap_or(id);
    Finding {
        severity: Severity::Error,
        code: "overdue",
        object: format!("{word} {name}"),
        id: Some(id.to_owned()),
        since: None,
        what: "it is past its deadline".into(),
        advice: format!("virtflow {word} describe {id}"),
    }
}

fn silent_host(host: &Value) -> Option<Finding> {
    let name = text_of(host, "/name");
    let (severity, code, what, advice) = match text_of(host, "/status/liveness") {
        "offline" => (
            Severity::Error,
            "host_silent",
            "it is silent; its VMs are unknown",
            format!("look at its machine and agent; what it ran: virtflow vm list --host {name}"),
        ),
        "quarantined" => (
            Severity::Critical,
            "host_quarantined",
            "two boots showed one key; nothing it says is believed",
            format!("find the second machine, then: virtflow host release-quarantine {name}"),
        ),
        _ => return None,
    };
    Some(Finding {
        severity,
        code,
        object: format!("host {name}"),
        id: host["id"].as_str().map(str::to_owned),
        since: moment(host, "/status/liveness_since"),
        what: what.into(),
        advice,
    })
}

/// A host that is heard and does not fare well.
fn unwell_host(host: &Value) -> Option<Finding> {
    let severity = match host["health"].as_str()? {
        "critical" => Severity::Error,
        "warning" => Severity::Warning,
        _ => return None,
    };
    if host["liveness"] != "online" {
        return None;
    }
    let name = text_of(host, "/name");
    let told = items(&host["health_reasons"]).filter_map(Value::as_str);
    let told: Vec<String> = told.map(unwell_for).collect();
    let barred = match severity {
        Severity::Critical | Severity::Error => "; it takes no new VMs",
        Severity::Warning => "",
    };
    Some(Finding {
        severity,
        code: "host_unwell",
        object: format!("host {name}"),
        id: host["id"].as_str().map(str::to_owned),
        since: moment(host, "/health_since"),
        what: format!("{}{barred}", told.join(", ")),
        advice: format!("look at it: virtflow-agent check on {name}"),
    })
}

/// What a reason for a host's health means; of one that a later version told, its word.
fn unwell_for(reason: &str) -> String {
    let meaning = match reason {
        "hypervisor_silent" => "its hypervisor does not answer",
        "orders_not_stored" => "its agent cannot store what it is to do",
        "storage_full" => "the disk of its VMs is full",
        "storage_nearly_full" => "the disk of its VMs is nearly full",
        "memory_short" => "it is short of memory",
        "clock_off" => "its clock is off",
        "certificate_ending" => "its certificate ends soon and was not renewed",
        other => return other.replace('_', " "),
    };
    meaning.to_owned()
}

/// What the last beat of a host says.
fn live_host(host: &Value, found: &mut Vec<Finding>) {
    let live = &host["live"];
    if live.is_null() || host["liveness"] != "online" {
        return;
    }
    let name = text_of(host, "/name");
    let mut add = |severity, code, what: String, advice: String| {
        found.push(Finding {
            object: format!("host {name}"),
            id: host["id"].as_str().map(str::to_owned),
            ..about_cluster(severity, code, what, &advice)
        });
    };
    let number = |field: &str| live[field].as_u64().unwrap_or_default();
    let (used, free) = (number("storage_used_mib"), number("storage_available_mib"));
    // What it is called by says these already.
    let is_told = |reason: &str| items(&host["health_reasons"]).any(|told| *told == *reason);
    let disk_is_told = is_told("storage_full") || is_told("storage_nearly_full");
    if let Some(percent) = (free * 100).checked_div(used + free)
        && !disk_is_told
    {
        let what = format!(
            "{} of the disk of its VMs is free, {percent} %",
            amount::show_mib(free)
        );
        let advice = format!(
            "move or delete VMs: virtflow vm list --host {name}; keep new ones away: virtflow host cordon {name}"
        );
        match percent {
            percent if percent < DISK_ERROR_PERCENT => add(Severity::Error, "disk", what, advice),
            percent if percent < DISK_WARNING_PERCENT => {
                add(Severity::Warning, "disk", what, advice)
            }
            _ => {}
        }
    }
    let offset = live["clock_offset_ms"].as_i64().unwrap_or_default();
    if offset.abs() > CLOCK_MS_MAX && !is_told("clock_off") {
        add(
            Severity::Warning,
            "clock",
            format!("its clock is {offset} ms off from the leader's"),
            format!("look at the time service on {name}: timedatectl"),
        );
    }
    let ago = number("last_heartbeat_ms_ago");
    if ago > BEAT_LATE_MS {
        let ago = amount::show_span(Duration::from_millis(ago));
        let advice = format!("look at it: systemctl status virtflow-agent on {name}");
        add(
            Severity::Warning,
            "beat_late",
            format!("its last beat came {ago} ago"),
            advice,
        );
    }
}

/// A VM in error, or in any other phase that people have to look at.
fn failed_vm(vm: &Value) -> Finding {
    let name = text_of(vm, "/name");
    let tenant = text_of(vm, "/names/tenant");
    let reason = [
        text_of(vm, "/status/message"),
        text_of(vm, "/status/reason"),
    ];
    let reason = reason.into_iter().find(|text| !text.is_empty());
    Finding {
        severity: Severity::Error,
        code: "vm_failed",
        object: format!("vm {tenant}/{name}"),
        id: vm["id"].as_str().map(str::to_owned),
        since: moment(vm, "/status/phase_since"),
        what: format!("in error: {}", reason.unwrap_or("no reason was told")),
        advice: format!(
            "virtflow vm describe {name} --tenant {tenant}; try again: virtflow vm start {name} --tenant {tenant}"
        ),
    }
}

/// An operation that waits because something is short.
fn blocked(operation: &Value) -> Option<Finding> {
    let why = text_of(operation, "/status/error/message");
    if why.is_empty() {
        return None;
    }
    let id = text_of(operation, "/id");
    let (verb, name) = (
        text_of(operation, "/spec/verb"),
        text_of(operation, "/spec/target_name"),
    );
    let advice = match text_of(operation, "/spec/target_kind") {
        "virtual_machine" => format!(
            "virtflow vm placement {}",
            text_of(operation, "/spec/target_id")
        ),
        _ => format!("virtflow operation describe {id}"),
    };
    Some(Finding {
        severity: Severity::Warning,
        code: "blocked",
        object: format!("operation {verb} {name}"),
        id: Some(id.to_owned()),
        since: moment(operation, "/created_at"),
        what: format!("it waits: {why}"),
        advice,
    })
}

/// A tombstone that no host has confirmed.
fn residue(residue: &Value) -> Finding {
    let host = text_of(residue, "/names/host");
    let vm = text_of(residue, "/spec/vm_name");
    Finding {
        severity: Severity::Warning,
        code: "residue",
        object: format!("host {host}"),
        id: residue["id"].as_str().map(str::to_owned),
        since: moment(residue, "/created_at"),
        what: format!("it may still have {vm}, which was given up, and keeps its room"),
        advice: format!("bring {host} back, or, if it never comes: virtflow host delete {host}"),
    }
}

fn alerted(alert: &Value, now: Timestamp) -> Option<Finding> {
    if moment(alert, "/spec/silenced_until").is_some_and(|until| until > now) {
        return None;
    }
    let severity = match text_of(alert, "/spec/severity") {
        "critical" => Severity::Critical,
        "error" => Severity::Error,
        "warning" => Severity::Warning,
        _ => return None,
    };
    let id = text_of(alert, "/id");
    let kind = Kind::parse(text_of(alert, "/spec/source_kind"));
    let word = kind.map_or("object", |kind| nouns::of_kind(kind).word);
    Some(Finding {
        severity,
        code: "alert",
        object: format!("{word} {}", text_of(alert, "/spec/source_name")),
        id: Some(id.to_owned()),
        since: moment(alert, "/created_at"),
        what: format!(
            "alert {}: {}",
            text_of(alert, "/spec/rule"),
            text_of(alert, "/spec/message")
        ),
        advice: format!("virtflow alert describe {id}"),
    })
}

fn text_of<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn moment(value: &Value, pointer: &str) -> Option<Timestamp> {
    text_of(value, pointer)
        .parse()
        .ok()
        .filter(|at| *at != Timestamp::EPOCH)
}
