//! What is found in what a cluster tells.

use super::*;

const NOW: Timestamp = Timestamp::from_ms(1_795_456_800_000);

fn codes(seen: &Seen) -> Vec<(&'static str, &'static str, String)> {
    let mut found = findings(seen, NOW);
    found.sort_by_key(|it| (it.severity, it.since.unwrap_or(NOW)));
    let found = found.into_iter();
    found
        .map(|it| (it.severity.word(), it.code, it.object))
        .collect()
}

fn well() -> Seen {
    Seen {
        status: json!({
            "controllers": [
                {"name": "c1", "is_leader": true, "lag": 0, "last_ack_ms_ago": null},
                {"name": "c2", "is_leader": false, "lag": 3, "last_ack_ms_ago": 90},
            ],
            "overdue": [], "overdue_count": 0,
            "node": {"name": "c1", "fatal": null, "writes_stopped": null, "clock_offset_ms": -20,
                "certificate_expires_at": "2026-12-10T18:00:00Z", "loops": {"leases": {"passes": 7}}},
        }),
        capacity: json!({"groups": [{"hosts": [
            {"id": "h-1", "name": "h1", "liveness": "online", "live": {"storage_used_mib": 500, "storage_available_mib": 500,
                "clock_offset_ms": 3, "last_heartbeat_ms_ago": 900}},
            {"id": "h-2", "name": "h2", "liveness": "never", "live": null},
        ]}]}),
        ..Seen::default()
    }
}

#[test]
fn a_cluster_that_is_well_has_no_findings() {
    assert_eq!(codes(&well()), []);
    assert_eq!(
        text(&[], NOW),
        "nothing is wrong that can be seen from here"
    );
}

#[test]
fn what_the_leader_says_of_itself_and_of_the_others() {
    let mut seen = well();
    seen.status["node"]["writes_stopped"] = "the disk is full".into();
    seen.status["node"]["clock_offset_ms"] = json!(501);
    seen.status["node"]["certificate_expires_at"] = "2026-11-24T18:00:00Z".into();
    seen.status["node"]["loops"]["leases"]["last_error"] = "no leader".into();
    seen.status["controllers"][1]["last_ack_ms_ago"] = json!(5001);
    seen.status["controllers"][1]["lag"] = json!(10_001);
    let c1 = || "controller c1".to_owned();
    let c2 = || "controller c2".to_owned();
    assert_eq!(
        codes(&seen),
        [
            ("critical", "writes_stopped", c1()),
            ("error", "loop", c1()),
            ("error", "member_silent", c2()),
            ("warning", "clock", c1()),
            ("warning", "certificate", c1()),
            ("warning", "member_lags", c2()),
        ]
    );
    seen.status["node"]["certificate_expires_at"] = "2026-11-23T17:00:00Z".into();
    let found = findings(&seen, NOW);
    let expired = found.iter().find(|it| it.code == "certificate").unwrap();
    assert_eq!(
        (expired.severity, expired.what.as_str()),
        (Severity::Error, "its certificate has expired")
    );
}

#[test]
fn hosts_their_disks_and_their_clocks() {
    let mut seen = well();
    let live =
        |used: u64, free: u64| json!({"storage_used_mib": used, "storage_available_mib": free});
    seen.capacity["groups"][0]["hosts"][0]["live"] = live(91, 9);
    assert_eq!(codes(&seen), [("warning", "disk", "host h1".into())]);
    seen.capacity["groups"][0]["hosts"][0]["live"] = live(98, 2);
    assert_eq!(codes(&seen), [("error", "disk", "host h1".into())]);
    seen.capacity["groups"][0]["hosts"][0]["live"] = live(0, 0);
    assert_eq!(codes(&seen), []);
    let host = &mut seen.capacity["groups"][0]["hosts"][0];
    host["live"] = live(98, 2);
    host["health"] = "critical".into();
    host["health_since"] = "2026-11-23T17:00:00Z".into();
    host["health_reasons"] = json!(["storage_full", "of_a_later_version"]);
    let found = findings(&seen, NOW);
    assert_eq!(
        text(&found, NOW),
        "error: host h1, for 1h0m\n    the disk of its VMs is full, of a later version; it takes no new VMs\n    do: look at it: virtflow-agent check on h1"
    );
    seen.capacity["groups"][0]["hosts"][0]["health"] = "warning".into();
    assert_eq!(codes(&seen), [("warning", "host_unwell", "host h1".into())]);
    seen.capacity["groups"][0]["hosts"][0]["liveness"] = "offline".into();
    assert_eq!(
        codes(&seen),
        [],
        "of who is not heard it is known from before"
    );
    seen.hosts = vec![
        json!({"id": "h-3", "name": "h3", "status": {"liveness": "offline", "liveness_since": "2026-11-23T17:00:00Z"}}),
        json!({"id": "h-4", "name": "h4", "status": {"liveness": "quarantined"}}),
    ];
    let found = findings(&seen, NOW);
    assert_eq!(
        text(&found[..1], NOW),
        "error: host h3, for 1h0m\n    it is silent; its VMs are unknown\n    do: look at its machine and agent; what it ran: virtflow vm list --host h3"
    );
    assert_eq!(found[1].severity, Severity::Critical);
}

#[test]
fn what_is_late_failed_waits_or_is_left() {
    let mut seen = well();
    seen.status["overdue"] = json!([{"id": "v-1", "kind": "virtual_machine", "name": "web"}]);
    seen.status["overdue_count"] = json!(3);
    seen.vms = vec![
        json!({"id": "v-2", "name": "db\u{1b}[2J", "names": {"tenant": "acme"},
        "status": {"reason": "crashed", "phase_since": "2026-11-23T17:59:00Z"}}),
    ];
    seen.operations = vec![
        json!({"id": "o-1", "spec": {"verb": "virtual_machine.create", "target_kind": "virtual_machine", "target_id": "v-3", "target_name": "big"},
            "status": {"state": "pending", "error": {"code": "no_capacity", "message": "no host has room"}}}),
        json!({"id": "o-2", "spec": {}, "status": {"state": "pending"}}),
    ];
    seen.residues = vec![json!({"id": "r-1", "names": {"host": "h9"}, "spec": {"vm_name": "old"}})];
    seen.alerts = vec![
        json!({"id": "a-1", "spec": {"rule": "host_lost", "severity": "critical", "source_kind": "baremetal", "source_name": "h9", "message": "silent"}}),
        json!({"id": "a-2", "spec": {"severity": "error", "silenced_until": "2026-11-23T19:00:00Z"}}),
        json!({"id": "a-3", "spec": {"severity": "info"}}),
    ];
    seen.divergences = vec![json!("account cpu: 3, not 2")];
    seen.more = vec!["residues"];
    let found: Vec<(&str, &str)> = codes(&seen)
        .into_iter()
        .map(|(severity, code, _)| (severity, code))
        .collect();
    assert_eq!(
        found,
        [
            ("critical", "alert"),
            ("critical", "diverged"),
            ("error", "vm_failed"),
            ("error", "overdue"),
            ("error", "overdue"),
            ("warning", "blocked"),
            ("warning", "residue"),
            ("warning", "more"),
        ]
    );
    let found = findings(&seen, NOW);
    let told = text(&found, NOW);
    assert!(
        !told.contains('\u{1b}') && told.contains("virtflow vm placement v-3"),
        "{told}"
    );
    assert_eq!(to_json(&found[0])["do"], "virtflow vm describe v-1");
}
