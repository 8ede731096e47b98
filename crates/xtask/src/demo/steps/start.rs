//! Three controllers that form one group, two hosts that join.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use virtflow_testkit::cloud::json::{list, status, text};
use virtflow_testkit::cloud::{Cluster, Person, Place};
use virtflow_testkit::poll;

use crate::demo::report::Report;

/// Where the hosts are.
pub(crate) const DATA_CENTRE: &str = "attic";
pub(crate) const RACK: &str = "rack-1";
pub(crate) const GROUP: &str = "general";

const ADMINISTRATOR: &str = "admin";

/// How long until a host that has just joined counts as online.
const ONLINE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long until three controllers agree on who they are.
const GROUP_TIMEOUT: Duration = Duration::from_secs(30);

/// The first controller makes the cluster: its CA, its store, its first administrator.
pub(crate) fn first_controller(
    place: &mut Place,
    report: &Report,
    operator: &Person,
) -> Result<Cluster> {
    let name = &place.controllers()[0];
    place.add_controller(name)?;
    let cluster = place.make_cluster(name, ADMINISTRATOR)?;
    report.line(format_args!(
        "controller {name} at {}: made the cluster, CA {}...",
        place.node(name)?.address(),
        &cluster.ca_fingerprint[..16]
    ));
    let password = place.administrators_password(name)?;
    operator.log_in(&cluster, ADMINISTRATOR, &password)?;
    fs::remove_file(&password)?;
    Ok(cluster)
}

/// The others join it with a token each. Returns the CA's certificate.
pub(crate) fn other_controllers(
    place: &mut Place,
    report: &Report,
    operator: &Person,
    cluster: &Cluster,
) -> Result<String> {
    let mut ca_pem = String::new();
    let names = place.controllers();
    for name in &names[1..] {
        place.add_controller(name)?;
        let invite = ["invite", "create", "--role", "controller", "--name", name];
        ca_pem = place.join(name, operator, cluster, &invite)?;
        report.line(format_args!(
            "controller {name} at {}: joined",
            place.node(name)?.address()
        ));
    }
    poll::until("three voting controllers", GROUP_TIMEOUT, || {
        let controllers = operator.json(&["controller", "list"])?;
        let voters = list(&controllers)?
            .iter()
            .filter(|controller| controller["member"]["role"] == "voter")
            .count();
        Ok((voters == names.len()).then_some(()))
    })?;
    Ok(ca_pem)
}

/// The hosts need a place to belong to, then each joins with a token of its own.
pub(crate) fn hosts(
    place: &mut Place,
    report: &Report,
    operator: &Person,
    cluster: &Cluster,
) -> Result<()> {
    for arguments in [
        &["data-center", "create", DATA_CENTRE][..],
        &["rack", "create", RACK, "--data-center", DATA_CENTRE],
        &[
            "group",
            "create",
            GROUP,
            "--data-center",
            DATA_CENTRE,
            "--cpu-overcommit",
            "800",
        ],
    ] {
        operator.json(arguments)?;
        report.line(operator.shown(arguments));
    }
    for name in &place.hosts() {
        place.add_host(name)?;
        let serial = Place::serial_number(name);
        let invite = [
            "invite", "create", "--group", GROUP, "--rack", RACK, "--serial", &serial, "--name",
            name,
        ];
        report.line(operator.shown(&invite));
        place.join(name, operator, cluster, &invite)?;
    }
    for name in &place.hosts() {
        let what = format!("host {name} to be online");
        let host = poll::until(what, ONLINE_TIMEOUT, || {
            let host = operator.json(&["host", "get", name])?;
            Ok((text(status(&host), "/liveness")? == "online").then_some(host))
        })?;
        let node = place.node(name)?;
        ensure!(
            text(status(&host), "/boot_id")? == node.boot_id()?,
            "host {name} reports another boot id than its kernel's: {host}"
        );
        report.line(format_args!(
            "host {name} at {}: online, {} thousandths of a CPU and {} MiB for guests, boot {}",
            node.address(),
            status(&host)["cpu_milli"],
            status(&host)["memory_mib"],
            node.boot_id()?
        ));
    }
    Ok(())
}
