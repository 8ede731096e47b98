//! The command line on a whole cluster: a kind that has no entry of its own, trials, and what was.

use anyhow::{Result, ensure};
use virtflow_testkit::cloud::json::{list, number, text};
use virtflow_testkit::cloud::{Cloud, Hypervisor, Plan};

use crate::support;

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn the_command_line_knows_every_kind_and_its_past() -> Result<()> {
    let (folder, cloud) = support::start(Plan {
        hosts: 1,
        hypervisor: Hypervisor::Simulated,
        ..Plan::default()
    })?;
    kinds_follow_from_their_declaration(&cloud)?;
    trials_do_nothing(&cloud)?;
    what_was_is_told(&cloud)?;
    support::end(folder, cloud)
}

fn kinds_follow_from_their_declaration(cloud: &Cloud) -> Result<()> {
    let operator = &cloud.operator;
    operator.json(&["maintainer", "create", "ada", "--account", "ada.l"])?;
    operator.json(&["maintainer-group", "create", "night", "--manager", "ada"])?;
    let groups = operator.json(&["maintainer-group", "list", "--manager", "ada"])?;
    ensure!(text(&groups, "/0/name")? == "night", "{groups}");
    operator.json(&["maintainer", "update", "ada", "--email", "ada@example.org"])?;
    let ada = operator.json(&["maintainer", "get", "ada"])?;
    ensure!(text(&ada, "/spec/email")? == "ada@example.org", "{ada}");
    operator.json(&["maintainer-group", "delete", "night"])?;
    operator.json(&["maintainer", "delete", "ada"])?;
    Ok(())
}

fn trials_do_nothing(cloud: &Cloud) -> Result<()> {
    let operator = &cloud.operator;
    let trial = operator.json(&["rack", "create", "maybe", "--as-number", "7", "--dry-run"])?;
    ensure!(number(&trial, "/spec/as_number")? == 7, "{trial}");
    let racks = operator.json(&["rack", "list", "--name", "maybe"])?;
    ensure!(list(&racks)?.is_empty(), "{racks}");
    Ok(())
}

fn what_was_is_told(cloud: &Cloud) -> Result<()> {
    let operator = &cloud.operator;
    operator.json(&["rack", "create", "r9", "--as-number", "1"])?;
    operator.json(&["rack", "update", "r9", "--as-number", "2"])?;
    operator.json(&["rack", "update", "r9", "--bgp-number", "3"])?;
    let versions = operator.json(&["rack", "history", "r9"])?;
    ensure!(list(&versions)?.len() == 3, "{versions}");
    let first = number(&versions, "/2/change/index")?;
    let second = number(&versions, "/1/change/index")?;
    let then = operator.json(&["rack", "get", "r9", "--at", &first.to_string()])?;
    ensure!(number(&then, "/spec/as_number")? == 1, "{then}");
    let blame = operator.json(&["rack", "blame", "r9"])?;
    ensure!(
        number(&blame, "/as_number/change/index")? == second,
        "{blame}"
    );
    operator.json(&["rack", "delete", "r9"])?;
    let gone = operator.json(&["rack", "list", "--deleted"])?;
    ensure!(text(&gone, "/0/name")? == "r9", "{gone}");
    Ok(())
}
