//! The operator makes room for a tenant; a user of the tenant takes over.

use std::fs;

use anyhow::{Result, ensure};
use uuid::Uuid;
use virtflow_testkit::cloud::HOST_MEMORY_MIB;
use virtflow_testkit::cloud::json::text;

use super::Demo;
use super::start::GROUP;
use crate::demo::report::Report;

pub(crate) const TENANT: &str = "acme";
pub(crate) const USER: &str = "ada";

/// What the tenant may use: more than one host has, less than both.
pub(crate) const QUOTA_MEMORY_MIB: u64 = 1800;

/// A virtual machine of the demo.
pub(crate) const SMALL: (&str, u64) = ("small", 128);
/// Within the tenant's quota, but larger than a host.
pub(crate) const WIDE: (&str, u64) = ("wide", HOST_MEMORY_MIB + 64);
/// As large as the whole quota.
pub(crate) const HUGE: (&str, u64) = ("huge", QUOTA_MEMORY_MIB);

pub(crate) const SPECIFICATIONS: [(&str, u64); 3] = [SMALL, WIDE, HUGE];

pub(crate) fn prepare(demo: &Demo, report: &Report) -> Result<()> {
    let operator = &demo.operator;
    let run = |arguments: &[&str]| -> Result<()> {
        operator.json(arguments)?;
        report.line(operator.shown(arguments));
        Ok(())
    };
    let quota = format!("{QUOTA_MEMORY_MIB}MiB");
    run(&[
        "tenant",
        "create",
        TENANT,
        "--quota-cpu",
        "10",
        "--quota-memory",
        &quota,
        "--quota-storage",
        "50GiB",
        "--quota-vms",
        "10",
    ])?;
    run(&[
        "quota",
        "create",
        "--group",
        GROUP,
        "--tenant",
        TENANT,
        "--cpu-percent",
        "75",
        "--memory",
        &quota,
        "--storage",
        "30GiB",
    ])?;
    let password = operator.secret("password", &Uuid::new_v4().to_string())?;
    let scope = format!("tenant/{TENANT}");
    run(&[
        "user",
        "create",
        USER,
        "--tenant",
        TENANT,
        "--password-file",
        &password.to_string_lossy(),
    ])?;
    run(&[
        "role-binding",
        "create",
        "--user",
        USER,
        "--role",
        "developer",
        "--scope",
        &scope,
    ])?;
    for (name, memory_mib) in SPECIFICATIONS {
        let memory = format!("{memory_mib}MiB");
        run(&[
            "spec",
            "create",
            name,
            "--cpu",
            "1",
            "--memory",
            &memory,
            "--storage",
            "1GiB",
        ])?;
    }

    let user = &demo.user;
    user.log_in(&demo.cluster, USER, &password)?;
    fs::remove_file(&password)?;
    user.text(&["token", "create", "demo", "--save-context", "by-token"])?;
    user.text(&["context", "use", "by-token"])?;
    let me = user.json(&["whoami"])?;
    ensure!(
        me.to_string().contains(USER),
        "{USER}'s token is somebody else's: {me}"
    );
    report.line(format_args!(
        "{USER} logged in, made a token of her own, and works with that from here on"
    ));

    let refused = user.refused(&["tenant", "create", "mine"])?;
    ensure!(
        refused.code() == "forbidden" && refused.exit_code == 3,
        "{USER} may make tenants? {refused:?}"
    );
    report.line("she may not make tenants of her own:");
    report.quote(refused.message());
    let other = user.refused(&["user", "get", "admin"])?;
    ensure!(
        other.code() == "not_found" && text(&other.error, "/message")?.contains("admin"),
        "{USER} sees who is no user of {TENANT}: {other:?}"
    );
    Ok(())
}
