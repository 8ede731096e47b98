//! Two ways of asking for too much, two different answers.

use anyhow::{Result, ensure};
use virtflow_testkit::cloud::json::{number, phase_of, text};

use super::Demo;
use super::people::{HUGE, QUOTA_MEMORY_MIB, SMALL, TENANT, WIDE};
use crate::demo::report::Report;

/// How many virtual machines there are by now.
const VMS: u64 = 4;

/// Exit codes of the tool.
const QUOTA_EXCEEDED: i32 = 6;
const NO_CAPACITY: i32 = 7;

pub(crate) fn quota(demo: &Demo, report: &Report) -> Result<()> {
    let arguments = ["vm", "create", "too-much", "--spec", HUGE.0];
    report.line(demo.user.shown(&arguments));
    let refusal = demo.user.refused(&arguments)?;
    report.quote(refusal.message());
    ensure!(
        refusal.code() == "quota_exceeded" && refusal.exit_code == QUOTA_EXCEEDED,
        "asked for the whole quota on top of what is used: {refusal:?}"
    );
    let details = &refusal.error["details"];
    ensure!(
        text(details, "/level")? == "tenant"
            && text(details, "/dimension")? == "memory_mib"
            && number(details, "/limit")? == QUOTA_MEMORY_MIB
            && number(details, "/used")? == VMS * SMALL.1
            && number(details, "/asked")? == HUGE.1,
        "the answer's figures are wrong: {details}"
    );
    let gone = demo.user.refused(&["vm", "get", "too-much"])?;
    ensure!(gone.code() == "not_found", "a refused VM exists: {gone:?}");
    Ok(())
}

pub(crate) fn capacity(demo: &Demo, report: &Report) -> Result<()> {
    let arguments = ["vm", "create", "too-wide", "--spec", WIDE.0, "--wait"];
    report.line(demo.user.shown(&arguments));
    let refusal = demo.user.refused(&arguments)?;
    report.quote(refusal.message());
    ensure!(
        refusal.exit_code == NO_CAPACITY,
        "asked for more memory than any host has: {refusal:?}"
    );
    let vm = demo.vm("too-wide")?;
    let said = format!("{} {vm}", refusal.message());
    ensure!(
        phase_of(&vm)? == "pending" && said.contains("memory"),
        "memory is what the hosts are short of: {said}"
    );
    // Whose VM it is is not told the hosts; who looks after them is.
    let arguments = ["vm", "placement", "too-wide", "--tenant", TENANT];
    let told = demo.operator.json(&arguments)?.to_string();
    for host in demo.place.hosts() {
        ensure!(!said.contains(&host), "{host} is told to a tenant: {said}");
        ensure!(told.contains(&host), "{host} doesn't say why: {told}");
    }
    report.line("it stays pending, for when there is room");
    demo.user.json(&["vm", "delete", "too-wide", "--wait"])?;
    Ok(())
}
