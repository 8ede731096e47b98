//! The books are checked, planted mistakes are found, everything is deleted, nothing is left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use virtflow_testkit::cloud::json::{list, number, text};
use virtflow_testkit::cloud::shadow::{accounts_in_use, sql, verify};
use virtflow_testkit::poll;

use super::Demo;
use super::people::{SPECIFICATIONS, TENANT, USER};
use super::start::{DATA_CENTRE, GROUP, RACK};
use crate::demo::report::Report;

/// The row that is tampered with.
const VICTIM: &str = "kind = 'virtual_machine' AND name = 'web-1'";

/// How long a member may take to write what it has applied.
const WRITTEN_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of a verifier's complaint is worth showing.
const QUOTED_LINES: usize = 6;
const QUOTED_LINE_CHARS: usize = 240;

/// Checks the ledgers of a controller, and the checker itself by a mistake planted in a copy.
pub(crate) fn verify_with_mistake(demo: &Demo, report: &Report) -> Result<()> {
    let copy = demo.place.copy_of_shadow("c1")?;
    let verdict = verify(&copy)?;
    ensure!(verdict.sound, "c1's database is wrong: {}", verdict.text);
    report.line("the rows of a copy of c1's database agree with every ledger:");
    quote(report, &verdict.text);
    fs::copy(&copy, demo.directory().join(BEFORE))?;
    // What it is charged for stays as it was.
    sql(
        &copy,
        &format!(
            "UPDATE object SET spec = json_set(spec, '$.memory_mib', 64) WHERE {VICTIM}; SELECT changes()"
        ),
    )?;
    expect_found(demo, &copy)?;
    report.line("with 64 MiB written into web-1's row of that copy, it says:");
    quote(report, &verify(&copy)?.text);
    Ok(())
}

/// A copy of c1's database from before everything was deleted.
const BEFORE: &str = "before.db";

fn expect_found(demo: &Demo, copy: &Path) -> Result<()> {
    let id = sql(
        copy,
        &format!("SELECT lower(hex(id)) FROM object WHERE {VICTIM}"),
    )?;
    ensure!(
        id.len() == 32,
        "there should be one web-1 in {}: `{id}`",
        demo.directory().display()
    );
    let verdict = verify(copy)?;
    let said = verdict.text.replace('-', "").to_lowercase();
    ensure!(
        !verdict.sound && (said.contains(&id) || said.contains("web1")),
        "the mistake in the row of web-1 ({id}) was not found: {}",
        verdict.text
    );
    Ok(())
}

pub(crate) fn delete(demo: &Demo, report: &Report) -> Result<()> {
    let vms = demo.user.json(&["vm", "list"])?;
    for vm in list(&vms)? {
        let arguments = ["vm", "delete", text(vm, "/name")?, "--wait"];
        demo.user.json(&arguments)?;
        report.line(demo.user.shown(&arguments));
    }
    for name in demo.place.hosts() {
        let node = demo.place.node(&name)?;
        let domains = node.virsh(&["list", "--all", "--name"])?;
        ensure!(
            domains.trim().is_empty() && node.qemu_mentioning("")?.is_none(),
            "host {name} still has: {domains}"
        );
    }
    report.line("`virsh list --all` is empty on both hosts");
    let usage = demo.operator.json(&["tenant", "usage", TENANT])?;
    for dimension in ["cpu_cores", "memory_mib", "storage_gib", "vms"] {
        ensure!(
            number(&usage, &format!("/accounts/{dimension}/used"))? == 0,
            "the tenant still uses something: {usage}"
        );
    }
    for quota in list(&usage["quotas"])? {
        expect_zero(quota, |dimension| format!("/accounts/{dimension}/used"))?;
    }
    report.line("the accounts of the tenant, and of its quota in the group, are all zero");
    let operator = &demo.operator;
    let quotas = operator.json(&["quota", "list", "--tenant", TENANT])?;
    for quota in list(&quotas)? {
        operator.json(&["quota", "delete", text(quota, "/id")?])?;
    }
    operator.json(&["user", "delete", USER])?;
    operator.json(&["tenant", "delete", TENANT, "--wait"])?;
    for (name, _) in SPECIFICATIONS {
        operator.json(&["spec", "delete", name])?;
    }
    report.line("quota, user, tenant and specifications are deleted");
    Ok(())
}

/// After the deletion: no charge anywhere, the same on every controller.
pub(crate) fn verify_empty(demo: &Demo, report: &Report) -> Result<()> {
    demo.operator.json(&["verify"])?;
    let capacity = demo.operator.json(&["capacity"])?;
    let groups = list(&capacity["groups"])?;
    ensure!(groups.len() == 1, "one group was made: {capacity}");
    for group in groups {
        let hosts = list(&group["hosts"])?;
        ensure!(
            hosts.len() == demo.place.hosts().len(),
            "hosts are missing: {group}"
        );
        for account in hosts.iter().chain([group]) {
            expect_zero(account, |dimension| format!("/allocated/{dimension}"))?;
        }
    }
    report.line(demo.operator.shown(&["capacity"]));
    report.quote(&demo.operator.text(&["capacity"])?);
    for name in demo.place.controllers() {
        // A member's database is written a moment after what it applies.
        let copy = poll::until(
            format_args!("{name}'s database to have nothing of the tenant's"),
            WRITTEN_TIMEOUT,
            || {
                let copy = demo.place.copy_of_shadow(&name)?;
                let left = sql(
                    &copy,
                    "SELECT count(*) FROM object WHERE kind IN ('virtual_machine', 'tenant', 'residue')",
                )?;
                Ok((left == "0").then_some(copy))
            },
        )?;
        let verdict = verify(&copy)?;
        ensure!(
            verdict.sound,
            "{name}'s database is wrong: {}",
            verdict.text
        );
        // Keys of requests are remembered for a day, so that a repeated one is known.
        let in_use = accounts_in_use(&copy)?;
        ensure!(
            in_use
                .iter()
                .all(|account| account.ends_with("/idempotency_keys")),
            "something is still charged on {name}: {in_use:?}"
        );
        report.line(format_args!(
            "{name}: {}; nothing is charged but remembered request keys",
            verdict.text.lines().next().unwrap_or_default()
        ));
    }
    let copy = demo.place.copy_of_shadow("c1")?;
    let before = demo.directory().join(BEFORE);
    sql(
        &copy,
        &format!(
            "ATTACH '{}' AS before; INSERT INTO main.object SELECT * FROM before.object WHERE {VICTIM}",
            before.display()
        ),
    )?;
    expect_found(demo, &copy)?;
    report.line("with web-1's old row put back into a copy, charges and all, it says:");
    quote(report, &verify(&copy)?.text);
    fs::remove_file(&before)?;
    Ok(())
}

/// Expects nothing of what a bound virtual machine is charged for, at the place told for each.
fn expect_zero(balance: &Value, place: impl Fn(&str) -> String) -> Result<()> {
    for dimension in ["cpu_milli", "memory_mib", "storage_gib"] {
        ensure!(
            number(balance, &place(dimension))? == 0,
            "something is still allocated: {balance}"
        );
    }
    Ok(())
}

fn quote(report: &Report, text: &str) {
    for line in text.lines().take(QUOTED_LINES) {
        let mut shown: String = line.chars().take(QUOTED_LINE_CHARS).collect();
        if shown.len() < line.len() {
            shown.push_str(" ...");
        }
        report.quote(&shown);
    }
}

/// The last to go: hosts, invitations, group, rack, data centre.
pub(crate) fn delete_hosts(demo: &Demo, report: &Report) -> Result<()> {
    let invitations = demo.operator.json(&["invite", "list"])?;
    let invitations: Vec<&str> = list(&invitations)?
        .iter()
        .map(|invitation| text(invitation, "/id"))
        .collect::<Result<_>>()?;
    let hosts = demo.place.hosts();
    let hosts = hosts.iter().map(|name| vec!["host", "delete", name]);
    let rest = [
        vec!["group", "delete", GROUP],
        vec!["rack", "delete", RACK],
        vec!["data-center", "delete", DATA_CENTRE],
    ];
    let invitations = invitations.iter().map(|id| vec!["invite", "delete", id]);
    for arguments in hosts.chain(invitations).chain(rest) {
        demo.operator.json(&arguments)?;
        report.line(demo.operator.shown(&arguments));
    }
    Ok(())
}
